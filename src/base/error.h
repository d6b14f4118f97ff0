// error.h: making and passing on errors, and assertions that stay in release builds.
#pragma once

#include "octavo_error.h"

#include <stddef.h>

// Fills *err (which may be NULL) with `code` and a printf-formatted message; returns `code`, so that a function fails with
//     return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: shape [%d] expected, [%d] found", ...);
oct_status oct_fail(oct_error *err, oct_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));

// Leaves the function with the status of `expr` unless it is OCT_OK.
#define OCT_TRY(expr)                                                                                                                      \
    do {                                                                                                                                   \
        oct_status oct_try_status_ = (expr);                                                                                               \
        if (oct_try_status_ != OCT_OK) return oct_try_status_;                                                                             \
    } while (0)

// A condition only a bug in Octavo can break. Prints the place and aborts, in every build.
#define OCT_CHECK(condition) ((condition) ? (void)0 : oct_check_failed(#condition, __FILE__, __LINE__))
_Noreturn void oct_check_failed(const char *condition, const char *file, int line);
