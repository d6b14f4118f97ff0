// api_error.h: an error as the client sees it: {"error":{"message","type","param","code"}}, vLLM's shape, or {"detail"} where FastAPI
// itself would have answered.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "server/connection.h"
#include "server/json_writer.h"

#include <stdbool.h>

struct oct_api_error {
    int status;                       // HTTP status; 0: no error
    const char *type;                 // "BadRequestError", ...; static. NULL: the {"detail": message} shape
    struct oct_buffer message, param; // param empty: null
};

// Fills *error, unless it holds an earlier error already; returns false, so that a check fails with
//     return oct_api_fail(error, "temperature", "temperature must be non-negative, got %s.", ...);
// 400 "BadRequestError". `param` may be NULL.
bool oct_api_fail(struct oct_api_error *error, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));
// Any status; its type is the one vLLM uses for it.
bool oct_api_fail_status(struct oct_api_error *error, int status, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// {"detail": text}
bool oct_api_fail_detail(struct oct_api_error *error, int status, const char *text);
// An error of the engine: what a caller can cause is a 400, the rest a 500 or 503.
bool oct_api_fail_engine(struct oct_api_error *error, const oct_error *cause);
void oct_api_error_free(struct oct_api_error *error); // back to no error

void oct_api_error_write(const struct oct_api_error *error, struct oct_json_writer *writer);
void oct_api_error_reply(const struct oct_api_error *error, struct oct_connection *connection);
