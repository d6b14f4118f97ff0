// octavo.h: the public C API of Octavo. Two nouns:
//   oct_engine   a loaded model with its KV blocks and scheduler. Shared, long-lived, thread-safe.
//   oct_request  what one caller asked: a prompt and sampling parameters. Text deltas come out of it until it is finished.
// Every function that can fail returns oct_status and, where err is not NULL, fills *err. Strings are UTF-8.
// Zero-initialise every option struct: zero means "the default" in each field unless its comment says otherwise.
#pragma once

#include "octavo_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OCTAVO_VERSION "0.1.0"
#define OCTAVO_API     __attribute__((visibility("default")))

typedef struct oct_engine oct_engine;
typedef struct oct_request oct_request;

typedef struct oct_engine_options {
    const char *model;          // a HF directory, a .gguf file, or "smollm2" for the default model
    const char *dtype;          // "auto" (default: bfloat16), "bfloat16" or "float32": what enters matrix products
    const char *quantization;   // NULL, "inc" (as QUANT_CONFIG says), "fp8" (weights to FP8 at load) or an FP8 checkpoint's own
    const char *kv_cache_dtype; // "auto" (default), "fp8", "fp8_e4m3" or "fp8_inc"
    const char *quant_config;   // path of INC's JSON configuration; NULL: the environment variable QUANT_CONFIG, if set
    const char *chat_template;  // the path of a file that holds Jinja, or Jinja; NULL: the model's own
    int max_model_len;          // longest sequence in tokens; 0: the model's max_position_embeddings, as far as the KV blocks reach
    int max_num_seqs;           // sequences in one step; 0: 64
    int max_num_batched_tokens; // rows in one step; 0: 512
    int block_size;             // tokens of a KV block, a multiple of 32; 0: 32
    // How much memory KV blocks get: num_gpu_blocks_override blocks, else kv_cache_bytes, else what gpu_memory_utilization of the free
    // memory leaves after the weights; with all three 0 enough for max_num_seqs sequences, at most a quarter of free memory.
    int num_gpu_blocks_override;
    size_t kv_cache_bytes;
    double gpu_memory_utilization;    // (0, 1] of the memory that this process could take when the engine opens
    bool no_prefix_caching;           // true: sequences do not share the blocks of a common beginning
    const char *scheduling_policy;    // "fcfs" (default) or "priority": by oct_sampling_params.priority, then by arrival
    int long_prefill_token_threshold; // a prompt gets at most so many rows of a step; 0: no such limit
    int max_num_queued_reqs;          // requests that have not ended, above which submitting fails with OCT_UNAVAILABLE; 0: no limit
    int max_num_queued_tokens;        // prompt tokens of those without a first token, above which the same; 0: no limit
    bool warm_up; // touch all memory and run steps of every size before opening is done, unless VLLM_SKIP_WARMUP is "true"
    int threads;  // 0: the cores this process may use
    // Called now and then while the engine opens; `done` of `total` steps of `what`. Nonzero return: stop opening. May be NULL.
    int (*progress)(void *context, const char *what, size_t done, size_t total);
    void *progress_context;
} oct_engine_options;

OCTAVO_API oct_status oct_engine_open(const oct_engine_options *options, oct_engine **out, oct_error *err);
// Cancels what still runs, writes the measurement files of a measuring engine, and frees everything. Every request must have been
// freed. Fails when those files cannot be written; the engine is gone all the same. Fails with OCT_UNAVAILABLE, and leaves the engine as it
// is, when a step hangs: then it may be tried again, or the process may end. engine may be NULL.
OCTAVO_API oct_status oct_engine_close(oct_engine *engine, oct_error *err);

typedef struct oct_engine_info {
    const char *model;       // as given; lifetime of the engine, like the strings below
    const char *description; // e.g. "llama 135M, inc fp8 (gaudi3 maxabs_hw), KV fp8_inc, avx512_bf16, 2 threads"
    int max_model_len, vocab_size, block_size, num_blocks;
    size_t weight_bytes, kv_cache_bytes; // on the device
} oct_engine_info;
OCTAVO_API void oct_engine_get_info(const oct_engine *engine, oct_engine_info *info);

// Token ids of `text`; special tokens in the text are recognised. add_special_tokens: put BOS/EOS where the tokenizer does.
// *ids is freed with oct_free.
OCTAVO_API oct_status oct_tokenize(oct_engine *engine, const char *text, size_t length, bool add_special_tokens, int32_t **ids,
                                   size_t *count, oct_error *err);
OCTAVO_API oct_status oct_detokenize(oct_engine *engine, const int32_t *ids, size_t count, bool skip_special_tokens, char **text,
                                     size_t *length, oct_error *err);

// How a chat becomes a prompt. The JSON texts and what they hold come from whoever asks; so do the strings in messages.
typedef struct oct_chat_options {
    bool add_generation_prompt;       // end with what opens the assistant's turn
    bool continue_final_message;      // end inside the last message, for the model to go on with it; not with add_generation_prompt
    const char *tools_json;           // array of {"type": "function", "function": ...} that the template may show; NULL: none
    const char *documents_json;       // array of objects; NULL: none
    const char *template_kwargs_json; // object of further template variables, such as {"enable_thinking": false}; NULL: none
    const char *chat_template;        // Jinja text instead of the engine's template; NULL: the engine's
    const char *content_format;       // what a message's content is to the template: "string", "openai" (a list of parts), or NULL or
                                      // "auto": whichever the template is made for
    bool add_special_tokens;          // tokens: put BOS/EOS around the prompt, too; templates have their own
    // Special-token text inside messages, tools, documents and variables means special tokens, as with the reference libraries: whoever
    // writes a message can then forge turns. false: it is ordinary text.
    bool allow_special_tokens_in_messages;
} oct_chat_options;

// Renders a chat to the prompt text. `messages_json` is a JSON array of OpenAI messages: {"role", "content"}, and what templates know
// besides ("tool_calls", "tool_call_id", "name", "reasoning"). Roles are system, developer, user, assistant, tool, or others that the
// template knows. content is a string or a list of {"type": "text", "text"}. *text is freed with oct_free; it may hold NULs.
OCTAVO_API oct_status oct_chat_prompt(oct_engine *engine, const char *messages_json, const oct_chat_options *options, char **text,
                                      size_t *length, oct_error *err);
// The same, tokenized. *ids is freed with oct_free.
OCTAVO_API oct_status oct_chat_tokens(oct_engine *engine, const char *messages_json, const oct_chat_options *options, int32_t **ids,
                                      size_t *count, oct_error *err);

typedef struct oct_logit_bias {
    int32_t id;
    float bias; // [-100, 100], added to the token's logit
} oct_logit_bias;

// Ends an answer that repeats a pattern of min_pattern_size to max_pattern_size tokens min_count times.
typedef struct oct_repetition_detection {
    int max_pattern_size; // 0: off
    int min_pattern_size; // 0 is taken as 1
    int min_count;        // at least 2
} oct_repetition_detection;

typedef struct oct_sampling_params {
    double temperature;                         // >= 0; 0: greedy
    double top_p;                               // (0, 1]; 0 is taken as 1
    int top_k;                                  // 0 or -1: all
    double min_p;                               // [0, 1]
    double repetition_penalty;                  // > 0; 0 is taken as 1
    double presence_penalty, frequency_penalty; // [-2, 2]
    bool has_seed;
    uint64_t seed;
    int max_tokens; // 0: up to max_model_len
    int min_tokens;
    const char *const *stop; // stop strings; not copied into the output
    size_t num_stop;
    const int32_t *stop_token_ids;
    size_t num_stop_token_ids;
    bool ignore_eos;
    bool skip_special_tokens_off;           // true: special tokens appear in the text
    bool spaces_between_special_tokens_off; // true, with the above: one special token right after another has no space before it
    int logprobs;                     // 0: none; k > 0: the sampled token's log-probability and the k - 1 best (1: the sampled token alone)
    const int32_t *logprob_token_ids; // (num_logprob_token_ids) log-probabilities of these instead of the best ones; logprobs is not read
    size_t num_logprob_token_ids;
    int prompt_logprobs; // 0: none; k > 0: of every prompt token but the first, its own and the k - 1 best
    const oct_logit_bias *logit_bias;
    size_t num_logit_bias;
    const int32_t *allowed_token_ids; // nothing else is sampled; none: everything may be
    size_t num_allowed_token_ids;
    const char *const *bad_words; // words that are never completed, with or without a space before them
    size_t num_bad_words;
    oct_repetition_detection repetition_detection;
    int priority;           // lower is earlier, under scheduling_policy "priority"
    const char *cache_salt; // blocks are shared only with requests of the same salt; NULL: none
} oct_sampling_params;

typedef struct oct_token_logprob {
    int32_t id;
    float logprob; // natural logarithm, of the model's distribution before temperature and filters
    int32_t rank;  // 1: no other token is likelier; 0: not told (logprob_token_ids)
} oct_token_logprob;

typedef enum oct_finish {
    OCT_RUNNING = 0,
    OCT_FINISH_STOP,
    OCT_FINISH_LENGTH,
    OCT_FINISH_ABORT,
    OCT_FINISH_ERROR,
    OCT_FINISH_REPETITION
} oct_finish;

// What has become known since the last delta. Pointers live until the next oct_request_next or oct_request_free.
typedef struct oct_delta {
    const char *text; // whole UTF-8 characters, never taken back; may be empty
    size_t text_length;
    const int32_t *token_ids; // (num_tokens)
    size_t num_tokens;
    const oct_token_logprob
        *logprobs; // (num_tokens, num_logprobs): per token the sampled one first, then the best ones; NULL when not asked
    size_t num_logprobs;
    const double *token_seconds;              // (num_tokens) when each token came, since submission
    const oct_token_logprob *prompt_logprobs; // (prompt_tokens - 1, num_prompt_logprobs) from the second prompt token on, its own first;
    size_t num_prompt_logprobs;               // in the delta of the first token when asked for, else NULL
    oct_finish finish;                        // not OCT_RUNNING: this is the last delta
    const char *stop_string;                  // the stop string that ended it, or NULL
    int32_t stop_token;                       // the stop or EOS token that ended it, or -1
    int prompt_tokens, cached_tokens, completion_tokens;    // so far
    double queued_seconds, prefill_seconds, decode_seconds; // so far
    const oct_error *error;                                 // with OCT_FINISH_ERROR
} oct_delta;

// Called on a thread of the engine when a delta has become ready; must return at once and call nothing of Octavo (write to an eventfd).
typedef void (*oct_notify)(void *context);

// Queues a request. `prompt` is copied. notify may be NULL. Prompts that with one more token exceed max_model_len, unknown token
// ids and parameters out of range are OCT_INVALID_ARGUMENT; a full queue, or an engine that is not healthy, is OCT_UNAVAILABLE.
OCTAVO_API oct_status oct_request_submit(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                                         oct_notify notify, void *context, oct_request **out, oct_error *err);
// Takes what is ready. Waits up to timeout_seconds (< 0: for ever, 0: not at all) for something; returns false when nothing came.
OCTAVO_API bool oct_request_next(oct_request *request, double timeout_seconds, oct_delta *delta);
// Asks the engine to stop working on it; a last delta with OCT_FINISH_ABORT follows unless it had finished.
OCTAVO_API void oct_request_cancel(oct_request *request);
// Cancels if still running and frees. After return notify is not called any more. request may be NULL.
OCTAVO_API void oct_request_free(oct_request *request);

typedef struct oct_engine_stats {
    int running, waiting; // sequences
    int blocks_used, blocks_total;
    // Since the engine opened:
    uint64_t prompt_tokens, generation_tokens, steps, preemptions;
    uint64_t prefix_cache_queries, prefix_cache_hits; // tokens
    uint64_t rejected_requests, rejected_tokens;      // submissions refused by max_num_queued_reqs, by max_num_queued_tokens
} oct_engine_stats;
OCTAVO_API void oct_engine_get_stats(oct_engine *engine, oct_engine_stats *stats);
// False once a step took longer than VLLM_ENGINE_ITERATION_TIMEOUT_S seconds (60): its requests have failed, and nothing more is accepted.
OCTAVO_API bool oct_engine_is_healthy(oct_engine *engine);
// Prompts that come are computed anew. Waits until the engine has done so, at most VLLM_RPC_TIMEOUT milliseconds (10,000).
OCTAVO_API oct_status oct_engine_reset_prefix_cache(oct_engine *engine, oct_error *err);

OCTAVO_API void oct_free(void *pointer);
OCTAVO_API const char *oct_version(void);

#ifdef __cplusplus
}
#endif
