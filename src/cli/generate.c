// generate.c: `octavo generate`: continues a prompt; text to standard output, speed to standard error.
#include "base/buffer.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/interrupt.h"
#include "cli/prompt_input.h"
#include "cli/sampling_flags.h"
#include "cli/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct generate_options {
    const char *model, *prompt, *file;
    bool ignore_eos, stats;
    struct oct_sampling_flags sampling;
    struct oct_engine_flags engine;
    struct oct_ignored_flags ignored;
};

#define FIELD(name) offsetof(struct generate_options, name)

static const struct oct_flag flags[] = {
    {.name = "prompt", .short_name = "p", .type = OCT_FLAG_STRING, .offset = FIELD(prompt), .help = "the text to continue"},
    {.name = "file",
     .short_name = "f",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(file),
     .metavar = "FILE",
     .help = "read the prompt from this file; - is standard input"},
    {.name = "ignore-eos", .type = OCT_FLAG_BOOL, .offset = FIELD(ignore_eos), .help = "go on after an end-of-sequence token"},
    {.name = "stats", .type = OCT_FLAG_BOOL, .offset = FIELD(stats), .help = "say what the time was spent on"},
    {0},
};

static double rate(int tokens, double seconds) {
    return seconds > 0 ? tokens / seconds : 0;
}

static void print_speed(const struct oct_stream_result *result, oct_engine *engine, bool all) {
    // The first token comes out of the prefill, so that decoding made one token less.
    int decoded = result->completion_tokens > 1 ? result->completion_tokens - 1 : 0;
    fprintf(stderr, "%d tokens, %.1f tokens/s%s\n", result->completion_tokens, rate(decoded, result->decode_seconds),
            result->finish == OCT_FINISH_ABORT ? " (interrupted)" : "");
    if (!all) return;
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    fprintf(stderr, "model      %s\n", info.description);
    fprintf(stderr, "prefill    %d tokens (%d cached), %.3f s, %.1f tokens/s\n", result->prompt_tokens, result->cached_tokens,
            result->prefill_seconds, rate(result->prompt_tokens - result->cached_tokens, result->prefill_seconds));
    fprintf(stderr, "decode     %d tokens, %.3f s, %.1f tokens/s\n", decoded, result->decode_seconds,
            rate(decoded, result->decode_seconds));
    fprintf(stderr, "first text %.3f s\n", result->first_text_seconds);
    fprintf(stderr, "memory     weights %.1f MiB, KV blocks %.1f MiB, peak of the process %.1f MiB\n", (double)info.weight_bytes / 0x1p20,
            (double)info.kv_cache_bytes / 0x1p20, (double)oct_peak_resident_bytes() / 0x1p20);
}

static oct_status generate(oct_engine *engine, const struct generate_options *options, const struct oct_buffer *text, oct_error *err) {
    int32_t *ids;
    size_t count;
    OCT_TRY(oct_tokenize(engine, text->data ? text->data : "", text->length, true, &ids, &count, err));
    oct_sampling_params params = oct_sampling_flags_params(&options->sampling);
    params.ignore_eos = options->ignore_eos;
    struct oct_stream_result result;
    oct_status status = oct_stream(engine, ids, count, &params, NULL, &result, err);
    oct_free(ids);
    OCT_TRY(status);
    if (result.completion_tokens) putchar('\n');
    fflush(stdout);
    print_speed(&result, engine, options->stats);
    return result.finish == OCT_FINISH_ABORT ? oct_fail(err, OCT_CANCELLED, "interrupted") : OCT_OK;
}

static oct_status open_engine(const struct generate_options *options, oct_engine **engine, oct_error *err) {
    struct oct_engine_flags engine_flags = options->engine;
    if (engine_flags.max_num_seqs == 0) engine_flags.max_num_seqs = 1; // KV blocks for one sequence
    return oct_engine_flags_open(&engine_flags, options->model, engine, err);
}

static oct_status run(const void *given, oct_error *err) {
    const struct generate_options *options = given;
    struct oct_buffer text = {0};
    oct_engine *engine = NULL;
    oct_status status = oct_prompt_input_read("prompt", options->prompt, options->file, &text, err);
    if (status == OCT_OK) {
        oct_interrupt_catch();
        status = open_engine(options, &engine, err);
    }
    if (status == OCT_OK) {
        status = generate(engine, options, &text, err);
        status = oct_engine_flags_close(&options->engine, engine, status, err);
    }
    oct_buffer_free(&text);
    return status;
}

const struct oct_command oct_command_generate = {
    .name = "generate",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "continue a prompt and stream the text",
    .details = "  octavo generate smollm2 -p \"The capital of France is\" -n 32\n"
               "  octavo generate ./Llama-3.2-1B --file prompt.txt --temperature 0.8 --seed 1\n",
    .options_size = sizeof(struct generate_options),
    .groups = {{"Prompt and output", flags, 0},
               {"Sampling", oct_sampling_flag_table, FIELD(sampling)},
               {"Model", oct_model_flag_table, FIELD(engine)},
               {"Engine", oct_engine_flag_table, FIELD(engine)},
               {"Accepted without effect", oct_ignored_flag_table, FIELD(ignored)}},
    .run = run,
};
