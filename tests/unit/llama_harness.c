#include "llama_harness.h"

#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void must(oct_status status, const oct_error *err) {
    if (status != OCT_OK) fail_msg("%s", err->message);
}

static struct harness open_with(const struct oct_checkpoint *checkpoint, enum oct_dtype compute, int max_rows, struct oct_plan *plan,
                                struct oct_measurement *measurement) {
    struct harness harness = {.max_rows = max_rows};
    oct_error err;
    must(oct_device_open_cpu(2, &harness.device, &err), &err);
    struct oct_llama_options options = {.compute = compute,
                                        .plan = plan,
                                        .max_positions = HARNESS_TOKENS,
                                        .max_rows = max_rows,
                                        .max_logit_rows = max_rows,
                                        .on_weight = measurement ? oct_measurement_see_weight : NULL,
                                        .on_weight_context = measurement};
    must(oct_llama_open(checkpoint, harness.device, &options, &harness.llama, &err), &err);
    must(oct_kv_cache_open(harness.llama, HARNESS_BLOCK, HARNESS_BLOCKS, &harness.cache, &err), &err);
    harness.vocab = harness.llama->config.vocab_size;
    harness.logits = oct_alloc((size_t)max_rows * (size_t)harness.vocab, sizeof(float), "logits");
    return harness;
}

static struct oct_checkpoint *open_checkpoint(const char *path) {
    struct oct_checkpoint *checkpoint;
    oct_error err;
    must(oct_checkpoint_open(path, &checkpoint, &err), &err);
    return checkpoint;
}

struct harness harness_open(const char *path, enum oct_dtype compute, int max_rows, struct oct_plan *plan) {
    struct oct_checkpoint *checkpoint = open_checkpoint(path);
    struct harness harness = open_with(checkpoint, compute, max_rows, plan, NULL);
    harness.checkpoint = checkpoint;
    return harness;
}

struct harness harness_open_measuring(const char *path, enum oct_dtype compute, int max_rows, struct oct_measurement *measurement) {
    struct oct_checkpoint *checkpoint = open_checkpoint(path);
    struct harness harness = open_with(checkpoint, compute, max_rows, NULL, measurement);
    harness.checkpoint = checkpoint;
    return harness;
}

struct harness harness_open_checkpoint(const struct oct_checkpoint *checkpoint, enum oct_dtype compute, int max_rows,
                                       struct oct_plan *plan) {
    return open_with(checkpoint, compute, max_rows, plan, NULL);
}

void harness_close(struct harness *harness) {
    free(harness->logits);
    oct_kv_cache_close(harness->cache);
    oct_llama_close(harness->llama);
    oct_checkpoint_close(harness->checkpoint);
    oct_device_close(harness->device);
}

void harness_forward(struct harness *harness, const int32_t *ids, int from, int to, const struct oct_observer *observer) {
    static int32_t positions[HARNESS_TOKENS], logit_rows[HARNESS_TOKENS];
    int32_t blocks[HARNESS_BLOCKS], row_starts[2] = {0, to - from};
    for (int i = 0; i < HARNESS_BLOCKS; i++) blocks[i] = HARNESS_BLOCKS - 1 - i;
    for (int i = 0; i < to - from; i++) {
        positions[i] = from + i;
        logit_rows[i] = i;
    }
    struct oct_batch batch = {.num_rows = to - from,
                              .tokens = ids + from,
                              .positions = positions,
                              .num_seqs = 1,
                              .row_starts = row_starts,
                              .block_tables = blocks,
                              .max_blocks = HARNESS_BLOCKS,
                              .logit_rows = logit_rows,
                              .num_logit_rows = to - from};
    oct_llama_forward(harness->llama, harness->cache, &batch, harness->logits, observer);
}

double log_sum_exp(const float *logits, int n) {
    double largest = logits[0], sum = 0;
    for (int i = 1; i < n; i++) largest = fmax(largest, logits[i]);
    for (int i = 0; i < n; i++) sum += exp(logits[i] - largest);
    return largest + log(sum);
}

double log_prob_difference(const float *found, const float *expected, int n) {
    double a = log_sum_exp(found, n), b = log_sum_exp(expected, n), largest = 0;
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs((found[i] - a) - (expected[i] - b)));
    return largest;
}

double kl_divergence(const float *reference, const float *found, int n) {
    double a = log_sum_exp(reference, n), b = log_sum_exp(found, n), sum = 0;
    for (int i = 0; i < n; i++) sum += exp(reference[i] - a) * ((reference[i] - a) - (found[i] - b));
    return sum;
}

int argmax(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}
