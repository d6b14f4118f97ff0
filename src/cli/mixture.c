// mixture.c: layers are structs of linears and of KV blocks; a mixture has its own structs, and takes what they point to from either model.
#include "cli/mixture.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum oct_module units[OCT_UNITS_OF_LAYER] = {OCT_QKV_PROJ, OCT_MATMUL_QK, OCT_O_PROJ, OCT_GATE_UP_PROJ, OCT_DOWN_PROJ};

enum oct_module oct_unit_module(int num_layers, int unit, int *layer) {
    *layer = unit / OCT_UNITS_OF_LAYER;
    return *layer == num_layers ? OCT_LM_HEAD : units[unit % OCT_UNITS_OF_LAYER];
}

const char *oct_unit_name(int num_layers, int unit, char *name, size_t size) {
    int layer;
    enum oct_module module = oct_unit_module(num_layers, unit, &layer);
    oct_module_name(module, layer, name, size);
    if (module == OCT_MATMUL_QK) *strrchr(name, '.') = '\0';
    return name;
}

bool oct_unit_is_planned(const struct oct_plan *plan, int unit) {
    int layer;
    enum oct_module module = oct_unit_module(plan->num_layers, unit, &layer);
    const struct oct_linear_plan *linear = oct_plan_linear((struct oct_plan *)plan, module, layer);
    if (linear) return linear->fp8;
    const struct oct_attention_plan *attention = &plan->layers[layer].attention;
    return attention->k_cache || attention->v_cache || attention->matmul_qk || attention->matmul_av || attention->softmax;
}

void oct_mixture_open(const struct oct_runner *plain, const struct oct_runner *quantized, struct oct_mixture *out) {
    OCT_CHECK(plain->max_rows == quantized->max_rows && plain->cache->shape.num_blocks == quantized->cache->shape.num_blocks);
    size_t layers = (size_t)plain->llama->config.num_hidden_layers;
    *out = (struct oct_mixture){.plain = plain, .quantized = quantized, .llama = *plain->llama, .cache = *plain->cache, .runner = *plain};
    out->llama.layers = oct_alloc(layers, sizeof *out->llama.layers, "a mixed model");
    memcpy(out->llama.layers, plain->llama->layers, layers * sizeof *out->llama.layers);
    out->cache.layers = oct_alloc(layers, sizeof *out->cache.layers, "a mixed model");
    memcpy(out->cache.layers, plain->cache->layers, layers * sizeof *out->cache.layers);
    out->runner.llama = &out->llama;
    out->runner.cache = &out->cache;
}

void oct_mixture_close(struct oct_mixture *mixture) {
    free(mixture->llama.layers);
    free(mixture->cache.layers);
    *mixture = (struct oct_mixture){0};
}

void oct_mixture_set(struct oct_mixture *mixture, int unit, bool quantized) {
    const struct oct_runner *from = quantized ? mixture->quantized : mixture->plain;
    int layer;
    enum oct_module module = oct_unit_module(mixture->llama.config.num_hidden_layers, unit, &layer);
    if (module == OCT_LM_HEAD) {
        mixture->llama.lm_head = from->llama->lm_head;
        return;
    }
    struct oct_llama_layer *to = &mixture->llama.layers[layer];
    const struct oct_llama_layer *source = &from->llama->layers[layer];
    switch (module) {
    case OCT_QKV_PROJ:
        to->qkv_proj = source->qkv_proj;
        return;
    case OCT_O_PROJ:
        to->o_proj = source->o_proj;
        return;
    case OCT_GATE_UP_PROJ:
        to->gate_up_proj = source->gate_up_proj;
        return;
    case OCT_DOWN_PROJ:
        to->down_proj = source->down_proj;
        return;
    default:
        mixture->cache.layers[layer] = from->cache->layers[layer];
    }
}
