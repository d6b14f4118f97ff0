// divergence.c: KL divergence and agreement of two models, position by position, summed in float64.
#include "cli/divergence.h"

#include "base/median.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

double oct_logsumexp(const float *x, size_t n) {
    float largest = x[0];
    for (size_t i = 1; i < n; i++)
        if (x[i] > largest) largest = x[i];
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)largest);
    return (double)largest + log(sum);
}

size_t oct_likeliest(const float *logits, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

void oct_divergence_add(struct oct_divergence *divergence, const float *reference, double reference_norm, const float *model,
                        double model_norm, size_t vocab_size) {
    double kl = 0;
    for (size_t i = 0; i < vocab_size; i++) {
        double logprob = (double)reference[i] - reference_norm;
        kl += exp(logprob) * (logprob - ((double)model[i] - model_norm));
    }
    if (divergence->count == divergence->capacity) {
        divergence->capacity = divergence->capacity ? 2 * divergence->capacity : 1024;
        divergence->kl = oct_resize(divergence->kl, divergence->capacity, sizeof(double), "KL divergences");
    }
    divergence->kl[divergence->count++] = kl > 0 ? kl : 0; // rounding can leave a hair below zero
    divergence->same_top += oct_likeliest(reference, vocab_size) == oct_likeliest(model, vocab_size);
}

void oct_divergence_free(struct oct_divergence *divergence) {
    free(divergence->kl);
    *divergence = (struct oct_divergence){0};
}

struct oct_divergence_summary oct_divergence_summarize(struct oct_divergence *divergence) {
    struct oct_divergence_summary summary = {.count = divergence->count};
    if (!divergence->count) return summary;
    oct_sort_doubles(divergence->kl, divergence->count);
    for (size_t i = 0; i < divergence->count; i++) summary.mean += divergence->kl[i];
    summary.mean /= (double)divergence->count;
    summary.p99 = divergence->kl[(divergence->count * 99 + 99) / 100 - 1];
    summary.max = divergence->kl[divergence->count - 1];
    summary.same_top = (double)divergence->same_top / (double)divergence->count;
    return summary;
}

void oct_divergence_print(const struct oct_divergence_summary *summary, FILE *file) {
    fprintf(file, "KL divergence      mean %.3e, 99 %% below %.3e, largest %.3e nats\n", summary->mean, summary->p99, summary->max);
    fprintf(file, "same top token     %.2f %%\n", 100 * summary->same_top);
}
