// pool.h: threads that share out loops. The caller is worker 0 and never waits for a thread that has not begun: helpers join a loop while
// it is open and take chunks; when the chunks are gone the caller closes it and waits only for those inside. A helper that the system put
// aside costs nothing, so the pool survives more threads than cores. Helpers spin briefly for the next loop, then sleep on a futex.
#pragma once

#include "base/error.h"

enum { OCT_MAX_THREADS = 256 };

struct oct_pool;

// threads: at most OCT_MAX_THREADS; 0: as many as there are cores that this process may use.
oct_status oct_pool_open(int threads, struct oct_pool **out, oct_error *err);
void oct_pool_close(struct oct_pool *pool);
int oct_pool_threads(const struct oct_pool *pool);

// Calls task(context, worker, begin, end) over [0, items) in chunks of `chunk` items, claimed by whichever worker is free; worker is below
// oct_pool_threads, and one worker runs one chunk at a time. One caller at a time; a task must not start a loop itself.
void oct_pool_for(struct oct_pool *pool, int items, int chunk, void (*task)(void *context, int worker, int begin, int end), void *context);
