// octavo.h from a caller's side, over a tiny GGUF model (random weights, 288 tokens, context of 256): deltas, stop strings, stop tokens,
// cancelling, threads, and what QUANT_CONFIG does. What the model itself computes is tested elsewhere.
#include "golden_data.h"
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_TOKENS = 256, EOS = 2 };

// What one request said, all deltas together.
struct answer {
    char text[4096];
    size_t length;
    int32_t tokens[MAX_TOKENS];
    float logprobs[MAX_TOKENS];
    size_t num_tokens, num_deltas;
    oct_finish finish;
    char stop_string[64];
    int32_t stop_token;
    int prompt_tokens, completion_tokens;
};

static const int32_t prompt[] = {198, 59, 148, 239, 286, 239, 163, 115, 236, 145};
enum { PROMPT_LENGTH = sizeof prompt / sizeof *prompt };

static oct_engine *open_engine(oct_engine_options options) {
    oct_engine *engine;
    oct_error err = {OCT_OK, ""};
    options.model = golden_path("model/models/tiny_gguf/model.gguf");
    if (!options.threads) options.threads = 1;
    if (!options.kv_cache_bytes) options.kv_cache_bytes = 1 << 20;
    if (oct_engine_open(&options, &engine, &err) != OCT_OK) fail_msg("%s", err.message);
    return engine;
}

static size_t block_bytes(void) { // of K and V in bf16
    oct_engine *engine = open_engine((oct_engine_options){0});
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    assert_int_equal(oct_engine_close(engine, NULL), OCT_OK);
    return info.kv_cache_bytes / (size_t)info.num_blocks;
}

static void close_engine(oct_engine *engine) {
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(oct_engine_close(engine, NULL), OCT_OK);
}

// The options must be refused, with a message that holds `named`.
static void assert_refused(oct_engine_options options, oct_status status, const char *named) {
    oct_engine *engine = NULL;
    oct_error err = {OCT_OK, ""};
    if (!options.model) options.model = golden_path("model/models/tiny_gguf/model.gguf");
    options.threads = 1;
    assert_int_equal(oct_engine_open(&options, &engine, &err), status);
    if (!strstr(err.message, named)) fail_msg("\"%s\" expected in: %s", named, err.message);
    assert_null(engine);
}

static oct_request *submit(oct_engine *engine, oct_sampling_params params) {
    oct_request *request;
    oct_error err = {OCT_OK, ""};
    if (oct_request_submit(engine, prompt, PROMPT_LENGTH, &params, NULL, NULL, &request, &err) != OCT_OK) fail_msg("%s", err.message);
    return request;
}

static struct answer read_answer(oct_request *request) {
    struct answer answer = {0};
    oct_delta delta;
    while (answer.finish == OCT_RUNNING) {
        assert_true(oct_request_next(request, -1, &delta));
        assert_true(answer.length + delta.text_length < sizeof answer.text);
        memcpy(answer.text + answer.length, delta.text, delta.text_length);
        answer.length += delta.text_length;
        for (size_t i = 0; i < delta.num_tokens; i++) {
            if (delta.logprobs) {
                assert_int_equal(delta.logprobs[i * delta.num_logprobs].id, delta.token_ids[i]);
                answer.logprobs[answer.num_tokens] = delta.logprobs[i * delta.num_logprobs].logprob;
            }
            answer.tokens[answer.num_tokens++] = delta.token_ids[i];
        }
        assert_int_equal(delta.completion_tokens, answer.num_tokens);
        answer.num_deltas++;
        answer.finish = delta.finish;
    }
    if (delta.stop_string) snprintf(answer.stop_string, sizeof answer.stop_string, "%s", delta.stop_string);
    answer.stop_token = delta.stop_token;
    answer.prompt_tokens = delta.prompt_tokens;
    answer.completion_tokens = delta.completion_tokens;
    assert_false(oct_request_next(request, 0, &delta)); // nothing follows the last delta
    return answer;
}

static struct answer ask(oct_engine *engine, oct_sampling_params params) {
    oct_request *request = submit(engine, params);
    struct answer answer = read_answer(request);
    oct_request_free(request);
    return answer;
}

static oct_sampling_params greedy(int max_tokens) {
    return (oct_sampling_params){.max_tokens = max_tokens, .ignore_eos = true};
}

static oct_sampling_params seeded(int max_tokens, uint64_t seed) {
    return (oct_sampling_params){
        .temperature = 1, .top_p = 0.95, .max_tokens = max_tokens, .ignore_eos = true, .has_seed = true, .seed = seed};
}

// --- answers ----------------------------------------------------------------------------------------------------------------------

static void the_text_is_that_of_all_tokens_together(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct answer answer = ask(engine, seeded(60, seed));
        char *text;
        size_t length;
        assert_int_equal(oct_detokenize(engine, answer.tokens, answer.num_tokens, true, &text, &length, NULL), OCT_OK);
        assert_int_equal(answer.length, length);
        assert_memory_equal(answer.text, text, length);
        oct_free(text);
        assert_int_equal(answer.finish, OCT_FINISH_LENGTH);
        assert_int_equal(answer.completion_tokens, 60);
        assert_int_equal(answer.prompt_tokens, PROMPT_LENGTH);
        assert_int_equal(answer.stop_token, -1);
    }
    close_engine(engine);
}

static void a_stop_string_ends_the_text_before_it(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    struct answer whole = ask(engine, seeded(60, 3));
    for (size_t begin = 0; begin + 8 < whole.length; begin++) {
        char stop[16] = {0};
        memcpy(stop, whole.text + begin, 8);
        if (((unsigned char)stop[0] & 0xc0) == 0x80 || strlen(stop) < 8) continue;
        const char *stops[] = {"never in the text", stop};
        oct_sampling_params params = seeded(60, 3);
        params.stop = stops;
        params.num_stop = 2;
        struct answer answer = ask(engine, params);
        size_t first = (size_t)((char *)memmem(whole.text, whole.length, stop, 8) - whole.text);
        assert_int_equal(answer.finish, OCT_FINISH_STOP);
        assert_string_equal(answer.stop_string, stop);
        assert_int_equal(answer.stop_token, -1);
        assert_int_equal(answer.length, first);
        assert_memory_equal(answer.text, whole.text, first);
        assert_true(answer.num_tokens <= whole.num_tokens);
    }
    close_engine(engine);
}

static void before_min_tokens_neither_stop_strings_nor_stop_tokens_count(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    uint64_t seed = 0; // of an answer that begins with an ASCII character, which will be the stop string
    while ((unsigned char)ask(engine, seeded(1, seed)).text[0] - 1u >= 0x7f) seed++;
    struct answer whole = ask(engine, seeded(40, seed));
    const char stop[2] = {whole.text[0]}, *stops[] = {stop};
    oct_sampling_params params = seeded(40, seed);
    params.stop = stops;
    params.num_stop = 1;
    assert_int_equal(ask(engine, params).length, 0);
    params.min_tokens = 40;
    struct answer answer = ask(engine, params);
    assert_int_equal(answer.finish, OCT_FINISH_LENGTH);
    assert_string_equal(answer.text, whole.text);
    params.min_tokens = 20; // what was said before stays, and is not looked at again
    answer = ask(engine, params);
    assert_true(answer.num_tokens > 20);
    assert_int_equal(answer.text[0], whole.text[0]);

    params = greedy(40);
    answer = ask(engine, params);
    params.stop_token_ids = &answer.tokens[5];
    params.num_stop_token_ids = 1;
    params.min_tokens = 20;
    assert_true(ask(engine, params).num_tokens > 20);
    close_engine(engine);
}

static void a_stop_token_counts_but_has_no_text(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    struct answer whole = ask(engine, greedy(40));
    oct_sampling_params params = greedy(40);
    params.stop_token_ids = &whole.tokens[7];
    params.num_stop_token_ids = 1;
    params.skip_special_tokens_off = true;
    struct answer answer = ask(engine, params);
    assert_int_equal(answer.finish, OCT_FINISH_STOP);
    assert_int_equal(answer.stop_token, whole.tokens[7]);
    assert_int_equal(answer.tokens[answer.num_tokens - 1], whole.tokens[7]);
    assert_true(answer.num_tokens <= 8);
    char *text;
    size_t length;
    assert_int_equal(oct_detokenize(engine, answer.tokens, answer.num_tokens - 1, false, &text, &length, NULL), OCT_OK);
    assert_string_equal(answer.text, text);
    oct_free(text);
    close_engine(engine);
}

static void eos_ends_an_answer_unless_it_is_ignored(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    int ended = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        oct_sampling_params params = seeded(100, seed);
        struct answer ignored = ask(engine, params);
        params.ignore_eos = false;
        struct answer answer = ask(engine, params);
        bool has_eos = false;
        for (size_t i = 0; i < ignored.num_tokens; i++) has_eos |= ignored.tokens[i] == EOS;
        assert_int_equal(answer.finish, has_eos ? OCT_FINISH_STOP : OCT_FINISH_LENGTH);
        if (has_eos) assert_int_equal(answer.stop_token, EOS);
        assert_memory_equal(answer.tokens, ignored.tokens, answer.num_tokens * sizeof *answer.tokens);
        ended += has_eos;
    }
    assert_true(ended > 0);
    close_engine(engine);
}

static void logprobs_come_with_every_token(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    oct_sampling_params params = greedy(20);
    params.logprobs = 4;
    oct_request *request = submit(engine, params);
    oct_delta delta = {0};
    while (delta.finish == OCT_RUNNING) {
        assert_true(oct_request_next(request, -1, &delta));
        assert_int_equal(delta.num_logprobs, 4);
        for (size_t i = 0; i < delta.num_tokens; i++) {
            const oct_token_logprob *row = delta.logprobs + 4 * i;
            assert_int_equal(row[0].id, delta.token_ids[i]);
            assert_int_equal(row[1].id, row[0].id); // greedy: the best one
            assert_true(row[1].logprob == row[0].logprob);
            assert_true(row[1].logprob >= row[2].logprob && row[2].logprob >= row[3].logprob);
            assert_true(exp(row[1].logprob) + exp(row[2].logprob) + exp(row[3].logprob) <= 1 + 1e-6);
        }
    }
    oct_request_free(request);
    close_engine(engine);
}

// --- many at once -----------------------------------------------------------------------------------------------------------------

enum { NUM_THREADS = 6, REQUESTS_EACH = 5 };

struct caller {
    pthread_t thread;
    oct_engine *engine;
    uint64_t seed;
    struct answer answers[REQUESTS_EACH];
};

static void *call(void *context) {
    struct caller *caller = context;
    for (int i = 0; i < REQUESTS_EACH; i++) caller->answers[i] = ask(caller->engine, seeded(20 + 7 * i, caller->seed + (uint64_t)i));
    return NULL;
}

static void requests_of_many_threads_answer_as_they_do_alone(void **state) {
    (void)state;
    static struct caller callers[NUM_THREADS];
    // Few blocks, few rows and a chunked prompt, so that sequences wait and are preempted.
    oct_engine *engine = open_engine(
        (oct_engine_options){.max_num_seqs = 4, .max_num_batched_tokens = 7, .max_model_len = 96, .kv_cache_bytes = 4 * block_bytes()});
    for (int i = 0; i < NUM_THREADS; i++) {
        callers[i].engine = engine;
        callers[i].seed = (uint64_t)i * 100;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < NUM_THREADS; i++) pthread_join(callers[i].thread, NULL);
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_int_equal(stats.generation_tokens, NUM_THREADS * (20 + 27 + 34 + 41 + 48));
    assert_int_equal(stats.prompt_tokens, NUM_THREADS * REQUESTS_EACH * PROMPT_LENGTH);
    close_engine(engine);

    engine = open_engine((oct_engine_options){0});
    for (int i = 0; i < NUM_THREADS; i++)
        for (int j = 0; j < REQUESTS_EACH; j++) {
            struct answer alone = ask(engine, seeded(20 + 7 * j, callers[i].seed + (uint64_t)j));
            assert_int_equal(alone.num_tokens, callers[i].answers[j].num_tokens);
            assert_memory_equal(alone.tokens, callers[i].answers[j].tokens, alone.num_tokens * sizeof *alone.tokens);
            assert_string_equal(alone.text, callers[i].answers[j].text);
        }
    close_engine(engine);
}

static void a_cancelled_request_ends_with_abort_and_leaves_no_blocks(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 1});
    oct_request *running = submit(engine, greedy(0)), *waiting = submit(engine, greedy(0));
    oct_delta delta;
    assert_true(oct_request_next(running, -1, &delta));
    oct_request_cancel(waiting);
    oct_request_cancel(running);
    oct_finish finish = delta.finish;
    while (finish == OCT_RUNNING) {
        assert_true(oct_request_next(running, -1, &delta));
        finish = delta.finish;
    }
    struct answer answer = read_answer(waiting);
    if (finish == OCT_FINISH_ABORT) { // so the other one's turn never came
        assert_int_equal(answer.finish, OCT_FINISH_ABORT);
        assert_int_equal(answer.num_tokens, 0);
    } else {
        assert_int_equal(finish, OCT_FINISH_LENGTH); // on a busy machine it may be done before this thread runs again
    }
    oct_request_cancel(waiting); // too late, and harmless
    oct_request_free(waiting);
    oct_request_free(running);
    struct answer next = ask(engine, greedy(3)); // the engine goes on
    assert_int_equal(next.num_tokens, 3);
    close_engine(engine);
}

static void a_request_may_be_freed_while_it_runs(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 1});
    for (int i = 0; i < 20; i++) oct_request_free(submit(engine, greedy(0)));
    ask(engine, greedy(1));
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    assert_true(stats.generation_tokens < 3 * 246); // of 20 * 246, had they gone on
    for (int i = 0; i < 5; i++) oct_request_free(submit(engine, greedy(0)));
    assert_int_equal(oct_engine_close(engine, NULL), OCT_OK); // some are still running
}

static void nothing_ready_is_told_in_time(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.max_num_seqs = 1});
    enum { NUM_AHEAD = 20 }; // so many that a busy machine does not come to the last one before this thread asks
    oct_request *ahead[NUM_AHEAD];
    for (int i = 0; i < NUM_AHEAD; i++) ahead[i] = submit(engine, greedy(0));
    oct_request *waiting = submit(engine, greedy(1));
    oct_delta delta;
    assert_false(oct_request_next(waiting, 0, &delta));
    for (int i = 0; i < NUM_AHEAD; i++) oct_request_free(ahead[i]);
    assert_true(oct_request_next(waiting, 10, &delta));
    oct_request_free(waiting);
    close_engine(engine);
}

static void count(void *context) {
    atomic_fetch_add((atomic_int *)context, 1);
}

static void every_delta_is_announced(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    atomic_int calls = 0;
    oct_request *request;
    oct_sampling_params params = greedy(12);
    assert_int_equal(oct_request_submit(engine, prompt, PROMPT_LENGTH, &params, count, &calls, &request, NULL), OCT_OK);
    assert_int_equal(read_answer(request).num_tokens, 12);
    oct_request_free(request);
    assert_int_equal(atomic_load(&calls), 12);
    close_engine(engine);
}

// --- what is refused --------------------------------------------------------------------------------------------------------------

static void requests_that_cannot_work_are_refused_by_name(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    const char *const empty[] = {""}, *const half[] = {"\x80"};
    const int32_t far[] = {288};
    struct {
        const char *named;
        oct_sampling_params params;
    } cases[] = {
        {"temperature", {.temperature = NAN}},
        {"top_p", {.top_p = 1.5}},
        {"top_k", {.top_k = -2}},
        {"min_p", {.min_p = 2}},
        {"repetition_penalty", {.repetition_penalty = -1}},
        {"logprobs", {.logprobs = 1000}},
        {"max_tokens", {.max_tokens = -1}},
        {"min_tokens", {.max_tokens = 1, .min_tokens = 2}},
        {"stop:", {.stop = empty, .num_stop = 1}},
        {"stop:", {.stop = half, .num_stop = 1}},
        {"stop_token_ids", {.stop_token_ids = far, .num_stop_token_ids = 1}},
    };
    oct_request *request;
    oct_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(oct_request_submit(engine, prompt, PROMPT_LENGTH, &cases[i].params, NULL, NULL, &request, &err),
                         OCT_INVALID_ARGUMENT);
        assert_int_equal(strncmp(err.message, cases[i].named, strlen(cases[i].named)), 0);
    }
    int32_t too_long[256] = {0};
    oct_sampling_params plain = {0};
    assert_int_equal(oct_request_submit(engine, too_long, 256, &plain, NULL, NULL, &request, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "max_model_len (256)"));
    assert_int_equal(oct_request_submit(engine, too_long, 0, &plain, NULL, NULL, &request, &err), OCT_INVALID_ARGUMENT);
    assert_int_equal(oct_request_submit(engine, far, 1, &plain, NULL, NULL, &request, &err), OCT_INVALID_ARGUMENT);
    close_engine(engine);
}

static void options_that_cannot_work_are_refused_by_name(void **state) {
    (void)state;
    assert_refused((oct_engine_options){.model = "/nowhere/model.gguf"}, OCT_NOT_FOUND, "/nowhere/model.gguf");
    assert_refused((oct_engine_options){.dtype = "float16"}, OCT_INVALID_ARGUMENT, "dtype");
    assert_refused((oct_engine_options){.kv_cache_dtype = "fp8_e5m2"}, OCT_INVALID_ARGUMENT, "kv_cache_dtype");
    assert_refused((oct_engine_options){.quantization = "fp8", .quant_config = "quant.json"}, OCT_INVALID_ARGUMENT, "quant_config");
    assert_refused((oct_engine_options){.quantization = "awq"}, OCT_INVALID_ARGUMENT, "quantization");
    assert_refused((oct_engine_options){.block_size = 48}, OCT_INVALID_ARGUMENT, "block_size");
    assert_refused((oct_engine_options){.max_num_seqs = -1}, OCT_INVALID_ARGUMENT, "max_num_seqs");
    assert_refused((oct_engine_options){.max_num_seqs = 8, .max_num_batched_tokens = 7}, OCT_INVALID_ARGUMENT,
                   "max_num_batched_tokens: at least max_num_seqs (8) expected, 7 found");
    assert_refused((oct_engine_options){.max_model_len = 257}, OCT_INVALID_ARGUMENT, "max_model_len");
    assert_refused((oct_engine_options){.max_model_len = 256, .kv_cache_bytes = 2 * block_bytes()}, OCT_OUT_OF_MEMORY, "kv_cache_bytes");
    assert_refused((oct_engine_options){.chat_template = "/nowhere/chat.jinja"}, OCT_NOT_FOUND, "/nowhere/chat.jinja");
    assert_refused((oct_engine_options){.chat_template = "{% for %}"}, OCT_INVALID_ARGUMENT, "chat template");
}

static void max_model_len_is_what_the_blocks_hold(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.kv_cache_bytes = 4 * block_bytes() - 1});
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    assert_int_equal(info.num_blocks, 3);
    assert_int_equal(info.max_model_len, 96);
    assert_int_equal(info.block_size, 32);
    assert_int_equal(info.vocab_size, 288);
    struct answer answer = ask(engine, greedy(0));
    assert_int_equal(answer.finish, OCT_FINISH_LENGTH);
    assert_int_equal(answer.num_tokens, 96 - PROMPT_LENGTH);
    close_engine(engine);
}

static int stop_at_once(void *context, const char *what, size_t done, size_t total) {
    (void)context;
    assert_non_null(what);
    assert_true(done <= total);
    return 1;
}

static void opening_can_be_stopped(void **state) {
    (void)state;
    assert_refused((oct_engine_options){.progress = stop_at_once}, OCT_CANCELLED, "cancelled");
}

// --- text -------------------------------------------------------------------------------------------------------------------------

static void chats_go_through_the_template_of_the_options(void **state) {
    (void)state;
    const char *messages = "[{\"role\": \"user\", \"content\": \"the <|im_end|> end\"}]";
    oct_engine *engine =
        open_engine((oct_engine_options){.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
                                                          "{% if add_generation_prompt %}!{% endif %}"});
    char *text;
    int32_t *ids;
    size_t count, length, num_ends = 0;
    oct_chat_options options = {.add_generation_prompt = true};
    assert_int_equal(oct_chat_prompt(engine, messages, &options, &text, &length, NULL), OCT_OK);
    assert_string_equal(text, "<|im_start|>the <|im_end|> end<|im_end|>!");
    oct_free(text);
    assert_int_equal(oct_chat_tokens(engine, messages, &options, &ids, &count, NULL), OCT_OK);
    assert_int_equal(ids[0], 1);
    for (size_t i = 0; i < count; i++) num_ends += ids[i] == EOS;
    assert_int_equal(num_ends, 1); // the template's own, not the message's
    oct_free(ids);
    oct_error err;
    assert_int_equal(oct_chat_prompt(engine, "{\"role\": \"user\"}", &options, &text, &length, &err), OCT_INVALID_ARGUMENT);
    assert_int_equal(oct_chat_prompt(engine, "[{]", &options, &text, &length, &err), OCT_CORRUPT);
    close_engine(engine);
}

static void a_model_without_a_template_completes_but_does_not_chat(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){0});
    char *text;
    oct_error err;
    size_t count, length;
    oct_chat_options options = {0};
    assert_int_equal(oct_chat_prompt(engine, "[]", &options, &text, &length, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "--chat-template"));
    int32_t *ids;
    assert_int_equal(oct_tokenize(engine, "the <|im_end|>", 14, false, &ids, &count, NULL), OCT_OK);
    assert_int_equal(ids[count - 1], EOS);
    assert_int_equal(oct_detokenize(engine, ids, count, false, &text, &length, NULL), OCT_OK);
    assert_string_equal(text, "the <|im_end|>");
    oct_free(text);
    oct_free(ids);
    close_engine(engine);
}

// --- a Hugging Face folder --------------------------------------------------------------------------------------------------------

static char folder[] = "/tmp/octavo-engine-XXXXXX";

static const char *in_folder(const char *name) {
    static char paths[4][128];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(in_folder(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void assert_prompt_with_tools(const char *tools, const char *expected) {
    oct_engine_options options = {.model = folder, .threads = 1, .kv_cache_bytes = 1 << 20};
    oct_engine *engine;
    oct_error err = {OCT_OK, ""};
    if (oct_engine_open(&options, &engine, &err) != OCT_OK) fail_msg("%s", err.message);
    char *text = NULL;
    size_t length;
    oct_chat_options chat = {.tools_json = tools};
    oct_status status = oct_chat_prompt(engine, "[{\"role\": \"user\"}]", &chat, &text, &length, &err);
    if (expected) {
        assert_int_equal(status, OCT_OK);
        assert_string_equal(text, expected);
    } else {
        assert_int_not_equal(status, OCT_OK);
        assert_non_null(strstr(err.message, "chat_template"));
    }
    oct_free(text);
    struct answer answer = ask(engine, greedy(4)); // completes in any case
    assert_int_equal(answer.num_tokens, 4);
    close_engine(engine);
}

static void assert_chat_prompt(const char *expected) {
    assert_prompt_with_tools(NULL, expected);
}

static void a_folder_gives_tokenizer_and_template(void **state) {
    (void)state;
    char source[4096];
    const char *const linked[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(source, sizeof source, "%s/%s", golden_path("model/models/tied_mqa"), linked[i]);
        assert_int_equal(symlink(source, in_folder(linked[i])), 0);
    }
    write_file("tokenizer.json", "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 2, \"content\": \"<|end|>\", \"special\": true,"
                                 " \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}],"
                                 " \"normalizer\": null, \"post_processor\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\","
                                 " \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true},"
                                 " \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\","
                                 " \"vocab\": {\"a\": 0, \"b\": 1, \"<|end|>\": 2}, \"merges\": []}}");
    assert_chat_prompt(NULL);
    write_file("tokenizer_config.json", "{\"chat_template\": \"one string {{ eos_token }}\", \"eos_token\": \"<|end|>\"}");
    assert_chat_prompt("one string <|end|>");
    write_file("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"for tools\"},"
                                        " {\"name\": \"default\", \"template\": \"of several\"}]}");
    assert_chat_prompt("of several");
    assert_prompt_with_tools("[]", "of several");
    assert_prompt_with_tools("[{\"type\": \"function\"}]", "for tools");
    write_file("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"with documents\"},"
                                        " {\"name\": \"tool_use\", \"template\": \"{% broken\"}]}");
    assert_chat_prompt(NULL);
    write_file("chat_template.jinja", "a file of its own");
    assert_chat_prompt("a file of its own");
    assert_prompt_with_tools("[{\"type\": \"function\"}]", "a file of its own");
    assert_int_equal(mkdir(in_folder("additional_chat_templates"), 0700), 0);
    write_file("additional_chat_templates/tool_use.jinja", "another file for {{ tools[0].type }}s");
    assert_prompt_with_tools("[{\"type\": \"function\"}]", "another file for functions");
    assert_chat_prompt("a file of its own");
    write_file("chat_template.jinja", "{% if chat_template %}"); // does not compile
    assert_chat_prompt(NULL);
}

// --- QUANT_CONFIG -----------------------------------------------------------------------------------------------------------------

static const char *quant_config(const char *name, const char *mode) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "{\"method\": \"HOOKS\", \"mode\": \"%s\", \"observer\": \"maxabs\", \"scale_method\": \"maxabs_hw\","
            " \"allowlist\": {\"types\": [], \"names\": []}, \"blocklist\": {\"types\": [], \"names\": []},"
            " \"dump_stats_path\": \"%s/inc_output\", \"calibration_sample_interval\": 4}",
            mode, folder);
    fclose(file);
    return path;
}

static void assert_description_holds(oct_engine *engine, const char *part) {
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    if (!strstr(info.description, part)) fail_msg("\"%s\" expected in: %s", part, info.description);
}

static void measuring_writes_what_quantizing_reads(void **state) {
    (void)state;
    const char *measure = quant_config("measure.json", "MEASURE"), *quantize = quant_config("quantize.json", "QUANTIZE");
    const char *measured = in_folder("inc_output_hooks_maxabs_0_1.npz"), *scales = in_folder("inc_output_hooks_maxabs_MAXABS_HW_0_1.npz");
    assert_refused((oct_engine_options){.quantization = "inc", .quant_config = quantize}, OCT_NOT_FOUND, "octavo calibrate");

    // With the flags of a serving command, as the original's documentation gives them: bf16 runs, KV blocks included.
    oct_engine *engine = open_engine((oct_engine_options){.quantization = "inc", .quant_config = measure, .kv_cache_dtype = "fp8_inc"});
    assert_description_holds(engine, "bfloat16, measuring (maxabs), ");
    struct answer plain = ask(engine, greedy(3));
    assert_int_not_equal(access(measured, F_OK), 0); // 3 passes of 4
    ask(engine, greedy(1));
    assert_int_equal(access(measured, F_OK), 0);
    assert_int_equal(remove(measured), 0);
    close_engine(engine);
    assert_int_equal(access(measured, F_OK), 0); // closing writes

    engine = open_engine((oct_engine_options){.quantization = "inc", .quant_config = quantize, .kv_cache_dtype = "fp8_inc"});
    assert_description_holds(engine, "inc fp8 (gaudi3 maxabs_hw), KV fp8_inc");
    assert_int_equal(access(scales, F_OK), 0);
    oct_sampling_params params = greedy(30);
    params.logprobs = 1;
    struct answer quantized = ask(engine, params);
    close_engine(engine);

    // The environment variable means the same, and the scale files alone are enough.
    assert_int_equal(remove(measured), 0);
    setenv("QUANT_CONFIG", quantize, 1);
    engine = open_engine((oct_engine_options){.kv_cache_dtype = "fp8_inc"});
    unsetenv("QUANT_CONFIG");
    struct answer again = ask(engine, params);
    assert_memory_equal(again.tokens, quantized.tokens, sizeof again.tokens);
    assert_memory_equal(again.logprobs, quantized.logprobs, sizeof again.logprobs);
    close_engine(engine);

    engine = open_engine((oct_engine_options){0});
    struct answer bf16 = ask(engine, params);
    assert_int_equal(bf16.tokens[0], plain.tokens[0]); // measuring changes nothing
    assert_memory_not_equal(bf16.logprobs, quantized.logprobs, sizeof bf16.logprobs);
    close_engine(engine);
}

static void auto_measures_first_and_quantizes_then(void **state) {
    (void)state;
    const char *config = quant_config("auto.json", "AUTO"), *measured = in_folder("inc_output_hooks_maxabs_0_1.npz");
    const char *dump = in_folder("rules.json");
    remove(measured);
    setenv("SCALE_METHOD_CONFIG_DUMP_PATH", dump, 1);
    oct_engine *engine = open_engine((oct_engine_options){.quant_config = config});
    assert_description_holds(engine, "measuring (maxabs)");
    ask(engine, greedy(2));
    close_engine(engine);
    assert_int_equal(access(measured, F_OK), 0);
    assert_int_not_equal(access(dump, F_OK), 0); // nothing was scaled yet
    engine = open_engine((oct_engine_options){.quant_config = config});
    assert_description_holds(engine, "inc fp8 (gaudi3 maxabs_hw)");
    close_engine(engine);
    unsetenv("SCALE_METHOD_CONFIG_DUMP_PATH");
    assert_int_equal(remove(dump), 0);
}

static void a_measurement_can_be_made_without_being_written(void **state) {
    (void)state;
    const char *measured = in_folder("inc_output_hooks_maxabs_0_1.npz");
    setenv("MEASUREMENT_DUMP_METHOD", "5", 1);
    oct_engine *engine = open_engine((oct_engine_options){.quant_config = quant_config("measure.json", "MEASURE")});
    ask(engine, greedy(6));
    close_engine(engine);
    unsetenv("MEASUREMENT_DUMP_METHOD");
    assert_int_not_equal(access(measured, F_OK), 0);
}

static void inc_without_a_configuration_says_what_to_run(void **state) {
    (void)state;
    assert_refused((oct_engine_options){.quantization = "inc"}, OCT_INVALID_ARGUMENT, "octavo calibrate");
    assert_refused((oct_engine_options){.quantization = "inc"}, OCT_INVALID_ARGUMENT, "QUANT_CONFIG");
    assert_refused((oct_engine_options){.quant_config = "/nowhere/quant.json"}, OCT_NOT_FOUND, "/nowhere/quant.json");
    assert_refused((oct_engine_options){.quant_config = quant_config("shape.json", "LOAD")}, OCT_UNSUPPORTED, "mode LOAD");
}

static void an_fp8_kv_cache_without_a_configuration_has_unit_scales(void **state) {
    (void)state;
    oct_engine *engine = open_engine((oct_engine_options){.kv_cache_dtype = "fp8_inc"}), *bf16 = open_engine((oct_engine_options){0});
    oct_engine_info fp8_info, bf16_info;
    assert_description_holds(engine, "KV fp8_inc (unit scale)");
    oct_engine_get_info(engine, &fp8_info);
    oct_engine_get_info(bf16, &bf16_info);
    assert_int_equal(fp8_info.num_blocks, 2 * bf16_info.num_blocks); // half the bytes each
    assert_int_equal(ask(engine, greedy(20)).num_tokens, 20);
    close_engine(engine);
    close_engine(bf16);
}

static void fp8_needs_no_files_and_halves_the_weights(void **state) {
    (void)state;
    setenv("QUANT_CONFIG", "/nowhere/quant.json", 1); // which inc alone looks at
    oct_engine *engine = open_engine((oct_engine_options){.quantization = "fp8", .kv_cache_dtype = "fp8"});
    unsetenv("QUANT_CONFIG");
    oct_engine *bf16 = open_engine((oct_engine_options){0});
    oct_engine_info fp8_info, bf16_info;
    assert_description_holds(engine, "fp8 weights, KV fp8 (unit scale)");
    oct_engine_get_info(engine, &fp8_info);
    oct_engine_get_info(bf16, &bf16_info);
    assert_true(fp8_info.weight_bytes < bf16_info.weight_bytes);
    assert_int_equal(fp8_info.num_blocks, 2 * bf16_info.num_blocks);
    assert_int_equal(ask(engine, greedy(20)).num_tokens, 20);
    close_engine(engine);
    close_engine(bf16);
}

static int make_folder(void **state) {
    (void)state;
    unsetenv("QUANT_CONFIG");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

// Copies the tiny model to `path` with another llama.context_length.
static void write_model_of_context(const char *path, uint32_t context) {
    static const char key[] = "llama.context_length";
    FILE *from = fopen(golden_path("model/models/tiny_gguf/model.gguf"), "rb"), *to = fopen(path, "wb");
    assert_true(from && to);
    char *bytes = malloc(4 << 20);
    size_t length = fread(bytes, 1, 4 << 20, from);
    assert_true(feof(from));
    char *at = memmem(bytes, length, key, sizeof key - 1);
    assert_non_null(at);
    memcpy(at + sizeof key - 1 + 4, &context, sizeof context); // behind the type
    assert_int_equal(fwrite(bytes, 1, length, to), length);
    free(bytes);
    fclose(from);
    assert_int_equal(fclose(to), 0);
}

static void a_model_that_names_a_huge_context_takes_no_memory_for_it(void **state) {
    (void)state;
    char place[] = "/tmp/octavo_engine_XXXXXX", path[64];
    assert_non_null(mkdtemp(place));
    snprintf(path, sizeof path, "%s/model.gguf", place);
    write_model_of_context(path, 1 << 28);
    oct_engine_options options = {.model = path, .threads = 1, .kv_cache_bytes = 4 * block_bytes()};
    oct_engine *engine;
    oct_engine_info info;
    oct_error err = {OCT_OK, ""};
    if (oct_engine_open(&options, &engine, &err) != OCT_OK) fail_msg("%s", err.message);
    oct_engine_get_info(engine, &info);
    assert_int_equal(info.max_model_len, 4 * 32);
    close_engine(engine);
    options.max_model_len = 1 << 28;
    assert_refused(options, OCT_OUT_OF_MEMORY, "max_model_len");
    unlink(path);
    rmdir(place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_that_of_all_tokens_together),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(before_min_tokens_neither_stop_strings_nor_stop_tokens_count),
        cmocka_unit_test(a_stop_token_counts_but_has_no_text),
        cmocka_unit_test(eos_ends_an_answer_unless_it_is_ignored),
        cmocka_unit_test(logprobs_come_with_every_token),
        cmocka_unit_test(requests_of_many_threads_answer_as_they_do_alone),
        cmocka_unit_test(a_cancelled_request_ends_with_abort_and_leaves_no_blocks),
        cmocka_unit_test(a_request_may_be_freed_while_it_runs),
        cmocka_unit_test(nothing_ready_is_told_in_time),
        cmocka_unit_test(every_delta_is_announced),
        cmocka_unit_test(requests_that_cannot_work_are_refused_by_name),
        cmocka_unit_test(options_that_cannot_work_are_refused_by_name),
        cmocka_unit_test(max_model_len_is_what_the_blocks_hold),
        cmocka_unit_test(a_model_that_names_a_huge_context_takes_no_memory_for_it),
        cmocka_unit_test(opening_can_be_stopped),
        cmocka_unit_test(chats_go_through_the_template_of_the_options),
        cmocka_unit_test(a_model_without_a_template_completes_but_does_not_chat),
        cmocka_unit_test(a_folder_gives_tokenizer_and_template),
        cmocka_unit_test(measuring_writes_what_quantizing_reads),
        cmocka_unit_test(auto_measures_first_and_quantizes_then),
        cmocka_unit_test(a_measurement_can_be_made_without_being_written),
        cmocka_unit_test(inc_without_a_configuration_says_what_to_run),
        cmocka_unit_test(an_fp8_kv_cache_without_a_configuration_has_unit_scales),
        cmocka_unit_test(fp8_needs_no_files_and_halves_the_weights),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
