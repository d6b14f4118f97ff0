// stored_fp8.c: scale tensors by the names that each format gives them. A checkpoint is hostile until every scale has been looked at:
// a wrong one would not crash, but answer nonsense.
#include "model/stored_fp8.h"

#include "base/log.h"
#include "base/memory.h"
#include "numeric/fp8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const char *path; // of the checkpoint, for messages
    const struct oct_checkpoint *checkpoint;
    const struct oct_fp8_format *format;
    oct_error *err;
};

static struct reader reader_of(const struct oct_checkpoint *checkpoint, oct_error *err) {
    return (struct reader){oct_checkpoint_path(checkpoint), checkpoint, &oct_checkpoint_config(checkpoint)->fp8, err};
}

// The first of the suffixes (ends with NULL) that the module `base` has a tensor for; NULL: none.
static const struct oct_tensor *find_first(const struct reader *r, const char *base, const char *const *suffixes) {
    for (; *suffixes; suffixes++) {
        char name[512];
        snprintf(name, sizeof name, "%s%s", base, *suffixes);
        const struct oct_tensor *tensor = oct_checkpoint_find(r->checkpoint, name);
        if (tensor) return tensor;
    }
    return NULL;
}

static int64_t count_of(const struct oct_tensor *tensor) {
    return oct_tensor_rows(tensor) * oct_tensor_columns(tensor);
}

static oct_status check_scale(const struct reader *r, const struct oct_tensor *tensor, float scale) {
    if (scale > 0 && isfinite(scale) && isfinite(1 / scale)) return OCT_OK;
    return oct_fail(r->err, OCT_CORRUPT, "%s: tensor %s: positive, finite scales expected, %g found", r->path, tensor->name, scale);
}

// One scale of a whole tensor: of any shape, as long as it is one number.
static oct_status read_scalar(const struct reader *r, const struct oct_tensor *tensor, float *out) {
    if (count_of(tensor) != 1)
        return oct_fail(r->err, OCT_CORRUPT, "%s: tensor %s: one scale expected, %lld numbers found", r->path, tensor->name,
                        (long long)count_of(tensor));
    oct_tensor_rows_f32(tensor, 0, 1, out);
    return check_scale(r, tensor, *out);
}

// --- weights ----------------------------------------------------------------------------------------------------------------------

static const char *const weight_scale_names[] = {".weight_scale", ".weight_scale_inv", ".scale_weight", NULL};
static const char *const input_scale_names[] = {".input_scale", ".scale_input", NULL};

int oct_stored_k_blocks(const struct oct_fp8_format *format, int in_features) {
    return format->block_in ? (in_features + format->block_in - 1) / format->block_in : 1;
}

// "model.layers.3.mlp.up_proj" of "model.layers.3.mlp.up_proj.weight".
static void base_of(const struct oct_tensor *weight, char *base) {
    size_t length = strlen(weight->name) - strlen(".weight");
    memcpy(base, weight->name, length);
    base[length] = '\0';
}

// Rows and columns of a weight that one of its scales covers.
static oct_status scale_blocks(const struct reader *r, const struct oct_tensor *weight, const struct oct_tensor *scales, int64_t *block_out,
                               int64_t *block_in) {
    int64_t outs = oct_tensor_rows(weight), ins = oct_tensor_columns(weight), n = count_of(scales);
    if (r->format->block_out) {
        *block_out = r->format->block_out;
        *block_in = r->format->block_in;
        int64_t rows = (outs + *block_out - 1) / *block_out, columns = (ins + *block_in - 1) / *block_in;
        if (scales->num_dims == 2 && scales->shape[0] == rows && scales->shape[1] == columns) return OCT_OK;
        return oct_fail(r->err, OCT_CORRUPT, "%s: tensor %s: shape [%lld, %lld] expected (blocks of %lld x %lld), %lld numbers found",
                        r->path, scales->name, (long long)rows, (long long)columns, (long long)*block_out, (long long)*block_in,
                        (long long)n);
    }
    bool one_of_many = scales->num_dims >= 1 && (scales->shape[0] == outs || scales->shape[scales->num_dims - 1] == outs);
    *block_in = ins;
    *block_out = n == 1 ? outs : 1;
    if (n == 1 || (n == outs && one_of_many)) return OCT_OK;
    return oct_fail(r->err, OCT_CORRUPT, "%s: tensor %s: 1 scale, or %lld (one for each row of the weight), expected, %lld found", r->path,
                    scales->name, (long long)outs, (long long)n);
}

oct_status oct_stored_weight_scales(const struct oct_checkpoint *checkpoint, const struct oct_tensor *weight, int row_stride, float *scales,
                                    oct_error *err) {
    struct reader r = reader_of(checkpoint, err);
    char base[OCT_PART_NAME];
    base_of(weight, base);
    const struct oct_tensor *tensor = find_first(&r, base, weight_scale_names);
    if (!tensor)
        return oct_fail(err, OCT_NOT_FOUND, "%s: tensor %s is FP8: a tensor %s.weight_scale expected, none found", r.path, weight->name,
                        base);
    int64_t block_out, block_in, outs = oct_tensor_rows(weight), ins = oct_tensor_columns(weight);
    OCT_TRY(scale_blocks(&r, weight, tensor, &block_out, &block_in));
    int64_t k_blocks = (ins + block_in - 1) / block_in, count = count_of(tensor);
    float *stored = oct_alloc((size_t)count, sizeof *stored, "weight scales");
    oct_tensor_rows_f32(tensor, 0, oct_tensor_rows(tensor), stored);
    oct_status status = OCT_OK;
    for (int64_t i = 0; i < count && status == OCT_OK; i++) status = check_scale(&r, tensor, stored[i]);
    for (int64_t row = 0; row < outs; row++)
        for (int64_t k = 0; k < k_blocks; k++) scales[k * row_stride + row] = stored[row / block_out * k_blocks + k];
    free(stored);
    return status;
}

// Rows of zeros have a scale too; vLLM's floors.
static const float token_floor = 1 / (448.0f * 512), group_floor = 1e-10f / 448;

static void row_scale(const void *rule, float amax, float *scale, float *inv_scale) {
    float floor = *(const float *)rule;
    *scale = amax / OCT_E4M3_MAX;
    if (*scale < floor) *scale = floor; // NaN stays
    *inv_scale = 1 / *scale;
}

void oct_stored_row_scales(const struct oct_fp8_format *format, struct oct_linear *linear) {
    if (format->activation != OCT_ACTIVATION_TOKEN && format->activation != OCT_ACTIVATION_GROUP) return;
    float *floor = oct_alloc(1, sizeof *floor, "the rule of a scale");
    *floor = format->activation == OCT_ACTIVATION_TOKEN ? token_floor : group_floor;
    linear->row_scale = row_scale;
    linear->row_scale_rule = floor;
}

// --- the plan ---------------------------------------------------------------------------------------------------------------------

static oct_status plan_linear(const struct reader *r, enum oct_module module, int layer, struct oct_linear_plan *plan) {
    char names[OCT_MAX_PARTS][OCT_PART_NAME], name[OCT_PART_NAME];
    if (module == OCT_LM_HEAD && oct_checkpoint_config(r->checkpoint)->tie_word_embeddings) return OCT_OK; // the embedding is used
    int count = oct_module_parts(module, layer, names), fp8 = 0;
    for (int i = 0; i < count; i++) {
        const struct oct_tensor *weight = find_first(r, names[i], (const char *const[]){".weight", NULL});
        if (weight && weight->dtype == OCT_E4M3) fp8++;
    }
    if (fp8 == 0) return OCT_OK;
    if (fp8 != count)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: all of its weights in FP8 expected, or none, %d of %d found",
                        oct_module_name(module, layer, name, sizeof name), fp8, count);
    plan->fp8 = plan->stored = true;
    if (r->format->activation != OCT_ACTIVATION_STATIC) return OCT_OK;
    for (int i = 0; i < count; i++) {
        const struct oct_tensor *tensor = find_first(r, names[i], input_scale_names);
        float scale;
        if (!tensor)
            return oct_fail(r->err, OCT_NOT_FOUND, "%s: static activations: a tensor %s.input_scale expected, none found",
                            oct_module_name(module, layer, name, sizeof name), names[i]);
        OCT_TRY(read_scalar(r, tensor, &scale));
        if (scale > plan->input_scale) plan->input_scale = scale;
    }
    return OCT_OK;
}

// A scale under one of its names in a layer; *found false: the checkpoint has none.
static oct_status read_layer_scale(const struct reader *r, int layer, const char *const *suffixes, bool *found, float *out) {
    char base[OCT_PART_NAME];
    snprintf(base, sizeof base, "model.layers.%d", layer);
    const struct oct_tensor *tensor = find_first(r, base, suffixes);
    *found = tensor != NULL;
    return tensor ? read_scalar(r, tensor, out) : OCT_OK;
}

// Names under which tools have stored the scale of K and of V, newest first; the last but INC's is one for both.
static const char *const k_scale_names[] = {".self_attn.k_scale",
                                            ".self_attn.attn.k_scale",
                                            ".self_attn.k_proj.k_scale",
                                            ".self_attn.k_proj.output_scale",
                                            ".self_attn.kv_scale",
                                            ".self_attn.k_cache.dequant_output.scale",
                                            NULL};
static const char *const v_scale_names[] = {".self_attn.v_scale",
                                            ".self_attn.attn.v_scale",
                                            ".self_attn.v_proj.v_scale",
                                            ".self_attn.v_proj.output_scale",
                                            ".self_attn.kv_scale",
                                            ".self_attn.v_cache.dequant_output.scale",
                                            NULL};

bool oct_stored_has_fp8_kv(const struct oct_checkpoint *checkpoint) {
    struct reader r = reader_of(checkpoint, NULL);
    if (r.format->kv_cache) return true;
    // INC's configuration does not tell; its scales do.
    return r.format->method == OCT_FP8_INC && find_first(&r, "model.layers.0", k_scale_names) != NULL;
}

static oct_status plan_kv(const struct reader *r, struct oct_plan *plan) {
    int missing = 0;
    for (int layer = 0; layer < plan->num_layers; layer++) {
        struct oct_attention_plan *attention = &plan->layers[layer].attention;
        bool k_found, v_found;
        attention->k_cache = attention->v_cache = true;
        attention->k_cache_scale = attention->v_cache_scale = 1;
        OCT_TRY(read_layer_scale(r, layer, k_scale_names, &k_found, &attention->k_cache_scale));
        OCT_TRY(read_layer_scale(r, layer, v_scale_names, &v_found, &attention->v_cache_scale));
        missing += !k_found + !v_found;
    }
    if (missing && r->format->kv_cache)
        oct_log(OCT_LOG_WARNING, "the checkpoint lacks %d of %d scales of K and V: 1 is taken", missing, 2 * plan->num_layers);
    return OCT_OK;
}

oct_status oct_stored_plan(const struct oct_checkpoint *checkpoint, bool fp8_kv, struct oct_plan **out, oct_error *err) {
    struct reader r = reader_of(checkpoint, err);
    struct oct_plan *plan = oct_plan_new(oct_checkpoint_config(checkpoint)->num_hidden_layers);
    plan->full_scale = r.format->full_scale;
    plan->arithmetic = r.format->method == OCT_FP8_INC ? OCT_INC_ARITHMETIC : OCT_VLLM_ARITHMETIC;
    oct_status status = OCT_OK;
    for (int i = 0; i < oct_module_count(plan->num_layers) && status == OCT_OK; i++) {
        int layer;
        enum oct_module module = oct_module_at(plan->num_layers, i, &layer);
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (linear) status = plan_linear(&r, module, layer, linear);
    }
    if (status == OCT_OK && fp8_kv) status = plan_kv(&r, plan);
    if (status != OCT_OK) {
        oct_plan_free(plan);
        return status;
    }
    *out = plan;
    return OCT_OK;
}
