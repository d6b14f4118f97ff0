// scheduler.h: what is inside a scheduler and a sequence. For the engine's own files, and for tests that look at every block.
//   scheduler.c   sequences come and go
//   schedule.c    who gets rows in a step, who is admitted, who is preempted
//   step.c        from rows to a batch, and from logits to tokens
#pragma once

#include "engine/engine.h"
#include "engine/kv_blocks.h"

#include <sys/queue.h>

// Rows for prompts whose log-probabilities were asked for: each needs logits, so that there may not be many.
enum { OCT_SCORE_ROWS = 64 };

struct oct_sequence {
    TAILQ_ENTRY(oct_sequence) queue; // while waiting
    void *user;
    int32_t *tokens; // (num_tokens of max_tokens) the prompt, then what was sampled. Owned
    int prompt_length, num_tokens, max_tokens;
    int num_computed; // leading tokens whose K and V are in the blocks
    int num_rows;     // rows in this step
    struct oct_block_table blocks;
    struct oct_hash prefix_root, *keys;  // (num_keys of blocks.capacity) of the full blocks, for the prefix cache. Owned
    int num_keys, num_published;         // leading blocks that the prefix cache has been told of
    struct oct_sampling sampling;        // its arrays are borrowed
    struct oct_logprob *logprobs;        // (sampling.num_logprobs) of the last token. Owned
    struct oct_logprob *prompt_logprobs; // (prompt_length - 1, sampling.num_prompt_logprobs) owned
    int num_scored;                      // rows of prompt_logprobs that are filled
    enum oct_outcome outcome;
    int priority;
    uint64_t arrival;   // sequences that were added before
    bool held_back;     // by the last plan, because a running sequence is computing blocks that this one will share
    double admitted_at; // seconds; 0: never yet
    int cached_tokens;
};

TAILQ_HEAD(oct_sequence_queue, oct_sequence);

// What a step makes of one running sequence.
struct oct_step_result {
    const float *logits; // (num_scored + samples, vocab_size) its rows of the step's logits
    int num_scored;      // prompt tokens scored
    bool samples;        // the rows reach the sequence's end
    enum oct_sampled_status status;
    int32_t token;
};

struct oct_scheduler {
    struct oct_llama *llama; // borrowed, like the cache and the observer
    struct oct_kv_cache *cache;
    const struct oct_observer *observer;
    struct oct_scheduler_options options;
    int vocab_size;
    struct oct_kv_blocks blocks;
    struct oct_sampler **samplers; // (num_samplers) one for each of the device's threads. Owned
    int num_samplers;
    uint64_t num_added;
    // Both in the order of service: by priority, then by arrival.
    struct oct_sequence_queue waiting;
    int num_waiting;
    struct oct_sequence **running; // (num_running of max_num_seqs)
    int num_running;
    struct oct_batch batch;      // points to the arrays below
    int32_t *tokens, *positions; // (max_num_batched_tokens)
    int32_t *row_starts;         // (max_num_seqs + 1)
    int32_t *logit_rows;         // (oct_scheduler_logit_rows)
    int32_t *block_tables;       // (max_num_seqs, max_blocks)
    float *logits;               // (oct_scheduler_logit_rows, vocab_size) pages
    size_t logits_bytes;
    struct oct_step_result *results; // (max_num_seqs) of each of the running sequences
    struct oct_sampled *sampled;     // (num_sampled of max_num_seqs) of the last step
    int num_sampled;
    struct oct_scheduler_stats stats;
};

// Whether a is served before b.
bool oct_sequence_precedes(const struct oct_sequence *a, const struct oct_sequence *b);
// Rows of prompt whose logits this sequence still has to score.
bool oct_sequence_scores(const struct oct_sequence *sequence);
void oct_scheduler_enqueue(struct oct_scheduler *scheduler, struct oct_sequence *sequence);
void oct_scheduler_dequeue(struct oct_scheduler *scheduler, struct oct_sequence *sequence);

// schedule.c: sets num_rows of every running sequence. now: seconds.
void oct_schedule(struct oct_scheduler *scheduler, double now);
