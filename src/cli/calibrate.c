// calibrate.c: `octavo calibrate`: one command instead of the calibration scripts: measures a model over prompts, writes the measurement
// and the two QUANT_CONFIG files, quantizes once to write the scales, and says how far the result is from bf16 and which modules that is
// due to. Every file is written whole or not at all, no result before the measurement is complete; a run that is broken off goes on where
// it was.
#include "api/quantization.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/calibration_report.h"
#include "cli/commands.h"
#include "cli/divergence.h"
#include "cli/interrupt.h"
#include "cli/progress_bar.h"
#include "cli/prompts.h"
#include "cli/resume.h"
#include "cli/share.h"
#include "cli/unit_cost.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct calibrate_options {
    const char *model, *output, *dataset, *held_out, *device, *scale_method;
    int batch_size, limit, max_model_len, module_tokens;
    struct oct_engine_flags engine;
};

#define FIELD(name) offsetof(struct calibrate_options, name)

static const struct oct_flag flags[] = {
    {.name = "output",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(output),
     .metavar = "DIR",
     .help = "the folder to write to; a folder with the model's name is made in it"},
    {.name = "dataset",
     .short_name = "d",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(dataset),
     .metavar = "FILE",
     .help = "prompts: .jsonl (a line: {\"prompt\"}, {\"messages\"} or {\"system_prompt\", \"question\"}), .json (an array of such "
             "objects or of strings) or .txt (a line: a prompt) (default: the prompts that come with Octavo)"},
    {.name = "held-out",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(held_out),
     .metavar = "FILE",
     .help = "prompts of the closing report, which are not measured (default: others that come with Octavo)"},
    {.name = "device",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(device),
     .choices = "gaudi2|gaudi3",
     .initial = "gaudi3",
     .help = "whose FP8 rules apply: Gaudi 2 ends at 240, Gaudi 3 at 448"},
    {.name = "scale-method",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(scale_method),
     .metavar = "METHOD",
     .initial = "maxabs_hw",
     .help = "how scales follow from ranges: one of INC's methods"},
    {.name = "limit",
     .short_name = "l",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(limit),
     .min = 0,
     .max = INT_MAX,
     .initial = "0",
     .help = "prompts to use; 0: all"},
    {.name = "batch-size",
     .short_name = "b",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(batch_size),
     .min = 1,
     .max = 4096,
     .initial = "32",
     .help = "prompts in one step, as far as its rows reach"},
    {.name = "max-model-len",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_model_len),
     .min = 1,
     .max = INT_MAX,
     .initial = "2048",
     .help = "longer prompts are cut"},
    {.name = "module-tokens",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(module_tokens),
     .min = 0,
     .max = 4096,
     .initial = "128",
     .help = "held-out tokens on which every module is tried in FP8 alone, for the report; 0: modules are not tried"},
    {.name = "chat-template",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(engine.chat_template),
     .metavar = "FILE",
     .help = "a Jinja template instead of the model's own"},
    {.name = "threads",
     .short_name = "t",
     .type = OCT_FLAG_INT,
     .offset = FIELD(engine.threads),
     .min = 0,
     .max = 256,
     .initial = "0",
     .help = "0: the cores this process may use"},
    {.name = "tensor-parallel-size",
     .short_name = "tp",
     .alias = "tensor-paralel-size",
     .type = OCT_FLAG_INT,
     .offset = FIELD(engine.tensor_parallel_size),
     .min = 1,
     .max = 1024,
     .initial = "1",
     .help = "1; ranges measured in one process hold for any number of ranks"},
    {0},
};

enum {
    MAX_ROWS = 256,       // of a batch; the logits of all rows are computed, so that lm_head is measured at every position
    REPORT_TOKENS = 2048, // what the closing comparison looks at
    PROBE_TOKENS = 32,    // of a prompt on which modules are tried: a few of many prompts
    LOAD_TOKENS = 500     // loading a model takes about as long as so many tokens: for the progress bar
};

struct calibration {
    const struct calibrate_options *options;
    enum oct_profile profile;
    struct oct_session session;
    struct oct_progress_bar bar;
    double work; // of the whole, in tokens
    struct oct_prompts prompts, held_out;
    bool reports_on_prompts; // there are no held-out prompts
    char *name, *folder;     // of the model, and <output>/<name>. Owned
    struct oct_resume resume;
    struct oct_measurement *measurement;
    struct oct_runner model;        // bf16
    struct oct_quantization result; // as QUANT_CONFIG reads it from what was written
    struct oct_runner quantized;
    char *measure_path, *quant_path;
};

// --- measuring --------------------------------------------------------------------------------------------------------------------

// What is reported from here on is worth so many tokens.
static void begin_part(struct calibration *calibration, size_t tokens) {
    oct_progress_bar_part(&calibration->bar, (double)tokens / calibration->work);
}

static oct_status open_model(struct calibration *calibration, struct oct_plan *plan, struct oct_runner *runner, oct_error *err) {
    begin_part(calibration, LOAD_TOKENS);
    struct oct_progress progress = oct_progress_bar_receiver(&calibration->bar);
    int longest =
        calibration->prompts.longest > calibration->held_out.longest ? calibration->prompts.longest : calibration->held_out.longest;
    struct oct_runner_options options = {
        .llama = {.compute = OCT_BF16,
                  .plan = plan,
                  .max_positions = longest,
                  .max_rows = MAX_ROWS,
                  .progress = &progress,
                  .on_weight = plan ? NULL : oct_measurement_see_weight,
                  .on_weight_context = calibration->measurement},
        .max_seqs = calibration->options->batch_size < MAX_ROWS ? calibration->options->batch_size : MAX_ROWS,
    };
    return oct_runner_open(&calibration->session, &options, runner, err);
}

// A prompt that fills a batch or more, in stretches.
static void run_long_prompt(struct oct_runner *runner, const struct oct_ids *prompt, const struct oct_observer *observer) {
    for (int first = 0, count = (int)prompt->count; first < count; first += MAX_ROWS) {
        struct oct_stretch stretch = {prompt->data + first, count - first < MAX_ROWS ? count - first : MAX_ROWS, first};
        oct_runner_forward(runner, &stretch, 1, observer);
    }
}

// The next batch. Returns how many prompts ran.
static size_t run_prompts(const struct oct_prompts *prompts, struct oct_runner *runner, size_t next, const struct oct_observer *observer) {
    struct oct_stretch stretches[MAX_ROWS];
    int count = oct_prompts_batch(prompts, next, INT_MAX, runner, stretches);
    if (count)
        oct_runner_forward(runner, stretches, count, observer);
    else
        run_long_prompt(runner, &prompts->items[next], observer);
    return count ? (size_t)count : 1;
}

static oct_status check_measured(const struct calibration *calibration, oct_error *err) {
    for (int layer = 0; layer < calibration->measurement->num_layers; layer++)
        for (int module = 0; module < OCT_NUM_MODULES; module++) {
            const struct oct_module_measurement *measured = oct_measurement_at(calibration->measurement, (enum oct_module)module, layer);
            for (int i = 0; i < measured->num_inputs + measured->num_outputs; i++) {
                float amax = i < measured->num_inputs ? measured->inputs[i] : measured->outputs[i - measured->num_inputs];
                char name[160];
                if (!isfinite(amax))
                    return oct_fail(err, OCT_INTERNAL, "%s: finite numbers expected, NaN or infinity found",
                                    oct_module_name((enum oct_module)module, layer, name, sizeof name));
            }
        }
    return OCT_OK;
}

// Interrupted: what was seen is kept, and the message says so.
static oct_status interrupted(struct calibration *calibration, size_t done, oct_error *err) {
    OCT_TRY(oct_resume_save(&calibration->resume, calibration->measurement, done, err));
    return oct_fail(err, OCT_CANCELLED, "interrupted after %zu of %zu prompts; the same command goes on from there", done,
                    calibration->prompts.count);
}

static oct_status measure(struct calibration *calibration, size_t next, oct_error *err) {
    struct oct_observer observer = oct_measurement_observer(calibration->measurement);
    const struct oct_prompts *prompts = &calibration->prompts;
    begin_part(calibration, prompts->tokens);
    for (bool stop = oct_progress_bar_report(&calibration->bar, "measuring prompts", next, prompts->count); next < prompts->count;) {
        if (stop) return interrupted(calibration, next, err);
        next += run_prompts(prompts, &calibration->model, next, &observer);
        if (oct_resume_is_due(&calibration->resume)) OCT_TRY(oct_resume_save(&calibration->resume, calibration->measurement, next, err));
        stop = oct_progress_bar_report(&calibration->bar, "measuring prompts", next, prompts->count);
    }
    OCT_TRY(check_measured(calibration, err));
    OCT_TRY(oct_resume_save(&calibration->resume, calibration->measurement, next, err)); // of the part that takes longest
    oct_measurement_unify_kv(calibration->measurement);
    return OCT_OK;
}

// --- writing ----------------------------------------------------------------------------------------------------------------------

// The calibration scripts' name: the last part of the path that was given, in lower case; of a file without its ending.
static char *model_name(const char *model) {
    char *absolute = strcmp(model, ".") == 0 || strcmp(model, "..") == 0 ? realpath(model, NULL) : NULL;
    char *path = oct_strdup(absolute ? absolute : model);
    free(absolute);
    for (size_t length = strlen(path); length > 1 && path[length - 1] == '/';) path[--length] = '\0';
    char *slash = strrchr(path, '/'), *name = oct_strdup(slash && slash[1] ? slash + 1 : path);
    free(path);
    char *ending = strrchr(name, '.');
    if (ending && !strcasecmp(ending, ".gguf")) *ending = '\0';
    for (char *c = name; *c; c++) *c = (char)tolower((unsigned char)*c);
    return name;
}

// Scale files are a cache of what the measurement says, and would be believed: those of an earlier calibration must go before its
// measurement does. They are told from measurements by the method's name, a letter, where those have the rank.
static oct_status remove_stale_scales(const struct oct_quant_config *config, oct_error *err) {
    char *folder = oct_strdup(config->dump_stats_path), *slash = strrchr(folder, '/');
    OCT_CHECK(slash); // the configuration was written with an absolute path
    struct oct_buffer prefix = {0};
    oct_buffer_printf(&prefix, "%s_hooks_%s_", slash + 1, config->observer);
    *slash = '\0';
    oct_status status = OCT_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && status == OCT_OK && (entry = readdir(dir));) {
        if (strncmp(entry->d_name, prefix.data, prefix.length) != 0 || !isalpha((unsigned char)entry->d_name[prefix.length])) continue;
        char *path = oct_path_join(folder, entry->d_name);
        if (unlink(path) != 0) status = oct_fail(err, OCT_IO, "%s: cannot remove the old scales: %s", path, strerror(errno));
        free(path);
    }
    if (dir) closedir(dir);
    oct_buffer_free(&prefix);
    free(folder);
    return status;
}

static oct_status write_measurement(struct calibration *calibration, oct_error *err) {
    OCT_TRY(oct_quant_config_write_pair(calibration->options->output, calibration->name, calibration->profile,
                                        calibration->options->scale_method, &calibration->measure_path, &calibration->quant_path, err));
    struct oct_quant_config *config;
    OCT_TRY(oct_quant_config_load(calibration->measure_path, &config, err));
    oct_status status = remove_stale_scales(config, err);
    if (status == OCT_OK) status = oct_measurement_write(calibration->measurement, config, (int)calibration->prompts.count, err);
    oct_quant_config_free(config);
    return status;
}

// Quantizes the model as a server would, from the files just written; that makes the weights' scales known.
static oct_status write_scales(struct calibration *calibration, oct_error *err) {
    oct_engine_options options = {
        .model = calibration->options->model, .quant_config = calibration->quant_path, .kv_cache_dtype = "fp8_inc"};
    OCT_TRY(oct_quantization_open(&options, calibration->session.checkpoint, &calibration->result, err));
    oct_status status = open_model(calibration, calibration->result.plan, &calibration->quantized, err);
    if (status == OCT_CANCELLED)
        return oct_fail(err, status, "interrupted; the measurement is complete, its first use makes the scales: %s",
                        calibration->quant_path);
    OCT_TRY(status);
    return oct_quantization_loaded(&calibration->result, err);
}

// --- the report -------------------------------------------------------------------------------------------------------------------

// Adds every row of a prompt, as far as one batch reaches.
static void compare_prompt(struct calibration *calibration, const struct oct_ids *prompt, struct oct_divergence *divergence) {
    size_t vocab = (size_t)calibration->model.llama->config.vocab_size;
    int count = prompt->count < MAX_ROWS ? (int)prompt->count : MAX_ROWS;
    struct oct_stretch stretch = {prompt->data, count, 0};
    oct_runner_forward(&calibration->model, &stretch, 1, NULL);
    oct_runner_forward(&calibration->quantized, &stretch, 1, NULL);
    for (size_t row = 0; row < (size_t)count; row++) {
        const float *reference = calibration->model.logits + row * vocab, *quantized = calibration->quantized.logits + row * vocab;
        oct_divergence_add(divergence, reference, oct_logsumexp(reference, vocab), quantized, oct_logsumexp(quantized, vocab), vocab);
    }
}

static oct_status stopped_in_report(const struct calibration *calibration, oct_error *err) {
    return oct_fail(err, OCT_CANCELLED, "interrupted; the files are complete: %s", calibration->quant_path);
}

static oct_status compare(struct calibration *calibration, struct oct_divergence *divergence, oct_error *err) {
    begin_part(calibration, 2 * REPORT_TOKENS);
    for (size_t i = 0; i < calibration->held_out.count && divergence->count < REPORT_TOKENS; i++) {
        compare_prompt(calibration, &calibration->held_out.items[i], divergence);
        if (oct_progress_bar_report(&calibration->bar, "comparing with bf16", divergence->count, REPORT_TOKENS))
            return stopped_in_report(calibration, err);
    }
    return OCT_OK;
}

// What each unit costs when it alone is in FP8, into kl (units).
static oct_status try_modules(struct calibration *calibration, double *kl, oct_error *err) {
    size_t tokens = (size_t)calibration->options->module_tokens;
    struct oct_progress progress = oct_progress_bar_receiver(&calibration->bar);
    struct oct_probe probe;
    begin_part(calibration, tokens * (size_t)oct_unit_count(calibration->result.plan->num_layers));
    oct_probe_open(&calibration->held_out, PROBE_TOKENS, tokens, &calibration->model, &probe);
    bool tried =
        oct_unit_costs(&calibration->model, &calibration->quantized, calibration->result.plan, &probe, probe.num_stretches, &progress, kl);
    oct_probe_close(&probe);
    return tried ? OCT_OK : stopped_in_report(calibration, err);
}

static oct_status report(struct calibration *calibration, double seconds, oct_error *err) {
    int num_layers = calibration->model.llama->config.num_hidden_layers;
    struct oct_divergence divergence = {0};
    struct oct_calibration_report report = {
        .model = calibration->options->model,
        .prompts = calibration->prompts.count,
        .tokens = calibration->prompts.tokens,
        .seconds = seconds,
        .on_prompts = calibration->reports_on_prompts,
        .fp8_bytes = calibration->quantized.llama->weight_bytes,
        .bf16_bytes = calibration->model.llama->weight_bytes,
        .num_layers = num_layers,
    };
    oct_status status = compare(calibration, &divergence, err);
    report.divergence = oct_divergence_summarize(&divergence);
    oct_divergence_free(&divergence);
    double *kl = oct_alloc((size_t)oct_unit_count(num_layers), sizeof *kl, "the cost of modules");
    if (status == OCT_OK && calibration->options->module_tokens) {
        status = try_modules(calibration, kl, err);
        report.module_kl = kl;
        report.module_tokens = calibration->options->module_tokens;
    }
    oct_progress_bar_clear(&calibration->bar);
    if (status == OCT_OK) status = oct_calibration_report_write(&report, calibration->folder, calibration->profile, err);
    if (status == OCT_OK) {
        oct_calibration_report_print(&report, stdout);
        printf("\nNext:\n  export QUANT_CONFIG=%s\n  octavo serve %s --quantization inc --kv-cache-dtype fp8_inc\n",
               calibration->quant_path, calibration->options->model);
    }
    free(kl);
    return status;
}

// --- the command ------------------------------------------------------------------------------------------------------------------

// The prompts that were given, else those of this name that come with Octavo.
static oct_status read_prompts(const struct calibration *calibration, const char *given, const char *shared, size_t limit,
                               struct oct_prompts *out, oct_error *err) {
    char *path = NULL;
    if (given)
        path = oct_strdup(given);
    else
        OCT_TRY(oct_share_file(shared, &path, err));
    oct_status status = oct_prompts_read(&calibration->session, path, limit, calibration->options->max_model_len, out, err);
    free(path);
    return status;
}

// A program without its share folder still calibrates with what it was given, and reports on that.
static oct_status read_all_prompts(struct calibration *calibration, oct_error *err) {
    const struct calibrate_options *options = calibration->options;
    OCT_TRY(read_prompts(calibration, options->dataset, "calibration_prompts.jsonl", (size_t)options->limit, &calibration->prompts, err));
    oct_status status = read_prompts(calibration, options->held_out, "held_out_prompts.jsonl", 0, &calibration->held_out, err);
    if (status != OCT_NOT_FOUND || options->held_out || !options->dataset) return status;
    calibration->reports_on_prompts = true;
    return read_prompts(calibration, options->dataset, "", (size_t)options->limit, &calibration->held_out, err);
}

// Where a run that was broken off lies, and how far it came.
static void find_resumable(struct calibration *calibration, size_t *done) {
    char *statistics = oct_path_join(calibration->folder, calibration->profile == OCT_GAUDI2 ? "g2" : "g3");
    char *folder = oct_path_join(statistics, "unfinished");
    oct_resume_open(folder, calibration->session.path, &calibration->prompts, &calibration->resume);
    oct_resume_load(&calibration->resume, &calibration->measurement, done);
    if (*done > calibration->prompts.count) *done = 0;
    if (*done) fprintf(stderr, "going on after %zu of %zu prompts\n", *done, calibration->prompts.count);
    free(folder);
    free(statistics);
}

// Before hours of measuring, not after.
static oct_status check_method(const char *name, oct_error *err) {
    const struct oct_scale_method *method;
    OCT_TRY(oct_scale_method_parse(name, &method, err));
    if (!method->activation.per_channel) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "--scale-method: %s makes scales at run time, for which nothing is measured", method->name);
}

static oct_status calibrate(struct calibration *calibration, oct_error *err) {
    const struct calibrate_options *options = calibration->options;
    size_t done = 0;
    OCT_TRY(oct_engine_flags_check(&options->engine, err));
    if (!options->output) return oct_fail(err, OCT_INVALID_ARGUMENT, "--output DIR is missing");
    OCT_TRY(oct_profile_parse(options->device, &calibration->profile, err));
    OCT_TRY(check_method(options->scale_method, err));
    OCT_TRY(oct_session_open(options->model, &options->engine, &calibration->session, err));
    OCT_TRY(read_all_prompts(calibration, err));
    double started = oct_seconds();
    int num_layers = oct_checkpoint_config(calibration->session.checkpoint)->num_hidden_layers;
    size_t trials = (size_t)options->module_tokens * (size_t)oct_unit_count(num_layers);
    calibration->work = (double)(2 * LOAD_TOKENS + calibration->prompts.tokens + 2 * REPORT_TOKENS + trials);
    calibration->name = model_name(options->model);
    calibration->folder = oct_path_join(options->output, calibration->name);
    calibration->measurement = oct_measurement_new(num_layers);
    find_resumable(calibration, &done);
    OCT_TRY(open_model(calibration, NULL, &calibration->model, err));
    OCT_TRY(measure(calibration, done, err));
    OCT_TRY(write_measurement(calibration, err));
    OCT_TRY(write_scales(calibration, err));
    oct_resume_remove(&calibration->resume);
    return report(calibration, oct_seconds() - started, err);
}

static oct_status run(const void *given, oct_error *err) {
    struct calibration calibration = {.options = given};
    oct_interrupt_catch();
    oct_progress_bar_start(&calibration.bar);
    oct_status status = calibrate(&calibration, err);
    oct_progress_bar_clear(&calibration.bar);
    oct_runner_close(&calibration.quantized);
    oct_quantization_close(&calibration.result, NULL);
    oct_runner_close(&calibration.model);
    oct_measurement_free(calibration.measurement);
    oct_resume_close(&calibration.resume);
    oct_prompts_free(&calibration.prompts);
    oct_prompts_free(&calibration.held_out);
    free(calibration.name);
    free(calibration.folder);
    free(calibration.measure_path);
    free(calibration.quant_path);
    oct_session_close(&calibration.session);
    return status;
}

const struct oct_command oct_command_calibrate = {
    .name = "calibrate",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "measure a model over prompts and write its FP8 configuration and scales",
    .details = "  octavo calibrate smollm2 --output calibrated\n"
               "  octavo calibrate ./llama --output calibrated --dataset prompts.jsonl --device gaudi2 --limit 512\n",
    .options_size = sizeof(struct calibrate_options),
    .groups = {{"Calibration", flags, 0}},
    .run = run,
};
