// engine_flags.c: the flags that every command with an engine shares, and opening and closing it as they say.
#include "cli/engine_flags.h"

#include "base/file.h"
#include "cli/progress_bar.h"
#include "quant/quant_config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name) offsetof(struct oct_engine_flags, name)

const struct oct_flag oct_model_flag_table[] = {
    {.name = "dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(dtype),
     .choices = "auto|bfloat16|float32",
     .initial = "auto",
     .help = "what enters matrix products that are not quantized; auto is bfloat16"},
    {.name = "quantization",
     .short_name = "q",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(quantization),
     .choices = "inc|fp8|compressed-tensors",
     .help = "inc: FP8 as QUANT_CONFIG says (a set QUANT_CONFIG alone does the same); fp8: weights to FP8 at load, no files needed; "
             "not needed for checkpoints that are FP8 already"},
    {.name = "kv-cache-dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(kv_cache_dtype),
     .choices = "auto|fp8|fp8_e4m3|fp8_inc",
     .initial = "auto",
     .help = "how K and V are stored; auto follows --dtype; fp8 (the same as fp8_e4m3) has scales of 1"},
    {.name = "quant-config",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(quant_config),
     .metavar = "FILE",
     .help = "INC's JSON configuration; the environment variable QUANT_CONFIG names it otherwise"},
    {.name = "threads",
     .short_name = "t",
     .type = OCT_FLAG_INT,
     .offset = FIELD(threads),
     .min = 0,
     .max = 256,
     .initial = "0",
     .help = "0: the cores this process may use"},
    {.name = "tensor-parallel-size",
     .short_name = "tp",
     .alias = "tensor-paralel-size",
     .type = OCT_FLAG_INT,
     .offset = FIELD(tensor_parallel_size),
     .min = 1,
     .max = 1024,
     .initial = "1",
     .help = "ranks that share the model; 1 in this version"},
    {0},
};

const struct oct_flag oct_engine_flag_table[] = {
    {.name = "max-model-len",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_model_len),
     .min = -1,
     .max = INT_MAX,
     .initial = "auto",
     .help = "longest sequence, prompt and answer together, in tokens; auto or -1: the model's limit, as far as memory reaches"},
    {.name = "max-num-seqs",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_num_seqs),
     .min = 0,
     .max = 65536,
     .initial = "auto",
     .help = "sequences in one step; auto: 64 for a server, 1 elsewhere"},
    {.name = "max-num-batched-tokens",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_num_batched_tokens),
     .min = 1,
     .max = 1 << 20,
     .initial = "512",
     .help = "rows in one step, of prompts and answers together"},
    {.name = "block-size",
     .type = OCT_FLAG_INT,
     .offset = FIELD(block_size),
     .min = 32,
     .max = 4096,
     .initial = "32",
     .help = "tokens in a KV block, a multiple of 32"},
    {.name = "kv-cache-memory-bytes",
     .type = OCT_FLAG_BYTES,
     .offset = FIELD(kv_cache_bytes),
     .help = "memory for KV blocks (default: enough for max-num-seqs sequences, at most a quarter of free memory)"},
    {.name = "gpu-memory-utilization",
     .alias = "device-memory-utilization",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(gpu_memory_utilization),
     .min = 0,
     .max = 1,
     .metavar = "SHARE",
     .help = "share of the free memory for weights and KV blocks together; for KV blocks alone, kv-cache-memory-bytes goes before"},
    {.name = "num-gpu-blocks-override",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(num_gpu_blocks_override),
     .min = 0,
     .max = INT_MAX,
     .help = "so many KV blocks, whatever memory they take"},
    {.name = "enable-prefix-caching",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(enable_prefix_caching),
     .initial = "true",
     .help = "keep KV blocks, for prompts that begin alike"},
    {.name = "long-prefill-token-threshold",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(long_prefill_token_threshold),
     .min = 0,
     .max = INT_MAX,
     .help = "a prompt gets at most so many rows of a step; 0: no such limit"},
    {.name = "scheduling-policy",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(scheduling_policy),
     .choices = "fcfs|priority",
     .initial = "fcfs",
     .help = "fcfs: first come, first served; priority: by the requests' priority, lower values first"},
    {.name = "max-num-queued-reqs",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_num_queued_reqs),
     .min = 0,
     .max = INT_MAX,
     .help = "refuse requests while so many have not ended, waiting and running together; 0: no limit"},
    {.name = "max-num-queued-tokens",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_num_queued_tokens),
     .min = 0,
     .max = INT_MAX,
     .help = "refuse requests while the prompts that have no first token yet have so many tokens; 0: no limit"},
    {.name = "chat-template",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(chat_template),
     .metavar = "FILE",
     .help = "a file with a Jinja template, or Jinja itself, instead of the model's own template"},
    {0},
};

#define IGNORED_TEXT(flag)                                                                                                                 \
    { .name = flag, .type = OCT_FLAG_STRING, .offset = offsetof(struct oct_ignored_flags, text), .help = "", .ignored = true }
#define IGNORED_BOOL(flag)                                                                                                                 \
    { .name = flag, .type = OCT_FLAG_BOOL, .offset = offsetof(struct oct_ignored_flags, set), .help = "", .ignored = true }

const struct oct_flag oct_ignored_flag_table[] = {
    IGNORED_BOOL("enforce-eager"),
    IGNORED_BOOL("trust-remote-code"),
    IGNORED_BOOL("enable-chunked-prefill"),
    IGNORED_BOOL("async-scheduling"),
    IGNORED_BOOL("use-v2-block-manager"),
    IGNORED_BOOL("use-padding-aware-scheduling"),
    IGNORED_BOOL("disable-log-requests"),
    IGNORED_BOOL("disable-log-stats"),
    IGNORED_BOOL("disable-fastapi-docs"),
    IGNORED_BOOL("disable-frontend-multiprocessing"),
    IGNORED_TEXT("weights-load-device"),
    IGNORED_TEXT("swap-space"),
    IGNORED_TEXT("distributed-executor-backend"),
    IGNORED_TEXT("num-scheduler-steps"),
    IGNORED_TEXT("max-num-prefill-seqs"),
    IGNORED_TEXT("load-format"),
    IGNORED_TEXT("download-dir"),
    IGNORED_TEXT("tokenizer-mode"),
    IGNORED_TEXT("device"),
    IGNORED_TEXT("generation-config"),
    IGNORED_TEXT("uvicorn-log-level"),
    {0},
};

oct_status oct_engine_flags_check(const struct oct_engine_flags *flags, oct_error *err) {
    if (flags->tensor_parallel_size != 1)
        return oct_fail(err, OCT_UNSUPPORTED, "--tensor-parallel-size: 1 expected, %d found: this version runs a model in one process",
                        flags->tensor_parallel_size);
    if (flags->block_size % 32)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--block-size: a multiple of 32 expected, %d found", flags->block_size);
    return OCT_OK;
}

enum oct_dtype oct_engine_flags_compute(const struct oct_engine_flags *flags) {
    return strcmp(flags->dtype, "float32") == 0 ? OCT_F32 : OCT_BF16;
}

oct_engine_options oct_engine_flags_options(const struct oct_engine_flags *flags, const char *model) {
    return (oct_engine_options){
        .model = model,
        .dtype = flags->dtype,
        .quantization = flags->quantization,
        .kv_cache_dtype = flags->kv_cache_dtype,
        .quant_config = flags->quant_config,
        .chat_template = flags->chat_template,
        .max_model_len = flags->max_model_len > 0 ? flags->max_model_len : 0,
        .max_num_seqs = flags->max_num_seqs,
        .max_num_batched_tokens = flags->max_num_batched_tokens,
        .block_size = flags->block_size,
        .num_gpu_blocks_override = flags->num_gpu_blocks_override,
        .kv_cache_bytes = flags->kv_cache_bytes,
        .gpu_memory_utilization = flags->gpu_memory_utilization,
        .no_prefix_caching = !flags->enable_prefix_caching,
        .scheduling_policy = flags->scheduling_policy,
        .long_prefill_token_threshold = flags->long_prefill_token_threshold,
        .max_num_queued_reqs = flags->max_num_queued_reqs,
        .max_num_queued_tokens = flags->max_num_queued_tokens,
        .warm_up = flags->warm_up,
        .threads = flags->threads,
    };
}

oct_status oct_engine_flags_open(const struct oct_engine_flags *flags, const char *model, oct_engine **out, oct_error *err) {
    OCT_TRY(oct_engine_flags_check(flags, err));
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_engine_options options = oct_engine_flags_options(flags, model);
    options.progress = oct_progress_bar_report;
    options.progress_context = &bar;
    oct_status status = oct_engine_open(&options, out, err);
    oct_progress_bar_clear(&bar);
    return status;
}

static void say_where_measurements_are(const struct oct_engine_flags *flags) {
    const char *path = flags->quant_config ? flags->quant_config : getenv("QUANT_CONFIG");
    struct oct_quant_config *config;
    if (!path || !*path || oct_quant_config_load(path, &config, NULL) != OCT_OK) return;
    if (config->mode == OCT_QUANT_MEASURE) {
        char *file = oct_quant_config_file(config, "", 0, 1, ".npz");
        if (oct_path_exists(file))
            fprintf(stderr, "Measurements: %s\n", file);
        else
            fputs("Measurements: none, because nothing was computed\n", stderr);
        free(file);
    }
    oct_quant_config_free(config);
}

oct_status oct_engine_flags_close(const struct oct_engine_flags *flags, oct_engine *engine, oct_status status, oct_error *err) {
    oct_error closing;
    oct_status closed = oct_engine_close(engine, &closing);
    if (closed == OCT_OK) say_where_measurements_are(flags);
    if (status != OCT_OK || closed == OCT_OK) return status; // the first error is the one to report
    if (err) *err = closing;
    return closed;
}
