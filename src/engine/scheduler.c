// scheduler.c: continuous batching. Every step takes one token of each running sequence, and fills what is left of its rows with
// prompts, in chunks, first come first served. When blocks run out, the sequence that was admitted last gives its own back and is
// computed again later (its tokens are kept, so nothing it has said changes).
#include "engine/engine.h"

#include "base/clock.h"
#include "base/memory.h"
#include "engine/kv_blocks.h"
#include "engine/sampler.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

struct oct_sequence {
    TAILQ_ENTRY(oct_sequence) queue; // while waiting
    void *user;
    int32_t *tokens; // (num_tokens of max_tokens) the prompt, then what was sampled. Owned
    int prompt_length, num_tokens, max_tokens;
    int num_computed; // leading tokens whose K and V are in the blocks
    int num_rows;     // rows in this step
    struct oct_block_table blocks;
    struct oct_sampling sampling; // its stop_token_ids are owned
    struct oct_logprob *logprobs; // (sampling.num_logprobs) of the last token. Owned
    enum oct_outcome outcome;
    double admitted_at; // seconds; 0: never yet
};

TAILQ_HEAD(sequence_queue, oct_sequence);

struct oct_scheduler {
    struct oct_llama *llama; // borrowed, like the cache and the observer
    struct oct_kv_cache *cache;
    const struct oct_observer *observer;
    struct oct_scheduler_options options;
    int vocab_size;
    struct oct_kv_blocks blocks;
    struct oct_sampler *sampler;
    struct sequence_queue waiting;
    int num_waiting;
    struct oct_sequence **running; // (num_running of max_num_seqs) in the order of admission
    int num_running;
    struct oct_batch batch;      // points to the arrays below
    int32_t *tokens, *positions; // (max_num_batched_tokens)
    int32_t *row_starts;         // (max_num_seqs + 1)
    int32_t *logit_rows;         // (max_num_seqs)
    int32_t *block_tables;       // (max_num_seqs, max_blocks)
    float *logits;               // (max_num_seqs, vocab_size) pages
    size_t logits_bytes;
    struct oct_sampled *sampled; // (num_sampled of max_num_seqs) of the last step
    int num_sampled;
    struct oct_scheduler_stats stats;
};

static int smaller(int a, int b) {
    return a < b ? a : b;
}

// --- open and close ---------------------------------------------------------------------------------------------------------------

oct_status oct_scheduler_open(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_scheduler_options *options,
                              struct oct_scheduler **out, oct_error *err) {
    const struct oct_kv_shape *shape = &cache->shape;
    size_t seqs = (size_t)options->max_num_seqs, rows = (size_t)options->max_num_batched_tokens;
    if (options->max_num_seqs < 1 || options->max_num_batched_tokens < options->max_num_seqs)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "max_num_batched_tokens: at least max_num_seqs (%d) expected, %d found",
                        options->max_num_seqs, options->max_num_batched_tokens);
    if (options->max_model_len < 2 || options->max_model_len > (int64_t)shape->num_blocks * shape->block_size)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "max_model_len: from 2 to the %lld tokens that %d KV blocks of %d hold expected, %d found",
                        (long long)shape->num_blocks * shape->block_size, shape->num_blocks, shape->block_size, options->max_model_len);
    size_t vocab = (size_t)llama->config.vocab_size, logits_bytes = seqs * vocab * sizeof(float);
    void *logits;
    OCT_TRY(oct_pages_alloc(logits_bytes, "the logits of a step", &logits, err));

    struct oct_scheduler *scheduler = oct_alloc(1, sizeof *scheduler, "the scheduler");
    scheduler->llama = llama;
    scheduler->cache = cache;
    scheduler->options = *options;
    scheduler->vocab_size = llama->config.vocab_size;
    scheduler->logits = logits;
    scheduler->logits_bytes = logits_bytes;
    oct_kv_blocks_open(&scheduler->blocks, shape->block_size, shape->num_blocks);
    scheduler->sampler = oct_sampler_new(llama->config.vocab_size);
    TAILQ_INIT(&scheduler->waiting);
    int max_blocks = oct_kv_blocks_needed(&scheduler->blocks, options->max_model_len);
    scheduler->running = oct_alloc(seqs, sizeof *scheduler->running, "running sequences");
    scheduler->sampled = oct_alloc(seqs, sizeof *scheduler->sampled, "sampled tokens");
    scheduler->tokens = oct_alloc(rows, sizeof *scheduler->tokens, "tokens of a step");
    scheduler->positions = oct_alloc(rows, sizeof *scheduler->positions, "positions of a step");
    scheduler->row_starts = oct_alloc(seqs + 1, sizeof *scheduler->row_starts, "row starts of a step");
    scheduler->logit_rows = oct_alloc(seqs, sizeof *scheduler->logit_rows, "logit rows of a step");
    scheduler->block_tables = oct_alloc(seqs * (size_t)max_blocks, sizeof *scheduler->block_tables, "block tables of a step");
    scheduler->batch = (struct oct_batch){
        .tokens = scheduler->tokens,
        .positions = scheduler->positions,
        .row_starts = scheduler->row_starts,
        .block_tables = scheduler->block_tables,
        .max_blocks = max_blocks,
        .logit_rows = scheduler->logit_rows,
    };
    *out = scheduler;
    return OCT_OK;
}

void oct_scheduler_close(struct oct_scheduler *scheduler) {
    if (!scheduler) return;
    while (scheduler->num_running > 0) oct_scheduler_remove(scheduler, scheduler->running[0]);
    while (!TAILQ_EMPTY(&scheduler->waiting)) oct_scheduler_remove(scheduler, TAILQ_FIRST(&scheduler->waiting));
    OCT_CHECK(scheduler->blocks.num_free == scheduler->blocks.num_blocks);
    oct_kv_blocks_close(&scheduler->blocks);
    oct_sampler_free(scheduler->sampler);
    free(scheduler->running);
    free(scheduler->sampled);
    free(scheduler->tokens);
    free(scheduler->positions);
    free(scheduler->row_starts);
    free(scheduler->logit_rows);
    free(scheduler->block_tables);
    oct_pages_free(scheduler->logits, scheduler->logits_bytes);
    free(scheduler);
}

void oct_scheduler_set_observer(struct oct_scheduler *scheduler, const struct oct_observer *observer) {
    scheduler->observer = observer;
}

// --- sequences --------------------------------------------------------------------------------------------------------------------

oct_status oct_scheduler_check(const struct oct_scheduler *scheduler, const int32_t *prompt, size_t prompt_length,
                               const struct oct_sampling *sampling, oct_error *err) {
    if (prompt_length == 0) return oct_fail(err, OCT_INVALID_ARGUMENT, "prompt: at least one token expected, none found");
    if (prompt_length >= (size_t)scheduler->options.max_model_len)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "prompt: fewer than max_model_len (%d) tokens expected, %zu found",
                        scheduler->options.max_model_len, prompt_length);
    for (size_t i = 0; i < prompt_length; i++)
        if (prompt[i] < 0 || prompt[i] >= scheduler->vocab_size)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "prompt: token ids below the size of the vocabulary (%d) expected, %d found at %zu",
                            scheduler->vocab_size, (int)prompt[i], i);
    return oct_sampling_check(sampling, scheduler->vocab_size, err);
}

oct_status oct_scheduler_add(struct oct_scheduler *scheduler, const int32_t *prompt, int prompt_length, const struct oct_sampling *sampling,
                             void *user, struct oct_sequence **out, oct_error *err) {
    OCT_TRY(oct_scheduler_check(scheduler, prompt, (size_t)prompt_length, sampling, err));
    int room = scheduler->options.max_model_len - prompt_length;
    int max_tokens = prompt_length + (sampling->max_tokens > 0 ? smaller(sampling->max_tokens, room) : room);
    size_t num_stops = (size_t)sampling->num_stop_token_ids;

    struct oct_sequence *sequence = oct_alloc(1, sizeof *sequence, "a sequence");
    sequence->user = user;
    sequence->tokens = oct_alloc((size_t)max_tokens, sizeof *sequence->tokens, "the tokens of a sequence");
    memcpy(sequence->tokens, prompt, (size_t)prompt_length * sizeof *prompt);
    sequence->prompt_length = sequence->num_tokens = prompt_length;
    sequence->max_tokens = max_tokens;
    oct_block_table_open(&sequence->blocks, oct_kv_blocks_needed(&scheduler->blocks, max_tokens));
    sequence->sampling = *sampling;
    int32_t *stops = oct_alloc(num_stops, sizeof *stops, "stop token ids");
    if (num_stops) memcpy(stops, sampling->stop_token_ids, num_stops * sizeof *stops);
    sequence->sampling.stop_token_ids = stops;
    sequence->logprobs = oct_alloc((size_t)sampling->num_logprobs, sizeof *sequence->logprobs, "log-probabilities of a token");
    TAILQ_INSERT_TAIL(&scheduler->waiting, sequence, queue);
    scheduler->num_waiting++;
    *out = sequence;
    return OCT_OK;
}

double oct_sequence_admitted_at(const struct oct_sequence *sequence) {
    return sequence->admitted_at;
}

static void stop_waiting(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    TAILQ_REMOVE(&scheduler->waiting, sequence, queue);
    scheduler->num_waiting--;
}

static void stop_running(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    int at = 0;
    while (scheduler->running[at] != sequence) at++;
    scheduler->num_running--;
    memmove(scheduler->running + at, scheduler->running + at + 1, (size_t)(scheduler->num_running - at) * sizeof *scheduler->running);
    oct_block_table_clear(&sequence->blocks, &scheduler->blocks);
}

void oct_scheduler_remove(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    if (sequence->outcome == OCT_SEQ_WAITING) stop_waiting(scheduler, sequence);
    if (sequence->outcome == OCT_SEQ_RUNNING) stop_running(scheduler, sequence);
    oct_block_table_close(&sequence->blocks);
    free((void *)sequence->sampling.stop_token_ids);
    free(sequence->logprobs);
    free(sequence->tokens);
    free(sequence);
}

bool oct_scheduler_has_work(const struct oct_scheduler *scheduler) {
    return scheduler->num_running > 0 || scheduler->num_waiting > 0;
}

// --- the step ---------------------------------------------------------------------------------------------------------------------

// The sequence that was admitted last goes back to the head of the queue, without its blocks.
static void preempt_last(struct oct_scheduler *scheduler) {
    struct oct_sequence *last = scheduler->running[scheduler->num_running - 1];
    stop_running(scheduler, last);
    last->outcome = OCT_SEQ_WAITING;
    last->num_computed = 0;
    TAILQ_INSERT_HEAD(&scheduler->waiting, last, queue);
    scheduler->num_waiting++;
    scheduler->stats.preemptions++;
}

// Rows for the running sequences. Only the one admitted last can still be in its prompt: nobody is admitted after a prompt that used
// up the rows. So all the others, which decode, come before it.
static void schedule_running(struct oct_scheduler *scheduler, int *rows_left) {
    for (int i = 0; i < scheduler->num_running; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        sequence->num_rows = smaller(sequence->num_tokens - sequence->num_computed, *rows_left);
        while (!oct_block_table_grow(&sequence->blocks, &scheduler->blocks, sequence->num_computed + sequence->num_rows)) {
            preempt_last(scheduler);
            if (i == scheduler->num_running) return; // it was this one
        }
        *rows_left -= sequence->num_rows;
    }
}

// A prompt is admitted when all of it fits in free blocks, and one more block for each running sequence is left, so that it is not
// preempted again as soon as they grow.
static void admit_waiting(struct oct_scheduler *scheduler, int *rows_left) {
    struct oct_sequence *first;
    while (*rows_left > 0 && scheduler->num_running < scheduler->options.max_num_seqs && (first = TAILQ_FIRST(&scheduler->waiting))) {
        int needed = oct_kv_blocks_needed(&scheduler->blocks, first->num_tokens);
        if (needed + scheduler->num_running > scheduler->blocks.num_free) return;
        stop_waiting(scheduler, first);
        OCT_CHECK(oct_block_table_grow(&first->blocks, &scheduler->blocks, first->num_tokens));
        if (first->admitted_at == 0) first->admitted_at = oct_seconds();
        first->outcome = OCT_SEQ_RUNNING;
        first->num_rows = smaller(first->num_tokens, *rows_left);
        *rows_left -= first->num_rows;
        scheduler->running[scheduler->num_running++] = first;
    }
}

// Whether this step brings the sequence to its last token, whose logits say what follows.
static bool reaches_end(const struct oct_sequence *sequence) {
    return sequence->num_computed + sequence->num_rows == sequence->num_tokens;
}

static void build_batch(struct oct_scheduler *scheduler) {
    struct oct_batch *batch = &scheduler->batch;
    int rows = 0, logit_rows = 0;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *sequence = scheduler->running[i];
        scheduler->row_starts[i] = rows;
        memcpy(scheduler->block_tables + (size_t)i * (size_t)batch->max_blocks, sequence->blocks.ids,
               (size_t)sequence->blocks.count * sizeof *scheduler->block_tables);
        for (int row = 0; row < sequence->num_rows; row++, rows++) {
            scheduler->positions[rows] = sequence->num_computed + row;
            scheduler->tokens[rows] = sequence->tokens[sequence->num_computed + row];
        }
        if (reaches_end(sequence)) scheduler->logit_rows[logit_rows++] = rows - 1;
    }
    scheduler->row_starts[scheduler->num_running] = rows;
    batch->num_rows = rows;
    batch->num_seqs = scheduler->num_running;
    batch->num_logit_rows = logit_rows;
}

static enum oct_outcome outcome_after(const struct oct_sequence *sequence, int32_t token) {
    for (int i = 0; i < sequence->sampling.num_stop_token_ids; i++)
        if (sequence->sampling.stop_token_ids[i] == token) return OCT_SEQ_STOPPED;
    return sequence->num_tokens == sequence->max_tokens ? OCT_SEQ_LENGTH : OCT_SEQ_RUNNING;
}

static void sample(struct oct_scheduler *scheduler, struct oct_sequence *sequence, const float *logits) {
    int32_t token = -1;
    if (sequence->num_tokens == sequence->prompt_length) scheduler->stats.prompt_tokens += (uint64_t)sequence->prompt_length;
    bool sampled = oct_sampler_sample(scheduler->sampler, &sequence->sampling, logits, sequence->tokens, sequence->prompt_length,
                                      sequence->num_tokens, &token, sequence->logprobs);
    if (sampled) {
        sequence->tokens[sequence->num_tokens++] = token;
        scheduler->stats.generation_tokens++;
    }
    enum oct_outcome outcome = sampled ? outcome_after(sequence, token) : OCT_SEQ_FAILED;
    scheduler->sampled[scheduler->num_sampled++] = (struct oct_sampled){
        .sequence = sequence,
        .user = sequence->user,
        .token = token,
        .outcome = outcome,
        .logprobs = sampled ? sequence->logprobs : NULL,
        .num_logprobs = sampled ? sequence->sampling.num_logprobs : 0,
    };
}

static void take_results(struct oct_scheduler *scheduler) {
    const float *logits = scheduler->logits;
    for (int i = 0; i < scheduler->num_running; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        bool ended = reaches_end(sequence);
        sequence->num_computed += sequence->num_rows;
        if (!ended) continue;
        sample(scheduler, sequence, logits);
        logits += scheduler->vocab_size;
    }
    for (int i = 0; i < scheduler->num_sampled; i++) {
        const struct oct_sampled *sampled = &scheduler->sampled[i];
        if (sampled->outcome != OCT_SEQ_RUNNING) stop_running(scheduler, sampled->sequence);
        sampled->sequence->outcome = sampled->outcome;
    }
}

void oct_scheduler_step(struct oct_scheduler *scheduler, const struct oct_sampled **out, int *count) {
    int rows_left = scheduler->options.max_num_batched_tokens;
    scheduler->num_sampled = 0;
    schedule_running(scheduler, &rows_left);
    admit_waiting(scheduler, &rows_left);
    if (scheduler->num_running > 0) {
        build_batch(scheduler);
        oct_llama_forward(scheduler->llama, scheduler->cache, &scheduler->batch, scheduler->logits, scheduler->observer);
        scheduler->stats.steps++;
        take_results(scheduler);
    }
    *out = scheduler->sampled;
    *count = scheduler->num_sampled;
}

void oct_scheduler_get_stats(const struct oct_scheduler *scheduler, struct oct_scheduler_stats *stats) {
    *stats = scheduler->stats;
    stats->running = scheduler->num_running;
    stats->waiting = scheduler->num_waiting;
    stats->blocks_total = scheduler->blocks.num_blocks;
    stats->blocks_used = scheduler->blocks.num_blocks - scheduler->blocks.num_free;
}
