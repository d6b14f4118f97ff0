// scheduling.c: what a step costs apart from the model: planning it, for 256 sequences over a stand-in whose forward pass does nothing, and
// sampling one token from a vocabulary of real size. The bar of planning is 50 microseconds a step.
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

void oct_device_get_info(const struct oct_device *device, struct oct_device_info *info) {
    (void)device;
    *info = (struct oct_device_info){.name = "none", .isa = "none", .threads = 1};
}

void oct_parallel_for(struct oct_device *device, int items, int chunk, void (*task)(void *context, int worker, int begin, int end),
                      void *context) {
    (void)device;
    for (int begin = 0; begin < items; begin += chunk) task(context, 0, begin, begin + chunk < items ? begin + chunk : items);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double next_uniform(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

static void measure_sampling(void) {
    enum { IDS = 49152, TOKENS = 300 };
    static float logits[IDS];
    static double seconds[TOKENS];
    static struct oct_logprob logprobs[21];
    const struct {
        const char *name;
        struct oct_sampling sampling;
    } cases[] = {
        {"greedy", {.top_p = 1, .repetition_penalty = 1}},
        {"temperature", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}},
        {"min_p 0.05", {.temperature = 1, .top_p = 1, .min_p = 0.05f, .repetition_penalty = 1}},
        {"top_k 50", {.temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1}},
        {"top_p 0.95", {.temperature = 1, .top_p = 0.95f, .repetition_penalty = 1}},
        {"repetition_penalty 1.1, greedy", {.top_p = 1, .repetition_penalty = 1.1f}},
        {"20 logprobs, greedy", {.top_p = 1, .repetition_penalty = 1, .num_logprobs = 21}},
    };
    const int32_t prompt[] = {5, 6, 7};
    struct oct_sampler *sampler = oct_sampler_new(IDS);
    uint64_t state = 1;
    for (int i = 0; i < IDS; i++) // the sum of uniforms is near enough to what models give
        for (int j = 0; j < 6; j++) logits[i] += (float)(next_uniform(&state) * 8 - 4);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int i = 0; i < TOKENS; i++) {
            int32_t token;
            struct oct_sampling sampling = cases[c].sampling;
            sampling.seed = (uint64_t)i;
            double begin = oct_seconds();
            oct_sampler_sample(sampler, &sampling, logits, prompt, 3, 3, &token, logprobs);
            seconds[i] = oct_seconds() - begin;
        }
        qsort(seconds, TOKENS, sizeof *seconds, ascending);
        printf("sampling a token of %d, %s: median %.0f us\n", IDS, cases[c].name, seconds[TOKENS / 2] * 1e6);
    }
    oct_sampler_free(sampler);
}

int main(void) {
    static double seconds[STEPS];
    measure_sampling();
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
