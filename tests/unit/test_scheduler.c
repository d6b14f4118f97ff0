// The scheduler over a toy model whose logits depend on every token that a row sees through its block table: whatever else is in the
// batch, however prompts are cut and whoever is preempted, a sequence says what it says alone.
#include "engine/scheduler.h"
#include "toy_llama.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 97, BLOCK = 16, MAX_LEN = 160, MAX_PROMPT = 120, MAX_OUTPUT = 40 };

static double now; // a clock that goes on by a second with every step

// One sequence of a test: what goes in and what comes out.
struct timeline {
    int32_t prompt[MAX_PROMPT];
    int prompt_length;
    struct oct_sampling sampling;
    int priority;
    const char *cache_salt;
    struct oct_sequence *sequence;
    int cached_tokens;
    int32_t output[MAX_OUTPUT];
    int num_output;
    enum oct_outcome outcome;
};

static struct oct_sampling greedy(int max_tokens) {
    return (struct oct_sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = max_tokens};
}

static struct timeline timeline(int seed, int prompt_length, int max_tokens) {
    struct timeline t = {.prompt_length = prompt_length, .sampling = greedy(max_tokens)};
    for (int i = 0; i < prompt_length; i++) t.prompt[i] = (seed * 31 + i * i * 7 + i) % VOCAB;
    return t;
}

static struct timeline sampled_timeline(int seed, int prompt_length, int max_tokens) {
    struct timeline t = timeline(seed, prompt_length, max_tokens);
    t.sampling.temperature = 0.8f;
    t.sampling.top_k = 20;
    t.sampling.top_p = 0.9f;
    t.sampling.frequency_penalty = 0.5f;
    t.sampling.seed = (uint64_t)seed;
    return t;
}

static struct oct_scheduler *open_with(struct toy_llama *toy, int num_blocks, struct oct_scheduler_options options) {
    struct oct_scheduler *scheduler;
    toy_llama_open(toy, VOCAB, BLOCK, num_blocks);
    options.max_model_len = MAX_LEN;
    assert_int_equal(oct_scheduler_open(&toy->llama, &toy->cache, &options, &scheduler, NULL), OCT_OK);
    return scheduler;
}

static struct oct_scheduler *open_scheduler(struct toy_llama *toy, int num_blocks, int max_num_seqs, int max_rows) {
    return open_with(toy, num_blocks, (struct oct_scheduler_options){.max_num_seqs = max_num_seqs, .max_num_batched_tokens = max_rows});
}

static void close_scheduler(struct toy_llama *toy, struct oct_scheduler *scheduler) {
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(stats.running + stats.waiting, 0);
    oct_scheduler_close(scheduler);
    toy_llama_close(toy);
}

static void add(struct oct_scheduler *scheduler, struct timeline *t) {
    struct oct_sequence_options options = {
        .prompt = t->prompt,
        .prompt_length = t->prompt_length,
        .sampling = &t->sampling,
        .priority = t->priority,
        .cache_salt = t->cache_salt,
        .user = t,
    };
    assert_int_equal(oct_scheduler_add(scheduler, &options, &t->sequence, NULL), OCT_OK);
}

static void step(struct oct_scheduler *scheduler) {
    const struct oct_sampled *sampled;
    int count;
    if (!oct_scheduler_plan(scheduler, ++now)) return;
    oct_scheduler_run(scheduler, &sampled, &count);
    for (int i = 0; i < count; i++) {
        struct timeline *t = sampled[i].user;
        assert_ptr_equal(t->sequence, sampled[i].sequence);
        if (sampled[i].outcome != OCT_SEQ_FAILED) t->output[t->num_output++] = sampled[i].token;
        t->outcome = sampled[i].outcome;
    }
    for (int i = 0; i < count; i++)
        if (sampled[i].outcome != OCT_SEQ_RUNNING) oct_scheduler_remove(scheduler, sampled[i].sequence);
}

static void run(struct oct_scheduler *scheduler) {
    while (oct_scheduler_has_work(scheduler)) step(scheduler);
}

// Runs a copy of `t` with nothing beside it and its prompt in one piece, and compares.
static void assert_same_as_alone(const struct timeline *t) {
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 1, MAX_LEN);
    struct timeline alone = *t;
    alone.num_output = 0;
    add(scheduler, &alone);
    run(scheduler);
    assert_int_equal(alone.num_output, t->num_output);
    assert_memory_equal(alone.output, t->output, (size_t)t->num_output * sizeof *t->output);
    assert_int_equal(alone.outcome, t->outcome);
    close_scheduler(&toy, scheduler);
}

static void batched_sequences_say_what_they_say_alone(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 200, 4, 64);
    enum { COUNT = 12 };
    struct timeline all[COUNT];
    for (int i = 0; i < COUNT; i++)
        all[i] = i % 2 ? timeline(i, 1 + i * 9 % 70, 5 + i * 3) : sampled_timeline(i, 1 + i * 13 % 90, 7 + i * 2);
    for (int i = 0; i < COUNT; i++) { // they come in while others are decoding
        add(scheduler, &all[i]);
        if (i % 3 == 2) step(scheduler), step(scheduler);
    }
    run(scheduler);
    assert_int_equal(toy_max_seqs_seen, 4);
    assert_in_range(toy_max_rows_seen, 60, 64);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(all[i].num_output, all[i].sampling.max_tokens);
        assert_same_as_alone(&all[i]);
    }
}

static void a_prompt_in_chunks_equals_the_whole(void **state) {
    (void)state;
    for (int rows = 1; rows <= 33; rows += 4) {
        struct toy_llama toy;
        struct oct_scheduler *scheduler = open_scheduler(&toy, 20, 1, rows);
        struct timeline t = timeline(rows, 75, 10);
        add(scheduler, &t);
        step(scheduler);
        assert_int_equal(t.num_output, 0);
        run(scheduler);
        assert_int_equal(toy_max_rows_seen, rows);
        close_scheduler(&toy, scheduler);
        assert_same_as_alone(&t);
    }
}

static void decoding_sequences_do_not_wait_for_a_long_prompt(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 8);
    struct timeline first = timeline(1, 3, 30), second = timeline(2, 3, 30), longer = timeline(3, 100, 5);
    add(scheduler, &first);
    add(scheduler, &second);
    step(scheduler);
    add(scheduler, &longer);
    for (int i = 2; i <= 10; i++) {
        step(scheduler);
        assert_int_equal(first.num_output, i);
        assert_int_equal(second.num_output, i);
    }
    assert_int_equal(longer.num_output, 0); // 9 steps of 6 rows
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&longer);
}

static void preemption_does_not_change_tokens(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 8, 32); // blocks for one sequence of full length
    enum { COUNT = 6 };
    struct timeline all[COUNT];
    for (int i = 0; i < COUNT; i++) {
        all[i] = i % 2 ? timeline(i, 20 + i, 38) : sampled_timeline(i, 20 + i, 38);
        add(scheduler, &all[i]);
    }
    run(scheduler);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_true(stats.preemptions > 0);
    assert_int_equal(stats.generation_tokens, COUNT * 38);
    assert_int_equal(stats.prompt_tokens, 20 + 21 + 22 + 23 + 24 + 25);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < COUNT; i++) assert_same_as_alone(&all[i]);
}

static void the_first_come_is_never_the_one_preempted(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 8, 64);
    struct timeline first = timeline(1, 100, 40), second = timeline(2, 30, 20);
    add(scheduler, &first);
    add(scheduler, &second);
    int steps = 0;
    while (first.num_output < 40) step(scheduler), steps++;
    assert_int_equal(steps, 42); // three chunks, as the second has to have its share, then a token every step
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&second);
}

static void a_preempted_sequence_comes_back_before_those_that_never_ran(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 2, 64);
    struct timeline first = timeline(1, 60, 40), preempted = timeline(2, 60, 40), waiting = timeline(3, 60, 10);
    add(scheduler, &first);
    add(scheduler, &preempted);
    add(scheduler, &waiting);
    struct oct_scheduler_stats stats;
    do {
        step(scheduler);
        oct_scheduler_get_stats(scheduler, &stats);
    } while (stats.preemptions == 0);
    while (first.num_output < 40) {
        step(scheduler);
        assert_true(oct_sequence_admitted_at(waiting.sequence) == 0);
    }
    step(scheduler);
    assert_int_equal(preempted.sequence->outcome, OCT_SEQ_RUNNING);
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&preempted);
    assert_same_as_alone(&waiting);
}

static void a_sequence_waits_until_blocks_for_its_prompt_are_free(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 8, 160);
    struct timeline large = timeline(1, 110, 5), small = timeline(2, 64, 5);
    add(scheduler, &large);
    add(scheduler, &small);
    step(scheduler);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_int_equal(stats.running, 1);
    assert_int_equal(stats.waiting, 1);
    assert_int_equal(stats.blocks_used, 7);
    assert_true(oct_sequence_admitted_at(large.sequence) > 0);
    assert_true(oct_sequence_admitted_at(small.sequence) == 0);
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&small);
}

static void sequences_stop_at_stop_tokens_max_tokens_and_max_model_len(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    struct timeline limited = timeline(1, 10, 12), full = timeline(1, MAX_PROMPT, 0);
    add(scheduler, &limited);
    add(scheduler, &full);
    run(scheduler);
    assert_int_equal(limited.outcome, OCT_SEQ_LENGTH);
    assert_int_equal(limited.num_output, 12);
    assert_int_equal(full.outcome, OCT_SEQ_LENGTH);
    assert_int_equal(full.num_output, MAX_LEN - MAX_PROMPT);

    int32_t stops[] = {96, limited.output[5]};
    struct timeline stopped = timeline(1, 10, 12);
    stopped.sampling.stop_token_ids = stops;
    stopped.sampling.num_stop_token_ids = stopped.sampling.num_late_token_ids = 2;
    struct timeline later = stopped;
    add(scheduler, &stopped);
    later.sampling.min_tokens = 9;
    add(scheduler, &later);
    run(scheduler);
    assert_int_equal(stopped.outcome, OCT_SEQ_STOPPED);
    assert_int_equal(stopped.output[stopped.num_output - 1], stops[1]);
    assert_in_range(stopped.num_output, 1, 6);
    assert_in_range(later.num_output, 10, 12);
    for (int i = 0; i < 9; i++) assert_true(later.output[i] != stops[0] && later.output[i] != stops[1]);
    close_scheduler(&toy, scheduler);
}

static void removing_a_sequence_returns_its_blocks_and_leaves_the_others_alone(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 2, 32);
    struct timeline kept = timeline(1, 40, 20), running = timeline(2, 10, 30), waiting = timeline(3, 10, 30);
    add(scheduler, &running);
    add(scheduler, &kept);
    add(scheduler, &waiting);
    step(scheduler);
    oct_scheduler_remove(scheduler, running.sequence);
    oct_scheduler_remove(scheduler, waiting.sequence);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_int_equal(stats.blocks_used, 3);
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&kept);
}

static void a_sequence_with_nan_logits_fails_and_the_others_go_on(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 64);
    struct timeline good = timeline(1, 30, 15), bad = timeline(2, 20, 15);
    bad.prompt[19] = 5;
    good.prompt[29] = 6;
    add(scheduler, &good);
    add(scheduler, &bad);
    toy_poison = 5;
    step(scheduler);
    toy_poison = -1;
    assert_int_equal(bad.outcome, OCT_SEQ_FAILED);
    assert_int_equal(bad.num_output, 0);
    run(scheduler);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&good);
}

static void closing_frees_sequences_that_are_left(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 1, 64);
    struct timeline running = timeline(1, 30, 15), waiting = timeline(2, 20, 15);
    add(scheduler, &running);
    add(scheduler, &waiting);
    step(scheduler);
    oct_scheduler_close(scheduler);
    toy_llama_close(&toy);
}

static void what_cannot_work_is_refused_by_name(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 1, 64);
    struct timeline t = timeline(1, 30, 15);
    oct_error err;
    const struct {
        int32_t id;
        size_t length;
        const char *named;
    } prompts[] = {{0, 0, "prompt"}, {0, MAX_LEN, "max_model_len"}, {VOCAB, 5, "token ids"}, {-1, 5, "token ids"}};
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        int32_t prompt[MAX_LEN] = {prompts[i].id};
        assert_int_equal(oct_scheduler_check(scheduler, prompt, prompts[i].length, &t.sampling, &err), OCT_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, prompts[i].named));
    }
    struct oct_sequence *sequence;
    struct oct_sampling hot = t.sampling;
    hot.temperature = -1;
    struct oct_sequence_options too_hot = {.prompt = t.prompt, .prompt_length = 30, .sampling = &hot};
    assert_int_equal(oct_scheduler_add(scheduler, &too_hot, &sequence, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "temperature"));
    close_scheduler(&toy, scheduler);

    toy_llama_open(&toy, VOCAB, BLOCK, 4);
    struct oct_scheduler_options too_long = {.max_num_seqs = 1, .max_num_batched_tokens = 8, .max_model_len = 4 * BLOCK + 1};
    assert_int_equal(oct_scheduler_open(&toy.llama, &toy.cache, &too_long, &scheduler, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "64 tokens"));
    toy_llama_close(&toy);
}

// --- order and fairness -----------------------------------------------------------------------------------------------------------

static void a_lower_priority_value_is_served_first_and_preempted_last(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler =
        open_with(&toy, MAX_LEN / BLOCK,
                  (struct oct_scheduler_options){.max_num_seqs = 2, .max_num_batched_tokens = 64, .policy = OCT_POLICY_PRIORITY});
    struct timeline all[] = {timeline(1, 60, 40), timeline(2, 60, 40), timeline(3, 40, 10)};
    const int priorities[] = {5, -1, 0};
    for (int i = 0; i < 3; i++) {
        all[i].priority = priorities[i];
        add(scheduler, &all[i]);
    }
    while (all[1].num_output == 0) step(scheduler);
    assert_true(oct_sequence_admitted_at(all[1].sequence) > 0 && oct_sequence_admitted_at(all[2].sequence) > 0);
    assert_true(oct_sequence_admitted_at(all[0].sequence) == 0);
    while (all[2].num_output < 10) step(scheduler);
    while (oct_scheduler_has_work(scheduler) && all[1].num_output < 40) {
        int before = all[1].num_output;
        step(scheduler);
        assert_int_equal(all[1].num_output, before + 1); // the other one is preempted, never this one
    }
    run(scheduler);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_true(stats.preemptions > 0);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < 3; i++) assert_same_as_alone(&all[i]);
}

static void first_come_first_served_ignores_priorities(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 1, 64);
    struct timeline first = timeline(1, 10, 3), second = timeline(2, 10, 3);
    first.priority = 9;
    add(scheduler, &first);
    add(scheduler, &second);
    step(scheduler);
    assert_int_equal(first.num_output, 1);
    run(scheduler);
    close_scheduler(&toy, scheduler);
}

static void a_short_prompt_gets_its_first_token_while_long_ones_are_computed(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 60, 8, 64);
    struct timeline longer[] = {timeline(1, 119, 5), timeline(2, 118, 5), timeline(3, 117, 5)}, shorter = timeline(4, 8, 5);
    for (int i = 0; i < 3; i++) add(scheduler, &longer[i]);
    step(scheduler);
    add(scheduler, &shorter);
    step(scheduler);
    step(scheduler);
    assert_true(shorter.num_output > 0);
    assert_int_equal(longer[1].num_output + longer[2].num_output, 0);
    assert_int_equal(toy_rows_seen, 3 * 64); // and no row of a step is left unused for it
    run(scheduler);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < 3; i++) assert_same_as_alone(&longer[i]);
    assert_same_as_alone(&shorter);
}

static void a_long_prompt_gets_no_more_rows_than_the_threshold(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_with(
        &toy, 40, (struct oct_scheduler_options){.max_num_seqs = 4, .max_num_batched_tokens = 64, .long_prefill_token_threshold = 10});
    struct timeline t = timeline(1, 95, 3);
    add(scheduler, &t);
    for (int i = 1; i <= 10; i++) {
        step(scheduler);
        assert_int_equal(toy_rows_seen, i < 10 ? 10 * i : 95);
    }
    assert_int_equal(t.num_output, 1);
    run(scheduler);
    close_scheduler(&toy, scheduler);
}

// --- the prefix cache -------------------------------------------------------------------------------------------------------------

static void run_alone(struct oct_scheduler *scheduler, struct timeline *t) {
    add(scheduler, t);
    t->cached_tokens = -1;
    while (oct_scheduler_has_work(scheduler)) {
        struct oct_sequence *sequence = t->sequence;
        const struct oct_sampled *sampled;
        int count;
        assert_non_null(oct_scheduler_plan(scheduler, ++now));
        t->cached_tokens = oct_sequence_cached_tokens(sequence);
        oct_scheduler_run(scheduler, &sampled, &count);
        if (count == 0) continue;
        t->output[t->num_output++] = sampled->token;
        t->outcome = sampled->outcome;
        if (t->outcome != OCT_SEQ_RUNNING) oct_scheduler_remove(scheduler, sequence);
    }
}

static void a_prompt_is_computed_only_from_where_it_is_new(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    struct timeline first = timeline(1, 100, 3), same = timeline(1, 100, 5), longer = timeline(1, 118, 3), whole = timeline(1, 96, 3);
    run_alone(scheduler, &first);
    assert_int_equal(first.cached_tokens, 0);
    assert_int_equal(toy_rows_seen, 102);
    run_alone(scheduler, &same);
    assert_int_equal(same.cached_tokens, 96);
    assert_int_equal(toy_rows_seen, 102 + 4 + 4);
    run_alone(scheduler, &longer);
    assert_int_equal(longer.cached_tokens, 96); // full blocks alone are shared
    run_alone(scheduler, &whole);
    assert_int_equal(whole.cached_tokens, 80); // its last token is computed, for its logits
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_int_equal(stats.prefix_queries, 100 + 100 + 118 + 96);
    assert_int_equal(stats.prefix_hits, 96 + 96 + 80);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&same);
    assert_same_as_alone(&longer);
    assert_same_as_alone(&whole);
}

static void an_answer_is_found_again_as_part_of_the_next_prompt(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    struct timeline turn = timeline(1, 30, 40), next = timeline(9, 90, 3);
    run_alone(scheduler, &turn);
    memcpy(next.prompt, turn.prompt, 30 * sizeof *turn.prompt);
    memcpy(next.prompt + 30, turn.output, 40 * sizeof *turn.output);
    run_alone(scheduler, &next);
    assert_int_equal(next.cached_tokens, 64); // of 69 that were computed
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&next);
}

static void different_salts_share_nothing(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 60, 4, 160);
    const char *salts[] = {NULL, "a", "b", "a", NULL}, hits[] = {0, 0, 0, 96, 96};
    for (int i = 0; i < 5; i++) {
        struct timeline t = timeline(1, 100, 3);
        t.cache_salt = salts[i];
        run_alone(scheduler, &t);
        assert_int_equal(t.cached_tokens, hits[i]);
    }
    close_scheduler(&toy, scheduler);
}

static void without_prefix_caching_or_after_a_reset_nothing_is_found(void **state) {
    (void)state;
    struct toy_llama toy;
    for (int off = 0; off < 2; off++) {
        struct oct_scheduler *scheduler =
            open_with(&toy, 40, (struct oct_scheduler_options){.max_num_seqs = 4, .max_num_batched_tokens = 160, .no_prefix_caching = off});
        for (int i = 0; i < 2; i++) {
            struct timeline t = timeline(1, 100, 3);
            run_alone(scheduler, &t);
            assert_int_equal(t.cached_tokens, 0);
            oct_scheduler_reset_prefix_cache(scheduler);
        }
        close_scheduler(&toy, scheduler);
    }
}

static void choices_of_one_prompt_share_its_blocks_from_the_first_step_on(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    struct timeline choices[4];
    for (int i = 0; i < 4; i++) {
        choices[i] = timeline(1, 50, 10);
        choices[i].sampling.temperature = 1;
        choices[i].sampling.seed = (uint64_t)i;
        add(scheduler, &choices[i]);
    }
    step(scheduler);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_int_equal(stats.running, 4);
    assert_int_equal(stats.blocks_used, 3 + 4); // three full ones, and the rest of each
    assert_int_equal(toy_rows_seen, 50 + 3 * 2);
    run(scheduler);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < 4; i++) assert_same_as_alone(&choices[i]);
}

static void a_prompt_that_is_being_computed_is_not_computed_beside_it(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 60, 4, 32);
    struct timeline same[3] = {timeline(1, 100, 4), timeline(1, 100, 4), timeline(1, 100, 4)}, other = timeline(2, 10, 4);
    for (int i = 0; i < 3; i++) add(scheduler, &same[i]);
    add(scheduler, &other);
    step(scheduler);
    assert_int_equal(other.num_output, 1); // those that wait for blocks hold nobody up
    run(scheduler);
    assert_int_equal(toy_rows_seen, 100 + 2 * 4 + 10 + 4 * 3);
    close_scheduler(&toy, scheduler);
    for (int i = 0; i < 3; i++) assert_same_as_alone(&same[i]);
}

static void cached_blocks_are_taken_least_recently_used_first(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 15, 1, 160); // two prompts of 7 blocks, and one more
    struct timeline a = timeline(1, 100, 3), b = timeline(2, 100, 3), again = timeline(1, 100, 3), c = timeline(3, 100, 3);
    run_alone(scheduler, &a);
    run_alone(scheduler, &b);
    run_alone(scheduler, &again);
    assert_int_equal(again.cached_tokens, 96);
    run_alone(scheduler, &c); // takes b's
    again = timeline(1, 100, 3);
    run_alone(scheduler, &again);
    assert_int_equal(again.cached_tokens, 96);
    b = timeline(2, 100, 3);
    run_alone(scheduler, &b);
    assert_in_range(b.cached_tokens, 0, 48);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&b);
}

// --- log-probabilities of a prompt ------------------------------------------------------------------------------------------------

static void prompt_logprobs_are_those_of_every_prefix(void **state) {
    (void)state;
    enum { COUNT = 4 };
    for (int rows = 5; rows < 160; rows += 50) {
        struct toy_llama toy;
        struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 5, rows);
        struct timeline scored = timeline(1, 110, 3), other = timeline(2, 30, 3);
        scored.sampling.num_prompt_logprobs = COUNT;
        struct timeline before = timeline(1, 110, 3); // its blocks are there, and yet all logits are computed
        run_alone(scheduler, &before);
        add(scheduler, &scored);
        add(scheduler, &other);
        const struct oct_logprob *logprobs = NULL;
        while (!logprobs) {
            const struct oct_sampled *sampled;
            int count;
            const struct oct_batch *batch = oct_scheduler_plan(scheduler, ++now);
            assert_in_range(batch->num_logit_rows, 0, oct_scheduler_logit_rows(&scheduler->options));
            oct_scheduler_run(scheduler, &sampled, &count);
            for (int i = 0; i < count; i++) {
                if (sampled[i].user == &scored) logprobs = sampled[i].prompt_logprobs;
                if (sampled[i].outcome != OCT_SEQ_RUNNING) oct_scheduler_remove(scheduler, sampled[i].sequence);
            }
        }
        struct oct_sampler *sampler = oct_sampler_new(VOCAB);
        for (int i = 1; i < 110; i++) {
            float logits[VOCAB];
            struct oct_logprob expected[COUNT];
            toy_logits(scored.prompt, i, VOCAB, logits);
            assert_true(oct_sampler_score(sampler, logits, scored.prompt[i], COUNT, expected));
            assert_memory_equal(logprobs + (i - 1) * COUNT, expected, sizeof expected);
        }
        oct_sampler_free(sampler);
        oct_scheduler_close(scheduler);
        toy_llama_close(&toy);
    }
}

static void a_scored_prompt_survives_preemption(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, MAX_LEN / BLOCK, 3, 20);
    struct timeline first = timeline(1, 60, 40), scored = timeline(2, 60, 40);
    scored.sampling.num_prompt_logprobs = 1;
    add(scheduler, &first);
    add(scheduler, &scored);
    run(scheduler);
    struct oct_scheduler_stats stats;
    oct_scheduler_get_stats(scheduler, &stats);
    assert_true(stats.preemptions > 0);
    close_scheduler(&toy, scheduler);
    assert_same_as_alone(&scored);
}

// --- ends -------------------------------------------------------------------------------------------------------------------------

static void a_repetition_ends_a_sequence_after_min_tokens(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    const struct oct_biased_token bias = {7, 100}; // the same token all the time
    struct timeline t = timeline(1, 10, 30);
    t.sampling.logit_bias = &bias;
    t.sampling.num_logit_bias = 1;
    t.sampling.repetition_detection = (struct oct_repetition){.max_pattern_size = 3, .min_pattern_size = 2, .min_count = 3};
    struct timeline later = t;
    later.sampling.min_tokens = 12;
    add(scheduler, &t);
    add(scheduler, &later);
    run(scheduler);
    assert_int_equal(t.outcome, OCT_SEQ_REPETITION);
    assert_int_equal(t.num_output, 6);
    assert_int_equal(later.outcome, OCT_SEQ_REPETITION);
    assert_int_equal(later.num_output, 12);
    close_scheduler(&toy, scheduler);
}

static void a_sequence_without_a_token_that_is_allowed_fails_and_says_so(void **state) {
    (void)state;
    struct toy_llama toy;
    struct oct_scheduler *scheduler = open_scheduler(&toy, 40, 4, 160);
    const int32_t only[] = {7};
    struct timeline t = timeline(1, 10, 30);
    t.sampling.allowed_token_ids = t.sampling.stop_token_ids = only;
    t.sampling.num_allowed_token_ids = t.sampling.num_stop_token_ids = t.sampling.num_late_token_ids = 1;
    t.sampling.min_tokens = 1;
    add(scheduler, &t);
    const struct oct_sampled *sampled;
    int count;
    assert_non_null(oct_scheduler_plan(scheduler, ++now));
    oct_scheduler_run(scheduler, &sampled, &count);
    assert_int_equal(count, 1);
    assert_int_equal(sampled->outcome, OCT_SEQ_FAILED);
    assert_int_equal(sampled->status, OCT_SAMPLED_NONE_LEFT);
    oct_scheduler_remove(scheduler, sampled->sequence);
    close_scheduler(&toy, scheduler);
}

static void block_tables_grow_all_or_nothing(void **state) {
    (void)state;
    struct oct_kv_blocks blocks;
    struct oct_block_table a, b;
    oct_kv_blocks_open(&blocks, 16, 5, true);
    oct_block_table_open(&a, 5);
    oct_block_table_open(&b, 5);
    assert_true(oct_block_table_grow(&a, &blocks, 33));
    assert_int_equal(a.count, 3);
    assert_true(oct_block_table_grow(&a, &blocks, 48)); // fits already
    assert_int_equal(a.count, 3);
    assert_false(oct_block_table_grow(&b, &blocks, 33));
    assert_int_equal(b.count, 0);
    assert_int_equal(blocks.num_free, 2);
    assert_true(oct_block_table_grow(&b, &blocks, 32));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++) assert_int_not_equal(a.ids[i], b.ids[j]);
    oct_block_table_clear(&a, &blocks);
    oct_block_table_clear(&b, &blocks);
    assert_int_equal(blocks.num_free, 5);
    oct_block_table_close(&a);
    oct_block_table_close(&b);
    oct_kv_blocks_close(&blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batched_sequences_say_what_they_say_alone),
        cmocka_unit_test(a_prompt_in_chunks_equals_the_whole),
        cmocka_unit_test(decoding_sequences_do_not_wait_for_a_long_prompt),
        cmocka_unit_test(preemption_does_not_change_tokens),
        cmocka_unit_test(the_first_come_is_never_the_one_preempted),
        cmocka_unit_test(a_preempted_sequence_comes_back_before_those_that_never_ran),
        cmocka_unit_test(a_sequence_waits_until_blocks_for_its_prompt_are_free),
        cmocka_unit_test(sequences_stop_at_stop_tokens_max_tokens_and_max_model_len),
        cmocka_unit_test(removing_a_sequence_returns_its_blocks_and_leaves_the_others_alone),
        cmocka_unit_test(a_sequence_with_nan_logits_fails_and_the_others_go_on),
        cmocka_unit_test(closing_frees_sequences_that_are_left),
        cmocka_unit_test(what_cannot_work_is_refused_by_name),
        cmocka_unit_test(a_lower_priority_value_is_served_first_and_preempted_last),
        cmocka_unit_test(first_come_first_served_ignores_priorities),
        cmocka_unit_test(a_short_prompt_gets_its_first_token_while_long_ones_are_computed),
        cmocka_unit_test(a_long_prompt_gets_no_more_rows_than_the_threshold),
        cmocka_unit_test(a_prompt_is_computed_only_from_where_it_is_new),
        cmocka_unit_test(an_answer_is_found_again_as_part_of_the_next_prompt),
        cmocka_unit_test(different_salts_share_nothing),
        cmocka_unit_test(without_prefix_caching_or_after_a_reset_nothing_is_found),
        cmocka_unit_test(choices_of_one_prompt_share_its_blocks_from_the_first_step_on),
        cmocka_unit_test(a_prompt_that_is_being_computed_is_not_computed_beside_it),
        cmocka_unit_test(cached_blocks_are_taken_least_recently_used_first),
        cmocka_unit_test(prompt_logprobs_are_those_of_every_prefix),
        cmocka_unit_test(a_scored_prompt_survives_preemption),
        cmocka_unit_test(a_repetition_ends_a_sequence_after_min_tokens),
        cmocka_unit_test(a_sequence_without_a_token_that_is_allowed_fails_and_says_so),
        cmocka_unit_test(block_tables_grow_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
