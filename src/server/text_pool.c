// text_pool.c: threads that take jobs from one list; the mailbox brings each back to the loop.
#include "server/text_pool.h"

#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct oct_text_pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    TAILQ_HEAD(, oct_text_job) jobs; // oldest first; guarded by lock
    bool closing;                    // guarded by lock
    struct oct_mailbox *mailbox;
    pthread_t *threads; // (num_threads)
    int num_threads;
};

static void *run(void *context) {
    struct oct_text_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->closing && TAILQ_EMPTY(&pool->jobs)) pthread_cond_wait(&pool->more, &pool->lock);
        if (pool->closing) break;
        struct oct_text_job *job = TAILQ_FIRST(&pool->jobs);
        TAILQ_REMOVE(&pool->jobs, job, link);
        pthread_mutex_unlock(&pool->lock);
        job->work(job);
        oct_mailbox_post(pool->mailbox, &job->done);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

oct_status oct_text_pool_open(int threads, struct oct_mailbox *mailbox, struct oct_text_pool **out, oct_error *err) {
    struct oct_text_pool *pool = oct_alloc(1, sizeof *pool, "the text threads");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    TAILQ_INIT(&pool->jobs);
    pool->mailbox = mailbox;
    pool->threads = oct_alloc((size_t)threads, sizeof *pool->threads, "the text threads");
    // Signals belong to the loop thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int problem = 0;
    while (pool->num_threads < threads && problem == 0) {
        problem = pthread_create(&pool->threads[pool->num_threads], NULL, run, pool);
        if (problem == 0) pool->num_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (problem != 0) {
        oct_text_pool_close(pool);
        return oct_fail(err, OCT_IO, "cannot start %d text threads: %s", threads, strerror(problem));
    }
    *out = pool;
    return OCT_OK;
}

void oct_text_pool_submit(struct oct_text_pool *pool, struct oct_text_job *job) {
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->jobs, job, link);
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}

void oct_text_pool_close(struct oct_text_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->num_threads; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}
