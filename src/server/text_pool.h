// text_pool.h: a few threads for work on text that would hold up the event loop: parsing a body, rendering a template, tokenizing.
#pragma once

#include "server/mailbox.h"

struct oct_text_job {
    TAILQ_ENTRY(oct_text_job) link;
    void (*work)(struct oct_text_job *job); // called on a pool thread
    struct oct_mail done;                   // delivered on the loop thread after `work`
};

struct oct_text_pool;

oct_status oct_text_pool_open(int threads, struct oct_mailbox *mailbox, struct oct_text_pool **out, oct_error *err);
void oct_text_pool_submit(struct oct_text_pool *pool, struct oct_text_job *job);
// Waits for the jobs that run; those still queued are dropped and stay their owners'. May be NULL.
void oct_text_pool_close(struct oct_text_pool *pool);
