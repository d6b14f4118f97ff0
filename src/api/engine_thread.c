// engine_thread.c: the one thread that drives the scheduler: takes what was submitted, drops what was cancelled, steps, delivers, and
// sleeps while there is nothing to do.
#include "api/engine.h"

#include "base/clock.h"
#include "base/log.h"

#include <signal.h>
#include <string.h>

static void remove_sequence(struct oct_engine *engine, struct oct_request *request) {
    if (request->sequence) oct_scheduler_remove(engine->scheduler, request->sequence);
    request->sequence = NULL;
}

// Tells the caller. The engine is then done with a request that has ended.
static void announce(struct oct_engine *engine, struct oct_request *request) {
    bool ended = request->finish != OCT_RUNNING; // only this thread changes it
    oct_request_announce(request);
    if (!ended) return;
    TAILQ_REMOVE(&engine->active, request, link);
    oct_request_release(request);
}

static void add_request(struct oct_engine *engine, struct oct_request *request) {
    oct_error err;
    TAILQ_INSERT_TAIL(&engine->active, request, link);
    struct oct_sequence_options options = {
        .prompt = request->prompt, .prompt_length = request->prompt_tokens, .sampling = &request->sampling, .user = request};
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

static void step(struct oct_engine *engine) {
    const struct oct_sampled *sampled;
    int count;
    oct_error err;
    if (!oct_scheduler_plan(engine->scheduler, oct_seconds())) return;
    oct_scheduler_run(engine->scheduler, &sampled, &count);
    if (engine->quantization.measuring && oct_quantization_measured(&engine->quantization, &err) != OCT_OK)
        oct_log(OCT_LOG_WARNING, "%s", err.message);
    for (int i = 0; i < count; i++) {
        struct oct_request *request = sampled[i].user;
        oct_request_take(request, &sampled[i]);
        if (request->finish != OCT_RUNNING) remove_sequence(engine, request);
    }
    publish_stats(engine); // before anybody is told: who has seen a request end finds it gone from the statistics
    for (int i = 0; i < count; i++) announce(engine, sampled[i].user);
}

// Waits for work, and takes over what was submitted. False: the engine closes.
static bool take_work(struct oct_engine *engine, bool *cancelled) {
    struct oct_request_list added = TAILQ_HEAD_INITIALIZER(added);
    struct oct_request *request, *next;
    pthread_mutex_lock(&engine->mutex);
    while (!engine->closing && !engine->cancelled && TAILQ_EMPTY(&engine->submitted) && !oct_scheduler_has_work(engine->scheduler))
        pthread_cond_wait(&engine->wake, &engine->mutex);
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

void oct_engine_thread_stop(struct oct_engine *engine) {
    if (!engine->thread_started) return;
    pthread_mutex_lock(&engine->mutex);
    engine->closing = true;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->mutex);
    pthread_join(engine->thread, NULL);
    engine->thread_started = false;
}
