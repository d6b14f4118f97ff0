// engine.h: sequences, KV blocks, the scheduler and the step. Token ids only: no text, no threads, no clock. One caller drives it, step by
// step, and says what time it is.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "engine/sampler.h"
#include "engine/sampling.h"
#include "model/llama.h"

#include <stdbool.h>
#include <stdint.h>

struct oct_scheduler; // all sequences and blocks of one model
struct oct_sequence;  // one token timeline; owned by the scheduler from add to remove

enum oct_scheduling_policy {
    OCT_POLICY_FCFS,    // first come, first served
    OCT_POLICY_PRIORITY // lower priority values first, then first come, first served
};

struct oct_scheduler_options {
    int max_num_seqs;                 // sequences in one step
    int max_num_batched_tokens;       // rows in one step, at least max_num_seqs
    int max_model_len;                // tokens of the longest sequence; one such must fit in the KV blocks
    int long_prefill_token_threshold; // a prompt gets at most so many rows of a step; 0: no such limit
    enum oct_scheduling_policy policy;
    bool no_prefix_caching; // true: no block is used for more than one sequence
};

// Logits that a step computes at most: what oct_llama_options.max_logit_rows must be.
int oct_scheduler_logit_rows(const struct oct_scheduler_options *options);

struct oct_sequence_options {
    const int32_t *prompt; // (prompt_length) copied
    int prompt_length;
    const struct oct_sampling *sampling; // copied; its arrays are not
    int priority;                        // lower is earlier; without effect under OCT_POLICY_FCFS
    const char *cache_salt;              // sequences share blocks only with those of the same salt; NULL: none. Not kept
    void *user;
};

enum oct_outcome { OCT_SEQ_WAITING, OCT_SEQ_RUNNING, OCT_SEQ_STOPPED, OCT_SEQ_LENGTH, OCT_SEQ_REPETITION, OCT_SEQ_FAILED };

// A token that a step sampled.
struct oct_sampled {
    struct oct_sequence *sequence;
    void *user;                         // as given to add
    int32_t token;                      // -1 with OCT_SEQ_FAILED
    enum oct_outcome outcome;           // RUNNING, or why this was its last token
    enum oct_sampled_status status;     // why it failed
    const struct oct_logprob *logprobs; // (num_logprobs) the sampled token first; lifetime: until the next step or remove
    int num_logprobs;
    const struct oct_logprob *prompt_logprobs; // (prompt_length - 1, num_prompt_logprobs) of the prompt from its second token on, each row
                                               // its own token first; with the first token, if asked for, else NULL. Lifetime: until remove
};

oct_status oct_scheduler_open(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_scheduler_options *options,
                              struct oct_scheduler **out, oct_error *err);
void oct_scheduler_close(struct oct_scheduler *scheduler); // removes the sequences that are left
// Told of what passes through the model; NULL: nobody. Not owned.
void oct_scheduler_set_observer(struct oct_scheduler *scheduler, const struct oct_observer *observer);

// Whether add would accept this: the ids, the length and the ranges of the parameters. Any thread may ask at any time.
oct_status oct_scheduler_check(const struct oct_scheduler *scheduler, const int32_t *prompt, size_t prompt_length,
                               const struct oct_sampling *sampling, oct_error *err);
// The sequence waits in the queue until a step admits it.
oct_status oct_scheduler_add(struct oct_scheduler *scheduler, const struct oct_sequence_options *options, struct oct_sequence **out,
                             oct_error *err);
// When a step first admitted it, as oct_scheduler_plan was told; 0: not yet.
double oct_sequence_admitted_at(const struct oct_sequence *sequence);
// Prompt tokens that were found computed when it was first admitted.
int oct_sequence_cached_tokens(const struct oct_sequence *sequence);
// Frees a sequence, finished or not; its blocks are free at once.
void oct_scheduler_remove(struct oct_scheduler *scheduler, struct oct_sequence *sequence);
bool oct_scheduler_has_work(const struct oct_scheduler *scheduler);
// Nothing that was computed so far is shared with sequences that come.
void oct_scheduler_reset_prefix_cache(struct oct_scheduler *scheduler);

// A step is planned, then run. Planning decides who gets how many rows: decoding sequences one each, then prompts in chunks, running ones
// first. now: in seconds. Returns the batch, which lives until the next plan; NULL: there is nothing to run.
const struct oct_batch *oct_scheduler_plan(struct oct_scheduler *scheduler, double now);
// One forward pass over what was planned. *out (count) lives until the next step. A sequence that cannot be sampled comes out as FAILED;
// others go on. Finished sequences have given their blocks back, and wait for remove.
void oct_scheduler_run(struct oct_scheduler *scheduler, const struct oct_sampled **out, int *count);

struct oct_scheduler_stats {
    int running, waiting, blocks_used, blocks_total;
    uint64_t prompt_tokens, generation_tokens, steps, preemptions;
    uint64_t prefix_queries, prefix_hits; // prompt tokens that were looked for in the prefix cache, and that were found
};
void oct_scheduler_reset_stats(struct oct_scheduler *scheduler); // counts begin at zero again
void oct_scheduler_get_stats(const struct oct_scheduler *scheduler, struct oct_scheduler_stats *stats);
