// inspect.c: `octavo inspect`: the facts of a model, and for every module what it runs as, with ranges and scales where QUANT_CONFIG
// names them. For a folder of measurement or scale files: what they hold.
#include "api/quantization.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/inspect_files.h"
#include "cli/table.h"
#include "model/checkpoint.h"
#include "model/locate.h"
#include "numeric/fp8.h"
#include "quant/module.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inspect_options {
    const char *model;
    bool json;
    struct oct_engine_flags engine;
};

#define FIELD(name) offsetof(struct inspect_options, name)

static const struct oct_flag flags[] = {
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print JSON"},
    {0},
};

// What is known of one module. Numbers that are not known are NaN.
struct module_facts {
    char name[128];
    const char *class_name;
    bool linear, fp8, gaudis;    // gaudis: only a Gaudi runs it
    bool e5m2, by_token;         // of fp8: the format, and whether inputs are scaled as they come
    char stored[64];             // formats of a linear's tensors in the checkpoint: "Q4_1", "Q4_1+Q8_0"
    int64_t out, in;             // of a linear
    double ranges[4], scales[4]; // those that are known, first
    double weight_amax;
    double weight_scales[2]; // smallest and largest
    int num_weight_scales;
};

// --- facts ------------------------------------------------------------------------------------------------------------------------

static void add_tensors(const struct oct_checkpoint *checkpoint, enum oct_module module, int layer, struct module_facts *facts) {
    char parts[OCT_MAX_PARTS][OCT_PART_NAME], name[OCT_PART_NAME + 8];
    int count = oct_module_parts(module, layer, parts);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%.*s.weight", OCT_PART_NAME - 1, parts[i]);
        const struct oct_tensor *tensor = oct_checkpoint_find(checkpoint, name);
        if (!tensor && module == OCT_LM_HEAD) tensor = oct_checkpoint_find(checkpoint, "model.embed_tokens.weight");
        if (!tensor) continue;
        facts->out += oct_tensor_rows(tensor);
        facts->in = oct_tensor_columns(tensor);
        const char *format = oct_dtype_name(tensor->dtype);
        if (strstr(facts->stored, format)) continue;
        size_t length = strlen(facts->stored);
        snprintf(facts->stored + length, sizeof facts->stored - length, "%s%s", length ? "+" : "", format);
    }
}

static void add_linear_plan(const struct oct_linear_plan *plan, struct module_facts *facts) {
    facts->fp8 = plan->fp8;
    if (!plan->fp8) return;
    facts->by_token = plan->dynamic;
    if (plan->input_scale > 0) facts->scales[0] = plan->input_scale;
    facts->num_weight_scales = plan->weight_scales ? plan->num_weight_scales : 0;
    for (int i = 0; i < facts->num_weight_scales; i++) {
        double scale = plan->weight_scales[i];
        if (i == 0 || scale < facts->weight_scales[0]) facts->weight_scales[0] = scale;
        if (i == 0 || scale > facts->weight_scales[1]) facts->weight_scales[1] = scale;
    }
}

static void add_scales(const float *scales, int count, struct module_facts *facts) {
    for (int i = 0; i < count && facts->fp8; i++) facts->scales[i] = scales[i];
}

static void add_attention_plan(const struct oct_attention_plan *plan, enum oct_module module, struct module_facts *facts) {
    switch (module) {
    case OCT_MATMUL_QK:
        facts->fp8 = plan->matmul_qk;
        add_scales(plan->matmul_qk_scales, 2, facts);
        break;
    case OCT_MATMUL_AV:
        facts->fp8 = plan->matmul_av;
        add_scales(plan->matmul_av_scales, 2, facts);
        break;
    case OCT_SOFTMAX:
        facts->fp8 = plan->softmax;
        add_scales(&plan->softmax_scale, 1, facts);
        break;
    case OCT_K_CACHE:
        facts->fp8 = plan->k_cache;
        add_scales(&plan->k_cache_scale, 1, facts);
        break;
    case OCT_V_CACHE:
        facts->fp8 = plan->v_cache;
        add_scales(&plan->v_cache_scale, 1, facts);
        break;
    case OCT_BATCH2BLOCK:
        facts->fp8 = plan->batch2block;
        add_scales(plan->batch2block_scales, 2, facts);
        break;
    case OCT_BLOCK2BATCH:
        facts->fp8 = plan->block2batch;
        add_scales(plan->block2batch_scales, 2, facts);
        break;
    case OCT_FUSED_SDPA:
        facts->fp8 = plan->fused_sdpa;
        add_scales(plan->fused_sdpa_scales, 4, facts);
        break;
    default:
        break;
    }
}

static void add_measurement(const struct oct_module_measurement *measured, enum oct_module module, struct module_facts *facts) {
    if (!measured || !measured->seen) return;
    // Softmax is measured, and scaled, at its output.
    const float *values = module == OCT_SOFTMAX ? measured->outputs : measured->inputs;
    int count = module == OCT_SOFTMAX ? measured->num_outputs : measured->num_inputs;
    for (int i = 0; i < count; i++)
        if (values[i] >= 0) facts->ranges[i] = values[i];
    if (measured->weight >= 0) facts->weight_amax = measured->weight;
}

static struct module_facts facts_of(const struct oct_checkpoint *checkpoint, const struct oct_quantization *quantization,
                                    enum oct_module module, int layer) {
    struct module_facts facts = {
        .class_name = oct_module_class(module),
        .linear = oct_module_is_linear(module),
        .gaudis = oct_module_is_gaudis(module),
        .ranges = {NAN, NAN, NAN, NAN},
        .scales = {NAN, NAN, NAN, NAN},
        .weight_amax = NAN,
    };
    oct_module_name(module, layer, facts.name, sizeof facts.name);
    if (facts.linear) add_tensors(checkpoint, module, layer, &facts);
    facts.e5m2 = quantization->plan && quantization->plan->full_scale > OCT_E4M3_MAX;
    if (quantization->plan && facts.linear) add_linear_plan(oct_plan_linear(quantization->plan, module, layer), &facts);
    // Of an FP8 checkpoint the configuration tells, not the plan.
    enum oct_fp8_activation activation = quantization->stored.activation;
    if (facts.linear && facts.fp8 && quantization->stored.method)
        facts.by_token = activation == OCT_ACTIVATION_TOKEN || activation == OCT_ACTIVATION_GROUP;
    if (quantization->plan && !facts.linear) add_attention_plan(&quantization->plan->layers[layer].attention, module, &facts);
    if (quantization->measurement) add_measurement(oct_measurement_at(quantization->measurement, module, layer), module, &facts);
    return facts;
}

static const char *runs_as(const struct module_facts *facts, const char *compute) {
    if (facts->gaudis) return "on Gaudi only";
    if (!facts->fp8) return compute;
    if (facts->linear && !facts->by_token && isnan(facts->scales[0])) return "E4M3 weights";
    if (facts->by_token) return facts->e5m2 ? "E5M2, scaled by token" : "E4M3, scaled by token";
    return facts->e5m2 ? "E5M2" : "E4M3";
}

// --- output -----------------------------------------------------------------------------------------------------------------------

static const char *compute_name(const struct inspect_options *options) {
    return oct_engine_flags_compute(&options->engine) == OCT_F32 ? "float32" : "bfloat16";
}

static const char *rope_name(enum oct_rope_type type) {
    static const char *const names[] = {"default", "linear", "dynamic", "llama3", "yarn"};
    return names[type];
}

static void describe_numbers(const double *values, int count, char *text, size_t size) {
    size_t length = 0;
    *text = '\0';
    for (int i = 0; i < count && length < size; i++)
        if (!isnan(values[i])) length += (size_t)snprintf(text + length, size - length, "%s%.6g", length ? ", " : "", values[i]);
}

static void add_row(const struct module_facts *facts, const char *compute, struct oct_table *table) {
    char shape[48] = "", ranges[96], scales[96], amax[32], weight_scales[64] = "";
    if (facts->linear) snprintf(shape, sizeof shape, "%lld x %lld", (long long)facts->out, (long long)facts->in);
    describe_numbers(facts->ranges, 4, ranges, sizeof ranges);
    describe_numbers(facts->scales, 4, scales, sizeof scales);
    describe_numbers(&facts->weight_amax, 1, amax, sizeof amax);
    if (facts->num_weight_scales == 1) snprintf(weight_scales, sizeof weight_scales, "%.6g", facts->weight_scales[0]);
    if (facts->num_weight_scales > 1)
        snprintf(weight_scales, sizeof weight_scales, "%.6g .. %.6g (%d)", facts->weight_scales[0], facts->weight_scales[1],
                 facts->num_weight_scales);
    oct_table_add(table, (const char *[]){facts->name, shape, facts->stored, runs_as(facts, compute), ranges, scales, amax, weight_scales});
}

static json_t *numbers(const double *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count && !isnan(values[i]); i++)
        json_array_append_new(list, isfinite(values[i]) ? json_real(values[i]) : json_null());
    return list;
}

static json_t *facts_to_json(const struct module_facts *facts, const char *compute) {
    json_t *object = json_pack("{s:s, s:s, s:s}", "name", facts->name, "class", facts->class_name, "runs_as", runs_as(facts, compute));
    if (facts->linear) {
        json_object_set_new(object, "shape", json_pack("[I, I]", (json_int_t)facts->out, (json_int_t)facts->in));
        json_object_set_new(object, "stored_as", json_string(facts->stored));
    }
    if (!isnan(facts->ranges[0])) json_object_set_new(object, "ranges", numbers(facts->ranges, 4));
    if (!isnan(facts->scales[0])) json_object_set_new(object, "scales", numbers(facts->scales, 4));
    if (!isnan(facts->weight_amax)) json_object_set_new(object, "weight_amax", json_real(facts->weight_amax));
    if (facts->num_weight_scales) {
        json_object_set_new(object, "weight_scale_range", numbers(facts->weight_scales, 2));
        json_object_set_new(object, "num_weight_scales", json_integer(facts->num_weight_scales));
    }
    return object;
}

static json_t *config_to_json(const struct oct_model_config *config) {
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:b, s:b, s:s, s:{s:s, s:f}}", "model_type",
                     config->model_type, "hidden_size", config->hidden_size, "intermediate_size", config->intermediate_size,
                     "num_hidden_layers", config->num_hidden_layers, "num_attention_heads", config->num_attention_heads,
                     "num_key_value_heads", config->num_key_value_heads, "head_dim", config->head_dim, "vocab_size", config->vocab_size,
                     "max_position_embeddings", config->max_position_embeddings, "rms_norm_eps", (double)config->rms_norm_eps,
                     "tie_word_embeddings", config->tie_word_embeddings, "attention_bias", config->attention_bias, "mlp_bias",
                     config->mlp_bias, "dtype", oct_dtype_name(config->dtype), "rope_parameters", "rope_type", rope_name(config->rope.type),
                     "rope_theta", config->rope.theta);
}

static void print_plain_quantization(const struct oct_quantization *quantization) {
    struct oct_buffer text = {0};
    oct_quantization_describe(quantization, &text);
    if (quantization->kv_dtype) oct_buffer_printf(&text, "%sK and V in E4M3", text.length ? ", " : "");
    printf("quantization  %s\n", text.length ? text.data : "none");
    oct_buffer_free(&text);
}

static void print_config(const char *path, const struct oct_model_config *config, const struct oct_quantization *quantization) {
    printf("checkpoint    %s (%s)\n", path, config->model_type);
    printf("layers        %d, hidden %d, intermediate %d\n", config->num_hidden_layers, config->hidden_size, config->intermediate_size);
    printf("attention     %d heads of %d, %d key/value heads\n", config->num_attention_heads, config->head_dim,
           config->num_key_value_heads);
    printf("rope          %s, theta %.10g, %d positions\n", rope_name(config->rope.type), config->rope.theta,
           config->max_position_embeddings);
    printf("vocabulary    %d tokens%s\n", config->vocab_size, config->tie_word_embeddings ? ", tied embeddings" : "");
    if (quantization->config)
        printf("quantization  inc, %s, %s, %s\n", quantization->config->scales.preset.name, oct_profile_name(quantization->config->profile),
               quantization->config->dump_stats_path);
    else
        print_plain_quantization(quantization);
    putchar('\n');
}

static void show(const struct inspect_options *options, const char *path, const struct oct_checkpoint *checkpoint,
                 const struct oct_quantization *quantization) {
    const struct oct_model_config *config = oct_checkpoint_config(checkpoint);
    const char *compute = compute_name(options);
    json_t *modules = json_array();
    struct oct_table table = {.num_columns = 8};
    oct_table_add(&table, (const char *[]){"module", "shape", "stored as", "runs as", "range", "scale", "weight range", "weight scale"});
    for (int i = 0; i <= config->num_hidden_layers; i++)
        for (int module = 0; module < OCT_NUM_MODULES; module++) {
            bool head = i == config->num_hidden_layers; // after the layers, the one module outside them
            if ((module == OCT_LM_HEAD) != head) continue;
            struct module_facts facts = facts_of(checkpoint, quantization, (enum oct_module)module, head ? 0 : i);
            if (options->json)
                json_array_append_new(modules, facts_to_json(&facts, compute));
            else
                add_row(&facts, compute, &table);
        }
    if (options->json) {
        json_t *report =
            json_pack("{s:s, s:o, s:o}", "checkpoint", path, "config", config_to_json(config), "modules", json_incref(modules));
        if (quantization->config)
            json_object_set_new(report, "quantization",
                                json_pack("{s:s, s:s, s:s}", "scale_method", quantization->config->scales.preset.name, "profile",
                                          oct_profile_name(quantization->config->profile), "dump_stats_path",
                                          quantization->config->dump_stats_path));
        json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(report);
    } else {
        print_config(path, config, quantization);
        oct_table_print(&table, stdout);
    }
    oct_table_free(&table);
    json_decref(modules);
}

// --- the command ------------------------------------------------------------------------------------------------------------------

static oct_status inspect_model(const struct inspect_options *options, const char *path, oct_error *err) {
    struct oct_checkpoint *checkpoint;
    OCT_TRY(oct_checkpoint_open(path, &checkpoint, err));
    oct_engine_options engine = oct_engine_flags_options(&options->engine, options->model);
    struct oct_quantization quantization = {0};
    oct_status status = oct_quantization_open(&engine, checkpoint, &quantization, err);
    if (status == OCT_OK) show(options, path, checkpoint, &quantization);
    oct_quantization_close(&quantization, NULL);
    oct_checkpoint_close(checkpoint);
    return status;
}

static oct_status run(const void *given, oct_error *err) {
    const struct inspect_options *options = given;
    if (oct_inspects_files(options->model)) return oct_inspect_files(options->model, options->json, err);
    char *path = NULL;
    OCT_TRY(oct_model_locate(options->model, &path, err));
    oct_status status = inspect_model(options, path, err);
    free(path);
    return status;
}

const struct oct_command oct_command_inspect = {
    .name = "inspect",
    .positional = "MODEL|DIR|FILE",
    .positional_offset = FIELD(model),
    .summary = "show a model's modules, ranges and scales, or what measurement, scale and configuration files hold",
    .details = "  octavo inspect smollm2\n"
               "  QUANT_CONFIG=calibrated/smollm2/maxabs_quant_g3.json octavo inspect smollm2 --kv-cache-dtype fp8_inc\n"
               "  octavo inspect calibrated/smollm2\n"
               "  octavo inspect calibrated/smollm2/maxabs_quant_g3.json\n",
    .options_size = sizeof(struct inspect_options),
    .groups = {{"Output", flags, 0}, {"Model", oct_model_flag_table, FIELD(engine)}},
    .run = run,
};
