// plain_plan.c: plans that follow from a flag alone, without configuration, measurement or scale file.
#include "quant/plan.h"

#include "base/memory.h"
#include "numeric/fp8.h"

struct oct_plan *oct_plan_new(int num_layers) {
    struct oct_plan *plan = oct_alloc(1, sizeof *plan, "a quantization plan");
    plan->arithmetic = OCT_VLLM_ARITHMETIC;
    plan->full_scale = OCT_E4M3_MAX;
    plan->num_layers = num_layers;
    plan->layers = oct_alloc((size_t)num_layers, sizeof *plan->layers, "a quantization plan");
    return plan;
}

struct oct_plan *oct_plan_fp8_weights(int num_layers) {
    const struct oct_linear_plan linear = {.fp8 = true, .weight_rule = {.per_channel = true, .arithmetic = OCT_VLLM_ARITHMETIC}};
    struct oct_plan *plan = oct_plan_new(num_layers);
    for (int i = 0; i < num_layers; i++)
        plan->layers[i] = (struct oct_layer_plan){.qkv_proj = linear, .o_proj = linear, .gate_up_proj = linear, .down_proj = linear};
    return plan;
}

void oct_plan_unit_scale_kv(struct oct_plan **plan, int num_layers, bool matmuls) {
    if (!*plan) *plan = oct_plan_new(num_layers);
    for (int i = 0; i < num_layers; i++)
        (*plan)->layers[i].attention = (struct oct_attention_plan){
            .k_cache = true,
            .v_cache = true,
            .matmul_qk = matmuls,
            .matmul_av = matmuls,
            .k_cache_scale = 1,
            .v_cache_scale = 1,
            .matmul_qk_scales = {1, 1},
            .matmul_av_scales = {1, 1},
        };
}
