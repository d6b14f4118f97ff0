// clock.h: a monotonic clock.
#pragma once

#include <time.h>

static inline double oct_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
