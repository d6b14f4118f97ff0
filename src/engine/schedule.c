// schedule.c: who gets rows in a step. Every decoding sequence gets its one row first; what is left of the budget goes to prompts, in the
// order of service, in chunks. A prompt that the step cannot finish leaves half of the rows to those behind it, so that a short one never
// waits for a long one; rows that nobody behind it takes come back to it. When blocks run out, the sequence that is last in the order gives
// its own back and is computed again later (its tokens are kept, so nothing it has said changes). The first is never preempted by another,
// so that there is always progress.
#include "engine/scheduler.h"

#include <string.h>

struct budget {
    int rows, score_rows; // left in this step
};

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static int rows_wanted(const struct oct_sequence *sequence) {
    return sequence->num_tokens - sequence->num_computed - sequence->num_rows;
}

// --- the prefix cache -------------------------------------------------------------------------------------------------------------

static void make_keys(const struct oct_kv_blocks *blocks, struct oct_sequence *sequence) {
    for (int size = blocks->block_size; (sequence->num_keys + 1) * size <= sequence->num_tokens; sequence->num_keys++) {
        struct oct_hash parent = sequence->num_keys > 0 ? sequence->keys[sequence->num_keys - 1] : sequence->prefix_root;
        sequence->keys[sequence->num_keys] =
            oct_prefix_key(&blocks->prefix_cache, parent, sequence->tokens + sequence->num_keys * size, size);
    }
}

// Tells of the blocks that are full when this step is done. Others may share them in the very same step: a step writes K and V of all its
// rows before any row reads them, layer by layer.
static void publish(struct oct_kv_blocks *blocks, struct oct_sequence *sequence) {
    int full = (sequence->num_computed + sequence->num_rows) / blocks->block_size;
    if (blocks->prefix_cache.num_blocks == 0 || sequence->num_published == full) return;
    make_keys(blocks, sequence);
    for (; sequence->num_published < full; sequence->num_published++)
        oct_prefix_cache_insert(&blocks->prefix_cache, sequence->blocks.ids[sequence->num_published],
                                sequence->keys[sequence->num_published]);
}

// Leading blocks of the sequence that are computed already; *free_hits of them are free. The last token is always computed: its logits are
// wanted. So are those of a prompt that is scored.
static int count_hits(const struct oct_kv_blocks *blocks, struct oct_sequence *sequence, int *free_hits) {
    int hits = 0, most = (sequence->num_tokens - 1) / blocks->block_size;
    *free_hits = 0;
    if (blocks->prefix_cache.num_blocks == 0 || oct_sequence_scores(sequence)) return 0;
    make_keys(blocks, sequence);
    for (; hits < most; hits++) {
        int32_t block = oct_prefix_cache_find(&blocks->prefix_cache, sequence->keys[hits]);
        if (block < 0) break;
        *free_hits += blocks->blocks[block].references == 0;
    }
    return hits;
}

// Whether a running sequence is about to compute the block after the hits.
static bool will_be_shared(const struct oct_scheduler *scheduler, const struct oct_sequence *sequence, int hits) {
    const struct oct_kv_blocks *blocks = &scheduler->blocks;
    if (blocks->prefix_cache.num_blocks == 0 || hits >= (sequence->num_tokens - 1) / blocks->block_size || oct_sequence_scores(sequence))
        return false;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *running = scheduler->running[i];
        if (rows_wanted(running) > 0 && running->num_published <= hits && running->num_keys > hits &&
            oct_hash_equal(running->keys[hits], sequence->keys[hits]))
            return true;
    }
    return false;
}

// --- running sequences ------------------------------------------------------------------------------------------------------------

static void preempt_last(struct oct_scheduler *scheduler) {
    struct oct_sequence *last = scheduler->running[--scheduler->num_running];
    oct_block_table_clear(&last->blocks, &scheduler->blocks);
    last->num_rows = 0;
    oct_scheduler_enqueue(scheduler, last);
    scheduler->stats.preemptions++;
}

// One row for every sequence that decodes. False: some had to be preempted for it.
static bool schedule_decoding(struct oct_scheduler *scheduler, struct budget *left) {
    bool enough = true;
    for (int i = 0; i < scheduler->num_running; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        if (rows_wanted(sequence) != 1) continue;
        while (!oct_block_table_grow(&sequence->blocks, &scheduler->blocks, sequence->num_tokens)) {
            enough = false;
            preempt_last(scheduler);
            if (i == scheduler->num_running) return false; // it was this one
        }
        sequence->num_rows = 1;
        left->rows--;
    }
    return enough;
}

// Rows for a prompt, whose blocks are taken already.
static void give_rows(const struct oct_scheduler *scheduler, struct oct_sequence *sequence, int most, struct budget *left) {
    int threshold = scheduler->options.long_prefill_token_threshold;
    int rows = smaller(rows_wanted(sequence), smaller(most, left->rows));
    if (threshold > 0) rows = smaller(rows, threshold - sequence->num_rows);
    if (oct_sequence_scores(sequence)) {
        rows = smaller(rows, larger(left->score_rows, sequence->num_rows == 0)); // one row's logits it has in any case
        left->score_rows -= smaller(rows, left->score_rows);
    }
    sequence->num_rows += rows;
    left->rows -= rows;
}

// At most half of the rows for a prompt that needs more steps, as long as there is somebody behind it.
static int share_of(const struct oct_sequence *sequence, const struct budget *left, bool others) {
    return others && rows_wanted(sequence) > left->rows ? (left->rows + 1) / 2 : left->rows;
}

static void schedule_prompts(struct oct_scheduler *scheduler, struct budget *left) {
    for (int i = 0; i < scheduler->num_running && left->rows > 0; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        bool others = i + 1 < scheduler->num_running || scheduler->num_waiting > 0;
        if (rows_wanted(sequence) > 0) give_rows(scheduler, sequence, share_of(sequence, left, others), left);
    }
}

// --- waiting sequences ------------------------------------------------------------------------------------------------------------

static void start_running(struct oct_scheduler *scheduler, struct oct_sequence *sequence, int hits, double now) {
    struct oct_kv_blocks *blocks = &scheduler->blocks;
    oct_scheduler_dequeue(scheduler, sequence);
    for (int i = 0; i < hits; i++)
        oct_block_table_share(&sequence->blocks, blocks, oct_prefix_cache_find(&blocks->prefix_cache, sequence->keys[i]));
    OCT_CHECK(oct_block_table_grow(&sequence->blocks, blocks, sequence->num_tokens));
    sequence->num_computed = hits * blocks->block_size;
    sequence->num_published = hits;
    if (sequence->admitted_at == 0) {
        sequence->admitted_at = now;
        sequence->cached_tokens = sequence->num_computed;
        if (blocks->prefix_cache.num_blocks > 0) scheduler->stats.prefix_queries += (uint64_t)sequence->num_tokens;
        scheduler->stats.prefix_hits += (uint64_t)sequence->num_computed;
    }
    sequence->outcome = OCT_SEQ_RUNNING;
    int at = scheduler->num_running++;
    for (; at > 0 && oct_sequence_precedes(sequence, scheduler->running[at - 1]); at--) scheduler->running[at] = scheduler->running[at - 1];
    scheduler->running[at] = sequence;
}

// A prompt is admitted when all of it fits in free blocks, and one more block for each running sequence is left, so that it is not
// preempted again as soon as they grow. One whose blocks are just being computed for another waits for them; those behind it may pass.
static void admit_waiting(struct oct_scheduler *scheduler, struct budget *left, double now) {
    struct oct_kv_blocks *blocks = &scheduler->blocks;
    struct oct_sequence *sequence = TAILQ_FIRST(&scheduler->waiting), *next;
    int passed_over = 0;
    for (; sequence && left->rows > 0 && scheduler->num_running < scheduler->options.max_num_seqs; sequence = next) {
        next = TAILQ_NEXT(sequence, queue);
        if (scheduler->num_running > blocks->num_free) return;
        int free_hits, hits = count_hits(blocks, sequence, &free_hits);
        int needed = oct_kv_blocks_needed(blocks, sequence->num_tokens) - hits + free_hits;
        if (needed + scheduler->num_running > blocks->num_free) return;
        sequence->held_back = will_be_shared(scheduler, sequence, hits);
        if (sequence->held_back) {
            if (++passed_over == scheduler->options.max_num_seqs) return;
            continue;
        }
        start_running(scheduler, sequence, hits, now);
        give_rows(scheduler, sequence, share_of(sequence, left, next != NULL), left);
        publish(blocks, sequence);
    }
}

void oct_schedule(struct oct_scheduler *scheduler, double now) {
    struct budget left = {scheduler->options.max_num_batched_tokens, smaller(OCT_SCORE_ROWS, scheduler->options.max_num_batched_tokens)};
    for (int i = 0; i < scheduler->num_running; i++) scheduler->running[i]->num_rows = 0;
    bool enough = schedule_decoding(scheduler, &left);
    schedule_prompts(scheduler, &left);
    for (int i = 0; i < scheduler->num_running; i++) publish(&scheduler->blocks, scheduler->running[i]);
    if (enough) admit_waiting(scheduler, &left, now);
    for (int i = 0; i < scheduler->num_running && left.rows > 0; i++) {
        struct oct_sequence *sequence = scheduler->running[i];
        if (rows_wanted(sequence) == 0) continue;
        give_rows(scheduler, sequence, left.rows, &left);
        publish(&scheduler->blocks, sequence);
    }
}
