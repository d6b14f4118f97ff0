// bench.c: `octavo bench`: how fast the forward pass is, as a fraction of what the machine could do in the same moment. Every round runs
// every test once, each right after a measurement of read bandwidth and of the multiplier: machines are shared, and only what was measured
// side by side can be compared.
#include "base/log.h"
#include "base/median.h"
#include "base/memory.h"
#include "cli/bench_load.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress_bar.h"
#include "cli/table.h"
#include "model/locate.h"
#include "model/random_model.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench_options {
    const char *model, *shape, *dtype, *kv_cache_dtype, *batch, *depth;
    int prompt, gen, rounds, threads;
    bool load, json;
};

#define FIELD(name) offsetof(struct bench_options, name)

static const struct oct_flag flags[] = {
    {.name = "shape",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(shape),
     .choices = "135m|1b|8b",
     .help = "instead of MODEL: random weights in the shape of SmolLM2 135M, Llama 3.2 1B or Llama 3.1 8B"},
    {.name = "dtype",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(dtype),
     .metavar = "fp8|bf16|fp8,bf16",
     .initial = "fp8",
     .help = "of weights and activations; both: side by side, in the same rounds"},
    {.name = "kv-cache-dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(kv_cache_dtype),
     .choices = "fp8_inc|auto",
     .initial = "fp8_inc",
     .help = "with dtype fp8: K, V and the attention products in FP8 too, or in bf16"},
    {.name = "prompt",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(prompt),
     .min = 0,
     .max = 1 << 20,
     .initial = "512",
     .help = "tokens of the prefill test; 0: no such test"},
    {.name = "gen",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(gen),
     .min = 0,
     .max = 1 << 20,
     .initial = "64",
     .help = "tokens that each sequence of a decode test makes; 0: no such tests"},
    {.name = "batch",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(batch),
     .metavar = "N,N,...",
     .initial = "1,4,8,16",
     .help = "sequences that decode together"},
    {.name = "depth",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(depth),
     .metavar = "N,N,...",
     .initial = "0,1024,4096",
     .help = "tokens that are in the KV blocks before decoding begins"},
    {.name = "rounds",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(rounds),
     .min = 1,
     .max = 1000,
     .initial = "5",
     .help = "rounds; medians are printed"},
    {.name = "threads",
     .short_name = "t",
     .type = OCT_FLAG_INT,
     .offset = FIELD(threads),
     .min = 0,
     .max = 256,
     .initial = "0",
     .help = "0: the cores this process may use"},
    {.name = "load",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(load),
     .help = "time loading the model instead, as a fraction of how fast memory is copied"},
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print JSON"},
    {0},
};

enum { MAX_LIST = 16, MAX_TESTS = 2 * (1 + MAX_LIST * MAX_LIST) };

struct list {
    int values[MAX_LIST], count;
};

struct test {
    int model; // index into bench.models
    bool prefill;
    int batch, tokens, depth;    // tokens: of the prompt, or made by each sequence
    double *seconds, *fractions; // (rounds) owned
    struct oct_bench_cost cost;
};

struct bench {
    const struct bench_options *options;
    struct oct_random_model random;
    char *path;                    // of MODEL. Owned
    struct oct_checkpoint *opened; // of MODEL
    const struct oct_checkpoint *checkpoint;
    struct oct_device *device;
    struct oct_device_probe *probe;
    struct list batches, depths;
    bool fp8[2]; // of each model
    struct oct_bench_model models[2];
    int num_models;
    struct test tests[MAX_TESTS];
    int num_tests;
    double *reads, *flops; // (num_limits) what the probes found. Owned
    int num_limits;
};

// --- what is asked ----------------------------------------------------------------------------------------------------------------

static oct_status parse_list(const char *flag, const char *text, int min, int max, struct list *out, oct_error *err) {
    out->count = 0;
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ",");
        char number[24];
        uint64_t value = 0;
        snprintf(number, sizeof number, "%.*s", (int)length, item);
        if (length >= sizeof number || !oct_human_number(number, (uint64_t)max, &value) || value < (uint64_t)min)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: whole numbers from %d to %d, with commas between, expected, \"%s\" found",
                            flag, min, max, text);
        if (out->count == MAX_LIST) return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: at most %d numbers expected", flag, MAX_LIST);
        out->values[out->count++] = (int)value;
        item += length;
        if (!*item) return OCT_OK;
    }
}

static int largest(const struct list *list) {
    int result = list->values[0];
    for (int i = 1; i < list->count; i++)
        if (list->values[i] > result) result = list->values[i];
    return result;
}

static oct_status parse_dtypes(struct bench *bench, oct_error *err) {
    const char *dtype = bench->options->dtype;
    if (!strcmp(dtype, "fp8,bf16") || !strcmp(dtype, "bf16,fp8"))
        bench->num_models = 2;
    else if (!strcmp(dtype, "fp8") || !strcmp(dtype, "bf16"))
        bench->num_models = 1;
    else
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--dtype: fp8, bf16 or fp8,bf16 expected, \"%s\" found", dtype);
    bench->fp8[0] = dtype[0] == 'f';
    bench->fp8[1] = !bench->fp8[0];
    return OCT_OK;
}

static oct_status parse(struct bench *bench, oct_error *err) {
    const struct bench_options *options = bench->options;
    if (!options->model == !options->shape)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "either MODEL or --shape expected, %s found", options->model ? "both" : "neither");
    OCT_TRY(parse_list("batch", options->batch, 1, 1024, &bench->batches, err));
    OCT_TRY(parse_list("depth", options->depth, 0, 1 << 20, &bench->depths, err));
    return parse_dtypes(bench, err);
}

static void add_test(struct bench *bench, struct test test) {
    OCT_CHECK(bench->num_tests < MAX_TESTS);
    test.seconds = oct_alloc((size_t)bench->options->rounds, sizeof(double), "timings");
    test.fractions = oct_alloc((size_t)bench->options->rounds, sizeof(double), "timings");
    bench->tests[bench->num_tests++] = test;
}

// Models take turns within a test, so that they are compared in the same minute.
static void list_tests(struct bench *bench) {
    const struct bench_options *options = bench->options;
    for (int model = 0; options->prompt && model < bench->num_models; model++)
        add_test(bench, (struct test){.model = model, .prefill = true, .batch = 1, .tokens = options->prompt});
    for (int d = 0; options->gen && d < bench->depths.count; d++)
        for (int b = 0; b < bench->batches.count; b++)
            for (int model = 0; model < bench->num_models; model++)
                add_test(bench,
                         (struct test){
                             .model = model, .batch = bench->batches.values[b], .tokens = options->gen, .depth = bench->depths.values[d]});
}

// --- running ----------------------------------------------------------------------------------------------------------------------

static oct_status open_checkpoint(struct bench *bench, oct_error *err) {
    const struct bench_options *options = bench->options;
    if (options->shape) {
        OCT_TRY(oct_random_model_open(options->shape, &bench->random, err));
        bench->checkpoint = bench->random.checkpoint;
        return OCT_OK;
    }
    OCT_TRY(oct_model_locate(options->model, &bench->path, err));
    OCT_TRY(oct_checkpoint_open(bench->path, &bench->opened, err));
    bench->checkpoint = bench->opened;
    return OCT_OK;
}

static oct_status open_models(struct bench *bench, oct_error *err) {
    const struct bench_options *options = bench->options;
    const struct oct_model_config *config = oct_checkpoint_config(bench->checkpoint);
    int longest = options->gen ? largest(&bench->depths) + options->gen : 1;
    if (options->prompt > longest) longest = options->prompt;
    if (longest > config->max_position_embeddings)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "--prompt, --depth and --gen: sequences of at most %d tokens expected, which is the model's limit, %d found",
                        config->max_position_embeddings, longest);
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    struct oct_progress progress = oct_progress_bar_receiver(&bar);
    oct_status status = OCT_OK;
    for (int i = 0; i < bench->num_models && status == OCT_OK; i++) {
        struct oct_plan *plan =
            bench->fp8[i] ? oct_bench_plan(config->num_hidden_layers, strcmp(options->kv_cache_dtype, "fp8_inc") == 0) : NULL;
        struct oct_bench_options open = {.checkpoint = bench->checkpoint,
                                         .device = bench->device,
                                         .plan = plan,
                                         .max_batch = largest(&bench->batches),
                                         .max_prompt = options->prompt,
                                         .max_tokens = longest,
                                         .progress = &progress};
        status = oct_bench_model_open(&open, &bench->models[i], err);
        oct_plan_free(plan);
    }
    oct_progress_bar_clear(&bar);
    return status;
}

static double run_test(struct bench *bench, struct test *test) {
    struct oct_bench_model *model = &bench->models[test->model];
    return test->prefill ? oct_bench_prefill(model, test->tokens, &test->cost)
                         : oct_bench_decode(model, test->batch, test->depth, test->tokens, &test->cost);
}

// Seconds that the machine would take if nothing but its slower resource counted.
static double least_seconds(const struct test *test, const struct oct_device_limits *limits) {
    double reading = test->cost.bytes / limits->read_bytes, multiplying = test->cost.flops / limits->bf16_flops;
    return reading > multiplying ? reading : multiplying;
}

static oct_status run_rounds(struct bench *bench, oct_error *err) {
    int rounds = bench->options->rounds;
    size_t total = (size_t)rounds * (size_t)bench->num_tests;
    bench->reads = oct_alloc(total, sizeof(double), "timings");
    bench->flops = oct_alloc(total, sizeof(double), "timings");
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_status status = OCT_OK;
    for (int i = 0; i < bench->num_tests; i++) { // the first pass touches what later ones find touched
        struct test warm_up = bench->tests[i];
        if (!warm_up.prefill) warm_up.tokens = 1;
        run_test(bench, &warm_up);
    }
    for (int round = 0; round < rounds && status == OCT_OK; round++)
        for (int i = 0; i < bench->num_tests && status == OCT_OK; i++) {
            struct test *test = &bench->tests[i];
            struct oct_device_limits limits = oct_device_probe_measure(bench->probe);
            bench->reads[bench->num_limits] = limits.read_bytes;
            bench->flops[bench->num_limits++] = limits.bf16_flops;
            test->seconds[round] = run_test(bench, test);
            test->fractions[round] = least_seconds(test, &limits) / test->seconds[round];
            if (oct_progress_bar_report(&bar, "tests", (size_t)bench->num_limits, total))
                status = oct_fail(err, OCT_CANCELLED, "interrupted");
        }
    oct_progress_bar_clear(&bar);
    return status;
}

// --- what came out ----------------------------------------------------------------------------------------------------------------

// The processor's name, as the system tells it.
static void processor_name(char *name, size_t size) {
    snprintf(name, size, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(name, size, "%s", colon + 2);
        break;
    }
    if (file) fclose(file);
}

struct result {
    const char *test, *dtype;
    double tok_s, gbps, gflops, fraction;
};

static struct result result_of(struct bench *bench, struct test *test) {
    double seconds = oct_median(test->seconds, (size_t)bench->options->rounds);
    return (struct result){.test = test->prefill ? "prefill" : "decode",
                           .dtype = bench->fp8[test->model] ? "fp8" : "bf16",
                           .tok_s = (double)test->batch * test->tokens / seconds,
                           .gbps = test->cost.bytes / seconds / 1e9,
                           .gflops = test->cost.flops / seconds / 1e9,
                           .fraction = oct_median(test->fractions, (size_t)bench->options->rounds)};
}

static const char *model_name(const struct bench *bench) {
    return bench->options->shape ? bench->options->shape : bench->options->model;
}

static void print_json(struct bench *bench, const struct oct_device_info *info, const char *processor) {
    json_t *rows = json_array();
    for (int i = 0; i < bench->num_tests; i++) {
        const struct test *test = &bench->tests[i];
        struct result result = result_of(bench, &bench->tests[i]);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:f}", "test", result.test, "dtype", result.dtype,
                                              "batch", test->batch, "tokens", test->tokens, "depth", test->depth, "tok_s", result.tok_s,
                                              "gbps", result.gbps, "gflops", result.gflops, "fraction", result.fraction));
    }
    json_t *report = json_pack("{s:{s:s, s:s, s:i, s:f, s:f}, s:s, s:i, s:o}", "machine", "cpu", processor, "isa", info->isa, "threads",
                               info->threads, "read_gbps", oct_median(bench->reads, (size_t)bench->num_limits) / 1e9, "bf16_gflops",
                               oct_median(bench->flops, (size_t)bench->num_limits) / 1e9, "model", model_name(bench), "rounds",
                               bench->options->rounds, "rows", rows);
    json_dumpf(report, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(report);
}

static void print_table(struct bench *bench, const struct oct_device_info *info, const char *processor) {
    printf("%s, %s, %d threads: reads %.1f GB/s, multiplies %.0f GFLOP/s (medians of %d measurements)\n", processor, info->isa,
           info->threads, oct_median(bench->reads, (size_t)bench->num_limits) / 1e9,
           oct_median(bench->flops, (size_t)bench->num_limits) / 1e9, bench->num_limits);
    struct oct_table table = {.num_columns = 8};
    oct_table_add(&table, (const char *[]){"test", "dtype", "batch", "depth", "tokens/s", "GB/s", "GFLOP/s", "of the limit"});
    for (int i = 0; i < bench->num_tests; i++) {
        const struct test *test = &bench->tests[i];
        struct result result = result_of(bench, &bench->tests[i]);
        char cells[7][32];
        snprintf(cells[0], sizeof cells[0], "%s %d", result.test, test->tokens);
        snprintf(cells[1], sizeof cells[1], "%d", test->batch);
        snprintf(cells[2], sizeof cells[2], "%d", test->depth);
        snprintf(cells[3], sizeof cells[3], "%.1f", result.tok_s);
        snprintf(cells[4], sizeof cells[4], "%.1f", result.gbps);
        snprintf(cells[5], sizeof cells[5], "%.0f", result.gflops);
        snprintf(cells[6], sizeof cells[6], "%.3f", result.fraction);
        oct_table_add(&table, (const char *[]){cells[0], result.dtype, cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]});
    }
    oct_table_print(&table, stdout);
    oct_table_free(&table);
}

static oct_status measure_loads(const struct bench *bench, oct_error *err) {
    struct oct_bench_load_options options = {.model = model_name(bench),
                                             .path = bench->path,
                                             .checkpoint = bench->checkpoint,
                                             .device = bench->device,
                                             .probe = bench->probe,
                                             .fp8 = bench->fp8,
                                             .num_dtypes = bench->num_models,
                                             .rounds = bench->options->rounds,
                                             .json = bench->options->json};
    return oct_bench_load(&options, err);
}

static oct_status measure(struct bench *bench, oct_error *err) {
    OCT_TRY(parse(bench, err));
    list_tests(bench);
    if (!bench->num_tests) return oct_fail(err, OCT_INVALID_ARGUMENT, "--prompt and --gen: one of them above 0 expected");
    OCT_TRY(open_checkpoint(bench, err));
    OCT_TRY(oct_device_open_cpu(bench->options->threads, &bench->device, err));
    OCT_TRY(oct_device_probe_open(bench->device, &bench->probe, err));
    if (bench->options->load) return measure_loads(bench, err);
    OCT_TRY(open_models(bench, err));
    OCT_TRY(run_rounds(bench, err));
    struct oct_device_info info;
    oct_device_get_info(bench->device, &info);
    char processor[128];
    processor_name(processor, sizeof processor);
    (bench->options->json ? print_json : print_table)(bench, &info, processor);
    return OCT_OK;
}

static oct_status run(const void *given, oct_error *err) {
    struct bench *bench = oct_alloc(1, sizeof *bench, "a benchmark");
    bench->options = given;
    oct_interrupt_catch();
    oct_status status = measure(bench, err);
    for (int i = 0; i < bench->num_tests; i++) {
        free(bench->tests[i].seconds);
        free(bench->tests[i].fractions);
    }
    for (int i = 0; i < 2; i++) oct_bench_model_close(&bench->models[i]);
    oct_device_probe_close(bench->probe);
    oct_device_close(bench->device);
    oct_checkpoint_close(bench->opened);
    oct_random_model_close(&bench->random);
    free(bench->path);
    free(bench->reads);
    free(bench->flops);
    free(bench);
    return status;
}

const struct oct_command oct_command_bench = {
    .name = "bench",
    .positional = "[MODEL]",
    .positional_offset = FIELD(model),
    .summary = "measure speed, as a fraction of what the machine can do",
    .details =
        "  octavo bench smollm2\n"
        "  octavo bench --shape 1b --dtype fp8,bf16 --batch 1 --depth 0\n\n"
        "The limit of a test is the time to read its weights, K and V at the bandwidth, or to multiply at the rate, that were measured\n"
        "just before it, whichever takes longer. FP8 runs with made-up scales: speed does not depend on them.\n",
    .options_size = sizeof(struct bench_options),
    .groups = {{"Benchmark", flags, 0}},
    .run = run,
};
