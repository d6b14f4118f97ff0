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

// Prompt tokens whose log-probabilities this step's rows give.
static int count_scored(const struct oct_sequence *sequence) {
    int end = sequence->num_computed + sequence->num_rows, last = sequence->prompt_length - 1;
    if (!oct_sequence_scores(sequence)) return 0;
    if (end > last) end = last;
    return end > sequence->num_scored ? end - sequence->num_scored : 0;
}

// Where the logits of each running sequence begin: those that score its prompt first, then those that it samples from.
static void locate_logits(struct oct_scheduler *scheduler) {
    const float *logits = scheduler->logits;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *sequence = scheduler->running[i];
        struct oct_step_result *result = &scheduler->results[i];
        *result = (struct oct_step_result){.logits = logits, .num_scored = count_scored(sequence), .samples = reaches_end(sequence)};
        logits += (size_t)(result->num_scored + result->samples) * (size_t)scheduler->vocab_size;
    }
}

static void sample_sequence(struct oct_scheduler *scheduler, struct oct_sampler *sampler, int i) {
    const struct oct_sequence *sequence = scheduler->running[i];
    struct oct_step_result *result = &scheduler->results[i];
    const float *logits = result->logits;
    int width = sequence->sampling.num_prompt_logprobs;
    result->token = -1;
    for (int row = 0; row < result->num_scored; row++, logits += scheduler->vocab_size) {
        int position = sequence->num_scored + row;
        if (!oct_sampler_score(sampler, logits, sequence->tokens[position + 1], width,
                               sequence->prompt_logprobs + (size_t)position * (size_t)width)) {
            result->status = OCT_SAMPLED_NOT_FINITE;
            return;
        }
    }
    if (result->samples)
        result->status = oct_sampler_sample(sampler, &sequence->sampling, logits, sequence->tokens, sequence->prompt_length,
                                            sequence->num_tokens, &result->token, sequence->logprobs);
}

// On all threads: no sequence's tokens depend on another's.
static void sample_sequences(void *context, int worker, int begin, int end) {
    struct oct_scheduler *scheduler = context;
    for (int i = begin; i < end; i++) sample_sequence(scheduler, scheduler->samplers[worker], i);
}

static void take_result(struct oct_scheduler *scheduler, struct oct_sequence *sequence, const struct oct_step_result *result) {
    sequence->num_scored += result->num_scored;
    sequence->num_computed += sequence->num_rows;
    if (result->status == OCT_SAMPLED && !result->samples) return; // in the middle of its prompt
    if (sequence->num_tokens == sequence->prompt_length) scheduler->stats.prompt_tokens += (uint64_t)sequence->prompt_length;
    if (result->status == OCT_SAMPLED) {
        sequence->tokens[sequence->num_tokens++] = result->token;
        scheduler->stats.generation_tokens++;
    }
    report(scheduler, sequence, result->status, result->token);
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
    scheduler->num_sampled = 0;
    oct_llama_forward(scheduler->llama, scheduler->cache, &scheduler->batch, scheduler->logits, scheduler->observer);
    scheduler->stats.steps++;
    locate_logits(scheduler);
    oct_parallel_for(scheduler->llama->device, scheduler->num_running, 1, sample_sequences, scheduler);
    for (int i = 0; i < scheduler->num_running; i++) take_result(scheduler, scheduler->running[i], &scheduler->results[i]);
    drop_ended(scheduler);
    *out = scheduler->sampled;
    *count = scheduler->num_sampled;
}
