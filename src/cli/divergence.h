// divergence.h: how far one model's next-token distributions are from another's, over many positions.
#pragma once

#include <stddef.h>
#include <stdio.h>

// log(sum exp(x)) in float64; NaN when any x is NaN.
double oct_logsumexp(const float *x, size_t n);
// The index of the largest; of equal ones the first.
size_t oct_likeliest(const float *logits, size_t n);

struct oct_divergence {
    double *kl; // (count) KL(reference || model) of each position, in nats. Owned
    size_t count, capacity;
    size_t same_top; // positions where both have the same likeliest token
};

// Adds a position: the logits of both (vocab_size), and the oct_logsumexp of each.
void oct_divergence_add(struct oct_divergence *divergence, const float *reference, double reference_norm, const float *model,
                        double model_norm, size_t vocab_size);
void oct_divergence_free(struct oct_divergence *divergence);

struct oct_divergence_summary {
    size_t count;
    double mean, p99, max; // of the KL divergence, nats; p99: 99 of 100 positions are not above it
    double same_top;       // share of positions
};
// Sorts divergence->kl.
struct oct_divergence_summary oct_divergence_summarize(struct oct_divergence *divergence);
void oct_divergence_print(const struct oct_divergence_summary *summary, FILE *file);
