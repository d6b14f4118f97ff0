// llama.h: a Llama-family model on a device: its weights, its KV blocks, and the forward pass over a batch.
#pragma once

#include "base/error.h"
#include "base/progress.h"
#include "device/device.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "quant/observer.h"
#include "quant/plan.h"

struct oct_llama_layer {
    float *input_layernorm;          // (hidden_size)
    struct oct_linear qkv_proj;      // ((heads + 2 kv_heads) * head_dim, hidden_size): q rows, k rows, v rows
    struct oct_linear o_proj;        // (hidden_size, heads * head_dim)
    float *post_attention_layernorm; // (hidden_size)
    struct oct_linear gate_up_proj;  // (2 * intermediate_size, hidden_size): gate rows, up rows
    struct oct_linear down_proj;     // (hidden_size, intermediate_size)
};

struct oct_llama {
    struct oct_model_config config;
    struct oct_device *device;            // borrowed; outlives the model
    enum oct_dtype compute;               // OCT_F32 or OCT_BF16: what the plan leaves unquantized
    struct oct_linear embed_tokens;       // (vocab_size, hidden_size)
    struct oct_llama_layer *layers;       // (num_hidden_layers)
    float *norm;                          // (hidden_size)
    bool tied;                            // lm_head shares embed_tokens' memory
    struct oct_linear lm_head;            // (vocab_size, hidden_size)
    struct oct_attention_plan *attention; // (num_hidden_layers)
    enum oct_arithmetic arithmetic;       // of the scales of K and V
    float full_scale;
    float *cos_sin; // (max_positions, head_dim)
    int max_positions;
    size_t weight_bytes;   // on the device
    struct oct_workspace { // buffers of a step, allocated when the model opens
        int max_rows, max_logit_rows;
        float *hidden, *normed, *qkv, *attention, *gate_up, *activated, *logit_hidden; // (max_rows, ...)
    } workspace;
};

struct oct_llama_options {
    enum oct_dtype compute; // OCT_F32 or OCT_BF16
    struct oct_plan *plan;  // NULL: nothing is quantized. Receives the weight scales as weights are seen; must outlive loading only
    int max_positions;      // longest sequence
    int max_rows;           // rows of a batch
    int max_logit_rows;
    const struct oct_progress *progress;
    // Told of every linear's weight as it is loaded; NULL: nobody. Used when measuring.
    void (*on_weight)(void *context, enum oct_module module, int layer, const struct oct_seen_weight *seen);
    void *on_weight_context;
};

// Loads tensor by tensor: decode, quantize, pack, drop the file's pages. Peak memory is the packed model plus one tensor.
oct_status oct_llama_open(const struct oct_checkpoint *checkpoint, struct oct_device *device, const struct oct_llama_options *options,
                          struct oct_llama **out, oct_error *err);
void oct_llama_close(struct oct_llama *llama);

// KV blocks of all layers.
struct oct_kv_cache {
    struct oct_kv_shape shape;
    int num_layers;
    struct oct_kv_layer *layers; // (num_layers)
    size_t bytes;
    struct oct_device *device;
};
// Bytes that one block takes over all layers.
size_t oct_kv_cache_block_bytes(const struct oct_llama *llama, int block_size);
oct_status oct_kv_cache_open(const struct oct_llama *llama, int block_size, int num_blocks, struct oct_kv_cache **out, oct_error *err);
void oct_kv_cache_close(struct oct_kv_cache *cache);
// Makes the system give all of its memory now, not in the middle of an answer. The blocks must not be in use.
void oct_kv_cache_touch(struct oct_kv_cache *cache);

// One step: writes K and V of every row, and logits (num_logit_rows, vocab_size), float32. Positions, tokens and blocks must be in range
// (the caller is the scheduler; checked by assertion). observer may be NULL.
void oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                       const struct oct_observer *observer);
