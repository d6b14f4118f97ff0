// The sampler: which token, with which probability, and what it tells about the others.
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 10, DRAWS = 40000 };

static struct oct_sampling at_temperature(float temperature) {
    return (struct oct_sampling){.temperature = temperature, .top_p = 1, .repetition_penalty = 1};
}

// The token after `tokens`, of which one is the prompt.
static int32_t sample(const struct oct_sampling *sampling, const float *logits, const int32_t *tokens, int num_tokens) {
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    struct oct_logprob logprobs[VOCAB + 1];
    int32_t token;
    assert_int_equal(oct_sampler_sample(sampler, sampling, logits, tokens, 1, num_tokens, &token, logprobs), OCT_SAMPLED);
    oct_sampler_free(sampler);
    return token;
}

// Draws DRAWS tokens with different seeds and compares their frequencies with `expected` (VOCAB), which need not be normalized.
static void assert_distribution(struct oct_sampling sampling, const float *logits, const double *expected) {
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    int counts[VOCAB] = {0};
    const int32_t prompt[] = {0};
    double total = 0;
    for (int i = 0; i < VOCAB; i++) total += expected[i];
    for (int i = 0; i < DRAWS; i++) {
        int32_t token;
        sampling.seed = (uint64_t)i;
        assert_int_equal(oct_sampler_sample(sampler, &sampling, logits, prompt, 1, 1, &token, NULL), OCT_SAMPLED);
        counts[token]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        double p = expected[i] / total, deviation = sqrt(p * (1 - p) / DRAWS);
        if (p == 0)
            assert_int_equal(counts[i], 0);
        else // 5 standard deviations: the seeds are fixed, so that this passes always or never
            assert_true(fabs((double)counts[i] / DRAWS - p) < 5 * deviation + 1e-9);
    }
    oct_sampler_free(sampler);
}

// Probabilities 0.3, 0.25, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.015, 0.005, in a mixed order of ids.
static const double probabilities[VOCAB] = {0.05, 0.3, 0.015, 0.1, 0.25, 0.005, 0.03, 0.15, 0.02, 0.08};

static void fill_logits(float *logits) {
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)log(probabilities[i]) + 3;
}

static void greedy_ties_go_to_the_lowest_id(void **state) {
    (void)state;
    const float logits[VOCAB] = {0, 1, 2, 5, 4, 5, 5, 3, 2, 1};
    const int32_t prompt[] = {0};
    struct oct_sampling greedy = at_temperature(0);
    assert_int_equal(sample(&greedy, logits, prompt, 1), 3);
    const float equal[VOCAB] = {0};
    assert_int_equal(sample(&greedy, equal, prompt, 1), 0);
}

static void temperature_shapes_the_distribution(void **state) {
    (void)state;
    float logits[VOCAB];
    double expected[VOCAB];
    fill_logits(logits);
    assert_distribution(at_temperature(1), logits, probabilities);
    for (int i = 0; i < VOCAB; i++) expected[i] = pow(probabilities[i], 1 / 0.5);
    assert_distribution(at_temperature(0.5f), logits, expected);
    for (int i = 0; i < VOCAB; i++) expected[i] = pow(probabilities[i], 1 / 2.0);
    assert_distribution(at_temperature(2), logits, expected);
    double best[VOCAB] = {[1] = 1};
    assert_distribution(at_temperature(1e-4f), logits, best);
}

static void top_k_keeps_the_k_best(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    struct oct_sampling sampling = at_temperature(1);
    sampling.top_k = 3;
    const double three[VOCAB] = {[1] = 0.3, [4] = 0.25, [7] = 0.15};
    assert_distribution(sampling, logits, three);
    sampling.top_k = VOCAB + 5;
    assert_distribution(sampling, logits, probabilities);
    sampling.top_k = 2;
    const float equal[VOCAB] = {0};
    const double lowest[VOCAB] = {1, 1};
    assert_distribution(sampling, equal, lowest);
}

static void top_p_keeps_the_fewest_that_hold_p(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    struct oct_sampling sampling = at_temperature(1);
    const double three[VOCAB] = {[1] = 0.3, [4] = 0.25, [7] = 0.15};
    sampling.top_p = 0.6f; // 0.3 + 0.25 < 0.6 <= 0.3 + 0.25 + 0.15
    assert_distribution(sampling, logits, three);
    const double one[VOCAB] = {[1] = 1};
    sampling.top_p = 0.01f;
    assert_distribution(sampling, logits, one);
    sampling.top_p = 0.75f; // of what top_k = 3 leaves: 0.43 + 0.36 >= 0.75
    sampling.top_k = 3;
    const double two[VOCAB] = {[1] = 0.3, [4] = 0.25};
    assert_distribution(sampling, logits, two);
}

static void min_p_keeps_what_is_near_the_best(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    struct oct_sampling sampling = at_temperature(1);
    sampling.min_p = 0.3f; // 0.09 of 0.3
    const double four[VOCAB] = {[1] = 0.3, [4] = 0.25, [7] = 0.15, [3] = 0.1};
    assert_distribution(sampling, logits, four);
    sampling.temperature = 0.5f; // squares: 0.0625 / 0.09 stays, 0.0225 / 0.09 = 0.25 goes
    const double two[VOCAB] = {[1] = 0.09, [4] = 0.0625};
    assert_distribution(sampling, logits, two);
    sampling.temperature = 1;
    sampling.top_p = 0.5f; // of 0.8
    const double both[VOCAB] = {[1] = 0.3, [4] = 0.25};
    assert_distribution(sampling, logits, both);
}

static void penalties_follow_their_definitions(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 4, 4, 4, 7}; // prompt: 1; output: 4 three times, 7 once
    struct oct_sampling greedy = at_temperature(0);
    const float logits[VOCAB] = {[1] = 4.0f, [4] = 3.9f, [7] = 3.8f, [9] = 2.6f};
    assert_int_equal(sample(&greedy, logits, tokens, 5), 1);

    struct oct_sampling presence = greedy; // 4: 2.4, 7: 2.3; the prompt does not count
    presence.presence_penalty = 1.5f;
    const float without_prompt[VOCAB] = {[1] = 0, [4] = 3.9f, [7] = 3.8f, [9] = 2.35f};
    assert_int_equal(sample(&presence, logits, tokens, 5), 1);
    assert_int_equal(sample(&presence, without_prompt, tokens, 5), 4);

    struct oct_sampling frequency = greedy; // 4: 3.9 - 3 * 0.5 = 2.4, 7: 3.3
    frequency.frequency_penalty = 0.5f;
    assert_int_equal(sample(&frequency, without_prompt, tokens, 5), 7);

    struct oct_sampling repetition = greedy; // divides what is positive, multiplies what is not; the prompt counts
    repetition.repetition_penalty = 2;
    assert_int_equal(sample(&repetition, logits, tokens, 5), 9);
    const float negative[VOCAB] = {-9, -1.0f, -9, -9, -1.1f, -9, -9, -1.2f, -9, -1.9f};
    assert_int_equal(sample(&repetition, negative, tokens, 5), 9);

    struct oct_sampler *sampler = oct_sampler_new(VOCAB); // what was counted for one sequence is forgotten for the next
    int32_t token;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(oct_sampler_sample(sampler, &frequency, without_prompt, tokens, 1, 2, &token, NULL), OCT_SAMPLED);
        assert_int_equal(token, 7);
    }
    oct_sampler_free(sampler);

    struct oct_sampling reward = greedy; // negative penalties encourage
    reward.frequency_penalty = -0.1f;
    assert_int_equal(sample(&reward, logits, tokens, 5), 4);
}

static void the_smallest_and_largest_repetition_penalties_leave_a_distribution(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3};
    const float logits[VOCAB] = {[1] = 5, [2] = 4, [3] = -4, [4] = 6};
    const int32_t allowed[] = {1, 4};
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct oct_sampling sampling = at_temperature(1);
        sampling.seed = seed;
        sampling.repetition_penalty = FLT_MIN; // 1 and 2 far above all others
        int32_t token = sample(&sampling, logits, tokens, 3);
        assert_true(token == 1 || token == 2);
        sampling.repetition_penalty = FLT_MAX; // 3 beneath all others
        assert_int_not_equal(sample(&sampling, logits, tokens, 3), 3);
        sampling.repetition_penalty = FLT_MIN; // not even a finite bound brings back what is forbidden
        sampling.allowed_token_ids = allowed, sampling.num_allowed_token_ids = 2;
        assert_int_equal(sample(&sampling, logits, tokens, 3), 1);
    }
}

static void min_tokens_keeps_stop_tokens_out(void **state) {
    (void)state;
    const float logits[VOCAB] = {[2] = 9, [3] = 8, [5] = 7};
    const int32_t tokens[] = {0, 1, 1}, stops[] = {2, 3};
    struct oct_sampling sampling = at_temperature(0);
    sampling.stop_token_ids = stops;
    sampling.num_stop_token_ids = sampling.num_late_token_ids = 2;
    sampling.min_tokens = 2;
    assert_int_equal(sample(&sampling, logits, tokens, 2), 5);
    assert_int_equal(sample(&sampling, logits, tokens, 3), 2);
}

static void a_seed_gives_the_same_tokens_again(void **state) {
    (void)state;
    float logits[VOCAB];
    int32_t first[50], second[50], other[50];
    const int32_t tokens[51] = {0};
    fill_logits(logits);
    struct oct_sampling sampling = at_temperature(1);
    sampling.seed = 42;
    for (int i = 0; i < 50; i++) first[i] = sample(&sampling, logits, tokens, i + 1);
    for (int i = 49; i >= 0; i--) second[i] = sample(&sampling, logits, tokens, i + 1);
    sampling.seed = 43;
    for (int i = 0; i < 50; i++) other[i] = sample(&sampling, logits, tokens, i + 1);
    assert_memory_equal(first, second, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
}

static void draws_of_one_seed_are_independent(void **state) {
    (void)state;
    const float two[VOCAB] = {0, 0, -1e4f, -1e4f, -1e4f, -1e4f, -1e4f, -1e4f, -1e4f, -1e4f};
    static const int32_t tokens[DRAWS + 1];
    struct oct_sampling sampling = at_temperature(1);
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    int pairs[2][2] = {{0}};
    int32_t previous = 0;
    for (int i = 0; i < DRAWS; i++) {
        int32_t token;
        assert_int_equal(oct_sampler_sample(sampler, &sampling, two, tokens, 1, i + 1, &token, NULL), OCT_SAMPLED);
        pairs[previous][token]++;
        previous = token;
    }
    for (int i = 0; i < 4; i++) assert_in_range(pairs[i / 2][i % 2], DRAWS / 4 - 500, DRAWS / 4 + 500);
    oct_sampler_free(sampler);
}

static void logprobs_are_of_the_raw_distribution(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    const int32_t tokens[] = {1, 1};
    struct oct_sampling sampling = at_temperature(0);
    sampling.repetition_penalty = 50; // so that not the best one is sampled
    sampling.num_logprobs = 4;
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    struct oct_logprob logprobs[4];
    int32_t token;
    assert_int_equal(oct_sampler_sample(sampler, &sampling, logits, tokens, 1, 2, &token, logprobs), OCT_SAMPLED);
    const int32_t ids[] = {4, 1, 4, 7};
    assert_int_equal(token, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(logprobs[i].id, ids[i]);
        assert_true(fabs(logprobs[i].logprob - log(probabilities[ids[i]])) < 1e-6);
    }
    assert_true(logprobs[0].logprob == logprobs[2].logprob);
    oct_sampler_free(sampler);
}

static void only_allowed_tokens_are_sampled(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    const int32_t allowed[] = {4, 9, 5};
    struct oct_sampling sampling = at_temperature(1);
    sampling.allowed_token_ids = allowed;
    sampling.num_allowed_token_ids = 3;
    const double three[VOCAB] = {[4] = 0.25, [9] = 0.08, [5] = 0.005};
    assert_distribution(sampling, logits, three);
    sampling.top_p = 0.5f; // of what is allowed
    const double one[VOCAB] = {[4] = 1};
    assert_distribution(sampling, logits, one);
    sampling.top_p = 1, sampling.top_k = 8; // more than are left
    assert_distribution(sampling, logits, three);
}

static void logit_bias_is_added_before_the_penalties(void **state) {
    (void)state;
    float logits[VOCAB];
    double expected[VOCAB];
    fill_logits(logits);
    const struct oct_biased_token bias[] = {{1, -100}, {5, 2}};
    struct oct_sampling sampling = at_temperature(1);
    sampling.logit_bias = bias;
    sampling.num_logit_bias = 2;
    memcpy(expected, probabilities, sizeof expected);
    expected[1] = 0, expected[5] *= exp(2);
    assert_distribution(sampling, logits, expected);
    const float two[VOCAB] = {[3] = 2, [5] = -1};
    const int32_t tokens[] = {0, 5};
    const struct oct_biased_token more[] = {{5, 4.5f}}; // (-1 + 4.5) / 2 < 2, but -1 * 2 + 4.5 > 2
    struct oct_sampling both = at_temperature(0);
    both.logit_bias = more;
    both.num_logit_bias = 1;
    both.repetition_penalty = 2;
    assert_int_equal(sample(&both, two, tokens, 2), 3);
}

static void a_bad_word_is_never_completed(void **state) {
    (void)state;
    const float logits[VOCAB] = {[2] = 9, [3] = 8, [5] = 7};
    const int32_t words[] = {2, /**/ 4, 4, 3}, tokens[] = {4, 4, 4, 9, 4, 4};
    const int lengths[] = {1, 3};
    struct oct_sampling sampling = at_temperature(0);
    sampling.bad_words = words;
    sampling.bad_word_lengths = lengths;
    sampling.num_bad_words = 2;
    assert_int_equal(sample(&sampling, logits, tokens, 1), 3);
    assert_int_equal(sample(&sampling, logits, tokens, 2), 3); // 4 (prompt) 4: the prompt does not count
    assert_int_equal(sample(&sampling, logits, tokens, 3), 5);
    assert_int_equal(sample(&sampling, logits, tokens, 4), 3);
    assert_int_equal(sample(&sampling, logits, tokens, 6), 5);
}

static void stop_tokens_that_are_ignored_are_still_late(void **state) {
    (void)state;
    const float logits[VOCAB] = {[2] = 9, [3] = 8, [5] = 7};
    const int32_t tokens[] = {0, 1, 1}, late[] = {3, 2};
    struct oct_sampling sampling = at_temperature(0);
    sampling.stop_token_ids = late;
    sampling.num_stop_token_ids = 1;
    sampling.num_late_token_ids = 2;
    sampling.min_tokens = 1;
    assert_int_equal(sample(&sampling, logits, tokens, 1), 5);
    assert_int_equal(sample(&sampling, logits, tokens, 2), 2);
}

static void repetitions_are_found_at_the_end_alone(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 1, 2, 1, 2, 7, 7, 7, 7};
    const struct {
        struct oct_repetition detection;
        int count;
        bool found;
    } cases[] = {
        {{3, 2, 3}, 6, true},  {{3, 2, 3}, 5, false},  {{3, 2, 2}, 4, true},  {{3, 2, 4}, 6, false},  {{3, 2, 2}, 7, false},
        {{1, 0, 4}, 10, true}, {{1, 0, 5}, 10, false}, {{1, 0, 4}, 9, false}, {{0, 0, 0}, 10, false}, {{2, 2, 2}, 10, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(oct_ends_in_repetition(&cases[i].detection, tokens, cases[i].count), cases[i].found);
}

static void ranks_and_chosen_ids_come_with_logprobs(void **state) {
    (void)state;
    float logits[VOCAB];
    fill_logits(logits);
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    struct oct_logprob logprobs[VOCAB + 1];
    assert_true(oct_sampler_score(sampler, logits, 9, VOCAB + 1, logprobs));
    assert_int_equal(logprobs[0].rank, 5);
    const int32_t order[VOCAB] = {1, 4, 7, 3, 9, 0, 6, 8, 2, 5};
    for (int i = 0; i < VOCAB; i++) {
        assert_int_equal(logprobs[i + 1].id, order[i]);
        assert_int_equal(logprobs[i + 1].rank, i + 1);
    }
    const int32_t ids[] = {5, 8}, prompt[] = {0};
    struct oct_sampling sampling = at_temperature(0);
    sampling.num_logprobs = 3;
    sampling.logprob_token_ids = ids;
    int32_t token;
    assert_int_equal(oct_sampler_sample(sampler, &sampling, logits, prompt, 1, 1, &token, logprobs), OCT_SAMPLED);
    assert_int_equal(logprobs[0].id, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(logprobs[i + 1].id, ids[i]);
        assert_true(fabs(logprobs[i + 1].logprob - log(probabilities[ids[i]])) < 1e-6);
    }
    oct_sampler_free(sampler);
}

// The reference sorts everything: what the heaps and the bound of top_p leave must be the same, on a vocabulary of real size.
static void filters_keep_what_sorting_keeps(void **state) {
    (void)state;
    enum { MANY = 3001, ROWS = 60 };
    static float logits[MANY];
    static double weights[MANY];
    const int32_t prompt[] = {0};
    struct oct_sampler *sampler = oct_sampler_new(MANY);
    for (int row = 0; row < ROWS; row++) {
        struct oct_sampling sampling = at_temperature(0.3f + 0.1f * (float)(row % 12));
        sampling.top_k = row % 3 == 0 ? 0 : 1 + row * row % 50;
        sampling.top_p = row % 4 == 0 ? 1 : 0.3f + 0.01f * (float)row;
        sampling.min_p = row % 5 == 0 ? 0.02f : 0;
        uint64_t x = (uint64_t)row + 1;
        for (int i = 0; i < MANY; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            logits[i] = (float)(x >> 40) * 0x1p-24f * 12 + (i % 500 == row ? 6 : 0); // distinct, some stand out
        }
        double highest = -1e9, total = 0;
        for (int i = 0; i < MANY; i++) highest = fmax(highest, (double)logits[i]);
        bool kept[MANY] = {false}, any = true;
        double held = 0, weight = 0;
        for (int i = 0; i < MANY; i++) {
            weights[i] = exp(((double)logits[i] - highest) / (double)sampling.temperature);
            if (weights[i] < (double)sampling.min_p) weights[i] = 0;
        }
        for (int pass = 0; pass < 2; pass++) { // first the total over top_k, then top_p of it
            memset(kept, 0, sizeof kept);
            held = 0, any = true;
            for (int taken = 0; any && (sampling.top_k == 0 || taken < sampling.top_k); taken++) {
                if (pass == 1 && held >= (double)sampling.top_p * total) break;
                int best = -1;
                for (int i = 0; i < MANY; i++)
                    if (!kept[i] && weights[i] > 0 && (best < 0 || weights[i] > weights[best])) best = i;
                any = best >= 0;
                if (!any) break;
                kept[best] = true;
                held += weights[best];
                if (sampling.top_k == 0 && pass == 0) break; // the total is over all
            }
            if (pass == 0) total = held;
            if (pass == 0 && sampling.top_k == 0)
                for (int i = 0; i < MANY; i++) total += kept[i] ? 0 : weights[i];
            if (sampling.top_p == 1 && sampling.top_k == 0) break;
        }
        bool all = sampling.top_p == 1 && sampling.top_k == 0;
        weight = 0;
        for (int seed = 0; seed < 200; seed++) {
            int32_t token;
            sampling.seed = (uint64_t)seed;
            assert_int_equal(oct_sampler_sample(sampler, &sampling, logits, prompt, 1, 1, &token, NULL), OCT_SAMPLED);
            if (!(all ? weights[token] > 0 : kept[token])) fail_msg("row %d samples %d, which the filters take out", row, (int)token);
            weight += weights[token];
        }
        assert_true(weight > 0);
    }
    oct_sampler_free(sampler);
}

static void nan_and_infinite_logits_are_refused(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    const int32_t prompt[] = {0};
    struct oct_sampling sampling = at_temperature(1);
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < VOCAB; at++) {
            float logits[VOCAB] = {0};
            int32_t token;
            logits[at] = bad[i];
            assert_int_equal(oct_sampler_sample(sampler, &sampling, logits, prompt, 1, 1, &token, NULL), OCT_SAMPLED_NOT_FINITE);
        }
    oct_sampler_free(sampler);
}

static void parameters_out_of_range_are_named(void **state) {
    (void)state;
    const int32_t stop[] = {VOCAB};
    struct {
        struct oct_sampling sampling;
        const char *name;
    } cases[20];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) cases[i].sampling = at_temperature(1);
    cases[0].sampling.temperature = -0.1f, cases[0].name = "temperature";
    cases[1].sampling.temperature = NAN, cases[1].name = "temperature";
    cases[2].sampling.top_p = 0, cases[2].name = "top_p";
    cases[3].sampling.top_p = 1.01f, cases[3].name = "top_p";
    cases[4].sampling.min_p = -0.1f, cases[4].name = "min_p";
    cases[5].sampling.repetition_penalty = 0, cases[5].name = "repetition_penalty";
    cases[6].sampling.presence_penalty = 2.1f, cases[6].name = "presence_penalty";
    cases[7].sampling.frequency_penalty = -INFINITY, cases[7].name = "frequency_penalty";
    cases[8].sampling.top_k = -2, cases[8].name = "top_k";
    cases[9].sampling.max_tokens = -1, cases[9].name = "max_tokens";
    cases[10].sampling.max_tokens = 3, cases[10].sampling.min_tokens = 4, cases[10].name = "min_tokens";
    cases[11].sampling.num_logprobs = VOCAB + 2, cases[11].name = "logprobs";
    cases[12].sampling.stop_token_ids = stop, cases[12].sampling.num_late_token_ids = 1, cases[12].name = "stop_token_ids";
    const int one[] = {1}, none[] = {0};
    const struct oct_biased_token outside = {VOCAB, 1}, huge = {1, 101};
    cases[13].sampling.allowed_token_ids = stop, cases[13].sampling.num_allowed_token_ids = 1, cases[13].name = "allowed_token_ids";
    cases[14].sampling.bad_words = stop, cases[14].sampling.bad_word_lengths = one, cases[14].sampling.num_bad_words = 1;
    cases[14].name = "bad_words";
    cases[15].sampling.bad_words = stop, cases[15].sampling.bad_word_lengths = none, cases[15].sampling.num_bad_words = 1;
    cases[15].name = "bad_words";
    cases[16].sampling.logit_bias = &outside, cases[16].sampling.num_logit_bias = 1, cases[16].name = "logit_bias";
    cases[17].sampling.logit_bias = &huge, cases[17].sampling.num_logit_bias = 1, cases[17].name = "logit_bias";
    cases[18].sampling.repetition_detection = (struct oct_repetition){2, 3, 2}, cases[18].name = "repetition_detection";
    cases[19].sampling.num_prompt_logprobs = -1, cases[19].name = "prompt_logprobs";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_error err;
        assert_int_equal(oct_sampling_check(&cases[i].sampling, VOCAB, &err), OCT_INVALID_ARGUMENT);
        assert_int_equal(strncmp(err.message, cases[i].name, strlen(cases[i].name)), 0);
    }
    struct oct_sampling good = at_temperature(0);
    assert_int_equal(oct_sampling_check(&good, VOCAB, NULL), OCT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_ties_go_to_the_lowest_id),
        cmocka_unit_test(temperature_shapes_the_distribution),
        cmocka_unit_test(top_k_keeps_the_k_best),
        cmocka_unit_test(top_p_keeps_the_fewest_that_hold_p),
        cmocka_unit_test(min_p_keeps_what_is_near_the_best),
        cmocka_unit_test(penalties_follow_their_definitions),
        cmocka_unit_test(the_smallest_and_largest_repetition_penalties_leave_a_distribution),
        cmocka_unit_test(min_tokens_keeps_stop_tokens_out),
        cmocka_unit_test(a_seed_gives_the_same_tokens_again),
        cmocka_unit_test(draws_of_one_seed_are_independent),
        cmocka_unit_test(logprobs_are_of_the_raw_distribution),
        cmocka_unit_test(only_allowed_tokens_are_sampled),
        cmocka_unit_test(logit_bias_is_added_before_the_penalties),
        cmocka_unit_test(a_bad_word_is_never_completed),
        cmocka_unit_test(stop_tokens_that_are_ignored_are_still_late),
        cmocka_unit_test(repetitions_are_found_at_the_end_alone),
        cmocka_unit_test(ranks_and_chosen_ids_come_with_logprobs),
        cmocka_unit_test(filters_keep_what_sorting_keeps),
        cmocka_unit_test(nan_and_infinite_logits_are_refused),
        cmocka_unit_test(parameters_out_of_range_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
