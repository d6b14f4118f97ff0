// probe.c: KL(p || q) = sum p log p - sum p (x - log sum exp x): of a version only its logits x are new.
#include "cli/probe.h"

#include "base/memory.h"
#include "cli/divergence.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS_AT_ONCE = 4 };            // of a thread
static const double ROUNDING = 1e-12; // nats: what sums over a vocabulary cannot tell from zero

// Rows of one batch: logits, and where they belong in the probe.
struct rows {
    struct oct_probe *probe;
    const float *logits; // (rows, vocab_size)
    size_t first;
};

static void keep_rows(void *context, int worker, int begin, int end) {
    const struct rows *rows = context;
    struct oct_probe *probe = rows->probe;
    size_t vocab = probe->vocab_size;
    (void)worker;
    for (int i = begin; i < end; i++) {
        const float *logits = rows->logits + (size_t)i * vocab;
        size_t row = rows->first + (size_t)i;
        float *p = probe->probabilities + row * vocab;
        double normalizer = oct_logsumexp(logits, vocab), products = 0, sum = 0;
        for (size_t j = 0; j < vocab; j++) {
            double logprob = (double)logits[j] - normalizer;
            p[j] = (float)exp(logprob);
            products += (double)p[j] * logprob;
            sum += (double)p[j];
        }
        probe->log_products[row] = products;
        probe->sums[row] = sum; // 1, but for the rounding of each: that must not pass for a divergence
        probe->likeliest[row] = (int32_t)oct_likeliest(logits, vocab);
    }
}

static void compare_rows(void *context, int worker, int begin, int end) {
    const struct rows *rows = context;
    struct oct_probe *probe = rows->probe;
    size_t vocab = probe->vocab_size;
    (void)worker;
    for (int i = begin; i < end; i++) {
        const float *logits = rows->logits + (size_t)i * vocab;
        size_t row = rows->first + (size_t)i;
        const float *p = probe->probabilities + row * vocab;
        double products = 0;
        for (size_t j = 0; j < vocab; j++) products += (double)p[j] * (double)logits[j];
        double kl = probe->log_products[row] - products + probe->sums[row] * oct_logsumexp(logits, vocab);
        probe->divergence[row] = kl > ROUNDING || isnan(kl) ? kl : 0;
        probe->same_top[row] = (int32_t)oct_likeliest(logits, vocab) == probe->likeliest[row];
    }
}

// Runs stretches in batches, and gives each batch's rows to `task`. Returns the rows.
static size_t run(struct oct_probe *probe, struct oct_runner *runner, int num_stretches, void (*task)(void *, int, int, int)) {
    struct rows rows = {.probe = probe, .logits = runner->logits};
    for (int next = 0; next < num_stretches;) {
        int count = 0, batch = 0;
        while (next + count < num_stretches && count < runner->max_seqs && batch + probe->stretches[next + count].count <= runner->max_rows)
            batch += probe->stretches[next + count++].count;
        oct_runner_forward(runner, probe->stretches + next, count, NULL);
        oct_parallel_for(probe->device, batch, ROWS_AT_ONCE, task, &rows);
        rows.first += (size_t)batch;
        next += count;
    }
    return rows.first;
}

void oct_probe_open(const struct oct_prompts *prompts, int max_tokens, size_t max_rows, struct oct_runner *reference,
                    struct oct_probe *out) {
    *out = (struct oct_probe){.device = reference->llama->device, .vocab_size = (size_t)reference->llama->config.vocab_size};
    if (max_tokens > reference->max_rows) max_tokens = reference->max_rows;
    out->stretches = oct_alloc(prompts->count, sizeof *out->stretches, "a probe");
    for (size_t i = 0; i < prompts->count && out->rows < max_rows; i++) {
        size_t tokens = prompts->items[i].count < (size_t)max_tokens ? prompts->items[i].count : (size_t)max_tokens;
        if (tokens > max_rows - out->rows) tokens = max_rows - out->rows;
        out->stretches[out->num_stretches++] = (struct oct_stretch){prompts->items[i].data, (int)tokens, 0};
        out->rows += tokens;
    }
    out->probabilities = oct_alloc(out->rows, out->vocab_size * sizeof(float), "the reference's distributions");
    out->log_products = oct_alloc(out->rows, sizeof(double), "a probe");
    out->sums = oct_alloc(out->rows, sizeof(double), "a probe");
    out->divergence = oct_alloc(out->rows, sizeof(double), "a probe");
    out->likeliest = oct_alloc(out->rows, sizeof(int32_t), "a probe");
    out->same_top = oct_alloc(out->rows, sizeof(bool), "a probe");
    run(out, reference, out->num_stretches, keep_rows);
}

void oct_probe_close(struct oct_probe *probe) {
    free(probe->stretches);
    free(probe->probabilities);
    free(probe->log_products);
    free(probe->sums);
    free(probe->divergence);
    free(probe->likeliest);
    free(probe->same_top);
    *probe = (struct oct_probe){0};
}

struct oct_probe_result oct_probe_run(struct oct_probe *probe, struct oct_runner *runner, int num_stretches) {
    size_t rows = run(probe, runner, num_stretches, compare_rows);
    struct oct_probe_result result = {0};
    for (size_t i = 0; i < rows; i++) {
        result.mean_kl += probe->divergence[i];
        result.same_top += probe->same_top[i];
    }
    result.mean_kl /= (double)rows;
    result.same_top /= (double)rows;
    return result;
}

int oct_probe_stretches(const struct oct_probe *probe, size_t rows) {
    int count = 1;
    size_t sum = (size_t)probe->stretches[0].count;
    while (count < probe->num_stretches && sum + (size_t)probe->stretches[count].count <= rows)
        sum += (size_t)probe->stretches[count++].count;
    return count;
}
