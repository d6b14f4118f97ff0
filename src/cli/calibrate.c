// calibrate.c: `octavo calibrate`: one command instead of the calibration scripts: measures a model over prompts, writes the measurement
// and the two QUANT_CONFIG files, quantizes once to write the scales, and says how far the result is from bf16. Every file is written
// whole or not at all, and nothing is written before the measurement is complete.
#include "api/chat_input.h"
#include "api/quantization.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/dataset.h"
#include "cli/divergence.h"
#include "cli/interrupt.h"
#include "cli/progress_bar.h"
#include "cli/session.h"
#include "cli/share.h"

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
    const char *model, *output, *dataset, *device;
    int batch_size, limit, max_model_len;
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
     .help = "prompts: .jsonl (a line: {\"prompt\"}, {\"messages\"} or {\"system_prompt\", \"question\"}) or .txt (a line: a prompt) "
             "(default: the prompts that come with Octavo)"},
    {.name = "device",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(device),
     .choices = "gaudi2|gaudi3",
     .initial = "gaudi3",
     .help = "whose FP8 rules apply: Gaudi 2 ends at 240, Gaudi 3 at 448"},
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
    MAX_ROWS = 256,      // of a batch; the logits of all rows are computed, so that lm_head is measured at every position
    REPORT_TOKENS = 2048 // what the closing comparison looks at
};

struct calibration {
    const struct calibrate_options *options;
    struct oct_session session;
    struct oct_ids *prompts; // (num_prompts) tokens, none empty. Owned
    size_t num_prompts, num_tokens;
    int longest; // tokens
    struct oct_measurement *measurement;
    struct oct_runner model;        // bf16
    struct oct_quantization result; // as QUANT_CONFIG reads it from what was written
    struct oct_runner quantized;
    char *measure_path, *quant_path;
};

// --- prompts ----------------------------------------------------------------------------------------------------------------------

// For a model without a chat template: the contents, one after the other, as the calibration scripts join them.
static void encode_contents(const struct oct_tokenizer *tokenizer, const json_t *messages, struct oct_ids *ids) {
    struct oct_buffer text = {0};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *content = json_string_value(json_object_get(json_array_get(messages, i), "content"));
        if (content) oct_buffer_printf(&text, "%s%s", text.length ? ". " : "", content);
    }
    oct_encode(tokenizer, text.data ? text.data : "", text.length, OCT_ENCODE_ADD_SPECIAL, ids);
    oct_buffer_free(&text);
}

static oct_status encode_prompt(const struct oct_session *session, const struct oct_prompt *prompt, struct oct_ids *ids, oct_error *err) {
    const struct oct_tokenizer *tokenizer = session->text.tokenizer;
    if (prompt->text) {
        oct_encode(tokenizer, prompt->text, strlen(prompt->text), OCT_ENCODE_ADD_SPECIAL, ids);
        return OCT_OK;
    }
    if (!session->text.chat && session->text.chat_problem.code != OCT_NOT_FOUND) {
        *err = session->text.chat_problem;
        return err->code;
    }
    if (!session->text.chat) {
        encode_contents(tokenizer, prompt->messages, ids);
        return OCT_OK;
    }
    const struct oct_chat_input input = {
        .messages = prompt->messages,
        .add_generation_prompt = true, // the ranges should hold for what a server sees, which ends so
    };
    struct oct_chat_prompt rendered = {0};
    OCT_TRY(oct_chat_input_render(&session->text, &input, &rendered, err));
    oct_chat_encode(tokenizer, &rendered, 0, ids);
    oct_chat_prompt_free(&rendered);
    return OCT_OK;
}

static oct_status encode_dataset(struct calibration *calibration, const struct oct_dataset *dataset, int max_tokens, oct_error *err) {
    calibration->prompts = oct_alloc(dataset->count, sizeof *calibration->prompts, "tokenized prompts");
    for (size_t i = 0; i < dataset->count; i++) {
        struct oct_ids ids = {0};
        oct_status status = encode_prompt(&calibration->session, &dataset->prompts[i], &ids, err);
        if (status == OCT_OK) status = oct_session_check_tokens(&calibration->session, &ids, err);
        if (status != OCT_OK || ids.count == 0) {
            free(ids.data);
            OCT_TRY(status);
            continue;
        }
        if (ids.count > (size_t)max_tokens) ids.count = (size_t)max_tokens;
        calibration->prompts[calibration->num_prompts++] = ids;
        calibration->num_tokens += ids.count;
        if ((int)ids.count > calibration->longest) calibration->longest = (int)ids.count;
    }
    if (calibration->num_prompts == 0) return oct_fail(err, OCT_INVALID_ARGUMENT, "the dataset has no prompt with any token in it");
    return OCT_OK;
}

static oct_status read_prompts(struct calibration *calibration, oct_error *err) {
    const struct calibrate_options *options = calibration->options;
    char *path = NULL;
    if (options->dataset)
        path = oct_strdup(options->dataset);
    else
        OCT_TRY(oct_share_file("calibration_prompts.jsonl", &path, err));
    struct oct_dataset dataset;
    oct_status status = oct_dataset_read(path, (size_t)options->limit, &dataset, err);
    free(path);
    OCT_TRY(status);
    int limit = oct_checkpoint_config(calibration->session.checkpoint)->max_position_embeddings;
    status = encode_dataset(calibration, &dataset, options->max_model_len < limit ? options->max_model_len : limit, err);
    oct_dataset_free(&dataset);
    return status;
}

// --- measuring --------------------------------------------------------------------------------------------------------------------

static oct_status open_model(struct calibration *calibration, struct oct_plan *plan, struct oct_runner *runner, oct_error *err) {
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    struct oct_progress progress = oct_progress_bar_receiver(&bar);
    struct oct_runner_options options = {
        .llama = {.compute = OCT_BF16,
                  .plan = plan,
                  .max_positions = calibration->longest,
                  .max_rows = MAX_ROWS,
                  .progress = &progress,
                  .on_weight = plan ? NULL : oct_measurement_see_weight,
                  .on_weight_context = calibration->measurement},
        .max_seqs = calibration->options->batch_size < MAX_ROWS ? calibration->options->batch_size : MAX_ROWS,
    };
    oct_status status = oct_runner_open(&calibration->session, &options, runner, err);
    oct_progress_bar_clear(&bar);
    return status;
}

// A prompt that fills a batch or more, in stretches.
static void run_long_prompt(struct oct_runner *runner, const struct oct_ids *prompt, const struct oct_observer *observer) {
    for (int first = 0, count = (int)prompt->count; first < count; first += MAX_ROWS) {
        struct oct_stretch stretch = {prompt->data + first, count - first < MAX_ROWS ? count - first : MAX_ROWS, first};
        oct_runner_forward(runner, &stretch, 1, observer);
    }
}

// As many prompts from `next` on as fit into one batch. Returns how many ran.
static size_t run_short_prompts(const struct calibration *calibration, struct oct_runner *runner, size_t next,
                                const struct oct_observer *observer) {
    struct oct_stretch stretches[MAX_ROWS];
    int count = 0, rows = 0;
    for (size_t i = next; i < calibration->num_prompts && count < runner->max_seqs; i++) {
        const struct oct_ids *prompt = &calibration->prompts[i];
        if (prompt->count > (size_t)(MAX_ROWS - rows)) break;
        stretches[count++] = (struct oct_stretch){prompt->data, (int)prompt->count, 0};
        rows += (int)prompt->count;
    }
    oct_runner_forward(runner, stretches, count, observer);
    return (size_t)count;
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

static oct_status measure(struct calibration *calibration, oct_error *err) {
    struct oct_observer observer = oct_measurement_observer(calibration->measurement);
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_status status = OCT_OK;
    for (size_t next = 0; status == OCT_OK && next < calibration->num_prompts;) {
        if (calibration->prompts[next].count >= MAX_ROWS)
            run_long_prompt(&calibration->model, &calibration->prompts[next++], &observer);
        else
            next += run_short_prompts(calibration, &calibration->model, next, &observer);
        if (oct_progress_bar_report(&bar, "measuring prompts", next, calibration->num_prompts))
            status = oct_fail(err, OCT_CANCELLED, "interrupted; nothing was written");
    }
    oct_progress_bar_clear(&bar);
    OCT_TRY(status);
    OCT_TRY(check_measured(calibration, err));
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

static oct_status write_measurement(struct calibration *calibration, enum oct_profile profile, oct_error *err) {
    char *name = model_name(calibration->options->model);
    oct_status status = oct_quant_config_write_pair(calibration->options->output, name, profile, NULL, &calibration->measure_path,
                                                    &calibration->quant_path, err);
    free(name);
    OCT_TRY(status);
    struct oct_quant_config *config;
    OCT_TRY(oct_quant_config_load(calibration->measure_path, &config, err));
    status = remove_stale_scales(config, err);
    if (status == OCT_OK) status = oct_measurement_write(calibration->measurement, config, (int)calibration->num_prompts, err);
    oct_quant_config_free(config);
    return status;
}

// Quantizes the model as a server would, from the files just written; that makes the weights' scales known.
static oct_status write_scales(struct calibration *calibration, oct_error *err) {
    oct_engine_options options = {
        .model = calibration->options->model, .quant_config = calibration->quant_path, .kv_cache_dtype = "fp8_inc"};
    int num_layers = oct_checkpoint_config(calibration->session.checkpoint)->num_hidden_layers;
    OCT_TRY(oct_quantization_open(&options, num_layers, &calibration->result, err));
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

static oct_status compare(struct calibration *calibration, struct oct_divergence *divergence, oct_error *err) {
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_status status = OCT_OK;
    for (size_t i = 0; status == OCT_OK && i < calibration->num_prompts && divergence->count < REPORT_TOKENS; i++) {
        compare_prompt(calibration, &calibration->prompts[i], divergence);
        if (oct_progress_bar_report(&bar, "comparing tokens", divergence->count, REPORT_TOKENS))
            status = oct_fail(err, OCT_CANCELLED, "interrupted; the files are complete: %s", calibration->quant_path);
    }
    oct_progress_bar_clear(&bar);
    return status;
}

static oct_status report(struct calibration *calibration, double seconds, oct_error *err) {
    struct oct_divergence divergence = {0};
    oct_status status = compare(calibration, &divergence, err);
    struct oct_divergence_summary summary = oct_divergence_summarize(&divergence);
    oct_divergence_free(&divergence);
    OCT_TRY(status);
    printf("measured           %zu prompts, %zu tokens, %.1f s\n", calibration->num_prompts, calibration->num_tokens, seconds);
    printf("FP8 against bf16   on the first %zu tokens of these prompts:\n", summary.count);
    oct_divergence_print(&summary, stdout);
    printf("weights            %.1f MiB in FP8, %.1f MiB in bf16\n\n", (double)calibration->quantized.llama->weight_bytes / 0x1p20,
           (double)calibration->model.llama->weight_bytes / 0x1p20);
    printf("Next:\n  export QUANT_CONFIG=%s\n  octavo serve %s --quantization inc --kv-cache-dtype fp8_inc\n", calibration->quant_path,
           calibration->options->model);
    return OCT_OK;
}

static oct_status calibrate(struct calibration *calibration, oct_error *err) {
    const struct calibrate_options *options = calibration->options;
    OCT_TRY(oct_engine_flags_check(&options->engine, err));
    if (!options->output) return oct_fail(err, OCT_INVALID_ARGUMENT, "--output DIR is missing");
    enum oct_profile profile;
    OCT_TRY(oct_profile_parse(options->device, &profile, err));
    OCT_TRY(oct_session_open(options->model, &options->engine, &calibration->session, err));
    OCT_TRY(read_prompts(calibration, err));
    double started = oct_seconds();
    calibration->measurement = oct_measurement_new(oct_checkpoint_config(calibration->session.checkpoint)->num_hidden_layers);
    OCT_TRY(open_model(calibration, NULL, &calibration->model, err));
    OCT_TRY(measure(calibration, err));
    OCT_TRY(write_measurement(calibration, profile, err));
    OCT_TRY(write_scales(calibration, err));
    return report(calibration, oct_seconds() - started, err);
}

static oct_status run(const void *given, oct_error *err) {
    struct calibration calibration = {.options = given};
    oct_interrupt_catch();
    oct_status status = calibrate(&calibration, err);
    oct_runner_close(&calibration.quantized);
    oct_quantization_close(&calibration.result, NULL);
    oct_runner_close(&calibration.model);
    oct_measurement_free(calibration.measurement);
    for (size_t i = 0; i < calibration.num_prompts; i++) free(calibration.prompts[i].data);
    free(calibration.prompts);
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
