// engine.h: sequences, KV blocks, the scheduler and the step. Token ids only: no text, no threads. One caller drives it, step by step.
#pragma once

#include "base/error.h"
#include "model/llama.h"

#include <stdbool.h>
#include <stdint.h>

struct oct_scheduler; // all sequences and blocks of one model
struct oct_sequence;  // one token timeline; owned by the scheduler from add to remove

struct oct_scheduler_options {
    int max_num_seqs;           // sequences in one step
    int max_num_batched_tokens; // rows in one step, at least max_num_seqs
    int max_model_len;          // tokens of the longest sequence; one such must fit in the KV blocks
};

struct oct_sampling {
    float temperature; // 0: greedy
    float top_p;       // (0, 1]
    int top_k;         // 0: all
    float min_p;       // [0, 1]
    float repetition_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
    int max_tokens;                // 0: up to max_model_len
    int min_tokens;                // before so many tokens the stop tokens are not sampled
    const int32_t *stop_token_ids; // (num_stop_token_ids) copied by add; the EOS tokens are among them unless ignored
    int num_stop_token_ids;
    int num_logprobs; // 0: none; k: the sampled token and the k - 1 best
};

struct oct_logprob {
    int32_t id;
    float logprob; // natural logarithm, of the model's distribution before penalties, temperature and filters
};

enum oct_outcome { OCT_SEQ_WAITING, OCT_SEQ_RUNNING, OCT_SEQ_STOPPED, OCT_SEQ_LENGTH, OCT_SEQ_FAILED };

// A token that a step sampled.
struct oct_sampled {
    struct oct_sequence *sequence;
    void *user;                         // as given to add
    int32_t token;                      // -1 with OCT_SEQ_FAILED
    enum oct_outcome outcome;           // RUNNING, or why this was its last token
    const struct oct_logprob *logprobs; // (num_logprobs) the sampled token first; lifetime: until the next step or remove
    int num_logprobs;
};

oct_status oct_scheduler_open(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_scheduler_options *options,
                              struct oct_scheduler **out, oct_error *err);
void oct_scheduler_close(struct oct_scheduler *scheduler); // removes the sequences that are left
// Told of what passes through the model; NULL: nobody. Not owned.
void oct_scheduler_set_observer(struct oct_scheduler *scheduler, const struct oct_observer *observer);

// Whether add would accept this: the ids, the length and the ranges of the parameters. Any thread may ask at any time.
oct_status oct_scheduler_check(const struct oct_scheduler *scheduler, const int32_t *prompt, size_t prompt_length,
                               const struct oct_sampling *sampling, oct_error *err);
// The sequence waits at the end of the queue until a step admits it.
oct_status oct_scheduler_add(struct oct_scheduler *scheduler, const int32_t *prompt, int prompt_length, const struct oct_sampling *sampling,
                             void *user, struct oct_sequence **out, oct_error *err);
// When a step first admitted it, in oct_seconds; 0: not yet.
double oct_sequence_admitted_at(const struct oct_sequence *sequence);
// Frees a sequence, finished or not, and its blocks.
void oct_scheduler_remove(struct oct_scheduler *scheduler, struct oct_sequence *sequence);
bool oct_scheduler_has_work(const struct oct_scheduler *scheduler);
// One forward pass: every decoding sequence gets one token, waiting ones prefill in chunks while the row budget lasts.
// *out (count) lives until the next step. A sequence whose logits are NaN or infinite comes out as FAILED; others go on.
// Finished sequences have given their blocks back, and wait for remove.
void oct_scheduler_step(struct oct_scheduler *scheduler, const struct oct_sampled **out, int *count);

struct oct_scheduler_stats {
    int running, waiting, blocks_used, blocks_total;
    uint64_t prompt_tokens, generation_tokens, steps, preemptions;
};
void oct_scheduler_get_stats(const struct oct_scheduler *scheduler, struct oct_scheduler_stats *stats);
