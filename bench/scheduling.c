// scheduling.c: what planning a step costs, apart from the model: 256 sequences over a stand-in whose forward pass does nothing but check
// the batch. The bar is 50 microseconds a step.
#include "base/clock.h"
#include "engine/scheduler.h"
#include "model/llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQS = 256, CONTEXT = 1024, STEPS = 2000, BLOCK = 32, VOCAB = 64 };

static struct oct_llama llama;
static struct oct_kv_cache cache;

void oct_llama_forward(struct oct_llama *model, struct oct_kv_cache *blocks, const struct oct_batch *batch, float *logits,
                       const struct oct_observer *observer) {
    (void)model, (void)blocks, (void)observer;
    memset(logits, 0, (size_t)batch->num_logit_rows * VOCAB * sizeof *logits);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void) {
    static double seconds[STEPS];
    static int32_t prompt[CONTEXT];
    llama.config.vocab_size = VOCAB;
    cache.shape = (struct oct_kv_shape){.block_size = BLOCK, .num_blocks = SEQS * (CONTEXT + STEPS + 2 * BLOCK) / BLOCK};
    struct oct_scheduler_options options = {.max_num_seqs = SEQS, .max_num_batched_tokens = 2048, .max_model_len = CONTEXT + STEPS + BLOCK};
    struct oct_scheduler *scheduler;
    oct_error err;
    if (oct_scheduler_open(&llama, &cache, &options, &scheduler, &err) != OCT_OK) return 1;
    struct oct_sampling sampling = {.top_p = 1, .repetition_penalty = 1, .max_tokens = STEPS + BLOCK};
    for (int i = 0; i < SEQS; i++) {
        struct oct_sequence *sequence;
        for (int j = 0; j < CONTEXT; j++) prompt[j] = (i + j * j) % VOCAB;
        struct oct_sequence_options sequence_options = {.prompt = prompt, .prompt_length = CONTEXT - i % BLOCK, .sampling = &sampling};
        if (oct_scheduler_add(scheduler, &sequence_options, &sequence, &err) != OCT_OK) return 1;
    }
    const struct oct_sampled *sampled;
    int count = 0;
    while (count < SEQS && oct_scheduler_plan(scheduler, 1)) oct_scheduler_run(scheduler, &sampled, &count); // all decode
    int steps = 0;
    for (; steps < STEPS - CONTEXT; steps++) {
        double begin = oct_seconds();
        const struct oct_batch *batch = oct_scheduler_plan(scheduler, 1);
        seconds[steps] = oct_seconds() - begin;
        if (!batch || batch->num_seqs < SEQS) break;
        oct_scheduler_run(scheduler, &sampled, &count);
    }
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    printf("planning a step of %d sequences of %d to %d tokens: median %.1f us, 95th percentile %.1f us of %d steps (bar: 50)\n", SEQS,
           CONTEXT, CONTEXT + steps, seconds[steps / 2] * 1e6, seconds[steps * 95 / 100] * 1e6, steps);
    oct_scheduler_close(scheduler);
    return 0;
}
