// mixture.h: a model whose modules come from two: each from the plain one or from its quantized copy, switched without loading anything.
// What is switched as one is called a unit: a linear, or the attention of a layer with its cache (qk and av products, softmax, K and V),
// whose parts share scales.
#pragma once

#include "cli/session.h"
#include "quant/plan.h"

enum { OCT_UNITS_OF_LAYER = 5 }; // in the order of computation: qkv_proj, attention, o_proj, gate_up_proj, down_proj

static inline int oct_unit_count(int num_layers) {
    return num_layers * OCT_UNITS_OF_LAYER + 1; // the last is lm_head
}
// The module of a unit, its layer into *layer. The attention is OCT_MATMUL_QK.
enum oct_module oct_unit_module(int num_layers, int unit, int *layer);
// "model.layers.3.mlp.down_proj", "model.layers.3.self_attn.attn.impl" or "lm_head" into name[size]. Returns name.
const char *oct_unit_name(int num_layers, int unit, char *name, size_t size);
// Whether the plan has anything of the unit in FP8.
bool oct_unit_is_planned(const struct oct_plan *plan, int unit);

struct oct_mixture {
    const struct oct_runner *plain, *quantized; // borrowed: same model, same numbers of rows, sequences and positions
    struct oct_llama llama;                     // the plain one's, but for its layers. Layers owned
    struct oct_kv_cache cache;                  // layers owned, their blocks borrowed
    struct oct_runner runner;                   // runs it, in the plain one's buffers
};

// All units plain.
void oct_mixture_open(const struct oct_runner *plain, const struct oct_runner *quantized, struct oct_mixture *out);
void oct_mixture_close(struct oct_mixture *mixture);
void oct_mixture_set(struct oct_mixture *mixture, int unit, bool quantized);
