// request.c: one request from submission to its last delta. The engine's thread turns tokens into text and stops at stop strings; what
// is settled collects in `ready` until the caller swaps it out.
#include "api/engine.h"
#include "api/request_sampling.h"

#include "base/clock.h"
#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- submission -------------------------------------------------------------------------------------------------------------------

static oct_status check_stop_strings(const oct_sampling_params *params, oct_error *err) {
    for (size_t i = 0; i < params->num_stop; i++) {
        unsigned char first = (unsigned char)params->stop[i][0];
        // Text is given out in whole characters: a stop string must begin with one.
        if (first == '\0' || (first & 0xc0) == 0x80)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "stop: strings of UTF-8 that are not empty expected, \"%s\" found", params->stop[i]);
    }
    return OCT_OK;
}

oct_status oct_request_submit(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                              oct_notify notify, void *context, oct_request **out, oct_error *err) {
    struct oct_sampling sampling;
    OCT_TRY(check_stop_strings(params, err));
    OCT_TRY(oct_request_sampling_open(engine, params, &sampling, err));
    oct_status status = oct_scheduler_check(engine->scheduler, prompt, prompt_length, &sampling, err);
    if (status != OCT_OK) {
        oct_request_sampling_close(&sampling);
        return status;
    }
    struct oct_request *request = oct_alloc(1, sizeof *request, "a request");
    request->engine = engine;
    atomic_init(&request->references, 1);
    atomic_init(&request->cancelled, false);
    request->prompt = oct_alloc(prompt_length, sizeof *prompt, "a prompt");
    memcpy(request->prompt, prompt, prompt_length * sizeof *prompt);
    request->prompt_tokens = (int)prompt_length;
    request->sampling = sampling;
    request->priority = params->priority;
    request->cache_salt = params->cache_salt ? oct_strdup(params->cache_salt) : NULL;
    request->decode.skip_special_tokens = !params->skip_special_tokens_off;
    request->decode.join_special_tokens = params->spaces_between_special_tokens_off;
    oct_stop_strings_open(&request->stops, params->stop, params->num_stop);
    request->submitted_at = oct_seconds();
    pthread_mutex_init(&request->mutex, NULL);
    oct_condition_init(&request->changed);
    request->notify = notify;
    request->notify_context = context;
    request->stop_token = -1;

    status = oct_engine_enqueue(engine, request, err);
    if (status == OCT_OK)
        *out = request;
    else
        oct_request_release(request);
    return status;
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

static oct_token_logprob public_logprob(const struct oct_logprob *logprob) {
    return (oct_token_logprob){logprob->id, logprob->logprob, logprob->rank};
}

// What is told of every token beside its id. The token is in ready->tokens already.
static void append_token_facts(struct oct_request_output *ready, const struct oct_sampled *sampled, double seconds) {
    size_t width = (size_t)sampled->num_logprobs, count = ready->tokens.count;
    if (count > ready->fact_rows) {
        ready->fact_rows = count * 2;
        ready->seconds = oct_resize(ready->seconds, ready->fact_rows, sizeof *ready->seconds, "times of tokens");
        if (width) ready->logprobs = oct_resize(ready->logprobs, ready->fact_rows * width, sizeof *ready->logprobs, "log-probabilities");
    }
    ready->seconds[count - 1] = seconds;
    for (size_t i = 0; i < width; i++) ready->logprobs[(count - 1) * width + i] = public_logprob(&sampled->logprobs[i]);
}

static void copy_prompt_logprobs(struct oct_request *request, const struct oct_logprob *logprobs) {
    size_t count = (size_t)(request->prompt_tokens - 1) * (size_t)request->sampling.num_prompt_logprobs;
    request->prompt_logprobs = oct_alloc(count, sizeof *request->prompt_logprobs, "log-probabilities of a prompt");
    for (size_t i = 0; i < count; i++) request->prompt_logprobs[i] = public_logprob(&logprobs[i]);
}

static void note_times(struct oct_request *request) {
    double now = oct_seconds(), admitted = request->sequence ? oct_sequence_admitted_at(request->sequence) : 0;
    double first_token = request->first_token_at;
    request->queued_seconds = (admitted > 0 ? admitted : now) - request->submitted_at;
    request->prefill_seconds = admitted > 0 ? (first_token > 0 ? first_token : now) - admitted : 0;
    request->decode_seconds = first_token > 0 ? now - first_token : 0;
    if (request->sequence) request->cached_tokens = oct_sequence_cached_tokens(request->sequence);
}

void oct_request_announce(struct oct_request *request) {
    pthread_mutex_lock(&request->mutex); // held during notify, so that free can promise that it is over
    pthread_cond_broadcast(&request->changed);
    if (request->notify) request->notify(request->notify_context);
    pthread_mutex_unlock(&request->mutex);
}

static oct_finish finish_of(enum oct_outcome outcome) {
    return outcome == OCT_SEQ_STOPPED      ? OCT_FINISH_STOP
           : outcome == OCT_SEQ_LENGTH     ? OCT_FINISH_LENGTH
           : outcome == OCT_SEQ_REPETITION ? OCT_FINISH_REPETITION
                                           : OCT_RUNNING;
}

void oct_request_take(struct oct_request *request, const struct oct_sampled *sampled) {
    if (sampled->outcome == OCT_SEQ_FAILED) {
        oct_error error;
        if (sampled->status == OCT_SAMPLED_NONE_LEFT)
            oct_fail(&error, OCT_INVALID_ARGUMENT,
                     "allowed_token_ids, bad_words and min_tokens: a token that may follow %d of output expected, none found",
                     request->completion_tokens);
        else
            oct_fail(&error, OCT_INTERNAL, "the model gave logits that are NaN or infinite after %d tokens of prompt and %d of output",
                     request->prompt_tokens, request->completion_tokens);
        oct_request_end(request, OCT_FINISH_ERROR, &error);
        return;
    }
    pthread_mutex_lock(&request->mutex);
    double now = oct_seconds();
    if (request->first_token_at == 0) request->first_token_at = now;
    if (sampled->prompt_logprobs) copy_prompt_logprobs(request, sampled->prompt_logprobs);
    request->completion_tokens++;
    oct_ids_append(&request->ready.tokens, sampled->token);
    append_token_facts(&request->ready, sampled, now - request->submitted_at);
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

// Waits for something new until the deadline; < 0: for ever.
static void wait_for_change(struct oct_request *request, double deadline) {
    struct timespec until = oct_deadline(deadline);
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
            .token_seconds = taken->seconds,
            .prompt_logprobs = request->prompt_logprobs_taken ? NULL : request->prompt_logprobs,
            .num_prompt_logprobs = (size_t)request->sampling.num_prompt_logprobs,
            .finish = request->finish,
            .stop_string = request->stop_string,
            .stop_token = request->stop_token,
            .prompt_tokens = request->prompt_tokens,
            .cached_tokens = request->cached_tokens,
            .completion_tokens = request->completion_tokens,
            .queued_seconds = request->queued_seconds,
            .prefill_seconds = request->prefill_seconds,
            .decode_seconds = request->decode_seconds,
            .error = request->finish == OCT_FINISH_ERROR ? &request->error : NULL,
        };
        request->prompt_logprobs_taken = request->prompt_logprobs != NULL;
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
    free(output->seconds);
    free(output->logprobs);
}

void oct_request_release(struct oct_request *request) {
    if (atomic_fetch_sub(&request->references, 1) > 1) return;
    free(request->prompt);
    free(request->prompt_logprobs);
    free(request->cache_salt);
    oct_request_sampling_close(&request->sampling);
    oct_decode_stream_free(&request->decode);
    oct_stop_strings_close(&request->stops);
    free_output(&request->ready);
    free_output(&request->taken);
    pthread_mutex_destroy(&request->mutex);
    pthread_cond_destroy(&request->changed);
    free(request);
}
