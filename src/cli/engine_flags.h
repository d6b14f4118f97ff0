// engine_flags.h: the flags that every subcommand with a model shares: vLLM's names, and QUANT_CONFIG.
#pragma once

#include "base/error.h"
#include "cli/flags.h"
#include "numeric/dtype.h"
#include "octavo.h"

struct oct_engine_flags {
    const char *dtype, *quantization, *kv_cache_dtype, *quant_config, *chat_template; // as in oct_engine_options
    int max_model_len, max_num_seqs, max_num_batched_tokens, block_size, threads, tensor_parallel_size;
    size_t kv_cache_bytes;
    double gpu_memory_utilization;
    bool enable_prefix_caching;
    bool warm_up; // set by the command, not by a flag
    const char *scheduling_policy;
    int num_gpu_blocks_override, long_prefill_token_threshold, max_num_queued_reqs, max_num_queued_tokens;
};

extern const struct oct_flag oct_model_flag_table[];  // how a model is loaded: for every subcommand that loads one
extern const struct oct_flag oct_engine_flag_table[]; // how requests share it: for those with an engine
// Flags of vLLM that mean nothing on a CPU or here: taken with a warning, so that existing command lines work.
extern const struct oct_flag oct_ignored_flag_table[];
struct oct_ignored_flags {
    const char *text;
    bool set;
};

// Refuses what no single row of the table can: values that do not go together, or that this build cannot do.
oct_status oct_engine_flags_check(const struct oct_engine_flags *flags, oct_error *err);

enum oct_dtype oct_engine_flags_compute(const struct oct_engine_flags *flags);
// The options that the flags stand for; they point into `flags`.
oct_engine_options oct_engine_flags_options(const struct oct_engine_flags *flags, const char *model);

// Opens the engine with a progress bar.
oct_status oct_engine_flags_open(const struct oct_engine_flags *flags, const char *model, oct_engine **out, oct_error *err);
// Closes it, and says where the measurement files of a measuring engine are. `status` is that of the work before; the first error counts.
oct_status oct_engine_flags_close(const struct oct_engine_flags *flags, oct_engine *engine, oct_status status, oct_error *err);
