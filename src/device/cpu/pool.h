// pool.h: a fork-join pool of threads. The caller is worker 0. Workers spin briefly for the next task, then sleep on a futex, so that
// back-to-back operations cost a fraction of a microsecond and an idle or oversubscribed pool costs nothing.
#pragma once

#include "base/error.h"

struct oct_pool;

// threads 0: as many as there are cores that this process may use.
oct_status oct_pool_open(int threads, struct oct_pool **out, oct_error *err);
void oct_pool_close(struct oct_pool *pool);
int oct_pool_threads(const struct oct_pool *pool);

// Runs task(context, worker) once on every worker and returns when all are done. One caller at a time.
void oct_pool_run(struct oct_pool *pool, void (*task)(void *context, int worker), void *context);
// Calls task(context, worker, begin, end) over [0, items) in chunks of `chunk` items, claimed by whichever worker is free. Runs on the
// caller alone when there is but one chunk.
void oct_pool_for(struct oct_pool *pool, int items, int chunk, void (*task)(void *context, int worker, int begin, int end), void *context);
