// sampling.h: what one sequence asks of the sampler, in token ids. All arrays are borrowed: they outlive the sequence.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct oct_biased_token {
    int32_t id;
    float bias; // added to the logit
};

// Ends a sequence whose last tokens are one pattern of min_pattern_size to max_pattern_size tokens, min_count times over.
struct oct_repetition {
    int max_pattern_size; // 0: off
    int min_pattern_size; // 0 is taken as 1
    int min_count;        // at least 2
};

struct oct_sampling {
    float temperature; // 0: greedy
    float top_p;       // (0, 1]
    int top_k;         // 0: all
    float min_p;       // [0, 1]
    float repetition_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
    int max_tokens; // 0: up to max_model_len
    int min_tokens; // before so many tokens the stop tokens are not sampled
    // (num_late_token_ids) the first num_stop_token_ids of them end the sequence; none of them is sampled before min_tokens. The EOS tokens
    // are among the first, or, when they are ignored, among the rest.
    const int32_t *stop_token_ids;
    int num_stop_token_ids, num_late_token_ids;
    const struct oct_biased_token *logit_bias; // (num_logit_bias)
    int num_logit_bias;
    const int32_t *allowed_token_ids; // (num_allowed_token_ids) nothing else is sampled; 0: everything may be
    int num_allowed_token_ids;
    const int32_t *bad_words;    // the tokens of all bad words, one after the other
    const int *bad_word_lengths; // (num_bad_words) tokens of each, at least 1. Its last token is not sampled where it would complete it
    int num_bad_words;
    struct oct_repetition repetition_detection;
    int num_logprobs;                 // of every sampled token. 0: none; k: the sampled token and the k - 1 best
    const int32_t *logprob_token_ids; // (num_logprobs - 1) these in place of the best ones; NULL: the best
    int num_prompt_logprobs;          // of every prompt token but the first. 0: none; k: the token itself and the k - 1 best
};

// Ranges of all fields; OCT_INVALID_ARGUMENT names the one that is out of range.
oct_status oct_sampling_check(const struct oct_sampling *sampling, int vocab_size, oct_error *err);

// Whether tokens (count) end in a repetition as described.
bool oct_ends_in_repetition(const struct oct_repetition *detection, const int32_t *tokens, int count);
