// progress.h: long work tells how far it is. The receiver decides whether that is a bar, a log line or nothing.
#pragma once

#include <stddef.h>

struct oct_progress {
    // Called from the working thread, `done` of `total` steps of `what` being over. Returns nonzero to ask the work to stop.
    int (*report)(void *context, const char *what, size_t done, size_t total);
    void *context;
};

// Reports through `progress`, which may be NULL. Nonzero: the receiver asks to stop.
static inline int oct_progress_report(const struct oct_progress *progress, const char *what, size_t done, size_t total) {
    return progress && progress->report ? progress->report(progress->context, what, done, total) : 0;
}
