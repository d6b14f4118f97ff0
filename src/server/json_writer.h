// json_writer.h: writes JSON text straight into a buffer, commas included. Cheaper than building a tree for each SSE event, and the
// order of the keys is the order of the calls. Numbers print as the shortest decimal that reads back to the same double.
#pragma once

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Zero-initialise to start. The text is in `out`; release it with oct_buffer_free(&writer.out).
struct oct_json_writer {
    struct oct_buffer out;
    bool comma; // the next value or key needs one before it
};

void oct_json_open(struct oct_json_writer *writer, char bracket);  // '{' or '['
void oct_json_close(struct oct_json_writer *writer, char bracket); // '}' or ']'
void oct_json_key(struct oct_json_writer *writer, const char *name);
// Bytes that are not UTF-8 are written as U+FFFD: the output is valid JSON whatever comes in.
void oct_json_string(struct oct_json_writer *writer, const char *text, size_t length);
void oct_json_text(struct oct_json_writer *writer, const char *text); // NULL: null
void oct_json_integer(struct oct_json_writer *writer, int64_t value);
void oct_json_real(struct oct_json_writer *writer, double value); // finite
void oct_json_bool(struct oct_json_writer *writer, bool value);
void oct_json_null(struct oct_json_writer *writer);
void oct_json_raw(struct oct_json_writer *writer, const char *json, size_t length); // one value, already JSON

// The number as Python's repr prints it: "-1.0", "0.1", "1e-05", "inf", "nan".
void oct_format_real(double value, char text[32]);
// Bytes of the UTF-8 character that starts at text (1 to 4), or 0 where the bytes are not UTF-8. length > 0.
size_t oct_utf8_length(const char *text, size_t length);
