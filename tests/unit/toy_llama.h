// toy_llama.h: a stand-in for the model and its device: the same functions, without weights. Its "K and V" are the token ids themselves,
// kept in the physical blocks that the batch names, and its logits are a hash of all tokens that a row sees there. So a wrong block,
// position, row or order changes the tokens that follow.
#pragma once

#include "model/llama.h"

struct toy_llama {
    struct oct_llama llama;
    struct oct_kv_cache cache;
    struct oct_kv_layer layer; // k: (num_blocks * block_size) int32 token ids
};

void toy_llama_open(struct toy_llama *toy, int vocab_size, int block_size, int num_blocks);
void toy_llama_close(struct toy_llama *toy);

// What the toy has been asked since it opened.
extern int toy_max_rows_seen, toy_max_seqs_seen;
extern long toy_rows_seen; // in all steps
// A row of this token gets NaN logits; -1: none.
extern int32_t toy_poison;

// The logits after tokens (count): what a row that sees all of them gets.
void toy_logits(const int32_t *tokens, int count, int vocab_size, float *logits);
