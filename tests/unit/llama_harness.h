// llama_harness.h: a model with one sequence, driven directly, for tests that compare logits.
#pragma once

#include "model/llama.h"
#include "quant/measurement.h"

#include <stdint.h>

enum { HARNESS_TOKENS = 1280, HARNESS_BLOCK = 32, HARNESS_BLOCKS = HARNESS_TOKENS / HARNESS_BLOCK };

struct harness {
    struct oct_device *device;
    struct oct_checkpoint *checkpoint; // NULL: the caller's
    struct oct_llama *llama;
    struct oct_kv_cache *cache;
    float *logits; // (max_rows, vocab) of the last forward
    int vocab, max_rows;
};

// Ends the test with the message when something fails. plan: as for oct_llama_open.
struct harness harness_open(const char *path, enum oct_dtype compute, int max_rows, struct oct_plan *plan);
// Not quantized, and the measurement is told of the weights.
struct harness harness_open_measuring(const char *path, enum oct_dtype compute, int max_rows, struct oct_measurement *measurement);
// The same, of a checkpoint of the caller's, which stays open.
struct harness harness_open_checkpoint(const struct oct_checkpoint *checkpoint, enum oct_dtype compute, int max_rows,
                                       struct oct_plan *plan);
void harness_close(struct harness *harness);

// Tokens [from, to) of one sequence, into logits, a row each. Its blocks lie in reverse order, so that a wrong block table shows.
void harness_forward(struct harness *harness, const int32_t *ids, int from, int to, const struct oct_observer *observer);

// Log-probabilities, and what is compared of them; float64 inside.
double log_sum_exp(const float *logits, int n);
double log_prob_difference(const float *found, const float *expected, int n); // the largest
double kl_divergence(const float *reference, const float *found, int n);      // KL(reference || found), nats
int argmax(const float *logits, int n);                                       // the lowest of equals
