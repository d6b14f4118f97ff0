// scheduler.c: the sequences of one model, from add to remove. Those that wait and those that run are each kept in the order of service, so
// that the next to be admitted is the first of the one, and the next to be preempted the last of the other.
#include "engine/scheduler.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static int smaller(int a, int b) {
    return a < b ? a : b;
}

// --- open and close ---------------------------------------------------------------------------------------------------------------

int oct_scheduler_logit_rows(const struct oct_scheduler_options *options) {
    return options->max_num_seqs + smaller(OCT_SCORE_ROWS, options->max_num_batched_tokens);
}

static oct_status check_options(const struct oct_scheduler_options *options, const struct oct_kv_shape *shape, oct_error *err) {
    if (options->max_num_seqs < 1 || options->max_num_batched_tokens < options->max_num_seqs)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "max_num_batched_tokens: at least max_num_seqs (%d) expected, %d found",
                        options->max_num_seqs, options->max_num_batched_tokens);
    if (options->max_model_len < 2 || options->max_model_len > (int64_t)shape->num_blocks * shape->block_size)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "max_model_len: from 2 to the %lld tokens that %d KV blocks of %d hold expected, %d found",
                        (long long)shape->num_blocks * shape->block_size, shape->num_blocks, shape->block_size, options->max_model_len);
    if (options->long_prefill_token_threshold < 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "long_prefill_token_threshold: at least 0 expected, %d found",
                        options->long_prefill_token_threshold);
    return OCT_OK;
}

static void open_samplers(struct oct_scheduler *scheduler) {
    struct oct_device_info device;
    oct_device_get_info(scheduler->llama->device, &device);
    scheduler->num_samplers = device.threads;
    scheduler->samplers = oct_alloc((size_t)device.threads, sizeof(struct oct_sampler *), "samplers");
    for (int i = 0; i < device.threads; i++) scheduler->samplers[i] = oct_sampler_new(scheduler->vocab_size);
}

oct_status oct_scheduler_open(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_scheduler_options *options,
                              struct oct_scheduler **out, oct_error *err) {
    const struct oct_kv_shape *shape = &cache->shape;
    OCT_TRY(check_options(options, shape, err));
    size_t seqs = (size_t)options->max_num_seqs, rows = (size_t)options->max_num_batched_tokens;
    size_t vocab = (size_t)llama->config.vocab_size, logit_rows = (size_t)oct_scheduler_logit_rows(options);
    size_t logits_bytes = logit_rows * vocab * sizeof(float);
    void *logits;
    OCT_TRY(oct_pages_alloc(logits_bytes, "the logits of a step", &logits, err));

    struct oct_scheduler *scheduler = oct_alloc(1, sizeof *scheduler, "the scheduler");
    scheduler->llama = llama;
    scheduler->cache = cache;
    scheduler->options = *options;
    scheduler->vocab_size = llama->config.vocab_size;
    scheduler->logits = logits;
    scheduler->logits_bytes = logits_bytes;
    oct_kv_blocks_open(&scheduler->blocks, shape->block_size, shape->num_blocks, !options->no_prefix_caching);
    open_samplers(scheduler);
    scheduler->results = oct_alloc(seqs, sizeof *scheduler->results, "results of a step");
    TAILQ_INIT(&scheduler->waiting);
    int max_blocks = oct_kv_blocks_needed(&scheduler->blocks, options->max_model_len);
    scheduler->running = oct_alloc(seqs, sizeof *scheduler->running, "running sequences");
    scheduler->sampled = oct_alloc(seqs, sizeof *scheduler->sampled, "sampled tokens");
    scheduler->tokens = oct_alloc(rows, sizeof *scheduler->tokens, "tokens of a step");
    scheduler->positions = oct_alloc(rows, sizeof *scheduler->positions, "positions of a step");
    scheduler->row_starts = oct_alloc(seqs + 1, sizeof *scheduler->row_starts, "row starts of a step");
    scheduler->logit_rows = oct_alloc(logit_rows, sizeof *scheduler->logit_rows, "logit rows of a step");
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
    for (int i = 0; i < scheduler->num_samplers; i++) oct_sampler_free(scheduler->samplers[i]);
    free(scheduler->samplers);
    free(scheduler->results);
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

void oct_scheduler_reset_prefix_cache(struct oct_scheduler *scheduler) {
    oct_kv_blocks_forget(&scheduler->blocks);
}

// --- the queue --------------------------------------------------------------------------------------------------------------------

bool oct_sequence_precedes(const struct oct_sequence *a, const struct oct_sequence *b) {
    return a->priority < b->priority || (a->priority == b->priority && a->arrival < b->arrival);
}

bool oct_sequence_scores(const struct oct_sequence *sequence) {
    return sequence->sampling.num_prompt_logprobs > 0 && sequence->num_scored < sequence->prompt_length - 1;
}

// From the end, where first come, first served puts it.
void oct_scheduler_enqueue(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    struct oct_sequence *before = TAILQ_LAST(&scheduler->waiting, oct_sequence_queue);
    while (before && oct_sequence_precedes(sequence, before)) before = TAILQ_PREV(before, oct_sequence_queue, queue);
    if (before)
        TAILQ_INSERT_AFTER(&scheduler->waiting, before, sequence, queue);
    else
        TAILQ_INSERT_HEAD(&scheduler->waiting, sequence, queue);
    sequence->outcome = OCT_SEQ_WAITING;
    scheduler->num_waiting++;
}

void oct_scheduler_dequeue(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    TAILQ_REMOVE(&scheduler->waiting, sequence, queue);
    scheduler->num_waiting--;
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

oct_status oct_scheduler_add(struct oct_scheduler *scheduler, const struct oct_sequence_options *options, struct oct_sequence **out,
                             oct_error *err) {
    const struct oct_sampling *sampling = options->sampling;
    int prompt_length = options->prompt_length;
    OCT_TRY(oct_scheduler_check(scheduler, options->prompt, (size_t)prompt_length, sampling, err));
    int room = scheduler->options.max_model_len - prompt_length;
    int max_tokens = prompt_length + (sampling->max_tokens > 0 ? smaller(sampling->max_tokens, room) : room);
    int max_blocks = oct_kv_blocks_needed(&scheduler->blocks, max_tokens);
    size_t prompt_rows = (size_t)prompt_length - 1;

    struct oct_sequence *sequence = oct_alloc(1, sizeof *sequence, "a sequence");
    sequence->user = options->user;
    sequence->tokens = oct_alloc((size_t)max_tokens, sizeof *sequence->tokens, "the tokens of a sequence");
    memcpy(sequence->tokens, options->prompt, (size_t)prompt_length * sizeof *options->prompt);
    sequence->prompt_length = sequence->num_tokens = prompt_length;
    sequence->max_tokens = max_tokens;
    oct_block_table_open(&sequence->blocks, max_blocks);
    sequence->prefix_root = oct_prefix_root(&scheduler->blocks.prefix_cache, options->cache_salt);
    sequence->keys = oct_alloc((size_t)max_blocks, sizeof *sequence->keys, "block keys of a sequence");
    sequence->sampling = *sampling;
    sequence->logprobs = oct_alloc((size_t)sampling->num_logprobs, sizeof *sequence->logprobs, "log-probabilities of a token");
    sequence->prompt_logprobs =
        oct_alloc(prompt_rows * (size_t)sampling->num_prompt_logprobs, sizeof *sequence->prompt_logprobs, "log-probabilities of a prompt");
    sequence->priority = scheduler->options.policy == OCT_POLICY_PRIORITY ? options->priority : 0;
    sequence->arrival = scheduler->num_added++;
    oct_scheduler_enqueue(scheduler, sequence);
    *out = sequence;
    return OCT_OK;
}

double oct_sequence_admitted_at(const struct oct_sequence *sequence) {
    return sequence->admitted_at;
}

int oct_sequence_cached_tokens(const struct oct_sequence *sequence) {
    return sequence->cached_tokens;
}

void oct_scheduler_remove(struct oct_scheduler *scheduler, struct oct_sequence *sequence) {
    if (sequence->outcome == OCT_SEQ_WAITING) oct_scheduler_dequeue(scheduler, sequence);
    if (sequence->outcome == OCT_SEQ_RUNNING) {
        int at = 0;
        while (scheduler->running[at] != sequence) at++;
        scheduler->num_running--;
        memmove(scheduler->running + at, scheduler->running + at + 1, (size_t)(scheduler->num_running - at) * sizeof *scheduler->running);
        oct_block_table_clear(&sequence->blocks, &scheduler->blocks);
    }
    oct_block_table_close(&sequence->blocks);
    free(sequence->keys);
    free(sequence->logprobs);
    free(sequence->prompt_logprobs);
    free(sequence->tokens);
    free(sequence);
}

bool oct_scheduler_has_work(const struct oct_scheduler *scheduler) {
    return scheduler->num_running > 0 || scheduler->num_waiting > 0;
}

void oct_scheduler_reset_stats(struct oct_scheduler *scheduler) {
    scheduler->stats = (struct oct_scheduler_stats){0};
}

void oct_scheduler_get_stats(const struct oct_scheduler *scheduler, struct oct_scheduler_stats *stats) {
    *stats = scheduler->stats;
    stats->running = scheduler->num_running;
    stats->waiting = scheduler->num_waiting;
    stats->blocks_total = scheduler->blocks.num_blocks;
    stats->blocks_used = scheduler->blocks.num_blocks - scheduler->blocks.num_free;
}
