// The scheduler over a toy model whose logits depend on every token that a row sees through its block table: whatever else is in the
// batch, however prompts are cut and whoever is preempted, a sequence says what it says alone.
#include "engine/engine.h"
#include "engine/kv_blocks.h"
#include "toy_llama.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 97, BLOCK = 16, MAX_LEN = 160, MAX_PROMPT = 120, MAX_OUTPUT = 40 };

// One sequence of a test: what goes in and what comes out.
struct timeline {
    int32_t prompt[MAX_PROMPT];
    int prompt_length;
    struct oct_sampling sampling;
    struct oct_sequence *sequence;
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

static struct oct_scheduler *open_scheduler(struct toy_llama *toy, int num_blocks, int max_num_seqs, int max_rows) {
    toy_llama_open(toy, VOCAB, BLOCK, num_blocks);
    struct oct_scheduler_options options = {.max_num_seqs = max_num_seqs, .max_num_batched_tokens = max_rows, .max_model_len = MAX_LEN};
    struct oct_scheduler *scheduler;
    assert_int_equal(oct_scheduler_open(&toy->llama, &toy->cache, &options, &scheduler, NULL), OCT_OK);
    return scheduler;
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
    assert_int_equal(oct_scheduler_add(scheduler, t->prompt, t->prompt_length, &t->sampling, t, &t->sequence, NULL), OCT_OK);
}

static void step(struct oct_scheduler *scheduler) {
    const struct oct_sampled *sampled;
    int count;
    oct_scheduler_step(scheduler, &sampled, &count);
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
    assert_int_equal(steps, 41); // two chunks, then a token every step
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
    while (first.num_output < 40) step(scheduler);
    step(scheduler);
    assert_int_equal(oct_scheduler_has_work(scheduler), true);
    assert_true(oct_sequence_admitted_at(waiting.sequence) == 0);
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
    stopped.sampling.num_stop_token_ids = 2;
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
    assert_int_equal(oct_scheduler_add(scheduler, t.prompt, 30, &hot, NULL, &sequence, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "temperature"));
    close_scheduler(&toy, scheduler);

    toy_llama_open(&toy, VOCAB, BLOCK, 4);
    struct oct_scheduler_options too_long = {.max_num_seqs = 1, .max_num_batched_tokens = 8, .max_model_len = 4 * BLOCK + 1};
    assert_int_equal(oct_scheduler_open(&toy.llama, &toy.cache, &too_long, &scheduler, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "64 tokens"));
    toy_llama_close(&toy);
}

static void block_tables_grow_all_or_nothing(void **state) {
    (void)state;
    struct oct_kv_blocks blocks;
    struct oct_block_table a, b;
    oct_kv_blocks_open(&blocks, 16, 5);
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
        cmocka_unit_test(block_tables_grow_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
