// pool.c: helpers that join open loops; the order of operations on its atomic words is the whole protocol.
#include "device/cpu/pool.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 4000 }; // SPINS: long enough for the gaps inside a step, short enough to lose little to a busy neighbour

#define CLOSED 0x80000000u

struct oct_pool {
    int threads;
    pthread_t handles[OCT_MAX_THREADS];
    _Atomic uint32_t generation; // goes up by one with every loop: what helpers wait on
    _Atomic uint32_t entry;      // CLOSED, plus the number of helpers inside: what the caller waits on
    _Atomic int sleepers;        // threads inside futex_wait on either word
    atomic_bool closing;

    // The open loop. Written while it is closed and nobody is inside.
    void (*task)(void *context, int worker, int begin, int end);
    void *context;
    int items, chunk;
    atomic_int next; // first item not yet claimed
};

struct worker {
    struct oct_pool *pool;
    int index;
};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Returns when *word differs from `old`.
static void wait_while_equal(struct oct_pool *pool, _Atomic uint32_t *word, uint32_t old) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        pause_briefly();
    }
    while (atomic_load(word) == old) {
        atomic_fetch_add(&pool->sleepers, 1);
        if (atomic_load(word) == old) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&pool->sleepers, 1);
    }
}

static void wake_waiters(struct oct_pool *pool, _Atomic uint32_t *word) {
    if (atomic_load(&pool->sleepers) > 0) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, OCT_MAX_THREADS, NULL, NULL, 0);
}

static void take_chunks(struct oct_pool *pool, int worker) {
    for (;;) {
        int begin = atomic_fetch_add_explicit(&pool->next, pool->chunk, memory_order_relaxed);
        if (begin >= pool->items) return;
        int end = pool->items - begin < pool->chunk ? pool->items : begin + pool->chunk;
        pool->task(pool->context, worker, begin, end);
    }
}

static void *help(void *argument) {
    struct worker self = *(struct worker *)argument;
    free(argument);
    struct oct_pool *pool = self.pool;
    for (uint32_t seen = 0;;) {
        wait_while_equal(pool, &pool->generation, seen);
        if (atomic_load(&pool->closing)) return NULL;
        seen = atomic_load(&pool->generation);
        // A late helper may find the loop closed, or already the next one open: both are well.
        if (!(atomic_fetch_add(&pool->entry, 1) & CLOSED)) take_chunks(pool, self.index);
        if (atomic_fetch_sub(&pool->entry, 1) == CLOSED + 1) wake_waiters(pool, &pool->entry);
    }
}

oct_status oct_pool_open(int threads, struct oct_pool **out, oct_error *err) {
    if (threads < 0 || threads > OCT_MAX_THREADS)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "threads: 0 to %d expected, %d found", OCT_MAX_THREADS, threads);
    if (threads == 0) {
        cpu_set_t allowed;
        threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
        if (threads > OCT_MAX_THREADS) threads = OCT_MAX_THREADS;
    }
    struct oct_pool *pool = oct_alloc(1, sizeof *pool, "the thread pool");
    pool->threads = 1;
    atomic_store(&pool->entry, CLOSED);
    for (int i = 1; i < threads; i++) {
        struct worker *worker = oct_alloc(1, sizeof *worker, "a worker thread");
        *worker = (struct worker){pool, i};
        int failed = pthread_create(&pool->handles[i], NULL, help, worker);
        if (failed) {
            free(worker);
            oct_pool_close(pool);
            return oct_fail(err, OCT_IO, "cannot start thread %d of %d: %s", i + 1, threads, strerror(failed));
        }
        pool->threads = i + 1;
    }
    *out = pool;
    return OCT_OK;
}

void oct_pool_close(struct oct_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->closing, true);
    atomic_fetch_add(&pool->generation, 1);
    syscall(SYS_futex, &pool->generation, FUTEX_WAKE_PRIVATE, OCT_MAX_THREADS, NULL, NULL, 0);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->handles[i], NULL);
    free(pool);
}

int oct_pool_threads(const struct oct_pool *pool) {
    return pool->threads;
}

void oct_pool_for(struct oct_pool *pool, int items, int chunk, void (*task)(void *context, int worker, int begin, int end), void *context) {
    if (items <= 0) return;
    if (chunk < 1) chunk = 1;
    if (items <= chunk || pool->threads == 1) {
        for (int begin = 0; begin < items; begin += chunk) task(context, 0, begin, items - begin < chunk ? items : begin + chunk);
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->items = items;
    pool->chunk = chunk;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_fetch_and(&pool->entry, ~CLOSED);
    atomic_fetch_add(&pool->generation, 1);
    wake_waiters(pool, &pool->generation);
    take_chunks(pool, 0);
    for (uint32_t entry = atomic_fetch_or(&pool->entry, CLOSED) | CLOSED; entry != CLOSED; entry = atomic_load(&pool->entry))
        wait_while_equal(pool, &pool->entry, entry);
}
