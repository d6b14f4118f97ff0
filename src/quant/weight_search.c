// All intermediate values are bf16, as in INC, because ties between rounded errors decide: per tensor the later candidate wins one, per
// channel the first. Per tensor the weight is reduced to a histogram of its bf16 magnitudes, so that 63 candidates cost one pass.
#include "quant/weight_search.h"

#include "base/memory.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { NUM_MAGNITUDES = 1 << 15 };

struct oct_weight_search {
    struct oct_scale_rule rule;
    float full_scale;
    int out_features;
    float candidates[OCT_MAX_CANDIDATES];
    int num_candidates;
    float *scales;    // per channel: (out_features)
    uint64_t *counts; // per tensor: (NUM_MAGNITUDES) of each bf16 magnitude
};

struct oct_weight_search *oct_weight_search_new(const struct oct_scale_rule *rule, int out_features) {
    OCT_CHECK(rule->value == OCT_SCALE_OPT);
    struct oct_weight_search *search = oct_alloc(1, sizeof *search, "a search for weight scales");
    search->rule = *rule;
    search->full_scale = oct_scale_rule_full_scale(rule);
    search->num_candidates = oct_scale_candidates(rule, search->candidates);
    search->out_features = out_features;
    if (rule->per_channel)
        search->scales = oct_alloc((size_t)out_features, sizeof *search->scales, "a search for weight scales");
    else
        search->counts = oct_alloc(NUM_MAGNITUDES, sizeof *search->counts, "a search for weight scales");
    return search;
}

void oct_weight_search_free(struct oct_weight_search *search) {
    if (!search) return;
    free(search->scales);
    free(search->counts);
    free(search);
}

static float round_to_format(const struct oct_weight_search *search, float x) {
    return search->rule.e5m2 ? oct_e5m2_round(x) : oct_e4m3_round(x, search->full_scale);
}

// What is lost of x when it is quantized with `scale`.
static float loss(const struct oct_weight_search *search, float x, float scale) {
    float kept = oct_bf16_round(round_to_format(search, oct_bf16_round(x / scale)) * scale);
    return oct_bf16_round(x - kept);
}

// The candidates times the scale that the maximum gives.
static float search_row(const struct oct_weight_search *search, const float *row, int n) {
    float amax = 0, best_error = INFINITY, best = -1;
    for (int i = 0; i < n; i++) amax = fmaxf(amax, fabsf(row[i]));
    float reference = oct_scale(&search->rule, amax);
    for (int candidate = 0; candidate < search->num_candidates; candidate++) {
        float scale = oct_bf16_round(reference * search->candidates[candidate]);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            float lost = loss(search, row[i], scale);
            sum += oct_bf16_round(lost * lost);
        }
        float error = oct_bf16_round((float)sum);
        if (!(error < best_error)) continue;
        best_error = error;
        best = scale;
    }
    return oct_scale_round(&search->rule, best < 0 ? reference : best);
}

void oct_weight_search_rows(struct oct_weight_search *search, int first_row, int rows, int in_features, const float *weights) {
    OCT_CHECK(first_row >= 0 && first_row + rows <= search->out_features);
    size_t n = (size_t)in_features;
    if (search->rule.per_channel)
        for (int i = 0; i < rows; i++) search->scales[first_row + i] = search_row(search, weights + (size_t)i * n, in_features);
    else
        for (size_t i = 0; i < (size_t)rows * n; i++) search->counts[oct_bf16_from_f32(weights[i]) & (NUM_MAGNITUDES - 1)]++;
}

static float norm_of_loss(const struct oct_weight_search *search, float scale) {
    double sum = 0;
    for (unsigned bits = 0; bits < NUM_MAGNITUDES; bits++) {
        if (!search->counts[bits]) continue;
        double lost = loss(search, oct_bf16_to_f32((uint16_t)bits), scale);
        sum += (double)search->counts[bits] * lost * lost;
    }
    return oct_bf16_round((float)sqrt(sum));
}

static void consider(const struct oct_weight_search *search, float candidate, float *best_error, float *best) {
    float error = norm_of_loss(search, candidate);
    if (!(error <= *best_error)) return;
    *best_error = error;
    *best = candidate;
}

static float search_tensor(const struct oct_weight_search *search) {
    float best_error = INFINITY, best = 1;
    for (int i = 0; i < search->num_candidates; i++) consider(search, search->candidates[i], &best_error, &best);
    return oct_scale_round(&search->rule, best);
}

void oct_weight_search_finish(const struct oct_weight_search *search, float *scales) {
    if (!search->rule.per_channel) {
        *scales = search_tensor(search);
        return;
    }
    for (int i = 0; i < search->out_features; i++) scales[i] = search->scales[i];
}
