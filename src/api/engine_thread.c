// engine_thread.c: the one thread that drives the scheduler: takes what was submitted, drops what was cancelled, steps, delivers, and
// sleeps while there is nothing to do.
#include "api/engine.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum { LAST_CHANCE = 1 }; // seconds that a step which is late already gets when the engine closes

static void remove_sequence(struct oct_engine *engine, struct oct_request *request) {
    if (request->sequence) oct_scheduler_remove(engine->scheduler, request->sequence);
    request->sequence = NULL;
}

// Its prompt is computed, or never will be: it no longer counts as waiting.
static void count_prefilled(struct oct_engine *engine, struct oct_request *request) {
    if (request->prefilled) return;
    request->prefilled = true;
    pthread_mutex_lock(&engine->mutex);
    engine->limits.prefilled_tokens += (uint64_t)request->prompt_tokens;
    pthread_mutex_unlock(&engine->mutex);
}

// Before its caller is told, who may submit another one at once.
static void count_ended(struct oct_engine *engine, struct oct_request *request) {
    count_prefilled(engine, request);
    pthread_mutex_lock(&engine->mutex);
    engine->limits.ended_requests++;
    pthread_mutex_unlock(&engine->mutex);
}

// Tells the caller. The engine is then done with a request that has ended.
static void announce(struct oct_engine *engine, struct oct_request *request) {
    bool ended = request->finish != OCT_RUNNING; // only this thread changes it, or the watchdog while this one is in a step
    if (ended) count_ended(engine, request);
    oct_request_announce(request);
    if (!ended) return;
    TAILQ_REMOVE(&engine->active, request, link);
    oct_request_release(request);
}

static void add_request(struct oct_engine *engine, struct oct_request *request) {
    oct_error err;
    TAILQ_INSERT_TAIL(&engine->active, request, link);
    if (request->finish != OCT_RUNNING) return announce(engine, request); // the watchdog was there first
    struct oct_sequence_options options = {
        .prompt = request->prompt,
        .prompt_length = request->prompt_tokens,
        .sampling = &request->sampling,
        .priority = request->priority,
        .cache_salt = request->cache_salt,
        .user = request,
    };
    if (oct_scheduler_add(engine->scheduler, &options, &request->sequence, &err) == OCT_OK) return;
    oct_request_end(request, OCT_FINISH_ERROR, &err);
    announce(engine, request);
}

static void publish_stats(struct oct_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    oct_scheduler_get_stats(engine->scheduler, &engine->stats);
    pthread_mutex_unlock(&engine->mutex);
}

// Aborts all requests, or those that were cancelled.
static void drop(struct oct_engine *engine, bool all) {
    struct oct_request *request, *next;
    TAILQ_FOREACH(request, &engine->active, link) {
        if (!all && !atomic_load(&request->cancelled)) continue;
        oct_request_end(request, OCT_FINISH_ABORT, NULL);
        remove_sequence(engine, request);
    }
    publish_stats(engine);
    for (request = TAILQ_FIRST(&engine->active); request; request = next) {
        next = TAILQ_NEXT(request, link);
        if (request->finish != OCT_RUNNING) announce(engine, request);
    }
}

// What the watchdog has ended while the step was running.
static void drop_failed(struct oct_engine *engine) {
    struct oct_request *request, *next;
    for (request = TAILQ_FIRST(&engine->active); request; request = next) {
        next = TAILQ_NEXT(request, link);
        remove_sequence(engine, request);
        announce(engine, request);
    }
    publish_stats(engine);
}

static void step(struct oct_engine *engine) {
    const struct oct_sampled *sampled;
    int count;
    oct_error err;
    const struct oct_batch *batch = oct_scheduler_plan(engine->scheduler, oct_seconds());
    if (!batch) return;
    oct_watch_step_begin(engine, batch);
    oct_scheduler_run(engine->scheduler, &sampled, &count);
    if (!oct_watch_step_end(engine)) return drop_failed(engine);
    if (engine->quantization.measuring && oct_quantization_measured(&engine->quantization, &err) != OCT_OK)
        oct_log(OCT_LOG_WARNING, "%s", err.message);
    for (int i = 0; i < count; i++) {
        struct oct_request *request = sampled[i].user;
        oct_request_take(request, &sampled[i]);
        count_prefilled(engine, request);
        if (request->finish != OCT_RUNNING) remove_sequence(engine, request);
    }
    publish_stats(engine); // before anybody is told: who has seen a request end finds it gone from the statistics
    for (int i = 0; i < count; i++) announce(engine, sampled[i].user);
}

// Answers the calls that need the engine's thread. The mutex is held.
static void answer_control(struct oct_engine *engine) {
    struct oct_control *control = &engine->control;
    if (control->answered == control->asked) return;
    if (control->reset_prefix_cache) oct_scheduler_reset_prefix_cache(engine->scheduler);
    control->reset_prefix_cache = false;
    control->answered = control->asked;
    pthread_cond_broadcast(&control->done);
}

static bool has_news(const struct oct_engine *engine) {
    return engine->closing || engine->cancelled || !TAILQ_EMPTY(&engine->submitted) || engine->control.answered != engine->control.asked;
}

// Waits for work, and takes over what was submitted. False: the engine closes.
static bool take_work(struct oct_engine *engine, bool *cancelled) {
    struct oct_request_list added = TAILQ_HEAD_INITIALIZER(added);
    struct oct_request *request, *next;
    pthread_mutex_lock(&engine->mutex);
    while (!has_news(engine) && !oct_scheduler_has_work(engine->scheduler)) pthread_cond_wait(&engine->wake, &engine->mutex);
    answer_control(engine);
    bool open = !engine->closing;
    *cancelled = engine->cancelled;
    engine->cancelled = false;
    TAILQ_CONCAT(&added, &engine->submitted, link);
    engine->num_submitted = 0;
    pthread_mutex_unlock(&engine->mutex);

    for (request = TAILQ_FIRST(&added); request; request = next) {
        next = TAILQ_NEXT(request, link);
        add_request(engine, request);
    }
    publish_stats(engine);
    return open;
}

static void *run(void *context) {
    struct oct_engine *engine = context;
    bool cancelled;
    while (take_work(engine, &cancelled)) {
        if (cancelled) drop(engine, false);
        if (oct_scheduler_has_work(engine->scheduler)) step(engine);
    }
    drop(engine, true);
    return NULL;
}

oct_status oct_engine_thread_start(struct oct_engine *engine, oct_error *err) {
    // Signals are for the program's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int problem = pthread_create(&engine->thread, NULL, run, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (problem) return oct_fail(err, OCT_IO, "cannot start the engine's thread: %s", strerror(problem));
    engine->thread_started = true;
    return OCT_OK;
}

bool oct_engine_thread_stop(struct oct_engine *engine) {
    if (!engine->thread_started) return true;
    pthread_mutex_lock(&engine->mutex);
    engine->closing = true;
    bool stuck = engine->watch.unhealthy && engine->watch.step_began > 0;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->mutex);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += LAST_CHANCE;
    if (stuck ? pthread_timedjoin_np(engine->thread, NULL, &soon) != 0 : pthread_join(engine->thread, NULL) != 0) return false;
    engine->thread_started = false;
    return true;
}

// --- from other threads -----------------------------------------------------------------------------------------------------------

static oct_status check_room(struct oct_engine *engine, oct_error *err) {
    struct oct_queue_limits *limits = &engine->limits;
    static const char busy[] =
        "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.";
    if (engine->watch.unhealthy) return oct_fail(err, OCT_UNAVAILABLE, "the engine has stopped working: a step did not end in time");
    if (limits->max_requests > 0 && limits->submitted_requests - limits->ended_requests >= (uint64_t)limits->max_requests) {
        limits->rejected_requests++;
        return oct_fail(err, OCT_UNAVAILABLE, "%s", busy);
    }
    if (limits->max_tokens > 0 && limits->submitted_tokens - limits->prefilled_tokens >= (uint64_t)limits->max_tokens) {
        limits->rejected_tokens++;
        return oct_fail(err, OCT_UNAVAILABLE, "%s", busy);
    }
    return OCT_OK;
}

oct_status oct_engine_enqueue(struct oct_engine *engine, struct oct_request *request, oct_error *err) {
    pthread_mutex_lock(&engine->mutex); // of the check, too: what the watchdog ends is all that was let in
    oct_status status = check_room(engine, err);
    if (status == OCT_OK) {
        engine->limits.submitted_requests++;
        engine->limits.submitted_tokens += (uint64_t)request->prompt_tokens;
        atomic_fetch_add(&request->references, 1);
        TAILQ_INSERT_TAIL(&engine->submitted, request, link);
        engine->num_submitted++;
        pthread_cond_signal(&engine->wake);
    }
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

oct_status oct_engine_reset_prefix_cache(oct_engine *engine, oct_error *err) {
    struct oct_control *control = &engine->control;
    struct timespec until = oct_deadline(oct_seconds() + control->timeout);
    pthread_mutex_lock(&engine->mutex);
    control->reset_prefix_cache = true;
    uint64_t asked = ++control->asked;
    pthread_cond_signal(&engine->wake);
    while (control->answered < asked && pthread_cond_timedwait(&control->done, &engine->mutex, &until) != ETIMEDOUT) continue;
    bool answered = control->answered >= asked;
    pthread_mutex_unlock(&engine->mutex);
    if (answered) return OCT_OK;
    return oct_fail(err, OCT_UNAVAILABLE, "the engine did not answer within %g ms (VLLM_RPC_TIMEOUT)", control->timeout * 1e3);
}
