// prompts.h: a dataset as a model's tokens.
#pragma once

#include "cli/session.h"

struct oct_prompts {
    struct oct_ids *items; // (count) tokens of each, none empty. Owned
    size_t count, tokens;  // tokens: of all together
    int longest;           // tokens
};

// Reads at most `limit` prompts (0: all) of a dataset file, each cut to max_tokens. Messages go through the model's chat template. A file
// without any token is an error. Zero-initialise `out`; oct_prompts_free takes it whatever the outcome.
oct_status oct_prompts_read(const struct oct_session *session, const char *path, size_t limit, int max_tokens, struct oct_prompts *out,
                            oct_error *err);
void oct_prompts_free(struct oct_prompts *prompts);

// As many prompts from `next` on as fit into one batch of the runner, each cut to max_tokens, into stretches (runner->max_seqs). Returns
// how many; 0: the next one is longer than a batch.
int oct_prompts_batch(const struct oct_prompts *prompts, size_t next, int max_tokens, const struct oct_runner *runner,
                      struct oct_stretch *stretches);
