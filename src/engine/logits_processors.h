// logits_processors.h: what changes logits before a token is chosen from them, in vLLM's order: allowed ids, bad words, min_tokens,
// logit_bias, then the penalties.
#pragma once

#include "engine/sampling.h"

struct oct_logits_processors; // scratch memory for one row

struct oct_logits_processors *oct_logits_processors_new(int vocab_size);
void oct_logits_processors_free(struct oct_logits_processors *processors);

// The logits to choose the token from that follows tokens (num_tokens), of which the first prompt_length are the prompt: `logits` itself
// when nothing changes them, or memory that lives until the next call.
const float *oct_logits_process(struct oct_logits_processors *processors, const struct oct_sampling *sampling, const float *logits,
                                const int32_t *tokens, int prompt_length, int num_tokens);
