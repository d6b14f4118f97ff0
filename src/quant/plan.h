// plan.h: the resolved decision for every module: bf16, or FP8 with these scales. Built once from QUANT_CONFIG and measurement;
// weight scales join when the loader has seen the weights. A scale is always the dequantization multiplier: x = q * scale.
#pragma once

#include "base/error.h"
#include "quant/measurement.h"
#include "quant/module.h"
#include "quant/quant_config.h"
#include "quant/scale_method.h"
#include "quant/value.h"
#include "quant/weight_search.h"

#include <stdbool.h>

struct oct_linear_plan {
    bool fp8;
    bool stored;       // the checkpoint's weight is FP8, and is taken with its scales; else it is rounded as it is loaded
    float input_scale; // of the activation, per tensor; 0 (and not dynamic): the weight alone is FP8, the activation stays bf16
    bool dynamic;      // scales of activations are made at run time, by activation_rule; input_scale is 0
    struct oct_scale_rule activation_rule;
    struct oct_scale_rule weight_rule; // how the weight's scales follow from its maxima
    float *weight_scales;  // (num_weight_scales); NULL until known: from a scale file, or set by oct_plan_set_weight_scales. Owned
    int num_weight_scales; // 1 per tensor, or one an output channel
    int in_features;       // of the weight, set by the loader: a per-channel scale file lists as many ones. 0: unknown
};

// Scales of the attention modules of a layer; each counts only where its flag is set.
struct oct_attention_plan {
    bool k_cache, v_cache, matmul_qk, matmul_av, softmax;
    float k_cache_scale, v_cache_scale;
    float matmul_qk_scales[2]; // q * head_dim^-0.5, and K
    float matmul_av_scales[2]; // probabilities, and V
    float softmax_scale;       // of its output
    // Modules that only a Gaudi runs: kept for the scale files.
    bool batch2block, block2batch, fused_sdpa;
    float batch2block_scales[2], block2batch_scales[2];  // the mapping, and the data
    float fused_sdpa_scales[4], fused_sdpa_output_scale; // q, k, v and probabilities
};

struct oct_layer_plan {
    struct oct_linear_plan qkv_proj, o_proj, gate_up_proj, down_proj;
    struct oct_attention_plan attention;
};

struct oct_plan {
    enum oct_arithmetic arithmetic; // of the inverses of its scales
    float full_scale;               // where FP8 saturates: 240 or 448 of E4M3, 57344 of E5M2
    int num_layers;
    struct oct_layer_plan *layers; // (num_layers) owned
    struct oct_linear_plan lm_head;
};

// An empty plan: nothing is FP8; vLLM's arithmetic, full scale 448.
struct oct_plan *oct_plan_new(int num_layers);
// Plans that need no files.
// `--quantization fp8`: the weights of the layers' linears are FP8, a scale for each output channel; lm_head and all activations stay
// bf16.
struct oct_plan *oct_plan_fp8_weights(int num_layers);
// FP8 K and V with scales of 1. matmuls: so is what attention multiplies them with; else that stays bf16. *plan NULL: a plan of nothing
// else is made.
void oct_plan_unit_scale_kv(struct oct_plan **plan, int num_layers, bool matmuls);

// Resolves the configuration: which modules are FP8, and the scales of their activations, from the scale file where it holds the module
// (unless recalc_scales), else from the measurement (NULL only for methods that need none). quantize_kv false: k_cache and v_cache stay
// bf16 (--kv-cache-dtype auto). A selected module without a measurement is an error that names it, unless
// ignore_modules_wo_measures leaves it in bf16. A scale of 0 (nothing but zeros was measured) becomes 1, whose inverse is a number.
oct_status oct_plan_build(const struct oct_quant_config *config, const struct oct_measurement *measurement, int num_layers,
                          bool quantize_kv, struct oct_plan **out, oct_error *err);
// Writes the scale files (JSON and NPZ) once all weight scales are known; does nothing when they hold all of this already, or when the
// scale method is fixed (UNIT_SCALE, HW_ALIGNED_SINGLE_SCALE). Modules in the files that the plan does not have stay there.
oct_status oct_plan_write_scales(const struct oct_plan *plan, const struct oct_quant_config *config,
                                 const struct oct_measurement *measurement, oct_error *err);

// What scale files hold of the plan, once all weight scales are known: a dict of nodes, lifetime of the tree.
struct oct_value *oct_plan_nodes(const struct oct_plan *plan, const struct oct_quant_config *config,
                                 const struct oct_measurement *measurement, struct oct_tree *tree);

// The plan of a linear module, NULL for the others.
struct oct_linear_plan *oct_plan_linear(struct oct_plan *plan, enum oct_module module, int layer);

// Computes and stores the weight scales of one linear from the maxima of its output rows: row_amax (out_features), each the exact
// max |w| of the row in the weight's own precision. Keeps those that a scale file gave, if their number fits.
void oct_plan_set_weight_scales(struct oct_linear_plan *linear, const float *row_amax, int out_features);

// A linear whose weight scales must be searched (weight_rule.value is OCT_SCALE_OPT) and are not known needs more than maxima: begin
// (NULL: no search is needed, call oct_plan_set_weight_scales), then all rows, then end, which frees the search.
struct oct_weight_search *oct_plan_search_begin(struct oct_linear_plan *linear, int out_features);
void oct_plan_search_end(struct oct_linear_plan *linear, struct oct_weight_search *search, int out_features);

void oct_plan_free(struct oct_plan *plan);
