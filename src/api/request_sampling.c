// request_sampling.c: fills in defaults, adds the model's EOS tokens to the request's stop tokens, and tokenizes bad words. Ranges are the
// engine's to check.
#include "api/request_sampling.h"

#include "base/clock.h"
#include "base/memory.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t random_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)(oct_seconds() * 1e9);
    return seed;
}

// 0 is taken as 1. Positive numbers stay positive and finite in float32.
static float positive_or_one(double value) {
    if (value == 0) return 1;
    return value > 0 && isfinite(value) ? (float)fmin(fmax(value, FLT_MIN), FLT_MAX) : (float)value;
}

static int32_t *copy_ids(const int32_t *ids, size_t count) {
    int32_t *copy = oct_alloc(count, sizeof *copy, "token ids of a request");
    if (count) memcpy(copy, ids, count * sizeof *copy);
    return copy;
}

// First what ends the sequence, then what may only not come early: EOS tokens that are ignored.
static void add_stop_tokens(const struct oct_engine *engine, const oct_sampling_params *params, struct oct_sampling *out) {
    struct oct_ids ids = {0};
    for (size_t i = 0; i < params->num_stop_token_ids; i++) oct_ids_append(&ids, params->stop_token_ids[i]);
    if (params->ignore_eos) out->num_stop_token_ids = (int)ids.count;
    for (int i = 0; i < engine->num_eos_tokens; i++) oct_ids_append(&ids, engine->eos_tokens[i]);
    if (!params->ignore_eos) out->num_stop_token_ids = (int)ids.count;
    out->num_late_token_ids = (int)ids.count;
    out->stop_token_ids = ids.data;
}

static void add_bad_word(const struct oct_ids *ids, struct oct_ids *all, struct oct_sampling *out) {
    int *lengths = oct_resize((int *)out->bad_word_lengths, (size_t)out->num_bad_words + 1, sizeof *lengths, "bad words");
    for (size_t i = 0; i < ids->count; i++) oct_ids_append(all, ids->data[i]);
    lengths[out->num_bad_words++] = (int)ids->count;
    out->bad_word_lengths = lengths;
}

// As vLLM: the word as it stands, and with a space before it where that is another token of the same number.
static oct_status add_bad_words(const struct oct_engine *engine, const oct_sampling_params *params, struct oct_sampling *out,
                                oct_error *err) {
    oct_status status = OCT_OK;
    struct oct_ids all = {0};
    for (size_t i = 0; i < params->num_bad_words && status == OCT_OK; i++) {
        const char *word = params->bad_words[i] + strspn(params->bad_words[i], " \t\r\n\v\f");
        struct oct_ids plain = {0}, spaced = {0};
        struct oct_buffer with_space = {0};
        oct_buffer_printf(&with_space, " %s", word);
        oct_encode(engine->text.tokenizer, word, strlen(word), 0, &plain);
        oct_encode(engine->text.tokenizer, with_space.data, with_space.length, 0, &spaced);
        if (plain.count == 0)
            status =
                oct_fail(err, OCT_INVALID_ARGUMENT, "bad_words: words of at least one token expected, \"%s\" found", params->bad_words[i]);
        else
            add_bad_word(&plain, &all, out);
        if (status == OCT_OK && spaced.count == plain.count && spaced.data[0] != plain.data[0]) add_bad_word(&spaced, &all, out);
        oct_buffer_free(&with_space);
        free(plain.data);
        free(spaced.data);
    }
    out->bad_words = all.data;
    return status;
}

static struct oct_biased_token *copy_logit_bias(const oct_sampling_params *params) {
    struct oct_biased_token *bias = oct_alloc(params->num_logit_bias, sizeof *bias, "logit_bias of a request");
    for (size_t i = 0; i < params->num_logit_bias; i++)
        bias[i] = (struct oct_biased_token){params->logit_bias[i].id, params->logit_bias[i].bias};
    return bias;
}

static oct_status check_counts(const oct_sampling_params *params, oct_error *err) {
    const struct {
        const char *name;
        size_t count;
    } lists[] = {{"stop_token_ids", params->num_stop_token_ids},
                 {"logprob_token_ids", params->num_logprob_token_ids},
                 {"logit_bias", params->num_logit_bias},
                 {"allowed_token_ids", params->num_allowed_token_ids},
                 {"bad_words", params->num_bad_words}};
    const size_t most = 1 << 24; // far from what an int counts
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i].count > most)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: at most %zu expected, %zu found", lists[i].name, most, lists[i].count);
    return OCT_OK;
}

oct_status oct_request_sampling_open(const struct oct_engine *engine, const oct_sampling_params *params, struct oct_sampling *out,
                                     oct_error *err) {
    OCT_TRY(check_counts(params, err));
    bool chosen_logprobs = params->num_logprob_token_ids > 0;
    const oct_repetition_detection *repetition = &params->repetition_detection;
    *out = (struct oct_sampling){
        .temperature = (float)params->temperature,
        .top_p = positive_or_one(params->top_p),
        .top_k = params->top_k == -1 ? 0 : params->top_k,
        .min_p = (float)params->min_p,
        .repetition_penalty = positive_or_one(params->repetition_penalty),
        .presence_penalty = (float)params->presence_penalty,
        .frequency_penalty = (float)params->frequency_penalty,
        .seed = params->has_seed ? params->seed : random_seed(),
        .max_tokens = params->max_tokens,
        .min_tokens = params->min_tokens,
        .num_logprobs = chosen_logprobs ? (int)params->num_logprob_token_ids + 1 : params->logprobs,
        .logprob_token_ids = chosen_logprobs ? copy_ids(params->logprob_token_ids, params->num_logprob_token_ids) : NULL,
        .num_prompt_logprobs = params->prompt_logprobs,
        .logit_bias = copy_logit_bias(params),
        .num_logit_bias = (int)params->num_logit_bias,
        .allowed_token_ids = copy_ids(params->allowed_token_ids, params->num_allowed_token_ids),
        .num_allowed_token_ids = (int)params->num_allowed_token_ids,
        .repetition_detection = {repetition->max_pattern_size, repetition->min_pattern_size, repetition->min_count},
    };
    add_stop_tokens(engine, params, out);
    oct_status status = add_bad_words(engine, params, out, err);
    if (status != OCT_OK) oct_request_sampling_close(out);
    return status;
}

void oct_request_sampling_close(struct oct_sampling *sampling) {
    free((void *)sampling->stop_token_ids);
    free((void *)sampling->logprob_token_ids);
    free((void *)sampling->logit_bias);
    free((void *)sampling->allowed_token_ids);
    free((void *)sampling->bad_words);
    free((void *)sampling->bad_word_lengths);
    *sampling = (struct oct_sampling){0};
}
