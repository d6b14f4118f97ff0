// llama.c: the forward pass of a Llama model over a batch of rows from several sequences. One function, read top to bottom. The residual
// stream and everything between matrix products is float32; what enters a product is rounded by the linear or by attention itself, to
// the format its weights or blocks have.
#include "model/llama.h"

#include "base/error.h"

#include <math.h>

// Tells the observer max |x| of a tensor at a module boundary.
static void see(const struct oct_observer *observer, struct oct_device *device, enum oct_module module, int layer, enum oct_port port,
                const float *x, int rows, int columns, int stride) {
    if (observer) observer->see(observer->context, module, layer, port, oct_amax(device, x, rows, columns, stride));
}

// hidden += linear(x). The sum is fused into the product unless somebody wants to see the product alone.
static void add_linear(const struct oct_observer *observer, struct oct_device *device, enum oct_module module, int layer,
                       const struct oct_linear *linear, const float *x, int rows, float *hidden, float *product) {
    see(observer, device, module, layer, OCT_INPUT0, x, rows, linear->in_features, linear->in_features);
    if (!observer) {
        oct_linear_forward(device, linear, x, rows, hidden, true);
        return;
    }
    oct_linear_forward(device, linear, x, rows, product, false);
    see(observer, device, module, layer, OCT_OUTPUT0, product, rows, linear->out_features, linear->out_features);
    oct_add(device, product, (size_t)rows * (size_t)linear->out_features, hidden);
}

// What attention's modules take in: q (scaled as in the product), k and v, as parts of the qkv rows.
static void see_attention(const struct oct_observer *observer, struct oct_device *device, const struct oct_model_config *config, int layer,
                          const float *qkv, int rows) {
    if (!observer) return;
    int q = config->num_attention_heads * config->head_dim, kv = config->num_key_value_heads * config->head_dim, stride = q + 2 * kv;
    float q_amax = oct_amax(device, qkv, rows, q, stride) / sqrtf((float)config->head_dim);
    float k_amax = oct_amax(device, qkv + q, rows, kv, stride), v_amax = oct_amax(device, qkv + q + kv, rows, kv, stride);
    observer->see(observer->context, OCT_MATMUL_QK, layer, OCT_INPUT0, q_amax);
    observer->see(observer->context, OCT_MATMUL_QK, layer, OCT_INPUT1, k_amax);
    observer->see(observer->context, OCT_K_CACHE, layer, OCT_INPUT0, k_amax);
    observer->see(observer->context, OCT_V_CACHE, layer, OCT_INPUT0, v_amax);
    observer->see(observer->context, OCT_MATMUL_AV, layer, OCT_INPUT1, v_amax);
}

static void check_batch(const struct oct_llama *llama, const struct oct_batch *batch) {
    OCT_CHECK(batch->num_rows > 0 && batch->num_rows <= llama->workspace.max_rows);
    OCT_CHECK(batch->num_logit_rows >= 0 && batch->num_logit_rows <= llama->workspace.max_logit_rows);
    OCT_CHECK(batch->row_starts[0] == 0 && batch->row_starts[batch->num_seqs] == batch->num_rows);
    for (int row = 0; row < batch->num_rows; row++) {
        OCT_CHECK(batch->tokens[row] >= 0 && batch->tokens[row] < llama->config.vocab_size);
        OCT_CHECK(batch->positions[row] >= 0 && batch->positions[row] < llama->max_positions);
    }
}

void oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                       const struct oct_observer *observer) {
    const struct oct_model_config *config = &llama->config;
    const struct oct_workspace *w = &llama->workspace;
    struct oct_device *device = llama->device;
    int rows = batch->num_rows, hidden_size = config->hidden_size;
    int num_heads = config->num_attention_heads, num_kv_heads = config->num_key_value_heads, head_dim = config->head_dim;
    check_batch(llama, batch);

    oct_embed(device, &llama->embed_tokens, batch->tokens, rows, w->hidden);

    for (int i = 0; i < config->num_hidden_layers; i++) {
        const struct oct_llama_layer *layer = &llama->layers[i];
        const struct oct_kv_layer *kv = &cache->layers[i];

        oct_rms_norm(device, w->hidden, layer->input_layernorm, rows, hidden_size, config->rms_norm_eps, w->normed);
        see(observer, device, OCT_QKV_PROJ, i, OCT_INPUT0, w->normed, rows, hidden_size, hidden_size);
        oct_linear_forward(device, &layer->qkv_proj, w->normed, rows, w->qkv, false);
        oct_rope(device, w->qkv, batch->positions, rows, num_heads, num_kv_heads, head_dim, llama->cos_sin);
        see_attention(observer, device, config, i, w->qkv, rows);
        oct_kv_write(device, &cache->shape, kv, batch, w->qkv, num_heads);
        float softmax_amax;
        oct_attention(device, &cache->shape, kv, batch, w->qkv, num_heads, w->attention, observer ? &softmax_amax : NULL);
        if (observer) {
            observer->see(observer->context, OCT_SOFTMAX, i, OCT_OUTPUT0, softmax_amax);
            observer->see(observer->context, OCT_MATMUL_AV, i, OCT_INPUT0, softmax_amax);
        }
        add_linear(observer, device, OCT_O_PROJ, i, &layer->o_proj, w->attention, rows, w->hidden, w->normed);

        oct_rms_norm(device, w->hidden, layer->post_attention_layernorm, rows, hidden_size, config->rms_norm_eps, w->normed);
        see(observer, device, OCT_GATE_UP_PROJ, i, OCT_INPUT0, w->normed, rows, hidden_size, hidden_size);
        oct_linear_forward(device, &layer->gate_up_proj, w->normed, rows, w->gate_up, false);
        oct_silu_mul(device, w->gate_up, rows, config->intermediate_size, w->activated);
        add_linear(observer, device, OCT_DOWN_PROJ, i, &layer->down_proj, w->activated, rows, w->hidden, w->normed);
    }

    if (batch->num_logit_rows == 0) return;
    oct_gather_rows(device, w->hidden, batch->logit_rows, batch->num_logit_rows, hidden_size, w->logit_hidden);
    oct_rms_norm(device, w->logit_hidden, llama->norm, batch->num_logit_rows, hidden_size, config->rms_norm_eps, w->normed);
    see(observer, device, OCT_LM_HEAD, 0, OCT_INPUT0, w->normed, batch->num_logit_rows, hidden_size, hidden_size);
    oct_linear_forward(device, &llama->lm_head, w->normed, batch->num_logit_rows, logits, false);
}
