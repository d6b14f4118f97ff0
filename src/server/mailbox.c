// mailbox.c: a locked list and an eventfd. The loop is rung only when the box was empty, and empties it as often as that takes.
#include "server/mailbox.h"

#include "base/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct oct_mailbox {
    pthread_mutex_t lock;
    TAILQ_HEAD(, oct_mail) mails; // oldest first; guarded by lock
    size_t count;                 // of mails
    int wake_fd;                  // eventfd: readable while there may be mail
    struct event *wake;
};

static void ring(struct oct_mailbox *mailbox) {
    uint64_t one = 1;
    ssize_t written = write(mailbox->wake_fd, &one, sizeof one); // fails only when the counter is full: then it is readable anyway
    (void)written;
}

static struct oct_mail *take(struct oct_mailbox *mailbox, size_t *left) {
    pthread_mutex_lock(&mailbox->lock);
    struct oct_mail *mail = TAILQ_FIRST(&mailbox->mails);
    if (mail) {
        TAILQ_REMOVE(&mailbox->mails, mail, link);
        mail->posted = false;
        mailbox->count--;
    }
    *left = mailbox->count;
    pthread_mutex_unlock(&mailbox->lock);
    return mail;
}

static void on_wake(evutil_socket_t fd, short what, void *context) {
    (void)what;
    struct oct_mailbox *mailbox = context;
    uint64_t rings;
    ssize_t got = read(fd, &rings, sizeof rings);
    (void)got;
    pthread_mutex_lock(&mailbox->lock);
    size_t now = mailbox->count;
    pthread_mutex_unlock(&mailbox->lock);
    // No more than was there at the start: a busy engine must not keep the loop from its sockets.
    size_t left = now;
    for (size_t i = 0; i < now; i++) {
        struct oct_mail *mail = take(mailbox, &left);
        if (!mail) break;
        mail->deliver(mail);
    }
    if (left > 0) ring(mailbox);
}

oct_status oct_mailbox_open(struct event_base *base, struct oct_mailbox **out, oct_error *err) {
    struct oct_mailbox *mailbox = oct_alloc(1, sizeof *mailbox, "the mailbox");
    pthread_mutex_init(&mailbox->lock, NULL);
    TAILQ_INIT(&mailbox->mails);
    mailbox->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (mailbox->wake_fd < 0) {
        oct_status status = oct_fail(err, OCT_IO, "eventfd: %s", strerror(errno));
        pthread_mutex_destroy(&mailbox->lock);
        free(mailbox);
        return status;
    }
    mailbox->wake = event_new(base, mailbox->wake_fd, EV_READ | EV_PERSIST, on_wake, mailbox);
    OCT_CHECK(mailbox->wake);
    event_add(mailbox->wake, NULL);
    *out = mailbox;
    return OCT_OK;
}

void oct_mailbox_close(struct oct_mailbox *mailbox) {
    if (!mailbox) return;
    event_free(mailbox->wake);
    close(mailbox->wake_fd);
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

void oct_mailbox_post(struct oct_mailbox *mailbox, struct oct_mail *mail) {
    pthread_mutex_lock(&mailbox->lock);
    bool was_empty = mailbox->count == 0;
    if (!mail->posted) {
        mail->posted = true;
        TAILQ_INSERT_TAIL(&mailbox->mails, mail, link);
        mailbox->count++;
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (was_empty) ring(mailbox);
}

void oct_mailbox_retract(struct oct_mailbox *mailbox, struct oct_mail *mail) {
    pthread_mutex_lock(&mailbox->lock);
    if (mail->posted) {
        TAILQ_REMOVE(&mailbox->mails, mail, link);
        mail->posted = false;
        mailbox->count--;
    }
    pthread_mutex_unlock(&mailbox->lock);
}
