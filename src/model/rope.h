// rope.h: rotary position embeddings: the angles of every position, for all scaling rules of Hugging Face's Llama.
#pragma once

#include "model/config.h"

// cos_sin (positions, head_dim): cosines of head_dim / 2 angles, then their sines, both times the rule's attention factor.
// The dynamic rule follows the position: position p is rotated as in a sequence of p + 1 tokens, so that a row's result does not depend
// on what comes after it.
void oct_rope_table(const struct oct_model_config *config, int positions, float *cos_sin);
