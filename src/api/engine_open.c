// engine_open.c: from options to a running engine, in the order in which one thing needs the other: checkpoint, tokenizer, quantization,
// device, weights, KV blocks, scheduler, thread.
#include "api/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/locate.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_MAX_NUM_SEQS = 64, DEFAULT_MAX_NUM_BATCHED_TOKENS = 512, DEFAULT_BLOCK_SIZE = 32, BLOCK_SIZE_STEP = 32 };
enum { MOST_SEQS = 1 << 14, MOST_BATCHED_TOKENS = 1 << 20, MOST_BLOCK_SIZE = 1 << 12 };

// The numbers of the options, with the defaults filled in.
struct limits {
    enum oct_dtype compute;
    struct oct_scheduler_options scheduler; // without max_model_len, which the KV blocks decide
    int block_size;
    int max_positions;      // tokens that positions exist for
    size_t available_bytes; // of memory, before anything was loaded
};

static oct_status check_range(const char *name, int value, int least, int most, oct_error *err) {
    if (value >= least && value <= most) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: from %d to %d expected, %d found", name, least, most, value);
}

static int or_default(int value, int otherwise) {
    return value ? value : otherwise;
}

static oct_status read_dtype(const char *name, enum oct_dtype *out, oct_error *err) {
    *out = name && !strcmp(name, "float32") ? OCT_F32 : OCT_BF16;
    if (*out == OCT_F32 || !name || !strcmp(name, "auto") || !strcmp(name, "bfloat16")) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "dtype: \"auto\", \"bfloat16\" or \"float32\" expected, \"%s\" found", name);
}

static oct_status read_policy(const char *name, enum oct_scheduling_policy *out, oct_error *err) {
    *out = name && !strcmp(name, "priority") ? OCT_POLICY_PRIORITY : OCT_POLICY_FCFS;
    if (*out == OCT_POLICY_PRIORITY || !name || !strcmp(name, "fcfs")) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "scheduling_policy: \"fcfs\" or \"priority\" expected, \"%s\" found", name);
}

static oct_status read_limits(const oct_engine_options *options, const struct oct_model_config *config, struct limits *out,
                              oct_error *err) {
    OCT_TRY(read_dtype(options->dtype, &out->compute, err));
    int seqs = or_default(options->max_num_seqs, DEFAULT_MAX_NUM_SEQS);
    OCT_TRY(check_range("max_num_seqs", seqs, 1, MOST_SEQS, err));
    int rows = or_default(options->max_num_batched_tokens, seqs > DEFAULT_MAX_NUM_BATCHED_TOKENS ? seqs : DEFAULT_MAX_NUM_BATCHED_TOKENS);
    if (rows < seqs)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "max_num_batched_tokens: at least max_num_seqs (%d) expected, %d found", seqs, rows);
    OCT_TRY(check_range("max_num_batched_tokens", rows, 1, MOST_BATCHED_TOKENS, err));
    OCT_TRY(check_range("long_prefill_token_threshold", options->long_prefill_token_threshold, 0, INT_MAX, err));
    OCT_TRY(check_range("num_gpu_blocks_override", options->num_gpu_blocks_override, 0, INT_MAX, err));
    OCT_TRY(check_range("max_num_queued_reqs", options->max_num_queued_reqs, 0, INT_MAX, err));
    OCT_TRY(check_range("max_num_queued_tokens", options->max_num_queued_tokens, 0, INT_MAX, err));
    out->scheduler = (struct oct_scheduler_options){
        .max_num_seqs = seqs,
        .max_num_batched_tokens = rows,
        .long_prefill_token_threshold = options->long_prefill_token_threshold,
        .no_prefix_caching = options->no_prefix_caching,
    };
    OCT_TRY(read_policy(options->scheduling_policy, &out->scheduler.policy, err));
    if (!(options->gpu_memory_utilization >= 0 && options->gpu_memory_utilization <= 1))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "gpu_memory_utilization: a number above 0, at most 1, expected, %g found",
                        options->gpu_memory_utilization);
    out->available_bytes = oct_available_bytes();
    out->block_size = or_default(options->block_size, DEFAULT_BLOCK_SIZE);
    OCT_TRY(check_range("block_size", out->block_size, BLOCK_SIZE_STEP, MOST_BLOCK_SIZE, err));
    if (out->block_size % BLOCK_SIZE_STEP)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "block_size: a multiple of %d expected, %d found", BLOCK_SIZE_STEP, out->block_size);
    out->max_positions = or_default(options->max_model_len, config->max_position_embeddings);
    return check_range("max_model_len", out->max_positions, 2, config->max_position_embeddings, err);
}

// --- the parts --------------------------------------------------------------------------------------------------------------------

static oct_status open_llama(struct oct_engine *engine, const oct_engine_options *options, const struct oct_checkpoint *checkpoint,
                             const struct limits *limits, oct_error *err) {
    struct oct_progress progress = {options->progress, options->progress_context};
    struct oct_llama_options llama_options = {
        .compute = limits->compute,
        .plan = engine->quantization.plan,
        .max_positions = limits->max_positions,
        .max_rows = limits->scheduler.max_num_batched_tokens,
        .max_logit_rows = oct_scheduler_logit_rows(&limits->scheduler),
        .progress = &progress,
        .on_weight = engine->quantization.measuring ? oct_measurement_see_weight : NULL,
        .on_weight_context = engine->quantization.measurement,
    };
    return oct_llama_open(checkpoint, engine->device, &llama_options, &engine->llama, err);
}

// Memory that KV blocks may take beside `weight_bytes`.
static size_t kv_budget(const oct_engine_options *options, const struct limits *limits, size_t weight_bytes) {
    if (options->kv_cache_bytes) return options->kv_cache_bytes;
    if (options->gpu_memory_utilization <= 0) return oct_available_bytes() / 4;
    size_t share = (size_t)(options->gpu_memory_utilization * (double)limits->available_bytes);
    return share > weight_bytes ? share - weight_bytes : 0;
}

static oct_status fail_kv_budget(size_t needed_bytes, size_t tokens, size_t budget, oct_error *err) {
    return oct_fail(err, OCT_OUT_OF_MEMORY,
                    "KV blocks: %zu MiB expected for one sequence of %zu tokens, %zu MiB found (kv_cache_bytes, num_gpu_blocks_override, "
                    "gpu_memory_utilization, or a quarter of free memory): give more, or a smaller max_model_len",
                    (needed_bytes >> 20) + 1, tokens, budget >> 20);
}

// Every position takes memory before the first token: no more of them than the KV blocks could hold if all were E4M3. A model may name any
// number.
static oct_status limit_positions(const oct_engine_options *options, const struct oct_model_config *config, struct limits *limits,
                                  oct_error *err) {
    size_t token_bytes = 2 * (size_t)config->num_hidden_layers * (size_t)config->num_key_value_heads * (size_t)config->head_dim;
    size_t budget = kv_budget(options, limits, 0), reach = budget / token_bytes + (size_t)limits->block_size,
           positions = (size_t)limits->max_positions;
    if (options->num_gpu_blocks_override) reach = (size_t)options->num_gpu_blocks_override * (size_t)limits->block_size;
    if (reach >= positions) return OCT_OK;
    if (options->max_model_len) return fail_kv_budget(positions * token_bytes, positions, reach * token_bytes, err);
    limits->max_positions = (int)reach;
    return OCT_OK;
}

// As many blocks as the options say; when they say nothing, as many as the default budget holds, at most enough for max_num_seqs sequences.
static size_t num_blocks_of(const oct_engine_options *options, const struct limits *limits, size_t budget, size_t block_bytes,
                            size_t sequence_blocks) {
    if (options->num_gpu_blocks_override) return (size_t)options->num_gpu_blocks_override;
    size_t num_blocks = budget / block_bytes, enough = sequence_blocks * (size_t)limits->scheduler.max_num_seqs;
    bool told = options->kv_cache_bytes || options->gpu_memory_utilization > 0;
    return told || num_blocks < enough ? num_blocks : enough;
}

static void tell_of_kv_cache(const struct oct_engine *engine) {
    const struct oct_kv_shape *shape = &engine->cache->shape;
    double tokens = (double)shape->num_blocks * shape->block_size;
    oct_log(OCT_LOG_INFO, "KV cache size: %.0f tokens in %d blocks of %d, %.1f MiB reserved of %.1f MiB of free memory", tokens,
            shape->num_blocks, shape->block_size, (double)engine->cache->bytes / 0x1p20, (double)oct_available_bytes() / 0x1p20);
    oct_log(OCT_LOG_INFO, "Maximum concurrency for %d tokens per request: %.2fx", engine->max_model_len, tokens / engine->max_model_len);
}

static oct_status open_kv_cache(struct oct_engine *engine, const oct_engine_options *options, const struct limits *limits, oct_error *err) {
    size_t block_bytes = oct_kv_cache_block_bytes(engine->llama, limits->block_size), size = (size_t)limits->block_size;
    size_t sequence_blocks = ((size_t)limits->max_positions + size - 1) / size;
    size_t budget = kv_budget(options, limits, engine->llama->weight_bytes);
    size_t num_blocks = num_blocks_of(options, limits, budget, block_bytes, sequence_blocks);
    if (num_blocks > (size_t)INT_MAX / size) num_blocks = (size_t)INT_MAX / size;
    size_t needed = options->max_model_len ? sequence_blocks : 1;
    if (num_blocks < needed) return fail_kv_budget(needed * block_bytes, needed * size, num_blocks * block_bytes, err);
    engine->max_model_len = num_blocks < sequence_blocks ? (int)(num_blocks * size) : limits->max_positions;
    int allowed = options->max_model_len ? options->max_model_len : engine->llama->config.max_position_embeddings;
    if (engine->max_model_len < allowed)
        oct_log(OCT_LOG_WARNING, "max_model_len is %d, of %d that the model allows: the KV blocks hold no more", engine->max_model_len,
                allowed);
    OCT_TRY(oct_kv_cache_open(engine->llama, limits->block_size, (int)num_blocks, &engine->cache, err));
    tell_of_kv_cache(engine);
    return OCT_OK;
}

static oct_status open_scheduler(struct oct_engine *engine, const struct limits *limits, oct_error *err) {
    struct oct_scheduler_options options = limits->scheduler;
    options.max_model_len = engine->max_model_len;
    engine->scheduling = options;
    OCT_TRY(oct_scheduler_open(engine->llama, engine->cache, &options, &engine->scheduler, err));
    if (engine->quantization.measuring) oct_scheduler_set_observer(engine->scheduler, &engine->quantization.observer);
    return OCT_OK;
}

static void collect_eos_tokens(struct oct_engine *engine, const struct oct_model_config *config) {
    int32_t own = oct_tokenizer_eos_id(engine->text.tokenizer);
    for (int i = 0; i <= config->num_eos_tokens; i++) {
        int32_t id = i < config->num_eos_tokens ? config->eos_token_ids[i] : own;
        if (id >= 0 && id < config->vocab_size) engine->eos_tokens[engine->num_eos_tokens++] = id;
    }
}

// --- the description --------------------------------------------------------------------------------------------------------------

static double num_parameters(const struct oct_model_config *config) {
    double hidden = config->hidden_size, head_dim = config->head_dim;
    double attention = hidden * head_dim * 2 * (config->num_attention_heads + config->num_key_value_heads);
    double layer = attention + 3 * hidden * config->intermediate_size + 2 * hidden;
    return config->num_hidden_layers * layer + hidden * config->vocab_size * (config->tie_word_embeddings ? 1 : 2) + hidden;
}

static void describe_numbers(const struct oct_engine *engine, struct oct_buffer *out) {
    const struct oct_quantization *quantization = &engine->quantization;
    size_t before = out->length;
    oct_quantization_describe(quantization, out);
    if (out->length == before) oct_buffer_puts(out, engine->llama->compute == OCT_F32 ? "float32" : "bfloat16");
    if (quantization->measuring) oct_buffer_printf(out, ", measuring (%s)", quantization->config->observer);
    if (quantization->kv_dtype)
        oct_buffer_printf(out, ", KV %s%s", quantization->kv_dtype,
                          quantization->config || quantization->stored.method ? "" : " (unit scale)");
}

static char *describe(const struct oct_engine *engine) {
    const struct oct_model_config *config = &engine->llama->config;
    struct oct_device_info device;
    struct oct_buffer out = {0};
    double parameters = num_parameters(config);
    oct_device_get_info(engine->device, &device);
    if (parameters >= 1e9)
        oct_buffer_printf(&out, "%s %.1fB, ", config->model_type, parameters / 1e9);
    else
        oct_buffer_printf(&out, "%s %.0fM, ", config->model_type, parameters / 1e6);
    describe_numbers(engine, &out);
    oct_buffer_printf(&out, ", %s, %d thread%s", device.isa, device.threads, device.threads == 1 ? "" : "s");
    return oct_buffer_take(&out);
}

// Scale files only spare the next start their work: a folder that cannot be written, as a mounted one or another user's, still serves.
static void keep_scales(const struct oct_engine *engine) {
    oct_error err;
    if (oct_quantization_loaded(&engine->quantization, &err) != OCT_OK) oct_log(OCT_LOG_WARNING, "scales are not kept: %s", err.message);
}

// --- open and close ---------------------------------------------------------------------------------------------------------------

static oct_status open_parts(struct oct_engine *engine, const oct_engine_options *options, const char *path,
                             const struct oct_checkpoint *checkpoint, oct_error *err) {
    const struct oct_model_config *config = oct_checkpoint_config(checkpoint);
    struct limits limits = {0};
    OCT_TRY(read_limits(options, config, &limits, err));
    OCT_TRY(limit_positions(options, config, &limits, err));
    OCT_TRY(oct_text_source_open(checkpoint, path, options->chat_template, &engine->text, err));
    OCT_TRY(oct_quantization_open(options, checkpoint, &engine->quantization, err));
    OCT_TRY(oct_quantization_prepare(&engine->quantization, err));
    OCT_TRY(oct_device_open_cpu(options->threads, &engine->device, err));
    OCT_TRY(open_llama(engine, options, checkpoint, &limits, err));
    keep_scales(engine);
    OCT_TRY(open_kv_cache(engine, options, &limits, err));
    OCT_TRY(open_scheduler(engine, &limits, err));
    collect_eos_tokens(engine, config);
    engine->description = describe(engine);
    engine->limits.max_requests = options->max_num_queued_reqs;
    engine->limits.max_tokens = options->max_num_queued_tokens;
    struct oct_progress progress = {options->progress, options->progress_context};
    if (options->warm_up) OCT_TRY(oct_engine_warm_up(engine, &progress, err));
    oct_scheduler_get_stats(engine->scheduler, &engine->stats);
    OCT_TRY(oct_watch_start(engine, err));
    return oct_engine_thread_start(engine, err);
}

// A number above 0 from the environment.
static double number_from_environment(const char *name, double otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *end;
    double value = strtod(text, &end);
    const double most = 1e9; // seconds or milliseconds: what a deadline can hold
    if (!*end && value > 0 && value <= most) return value;
    oct_log(OCT_LOG_WARNING, "%s: a number above 0 expected, \"%s\" found; %g is used", name, text, otherwise);
    return otherwise;
}

// What threads wait with.
static void open_waiting(struct oct_engine *engine) {
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->wake, NULL);
    oct_condition_init(&engine->control.done);
    oct_condition_init(&engine->watch.changed);
    engine->control.timeout = number_from_environment("VLLM_RPC_TIMEOUT", 10000) / 1e3;
    engine->watch.timeout = number_from_environment("VLLM_ENGINE_ITERATION_TIMEOUT_S", 60);
}

oct_status oct_engine_open(const oct_engine_options *options, oct_engine **out, oct_error *err) {
    if (!options->model) return oct_fail(err, OCT_INVALID_ARGUMENT, "model: a directory, a .gguf file or a name expected, none found");
    char *path;
    struct oct_checkpoint *checkpoint;
    OCT_TRY(oct_model_locate(options->model, &path, err));
    oct_status status = oct_checkpoint_open(path, &checkpoint, err);
    if (status != OCT_OK) {
        free(path);
        return status;
    }
    struct oct_engine *engine = oct_alloc(1, sizeof *engine, "the engine");
    engine->model = oct_strdup(options->model);
    TAILQ_INIT(&engine->active);
    TAILQ_INIT(&engine->submitted);
    open_waiting(engine);
    status = open_parts(engine, options, path, checkpoint, err);
    oct_checkpoint_close(checkpoint); // everything of it has been copied
    free(path);
    if (status != OCT_OK) {
        oct_engine_close(engine, NULL);
        return status;
    }
    *out = engine;
    return OCT_OK;
}

oct_status oct_engine_close(oct_engine *engine, oct_error *err) {
    if (!engine) return OCT_OK;
    bool came_back = oct_engine_thread_stop(engine);
    oct_watch_stop(engine);
    if (!came_back) return oct_fail(err, OCT_UNAVAILABLE, "the engine hangs in a step, and could not be closed");
    oct_scheduler_close(engine->scheduler);
    oct_kv_cache_close(engine->cache);
    oct_llama_close(engine->llama);
    if (engine->device) oct_device_close(engine->device);
    oct_text_source_close(&engine->text);
    oct_status status = oct_quantization_close(&engine->quantization, err);
    pthread_mutex_destroy(&engine->mutex);
    pthread_cond_destroy(&engine->wake);
    pthread_cond_destroy(&engine->control.done);
    pthread_cond_destroy(&engine->watch.changed);
    free(engine->model);
    free(engine->description);
    free(engine);
    return status;
}

void oct_engine_get_info(const oct_engine *engine, oct_engine_info *info) {
    *info = (oct_engine_info){
        .model = engine->model,
        .description = engine->description,
        .max_model_len = engine->max_model_len,
        .vocab_size = engine->llama->config.vocab_size,
        .block_size = engine->cache->shape.block_size,
        .num_blocks = engine->cache->shape.num_blocks,
        .weight_bytes = engine->llama->weight_bytes,
        .kv_cache_bytes = engine->cache->bytes,
    };
}

void oct_engine_get_stats(oct_engine *engine, oct_engine_stats *stats) {
    pthread_mutex_lock(&engine->mutex);
    const struct oct_scheduler_stats *last = &engine->stats;
    *stats = (oct_engine_stats){
        .running = last->running,
        .waiting = last->waiting + engine->num_submitted,
        .blocks_used = last->blocks_used,
        .blocks_total = last->blocks_total,
        .prompt_tokens = last->prompt_tokens,
        .generation_tokens = last->generation_tokens,
        .steps = last->steps,
        .preemptions = last->preemptions,
        .prefix_cache_queries = last->prefix_queries,
        .prefix_cache_hits = last->prefix_hits,
        .rejected_requests = engine->limits.rejected_requests,
        .rejected_tokens = engine->limits.rejected_tokens,
    };
    pthread_mutex_unlock(&engine->mutex);
}
