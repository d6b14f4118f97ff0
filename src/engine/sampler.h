// sampler.h: from one row of logits to a token. The order is vLLM's: log-probabilities of the raw distribution, then the logits processors,
// temperature, min_p, top_k, top_p, and the draw.
#pragma once

#include "engine/sampling.h"

struct oct_sampler; // scratch memory for one row; not shared between threads

struct oct_logprob {
    int32_t id;
    float logprob; // natural logarithm, of the model's distribution before processors, temperature and filters
    int32_t rank;  // 1: no other token is likelier; 0: not told (one of logprob_token_ids)
};

enum oct_sampled_status {
    OCT_SAMPLED,
    OCT_SAMPLED_NOT_FINITE, // the logits hold NaN or infinity
    OCT_SAMPLED_NONE_LEFT,  // allowed_token_ids, bad_words and min_tokens together leave no token
};

struct oct_sampler *oct_sampler_new(int vocab_size);
void oct_sampler_free(struct oct_sampler *sampler);

// Samples the token that follows tokens (num_tokens), of which the first prompt_length are the prompt. The draw depends on the seed and
// the number of generated tokens alone. logprobs (sampling->num_logprobs) receives the sampled token first, then the best ones, best
// first; equal ones by id.
enum oct_sampled_status oct_sampler_sample(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits,
                                           const int32_t *tokens, int prompt_length, int num_tokens, int32_t *token,
                                           struct oct_logprob *logprobs);

// The log-probability of a given token, then the count - 1 best. False: the logits are not finite.
bool oct_sampler_score(struct oct_sampler *sampler, const float *logits, int32_t token, int count, struct oct_logprob *logprobs);
