// engine.h: what is behind octavo.h's two nouns, and who may touch what. The engine's thread alone drives the scheduler; callers hand
// requests over through a queue, and take deltas out of a request under the request's own lock.
#pragma once

#include "api/quantization.h"
#include "api/stop_strings.h"
#include "api/text_source.h"
#include "engine/engine.h"
#include "octavo.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

TAILQ_HEAD(oct_request_list, oct_request);

// How much may wait. Counts since the engine opened; their differences are what has not ended, or has no first token yet.
struct oct_queue_limits {
    int max_requests, max_tokens; // 0: no limit
    uint64_t submitted_requests, ended_requests, submitted_tokens, prefilled_tokens;
    uint64_t rejected_requests, rejected_tokens;
};

// Calls that the engine's thread answers between two steps.
struct oct_control {
    double timeout; // seconds
    bool reset_prefix_cache;
    uint64_t asked, answered;
    pthread_cond_t done; // answered has changed
};

// The watchdog: a thread that looks at how long a step has been running.
struct oct_watch {
    pthread_t thread;
    bool started;
    double timeout, step_began;    // seconds; step_began 0: no step is running
    const struct oct_batch *batch; // of that step
    bool unhealthy;                // for good
    bool closing;
    pthread_cond_t changed; // closing has
};

struct oct_engine {
    char *model, *description;
    struct oct_text_source text; // immutable: any thread
    struct oct_device *device;
    struct oct_llama *llama;
    struct oct_kv_cache *cache;
    struct oct_scheduler *scheduler; // the engine's thread; oct_scheduler_check: any
    struct oct_quantization quantization;
    struct oct_scheduler_options scheduling;
    int max_model_len;
    int32_t eos_tokens[OCT_MAX_EOS_TOKENS + 1]; // (num_eos_tokens) the model's, and the tokenizer's own
    int num_eos_tokens;

    pthread_t thread;
    bool thread_started;
    struct oct_request_list active; // requests with a sequence. The engine's thread alone

    pthread_mutex_t mutex; // of all below
    pthread_cond_t wake;   // something below has changed
    struct oct_request_list submitted;
    int num_submitted;
    bool cancelled; // of some request
    bool closing;
    struct oct_scheduler_stats stats; // as of the last step
    struct oct_queue_limits limits;
    struct oct_control control;
    struct oct_watch watch;
};

// What has become known of a request and was not yet taken, or was taken last.
struct oct_request_output {
    struct oct_buffer text;
    struct oct_ids tokens;
    double *seconds;             // (tokens.count of fact_rows) since submission. Owned
    oct_token_logprob *logprobs; // (tokens.count of fact_rows, num_logprobs) owned
    size_t fact_rows;
};

struct oct_request {
    struct oct_engine *engine;
    TAILQ_ENTRY(oct_request) link; // in submitted, then in active
    atomic_int references;         // the caller's and the engine's
    atomic_bool cancelled;

    // Set at submission, then the engine's thread alone.
    int32_t *prompt; // (prompt_tokens) owned
    int prompt_tokens;
    struct oct_sampling sampling; // its arrays are owned
    int priority;
    char *cache_salt; // owned; NULL: none
    struct oct_sequence *sequence;
    bool prefilled; // its prompt no longer counts as queued tokens
    struct oct_decode_stream decode;
    struct oct_stop_strings stops;
    double submitted_at, first_token_at; // seconds; 0: not yet

    pthread_mutex_t mutex;  // of all below
    pthread_cond_t changed; // something is ready
    oct_notify notify;
    void *notify_context;
    struct oct_request_output ready, taken;
    oct_finish finish;
    bool finish_taken; // the last delta is out
    const char *stop_string;
    int32_t stop_token;
    int completion_tokens, cached_tokens;
    oct_token_logprob *prompt_logprobs; // (prompt_tokens - 1, num_prompt_logprobs) owned; NULL before the first token, and when not asked
    bool prompt_logprobs_taken;
    double queued_seconds, prefill_seconds, decode_seconds;
    oct_error error;
};

// The engine's thread: takes submissions, steps, delivers.
oct_status oct_engine_thread_start(struct oct_engine *engine, oct_error *err);
// Finishes what is left with OCT_FINISH_ABORT. False: the thread hangs in a step, and everything it might use has to stay.
bool oct_engine_thread_stop(struct oct_engine *engine);

// Hands a request over to the engine's thread, which then has a reference of its own; unless too many wait already. Any thread.
oct_status oct_engine_enqueue(struct oct_engine *engine, struct oct_request *request, oct_error *err);

// watchdog.c. begin: the step is about to run. end: it has come back; false: too late, its requests have ended.
oct_status oct_watch_start(struct oct_engine *engine, oct_error *err);
void oct_watch_stop(struct oct_engine *engine);
void oct_watch_step_begin(struct oct_engine *engine, const struct oct_batch *batch);
bool oct_watch_step_end(struct oct_engine *engine);

// warm_up.c: before the engine's thread starts.
oct_status oct_engine_warm_up(struct oct_engine *engine, const struct oct_progress *progress, oct_error *err);

// Called on the engine's thread. take: a sampled token, which may end the request (request->finish), by its outcome or by a stop string.
// end: it ends without a token, cancelled or refused with *error. Both are told to the caller by announce.
void oct_request_take(struct oct_request *request, const struct oct_sampled *sampled);
void oct_request_end(struct oct_request *request, oct_finish finish, const oct_error *error);
void oct_request_announce(struct oct_request *request);
// Gives up one reference; the last one frees.
void oct_request_release(struct oct_request *request);
