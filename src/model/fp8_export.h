// fp8_export.h: a model that was quantized here as a checkpoint that vLLM loads: compressed-tensors' names and configuration.
#pragma once

#include "base/json.h"
#include "base/progress.h"
#include "model/checkpoint.h"
#include "model/llama.h"
#include "quant/plan.h"

struct oct_fp8_export {
    const struct oct_checkpoint *checkpoint; // the unquantized model
    const struct oct_llama *llama;           // the same on a device, loaded with `plan`
    const struct oct_plan *plan;             // its lm_head is not FP8: what vLLM reads has none
    // OCT_ACTIVATION_STATIC takes the plan's input scales; _TOKEN and _BF16 need none. K and V: where the plan has them in FP8.
    enum oct_fp8_activation activation;
};

// Writes model.safetensors at `path`: whole or not at all.
oct_status oct_fp8_export_weights(const struct oct_fp8_export *export, const char *path, const struct oct_progress *progress,
                                  oct_error *err);
// The value of "quantization_config" for config.json. The caller releases it.
json_t *oct_fp8_export_config(const struct oct_fp8_export *export);
// config.json of a model that has none, as Hugging Face's Llama reads it. The caller releases it.
json_t *oct_fp8_export_model_config(const struct oct_model_config *config);
