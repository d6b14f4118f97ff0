// openai_request.h: the body of POST /v1/completions, /v1/chat/completions and /tokenize, read and checked the way vLLM checks it: one
// table of parameters with type, range and default; the same coercions ("4" and 4.0 are 4), the same texts. Runs on a text thread.
#pragma once

#include "octavo.h"
#include "server/api_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum oct_endpoint_set { OCT_COMPLETIONS = 1, OCT_CHAT = 2, OCT_TOKENIZE = 4 };

#define OCT_ABSENT INT64_MIN // an integer parameter that was not given, or null

struct oct_openai_request {
    json_t *body; // owned; NULL once oct_openai_drop_body has freed it
    // Both endpoints. Strings point into the body and are NULL when absent.
    const char *model, *request_id, *cache_salt, *truncation_side;
    int64_t n, max_tokens, max_completion_tokens, seed, top_k, min_tokens, logprobs, top_logprobs, truncate_prompt_tokens, stream_interval;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    bool stream, include_usage, continuous_usage, ignore_eos, skip_special_tokens, spaces_between_special_tokens,
        include_stop_str_in_output, add_special_tokens;
    bool return_token_ids, return_tokens_as_token_ids, has_return_tokens_as_token_ids;
    bool echo;                                                          // completions
    bool wants_logprobs, add_generation_prompt, continue_final_message; // chat
    bool return_token_strs;                                             // tokenize
    char **stop;                                                        // (num_stop) owned
    size_t num_stop;
    int32_t *stop_token_ids; // (num_stop_token_ids) owned
    size_t num_stop_token_ids;
    int64_t prompt_logprobs, priority;
    char *salt;                 // cache_salt, which outlives the body. Owned
    oct_logit_bias *logit_bias; // (num_logit_bias) owned
    size_t num_logit_bias;
    int32_t *allowed_token_ids; // (num_allowed_token_ids) owned; NULL when absent
    size_t num_allowed_token_ids;
    int32_t *logprob_token_ids; // (num_logprob_token_ids) owned; NULL when absent
    size_t num_logprob_token_ids;
    char **bad_words; // (num_bad_words) owned
    size_t num_bad_words;
    oct_repetition_detection repetition_detection;
};

struct oct_openai_limits {
    int max_logprobs; // -1: no limit
    int vocab_size, max_model_len;
};

// Parses `length` bytes of JSON into request->body. Everything is bounded: depth, number of values.
bool oct_openai_parse(struct oct_openai_request *request, const char *text, size_t length, struct oct_api_error *error);
// Reads the parameters of one endpoint. The prompt and the messages are the endpoint's own business.
bool oct_openai_read(struct oct_openai_request *request, enum oct_endpoint_set endpoint, struct oct_api_error *error);
// The parameters that are lists or objects about tokens: logit_bias, allowed_token_ids, bad_words, logprob_token_ids, repetition_detection.
// Part of oct_openai_read.
bool oct_openai_read_token_parameters(struct oct_openai_request *request, struct oct_api_error *error);
// Frees what the former has made.
void oct_openai_free_token_parameters(struct oct_openai_request *request);
// The sampling parameters for a prompt of `prompt_tokens` tokens; ranges are checked here, after the prompt, as in vLLM. *params points
// into the request. max_tokens is clipped to what the context leaves.
bool oct_openai_sampling(const struct oct_openai_request *request, enum oct_endpoint_set endpoint, const struct oct_openai_limits *limits,
                         size_t prompt_tokens, oct_sampling_params *params, struct oct_api_error *error);
// Token ids of a JSON array into *ids (owned by the caller). False when one is no integer of int32's range; *bad is then its index.
bool oct_openai_token_ids(const json_t *array, int32_t **ids, size_t *count, size_t *bad);
// Frees the JSON, which can be large, when everything has been read. Strings of the body are NULL afterwards; the stop strings stay.
void oct_openai_drop_body(struct oct_openai_request *request);
void oct_openai_request_free(struct oct_openai_request *request);

// "1 validation error:" as pydantic words it, for one field. `param` is its path, "body.prompt".
bool oct_openai_invalid(struct oct_api_error *error, const char *param, const char *type, const char *text, const json_t *input);
