// openai_tokens.c: the request parameters that are lists or objects about tokens.
#include "server/openai_request.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_given(const json_t *value) {
    return value && !json_is_null(value);
}

static bool read_ids(const json_t *body, const char *name, int32_t **ids, size_t *count, struct oct_api_error *error) {
    const json_t *value = json_object_get(body, name);
    size_t bad;
    if (!is_given(value)) return true;
    *ids = NULL;
    if (oct_openai_token_ids(value, ids, count, &bad)) {
        if (!*ids) *ids = oct_alloc(1, sizeof **ids, name); // empty, and yet given
        return true;
    }
    char param[64];
    snprintf(param, sizeof param, "body.%s.%zu", name, bad);
    return oct_openai_invalid(error, param, "int_parsing", "Input should be a valid integer", json_array_get(value, bad));
}

// A key as Python's int() reads it.
static bool read_key(const char *key, int64_t *id) {
    char *end;
    if (!*key) return false;
    *id = strtoll(key, &end, 10);
    end += strspn(end, " \t\r\n");
    return end != key && !*end;
}

// vLLM clamps the bias, and so does this. Ids out of the vocabulary are found later, when its size is known; those that no id can be are
// marked as such.
static bool read_logit_bias(struct oct_openai_request *request, struct oct_api_error *error) {
    json_t *bias = json_object_get(request->body, "logit_bias"), *value;
    const char *key;
    if (!is_given(bias)) return true;
    request->logit_bias = oct_alloc(json_object_size(bias), sizeof *request->logit_bias, "logit_bias");
    json_object_foreach(bias, key, value) {
        int64_t id;
        char param[96];
        snprintf(param, sizeof param, "body.logit_bias.%.64s", key);
        if (!json_is_number(value)) return oct_openai_invalid(error, param, "float_type", "Input should be a valid number", value);
        if (!read_key(key, &id))
            return oct_api_fail(error, "logit_bias",
                                "logit_bias contains key(s) that cannot be converted to integer token IDs: ['%.64s'] "
                                "(parameter=logit_bias, value=['%.64s'])",
                                key, key);
        double clamped = fmin(100, fmax(-100, json_number_value(value)));
        int32_t known = id < 0 || id > INT32_MAX ? -1 : (int32_t)id;
        request->logit_bias[request->num_logit_bias++] = (oct_logit_bias){known, (float)clamped};
    }
    return true;
}

static bool read_bad_words(struct oct_openai_request *request, struct oct_api_error *error) {
    const json_t *words = json_object_get(request->body, "bad_words");
    size_t count = json_array_size(words);
    request->bad_words = oct_alloc(count, sizeof *request->bad_words, "bad_words");
    for (size_t i = 0; i < count; i++) {
        const json_t *word = json_array_get(words, i);
        char param[64];
        snprintf(param, sizeof param, "body.bad_words.%zu", i);
        if (!json_is_string(word)) return oct_openai_invalid(error, param, "string_type", "Input should be a valid string", word);
        if (json_string_length(word) == 0 || strlen(json_string_value(word)) != json_string_length(word))
            return oct_api_fail(error, NULL, "bad_words cannot contain an empty string. Got bad_words=['%.64s']", json_string_value(word));
        request->bad_words[request->num_bad_words++] = oct_strdup(json_string_value(word));
    }
    return true;
}

static bool read_repetition_detection(struct oct_openai_request *request, struct oct_api_error *error) {
    static const char *const names[] = {"max_pattern_size", "min_pattern_size", "min_count"};
    const json_t *detection = json_object_get(request->body, "repetition_detection");
    int values[3] = {0};
    if (!is_given(detection)) return true;
    if (!json_is_object(detection))
        return oct_openai_invalid(error, "body.repetition_detection", "dataclass_type",
                                  "Input should be a dictionary or an instance of RepetitionDetectionParams", detection);
    for (int i = 0; i < 3; i++) {
        const json_t *value = json_object_get(detection, names[i]);
        char param[96];
        snprintf(param, sizeof param, "body.repetition_detection.%s", names[i]);
        if (!value) continue;
        if (!json_is_integer(value) || json_integer_value(value) > INT32_MAX || json_integer_value(value) < INT32_MIN)
            return oct_openai_invalid(error, param, "int_type", "Input should be a valid integer", value);
        values[i] = (int)json_integer_value(value);
    }
    if (values[0] < 0 || values[1] < 0 || values[1] > values[0])
        return oct_api_fail(error, NULL,
                            "max_pattern_size, min_pattern_size must be >=0, with min_pattern_size <= max_pattern_size. Set both to 0 to "
                            "disable repetitive pattern detection.");
    if (values[0] > 0 && values[2] < 2)
        return oct_api_fail(error, NULL,
                            "min_count must be >= 2 to detect repetitive patterns in engine output. If you do not wish to detect "
                            "repetitive patterns, set max_pattern_size to 0.");
    request->repetition_detection = (oct_repetition_detection){values[0], values[1], values[2]};
    return true;
}

bool oct_openai_read_token_parameters(struct oct_openai_request *request, struct oct_api_error *error) {
    if (request->cache_salt) request->salt = oct_strdup(request->cache_salt);
    return read_logit_bias(request, error) && read_bad_words(request, error) && read_repetition_detection(request, error) &&
           read_ids(request->body, "allowed_token_ids", &request->allowed_token_ids, &request->num_allowed_token_ids, error) &&
           read_ids(request->body, "logprob_token_ids", &request->logprob_token_ids, &request->num_logprob_token_ids, error);
}

void oct_openai_free_token_parameters(struct oct_openai_request *request) {
    for (size_t i = 0; i < request->num_bad_words; i++) free(request->bad_words[i]);
    free(request->bad_words);
    free(request->logit_bias);
    free(request->allowed_token_ids);
    free(request->logprob_token_ids);
    free(request->salt);
}
