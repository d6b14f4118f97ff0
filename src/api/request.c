// request.c: one request from submission to its last delta. The engine's thread turns tokens into text and stops at stop strings; what
// is settled collects in `ready` until the caller swaps it out.
#include "api/engine.h"

#include "base/clock.h"
#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// --- submission -------------------------------------------------------------------------------------------------------------------

static uint64_t random_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)(oct_seconds() * 1e9);
    return seed;
}

static float or_one(double value) {
    return value == 0 ? 1 : (float)value;
}

static struct oct_sampling sampling_of(const oct_sampling_params *params) {
    return (struct oct_sampling){
        .temperature = (float)params->temperature,
        .top_p = or_one(params->top_p),
        .top_k = params->top_k == -1 ? 0 : params->top_k,
        .min_p = (float)params->min_p,
        .repetition_penalty = or_one(params->repetition_penalty),
        .presence_penalty = (float)params->presence_penalty,
        .frequency_penalty = (float)params->frequency_penalty,
        .seed = params->has_seed ? params->seed : random_seed(),
        .max_tokens = params->max_tokens,
        .min_tokens = params->min_tokens,
        .num_logprobs = params->logprobs,
    };
}

// The request's own stop tokens, then the model's EOS tokens unless they are ignored. Allocated.
static int32_t *stop_tokens(const struct oct_engine *engine, const oct_sampling_params *params, int *count) {
    struct oct_ids ids = {0};
    for (size_t i = 0; i < params->num_stop_token_ids; i++) oct_ids_append(&ids, params->stop_token_ids[i]);
    for (int i = 0; i < engine->num_eos_tokens && !params->ignore_eos; i++) oct_ids_append(&ids, engine->eos_tokens[i]);
    *count = (int)ids.count;
    return ids.data;
}

static oct_status check_stop_strings(const oct_sampling_params *params, oct_error *err) {
    for (size_t i = 0; i < params->num_stop; i++) {
        unsigned char first = (unsigned char)params->stop[i][0];
        // Text is given out in whole characters: a stop string must begin with one.
        if (first == '\0' || (first & 0xc0) == 0x80)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "stop: strings of UTF-8 that are not empty expected, \"%s\" found", params->stop[i]);
    }
    return OCT_OK;
}

static void init_waiting(pthread_mutex_t *mutex, pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(mutex, NULL);
}

oct_status oct_request_submit(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                              oct_notify notify, void *context, oct_request **out, oct_error *err) {
    struct oct_sampling sampling = sampling_of(params);
    int32_t *stops = stop_tokens(engine, params, &sampling.num_stop_token_ids);
    sampling.stop_token_ids = stops;
    sampling.num_late_token_ids = sampling.num_stop_token_ids;
    oct_status status = oct_scheduler_check(engine->scheduler, prompt, prompt_length, &sampling, err);
    if (status == OCT_OK) status = check_stop_strings(params, err);
    if (status != OCT_OK) {
        free(stops);
        return status;
    }
    struct oct_request *request = oct_alloc(1, sizeof *request, "a request");
    request->engine = engine;
    atomic_init(&request->references, 2);
    atomic_init(&request->cancelled, false);
    request->prompt = oct_alloc(prompt_length, sizeof *prompt, "a prompt");
    memcpy(request->prompt, prompt, prompt_length * sizeof *prompt);
    request->prompt_tokens = (int)prompt_length;
    request->sampling = sampling;
    request->decode.skip_special_tokens = !params->skip_special_tokens_off;
    oct_stop_strings_open(&request->stops, params->stop, params->num_stop);
    request->submitted_at = oct_seconds();
    init_waiting(&request->mutex, &request->changed);
    request->notify = notify;
    request->notify_context = context;
    request->stop_token = -1;

    pthread_mutex_lock(&engine->mutex);
    TAILQ_INSERT_TAIL(&engine->submitted, request, link);
    engine->num_submitted++;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->mutex);
    *out = request;
    return OCT_OK;
}

// --- on the engine's thread -------------------------------------------------------------------------------------------------------

// The text that a token settles, appended to *text. Returns the stop string that it completes, or NULL.
static const char *text_of(struct oct_request *request, const struct oct_sampled *sampled, struct oct_buffer *text) {
    const struct oct_tokenizer *tokenizer = request->engine->text.tokenizer;
    struct oct_buffer piece = {0};
    bool last = sampled->outcome != OCT_SEQ_RUNNING;
    if (sampled->outcome != OCT_SEQ_STOPPED) oct_decode_stream_push(tokenizer, &request->decode, sampled->token, &piece);
    if (last) oct_decode_stream_flush(tokenizer, &request->decode, &piece);
    const char *stop = oct_stop_strings_push(&request->stops, piece.data, piece.length, text);
    // Up to min_tokens stop strings do not count, and what was held back for one is text.
    bool counts = request->completion_tokens > request->sampling.min_tokens;
    if (!counts) stop = NULL;
    if (!stop && (last || !counts)) oct_stop_strings_flush(&request->stops, text);
    oct_buffer_free(&piece);
    return stop;
}

static void append_logprobs(struct oct_request_output *ready, const struct oct_sampled *sampled) {
    size_t width = (size_t)sampled->num_logprobs;
    if (ready->tokens.count > ready->logprob_rows) {
        ready->logprob_rows = ready->tokens.count * 2;
        ready->logprobs = oct_resize(ready->logprobs, ready->logprob_rows * width, sizeof *ready->logprobs, "log-probabilities");
    }
    oct_token_logprob *row = ready->logprobs + (ready->tokens.count - 1) * width;
    for (size_t i = 0; i < width; i++) row[i] = (oct_token_logprob){sampled->logprobs[i].id, sampled->logprobs[i].logprob};
}

static void note_times(struct oct_request *request) {
    double now = oct_seconds(), admitted = request->sequence ? oct_sequence_admitted_at(request->sequence) : 0;
    double first_token = request->first_token_at;
    request->queued_seconds = (admitted > 0 ? admitted : now) - request->submitted_at;
    request->prefill_seconds = admitted > 0 ? (first_token > 0 ? first_token : now) - admitted : 0;
    request->decode_seconds = first_token > 0 ? now - first_token : 0;
}

void oct_request_announce(struct oct_request *request) {
    pthread_mutex_lock(&request->mutex); // held during notify, so that free can promise that it is over
    pthread_cond_broadcast(&request->changed);
    if (request->notify) request->notify(request->notify_context);
    pthread_mutex_unlock(&request->mutex);
}

static oct_finish finish_of(enum oct_outcome outcome) {
    return outcome == OCT_SEQ_STOPPED ? OCT_FINISH_STOP : outcome == OCT_SEQ_LENGTH ? OCT_FINISH_LENGTH : OCT_RUNNING;
}

void oct_request_take(struct oct_request *request, const struct oct_sampled *sampled) {
    if (sampled->outcome == OCT_SEQ_FAILED) {
        oct_error error;
        oct_fail(&error, OCT_INTERNAL, "the model gave logits that are NaN or infinite after %d tokens of prompt and %d of output",
                 request->prompt_tokens, request->completion_tokens);
        oct_request_end(request, OCT_FINISH_ERROR, &error);
        return;
    }
    pthread_mutex_lock(&request->mutex);
    if (request->first_token_at == 0) request->first_token_at = oct_seconds();
    request->completion_tokens++;
    oct_ids_append(&request->ready.tokens, sampled->token);
    if (sampled->num_logprobs > 0) append_logprobs(&request->ready, sampled);
    request->stop_string = text_of(request, sampled, &request->ready.text);
    request->finish = request->stop_string ? OCT_FINISH_STOP : finish_of(sampled->outcome);
    if (sampled->outcome == OCT_SEQ_STOPPED && !request->stop_string) request->stop_token = sampled->token;
    note_times(request);
    pthread_mutex_unlock(&request->mutex);
}

void oct_request_end(struct oct_request *request, oct_finish finish, const oct_error *error) {
    pthread_mutex_lock(&request->mutex);
    oct_decode_stream_flush(request->engine->text.tokenizer, &request->decode, &request->stops.held);
    oct_stop_strings_flush(&request->stops, &request->ready.text);
    request->finish = finish;
    if (error) request->error = *error;
    note_times(request);
    pthread_mutex_unlock(&request->mutex);
}

// --- the caller's side ------------------------------------------------------------------------------------------------------------

// Waits for something new until the deadline of the monotonic clock; < 0: for ever.
static void wait_for_change(struct oct_request *request, double deadline) {
    struct timespec until = {0};
    if (deadline >= 0) {
        until.tv_sec = (time_t)deadline;
        until.tv_nsec = (long)((deadline - floor(deadline)) * 1e9);
    }
    while (request->ready.tokens.count == 0 && request->finish == OCT_RUNNING) {
        if (deadline < 0)
            pthread_cond_wait(&request->changed, &request->mutex);
        else if (pthread_cond_timedwait(&request->changed, &request->mutex, &until) == ETIMEDOUT)
            return;
    }
}

static void take_ready(struct oct_request *request) {
    struct oct_request_output emptied = request->taken;
    emptied.text.length = emptied.tokens.count = 0;
    request->taken = request->ready;
    request->ready = emptied;
}

bool oct_request_next(oct_request *request, double timeout_seconds, oct_delta *delta) {
    const double forever = 1e9; // seconds: beyond what time_t of the deadline must hold
    pthread_mutex_lock(&request->mutex);
    if (!request->finish_taken)
        wait_for_change(request, timeout_seconds < 0 || timeout_seconds > forever ? -1 : oct_seconds() + timeout_seconds);
    bool news = !request->finish_taken && (request->ready.tokens.count > 0 || request->finish != OCT_RUNNING);
    if (news) {
        take_ready(request);
        const struct oct_request_output *taken = &request->taken;
        request->finish_taken = request->finish != OCT_RUNNING;
        *delta = (oct_delta){
            .text = taken->text.length ? taken->text.data : "",
            .text_length = taken->text.length,
            .token_ids = taken->tokens.data,
            .num_tokens = taken->tokens.count,
            .logprobs = request->sampling.num_logprobs > 0 ? taken->logprobs : NULL,
            .num_logprobs = (size_t)request->sampling.num_logprobs,
            .finish = request->finish,
            .stop_string = request->stop_string,
            .stop_token = request->stop_token,
            .prompt_tokens = request->prompt_tokens,
            .completion_tokens = request->completion_tokens,
            .queued_seconds = request->queued_seconds,
            .prefill_seconds = request->prefill_seconds,
            .decode_seconds = request->decode_seconds,
            .error = request->finish == OCT_FINISH_ERROR ? &request->error : NULL,
        };
    }
    pthread_mutex_unlock(&request->mutex);
    return news;
}

void oct_request_cancel(oct_request *request) {
    struct oct_engine *engine = request->engine;
    atomic_store(&request->cancelled, true);
    pthread_mutex_lock(&engine->mutex);
    engine->cancelled = true;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->mutex);
}

void oct_request_free(oct_request *request) {
    if (!request) return;
    pthread_mutex_lock(&request->mutex);
    request->notify = NULL;
    bool running = request->finish == OCT_RUNNING;
    pthread_mutex_unlock(&request->mutex);
    if (running) oct_request_cancel(request);
    oct_request_release(request);
}

static void free_output(struct oct_request_output *output) {
    oct_buffer_free(&output->text);
    free(output->tokens.data);
    free(output->logprobs);
}

void oct_request_release(struct oct_request *request) {
    if (atomic_fetch_sub(&request->references, 1) > 1) return;
    free(request->prompt);
    free((void *)request->sampling.stop_token_ids);
    oct_decode_stream_free(&request->decode);
    oct_stop_strings_close(&request->stops);
    free_output(&request->ready);
    free_output(&request->taken);
    pthread_mutex_destroy(&request->mutex);
    pthread_cond_destroy(&request->changed);
    free(request);
}
