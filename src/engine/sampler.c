// sampler.c: one idea keeps every filter cheap: the vocabulary is never sorted. top_k keeps a heap of k; for top_p a bound is known that
// the tokens it keeps are above, and only those are ranked, only as far as needed; without either the draw is two passes of sums.
#include "engine/sampler.h"

#include "base/memory.h"
#include "engine/candidates.h"
#include "engine/exponential.h"
#include "engine/logits_processors.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

// Below this temperature the distribution is a single token in float32 anyway.
#define GREEDY_TEMPERATURE 1e-5f

enum { STRIDE = 64 }; // ids whose exponentials are taken at once

struct oct_sampler {
    int vocab_size;
    struct oct_logits_processors *processors;
    struct oct_candidate *candidates; // (vocab_size + 1) one more, because collecting writes before it looks
};

struct oct_sampler *oct_sampler_new(int vocab_size) {
    struct oct_sampler *sampler = oct_alloc(1, sizeof *sampler, "the sampler");
    sampler->vocab_size = vocab_size;
    sampler->processors = oct_logits_processors_new(vocab_size);
    sampler->candidates = oct_alloc((size_t)vocab_size + 1, sizeof *sampler->candidates, "the sampler's candidates");
    return sampler;
}

void oct_sampler_free(struct oct_sampler *sampler) {
    if (!sampler) return;
    oct_logits_processors_free(sampler->processors);
    free(sampler->candidates);
    free(sampler);
}

// --- sums of exponentials ---------------------------------------------------------------------------------------------------------

// What the probabilities are proportional to: exp((logit - highest) * inverse), and 0 below `least`.
struct weighting {
    float highest, inverse, least;
};

static inline float weight_of(const struct weighting *w, float logit) {
    float weight = oct_exp((logit - w->highest) * w->inverse);
    return logit >= w->least ? weight : 0;
}

// The weights of up to STRIDE logits, and their sum in a fixed order: lanes first, so that the compiler adds several at once.
static double weigh(const struct weighting *w, const float *logits, int count, float *weights) {
    enum { LANES = 8 };
    double lanes[LANES] = {0}, sum = 0;
    if (count < STRIDE) {
        for (int i = 0; i < count; i++) sum += (double)(weights[i] = weight_of(w, logits[i]));
        return sum;
    }
    for (int i = 0; i < STRIDE; i++) weights[i] = weight_of(w, logits[i]);
    for (int i = 0; i < STRIDE; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] += (double)weights[i + j];
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}

static int stride_at(int begin, int count) {
    return count - begin < STRIDE ? count - begin : STRIDE;
}

static double total_weight(const struct weighting *w, const float *logits, int count) {
    float weights[STRIDE];
    double total = 0;
    for (int i = 0; i < count; i += STRIDE) total += weigh(w, logits + i, stride_at(i, count), weights);
    return total;
}

// --- log-probabilities ------------------------------------------------------------------------------------------------------------

static bool all_finite(const float *logits, int count) {
    bool finite = true;
    for (int i = 0; i < count; i++) finite &= fabsf(logits[i]) < INFINITY;
    return finite;
}

static int32_t argmax(const float *logits, int count, float highest) { // the lowest id of several
    int32_t best = 0;
    while (best < count - 1 && logits[best] != highest) best++;
    return best;
}

// log(sum(exp(logits)))
static float log_sum_exp(const float *logits, int count) {
    struct weighting raw = {.highest = oct_largest(logits, count), .inverse = 1, .least = -FLT_MAX};
    return raw.highest + (float)log(total_weight(&raw, logits, count));
}

static int32_t rank_of(const float *logits, int count, float logit) {
    int32_t likelier = 0;
    for (int i = 0; i < count; i++) likelier += logits[i] > logit;
    return likelier + 1;
}

// token's own, then those of ids (count - 1), or, where ids is NULL, the best.
static void report_logprobs(struct oct_sampler *sampler, const float *logits, int32_t token, const int32_t *ids, int count,
                            struct oct_logprob *logprobs) {
    int vocab_size = sampler->vocab_size;
    float normalizer = log_sum_exp(logits, vocab_size);
    logprobs[0] = (struct oct_logprob){token, logits[token] - normalizer, rank_of(logits, vocab_size, logits[token])};
    if (ids) {
        for (int i = 1; i < count; i++) logprobs[i] = (struct oct_logprob){ids[i - 1], logits[ids[i - 1]] - normalizer, 0};
        return;
    }
    struct oct_candidate *best = sampler->candidates;
    if (count > 1) oct_select_best(logits, vocab_size, count - 1, -FLT_MAX, best);
    for (int i = 1; i < count; i++) logprobs[i] = (struct oct_logprob){best[i - 1].id, best[i - 1].logit - normalizer, i};
}

bool oct_sampler_score(struct oct_sampler *sampler, const float *logits, int32_t token, int count, struct oct_logprob *logprobs) {
    if (!all_finite(logits, sampler->vocab_size)) return false;
    report_logprobs(sampler, logits, token, NULL, count, logprobs);
    return true;
}

// --- the draw ---------------------------------------------------------------------------------------------------------------------

static uint64_t mix(uint64_t x) { // the finalizer of splitmix64: a bijection whose outputs look independent
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

// Uniform in [0, 1): the draw number `counter` of a seed. A function of both, not a state: recomputing a sequence or batching it
// differently draws the same numbers.
static double uniform(uint64_t seed, int counter) {
    const uint64_t golden_gamma = 0x9e3779b97f4a7c15;
    uint64_t start = mix(seed + golden_gamma);
    return (double)(mix(start + golden_gamma * ((uint64_t)counter + 1)) >> 11) * 0x1p-53;
}

// From all that weigh something.
static int32_t draw_from_all(const struct weighting *w, const float *logits, int count, double u) {
    float weights[STRIDE];
    double target = u * total_weight(w, logits, count), passed = 0;
    int32_t chosen = 0;
    for (int begin = 0; begin < count; begin += STRIDE) {
        double sum = weigh(w, logits + begin, stride_at(begin, count), weights);
        if (sum > 0 && passed + sum > target) {
            double within = passed;
            for (int i = 0; i < stride_at(begin, count) && within <= target; i++) {
                if (weights[i] > 0) chosen = begin + i;
                within += (double)weights[i];
            }
            return chosen;
        }
        for (int i = 0; sum > 0 && i < stride_at(begin, count); i++)
            if (weights[i] > 0) chosen = begin + i; // where rounding leaves the target above the sum of all: the last one
        passed += sum;
    }
    return chosen;
}

// Candidates that top_p leaves: the fewest best ones that hold top_p of the total. Returns how many, and their weight.
static int cut_top_p(const struct weighting *w, struct oct_ranking *ranking, double top_p, double total, double *held) {
    *held = 0;
    for (int i = 0; i < ranking->count; i++) {
        *held += (double)weight_of(w, oct_ranked(ranking, i).logit);
        if (*held >= top_p * total) return i + 1;
    }
    return ranking->count;
}

// From the first `count` candidates, which together weigh `total`, or from those of them that hold top_p of it.
static int32_t draw_from_candidates(struct oct_sampler *sampler, const struct oct_sampling *sampling, const struct weighting *w, int count,
                                    double total, double u) {
    struct oct_ranking ranking = {sampler->candidates, count, count};
    bool cut = sampling->top_p < 1;
    double held = total, passed = 0;
    if (cut) ranking = oct_rank(sampler->candidates, count);
    int kept = cut ? cut_top_p(w, &ranking, (double)sampling->top_p, total, &held) : count;
    struct oct_candidate chosen = sampler->candidates[0];
    for (int i = 0; i < kept && passed <= u * held; i++) {
        chosen = cut ? oct_ranked(&ranking, i) : sampler->candidates[i];
        passed += (double)weight_of(w, chosen.logit);
    }
    return chosen.id;
}

static int32_t draw_top_k(struct oct_sampler *sampler, const struct oct_sampling *sampling, const struct weighting *w, const float *logits,
                          double u) {
    struct oct_candidate *best = sampler->candidates;
    int count = oct_select_best(logits, sampler->vocab_size, sampling->top_k, w->least, best);
    double total = 0, held = 0;
    for (int i = 0; i < count; i++) total += (double)weight_of(w, best[i].logit);
    int kept = 0;
    while (kept < count && (kept == 0 || held < (double)sampling->top_p * total)) held += (double)weight_of(w, best[kept++].logit);
    double target = u * held, passed = 0;
    int chosen = -1;
    while (chosen + 1 < kept && passed <= target) passed += (double)weight_of(w, best[++chosen].logit);
    return best[chosen].id;
}

// Tokens lighter than (1 - top_p) / vocab_size of the total together hold less than 1 - top_p of it: the ones that top_p keeps are heavier.
static int32_t draw_top_p(struct oct_sampler *sampler, const struct oct_sampling *sampling, const struct weighting *w, const float *logits,
                          double u) {
    const double margin = 0.5; // far more than rounding could move the bound
    double total = total_weight(w, logits, sampler->vocab_size);
    double lightest = margin * (1 - (double)sampling->top_p) / sampler->vocab_size * total;
    float least = w->highest + sampling->temperature * (float)log(lightest);
    if (least < w->least) least = w->least;
    int count = oct_collect(logits, sampler->vocab_size, least, sampler->candidates);
    return draw_from_candidates(sampler, sampling, w, count, total, u);
}

// Few tokens are within min_p of the best: only those are weighed.
static int32_t draw_min_p(struct oct_sampler *sampler, const struct oct_sampling *sampling, const struct weighting *w, const float *logits,
                          double u) {
    int count = oct_collect(logits, sampler->vocab_size, w->least, sampler->candidates);
    double total = 0;
    for (int i = 0; i < count; i++) total += (double)weight_of(w, sampler->candidates[i].logit);
    return draw_from_candidates(sampler, sampling, w, count, total, u);
}

static int32_t draw(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits, float highest, double u) {
    struct weighting w = {.highest = highest, .inverse = 1 / sampling->temperature, .least = -FLT_MAX}; // masked logits are below that
    if (sampling->min_p > 0) { // exp((logit - highest) / temperature) >= min_p
        float least = highest + sampling->temperature * logf(sampling->min_p);
        w.least = least > w.least ? least : w.least;
    }
    if (sampling->top_k > 0 && sampling->top_k < sampler->vocab_size) return draw_top_k(sampler, sampling, &w, logits, u);
    if (sampling->min_p > 0) return draw_min_p(sampler, sampling, &w, logits, u);
    if (sampling->top_p < 1) return draw_top_p(sampler, sampling, &w, logits, u);
    return draw_from_all(&w, logits, sampler->vocab_size, u);
}

enum oct_sampled_status oct_sampler_sample(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits,
                                           const int32_t *tokens, int prompt_length, int num_tokens, int32_t *token,
                                           struct oct_logprob *logprobs) {
    int vocab_size = sampler->vocab_size;
    if (!all_finite(logits, vocab_size)) return OCT_SAMPLED_NOT_FINITE;
    const float *processed = oct_logits_process(sampler->processors, sampling, logits, tokens, prompt_length, num_tokens);
    float highest = oct_largest(processed, vocab_size);
    if (highest == -INFINITY) return OCT_SAMPLED_NONE_LEFT;
    if (sampling->temperature < GREEDY_TEMPERATURE)
        *token = argmax(processed, vocab_size, highest);
    else
        *token = draw(sampler, sampling, processed, highest, uniform(sampling->seed, num_tokens - prompt_length));
    if (sampling->num_logprobs > 0) report_logprobs(sampler, logits, *token, sampling->logprob_token_ids, sampling->num_logprobs, logprobs);
    return OCT_SAMPLED;
}
