// sampling.c: which sampling parameters can be followed at all, and the one that looks at what was already said.
#include "engine/sampling.h"

#include <float.h>
#include <math.h>
#include <stddef.h>

// vLLM's bounds of what a check after every token may cost.
enum { MAX_PATTERN_SIZE = 4096, MAX_PATTERN_WORK = 10 * MAX_PATTERN_SIZE };

static oct_status check_numbers(const struct oct_sampling *sampling, oct_error *err) {
    const struct {
        const char *name;
        float value, lowest, highest;
        const char *range;
    } ranges[] = {
        {"temperature", sampling->temperature, 0, 1e6f, "a number of at least 0"},
        {"top_p", sampling->top_p, FLT_MIN, 1, "a number above 0, at most 1,"},
        {"min_p", sampling->min_p, 0, 1, "a number from 0 to 1"},
        {"repetition_penalty", sampling->repetition_penalty, FLT_MIN, FLT_MAX, "a finite number above 0"},
        {"presence_penalty", sampling->presence_penalty, -2, 2, "a number from -2 to 2"},
        {"frequency_penalty", sampling->frequency_penalty, -2, 2, "a number from -2 to 2"},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lowest && ranges[i].value <= ranges[i].highest)) // NaN is out of range too
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: %s expected, %g found", ranges[i].name, ranges[i].range,
                            (double)ranges[i].value);
    return OCT_OK;
}

static oct_status check_counts(const struct oct_sampling *sampling, int vocab_size, oct_error *err) {
    if (sampling->top_k < 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "top_k: at least 1, or 0 for all, expected, %d found", sampling->top_k);
    if (sampling->max_tokens < 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "max_tokens: at least 1 expected, %d found", sampling->max_tokens);
    if (sampling->min_tokens < 0 || (sampling->max_tokens > 0 && sampling->min_tokens > sampling->max_tokens))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "min_tokens: from 0 to max_tokens (%d) expected, %d found", sampling->max_tokens,
                        sampling->min_tokens);
    const struct {
        const char *name;
        int count;
    } logprobs[] = {{"logprobs", sampling->num_logprobs}, {"prompt_logprobs", sampling->num_prompt_logprobs}};
    for (size_t i = 0; i < sizeof logprobs / sizeof *logprobs; i++)
        if (logprobs[i].count < 0 || logprobs[i].count > vocab_size + 1)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: from 0 to the size of the vocabulary (%d) expected, %d found", logprobs[i].name,
                            vocab_size, logprobs[i].count);
    return OCT_OK;
}

static oct_status check_id(const char *name, int32_t id, int vocab_size, oct_error *err) {
    if (id >= 0 && id < vocab_size) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: ids below the size of the vocabulary (%d) expected, %d found", name, vocab_size,
                    (int)id);
}

static oct_status check_ids(const char *name, const int32_t *ids, int count, int vocab_size, oct_error *err) {
    for (int i = 0; i < count; i++) OCT_TRY(check_id(name, ids[i], vocab_size, err));
    return OCT_OK;
}

static oct_status check_bad_words(const struct oct_sampling *sampling, int vocab_size, oct_error *err) {
    const int32_t *ids = sampling->bad_words;
    for (int i = 0; i < sampling->num_bad_words; i++) {
        int length = sampling->bad_word_lengths[i];
        if (length < 1) return oct_fail(err, OCT_INVALID_ARGUMENT, "bad_words: at least one token each expected, none found");
        OCT_TRY(check_ids("bad_words", ids, length, vocab_size, err));
        ids += length;
    }
    return OCT_OK;
}

static oct_status check_logit_bias(const struct oct_sampling *sampling, int vocab_size, oct_error *err) {
    for (int i = 0; i < sampling->num_logit_bias; i++) {
        const struct oct_biased_token *bias = &sampling->logit_bias[i];
        OCT_TRY(check_id("logit_bias", bias->id, vocab_size, err));
        if (!(fabsf(bias->bias) <= 100))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "logit_bias: a number from -100 to 100 expected, %g found", (double)bias->bias);
    }
    return OCT_OK;
}

static oct_status check_repetition_detection(const struct oct_repetition *detection, oct_error *err) {
    int least = detection->min_pattern_size, most = detection->max_pattern_size;
    if (least < 0 || most < 0 || least > most)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "repetition_detection: 0 <= min_pattern_size <= max_pattern_size expected, %d and %d found", least, most);
    if (most == 0) return OCT_OK;
    if (detection->min_count < 2)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "repetition_detection: min_count of at least 2 expected, %d found",
                        detection->min_count);
    if (most > MAX_PATTERN_SIZE || (int64_t)(most - least + 1) * detection->min_count > MAX_PATTERN_WORK)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "repetition_detection: max_pattern_size of at most %d, and at most %d comparisons after a token expected",
                        MAX_PATTERN_SIZE, MAX_PATTERN_WORK);
    return OCT_OK;
}

oct_status oct_sampling_check(const struct oct_sampling *sampling, int vocab_size, oct_error *err) {
    OCT_TRY(check_numbers(sampling, err));
    OCT_TRY(check_counts(sampling, vocab_size, err));
    OCT_TRY(check_ids("stop_token_ids", sampling->stop_token_ids, sampling->num_late_token_ids, vocab_size, err));
    OCT_TRY(check_ids("allowed_token_ids", sampling->allowed_token_ids, sampling->num_allowed_token_ids, vocab_size, err));
    if (sampling->logprob_token_ids)
        OCT_TRY(check_ids("logprob_token_ids", sampling->logprob_token_ids, sampling->num_logprobs - 1, vocab_size, err));
    OCT_TRY(check_bad_words(sampling, vocab_size, err));
    OCT_TRY(check_logit_bias(sampling, vocab_size, err));
    return check_repetition_detection(&sampling->repetition_detection, err);
}

// The last `size` tokens, `count` times over, end at `end`.
static bool repeats(const int32_t *end, int size, int count) {
    for (int i = 1; i <= size * (count - 1); i++)
        if (end[-i] != end[-i - size]) return false;
    return true;
}

bool oct_ends_in_repetition(const struct oct_repetition *detection, const int32_t *tokens, int count) {
    int size = detection->min_pattern_size > 0 ? detection->min_pattern_size : 1;
    for (; size <= detection->max_pattern_size && (int64_t)size * detection->min_count <= count; size++)
        if (repeats(tokens + count, size, detection->min_count)) return true;
    return false;
}
