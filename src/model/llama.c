// llama.c: the forward pass of a Llama model over a batch of rows from several sequences. One function, read top to bottom. The residual
// stream and everything between matrix products is float32; what enters a product is rounded by the linear or by attention itself, to
// the format its weights or blocks have.
#include "model/llama.h"

#include "base/error.h"
#include "model/llama_observe.h"

// hidden += linear(x). The sum is fused into the product unless somebody wants to see the product alone.
static void add_linear(const struct oct_watch *watch, enum oct_module module, int layer, const struct oct_linear *linear, const float *x,
                       int rows, float *hidden, float *product) {
    oct_watch_input(watch, module, layer, x, rows, linear->in_features);
    if (!watch->observer) {
        oct_linear_forward(watch->device, linear, x, rows, hidden, true);
        return;
    }
    oct_linear_forward(watch->device, linear, x, rows, product, false);
    oct_watch_output(watch, module, layer, product, rows, linear->out_features, true);
    oct_add(watch->device, product, (size_t)rows * (size_t)linear->out_features, hidden);
}

// y = linear(x).
static void apply_linear(const struct oct_watch *watch, enum oct_module module, int layer, const struct oct_linear *linear, const float *x,
                         int rows, float *y) {
    oct_watch_input(watch, module, layer, x, rows, linear->in_features);
    oct_linear_forward(watch->device, linear, x, rows, y, false);
    oct_watch_output(watch, module, layer, y, rows, linear->out_features, false);
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
    const struct oct_watch watch = {.observer = observer, .device = device, .config = config, .batch = batch};
    check_batch(llama, batch);

    oct_embed(device, &llama->embed_tokens, batch->tokens, rows, w->hidden);

    for (int i = 0; i < config->num_hidden_layers; i++) {
        const struct oct_llama_layer *layer = &llama->layers[i];
        const struct oct_kv_layer *kv = &cache->layers[i];

        oct_rms_norm(device, w->hidden, layer->input_layernorm, rows, hidden_size, config->rms_norm_eps, w->normed);
        apply_linear(&watch, OCT_QKV_PROJ, i, &layer->qkv_proj, w->normed, rows, w->qkv);
        oct_rope(device, w->qkv, batch->positions, rows, num_heads, num_kv_heads, head_dim, llama->cos_sin);
        oct_kv_write(device, &cache->shape, kv, batch, w->qkv, num_heads);
        struct oct_attention_range range;
        oct_attention(device, &cache->shape, kv, batch, w->qkv, num_heads, w->attention, observer ? &range : NULL);
        oct_watch_attention(&watch, i, w->qkv, w->attention, &range);
        add_linear(&watch, OCT_O_PROJ, i, &layer->o_proj, w->attention, rows, w->hidden, w->normed);

        oct_rms_norm(device, w->hidden, layer->post_attention_layernorm, rows, hidden_size, config->rms_norm_eps, w->normed);
        apply_linear(&watch, OCT_GATE_UP_PROJ, i, &layer->gate_up_proj, w->normed, rows, w->gate_up);
        oct_silu_mul(device, w->gate_up, rows, config->intermediate_size, w->activated);
        add_linear(&watch, OCT_DOWN_PROJ, i, &layer->down_proj, w->activated, rows, w->hidden, w->normed);
    }

    if (batch->num_logit_rows == 0) return;
    oct_gather_rows(device, w->hidden, batch->logit_rows, batch->num_logit_rows, hidden_size, w->logit_hidden);
    oct_rms_norm(device, w->logit_hidden, llama->norm, batch->num_logit_rows, hidden_size, config->rms_norm_eps, w->normed);
    apply_linear(&watch, OCT_LM_HEAD, 0, &llama->lm_head, w->normed, batch->num_logit_rows, logits);
}
