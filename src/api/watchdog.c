// watchdog.c: a thread that notices when a step does not come back. It ends the requests in the engine's place, so that their callers are
// told while the engine's thread hangs; that thread, should it ever return, finds them ended.
#include "api/engine.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

enum { MOST_SHOWN = 16 }; // sequences of a batch in the log

static void describe_batch(const struct oct_batch *batch, struct oct_buffer *out) {
    oct_buffer_printf(out, "%d sequences, %d rows, %d logits; rows from position:", batch->num_seqs, batch->num_rows,
                      batch->num_logit_rows);
    for (int i = 0; i < batch->num_seqs && i < MOST_SHOWN; i++)
        oct_buffer_printf(out, " %d from %d", (int)(batch->row_starts[i + 1] - batch->row_starts[i]),
                          (int)batch->positions[batch->row_starts[i]]);
    if (batch->num_seqs > MOST_SHOWN) oct_buffer_puts(out, " ...");
}

static void end_all(struct oct_request_list *requests, const oct_error *error) {
    struct oct_request *request;
    TAILQ_FOREACH(request, requests, link) {
        if (request->finish != OCT_RUNNING) continue;
        oct_request_end(request, OCT_FINISH_ERROR, error);
        oct_request_announce(request);
    }
}

// The mutex is held, so that the engine's thread is in its step or waits at the end of it, and touches no request.
static void give_up(struct oct_engine *engine) {
    struct oct_buffer shape = {0};
    oct_error error;
    oct_fail(&error, OCT_INTERNAL, "Engine iteration timed out");
    describe_batch(engine->watch.batch, &shape);
    oct_log(OCT_LOG_ERROR, "Engine iteration timed out after %g s (VLLM_ENGINE_ITERATION_TIMEOUT_S). The batch: %s", engine->watch.timeout,
            shape.data);
    oct_buffer_free(&shape);
    engine->watch.unhealthy = true;
    end_all(&engine->active, &error);
    end_all(&engine->submitted, &error);
}

static void *watch(void *context) {
    struct oct_engine *engine = context;
    struct oct_watch *watch = &engine->watch;
    pthread_mutex_lock(&engine->mutex);
    while (!watch->closing && !watch->unhealthy) {
        struct timespec until = oct_deadline((watch->step_began > 0 ? watch->step_began : oct_seconds()) + watch->timeout);
        pthread_cond_timedwait(&watch->changed, &engine->mutex, &until);
        if (watch->step_began > 0 && oct_seconds() >= watch->step_began + watch->timeout) give_up(engine);
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

oct_status oct_watch_start(struct oct_engine *engine, oct_error *err) {
    int problem = pthread_create(&engine->watch.thread, NULL, watch, engine);
    if (problem) return oct_fail(err, OCT_IO, "cannot start the watchdog's thread: %s", strerror(problem));
    engine->watch.started = true;
    return OCT_OK;
}

void oct_watch_stop(struct oct_engine *engine) {
    if (!engine->watch.started) return;
    pthread_mutex_lock(&engine->mutex);
    engine->watch.closing = true;
    pthread_cond_signal(&engine->watch.changed);
    pthread_mutex_unlock(&engine->mutex);
    pthread_join(engine->watch.thread, NULL);
    engine->watch.started = false;
}

void oct_watch_step_begin(struct oct_engine *engine, const struct oct_batch *batch) {
    pthread_mutex_lock(&engine->mutex);
    engine->watch.batch = batch;
    engine->watch.step_began = oct_seconds();
    pthread_mutex_unlock(&engine->mutex);
}

bool oct_watch_step_end(struct oct_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    engine->watch.step_began = 0;
    bool in_time = !engine->watch.unhealthy;
    pthread_mutex_unlock(&engine->mutex);
    return in_time;
}

bool oct_engine_is_healthy(oct_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    bool healthy = !engine->watch.unhealthy;
    pthread_mutex_unlock(&engine->mutex);
    return healthy;
}
