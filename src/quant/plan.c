// plan.c: a decision for every module, from configuration, scale file and measurement, in this order of trust.
#include "quant/plan.h"

#include "base/log.h"
#include "base/memory.h"
#include "quant/node_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SCALES = 4 };

// Where the plan keeps what belongs to one module.
struct slots {
    bool *fp8;
    float *inputs[MAX_SCALES]; // scales of the inputs; NULL from the first that there is not
    float *output;             // the scale of an output that is FP8 itself, else NULL
    struct oct_linear_plan *linear;
};

static struct slots slots_of(struct oct_plan *plan, enum oct_module module, int layer) {
    struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
    if (linear) return (struct slots){.fp8 = &linear->fp8, .inputs = {&linear->input_scale}, .linear = linear};
    struct oct_attention_plan *a = &plan->layers[layer].attention;
    switch (module) {
    case OCT_MATMUL_QK:
        return (struct slots){.fp8 = &a->matmul_qk, .inputs = {&a->matmul_qk_scales[0], &a->matmul_qk_scales[1]}};
    case OCT_MATMUL_AV:
        return (struct slots){.fp8 = &a->matmul_av, .inputs = {&a->matmul_av_scales[0], &a->matmul_av_scales[1]}};
    case OCT_BATCH2BLOCK:
        return (struct slots){.fp8 = &a->batch2block, .inputs = {&a->batch2block_scales[0], &a->batch2block_scales[1]}};
    case OCT_BLOCK2BATCH:
        return (struct slots){.fp8 = &a->block2batch, .inputs = {&a->block2batch_scales[0], &a->block2batch_scales[1]}};
    case OCT_FUSED_SDPA: {
        float *scales = a->fused_sdpa_scales;
        return (struct slots){
            .fp8 = &a->fused_sdpa, .inputs = {scales, scales + 1, scales + 2, scales + 3}, .output = &a->fused_sdpa_output_scale};
    }
    case OCT_K_CACHE:
        return (struct slots){.fp8 = &a->k_cache, .inputs = {&a->k_cache_scale}};
    case OCT_V_CACHE:
        return (struct slots){.fp8 = &a->v_cache, .inputs = {&a->v_cache_scale}};
    default:
        return (struct slots){.fp8 = &a->softmax, .output = &a->softmax_scale};
    }
}

struct oct_linear_plan *oct_plan_linear(struct oct_plan *plan, enum oct_module module, int layer) {
    switch (module) {
    case OCT_LM_HEAD:
        return &plan->lm_head;
    case OCT_QKV_PROJ:
        return &plan->layers[layer].qkv_proj;
    case OCT_O_PROJ:
        return &plan->layers[layer].o_proj;
    case OCT_GATE_UP_PROJ:
        return &plan->layers[layer].gate_up_proj;
    case OCT_DOWN_PROJ:
        return &plan->layers[layer].down_proj;
    default:
        return NULL;
    }
}

void oct_plan_free(struct oct_plan *plan) {
    if (!plan) return;
    for (int i = 0; i < oct_module_count(plan->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(plan->num_layers, i, &layer);
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (linear) free(linear->weight_scales);
    }
    free(plan->layers);
    free(plan);
}

// Where only zeros were seen, the scale is 0 or so small that its inverse is infinite, and any other does as well.
static float usable(float scale) {
    return oct_scale_is_usable(scale) ? scale : 1;
}

struct builder {
    const struct oct_quant_config *config;
    const struct oct_measurement *measurement; // NULL: none
    const struct oct_scale_method *method;     // of the module at hand
    const char *scale_path;
    const struct oct_value *scale_nodes; // of the scale file; NULL: none
    struct oct_plan *plan;
    int num_stale; // modules whose cached scales are not what the measurement gives
    char first_stale[128];
    oct_error *err;
};

static oct_status check_scale(struct builder *b, const char *name, const char *field, double scale, float *out) {
    float rounded = oct_scale_precision_round(b->method->activation.precision, (float)scale); // also where a file says otherwise
    if (!(rounded >= 0) || isinf(rounded))
        return oct_fail(b->err, OCT_CORRUPT, "%s: %s.%s: a positive scale expected, %g found", b->scale_path, name, field, scale);
    *out = usable(rounded);
    return OCT_OK;
}

static oct_status cached_number(struct builder *b, const char *name, const char *field, const struct oct_value *list, size_t index,
                                float *out) {
    const struct oct_value *number = list && index < list->count ? list->items[index] : NULL;
    if (!oct_value_is_numbers(number) || oct_array_size(number) != 1)
        return oct_fail(b->err, OCT_CORRUPT, "%s: %s.%s[%zu]: one scale expected, none found", b->scale_path, name, field, index);
    return check_scale(b, name, field, oct_array_at(number, 0), out);
}

// One number, or {0: an array over output channels, 1: ones}.
static oct_status cached_weight(struct builder *b, const char *name, const struct oct_value *node, struct oct_linear_plan *linear) {
    const struct oct_value *weight = oct_dict_get(oct_dict_get(node, "params"), "weight");
    if (weight && weight->kind == OCT_VALUE_DICT) weight = oct_dict_get_index(weight, 0);
    size_t n = oct_value_is_numbers(weight) ? oct_array_size(weight) : 0;
    if (!n || n > INT32_MAX) return oct_fail(b->err, OCT_CORRUPT, "%s: %s.params.weight: scales expected, none found", b->scale_path, name);
    linear->weight_scales = oct_alloc(n, sizeof *linear->weight_scales, "weight scales");
    linear->num_weight_scales = (int)n;
    for (size_t i = 0; i < n; i++) OCT_TRY(check_scale(b, name, "params.weight", oct_array_at(weight, i), &linear->weight_scales[i]));
    return OCT_OK;
}

static oct_status from_cache(struct builder *b, const char *name, const struct oct_value *node, const struct slots *slots) {
    for (size_t i = 0; i < MAX_SCALES; i++)
        if (slots->inputs[i]) OCT_TRY(cached_number(b, name, "inputs", oct_node_list(node, "inputs"), i, slots->inputs[i]));
    if (slots->output) OCT_TRY(cached_number(b, name, "outputs", oct_node_list(node, "outputs"), 0, slots->output));
    if (slots->linear) OCT_TRY(cached_weight(b, name, node, slots->linear));
    *slots->fp8 = true;
    return OCT_OK;
}

// Puts the rows of one part before those of the next.
static void stack_linear(const struct oct_linear_plan *above, struct oct_linear_plan *below) {
    if (above->input_scale > below->input_scale) below->input_scale = above->input_scale;
    size_t n = (size_t)above->num_weight_scales, m = (size_t)below->num_weight_scales;
    if (n == 1 && m == 1) {
        below->weight_scales[0] = fmaxf(above->weight_scales[0], below->weight_scales[0]);
        return;
    }
    below->weight_scales = oct_resize(below->weight_scales, n + m, sizeof *below->weight_scales, "weight scales");
    memmove(below->weight_scales + n, below->weight_scales, m * sizeof *below->weight_scales);
    memcpy(below->weight_scales, above->weight_scales, n * sizeof *below->weight_scales);
    below->num_weight_scales = (int)(n + m);
}

// The scales that optimum-habana gave the parts of a stacked linear: the input's largest, and the weight's largest or those of all rows.
static oct_status from_cached_parts(struct builder *b, enum oct_module module, int layer, const struct slots *slots, bool *found) {
    char name[128];
    for (int part = 0; oct_module_part_name(module, layer, part, name, sizeof name); part++) {
        const struct oct_value *node = oct_dict_get(b->scale_nodes, name);
        if (!node) continue;
        struct oct_linear_plan before = slots->linear ? *slots->linear : (struct oct_linear_plan){0};
        if (slots->linear) slots->linear->weight_scales = NULL;
        oct_status status = from_cache(b, name, node, slots);
        if (status == OCT_OK && *found && slots->linear) stack_linear(&before, slots->linear);
        free(before.weight_scales);
        OCT_TRY(status);
        *found = true;
    }
    return OCT_OK;
}

static oct_status scale_of(struct builder *b, const char *name, const char *field, float amax, float *out) {
    float scale = oct_scale(&b->method->activation, amax < 0 ? 0 : amax);
    if (!isfinite(scale))
        return oct_fail(b->err, OCT_CORRUPT, "%s: %s: the measurement is %g, from which %s makes no scale", name, field, amax,
                        b->method->name);
    *out = usable(scale);
    return OCT_OK;
}

static const struct oct_module_measurement *measured_of(const struct oct_measurement *measurement, enum oct_module module, int layer) {
    return measurement ? oct_measurement_at((struct oct_measurement *)measurement, module, layer) : NULL;
}

// The maximum that the scale of input i is made from. The products over blocks may see what an earlier sequence left in a block, so their
// data's scale comes from the result; the fused kernel reports its largest probability as a second output.
static float amax_of_input(enum oct_module module, const struct oct_module_measurement *measured, int i) {
    if ((module == OCT_BATCH2BLOCK || module == OCT_BLOCK2BATCH) && i == 1) return measured->outputs[0];
    if (module == OCT_FUSED_SDPA && i == 3) return measured->outputs[1];
    return measured->inputs[i];
}

static bool has_measurement(enum oct_module module, const struct oct_module_measurement *measured, const struct slots *slots) {
    if (!measured || !measured->seen) return false;
    for (int i = 0; i < MAX_SCALES; i++)
        if (slots->inputs[i] && amax_of_input(module, measured, i) < 0) return false;
    return !slots->output || !(measured->outputs[0] < 0);
}

// Where a Gaudi measured only its fused kernel (prompts alone), that is what Octavo's products saw: queries before they were multiplied by
// head_dim^-0.5, which only makes the scale larger, and the other operands alike.
static struct oct_module_measurement from_fused_kernel(enum oct_module module, const struct oct_module_measurement *fused) {
    struct oct_module_measurement made = {.inputs = {-1, -1, -1, -1}, .outputs = {-1, -1}};
    if (!fused || (module != OCT_MATMUL_QK && module != OCT_MATMUL_AV)) return made;
    made.seen = fused->seen;
    made.inputs[0] = module == OCT_MATMUL_QK ? fused->inputs[0] : fused->outputs[1];
    made.inputs[1] = module == OCT_MATMUL_QK ? fused->inputs[1] : fused->inputs[2];
    return made;
}

// What does not run here, or ran inside the fused kernel, may be missing, as on a Gaudi that does not call it.
static bool may_be_missing(const struct builder *b, enum oct_module module, const struct oct_module_measurement *fused) {
    return b->config->ignore_modules_wo_measures || oct_module_is_gaudis(module) || (module == OCT_SOFTMAX && fused && fused->seen);
}

static oct_status from_measurement(struct builder *b, enum oct_module module, int layer, const char *name, const struct slots *slots) {
    const struct oct_module_measurement *measured = measured_of(b->measurement, module, layer);
    const struct oct_module_measurement *fused = measured_of(b->measurement, OCT_FUSED_SDPA, layer);
    const struct oct_module_measurement instead = from_fused_kernel(module, fused);
    if (!has_measurement(module, measured, slots)) measured = &instead;
    if (!oct_scale_method_is_fixed(b->method) && !has_measurement(module, measured, slots)) {
        if (may_be_missing(b, module, fused)) return OCT_OK;
        return oct_fail(b->err, OCT_NOT_FOUND,
                        "Layer '%s' has no measurements therefore it can't be quantized: calibrate again, block it, or set "
                        "ignore_modules_wo_measures",
                        name);
    }
    for (int i = 0; i < MAX_SCALES; i++) {
        char field[16];
        snprintf(field, sizeof field, "inputs[%d]", i);
        if (slots->inputs[i]) OCT_TRY(scale_of(b, name, field, amax_of_input(module, measured, i), slots->inputs[i]));
    }
    if (slots->output) OCT_TRY(scale_of(b, name, "outputs[0]", measured->outputs[0], slots->output));
    *slots->fp8 = true;
    return OCT_OK;
}

// Scales of activations are made at run time: nothing is read.
static oct_status plan_dynamic(struct builder *b, enum oct_module module, const char *name, const struct slots *slots) {
    if (oct_module_is_gaudis(module)) return OCT_OK;
    if (!slots->linear)
        return oct_fail(b->err, OCT_UNSUPPORTED,
                        "%s: dynamic_quantization scales the inputs of linear modules here: add \"%s\" to \"types\" of the blocklist", name,
                        oct_module_class(module));
    slots->linear->dynamic = true;
    slots->linear->activation_rule = b->method->activation;
    *slots->fp8 = true;
    return OCT_OK;
}

// A scale file is believed whatever was measured since. What it says of inputs can be compared with what the measurement would give.
static void note_stale(struct builder *b, enum oct_module module, int layer, const char *name, const struct slots *slots) {
    const struct oct_module_measurement *measured = measured_of(b->measurement, module, layer);
    if (!has_measurement(module, measured, slots)) return;
    for (int i = 0; i < MAX_SCALES; i++) {
        if (!slots->inputs[i] || usable(oct_scale(&b->method->activation, amax_of_input(module, measured, i))) == *slots->inputs[i])
            continue;
        if (!b->num_stale++) snprintf(b->first_stale, sizeof b->first_stale, "%s", name);
        return;
    }
}

static void warn_of_stale(const struct builder *b) {
    if (!b->num_stale) return;
    oct_log(
        OCT_LOG_WARNING,
        "%s: the scales of %d modules (the first is %s) are not those that the measurement gives: it, or the card, is another one since. "
        "They count nevertheless; remove the file, or set recalc_scales, to make them again",
        b->scale_path, b->num_stale, b->first_stale);
}

static oct_status plan_module(struct builder *b, enum oct_module module, int layer) {
    char name[128];
    oct_module_name(module, layer, name, sizeof name);
    struct slots slots = slots_of(b->plan, module, layer);
    b->method = oct_scale_config_method(&b->config->scales, module, layer);
    if (slots.linear) slots.linear->weight_rule = b->method->weight;
    if (b->config->dynamic) return plan_dynamic(b, module, name, &slots);
    const struct oct_value *node = oct_dict_get(b->scale_nodes, name);
    bool cached = node;
    if (node) OCT_TRY(from_cache(b, name, node, &slots));
    if (!node) OCT_TRY(from_cached_parts(b, module, layer, &slots, &cached));
    if (!cached) return from_measurement(b, module, layer, name, &slots);
    note_stale(b, module, layer, name, &slots);
    return OCT_OK;
}

static oct_status plan_modules(struct builder *b, bool quantize_kv) {
    for (int i = 0; i < oct_module_count(b->plan->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(b->plan->num_layers, i, &layer);
        if ((module == OCT_K_CACHE || module == OCT_V_CACHE) && !quantize_kv) continue;
        if (oct_quant_config_selects(b->config, module, layer)) OCT_TRY(plan_module(b, module, layer));
    }
    return OCT_OK;
}

static char *scale_file(const struct oct_quant_config *config, const char *ending) {
    return oct_quant_config_file(config, config->scale_method, config->rank, config->world_size, ending);
}

// The nodes of the scale file; NULL where there is no file, or it is not to be used.
static oct_status read_cached(const struct oct_quant_config *config, const char *path, struct oct_tree *tree,
                              const struct oct_value **nodes, oct_error *err) {
    struct oct_value *found = NULL;
    *nodes = NULL;
    if (config->recalc_scales || !oct_quant_config_uses_files(config)) return OCT_OK;
    oct_status status = oct_node_file_read(path, tree, &found, err);
    if (status == OCT_NOT_FOUND) return OCT_OK;
    *nodes = found;
    return status;
}

oct_status oct_plan_build(const struct oct_quant_config *config, const struct oct_measurement *measurement, int num_layers,
                          bool quantize_kv, struct oct_plan **out, oct_error *err) {
    OCT_CHECK(!measurement || measurement->num_layers == num_layers);
    struct oct_plan *plan = oct_alloc(1, sizeof *plan, "a quantization plan");
    plan->full_scale = oct_scale_rule_full_scale(&config->scales.preset.weight);
    plan->num_layers = num_layers;
    plan->layers = oct_alloc((size_t)num_layers, sizeof *plan->layers, "a quantization plan");
    struct builder b = {.config = config, .measurement = measurement, .plan = plan, .err = err};
    char *path = scale_file(config, ".npz");
    b.scale_path = path;
    struct oct_tree tree = {0};
    oct_status status = read_cached(config, path, &tree, &b.scale_nodes, err);
    if (status == OCT_OK) status = plan_modules(&b, quantize_kv);
    if (status == OCT_OK) warn_of_stale(&b);
    oct_tree_free(&tree);
    free(path);
    if (status != OCT_OK) {
        oct_plan_free(plan);
        return status;
    }
    *out = plan;
    return OCT_OK;
}

static float max_of(const float *values, int n) {
    float max = 0;
    for (int i = 0; i < n; i++)
        if (values[i] > max || isnan(values[i])) max = values[i];
    return max;
}

// Whether a scale file gave scales that fit the weight. Those that do not are dropped.
static bool has_weight_scales(struct oct_linear_plan *linear, int out_features) {
    if (!linear->weight_scales) return false;
    if (linear->num_weight_scales == 1 || linear->num_weight_scales == out_features) return true;
    oct_log(OCT_LOG_WARNING, "a scale file has %d weight scales for %d output channels: computing them again", linear->num_weight_scales,
            out_features);
    free(linear->weight_scales);
    linear->weight_scales = NULL;
    return false;
}

static void alloc_weight_scales(struct oct_linear_plan *linear, int out_features) {
    linear->num_weight_scales = linear->weight_rule.per_channel ? out_features : 1;
    linear->weight_scales = oct_alloc((size_t)linear->num_weight_scales, sizeof *linear->weight_scales, "weight scales");
}

void oct_plan_set_weight_scales(struct oct_linear_plan *linear, const float *row_amax, int out_features) {
    if (has_weight_scales(linear, out_features)) return;
    OCT_CHECK(linear->weight_rule.value != OCT_SCALE_OPT);
    alloc_weight_scales(linear, out_features);
    float tensor_amax = max_of(row_amax, out_features);
    for (int i = 0; i < linear->num_weight_scales; i++)
        linear->weight_scales[i] = usable(oct_scale(&linear->weight_rule, linear->weight_rule.per_channel ? row_amax[i] : tensor_amax));
}

struct oct_weight_search *oct_plan_search_begin(struct oct_linear_plan *linear, int out_features) {
    if (linear->weight_rule.value != OCT_SCALE_OPT || has_weight_scales(linear, out_features)) return NULL;
    return oct_weight_search_new(&linear->weight_rule, out_features);
}

void oct_plan_search_end(struct oct_linear_plan *linear, struct oct_weight_search *search, int out_features) {
    alloc_weight_scales(linear, out_features);
    oct_weight_search_finish(search, linear->weight_scales);
    for (int i = 0; i < linear->num_weight_scales; i++) linear->weight_scales[i] = usable(linear->weight_scales[i]);
    oct_weight_search_free(search);
}

// Scales of a search are an array of one, others a number.
static int per_tensor_dims(const struct oct_linear_plan *linear) {
    return linear->weight_rule.value == OCT_SCALE_OPT ? 1 : 0;
}

// The weight's scales as an array, per tensor or {0: over output channels, 1: over input channels (ones)}.
static struct oct_value *weight_value(struct oct_tree *tree, const struct oct_linear_plan *linear) {
    if (!linear->weight_rule.per_channel) return oct_tree_array(tree, per_tensor_dims(linear), (size_t[]){1}, linear->weight_scales);
    size_t outs = (size_t)linear->num_weight_scales, ins = linear->in_features > 0 ? (size_t)linear->in_features : 1;
    float *ones = oct_alloc(ins, sizeof *ones, "weight scales");
    for (size_t i = 0; i < ins; i++) ones[i] = 1;
    struct oct_value *both = oct_tree_value(tree, OCT_VALUE_DICT);
    oct_dict_set(tree, both, oct_tree_int(tree, 0), oct_tree_array(tree, 1, &outs, linear->weight_scales));
    oct_dict_set(tree, both, oct_tree_int(tree, 1), oct_tree_array(tree, 1, &ins, ones));
    free(ones);
    return both;
}

// input scale * weight scale: bookkeeping of INC that nothing reads.
static struct oct_value *linear_output(struct oct_tree *tree, const struct oct_linear_plan *linear) {
    size_t n = (size_t)linear->num_weight_scales;
    float *products = oct_alloc(n, sizeof *products, "output scales");
    for (size_t i = 0; i < n; i++)
        products[i] = oct_scale_precision_round(linear->weight_rule.precision, linear->weight_scales[i] * linear->input_scale);
    struct oct_value *value = oct_tree_array(tree, linear->weight_rule.per_channel ? 1 : per_tensor_dims(linear), &n, products);
    free(products);
    return value;
}

static struct oct_value *output_of(struct oct_tree *tree, const struct oct_scale_method *method, const struct slots *slots,
                                   enum oct_module module, const struct oct_module_measurement *measured) {
    if (module == OCT_O_PROJ || module == OCT_DOWN_PROJ) { // row-parallel: of the sum over ranks
        return oct_tree_scalar(tree, oct_scale(&method->activation, measured && measured->outputs[0] > 0 ? measured->outputs[0] : 0));
    }
    if (slots->linear) return linear_output(tree, slots->linear);
    if (slots->output) return oct_tree_scalar(tree, *slots->output);
    if (slots->inputs[1]) // a product
        return oct_tree_scalar(tree, oct_scale_precision_round(method->activation.precision, *slots->inputs[0] * *slots->inputs[1]));
    return oct_tree_scalar(tree, *slots->inputs[0]); // a cache
}

static struct oct_value *node_of(struct oct_tree *tree, const struct oct_scale_method *method, const struct slots *slots,
                                 enum oct_module module, const struct oct_module_measurement *measured) {
    bool cache = module == OCT_K_CACHE || module == OCT_V_CACHE;
    struct oct_value *inputs = oct_tree_value(tree, slots->inputs[0] ? OCT_VALUE_LIST : OCT_VALUE_TUPLE); // as INC has them
    struct oct_value *outputs = oct_tree_value(tree, cache ? OCT_VALUE_LIST : OCT_VALUE_TUPLE);
    struct oct_value *params = oct_tree_value(tree, OCT_VALUE_DICT);
    for (int i = 0; i < MAX_SCALES; i++)
        if (slots->inputs[i]) oct_value_append(tree, inputs, oct_tree_scalar(tree, *slots->inputs[i]));
    oct_value_append(tree, outputs, output_of(tree, method, slots, module, measured));
    if (slots->linear) oct_dict_set(tree, params, oct_tree_key(tree, "weight"), weight_value(tree, slots->linear));
    struct oct_value *node = oct_tree_value(tree, OCT_VALUE_DICT);
    oct_dict_set(tree, node, oct_tree_key(tree, "inputs"), inputs);
    oct_dict_set(tree, node, oct_tree_key(tree, "outputs"), outputs);
    oct_dict_set(tree, node, oct_tree_key(tree, "params"), params);
    return node;
}

static struct oct_value *node_in_plan(struct oct_tree *tree, const struct oct_plan *plan, const struct oct_quant_config *config,
                                      const struct oct_measurement *measurement, enum oct_module module, int layer) {
    struct slots slots = slots_of((struct oct_plan *)plan, module, layer);
    OCT_CHECK(!slots.linear || slots.linear->weight_scales);
    return node_of(tree, oct_scale_config_method(&config->scales, module, layer), &slots, module, measured_of(measurement, module, layer));
}

struct oct_value *oct_plan_nodes(const struct oct_plan *plan, const struct oct_quant_config *config,
                                 const struct oct_measurement *measurement, struct oct_tree *tree) {
    struct oct_value *nodes = oct_tree_value(tree, OCT_VALUE_DICT);
    for (int i = 0; i < oct_module_count(plan->num_layers); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(plan->num_layers, i, &layer);
        oct_module_name(module, layer, name, sizeof name);
        if (*slots_of((struct oct_plan *)plan, module, layer).fp8)
            oct_dict_set(tree, nodes, oct_tree_string(tree, name), node_in_plan(tree, plan, config, measurement, module, layer));
    }
    return nodes;
}

// Whether the file's node still says what the plan has: only weight scales can differ, when the file was made for another weight.
static bool node_fits(const struct oct_value *node, const struct slots *slots) {
    if (!node || !slots->linear) return node;
    const struct oct_value *weight = oct_dict_get(oct_dict_get(node, "params"), "weight");
    if (weight && weight->kind == OCT_VALUE_DICT) weight = oct_dict_get_index(weight, 0);
    return oct_value_is_numbers(weight) && oct_array_size(weight) == (size_t)slots->linear->num_weight_scales;
}

static oct_status copy_nodes(const char *path, struct oct_tree *tree, const struct oct_value *from, struct oct_value *to, oct_error *err) {
    if (from && !oct_value_is_storable(from))
        return oct_fail(err, OCT_CORRUPT, "%s: \"Nodes\" holds what no scale file does: remove the file, and the scales are made again",
                        path);
    for (size_t i = 0; from && i + 1 < from->count; i += 2) oct_dict_set(tree, to, from->items[i], from->items[i + 1]);
    return OCT_OK;
}

static void replace_node(struct oct_tree *tree, struct oct_value *nodes, const char *name, struct oct_value *node) {
    for (size_t i = 0; i + 1 < nodes->count; i += 2) {
        if (!oct_value_is_string(nodes->items[i], name)) continue;
        nodes->items[i + 1] = node;
        return;
    }
    oct_dict_set(tree, nodes, oct_tree_string(tree, name), node);
}

oct_status oct_plan_write_scales(const struct oct_plan *plan, const struct oct_quant_config *config,
                                 const struct oct_measurement *measurement, oct_error *err) {
    if (!oct_quant_config_uses_files(config)) return OCT_OK;
    char *path = scale_file(config, ".npz"), *stem = scale_file(config, "");
    struct oct_tree tree = {0};
    const struct oct_value *cached;
    struct oct_value *nodes;
    oct_status status = read_cached(config, path, &tree, &cached, err);
    if (status != OCT_OK) goto out;
    struct oct_value *root = oct_node_file_new(&tree, 0, config->rank, "Scale", &nodes);
    bool changed = false;
    status = copy_nodes(path, &tree, cached, nodes, err);
    if (status != OCT_OK) goto out;
    for (int i = 0; i < oct_module_count(plan->num_layers); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(plan->num_layers, i, &layer);
        struct slots slots = slots_of((struct oct_plan *)plan, module, layer);
        oct_module_name(module, layer, name, sizeof name);
        if (!*slots.fp8 || node_fits(oct_dict_get(cached, name), &slots)) continue;
        replace_node(&tree, nodes, name, node_in_plan(&tree, plan, config, measurement, module, layer));
        changed = true;
    }
    if (changed) status = oct_node_file_write(stem, root, err);
out:
    oct_tree_free(&tree);
    free(path);
    free(stem);
    return status;
}
