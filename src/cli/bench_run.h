// bench_run.h: forward passes to be timed: a model, KV blocks that are filled already, and what a pass costs at least.
#pragma once

#include "base/error.h"
#include "base/progress.h"
#include "device/device.h"
#include "model/checkpoint.h"
#include "model/llama.h"

#include <stdbool.h>

struct oct_bench_model {
    struct oct_llama *llama;
    struct oct_kv_cache *cache;
    int max_batch, max_prompt, max_tokens; // sequences of a decode pass, rows of a prefill, tokens of a sequence
    int blocks_per_seq;
    int32_t *tokens, *positions, *row_starts, *block_tables, *logit_rows; // of a pass. Owned
    float *logits;                                                        // (max_batch, vocab_size). Owned
};

struct oct_bench_options {
    const struct oct_checkpoint *checkpoint;
    struct oct_device *device;
    struct oct_plan *plan; // NULL: bf16
    int max_batch, max_prompt, max_tokens;
    const struct oct_progress *progress;
};

// Zero-initialise `out`; oct_bench_model_close takes it whatever the outcome.
oct_status oct_bench_model_open(const struct oct_bench_options *options, struct oct_bench_model *out, oct_error *err);
void oct_bench_model_close(struct oct_bench_model *model);

// A plan that needs no files: every module FP8 (Gaudi 3's range), activations with scale 1, weights with a power of two each. fp8_kv:
// K, V and the attention products too. Free with oct_plan_free.
struct oct_plan *oct_bench_plan(int num_layers, bool fp8_kv);

// What a test costs at least.
struct oct_bench_cost {
    double bytes; // weights and stored K and V that must be read
    double flops; // of the matrix products
};

// One sequence of `tokens` prompt tokens from position 0, in one pass, with logits of the last. Returns the seconds.
double oct_bench_prefill(struct oct_bench_model *model, int tokens, struct oct_bench_cost *cost);
// `tokens` passes of `batch` sequences, one row each, at positions depth, depth + 1, ... Returns the seconds.
double oct_bench_decode(struct oct_bench_model *model, int batch, int depth, int tokens, struct oct_bench_cost *cost);
