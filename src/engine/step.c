// step.c: from the rows that were scheduled to a batch, and from its logits to tokens.
#include "engine/scheduler.h"

#include <string.h>

// Whether this step brings the sequence to its last token, whose logits say what follows.
static bool reaches_end(const struct oct_sequence *sequence) {
    return sequence->num_rows > 0 && sequence->num_computed + sequence->num_rows == sequence->num_tokens;
}

// Whether the row at `position` scores the prompt token after it.
static bool scores_next(const struct oct_sequence *sequence, int position) {
    return oct_sequence_scores(sequence) && position >= sequence->num_scored && position < sequence->prompt_length - 1;
}

static void build_batch(struct oct_scheduler *scheduler) {
    struct oct_batch *batch = &scheduler->batch;
    int rows = 0, seqs = 0, logit_rows = 0;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *sequence = scheduler->running[i];
        if (sequence->num_rows == 0) continue;
        scheduler->row_starts[seqs] = rows;
        memcpy(scheduler->block_tables + (size_t)seqs++ * (size_t)batch->max_blocks, sequence->blocks.ids,
               (size_t)sequence->blocks.count * sizeof *scheduler->block_tables);
        for (int row = 0; row < sequence->num_rows; row++, rows++) {
            int position = sequence->num_computed + row;
            scheduler->positions[rows] = position;
            scheduler->tokens[rows] = sequence->tokens[position];
            if (scores_next(sequence, position)) scheduler->logit_rows[logit_rows++] = rows;
        }
        if (reaches_end(sequence)) scheduler->logit_rows[logit_rows++] = rows - 1;
    }
    scheduler->row_starts[seqs] = rows;
    batch->num_rows = rows;
    batch->num_seqs = seqs;
    batch->num_logit_rows = logit_rows;
}

const struct oct_batch *oct_scheduler_plan(struct oct_scheduler *scheduler, double now) {
    oct_schedule(scheduler, now);
    build_batch(scheduler);
    return scheduler->batch.num_rows > 0 ? &scheduler->batch : NULL;
}

// --- results ----------------------------------------------------------------------------------------------------------------------

static enum oct_outcome outcome_after(const struct oct_sequence *sequence, int32_t token) {
    int output = sequence->num_tokens - sequence->prompt_length;
    for (int i = 0; i < sequence->sampling.num_stop_token_ids; i++)
        if (sequence->sampling.stop_token_ids[i] == token) return OCT_SEQ_STOPPED;
    if (sequence->num_tokens == sequence->max_tokens) return OCT_SEQ_LENGTH;
    if (output >= sequence->sampling.min_tokens &&
        oct_ends_in_repetition(&sequence->sampling.repetition_detection, sequence->tokens + sequence->prompt_length, output))
        return OCT_SEQ_REPETITION;
    return OCT_SEQ_RUNNING;
}

static void report(struct oct_scheduler *scheduler, struct oct_sequence *sequence, enum oct_sampled_status status, int32_t token) {
    bool sampled = status == OCT_SAMPLED, first = sequence->num_tokens == sequence->prompt_length + 1;
    bool has_prompt_logprobs = sampled && first && sequence->sampling.num_prompt_logprobs > 0;
    scheduler->sampled[scheduler->num_sampled++] = (struct oct_sampled){
        .sequence = sequence,
        .user = sequence->user,
        .token = token,
        .outcome = sampled ? outcome_after(sequence, token) : OCT_SEQ_FAILED,
        .status = status,
        .logprobs = sampled ? sequence->logprobs : NULL,
        .num_logprobs = sampled ? sequence->sampling.num_logprobs : 0,
        .prompt_logprobs = has_prompt_logprobs ? sequence->prompt_logprobs : NULL,
    };
}

// Samples what follows the sequence's last token.
static void sample(struct oct_scheduler *scheduler, struct oct_sequence *sequence, const float *logits) {
    int32_t token = -1;
    if (sequence->num_tokens == sequence->prompt_length) scheduler->stats.prompt_tokens += (uint64_t)sequence->prompt_length;
    enum oct_sampled_status status = oct_sampler_sample(scheduler->sampler, &sequence->sampling, logits, sequence->tokens,
                                                        sequence->prompt_length, sequence->num_tokens, &token, sequence->logprobs);
    if (status == OCT_SAMPLED) {
        sequence->tokens[sequence->num_tokens++] = token;
        scheduler->stats.generation_tokens++;
    }
    report(scheduler, sequence, status, token);
}

// Scores the prompt tokens after this step's rows, and moves *logits behind what was theirs. False: they are not finite.
static bool score_prompt(struct oct_scheduler *scheduler, struct oct_sequence *sequence, const float **logits) {
    int begin = sequence->num_scored, count = sequence->sampling.num_prompt_logprobs;
    int end = sequence->num_computed + sequence->num_rows;
    if (end > sequence->prompt_length - 1) end = sequence->prompt_length - 1;
    if (!oct_sequence_scores(sequence) || end <= begin) return true;
    bool finite = true;
    for (int position = begin; position < end; position++, *logits += scheduler->vocab_size)
        finite = finite && oct_sampler_score(scheduler->sampler, *logits, sequence->tokens[position + 1], count,
                                             sequence->prompt_logprobs + (size_t)position * (size_t)count);
    sequence->num_scored = end;
    return finite;
}

// Sequences that have ended give their blocks back and leave the running ones, whose order stays.
static void drop_ended(struct oct_scheduler *scheduler) {
    int kept = 0;
    for (int i = 0; i < scheduler->num_sampled; i++) scheduler->sampled[i].sequence->outcome = scheduler->sampled[i].outcome;
    for (int i = 0; i < scheduler->num_running; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        if (sequence->outcome == OCT_SEQ_RUNNING)
            scheduler->running[kept++] = sequence;
        else
            oct_block_table_clear(&sequence->blocks, &scheduler->blocks);
    }
    scheduler->num_running = kept;
}

void oct_scheduler_run(struct oct_scheduler *scheduler, const struct oct_sampled **out, int *count) {
    const float *logits = scheduler->logits;
    scheduler->num_sampled = 0;
    oct_llama_forward(scheduler->llama, scheduler->cache, &scheduler->batch, scheduler->logits, scheduler->observer);
    scheduler->stats.steps++;
    for (int i = 0; i < scheduler->num_running; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        bool samples = reaches_end(sequence), finite = score_prompt(scheduler, sequence, &logits);
        sequence->num_computed += sequence->num_rows;
        if (!finite)
            report(scheduler, sequence, OCT_SAMPLED_NOT_FINITE, -1);
        else if (samples)
            sample(scheduler, sequence, logits);
        if (samples) logits += scheduler->vocab_size;
    }
    drop_ended(scheduler);
    *out = scheduler->sampled;
    *count = scheduler->num_sampled;
}
