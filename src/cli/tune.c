// tune.c: `octavo tune`: which modules to leave in bf16, or under which scale method each module runs, so that a quantized model stays
// within a bound of its bf16 self. Every module is tried in FP8 alone, in a model whose other modules are bf16, which takes no loading
// (mixture.h) and one pass over a few tokens (probe.h).
#include "api/quantization.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/block_search.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress_bar.h"
#include "cli/prompts.h"
#include "cli/share.h"
#include "cli/table.h"
#include "cli/tuned_config.h"
#include "cli/unit_cost.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tune_options {
    const char *model, *output, *prompts, *by;
    double max_kl;
    int tokens, module_tokens;
    struct oct_flag_list methods;
    bool json;
    struct oct_engine_flags engine;
};

#define FIELD(name) offsetof(struct tune_options, name)

static const struct oct_flag flags[] = {
    {.name = "quant-config",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(engine.quant_config),
     .metavar = "FILE",
     .help = "the configuration to tune, of octavo calibrate; the environment variable QUANT_CONFIG names it otherwise"},
    {.name = "max-kl",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(max_kl),
     .min = 0,
     .max = 100,
     .initial = "0.05",
     .help = "the bound: mean KL divergence from bf16, in nats"},
    {.name = "by",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(by),
     .choices = "blocklist|scale-methods",
     .initial = "blocklist",
     .help = "leave the fewest modules in bf16; or first give each module the scale method that costs it least"},
    {.name = "methods",
     .type = OCT_FLAG_LIST,
     .offset = FIELD(methods),
     .metavar = "METHOD",
     .help = "with --by scale-methods: those to try beside the configuration's own (default: "
             "act_maxabs_hw_weights_pcs_maxabs_pow2 maxabs_arbitrary)"},
    {.name = "output",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(output),
     .metavar = "FILE",
     .help = "the configuration to write (default: tuned_quant_g3.json or tuned_quant_g2.json beside the other)"},
    {.name = "prompts",
     .short_name = "d",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(prompts),
     .metavar = "FILE",
     .help = "prompts to compare on, as --dataset of octavo calibrate (default: held-out ones that come with Octavo)"},
    {.name = "tokens",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(tokens),
     .min = 1,
     .max = 1 << 16,
     .initial = "512",
     .help = "tokens on which the bound is checked; their distributions are kept in memory"},
    {.name = "module-tokens",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(module_tokens),
     .min = 1,
     .max = 1 << 16,
     .initial = "256",
     .help = "of those, tokens on which each module is tried alone"},
    {.name = "kv-cache-dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(engine.kv_cache_dtype),
     .choices = "auto|fp8_inc",
     .initial = "fp8_inc",
     .help = "how K and V are stored"},
    {.name = "threads",
     .short_name = "t",
     .type = OCT_FLAG_INT,
     .offset = FIELD(engine.threads),
     .min = 0,
     .max = 256,
     .initial = "0",
     .help = "0: the cores this process may use"},
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print JSON"},
    {0},
};

enum {
    MAX_ROWS = 256,
    MAX_SEQS = 16,
    PROMPT_TOKENS = 64, // of a prompt: a few of many prompts
    LOAD_TOKENS = 500,  // loading a model takes about as long as so many tokens: for the progress bar
    MAX_METHODS = 8
};

struct tuning {
    const struct tune_options *options;
    struct oct_session session;
    struct oct_progress_bar bar;
    double work; // of the whole, in tokens
    const char *base_path;
    char *output; // owned
    struct oct_prompts prompts;
    int num_layers, units;
    struct oct_runner plain;
    struct oct_probe probe;
    struct oct_quantization quantization; // of the configuration at hand: the base's, then the tuned one's
    struct oct_runner quantized;
    const struct oct_scale_method *methods[MAX_METHODS]; // to try; the first is the configuration's own
    int num_methods;
    double *cost;    // (units) of each alone under its method; NaN: not in FP8. Owned
    int *method;     // (units) index into methods. Owned
    bool *blocked;   // (units) left in bf16. Owned
    double start_kl; // everything as the configuration says
    struct oct_probe_result result;
    double seconds;
};

// --- models -----------------------------------------------------------------------------------------------------------------------

static void begin_part(struct tuning *tuning, double tokens) {
    oct_progress_bar_part(&tuning->bar, tokens / tuning->work);
}

static oct_status open_model(struct tuning *tuning, struct oct_plan *plan, struct oct_runner *runner, oct_error *err) {
    begin_part(tuning, LOAD_TOKENS);
    struct oct_progress progress = oct_progress_bar_receiver(&tuning->bar);
    struct oct_runner_options options = {
        .llama = {.compute = OCT_BF16, .plan = plan, .max_positions = PROMPT_TOKENS, .max_rows = MAX_ROWS, .progress = &progress},
        .max_seqs = MAX_SEQS,
    };
    return oct_runner_open(&tuning->session, &options, runner, err);
}

static oct_status stopped(oct_error *err) {
    return oct_fail(err, OCT_CANCELLED, "interrupted");
}

// Tries each unit of the quantized model alone, into cost (units).
static oct_status try_units(struct tuning *tuning, const struct oct_plan *plan, const struct oct_runner *quantized, double *cost,
                            oct_error *err) {
    struct oct_progress progress = oct_progress_bar_receiver(&tuning->bar);
    int stretches = oct_probe_stretches(&tuning->probe, (size_t)tuning->options->module_tokens);
    begin_part(tuning, (double)tuning->options->module_tokens * tuning->units);
    bool tried = oct_unit_costs(&tuning->plain, quantized, plan, &tuning->probe, stretches, &progress, cost);
    return tried ? OCT_OK : stopped(err);
}

// --- scale methods ----------------------------------------------------------------------------------------------------------------

static struct oct_scale_rule rule_like(struct oct_scale_rule rule, const struct oct_scale_rule *model) {
    rule.profile = model->profile;
    rule.precision = model->precision;
    rule.e5m2 = model->e5m2;
    rule.host = model->host;
    return rule;
}

// The plan of the base's configuration under another method.
static oct_status plan_under(struct tuning *tuning, const struct oct_scale_method *method, struct oct_plan **plan, oct_error *err) {
    struct oct_quant_config config = *tuning->quantization.config; // borrows all that it points to
    struct oct_scale_method *preset = &config.scales.preset;
    *preset = (struct oct_scale_method){method->name, rule_like(method->weight, &preset->weight),
                                        rule_like(method->activation, &preset->activation)};
    config.recalc_scales = true; // nothing is kept of what is only tried
    return oct_plan_build(&config, tuning->quantization.measurement, tuning->num_layers, tuning->quantization.kv_dtype != NULL, plan, err);
}

// A method must be clearly better than the configuration's own to be worth another one: what differs by less may be chance.
static const double WORTH_CHANGING = 0.95;

static oct_status try_method(struct tuning *tuning, int index, oct_error *err) {
    struct oct_plan *plan = NULL;
    struct oct_runner runner = {0};
    double *cost = oct_alloc((size_t)tuning->units, sizeof *cost, "the cost of modules");
    oct_status status = plan_under(tuning, tuning->methods[index], &plan, err);
    if (status == OCT_OK) status = open_model(tuning, plan, &runner, err);
    if (status == OCT_OK) status = try_units(tuning, plan, &runner, cost, err);
    for (int unit = 0; unit < tuning->units && status == OCT_OK; unit++) {
        double margin = tuning->method[unit] == 0 ? WORTH_CHANGING : 1;
        if (!(cost[unit] < margin * tuning->cost[unit])) continue;
        tuning->cost[unit] = cost[unit];
        tuning->method[unit] = index;
    }
    oct_runner_close(&runner);
    oct_plan_free(plan);
    free(cost);
    return status;
}

static oct_status read_methods(struct tuning *tuning, oct_error *err) {
    static const char *const usual[] = {"ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2", "MAXABS_ARBITRARY"};
    const struct tune_options *options = tuning->options;
    const struct oct_quant_config *config = tuning->quantization.config;
    const char *const *names = options->methods.count ? options->methods.items : usual;
    size_t count = options->methods.count ? options->methods.count : sizeof usual / sizeof *usual;
    tuning->methods[tuning->num_methods++] = &config->scales.preset;
    if (strcmp(options->by, "scale-methods") != 0) return OCT_OK;
    if (config->scales.num_overrides || config->dynamic)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: one static scale method for all modules expected for --by scale-methods, %s found",
                        tuning->base_path, config->dynamic ? "dynamic_quantization" : "rules by module");
    for (size_t i = 0; i < count; i++) {
        const struct oct_scale_method *method;
        OCT_TRY(oct_scale_method_parse(names[i], &method, err));
        if (method->activation.per_channel)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "--methods: %s makes scales at run time: a method for all modules, or none",
                            method->name);
        if (!strcmp(method->name, config->scales.preset.name)) continue;
        if (tuning->num_methods == MAX_METHODS)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "--methods: at most %d expected", MAX_METHODS - 1);
        tuning->methods[tuning->num_methods++] = method;
    }
    return OCT_OK;
}

// --- the blocklist ----------------------------------------------------------------------------------------------------------------

struct choice {
    struct tuning *tuning;
    struct oct_mixture mixture;
    size_t measured, limit; // calls, for the progress bar
};

static double measure_choice(void *context, const bool *blocked) {
    struct choice *choice = context;
    struct tuning *tuning = choice->tuning;
    for (int unit = 0; unit < tuning->units; unit++)
        oct_mixture_set(&choice->mixture, unit, !blocked[unit] && oct_unit_is_planned(tuning->quantization.plan, unit));
    struct oct_probe_result result = oct_probe_run(&tuning->probe, &choice->mixture.runner, tuning->probe.num_stretches);
    if (oct_progress_bar_report(&tuning->bar, "choosing modules", ++choice->measured, choice->limit)) return (double)NAN;
    return result.mean_kl;
}

static oct_status choose_blocked(struct tuning *tuning, oct_error *err) {
    struct choice choice = {.tuning = tuning, .limit = (size_t)oct_block_search_limit(tuning->units)};
    struct oct_block_search search = {
        .units = tuning->units, .cost = tuning->cost, .bound = tuning->options->max_kl, .measure = measure_choice, .context = &choice};
    begin_part(tuning, (double)choice.limit * (double)tuning->probe.rows);
    oct_mixture_open(&tuning->plain, &tuning->quantized, &choice.mixture);
    double kl = oct_block_search_run(&search, tuning->blocked);
    for (int unit = 0; unit < tuning->units; unit++)
        oct_mixture_set(&choice.mixture, unit, !tuning->blocked[unit] && oct_unit_is_planned(tuning->quantization.plan, unit));
    if (!isnan(kl)) tuning->result = oct_probe_run(&tuning->probe, &choice.mixture.runner, tuning->probe.num_stretches);
    oct_mixture_close(&choice.mixture);
    if (!isnan(kl)) return OCT_OK;
    return oct_interrupted() ? stopped(err)
                             : oct_fail(err, OCT_INTERNAL, "the quantized model's logits: finite numbers expected, NaN or infinity found");
}

// --- the configuration ------------------------------------------------------------------------------------------------------------

// "^model\.layers\.3\.mlp\.down_proj$"; of an attention everything below its name.
static char *pattern_of(const struct tuning *tuning, int unit) {
    struct oct_buffer pattern = {0};
    char name[128];
    int layer;
    bool attention = oct_unit_module(tuning->num_layers, unit, &layer) == OCT_MATMUL_QK;
    oct_buffer_puts(&pattern, "^");
    for (const char *c = oct_unit_name(tuning->num_layers, unit, name, sizeof name); *c; c++)
        oct_buffer_printf(&pattern, "%s%c", *c == '.' ? "\\" : "", *c);
    oct_buffer_puts(&pattern, attention ? "\\." : "$");
    return oct_buffer_take(&pattern);
}

// The modules of a unit with another method than the configuration's. Appends them; returns the new count.
static int add_modules(const struct tuning *tuning, int unit, char **modules, const struct oct_scale_method **methods, int count) {
    int layer;
    enum oct_module first = oct_unit_module(tuning->num_layers, unit, &layer);
    for (int module = 0; module < OCT_NUM_MODULES; module++) {
        bool attention = module != OCT_LM_HEAD && !oct_module_is_linear((enum oct_module)module);
        if (first == OCT_MATMUL_QK ? !attention : module != (int)first) continue;
        char name[128];
        modules[count] = oct_strdup(oct_module_name((enum oct_module)module, layer, name, sizeof name));
        methods[count++] = tuning->methods[tuning->method[unit]];
    }
    return count;
}

static oct_status write_config(const struct tuning *tuning, const char *path, oct_error *err) {
    size_t most = (size_t)tuning->units * OCT_NUM_MODULES;
    char **patterns = oct_alloc(most, sizeof *patterns, "patterns"), **modules = oct_alloc(most, sizeof *modules, "modules");
    const struct oct_scale_method **methods = oct_alloc(most, sizeof *methods, "methods");
    struct oct_tuned_config config = {.base_path = tuning->base_path,
                                      .path = path,
                                      .block_patterns = (const char *const *)patterns,
                                      .modules = (const char *const *)modules,
                                      .methods = methods};
    for (int unit = 0; unit < tuning->units; unit++) {
        if (tuning->blocked[unit]) patterns[config.num_patterns++] = pattern_of(tuning, unit);
        if (!tuning->blocked[unit] && tuning->method[unit])
            config.num_modules = add_modules(tuning, unit, modules, methods, config.num_modules);
    }
    if (config.num_modules) config.preset = tuning->methods[0];
    oct_status status = oct_tuned_config_write(&config, err);
    for (int i = 0; i < config.num_patterns; i++) free(patterns[i]);
    for (int i = 0; i < config.num_modules; i++) free(modules[i]);
    free(patterns);
    free(modules);
    free(methods);
    return status;
}

// --- output -----------------------------------------------------------------------------------------------------------------------

static size_t weight_bytes(const struct oct_runner *runner, const struct tuning *tuning, int unit) {
    int layer;
    switch (oct_unit_module(tuning->num_layers, unit, &layer)) {
    case OCT_QKV_PROJ:
        return runner->llama->layers[layer].qkv_proj.weight_bytes;
    case OCT_O_PROJ:
        return runner->llama->layers[layer].o_proj.weight_bytes;
    case OCT_GATE_UP_PROJ:
        return runner->llama->layers[layer].gate_up_proj.weight_bytes;
    case OCT_DOWN_PROJ:
        return runner->llama->layers[layer].down_proj.weight_bytes;
    case OCT_LM_HEAD:
        return runner->llama->lm_head.weight_bytes;
    default:
        return 0;
    }
}

struct summary {
    int tried, blocked, changed;
    size_t more_bytes; // that the blocked weights take
};

static struct summary summarize(const struct tuning *tuning) {
    struct summary summary = {0};
    for (int unit = 0; unit < tuning->units; unit++) {
        if (isnan(tuning->cost[unit])) continue;
        summary.tried++;
        summary.changed += tuning->method[unit] && !tuning->blocked[unit];
        if (!tuning->blocked[unit]) continue;
        summary.blocked++;
        summary.more_bytes += weight_bytes(&tuning->plain, tuning, unit) - weight_bytes(&tuning->quantized, tuning, unit);
    }
    return summary;
}

static const char *decision(const struct tuning *tuning, int unit) {
    return tuning->blocked[unit] ? "bf16" : tuning->methods[tuning->method[unit]]->name;
}

static void print_table(const struct tuning *tuning, const int *order, int count, const struct summary *summary) {
    struct oct_table table = {.num_columns = 3};
    oct_table_add(&table, (const char *[]){"module", "KL alone in FP8", "runs as"});
    for (int i = 0; i < count; i++) {
        char name[128], kl[32];
        snprintf(kl, sizeof kl, "%.3e", tuning->cost[order[i]]);
        oct_table_add(&table,
                      (const char *[]){oct_unit_name(tuning->num_layers, order[i], name, sizeof name), kl, decision(tuning, order[i])});
    }
    oct_table_print(&table, stdout);
    oct_table_free(&table);
    printf("\nbefore         KL %.3e over %zu tokens\n", tuning->start_kl, tuning->probe.rows);
    printf("after          KL %.3e, bound %.3e, same top token %.2f %%\n", tuning->result.mean_kl, tuning->options->max_kl,
           100 * tuning->result.same_top);
    printf("left in bf16   %d of %d, which take %.1f MiB more\n", summary->blocked, summary->tried, (double)summary->more_bytes / 0x1p20);
    if (tuning->num_methods > 1) printf("other methods  for %d\n", summary->changed);
    printf("took           %.1f s\n\nNext:\n  export QUANT_CONFIG=%s\n  octavo serve %s --quantization inc --kv-cache-dtype %s\n",
           tuning->seconds, tuning->output, tuning->options->model, tuning->options->engine.kv_cache_dtype);
}

static void print_json(const struct tuning *tuning, const int *order, int count, const struct summary *summary) {
    json_t *modules = json_array();
    for (int i = 0; i < count; i++) {
        char name[128];
        json_array_append_new(modules,
                              json_pack("{s:s, s:f, s:s}", "module", oct_unit_name(tuning->num_layers, order[i], name, sizeof name), "kl",
                                        tuning->cost[order[i]], "runs_as", decision(tuning, order[i])));
    }
    json_t *report =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:I, s:i, s:i, s:I, s:o}", "quant_config", tuning->output, "base", tuning->base_path,
                  "max_kl", tuning->options->max_kl, "kl_before", tuning->start_kl, "kl_after", tuning->result.mean_kl, "same_top_token",
                  tuning->result.same_top, "tokens", (json_int_t)tuning->probe.rows, "blocked", summary->blocked, "other_methods",
                  summary->changed, "more_bytes", (json_int_t)summary->more_bytes, "modules", modules);
    json_dumpf(report, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(report);
}

static void print(const struct tuning *tuning) {
    int *order = oct_alloc((size_t)tuning->units, sizeof *order, "an order of modules");
    int count = oct_order_by_cost(tuning->cost, tuning->units, order);
    struct summary summary = summarize(tuning);
    (tuning->options->json ? print_json : print_table)(tuning, order, count, &summary);
    free(order);
}

// --- the command ------------------------------------------------------------------------------------------------------------------

static oct_status read_prompts(struct tuning *tuning, oct_error *err) {
    char *path = NULL;
    if (tuning->options->prompts)
        path = oct_strdup(tuning->options->prompts);
    else
        OCT_TRY(oct_share_file("held_out_prompts.jsonl", &path, err));
    oct_status status = oct_prompts_read(&tuning->session, path, 0, PROMPT_TOKENS, &tuning->prompts, err);
    free(path);
    return status;
}

static oct_status open_quantization(struct tuning *tuning, const char *path, oct_error *err) {
    oct_quantization_close(&tuning->quantization, NULL);
    oct_engine_options options = {
        .model = tuning->options->model, .quant_config = path, .kv_cache_dtype = tuning->options->engine.kv_cache_dtype};
    OCT_TRY(oct_quantization_open(&options, tuning->session.checkpoint, &tuning->quantization, err));
    if (tuning->quantization.plan) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: mode QUANTIZE expected, another one found", path);
}

static oct_status find_base(struct tuning *tuning, oct_error *err) {
    const struct tune_options *options = tuning->options;
    tuning->base_path = options->engine.quant_config ? options->engine.quant_config : getenv("QUANT_CONFIG");
    if (!tuning->base_path || !*tuning->base_path)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--quant-config FILE is missing: octavo calibrate %s --output DIR makes it",
                        options->model);
    tuning->output = options->output ? oct_strdup(options->output) : oct_tuned_config_path(tuning->base_path);
    return OCT_OK;
}

// Before minutes of tuning, not after.
static oct_status check_folder(const char *output, oct_error *err) {
    const char *slash = strrchr(output, '/');
    char *folder = slash ? oct_strndup(output, (size_t)(slash + 1 - output)) : oct_strdup(".");
    oct_status status = OCT_OK;
    if (access(folder, W_OK) != 0) status = oct_fail(err, OCT_IO, "%s: cannot write there: %s", folder, strerror(errno));
    free(folder);
    return status;
}

// The names of a configuration and of the folder of its files say which card it is for; under other scale methods the folder is a new one.
static oct_status check_output(const struct tuning *tuning, oct_error *err) {
    bool gaudi2 = tuning->quantization.config->profile == OCT_GAUDI2, methods = tuning->num_methods > 1;
    const char *mine = gaudi2 ? "_g2.json" : "_g3.json", *other = gaudi2 ? "_g3.json" : "_g2.json";
    if (!oct_ends_with(tuning->output, other) && (!methods || oct_ends_with(tuning->output, mine)))
        return check_folder(tuning->output, err);
    return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a name that ends in %s expected: it says which card the configuration is for",
                    tuning->output, mine);
}

// "FOLDER/unfinished_NAME": of the name's end the card is told.
static char *unfinished_path(const char *output) {
    const char *slash = strrchr(output, '/'), *name = slash ? slash + 1 : output;
    struct oct_buffer path = {0};
    oct_buffer_printf(&path, "%.*sunfinished_%s", (int)(name - output), output, name);
    return oct_buffer_take(&path);
}

// Opens what a configuration with the methods that were found, and no blocklist yet, says. Nothing of the result's name is there before the
// bound holds.
static oct_status open_unfinished(struct tuning *tuning, oct_error *err) {
    char *path = unfinished_path(tuning->output);
    oct_status status = write_config(tuning, path, err);
    if (status == OCT_OK) status = open_quantization(tuning, path, err);
    unlink(path);
    free(path);
    return status;
}

// Under the methods that were found, the model is loaded as the configuration that is written says: what is measured is what will run.
static oct_status apply_methods(struct tuning *tuning, oct_error *err) {
    bool changed = false;
    for (int unit = 0; unit < tuning->units; unit++) changed |= tuning->method[unit] != 0;
    if (!changed) return OCT_OK;
    const char *base = tuning->methods[0]->name;
    oct_runner_close(&tuning->quantized);
    OCT_TRY(open_unfinished(tuning, err));
    OCT_TRY(open_model(tuning, tuning->quantization.plan, &tuning->quantized, err));
    tuning->methods[0] = oct_scale_method_find(base); // the one in the configuration that was closed is gone
    return oct_quantization_loaded(&tuning->quantization, err);
}

static oct_status tune(struct tuning *tuning, oct_error *err) {
    const struct tune_options *options = tuning->options;
    double started = oct_seconds();
    OCT_TRY(find_base(tuning, err));
    OCT_TRY(oct_session_open(options->model, &options->engine, &tuning->session, err));
    tuning->num_layers = oct_checkpoint_config(tuning->session.checkpoint)->num_hidden_layers;
    tuning->units = oct_unit_count(tuning->num_layers);
    tuning->cost = oct_alloc((size_t)tuning->units, sizeof *tuning->cost, "the cost of modules");
    tuning->method = oct_alloc((size_t)tuning->units, sizeof *tuning->method, "methods of modules");
    tuning->blocked = oct_alloc((size_t)tuning->units, sizeof *tuning->blocked, "a blocklist");
    OCT_TRY(open_quantization(tuning, tuning->base_path, err));
    OCT_TRY(read_methods(tuning, err));
    OCT_TRY(check_output(tuning, err));
    OCT_TRY(read_prompts(tuning, err));
    double trial = (double)options->module_tokens * tuning->units;
    tuning->work =
        (LOAD_TOKENS + trial) * tuning->num_methods + 2 * LOAD_TOKENS + (1 + oct_block_search_limit(tuning->units)) * options->tokens;
    OCT_TRY(open_model(tuning, NULL, &tuning->plain, err));
    begin_part(tuning, options->tokens);
    oct_probe_open(&tuning->prompts, PROMPT_TOKENS, (size_t)options->tokens, &tuning->plain, &tuning->probe);
    OCT_TRY(open_model(tuning, tuning->quantization.plan, &tuning->quantized, err));
    tuning->start_kl = oct_probe_run(&tuning->probe, &tuning->quantized, tuning->probe.num_stretches).mean_kl;
    OCT_TRY(try_units(tuning, tuning->quantization.plan, &tuning->quantized, tuning->cost, err));
    for (int i = 1; i < tuning->num_methods; i++) OCT_TRY(try_method(tuning, i, err));
    if (tuning->num_methods > 1) OCT_TRY(apply_methods(tuning, err));
    OCT_TRY(choose_blocked(tuning, err));
    oct_progress_bar_clear(&tuning->bar);
    OCT_TRY(write_config(tuning, tuning->output, err));
    tuning->seconds = oct_seconds() - started;
    print(tuning);
    return OCT_OK;
}

static oct_status run(const void *given, oct_error *err) {
    struct tuning tuning = {.options = given};
    oct_interrupt_catch();
    oct_progress_bar_start(&tuning.bar);
    oct_status status = tune(&tuning, err);
    oct_progress_bar_clear(&tuning.bar);
    oct_probe_close(&tuning.probe);
    oct_runner_close(&tuning.quantized);
    oct_runner_close(&tuning.plain);
    oct_quantization_close(&tuning.quantization, NULL);
    oct_prompts_free(&tuning.prompts);
    oct_session_close(&tuning.session);
    free(tuning.output);
    free(tuning.cost);
    free(tuning.method);
    free(tuning.blocked);
    return status;
}

const struct oct_command oct_command_tune = {
    .name = "tune",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "find the fewest modules to leave in bf16, or each module's scale method, for a bound on the error",
    .details = "Every linear, and every layer's attention, is tried in FP8 alone; the costliest are left in bf16 until the whole\n"
               "stays within the bound. The same run gives the same result.\n\n"
               "  octavo tune smollm2 --quant-config calibrated/smollm2/maxabs_quant_g3.json --max-kl 0.05\n"
               "  octavo tune smollm2 --quant-config calibrated/smollm2/maxabs_quant_g3.json --by scale-methods\n",
    .options_size = sizeof(struct tune_options),
    .groups = {{"Tuning", flags, 0}},
    .run = run,
};
