// sampler.h: from one row of logits to a token. The order is vLLM's: log-probabilities of the raw distribution, then min_tokens and
// penalties, temperature, min_p, top_k, top_p, and the draw.
#pragma once

#include "engine/engine.h"

struct oct_sampler; // scratch memory for one row; not shared between threads

struct oct_sampler *oct_sampler_new(int vocab_size);
void oct_sampler_free(struct oct_sampler *sampler);

// Samples the token that follows tokens (num_tokens), of which the first prompt_length are the prompt. The draw depends on the seed and
// the number of generated tokens alone. logprobs (sampling->num_logprobs) receives the sampled token first, then the best ones, best
// first; equal ones by id. False: the logits hold NaN or infinity, and nothing was sampled.
bool oct_sampler_sample(struct oct_sampler *sampler, const struct oct_sampling *sampling, const float *logits, const int32_t *tokens,
                        int prompt_length, int num_tokens, int32_t *token, struct oct_logprob *logprobs);

// Ranges of all fields; OCT_INVALID_ARGUMENT names the one that is out of range.
oct_status oct_sampling_check(const struct oct_sampling *sampling, int vocab_size, oct_error *err);
