// What a server needs of the engine, through octavo.h: every sampling parameter, shared prompts, limits of the queue, sizes of memory, the
// warm-up, and a watchdog over steps that hang. The model's forward pass is wrapped, so that a step can be made to hang.
#include "golden_data.h"
#include "model/llama.h"
#include "octavo.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { PROMPT_LENGTH = 70, EOS = 2, VOCAB = 288 };

static atomic_int hang_ms;     // every step takes so much longer
static atomic_int steps, rows; // since they were last set to 0

void __real_oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                              const struct oct_observer *observer);
void __wrap_oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                              const struct oct_observer *observer);

static void sleep_ms(int ms) {
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

void __wrap_oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                              const struct oct_observer *observer) {
    atomic_fetch_add(&steps, 1);
    atomic_fetch_add(&rows, batch->num_rows);
    sleep_ms(atomic_load(&hang_ms));
    __real_oct_llama_forward(llama, cache, batch, logits, observer);
}

static int32_t prompt[PROMPT_LENGTH];

static int fill_prompt(void **state) {
    (void)state;
    for (int i = 0; i < PROMPT_LENGTH; i++) prompt[i] = 3 + i * 37 % (VOCAB - 3);
    return 0;
}

static oct_engine *open_engine(oct_engine_options options) {
    oct_engine *engine;
    oct_error err = {OCT_OK, ""};
    options.model = golden_path("model/models/tiny_gguf/model.gguf");
    options.threads = 2; // sampling takes all of them
    if (!options.kv_cache_bytes && !options.num_gpu_blocks_override && options.gpu_memory_utilization == 0)
        options.kv_cache_bytes = 1 << 20;
    if (oct_engine_open(&options, &engine, &err) != OCT_OK) fail_msg("%s", err.message);
    return engine;
}

static oct_engine_info info_of(const oct_engine *engine) {
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    return info;
}

static void close_engine(oct_engine *engine) {
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_int_equal(stats.running + stats.waiting + stats.blocks_used, 0);
    assert_int_equal(oct_engine_close(engine, NULL), OCT_OK);
}

static oct_sampling_params greedy(int max_tokens) {
    return (oct_sampling_params){.max_tokens = max_tokens, .ignore_eos = true};
}

static oct_request *submit(oct_engine *engine, oct_sampling_params params) {
    oct_request *request;
    oct_error err = {OCT_OK, ""};
    if (oct_request_submit(engine, prompt, PROMPT_LENGTH, &params, NULL, NULL, &request, &err) != OCT_OK) fail_msg("%s", err.message);
    return request;
}

struct answer {
    int32_t tokens[256];
    double seconds[256];
    int num_tokens, cached_tokens;
    oct_finish finish;
    oct_error error;
};

static struct answer read_answer(oct_request *request) {
    struct answer answer = {0};
    oct_delta delta;
    while (answer.finish == OCT_RUNNING) {
        assert_true(oct_request_next(request, -1, &delta));
        for (size_t i = 0; i < delta.num_tokens; i++) {
            answer.seconds[answer.num_tokens] = delta.token_seconds[i];
            answer.tokens[answer.num_tokens++] = delta.token_ids[i];
        }
        answer.finish = delta.finish;
        answer.cached_tokens = delta.cached_tokens;
        if (delta.error) answer.error = *delta.error;
    }
    oct_request_free(request);
    return answer;
}

static struct answer ask(oct_engine *engine, oct_sampling_params params) {
    return read_answer(submit(engine, params));
}

// --- parameters -------------------------------------------------------------------------------------------------------------------

static bool says(const struct answer *answer, int32_t id) {
    for (int i = 0; i < answer->num_tokens; i++)
        if (answer->tokens[i] == id) return true;
    return false;
}

static void tokens_can_be_favoured_allowed_and_forbidden(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    struct answer plain = ask(engine, greedy(20)), answer;
    const oct_logit_bias never = {plain.tokens[0], -100}, always = {77, 100};
    oct_sampling_params params = greedy(20);
    params.logit_bias = &never;
    params.num_logit_bias = 1;
    answer = ask(engine, params);
    assert_false(says(&answer, plain.tokens[0]));
    params.logit_bias = &always;
    answer = ask(engine, params);
    for (int i = 0; i < 20; i++) assert_int_equal(answer.tokens[i], 77);
    params.repetition_detection = (oct_repetition_detection){.max_pattern_size = 2, .min_count = 4};
    answer = ask(engine, params);
    assert_int_equal(answer.finish, OCT_FINISH_REPETITION);
    assert_int_equal(answer.num_tokens, 4);

    const int32_t allowed[] = {60, 61, 62};
    params = greedy(20);
    params.allowed_token_ids = allowed;
    params.num_allowed_token_ids = 3;
    answer = ask(engine, params);
    for (int i = 0; i < 20; i++) assert_in_range(answer.tokens[i], 60, 62);

    params = greedy(20);
    char *text;
    size_t length;
    assert_int_equal(oct_detokenize(engine, plain.tokens, 1, false, &text, &length, NULL), OCT_OK);
    const char *bad[] = {text};
    params.bad_words = bad;
    params.num_bad_words = 1;
    int32_t *ids;
    size_t count;
    assert_int_equal(oct_tokenize(engine, text, length, false, &ids, &count, NULL), OCT_OK);
    if (count == 1 && ids[0] == plain.tokens[0]) {
        answer = ask(engine, params);
        assert_false(says(&answer, plain.tokens[0]));
    }
    oct_free(ids);
    oct_free(text);
    close_engine(engine);
}

static void positive_numbers_that_float32_cannot_hold_are_taken_as_its_nearest(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    struct answer best = ask(engine, greedy(4));
    oct_sampling_params params = greedy(4);
    params.temperature = 1, params.has_seed = true, params.top_p = 1e-300;
    assert_memory_equal(ask(engine, params).tokens, best.tokens, 4 * sizeof *best.tokens);
    params.top_p = 1;
    const double penalties[] = {1e-300, 1e300};
    for (int i = 0; i < 2; i++) {
        params.repetition_penalty = penalties[i];
        assert_int_equal(ask(engine, params).finish, OCT_FINISH_LENGTH);
    }
    close_engine(engine);
}

static void eos_does_not_come_before_min_tokens_even_when_it_is_ignored(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    const oct_logit_bias often = {EOS, 100};
    for (int ignored = 0; ignored < 2; ignored++) {
        oct_sampling_params params = {.max_tokens = 12, .min_tokens = 5, .ignore_eos = ignored, .logit_bias = &often, .num_logit_bias = 1};
        struct answer answer = ask(engine, params);
        for (int i = 0; i < 5; i++) assert_int_not_equal(answer.tokens[i], EOS);
        assert_int_equal(answer.tokens[5], EOS);
        assert_int_equal(answer.num_tokens, ignored ? 12 : 6);
    }
    close_engine(engine);
}

static void what_leaves_no_token_is_the_caller_s_error(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    const int32_t eos[] = {EOS};
    struct answer answer =
        ask(engine, (oct_sampling_params){.max_tokens = 5, .min_tokens = 2, .allowed_token_ids = eos, .num_allowed_token_ids = 1});
    assert_int_equal(answer.finish, OCT_FINISH_ERROR);
    assert_int_equal(answer.error.code, OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(answer.error.message, "allowed_token_ids"));
    close_engine(engine);
}

static void prompt_logprobs_come_once_with_the_first_token(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_batched_tokens = 64});
    oct_sampling_params params = greedy(5);
    params.prompt_logprobs = 3;
    struct answer before = ask(engine, greedy(5)); // blocks of the prompt are there, and are not used
    oct_request *request = submit(engine, params);
    oct_delta delta = {0};
    int deltas_with = 0, tokens_before = 0;
    while (delta.finish == OCT_RUNNING) {
        assert_true(oct_request_next(request, -1, &delta));
        if (delta.prompt_logprobs) {
            deltas_with++;
            assert_int_equal(tokens_before, 0);
            assert_int_equal(delta.num_prompt_logprobs, 3);
            for (int i = 0; i < PROMPT_LENGTH - 1; i++) {
                const oct_token_logprob *row = delta.prompt_logprobs + 3 * i;
                assert_int_equal(row[0].id, prompt[i + 1]);
                assert_true(row[0].rank >= 1 && row[0].logprob <= row[1].logprob);
                assert_int_equal(row[1].rank, 1);
                assert_true(row[1].logprob >= row[2].logprob);
            }
        }
        tokens_before += (int)delta.num_tokens;
    }
    assert_int_equal(deltas_with, 1);
    assert_int_equal(delta.cached_tokens, 0);
    oct_request_free(request);
    (void)before;
    close_engine(engine);
}

static void a_seed_gives_the_same_tokens_whatever_else_runs(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 8, .max_num_batched_tokens = 40});
    oct_sampling_params params = greedy(30);
    params.temperature = 1;
    params.has_seed = true;
    params.seed = 11;
    struct answer alone = ask(engine, params);
    oct_request *requests[8];
    for (int i = 0; i < 8; i++) {
        params.seed = i == 5 ? 11 : 100 + (uint64_t)i;
        params.frequency_penalty = i == 5 ? 0 : 0.2 * i;
        requests[i] = submit(engine, params);
    }
    for (int i = 0; i < 8; i++) {
        struct answer answer = read_answer(requests[i]);
        if (i == 5) assert_memory_equal(answer.tokens, alone.tokens, 30 * sizeof *alone.tokens);
        if (i == 5) assert_int_equal(answer.cached_tokens, 64);
    }
    close_engine(engine);
}

static void times_of_tokens_ascend_from_submission(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    atomic_store(&hang_ms, 2);
    struct answer answer = ask(engine, greedy(10));
    atomic_store(&hang_ms, 0);
    assert_true(answer.seconds[0] >= 0.002);
    for (int i = 1; i < 10; i++) assert_true(answer.seconds[i] >= answer.seconds[i - 1] + 0.002);
    close_engine(engine);
}

// --- shared prompts ---------------------------------------------------------------------------------------------------------------

static void a_prompt_is_computed_once_until_the_cache_is_reset(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    const int expected[] = {0, 64, 64, 0, 64};
    for (int i = 0; i < 5; i++) {
        if (i == 3) assert_int_equal(oct_engine_reset_prefix_cache(engine, NULL), OCT_OK);
        atomic_store(&rows, 0);
        struct answer answer = ask(engine, greedy(2));
        assert_int_equal(answer.cached_tokens, expected[i]);
        assert_int_equal(atomic_load(&rows), PROMPT_LENGTH - expected[i] + 1);
    }
    oct_sampling_params salted = greedy(2);
    salted.cache_salt = "tenant";
    assert_int_equal(ask(engine, salted).cached_tokens, 0);
    assert_int_equal(ask(engine, salted).cached_tokens, 64);
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_int_equal(stats.prefix_cache_queries, 7 * PROMPT_LENGTH);
    assert_int_equal(stats.prefix_cache_hits, 4 * 64);
    close_engine(engine);
    engine = open_engine((oct_engine_options){.no_prefix_caching = true});
    for (int i = 0; i < 2; i++) assert_int_equal(ask(engine, greedy(2)).cached_tokens, 0);
    close_engine(engine);
}

// --- limits -----------------------------------------------------------------------------------------------------------------------

static oct_status try_submit(oct_engine *engine, oct_request **request) {
    oct_error err;
    oct_sampling_params params = greedy(50);
    return oct_request_submit(engine, prompt, PROMPT_LENGTH, &params, NULL, NULL, request, &err);
}

static void a_full_queue_refuses_at_once(void **state) {
    (void)state;
    for (int by_tokens = 0; by_tokens < 2; by_tokens++) {
        oct_engine *engine = open_engine((oct_engine_options){
            .max_num_seqs = 1, .max_num_queued_reqs = by_tokens ? 0 : 2, .max_num_queued_tokens = by_tokens ? PROMPT_LENGTH + 1 : 0});
        atomic_store(&hang_ms, 20);
        oct_request *first, *second, *third;
        assert_int_equal(try_submit(engine, &first), OCT_OK);
        assert_int_equal(try_submit(engine, &second), OCT_OK);
        assert_int_equal(try_submit(engine, &third), OCT_UNAVAILABLE); // running ones count too
        oct_engine_stats stats;
        oct_engine_get_stats(engine, &stats);
        assert_int_equal(by_tokens ? stats.rejected_tokens : stats.rejected_requests, 1);
        atomic_store(&hang_ms, 0);
        assert_int_equal(read_answer(first).finish, OCT_FINISH_LENGTH);
        assert_int_equal(read_answer(second).finish, OCT_FINISH_LENGTH);
        assert_int_equal(try_submit(engine, &third), OCT_OK);
        oct_request_cancel(third);
        read_answer(third);
        for (int i = 0; i < 3; i++) { // what is cancelled counts no longer
            assert_int_equal(try_submit(engine, &third), OCT_OK);
            oct_request_cancel(third);
            read_answer(third);
        }
        close_engine(engine);
    }
}

static void priorities_decide_who_waits(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 1, .scheduling_policy = "priority"});
    atomic_store(&hang_ms, 5);
    oct_sampling_params params = greedy(10);
    oct_request *running = submit(engine, params);
    params.priority = 5;
    oct_request *later = submit(engine, params);
    params.priority = -5;
    oct_request *sooner = submit(engine, params);
    oct_delta delta;
    read_answer(running);
    read_answer(sooner);
    assert_false(oct_request_next(later, 0, &delta) && delta.finish != OCT_RUNNING);
    atomic_store(&hang_ms, 0);
    read_answer(later);
    close_engine(engine);
}

static void memory_is_sized_as_asked(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.num_gpu_blocks_override = 5});
    assert_int_equal(info_of(engine).num_blocks, 5);
    assert_int_equal(info_of(engine).max_model_len, 5 * 32);
    size_t block_bytes = info_of(engine).kv_cache_bytes / 5;
    close_engine(engine);
    engine = open_engine((oct_engine_options){.kv_cache_bytes = 7 * block_bytes});
    assert_int_equal(info_of(engine).num_blocks, 7);
    close_engine(engine);
    engine = open_engine((oct_engine_options){.gpu_memory_utilization = 0.002}); // of whatever this machine has
    assert_true(info_of(engine).num_blocks > 8 * 64 / 8);
    close_engine(engine);
    oct_error err;
    oct_engine_options wrong = {.model = golden_path("model/models/tiny_gguf/model.gguf"), .threads = 1, .gpu_memory_utilization = 1.5};
    assert_int_equal(oct_engine_open(&wrong, &engine, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "gpu_memory_utilization"));
    wrong.gpu_memory_utilization = 0, wrong.scheduling_policy = "lifo";
    assert_int_equal(oct_engine_open(&wrong, &engine, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "scheduling_policy"));
}

// --- warm-up and watchdog ---------------------------------------------------------------------------------------------------------

static void warming_up_runs_every_size_and_leaves_no_trace(void **state) {
    (void)state;
    atomic_store(&steps, 0);
    atomic_store(&rows, 0);
    oct_engine *engine = open_engine((oct_engine_options){.warm_up = true, .max_num_seqs = 8, .max_num_batched_tokens = 64});
    assert_int_equal(atomic_load(&steps), 6 + 2 * 4); // prompts of 2 to 64; 1, 2, 4 and 8 sequences, prompt and decoding
    assert_int_equal(atomic_load(&rows), (2 + 4 + 8 + 16 + 32 + 64) + 2 * (1 + 2 + 4 + 8));
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_int_equal(stats.steps + stats.prompt_tokens + stats.generation_tokens + stats.prefix_cache_queries, 0);
    assert_int_equal(ask(engine, greedy(2)).cached_tokens, 0);
    close_engine(engine);
    setenv("VLLM_SKIP_WARMUP", "true", 1);
    atomic_store(&steps, 0);
    engine = open_engine((oct_engine_options){.warm_up = true});
    assert_int_equal(atomic_load(&steps), 0);
    close_engine(engine);
    unsetenv("VLLM_SKIP_WARMUP");
}

static void a_step_that_hangs_fails_its_requests_and_the_engine(void **state) {
    (void)state;
    setenv("VLLM_ENGINE_ITERATION_TIMEOUT_S", "0.1", 1);
    setenv("VLLM_RPC_TIMEOUT", "20", 1);
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 1});
    unsetenv("VLLM_ENGINE_ITERATION_TIMEOUT_S");
    unsetenv("VLLM_RPC_TIMEOUT");
    assert_true(oct_engine_is_healthy(engine));
    assert_int_equal(ask(engine, greedy(3)).finish, OCT_FINISH_LENGTH);
    atomic_store(&hang_ms, 600);
    oct_request *running = submit(engine, greedy(10)), *waiting = submit(engine, greedy(10));
    sleep_ms(30);
    oct_error err;
    assert_int_equal(oct_engine_reset_prefix_cache(engine, &err), OCT_UNAVAILABLE); // not answered in time
    assert_non_null(strstr(err.message, "VLLM_RPC_TIMEOUT"));
    struct answer failed = read_answer(running);
    assert_int_equal(failed.finish, OCT_FINISH_ERROR);
    assert_string_equal(failed.error.message, "Engine iteration timed out");
    assert_int_equal(read_answer(waiting).finish, OCT_FINISH_ERROR);
    assert_false(oct_engine_is_healthy(engine));
    assert_int_equal(try_submit(engine, &running), OCT_UNAVAILABLE);
    atomic_store(&hang_ms, 0);
    sleep_ms(700); // the step comes back, late
    close_engine(engine);
}

static void closing_does_not_wait_for_ever_for_a_step_that_hangs(void **state) {
    (void)state;
    setenv("VLLM_ENGINE_ITERATION_TIMEOUT_S", "0.05", 1);
    oct_engine *engine = open_engine((oct_engine_options){0});
    unsetenv("VLLM_ENGINE_ITERATION_TIMEOUT_S");
    atomic_store(&hang_ms, 2000);
    assert_int_equal(read_answer(submit(engine, greedy(10))).finish, OCT_FINISH_ERROR);
    oct_error err;
    assert_int_equal(oct_engine_close(engine, &err), OCT_UNAVAILABLE);
    atomic_store(&hang_ms, 0);
    sleep_ms(1500); // before the process ends, the thread must be out of the model
    assert_int_equal(oct_engine_close(engine, &err), OCT_OK);
}

// --- random requests --------------------------------------------------------------------------------------------------------------

struct asked {
    int32_t prompt[100];
    int length;
    oct_sampling_params params;
    bool cancelled;
};

static int below(uint64_t *random, int end) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (int)((*random >> 33) % (uint64_t)end);
}

static struct asked random_request(uint64_t *random) {
    struct asked asked = {.length = 1 + below(random, 100), .cancelled = below(random, 6) == 0};
    int family = below(random, 2);
    for (int i = 0; i < asked.length; i++) asked.prompt[i] = 3 + (i < 70 ? i * 31 + family * 5 : below(random, 1000)) % (VOCAB - 3);
    asked.params = greedy(1 + below(random, 80));
    asked.params.has_seed = true;
    asked.params.seed = (uint64_t)below(random, 1000);
    asked.params.temperature = below(random, 2);
    asked.params.top_k = below(random, 2) * 20;
    asked.params.presence_penalty = below(random, 2);
    asked.params.priority = below(random, 3);
    return asked;
}

// The simulation of the scheduler, a small number of times over the real model: chunks, shared blocks, preemption and batches change no
// token.
static void random_requests_say_what_they_say_alone(void **state) {
    (void)state;
    enum { SCHEDULES = 12, REQUESTS = 16 };
    oct_engine *alone = open_engine((oct_engine_options){.max_num_seqs = 1, .no_prefix_caching = true});
    uint64_t preemptions = 0, hits = 0;
    for (uint64_t schedule = 1; schedule <= SCHEDULES; schedule++) {
        uint64_t random = schedule;
        struct asked asked[REQUESTS];
        oct_request *requests[REQUESTS];
        oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 2 + below(&random, 6),
                                                              .max_num_batched_tokens = 8 + below(&random, 60),
                                                              .num_gpu_blocks_override = 6 + below(&random, 4),
                                                              .kv_cache_dtype = schedule % 2 ? "auto" : "fp8_inc",
                                                              .scheduling_policy = schedule % 3 ? "fcfs" : "priority"});
        oct_engine *reference =
            schedule % 2 ? alone
                         : open_engine((oct_engine_options){.max_num_seqs = 1, .no_prefix_caching = true, .kv_cache_dtype = "fp8_inc"});
        for (int i = 0; i < REQUESTS; i++) {
            asked[i] = random_request(&random);
            assert_int_equal(
                oct_request_submit(engine, asked[i].prompt, (size_t)asked[i].length, &asked[i].params, NULL, NULL, &requests[i], NULL),
                OCT_OK);
            if (asked[i].cancelled) oct_request_cancel(requests[i]);
            if (below(&random, 8) == 0) sleep_ms(1);
        }
        for (int i = 0; i < REQUESTS; i++) {
            struct answer answer = read_answer(requests[i]);
            oct_request *request;
            assert_int_equal(
                oct_request_submit(reference, asked[i].prompt, (size_t)asked[i].length, &asked[i].params, NULL, NULL, &request, NULL),
                OCT_OK);
            struct answer expected = read_answer(request);
            assert_memory_equal(answer.tokens, expected.tokens, (size_t)answer.num_tokens * sizeof *answer.tokens);
            if (answer.finish != OCT_FINISH_ABORT) assert_int_equal(answer.num_tokens, expected.num_tokens);
        }
        oct_engine_stats stats;
        oct_engine_get_stats(engine, &stats);
        preemptions += stats.preemptions;
        hits += stats.prefix_cache_hits;
        close_engine(engine);
        if (reference != alone) close_engine(reference);
    }
    assert_true(preemptions > 0);
    assert_true(hits > 0);
    close_engine(alone);
}

// --- storms -----------------------------------------------------------------------------------------------------------------------

static void a_storm_of_cancels_leaves_nothing(void **state) {
    (void)state;
    enum { ROUNDS = 60, EACH = 50 };
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 16, .max_num_batched_tokens = 64});
    oct_request *requests[EACH];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH; i++) requests[i] = submit(engine, greedy(1 + (round + i) % 40));
        for (int i = 0; i < EACH; i++) {
            oct_delta delta;
            if ((i + round) % 3 == 0) oct_request_next(requests[i], 0.001, &delta);
            if ((i + round) % 2) oct_request_cancel(requests[i]);
            oct_request_free(requests[i]); // cancels what still runs
        }
    }
    oct_engine_stats stats;
    do {
        sleep_ms(1);
        oct_engine_get_stats(engine, &stats);
    } while (stats.running + stats.waiting > 0);
    close_engine(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_can_be_favoured_allowed_and_forbidden),
        cmocka_unit_test(positive_numbers_that_float32_cannot_hold_are_taken_as_its_nearest),
        cmocka_unit_test(eos_does_not_come_before_min_tokens_even_when_it_is_ignored),
        cmocka_unit_test(what_leaves_no_token_is_the_caller_s_error),
        cmocka_unit_test(prompt_logprobs_come_once_with_the_first_token),
        cmocka_unit_test(a_seed_gives_the_same_tokens_whatever_else_runs),
        cmocka_unit_test(times_of_tokens_ascend_from_submission),
        cmocka_unit_test(a_prompt_is_computed_once_until_the_cache_is_reset),
        cmocka_unit_test(a_full_queue_refuses_at_once),
        cmocka_unit_test(priorities_decide_who_waits),
        cmocka_unit_test(memory_is_sized_as_asked),
        cmocka_unit_test(warming_up_runs_every_size_and_leaves_no_trace),
        cmocka_unit_test(a_step_that_hangs_fails_its_requests_and_the_engine),
        cmocka_unit_test(closing_does_not_wait_for_ever_for_a_step_that_hangs),
        cmocka_unit_test(random_requests_say_what_they_say_alone),
        cmocka_unit_test(a_storm_of_cancels_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, fill_prompt, NULL);
}
