// log.c: a line is formatted whole and written by one call.
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static atomic_int lowest = OCT_LOG_WARNING;

void oct_log_set_level(enum oct_log_level level) {
    atomic_store(&lowest, (int)level);
}

void oct_log(enum oct_log_level level, const char *format, ...) {
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    if ((int)level < atomic_load(&lowest)) return;
    char message[2048], stamp[32];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%m-%d %H:%M:%S", localtime_r(&now, &local));
    fprintf(stderr, "%s %s %s\n", names[level], stamp, message); // one call: lines of several threads do not mix
}
