// bench_run.c: batches of made-up tokens through the forward pass. Speed does not depend on values, so blocks are filled with one byte
// pattern instead of a prefill: a decode test at depth 4096 needs no minutes of preparation.
#include "cli/bench_run.h"

#include "base/clock.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE = 32, PATTERN = 0x38 }; // tokens of a block; as E4M3 1, as bf16 4e-5: neither zero nor subnormal

static int blocks_for(int tokens) {
    return (tokens + BLOCK_SIZE - 1) / BLOCK_SIZE;
}

struct oct_plan *oct_bench_plan(int num_layers, bool fp8_kv) {
    const struct oct_scale_method *method = oct_scale_method_find("MAXABS_POW2");
    struct oct_linear_plan linear = {.fp8 = true, .input_scale = 1, .weight_rule = method->weight};
    linear.weight_rule.profile = OCT_GAUDI3;
    struct oct_attention_plan attention = {.k_cache = fp8_kv,
                                           .v_cache = fp8_kv,
                                           .matmul_qk = fp8_kv,
                                           .matmul_av = fp8_kv,
                                           .softmax = fp8_kv,
                                           .k_cache_scale = 1,
                                           .v_cache_scale = 1,
                                           .matmul_qk_scales = {1, 1},
                                           .matmul_av_scales = {1, 1},
                                           .softmax_scale = 1};
    struct oct_plan *plan = oct_alloc(1, sizeof *plan, "a plan");
    plan->full_scale = oct_profile_full_scale(OCT_GAUDI3);
    plan->num_layers = num_layers;
    plan->layers = oct_alloc((size_t)num_layers, sizeof *plan->layers, "a plan");
    for (int i = 0; i < num_layers; i++) plan->layers[i] = (struct oct_layer_plan){linear, linear, linear, linear, attention};
    plan->lm_head = linear;
    return plan;
}

oct_status oct_bench_model_open(const struct oct_bench_options *options, struct oct_bench_model *out, oct_error *err) {
    int rows = options->max_prompt > options->max_batch ? options->max_prompt : options->max_batch;
    struct oct_llama_options llama = {.compute = OCT_BF16,
                                      .plan = options->plan,
                                      .max_positions = options->max_tokens,
                                      .max_rows = rows,
                                      .max_logit_rows = options->max_batch,
                                      .progress = options->progress};
    out->max_batch = options->max_batch;
    out->max_prompt = options->max_prompt;
    out->max_tokens = options->max_tokens;
    out->blocks_per_seq = blocks_for(options->max_tokens);
    OCT_TRY(oct_llama_open(options->checkpoint, options->device, &llama, &out->llama, err));
    OCT_TRY(oct_kv_cache_open(out->llama, BLOCK_SIZE, out->max_batch * out->blocks_per_seq, &out->cache, err));
    for (int i = 0; i < out->cache->num_layers; i++) {
        struct oct_kv_layer *layer = &out->cache->layers[i];
        memset(layer->k, PATTERN, oct_kv_bytes(&out->cache->shape, layer->dtype_k));
        memset(layer->v, PATTERN, oct_kv_bytes(&out->cache->shape, layer->dtype_v));
    }
    size_t batch = (size_t)out->max_batch, blocks = batch * (size_t)out->blocks_per_seq;
    out->tokens = oct_alloc((size_t)rows, sizeof(int32_t), "a batch");
    out->positions = oct_alloc((size_t)rows, sizeof(int32_t), "a batch");
    out->row_starts = oct_alloc(batch + 1, sizeof(int32_t), "a batch");
    out->logit_rows = oct_alloc(batch, sizeof(int32_t), "a batch");
    out->block_tables = oct_alloc(blocks, sizeof(int32_t), "a batch");
    for (size_t i = 0; i < blocks; i++) out->block_tables[i] = (int32_t)i;
    out->logits = oct_alloc(batch * (size_t)out->llama->config.vocab_size, sizeof(float), "logits");
    return OCT_OK;
}

void oct_bench_model_close(struct oct_bench_model *model) {
    oct_kv_cache_close(model->cache);
    oct_llama_close(model->llama);
    free(model->tokens);
    free(model->positions);
    free(model->row_starts);
    free(model->logit_rows);
    free(model->block_tables);
    free(model->logits);
    *model = (struct oct_bench_model){0};
}

static double linear_parameters(const struct oct_linear *linear) {
    return (double)linear->in_features * linear->out_features;
}

// A pass of `rows` rows, `logit_rows` of which reach the head, that attend to `context` positions all together and read `stored` positions
// of the KV blocks.
static void add_cost(const struct oct_bench_model *model, int rows, int logit_rows, double context, double stored,
                     struct oct_bench_cost *cost) {
    const struct oct_llama *llama = model->llama;
    const struct oct_model_config *config = &llama->config;
    cost->flops += 2 * linear_parameters(&llama->lm_head) * logit_rows;
    cost->bytes += (double)llama->lm_head.weight_bytes;
    for (int i = 0; i < config->num_hidden_layers; i++) {
        const struct oct_llama_layer *layer = &llama->layers[i];
        const struct oct_linear *linears[] = {&layer->qkv_proj, &layer->o_proj, &layer->gate_up_proj, &layer->down_proj};
        for (int k = 0; k < 4; k++) {
            cost->flops += 2 * linear_parameters(linears[k]) * rows;
            cost->bytes += (double)linears[k]->weight_bytes;
        }
    }
    cost->flops += 4.0 * config->num_attention_heads * config->head_dim * config->num_hidden_layers * context;
    cost->bytes += (double)oct_kv_cache_block_bytes(llama, BLOCK_SIZE) / BLOCK_SIZE * stored;
}

static void run(struct oct_bench_model *model, int rows, int num_seqs) {
    for (int row = 0; row < rows; row++)
        model->tokens[row] = (int32_t)((row * 7919 + model->positions[row] * 104729) % model->llama->config.vocab_size);
    struct oct_batch batch = {.num_rows = rows,
                              .tokens = model->tokens,
                              .positions = model->positions,
                              .num_seqs = num_seqs,
                              .row_starts = model->row_starts,
                              .block_tables = model->block_tables,
                              .max_blocks = model->blocks_per_seq,
                              .logit_rows = model->logit_rows,
                              .num_logit_rows = num_seqs};
    oct_llama_forward(model->llama, model->cache, &batch, model->logits, NULL);
}

double oct_bench_prefill(struct oct_bench_model *model, int tokens, struct oct_bench_cost *cost) {
    OCT_CHECK(tokens > 0 && tokens <= model->max_prompt && tokens <= model->max_tokens);
    for (int row = 0; row < tokens; row++) model->positions[row] = row;
    model->row_starts[0] = 0;
    model->row_starts[1] = tokens;
    model->logit_rows[0] = tokens - 1;
    *cost = (struct oct_bench_cost){0};
    add_cost(model, tokens, 1, (double)tokens * (tokens + 1) / 2, 0, cost); // its own K and V are in the caches
    double started = oct_seconds();
    run(model, tokens, 1);
    return oct_seconds() - started;
}

double oct_bench_decode(struct oct_bench_model *model, int batch, int depth, int tokens, struct oct_bench_cost *cost) {
    OCT_CHECK(batch > 0 && batch <= model->max_batch && depth >= 0 && depth + tokens <= model->max_tokens);
    *cost = (struct oct_bench_cost){0};
    for (int seq = 0; seq <= batch; seq++) model->row_starts[seq] = seq;
    for (int seq = 0; seq < batch; seq++) model->logit_rows[seq] = seq;
    double started = oct_seconds();
    for (int i = 0; i < tokens; i++) {
        for (int seq = 0; seq < batch; seq++) model->positions[seq] = depth + i;
        double context = (double)batch * (depth + i + 1);
        add_cost(model, batch, batch, context, context, cost);
        run(model, batch, batch);
    }
    return oct_seconds() - started;
}
