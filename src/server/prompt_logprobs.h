// prompt_logprobs.h: log-probabilities of the prompt's tokens, in the shapes of prompt_logprobs and of echo.
#pragma once

#include "server/generation.h"

// Takes them from the delta that has them: into choice->prompt_logprobs, and, where the prompt is echoed, before those of the answer.
void oct_take_prompt_logprobs(struct oct_choice *choice, const oct_delta *delta);
// The value of the key "prompt_logprobs".
void oct_write_prompt_logprobs(const struct oct_choice *choice, struct oct_json_writer *writer);
