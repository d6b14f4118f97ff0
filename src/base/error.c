// error.c: messages of errors, and the end of the program at a broken assertion.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *oct_status_name(oct_status status) {
    static const char *const names[] = {
        [OCT_OK] = "ok",
        [OCT_INVALID_ARGUMENT] = "invalid argument",
        [OCT_NOT_FOUND] = "not found",
        [OCT_CORRUPT] = "corrupt file",
        [OCT_UNSUPPORTED] = "unsupported",
        [OCT_IO] = "input/output error",
        [OCT_OUT_OF_MEMORY] = "out of memory",
        [OCT_CANCELLED] = "cancelled",
        [OCT_INTERNAL] = "internal error",
        [OCT_UNAVAILABLE] = "unavailable",
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown status";
}

oct_status oct_fail(oct_error *err, oct_status code, const char *format, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return code;
}

_Noreturn void oct_check_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "octavo: bug: %s:%d: (%s) does not hold\n", file, line, condition);
    abort();
}
