// fp8_format.h: what config.json's quantization_config says about weights that are stored as FP8: which of three formats names their scale
// tensors, and what activations are rounded to. Which weights are FP8 is told by the tensors themselves.
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>

enum oct_fp8_method {
    OCT_FP8_NONE,               // no quantization_config
    OCT_FP8_COMPRESSED_TENSORS, // llm-compressor's: X.weight_scale, X.input_scale
    OCT_FP8_FP8,                // "fp8": the same names, or X.weight_scale_inv for blocks
    OCT_FP8_INC,                // Intel Neural Compressor's saved model: X.scale_weight, X.scale_input; weights lie as (in, out)
};

enum oct_fp8_activation {
    OCT_ACTIVATION_BF16,   // weights alone are FP8
    OCT_ACTIVATION_STATIC, // one scale, stored
    OCT_ACTIVATION_TOKEN,  // a scale for each row, made at run time
    OCT_ACTIVATION_GROUP,  // a scale for each row and group of block_in inputs, made at run time
};

struct oct_fp8_format {
    enum oct_fp8_method method;
    enum oct_fp8_activation activation;
    int block_out, block_in; // rows and columns of a weight that share a scale; 0: one per tensor or per row, as the scale's shape tells
    bool kv_cache;           // K and V are FP8 too; INC's does not say
    float full_scale;        // 240 or 448: where encoders saturate
};

// `name` stands in messages for the file.
oct_status oct_fp8_format_parse(const char *name, const json_t *quantization_config, struct oct_fp8_format *out, oct_error *err);
// "compressed-tensors", "fp8", "inc"; "none".
const char *oct_fp8_method_name(enum oct_fp8_method method);
// "bf16", "static", "per token", "per token and group".
const char *oct_fp8_activation_name(enum oct_fp8_activation activation);
