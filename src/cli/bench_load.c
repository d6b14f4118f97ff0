// bench_load.c: the same checkpoint, loaded again and again. What counts is the checkpoint's bytes a second, from opening its files to a
// model that could run.
#include "cli/bench_load.h"

#include "base/clock.h"
#include "base/median.h"
#include "base/memory.h"
#include "cli/bench_run.h"
#include "cli/progress_bar.h"
#include "cli/table.h"
#include "model/llama.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DTYPES = 2 };

struct loads {
    const struct oct_bench_load_options *options;
    double *seconds[MAX_DTYPES], *fractions[MAX_DTYPES]; // (rounds) owned
    double *copies;                                      // (num_copies) bytes a second. Owned
    size_t num_copies;
    double bytes; // of the checkpoint's tensors
};

static double tensor_bytes(const struct oct_checkpoint *checkpoint) {
    double bytes = 0;
    for (size_t i = 0; i < oct_checkpoint_num_tensors(checkpoint); i++) bytes += (double)oct_checkpoint_tensor(checkpoint, i)->size;
    return bytes;
}

// Giving everything back is no part of loading.
static oct_status load_once(struct loads *loads, bool fp8, double *seconds, oct_error *err) {
    struct oct_checkpoint *opened = NULL;
    double started = oct_seconds();
    if (loads->options->path) OCT_TRY(oct_checkpoint_open(loads->options->path, &opened, err));
    const struct oct_checkpoint *checkpoint = opened ? opened : loads->options->checkpoint;
    struct oct_plan *plan = fp8 ? oct_bench_plan(oct_checkpoint_config(checkpoint)->num_hidden_layers, true) : NULL;
    struct oct_llama_options options = {.compute = OCT_BF16, .plan = plan, .max_positions = 1, .max_rows = 1, .max_logit_rows = 1};
    struct oct_llama *llama = NULL;
    oct_status status = oct_llama_open(checkpoint, loads->options->device, &options, &llama, err);
    *seconds = oct_seconds() - started;
    loads->bytes = tensor_bytes(checkpoint);
    oct_llama_close(llama);
    oct_plan_free(plan);
    oct_checkpoint_close(opened);
    return status;
}

static oct_status run_rounds(struct loads *loads, oct_error *err) {
    const struct oct_bench_load_options *options = loads->options;
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_status status = OCT_OK;
    double unused;
    for (int i = 0; i < options->num_dtypes && status == OCT_OK; i++) status = load_once(loads, options->fp8[i], &unused, err);
    size_t total = (size_t)options->rounds * (size_t)options->num_dtypes;
    for (int round = 0; round < options->rounds; round++)
        for (int i = 0; i < options->num_dtypes && status == OCT_OK; i++) {
            double copied = loads->copies[loads->num_copies++] = oct_device_probe_copy(options->probe);
            status = load_once(loads, options->fp8[i], &loads->seconds[i][round], err);
            loads->fractions[i][round] = loads->bytes / loads->seconds[i][round] / copied;
            if (status == OCT_OK && oct_progress_bar_report(&bar, "loads", loads->num_copies, total))
                status = oct_fail(err, OCT_CANCELLED, "interrupted");
        }
    oct_progress_bar_clear(&bar);
    return status;
}

static const char *dtype_of(const struct loads *loads, int i) {
    return loads->options->fp8[i] ? "fp8" : "bf16";
}

static void print_json(struct loads *loads, const struct oct_device_info *info, double copied) {
    const struct oct_bench_load_options *options = loads->options;
    size_t rounds = (size_t)options->rounds;
    json_t *rows = json_array();
    for (int i = 0; i < options->num_dtypes; i++) {
        double seconds = oct_median(loads->seconds[i], rounds);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:f, s:f, s:f}", "test", "load", "dtype", dtype_of(loads, i), "seconds", seconds,
                                              "gbps", loads->bytes / seconds / 1e9, "fraction", oct_median(loads->fractions[i], rounds)));
    }
    json_t *report =
        json_pack("{s:{s:s, s:i, s:f}, s:s, s:f, s:i, s:o}", "machine", "isa", info->isa, "threads", info->threads, "copy_gbps",
                  copied / 1e9, "model", options->model, "checkpoint_gb", loads->bytes / 1e9, "rounds", options->rounds, "rows", rows);
    json_dumpf(report, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(report);
}

static void print_table(struct loads *loads, const struct oct_device_info *info, double copied) {
    size_t rounds = (size_t)loads->options->rounds;
    printf("%s, %d threads: copies %.1f GB/s; a checkpoint of %.2f GB\n", info->isa, info->threads, copied / 1e9, loads->bytes / 1e9);
    struct oct_table table = {.num_columns = 5};
    oct_table_add(&table, (const char *[]){"test", "dtype", "seconds", "GB/s", "of copying"});
    for (int i = 0; i < loads->options->num_dtypes; i++) {
        double seconds = oct_median(loads->seconds[i], rounds);
        char cells[3][32];
        snprintf(cells[0], sizeof cells[0], "%.2f", seconds);
        snprintf(cells[1], sizeof cells[1], "%.2f", loads->bytes / seconds / 1e9);
        snprintf(cells[2], sizeof cells[2], "%.3f", oct_median(loads->fractions[i], rounds));
        oct_table_add(&table, (const char *[]){"load", dtype_of(loads, i), cells[0], cells[1], cells[2]});
    }
    oct_table_print(&table, stdout);
    oct_table_free(&table);
}

oct_status oct_bench_load(const struct oct_bench_load_options *options, oct_error *err) {
    OCT_CHECK(options->num_dtypes <= MAX_DTYPES && options->rounds > 0);
    struct loads loads = {.options = options};
    size_t rounds = (size_t)options->rounds;
    for (int i = 0; i < options->num_dtypes; i++) {
        loads.seconds[i] = oct_alloc(rounds, sizeof(double), "timings");
        loads.fractions[i] = oct_alloc(rounds, sizeof(double), "timings");
    }
    loads.copies = oct_alloc(rounds * (size_t)options->num_dtypes, sizeof(double), "timings");
    oct_status status = run_rounds(&loads, err);
    struct oct_device_info info;
    oct_device_get_info(options->device, &info);
    if (status == OCT_OK) (options->json ? print_json : print_table)(&loads, &info, oct_median(loads.copies, loads.num_copies));
    for (int i = 0; i < options->num_dtypes; i++) {
        free(loads.seconds[i]);
        free(loads.fractions[i]);
    }
    free(loads.copies);
    return status;
}
