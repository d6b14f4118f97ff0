// octavo_error.h: how every Octavo function reports failure. Part of the public API (octavo.h includes it), and the one
// public header that all internal layers use too, so that an error made at the bottom reaches the caller unchanged.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef enum oct_status {
    OCT_OK = 0,
    OCT_INVALID_ARGUMENT, // the caller passed something that can never work: a bad flag, parameter or request
    OCT_NOT_FOUND,        // a file, tensor, model or field that was named does not exist
    OCT_CORRUPT,          // a file contradicts its own format: truncated, out of range, inconsistent
    OCT_UNSUPPORTED,      // well formed, but Octavo does not implement it
    OCT_IO,               // the operating system refused to read or write
    OCT_OUT_OF_MEMORY,    // a large allocation (weights, KV blocks) failed
    OCT_CANCELLED,        // the caller cancelled the work
    OCT_INTERNAL,         // a numeric failure such as NaN logits; never a caller's mistake
    OCT_UNAVAILABLE       // not now: too many requests wait, or the engine has stopped working
} oct_status;

typedef struct oct_error {
    oct_status code;
    char message[1024]; // UTF-8, one line, no trailing newline: names the thing, what was expected and what was found
} oct_error;

// Short lower-case name of a status, e.g. "not found". Static storage.
__attribute__((visibility("default"))) const char *oct_status_name(oct_status status);

#ifdef __cplusplus
}
#endif
