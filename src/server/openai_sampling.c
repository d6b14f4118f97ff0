// openai_sampling.c: from the parameters of a request to those of the engine. Ranges are checked here, one table-like list in vLLM's order
// and words.

#include "server/openai_request.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_N = 16384 };

// A range as vLLM words it; `param` is NULL where vLLM names none.
static bool check_range(double value, bool fits, const char *name, const char *range, bool named, struct oct_api_error *error) {
    if (fits) return true;
    char shown[32];
    oct_format_real(value, shown);
    if (named) return oct_api_fail(error, name, "%s must be %s, got %s. (parameter=%s, value=%s)", name, range, shown, name, shown);
    return oct_api_fail(error, NULL, "%s must be %s, got %s.", name, range, shown);
}

static bool check_ranges(const struct oct_openai_request *r, struct oct_api_error *error) {
    if (r->n < 1) return oct_api_fail(error, NULL, "n must be at least 1, got %" PRId64 ".", r->n);
    if (r->n > MAX_N) return oct_api_fail(error, NULL, "n must be at most %d, got %" PRId64 ".", MAX_N, r->n);
    return check_range(r->presence_penalty, fabs(r->presence_penalty) <= 2, "presence_penalty", "in [-2, 2]", false, error) &&
           check_range(r->frequency_penalty, fabs(r->frequency_penalty) <= 2, "frequency_penalty", "in [-2, 2]", false, error) &&
           check_range(r->repetition_penalty, r->repetition_penalty > 0 && isfinite(r->repetition_penalty), "repetition_penalty",
                       "greater than zero", false, error) &&
           check_range(r->temperature, isfinite(r->temperature), "temperature", "a finite number", true, error) &&
           check_range(r->temperature, r->temperature >= 0, "temperature", "non-negative", true, error) &&
           check_range(r->temperature, r->temperature <= 2, "temperature", "in [0, 2]", true, error) &&
           check_range(r->top_p, r->top_p > 0 && r->top_p <= 1, "top_p", "in (0, 1]", true, error) &&
           (r->top_k >= -1 || oct_api_fail(error, NULL, "top_k must be 0 (disable), or at least 1, got %" PRId64 ".", r->top_k)) &&
           check_range(r->min_p, r->min_p >= 0 && r->min_p <= 1, "min_p", "in [0, 1]", false, error);
}

static bool is_token(int32_t id, int vocab_size) {
    return id >= 0 && id < vocab_size;
}

static bool check_listed_ids(const char *name, const int32_t *ids, size_t count, int vocab_size, struct oct_api_error *error) {
    for (size_t i = 0; i < count; i++)
        if (!is_token(ids[i], vocab_size))
            return oct_api_fail(error, name,
                                "token_id(s) [%d] in %s contain out-of-vocab token ids. Vocabulary size: %d (parameter=%s, value=[%d])",
                                ids[i], name, vocab_size, name, ids[i]);
    return true;
}

static bool check_tokens(const struct oct_openai_request *r, int vocab_size, struct oct_api_error *error) {
    if (!check_listed_ids("stop_token_ids", r->stop_token_ids, r->num_stop_token_ids, vocab_size, error)) return false;
    for (size_t i = 0; i < r->num_logit_bias; i++)
        if (!check_listed_ids("logit_bias", &r->logit_bias[i].id, 1, vocab_size, error)) return false;
    if (r->allowed_token_ids && r->num_allowed_token_ids == 0)
        return oct_api_fail(error, "allowed_token_ids", "allowed_token_ids is not None and empty! (parameter=allowed_token_ids, value=[])");
    for (size_t i = 0; i < r->num_allowed_token_ids; i++)
        if (!is_token(r->allowed_token_ids[i], vocab_size))
            return oct_api_fail(error, "allowed_token_ids",
                                "allowed_token_ids contains out-of-vocab token id! (parameter=allowed_token_ids, value=[%d])",
                                r->allowed_token_ids[i]);
    return true;
}

// vLLM's bound of logprob_token_ids.
enum { MAX_LOGPROB_TOKEN_IDS = 128 };

static bool check_logprob_token_ids(const struct oct_openai_request *r, int64_t best, int vocab_size, struct oct_api_error *error) {
    static const char name[] = "logprob_token_ids";
    size_t count = r->num_logprob_token_ids;
    if (!r->logprob_token_ids) return true;
    if (best == OCT_ABSENT)
        return oct_api_fail(error, name, "`logprob_token_ids` requires `logprobs` to be set. (parameter=logprob_token_ids)");
    if (count > MAX_LOGPROB_TOKEN_IDS)
        return oct_api_fail(error, name,
                            "Requested logprob_token_ids of length %zu, which is greater than max allowed: %d (parameter=%s, value=%zu)",
                            count, MAX_LOGPROB_TOKEN_IDS, name, count);
    return check_listed_ids(name, r->logprob_token_ids, count, vocab_size, error);
}

// How many of the best are asked for, against the server's limit. -1 is the whole vocabulary.
static bool check_best(int64_t *best, const char *what, const char *name, const struct oct_openai_limits *limits,
                       struct oct_api_error *error) {
    if (*best == OCT_ABSENT) return true;
    if (*best == -1) *best = limits->vocab_size;
    if (limits->max_logprobs >= 0 && *best > limits->max_logprobs)
        return oct_api_fail(error, name,
                            "Requested %s logprobs of %" PRId64 ", which is greater than max allowed: %d (parameter=%s, value=%" PRId64 ")",
                            what, *best, limits->max_logprobs, name, *best);
    if (*best > limits->vocab_size) *best = limits->vocab_size;
    return true;
}

static int32_t clamp_priority(int64_t priority) {
    return priority > INT32_MAX ? INT32_MAX : priority < INT32_MIN ? INT32_MIN : (int32_t)priority;
}

bool oct_openai_sampling(const struct oct_openai_request *r, enum oct_endpoint_set endpoint, const struct oct_openai_limits *limits,
                         size_t prompt_tokens, oct_sampling_params *params, struct oct_api_error *error) {
    int64_t room = (int64_t)limits->max_model_len - (int64_t)prompt_tokens;
    int64_t asked = r->max_completion_tokens != OCT_ABSENT ? r->max_completion_tokens : r->max_tokens;
    if (asked != OCT_ABSENT && asked > limits->max_model_len)
        return oct_api_fail(error, "max_tokens",
                            "max_tokens=%" PRId64 " cannot be greater than max_model_len=%d. Please request fewer output tokens. "
                            "(parameter=max_tokens, value=%" PRId64 ")",
                            asked, limits->max_model_len, asked);
    int64_t max_tokens = asked == OCT_ABSENT || asked > room ? room : asked;
    if (!check_ranges(r, error)) return false;
    if (max_tokens < 1 && !(endpoint == OCT_COMPLETIONS && r->echo && max_tokens == 0 && room > 0))
        return oct_api_fail(error, "max_tokens",
                            "max_tokens must be at least 1, got %" PRId64 ". (parameter=max_tokens, value=%" PRId64 ")", max_tokens,
                            max_tokens);
    if (r->min_tokens < 0)
        return oct_api_fail(error, NULL, "min_tokens must be greater than or equal to 0, got %" PRId64 ".", r->min_tokens);
    if (r->min_tokens > (max_tokens > 0 ? max_tokens : 1))
        return oct_api_fail(error, NULL, "min_tokens must be less than or equal to max_tokens=%" PRId64 ", got %" PRId64 ".", max_tokens,
                            r->min_tokens);
    for (size_t i = 0; i < r->num_stop; i++)
        if (!*r->stop[i]) return oct_api_fail(error, NULL, "stop cannot contain an empty string.");
    if (r->temperature == 0 && r->n > 1) return oct_api_fail(error, NULL, "n must be 1 when using greedy sampling, got %" PRId64 ".", r->n);
    if (!check_tokens(r, limits->vocab_size, error)) return false;

    int64_t best = endpoint == OCT_COMPLETIONS ? r->logprobs : r->wants_logprobs ? r->top_logprobs : OCT_ABSENT;
    // Echo shows the prompt's tokens beside those of the answer.
    int64_t best_of_prompt = r->prompt_logprobs == OCT_ABSENT && r->echo ? best : r->prompt_logprobs;
    if (!check_logprob_token_ids(r, best, limits->vocab_size, error) || !check_best(&best, "sample", "logprobs", limits, error) ||
        !check_best(&best_of_prompt, "prompt", "prompt_logprobs", limits, error))
        return false;

    const double smallest_temperature = 0.01; // vLLM's: below it the quotient logits / temperature overflows
    *params = (oct_sampling_params){
        .temperature = r->temperature > 0 && r->temperature < smallest_temperature ? smallest_temperature : r->temperature,
        .top_p = r->top_p,
        .top_k = r->top_k > limits->vocab_size ? 0 : (int)r->top_k,
        .min_p = r->min_p,
        .repetition_penalty = r->repetition_penalty,
        .presence_penalty = r->presence_penalty,
        .frequency_penalty = r->frequency_penalty,
        .has_seed = r->seed != OCT_ABSENT && r->seed != -1,
        .seed = (uint64_t)r->seed,
        .max_tokens = max_tokens > 0 ? (int)max_tokens : 1,
        .min_tokens = (int)r->min_tokens,
        .stop = (const char *const *)r->stop,
        .num_stop = r->num_stop,
        .stop_token_ids = r->stop_token_ids,
        .num_stop_token_ids = r->num_stop_token_ids,
        .ignore_eos = r->ignore_eos,
        .skip_special_tokens_off = !r->skip_special_tokens,
        .spaces_between_special_tokens_off = !r->spaces_between_special_tokens,
        .logprobs = best == OCT_ABSENT ? 0 : (int)best + 1,
        .logprob_token_ids = r->logprob_token_ids,
        .num_logprob_token_ids = r->num_logprob_token_ids,
        .prompt_logprobs = best_of_prompt == OCT_ABSENT ? 0 : (int)best_of_prompt + 1,
        .logit_bias = r->logit_bias,
        .num_logit_bias = r->num_logit_bias,
        .allowed_token_ids = r->allowed_token_ids,
        .num_allowed_token_ids = r->num_allowed_token_ids,
        .bad_words = (const char *const *)r->bad_words,
        .num_bad_words = r->num_bad_words,
        .repetition_detection = r->repetition_detection,
        .priority = clamp_priority(r->priority),
        .cache_salt = r->salt,
    };
    return true;
}
