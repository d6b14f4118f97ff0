// kv.h: where K and V of a token lie. Per block and KV head, K is block_size / 32 panels (channels: 32 tokens; k: head_dim), so that
// q K^T is a tile product, and V is ceil(head_dim / 32) panels (channels: 32 of head_dim; k: the block's tokens), so that P V is one too.
#pragma once

#include "device/cpu/layout.h"
#include "device/device.h"

// Bytes of K, or of V, of one KV head in one block.
static inline size_t oct_k_head_bytes(const struct oct_kv_shape *shape, enum oct_dtype dtype) {
    return (size_t)(shape->block_size / OCT_PANEL) * oct_panel_bytes(dtype, oct_k_padded(shape->head_dim));
}

static inline size_t oct_v_head_bytes(const struct oct_kv_shape *shape, enum oct_dtype dtype) {
    return (size_t)oct_panels(shape->head_dim) * oct_panel_bytes(dtype, shape->block_size);
}

// The panel that holds K of 32 tokens from token `offset` of the block on; offset is a multiple of 32.
static inline char *oct_k_panel(const struct oct_kv_shape *shape, const struct oct_kv_layer *layer, int block, int head, int offset) {
    return (char *)layer->k +
           ((size_t)block * (size_t)shape->num_key_value_heads + (size_t)head) * oct_k_head_bytes(shape, layer->dtype_k) +
           (size_t)(offset / OCT_PANEL) * oct_panel_bytes(layer->dtype_k, oct_k_padded(shape->head_dim));
}

// The panel that holds 32 channels, from channel 32 * part on, of V of a whole block.
static inline char *oct_v_panel(const struct oct_kv_shape *shape, const struct oct_kv_layer *layer, int block, int head, int part) {
    return (char *)layer->v +
           ((size_t)block * (size_t)shape->num_key_value_heads + (size_t)head) * oct_v_head_bytes(shape, layer->dtype_v) +
           (size_t)part * oct_panel_bytes(layer->dtype_v, shape->block_size);
}
