// stop_strings.h: finds stop strings in text that comes in pieces, and holds back what might become one.
#pragma once

#include "base/buffer.h"

#include <stddef.h>

struct oct_stop_strings {
    char **strings; // (count) NUL-terminated, not empty. Owned
    size_t count;
    struct oct_buffer held; // the end of the text so far: the beginning of some stop string
};

// Copies `strings` (count).
void oct_stop_strings_open(struct oct_stop_strings *stops, const char *const *strings, size_t count);
void oct_stop_strings_close(struct oct_stop_strings *stops);

// Takes `length` more bytes, and appends to *out what can no longer belong to a stop string. Where one is found, only the text before
// it, and the stop string is returned (the one that begins first; of several, the first in the list). Else NULL.
const char *oct_stop_strings_push(struct oct_stop_strings *stops, const char *text, size_t length, struct oct_buffer *out);
// Appends what was held back: the text is over, or stop strings do not count yet.
void oct_stop_strings_flush(struct oct_stop_strings *stops, struct oct_buffer *out);
