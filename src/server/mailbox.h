// mailbox.h: how other threads reach the event loop. They post a mail, which is part of an object of theirs; the loop thread delivers
// it soon after. A mail that is already in the box is not posted twice, so a fast engine costs one wake-up, not one a token.
#pragma once

#include "base/error.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct oct_mail {
    TAILQ_ENTRY(oct_mail) link;
    bool posted;                            // in the box; guarded by the box's lock
    void (*deliver)(struct oct_mail *mail); // called on the loop thread; may free the mail's owner
};

struct oct_mailbox;

oct_status oct_mailbox_open(struct event_base *base, struct oct_mailbox **out, oct_error *err);
void oct_mailbox_close(struct oct_mailbox *mailbox);                          // undelivered mails stay their owners'. May be NULL
void oct_mailbox_post(struct oct_mailbox *mailbox, struct oct_mail *mail);    // from any thread
void oct_mailbox_retract(struct oct_mailbox *mailbox, struct oct_mail *mail); // afterwards the box does not know the mail
