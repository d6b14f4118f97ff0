// fp8_format.c: three dialects of quantization_config. Whatever they say that Octavo does not compute is refused by name.
#include "model/fp8_format.h"

#include "numeric/fp8.h"

#include <string.h>
#include <strings.h>

enum { LARGEST_BLOCK = 1 << 16 };

struct reader {
    const char *name;
    oct_error *err;
};

static oct_status fail(const struct reader *r, const char *key, const char *expected, const json_t *found) {
    const char *text = json_string_value(found);
    if (text)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: quantization_config: %s: %s expected, \"%.100s\" found", r->name, key, expected,
                        text);
    if (json_is_integer(found))
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: quantization_config: %s: %s expected, %lld found", r->name, key, expected,
                        (long long)json_integer_value(found));
    return oct_fail(r->err, OCT_UNSUPPORTED, "%s: quantization_config: %s: %s expected, %s found", r->name, key, expected,
                    found ? oct_json_kind(found) : "nothing");
}

static bool is_text(const json_t *value, const char *text) {
    const char *found = json_string_value(value);
    return found && !strcmp(found, text);
}

// Absent, null, or empty.
static bool is_nothing(const json_t *value) {
    return !value || json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0);
}

static oct_status read_block(const struct reader *r, const char *key, const json_t *value, struct oct_fp8_format *out) {
    json_int_t rows = json_integer_value(json_array_get(value, 0)), columns = json_integer_value(json_array_get(value, 1));
    // Blocks of columns are multiplied one after the other, from a multiple of 4 on.
    if (json_array_size(value) != 2 || rows < 1 || rows > LARGEST_BLOCK || columns < 4 || columns > LARGEST_BLOCK || columns % 4)
        return fail(r, key, "[rows, columns] of a block, columns a multiple of 4,", value);
    out->block_out = (int)rows;
    out->block_in = (int)columns;
    return OCT_OK;
}

// --- compressed-tensors -----------------------------------------------------------------------------------------------------------

// 8-bit symmetric floating point; `what` stands before the keys in messages.
static oct_status check_e4m3(const struct reader *r, const char *what, const json_t *scheme) {
    if (!json_is_object(scheme)) return fail(r, what, "an object", scheme);
    const json_t *bits = json_object_get(scheme, "num_bits"), *type = json_object_get(scheme, "type");
    const json_t *symmetric = json_object_get(scheme, "symmetric");
    if (json_integer_value(bits) != 8 || !is_text(type, "float"))
        return oct_fail(r->err, OCT_UNSUPPORTED,
                        "%s: quantization_config: %s: num_bits 8 and type \"float\" expected, %lld and \"%.100s\" found", r->name, what,
                        (long long)json_integer_value(bits), json_is_string(type) ? json_string_value(type) : "nothing");
    if (json_is_false(symmetric)) return fail(r, what, "symmetric true", symmetric);
    return OCT_OK;
}

static oct_status read_weights(const struct reader *r, const json_t *weights, struct oct_fp8_format *out) {
    OCT_TRY(check_e4m3(r, "weights", weights));
    const json_t *dynamic = json_object_get(weights, "dynamic"), *strategy = json_object_get(weights, "strategy");
    if (dynamic && !json_is_false(dynamic)) return fail(r, "weights: dynamic", "false", dynamic);
    if (is_text(strategy, "block")) return read_block(r, "weights: block_structure", json_object_get(weights, "block_structure"), out);
    if (is_text(strategy, "tensor") || is_text(strategy, "channel")) return OCT_OK;
    return fail(r, "weights: strategy", "\"tensor\", \"channel\" or \"block\"", strategy);
}

static oct_status read_activations(const struct reader *r, const json_t *activations, struct oct_fp8_format *out) {
    out->activation = OCT_ACTIVATION_BF16;
    if (is_nothing(activations)) return OCT_OK;
    OCT_TRY(check_e4m3(r, "input_activations", activations));
    const json_t *dynamic = json_object_get(activations, "dynamic"), *strategy = json_object_get(activations, "strategy");
    if (json_is_true(dynamic) && is_text(strategy, "token")) {
        out->activation = OCT_ACTIVATION_TOKEN;
        return OCT_OK;
    }
    if (json_is_true(dynamic) && is_text(strategy, "group")) {
        const json_t *size = json_object_get(activations, "group_size");
        if (json_integer_value(size) != out->block_in || !out->block_in)
            return fail(r, "input_activations: group_size", "the columns of a weight's block", size);
        out->activation = OCT_ACTIVATION_GROUP;
        return OCT_OK;
    }
    if (!json_is_true(dynamic) && is_text(strategy, "tensor") && !out->block_in) {
        out->activation = OCT_ACTIVATION_STATIC;
        return OCT_OK;
    }
    // A scale for all rows of a step would make a row's numbers depend on the rows beside it.
    return fail(r, "input_activations: strategy", "\"tensor\" (static), \"token\" (dynamic) or \"group\" (dynamic, with blocks of weights)",
                strategy);
}

static oct_status read_group(const struct reader *r, const json_t *group, struct oct_fp8_format *out) {
    const json_t *output = json_object_get(group, "output_activations");
    if (!is_nothing(output)) return fail(r, "output_activations", "null", output);
    OCT_TRY(read_weights(r, json_object_get(group, "weights"), out));
    return read_activations(r, json_object_get(group, "input_activations"), out);
}

static oct_status read_kv_scheme(const struct reader *r, const json_t *scheme, struct oct_fp8_format *out) {
    if (is_nothing(scheme)) return OCT_OK;
    OCT_TRY(check_e4m3(r, "kv_cache_scheme", scheme));
    const json_t *dynamic = json_object_get(scheme, "dynamic"), *strategy = json_object_get(scheme, "strategy");
    if (dynamic && !json_is_false(dynamic)) return fail(r, "kv_cache_scheme: dynamic", "false", dynamic);
    if (strategy && !is_text(strategy, "tensor")) return fail(r, "kv_cache_scheme: strategy", "\"tensor\"", strategy);
    out->kv_cache = true;
    return OCT_OK;
}

static oct_status read_compressed_tensors(const struct reader *r, const json_t *config, struct oct_fp8_format *out) {
    const json_t *format = json_object_get(config, "format"), *status = json_object_get(config, "quantization_status");
    const json_t *sparsity = json_object_get(config, "sparsity_config"), *transform = json_object_get(config, "transform_config");
    const json_t *groups = json_object_get(config, "config_groups");
    if (!is_text(format, "float-quantized") && !is_text(format, "naive-quantized"))
        return fail(r, "format", "\"float-quantized\" (FP8)", format);
    if (status && !is_text(status, "compressed")) return fail(r, "quantization_status", "\"compressed\"", status);
    if (!is_nothing(sparsity) && !is_text(json_object_get(sparsity, "format"), "dense"))
        return fail(r, "sparsity_config: format", "\"dense\"", json_object_get(sparsity, "format"));
    if (!is_nothing(transform)) return fail(r, "transform_config", "none", transform);
    if (json_object_size(groups) == 0) return fail(r, "config_groups", "an object with a group", groups);
    const char *key;
    json_t *group;
    bool first = true;
    json_object_foreach((json_t *)groups, key, group) {
        struct oct_fp8_format one = *out;
        OCT_TRY(read_group(r, group, &one));
        if (!first && (one.activation != out->activation || one.block_out != out->block_out || one.block_in != out->block_in))
            return fail(r, "config_groups", "groups of one scheme", groups);
        *out = one;
        first = false;
    }
    return read_kv_scheme(r, json_object_get(config, "kv_cache_scheme"), out);
}

// --- fp8 --------------------------------------------------------------------------------------------------------------------------

static oct_status read_fp8(const struct reader *r, const json_t *config, struct oct_fp8_format *out) {
    const json_t *scheme = json_object_get(config, "activation_scheme"), *block = json_object_get(config, "weight_block_size");
    const json_t *fmt = json_object_get(config, "fmt"), *scale_fmt = json_object_get(config, "scale_fmt");
    if (!is_nothing(fmt) && !is_text(fmt, "e4m3") && !is_text(fmt, "float8_e4m3fn")) return fail(r, "fmt", "\"e4m3\"", fmt);
    if (!is_nothing(scale_fmt) && !is_text(scale_fmt, "float")) return fail(r, "scale_fmt", "\"float\"", scale_fmt);
    if (!is_nothing(block)) OCT_TRY(read_block(r, "weight_block_size", block, out));
    out->kv_cache = !is_nothing(json_object_get(config, "kv_cache_scheme"));
    if (is_text(scheme, "static") && !out->block_in)
        out->activation = OCT_ACTIVATION_STATIC;
    else if (!scheme || is_text(scheme, "dynamic"))
        out->activation = out->block_in ? OCT_ACTIVATION_GROUP : OCT_ACTIVATION_TOKEN;
    else
        return fail(r, "activation_scheme", out->block_in ? "\"dynamic\", as weight_block_size is set," : "\"static\" or \"dynamic\"",
                    scheme);
    return OCT_OK;
}

// --- Intel Neural Compressor ------------------------------------------------------------------------------------------------------

static oct_status read_inc(const struct reader *r, const json_t *config, struct oct_fp8_format *out) {
    const json_t *world_size = json_object_get(config, "world_size"), *device = json_object_get(config, "device_for_scales");
    const json_t *fp8_config = json_object_get(config, "fp8_config"), *dynamic = json_object_get(config, "dynamic_quantization");
    const json_t *mode = json_object_get(config, "mode");
    if (mode && !is_text(mode, "LOAD")) return fail(r, "mode", "\"LOAD\"", mode);
    if (json_integer_value(world_size) > 1) return fail(r, "world_size", "at most 1 (a model saved from one card)", world_size);
    if (json_is_true(dynamic) || is_text(dynamic, "True")) return fail(r, "dynamic_quantization", "false", dynamic);
    if (!is_nothing(fp8_config) && !is_text(fp8_config, "E4M3")) return fail(r, "fp8_config", "\"E4M3\"", fp8_config);
    const char *card = json_string_value(device);
    if (card && !strcasecmp(card, "GAUDI2")) out->full_scale = OCT_E4M3_MAX_GAUDI2;
    out->activation = OCT_ACTIVATION_STATIC;
    return OCT_OK;
}

oct_status oct_fp8_format_parse(const char *name, const json_t *quantization_config, struct oct_fp8_format *out, oct_error *err) {
    const struct reader r = {name, err};
    *out = (struct oct_fp8_format){.full_scale = OCT_E4M3_MAX};
    const json_t *method = json_object_get(quantization_config, "quant_method");
    if (is_text(method, "compressed-tensors")) {
        out->method = OCT_FP8_COMPRESSED_TENSORS;
        return read_compressed_tensors(&r, quantization_config, out);
    }
    if (is_text(method, "fp8")) {
        out->method = OCT_FP8_FP8;
        return read_fp8(&r, quantization_config, out);
    }
    // INC writes its configuration as it is, which has no quant_method.
    if (is_text(method, "inc") || (!method && json_object_get(quantization_config, "fp8_config"))) {
        out->method = OCT_FP8_INC;
        return read_inc(&r, quantization_config, out);
    }
    return fail(&r, "quant_method", "\"compressed-tensors\", \"fp8\" or a configuration of INC", method);
}

const char *oct_fp8_method_name(enum oct_fp8_method method) {
    static const char *const names[] = {"none", "compressed-tensors", "fp8", "inc"};
    return names[method];
}

const char *oct_fp8_activation_name(enum oct_fp8_activation activation) {
    static const char *const names[] = {"bf16", "static", "per token", "per token and group"};
    return names[activation];
}
