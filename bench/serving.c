// serving.c: what the engine adds to the forward pass, through octavo.h, on one model: `serving MODEL [QUANTIZATION [KV_CACHE_DTYPE]]`.
//   throughput   16 requests against bare passes of 16 rows at the same positions, in turns: machines are shared, and only what was
//                measured side by side can be compared
//   first token  of a short request that comes while a prompt of 4,000 tokens is computed, in steps
//   prefix       how much of a shared prompt of 1,000 tokens the second request computes again
//   warm-up      the first request of an engine with and without it
//   memory       resident memory over many requests, a third of them cancelled
#include "api/engine.h"
#include "base/clock.h"
#include "base/memory.h"
#include "octavo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 16, PROMPT = 32, OUTPUT = 96, ROUNDS = 5, LONG_PROMPT = 4000, SHARED = 1000, MAX_LEN = 4200 };

static oct_engine_options options;

static oct_engine *open_engine(void) {
    oct_engine *engine;
    oct_error err;
    if (oct_engine_open(&options, &engine, &err) == OCT_OK) return engine;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static void fill_prompt(int32_t *prompt, int count, int seed) {
    for (int i = 0; i < count; i++) prompt[i] = 100 + (i * 7919 + seed * 104729) % 40000;
}

static oct_request *submit(oct_engine *engine, const int32_t *prompt, int count, int max_tokens) {
    oct_sampling_params params = {.max_tokens = max_tokens, .ignore_eos = true};
    oct_request *request;
    oct_error err;
    if (oct_request_submit(engine, prompt, (size_t)count, &params, NULL, NULL, &request, &err) == OCT_OK) return request;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static oct_delta finish(oct_request *request) {
    oct_delta delta = {0};
    while (delta.finish == OCT_RUNNING) oct_request_next(request, -1, &delta);
    oct_request_free(request);
    return delta;
}

static uint64_t steps_of(oct_engine *engine) {
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    return stats.steps;
}

static double median(double *values, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && values[j] < values[j - 1]; j--) {
            double other = values[j];
            values[j] = values[j - 1], values[j - 1] = other;
        }
    return values[count / 2];
}

static void report(const char *what, double value, const char *unit, const char *bar) {
    printf("%-58s %10.2f %-10s %s\n", what, value, unit, bar);
    fflush(stdout);
}

// --- throughput -------------------------------------------------------------------------------------------------------------------

// Tokens a second of passes of BATCH rows, one a sequence, from position PROMPT on. The engine is idle: its thread does not touch the
// model.
static double bare_decode(oct_engine *engine) {
    enum { BLOCKS = (PROMPT + OUTPUT + 31) / 32 };
    static int32_t tokens[BATCH], positions[BATCH], row_starts[BATCH + 1], tables[BATCH * BLOCKS], logit_rows[BATCH];
    float *logits = malloc((size_t)BATCH * (size_t)engine->llama->config.vocab_size * sizeof *logits);
    for (int i = 0; i < BATCH; i++) {
        tokens[i] = 100 + i;
        row_starts[i] = logit_rows[i] = i;
        for (int j = 0; j < BLOCKS; j++) tables[i * BLOCKS + j] = i * BLOCKS + j;
    }
    row_starts[BATCH] = BATCH;
    struct oct_batch batch = {BATCH, tokens, positions, BATCH, row_starts, tables, BLOCKS, logit_rows, BATCH};
    double begin = oct_seconds();
    for (int step = 0; step < OUTPUT; step++) {
        for (int i = 0; i < BATCH; i++) positions[i] = PROMPT + step;
        oct_llama_forward(engine->llama, engine->cache, &batch, logits, NULL);
    }
    double seconds = oct_seconds() - begin;
    free(logits);
    oct_engine_reset_prefix_cache(engine, NULL); // its blocks hold something else now
    return BATCH * OUTPUT / seconds;
}

// Tokens a second from the last first token to the end of all: those of before it are not counted.
static double served_decode(oct_engine *engine, int round) {
    oct_request *requests[BATCH];
    double came[BATCH][OUTPUT], first = 0, last = 0; // seconds
    for (int i = 0; i < BATCH; i++) {
        int32_t prompt[PROMPT];
        fill_prompt(prompt, PROMPT, round * BATCH + i);
        came[i][0] = oct_seconds();
        requests[i] = submit(engine, prompt, PROMPT, OUTPUT);
    }
    for (int i = 0; i < BATCH; i++) {
        double submitted = came[i][0];
        oct_delta delta = {0};
        for (int count = 0; delta.finish == OCT_RUNNING;) {
            oct_request_next(requests[i], -1, &delta);
            for (size_t j = 0; j < delta.num_tokens; j++) came[i][count++] = submitted + delta.token_seconds[j];
        }
        if (came[i][0] > first) first = came[i][0];
        if (came[i][OUTPUT - 1] > last) last = came[i][OUTPUT - 1];
        oct_request_free(requests[i]);
    }
    int counted = 0;
    for (int i = 0; i < BATCH * OUTPUT; i++) counted += came[i / OUTPUT][i % OUTPUT] > first;
    return counted / (last - first);
}

static void measure_throughput(oct_engine *engine) {
    double ratios[ROUNDS], bare[ROUNDS], served[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double before = bare_decode(engine);
        served[i] = served_decode(engine, i);
        bare[i] = (before + bare_decode(engine)) / 2;
        ratios[i] = served[i] / bare[i];
    }
    report("bare passes of 16 rows", median(bare, ROUNDS), "tokens/s", "");
    report("16 requests", median(served, ROUNDS), "tokens/s", "");
    report("16 requests / bare passes, median of rounds", median(ratios, ROUNDS), "", "at least 0.85");
}

// --- first token and prefix -------------------------------------------------------------------------------------------------------

static void measure_first_token(oct_engine *engine) {
    static int32_t prompt[LONG_PROMPT];
    fill_prompt(prompt, LONG_PROMPT, 1);
    uint64_t before = steps_of(engine);
    oct_request *longer = submit(engine, prompt, LONG_PROMPT, 1);
    while (steps_of(engine) < before + 1) { // it is in its second step
    }
    before = steps_of(engine);
    fill_prompt(prompt, PROMPT, 2);
    oct_request *shorter = submit(engine, prompt, PROMPT, 2);
    oct_delta delta;
    oct_request_next(shorter, -1, &delta);
    uint64_t after = steps_of(engine);
    bool computing = !oct_request_next(longer, 0, &delta);
    report("first token of a short request during a 4,000-token prefill", (double)(after - before - 1), "steps",
           computing ? "at most 2, after the one that runs when it comes" : "THE LONG ONE WAS DONE BEFORE");
    finish(shorter);
    finish(longer);
}

static void measure_prefix(oct_engine *engine) {
    static int32_t prompt[SHARED + PROMPT];
    int cached = 0;
    for (int i = 0; i < 2; i++) {
        fill_prompt(prompt, SHARED, 3);
        fill_prompt(prompt + SHARED, PROMPT, 10 + i);
        cached = finish(submit(engine, prompt, SHARED + PROMPT, 1)).cached_tokens;
    }
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    char bar[64];
    snprintf(bar, sizeof bar, "at most one block of %d", info.block_size);
    report("of a shared prompt of 1,000 tokens computed again", SHARED - cached, "tokens", bar);
}

// --- warm-up and memory -----------------------------------------------------------------------------------------------------------

static void measure_warm_up(void) {
    double first[2], second[2];
    for (int warm = 0; warm < 2; warm++) {
        options.warm_up = warm;
        oct_engine *engine = open_engine();
        int32_t prompt[256];
        for (int i = 0; i < 2; i++) {
            fill_prompt(prompt, 256, 20 + i);
            oct_delta delta = finish(submit(engine, prompt, 256, 2));
            *(i == 0 ? &first[warm] : &second[warm]) = delta.prefill_seconds * 1e3;
        }
        oct_engine_close(engine, NULL);
    }
    report("first request, 256 tokens, without warm-up / the next one", first[0] / second[0], "times", "");
    report("first request, 256 tokens, after warm-up / the next one", first[1] / second[1], "times", "near 1");
}

static size_t resident_bytes(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %lu", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * 4096;
}

static void measure_memory(oct_engine *engine, int num_requests) {
    enum { AT_ONCE = 64 };
    oct_request *requests[AT_ONCE] = {NULL};
    size_t early = 0;
    for (int i = 0; i < num_requests; i++) {
        int32_t prompt[8];
        oct_request **slot = &requests[i % AT_ONCE];
        if (*slot && i % 3) oct_request_cancel(*slot);
        if (*slot) finish(*slot);
        for (int j = 0; j < 8; j++) prompt[j] = 3 + (i + j * j) % 200;
        *slot = submit(engine, prompt, 8, 2 + i % 5);
        if (i == num_requests / 10) early = resident_bytes();
    }
    for (int i = 0; i < AT_ONCE; i++)
        if (requests[i]) finish(requests[i]);
    oct_engine_stats stats;
    oct_engine_get_stats(engine, &stats);
    char what[80];
    snprintf(what, sizeof what, "memory after %d requests beyond that after %d", num_requests, num_requests / 10);
    report(what, ((double)resident_bytes() - (double)early) / 0x1p20, "MiB", "flat");
    report("blocks still in use", stats.blocks_used, "blocks", "none");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: serving MODEL [QUANTIZATION [KV_CACHE_DTYPE]]    speed of the engine on a model\n"
                        "       serving --requests COUNT MODEL                   memory over COUNT requests (a tiny model will do)\n");
        return 2;
    }
    bool only_memory = argc > 3 && !strcmp(argv[1], "--requests");
    options = (oct_engine_options){
        .model = only_memory ? argv[3] : argv[1],
        .quantization = !only_memory && argc > 2 ? argv[2] : NULL,
        .kv_cache_dtype = !only_memory && argc > 3 ? argv[3] : NULL,
        .max_model_len = only_memory ? 0 : MAX_LEN,
        .max_num_seqs = only_memory ? 64 : BATCH,
        .kv_cache_bytes = only_memory ? 16 << 20 : (size_t)512 << 20,
    };
    if (!only_memory) measure_warm_up();
    oct_engine *engine = open_engine();
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    printf("# %s\n", info.description);
    if (only_memory) {
        measure_memory(engine, atoi(argv[2]));
    } else {
        measure_throughput(engine);
        measure_first_token(engine);
        measure_prefix(engine);
    }
    return oct_engine_close(engine, NULL) != OCT_OK;
}
