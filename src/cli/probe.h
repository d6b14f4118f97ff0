// probe.h: the same few tokens through many versions of a model: how far is each from the first? The first one's distributions are kept, so
// that a version costs one forward pass.
#pragma once

#include "cli/prompts.h"

struct oct_probe {
    struct oct_device *device; // borrowed
    struct oct_stretch *stretches;
    int num_stretches;
    size_t rows;
    size_t vocab_size;
    float *probabilities;                     // (rows, vocab_size) of the reference. Owned
    double *log_products, *sums, *divergence; // (rows) sum p log p, sum p; KL of the version at hand. Owned
    int32_t *likeliest;                       // (rows) of the reference. Owned
    bool *same_top;                           // (rows) of the version at hand. Owned
};

struct oct_probe_result {
    double mean_kl;  // nats
    double same_top; // share of positions
};

// The first `max_rows` tokens of prompts that are cut to max_tokens each; runs the reference over them. The probe points into `prompts`.
void oct_probe_open(const struct oct_prompts *prompts, int max_tokens, size_t max_rows, struct oct_runner *reference,
                    struct oct_probe *out);
void oct_probe_close(struct oct_probe *probe);

// Runs a version of the model over the first `num_stretches` stretches. Deterministic: sums are taken in the order of the rows.
struct oct_probe_result oct_probe_run(struct oct_probe *probe, struct oct_runner *runner, int num_stretches);
// How many stretches have at most this many rows together (at least one).
int oct_probe_stretches(const struct oct_probe *probe, size_t rows);
