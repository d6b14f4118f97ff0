// One idea carries all filters: the candidates form a heap, best first, and are popped in descending order only as far as top_k or
// top_p need them, so that the vocabulary is never sorted.
#include "engine/sampler.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Below this temperature the distribution is a single token in float32 anyway.
#define GREEDY_TEMPERATURE 1e-5f

struct candidate {
    float logit;
    int32_t id;
};

struct oct_sampler {
    int vocab_size;
    float *adjusted;              // (vocab_size) logits after penalties
    int32_t *counts;              // (vocab_size) all zero between calls
    struct candidate *candidates; // (vocab_size)
};

struct oct_sampler *oct_sampler_new(int vocab_size) {
    struct oct_sampler *sampler = oct_alloc(1, sizeof *sampler, "the sampler");
    sampler->vocab_size = vocab_size;
    sampler->adjusted = oct_alloc((size_t)vocab_size, sizeof *sampler->adjusted, "the sampler's logits");
    sampler->counts = oct_alloc((size_t)vocab_size, sizeof *sampler->counts, "the sampler's token counts");
    sampler->candidates = oct_alloc((size_t)vocab_size, sizeof *sampler->candidates, "the sampler's candidates");
    return sampler;
}

void oct_sampler_free(struct oct_sampler *sampler) {
    if (!sampler) return;
    free(sampler->adjusted);
    free(sampler->counts);
    free(sampler->candidates);
    free(sampler);
}

// --- candidates -------------------------------------------------------------------------------------------------------------------

// A heap in heap[0 .. size), the best on top. Popped candidates stand behind it, so that after all pops the array is ascending.
struct ranking {
    struct candidate *heap;
    int size, count;
};

static bool better(struct candidate a, struct candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, int size, int at) {
    struct candidate moved = heap[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && better(heap[child + 1], heap[child])) child++;
        if (!better(heap[child], moved)) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static struct ranking rank_candidates(struct candidate *candidates, int count) {
    for (int i = count / 2 - 1; i >= 0; i--) sift_down(candidates, count, i);
    return (struct ranking){candidates, count, count};
}

// The i-th best candidate (0: the best).
static struct candidate ranked(struct ranking *ranking, int i) {
    while (ranking->count - ranking->size <= i) {
        struct candidate best = ranking->heap[0];
        ranking->heap[0] = ranking->heap[--ranking->size];
        sift_down(ranking->heap, ranking->size, 0);
        ranking->heap[ranking->size] = best;
    }
    return ranking->heap[ranking->count - 1 - i];
}

// Every id whose logit is at least `least`.
static int collect_candidates(struct oct_sampler *sampler, const float *logits, float least) {
    int count = 0;
    for (int32_t id = 0; id < sampler->vocab_size; id++)
        if (logits[id] >= least) sampler->candidates[count++] = (struct candidate){logits[id], id};
    return count;
}

// --- the raw distribution ---------------------------------------------------------------------------------------------------------

static bool all_finite(const float *logits, int count) {
    bool finite = true;
    for (int i = 0; i < count; i++) finite &= fabsf(logits[i]) < INFINITY;
    return finite;
}

static float largest(const float *logits, int count) {
    enum { LANES = 16 }; // independent maxima, so that the compiler may take several at once
    float lanes[LANES], largest_of_all = logits[0];
    for (int j = 0; j < LANES; j++) lanes[j] = logits[0];
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
    for (; i < count; i++) lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    for (int j = 0; j < LANES; j++) largest_of_all = lanes[j] > largest_of_all ? lanes[j] : largest_of_all;
    return largest_of_all;
}

static int32_t argmax(const float *logits, int count) { // the lowest id of several
    float highest = largest(logits, count);
    int32_t best = 0;
    while (best < count - 1 && logits[best] != highest) best++;
    return best;
}

// log(sum(exp(logits)))
static float log_sum_exp(const float *logits, int count) {
    float highest = largest(logits, count);
    double sum = 0;
    for (int i = 0; i < count; i++) sum += expf(logits[i] - highest);
    return highest + (float)log(sum);
}

static void report_logprobs(struct oct_sampler *sampler, const float *logits, int32_t token, int num_logprobs,
                            struct oct_logprob *logprobs) {
    float normalizer = log_sum_exp(logits, sampler->vocab_size);
    logprobs[0] = (struct oct_logprob){token, logits[token] - normalizer};
    if (num_logprobs == 1) return;
    struct ranking ranking = rank_candidates(sampler->candidates, collect_candidates(sampler, logits, -INFINITY));
    for (int i = 1; i < num_logprobs; i++) {
        struct candidate best = ranked(&ranking, i - 1);
        logprobs[i] = (struct oct_logprob){best.id, best.logit - normalizer};
    }
}

// --- penalties --------------------------------------------------------------------------------------------------------------------

// repetition: prompt and output tokens, presence and frequency: output tokens only.
static void apply_penalties(struct oct_sampler *sampler, const struct oct_sampling *sampling, const int32_t *tokens, int prompt_length,
                            int num_tokens) {
    enum { APPLIED = -1 };
    int32_t *counts = sampler->counts;
    for (int i = prompt_length; i < num_tokens; i++) counts[tokens[i]]++;
    for (int i = 0; i < num_tokens; i++) {
        int32_t id = tokens[i], count = counts[id];
        if (count == APPLIED) continue;
        float logit = sampler->adjusted[id];
        logit = logit > 0 ? logit / sampling->repetition_penalty : logit * sampling->repetition_penalty;
        logit -= (float)count * sampling->frequency_penalty;
        if (count > 0) logit -= sampling->presence_penalty;
        sampler->adjusted[id] = logit;
        counts[id] = APPLIED;
    }
    for (int i = 0; i < num_tokens; i++) counts[tokens[i]] = 0;
}

// The logits that the token is chosen from: `logits` itself when nothing changes them.
static const float *adjusted_logits(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits,
                                    const int32_t *tokens, int prompt_length, int num_tokens) {
    bool penalties = sampling->repetition_penalty != 1 || sampling->presence_penalty != 0 || sampling->frequency_penalty != 0;
    bool too_early_to_stop = num_tokens - prompt_length < sampling->min_tokens && sampling->num_stop_token_ids > 0;
    if (!penalties && !too_early_to_stop) return logits;
    memcpy(sampler->adjusted, logits, (size_t)sampler->vocab_size * sizeof *logits);
    if (too_early_to_stop)
        for (int i = 0; i < sampling->num_stop_token_ids; i++) sampler->adjusted[sampling->stop_token_ids[i]] = -INFINITY;
    if (penalties) apply_penalties(sampler, sampling, tokens, prompt_length, num_tokens);
    return sampler->adjusted;
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

static int32_t draw(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits, double u) {
    float highest = largest(logits, sampler->vocab_size);
    float inverse = 1 / sampling->temperature;
    // min_p: exp((logit - highest) / temperature) >= min_p
    float least = sampling->min_p > 0 ? highest + sampling->temperature * logf(sampling->min_p) : -INFINITY;
    int count = collect_candidates(sampler, logits, least);
    bool top_k = sampling->top_k > 0 && sampling->top_k < count;
    bool filtered = top_k || sampling->top_p < 1;
    struct ranking ranking = {sampler->candidates, count, count};
    if (filtered) ranking = rank_candidates(sampler->candidates, count);
    if (top_k) {
        count = sampling->top_k;
        ranked(&ranking, count - 1);
    }
    // Candidates that count stand at the end of the array in ascending order after top_k, anywhere in it without.
    const struct candidate *first = ranking.heap + ranking.count - count;
    double total = 0;
    for (int i = 0; i < count; i++) total += expf((first[i].logit - highest) * inverse);
    if (sampling->top_p < 1) { // the fewest best ones that hold top_p of the total
        double held = 0;
        for (int i = 0; i < count && held < sampling->top_p * total; i++) {
            held += expf((ranked(&ranking, i).logit - highest) * inverse);
            if (held >= sampling->top_p * total) count = i + 1;
        }
        total = held;
    }
    double target = u * total, passed = 0;
    struct candidate chosen = ranking.heap[0];
    for (int i = 0; i < count; i++) {
        chosen = filtered ? ranked(&ranking, i) : ranking.heap[i];
        passed += expf((chosen.logit - highest) * inverse);
        if (passed > target) break;
    }
    return chosen.id;
}

bool oct_sampler_sample(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits, const int32_t *tokens,
                        int prompt_length, int num_tokens, int32_t *token, struct oct_logprob *logprobs) {
    if (!all_finite(logits, sampler->vocab_size)) return false;
    const float *chosen_from = adjusted_logits(sampler, sampling, logits, tokens, prompt_length, num_tokens);
    if (sampling->temperature < GREEDY_TEMPERATURE)
        *token = argmax(chosen_from, sampler->vocab_size);
    else
        *token = draw(sampler, sampling, chosen_from, uniform(sampling->seed, num_tokens - prompt_length));
    if (sampling->num_logprobs > 0) report_logprobs(sampler, logits, *token, sampling->num_logprobs, logprobs);
    return true;
}

oct_status oct_sampling_check(const struct oct_sampling *sampling, int vocab_size, oct_error *err) {
    const struct {
        const char *name;
        float value, lowest, highest;
        const char *range;
    } ranges[] = {
        {"temperature", sampling->temperature, 0, 1e6f, "a number of at least 0"},
        {"top_p", sampling->top_p, 1e-38f, 1, "a number above 0, at most 1,"},
        {"min_p", sampling->min_p, 0, 1, "a number from 0 to 1"},
        {"repetition_penalty", sampling->repetition_penalty, 1e-38f, 1e6f, "a number above 0"},
        {"presence_penalty", sampling->presence_penalty, -2, 2, "a number from -2 to 2"},
        {"frequency_penalty", sampling->frequency_penalty, -2, 2, "a number from -2 to 2"},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lowest && ranges[i].value <= ranges[i].highest)) // NaN is out of range too
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: %s expected, %g found", ranges[i].name, ranges[i].range,
                            (double)ranges[i].value);
    if (sampling->top_k < 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "top_k: at least 1, or 0 for all, expected, %d found", sampling->top_k);
    if (sampling->max_tokens < 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "max_tokens: at least 1 expected, %d found", sampling->max_tokens);
    if (sampling->min_tokens < 0 || (sampling->max_tokens > 0 && sampling->min_tokens > sampling->max_tokens))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "min_tokens: from 0 to max_tokens (%d) expected, %d found", sampling->max_tokens,
                        sampling->min_tokens);
    if (sampling->num_logprobs < 0 || sampling->num_logprobs > vocab_size + 1)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "logprobs: from 0 to the size of the vocabulary (%d) expected, %d found", vocab_size,
                        sampling->num_logprobs);
    for (int i = 0; i < sampling->num_stop_token_ids; i++)
        if (sampling->stop_token_ids[i] < 0 || sampling->stop_token_ids[i] >= vocab_size)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "stop_token_ids: ids below the size of the vocabulary (%d) expected, %d found",
                            vocab_size, (int)sampling->stop_token_ids[i]);
    return OCT_OK;
}
