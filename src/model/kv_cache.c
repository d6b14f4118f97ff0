// kv_cache.c: the KV blocks of all layers, in the formats that the plan gives them.
#include "model/llama.h"

#include "base/memory.h"
#include "numeric/fp8.h"

#include <stdlib.h>

static struct oct_rounding rounding(const struct oct_llama *llama, bool fp8, float scale) {
    if (!fp8) return (struct oct_rounding){.scale = 1, .inv_scale = 1};
    return (struct oct_rounding){.fp8 = true, .scale = scale, .inv_scale = oct_inv_scale_in(llama->arithmetic, scale)};
}

// What is stored is what the product will read: FP8 as soon as the cache or the matmul is planned, with the scale of the last rounding.
static struct oct_kv_layer layer_of(const struct oct_llama *llama, int index) {
    const struct oct_attention_plan *plan = &llama->attention[index];
    bool k_fp8 = plan->k_cache || plan->matmul_qk, v_fp8 = plan->v_cache || plan->matmul_av;
    enum oct_dtype fp8 = llama->full_scale > OCT_E4M3_MAX ? OCT_BF16 : OCT_E4M3; // bf16 holds E5M2
    // Rounding a rounded number to the same scale changes nothing, so the matmul's rounding alone will do.
    bool softmax = plan->softmax && !(plan->matmul_av && plan->matmul_av_scales[0] == plan->softmax_scale);
    return (struct oct_kv_layer){
        .dtype_k = k_fp8 ? fp8 : llama->compute,
        .dtype_v = v_fp8 ? fp8 : llama->compute,
        .scale_k = plan->matmul_qk ? plan->matmul_qk_scales[1]
                   : plan->k_cache ? plan->k_cache_scale
                                   : 1,
        .scale_v = plan->matmul_av ? plan->matmul_av_scales[1]
                   : plan->v_cache ? plan->v_cache_scale
                                   : 1,
        .k_cache = rounding(llama, plan->k_cache, plan->k_cache_scale),
        .v_cache = rounding(llama, plan->v_cache, plan->v_cache_scale),
        .matmul_k = rounding(llama, plan->matmul_qk, plan->matmul_qk_scales[1]),
        .matmul_v = rounding(llama, plan->matmul_av, plan->matmul_av_scales[1]),
        .matmul_q = rounding(llama, plan->matmul_qk, plan->matmul_qk_scales[0]),
        .softmax = rounding(llama, softmax, plan->softmax_scale),
        .matmul_p = rounding(llama, plan->matmul_av, plan->matmul_av_scales[0]),
        .full_scale = llama->full_scale,
    };
}

static struct oct_kv_shape shape_of(const struct oct_llama *llama, int block_size, int num_blocks) {
    return (struct oct_kv_shape){llama->config.num_key_value_heads, llama->config.head_dim, block_size, num_blocks};
}

size_t oct_kv_cache_block_bytes(const struct oct_llama *llama, int block_size) {
    struct oct_kv_shape shape = shape_of(llama, block_size, 1);
    size_t bytes = 0;
    for (int i = 0; i < llama->config.num_hidden_layers; i++) {
        struct oct_kv_layer layer = layer_of(llama, i);
        bytes += oct_kv_bytes(&shape, layer.dtype_k) + oct_kv_bytes(&shape, layer.dtype_v);
    }
    return bytes;
}

oct_status oct_kv_cache_open(const struct oct_llama *llama, int block_size, int num_blocks, struct oct_kv_cache **out, oct_error *err) {
    OCT_CHECK(block_size > 0 && block_size % 32 == 0 && num_blocks > 0);
    struct oct_kv_cache *cache = oct_alloc(1, sizeof *cache, "the KV cache");
    cache->shape = shape_of(llama, block_size, num_blocks);
    cache->num_layers = llama->config.num_hidden_layers;
    cache->device = llama->device;
    cache->layers = oct_alloc((size_t)cache->num_layers, sizeof *cache->layers, "the KV cache");
    for (int i = 0; i < cache->num_layers; i++) {
        struct oct_kv_layer *layer = &cache->layers[i];
        *layer = layer_of(llama, i);
        size_t k_bytes = oct_kv_bytes(&cache->shape, layer->dtype_k), v_bytes = oct_kv_bytes(&cache->shape, layer->dtype_v);
        oct_status status = oct_device_alloc(llama->device, k_bytes, "KV blocks", &layer->k, err);
        if (status == OCT_OK) status = oct_device_alloc(llama->device, v_bytes, "KV blocks", &layer->v, err);
        if (status != OCT_OK) {
            oct_kv_cache_close(cache);
            return status;
        }
        cache->bytes += k_bytes + v_bytes;
    }
    *out = cache;
    return OCT_OK;
}

void oct_kv_cache_close(struct oct_kv_cache *cache) {
    if (!cache) return;
    for (int i = 0; i < cache->num_layers; i++) {
        struct oct_kv_layer *layer = &cache->layers[i];
        oct_device_free(cache->device, layer->k);
        oct_device_free(cache->device, layer->v);
    }
    free(cache->layers);
    free(cache);
}

enum { PAGE = 4096 };

static void touch_layers(void *context, int worker, int begin, int end) {
    (void)worker;
    const struct oct_kv_cache *cache = context;
    for (int i = begin; i < end; i++) {
        const struct oct_kv_layer *layer = &cache->layers[i];
        volatile char *k = layer->k, *v = layer->v;
        for (size_t at = 0; at < oct_kv_bytes(&cache->shape, layer->dtype_k); at += PAGE) k[at] = 0;
        for (size_t at = 0; at < oct_kv_bytes(&cache->shape, layer->dtype_v); at += PAGE) v[at] = 0;
    }
}

void oct_kv_cache_touch(struct oct_kv_cache *cache) {
    oct_parallel_for(cache->device, cache->num_layers, 1, touch_layers, cache);
}
