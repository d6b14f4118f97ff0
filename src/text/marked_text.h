// marked_text.h: text with a mark for each byte that came out of a message (1) rather than out of the template (0). Marks travel
// through every step between a message and the token ids, so that a message can never spell a special token.
#pragma once

#include "base/buffer.h"

#include <stdbool.h>
#include <string.h>

struct oct_span {
    const char *text;           // (length) UTF-8, not NUL-terminated
    const unsigned char *marks; // (length) 0 or 1; NULL: all 0
    size_t length;
};

struct oct_marked_text {
    struct oct_buffer text, marks; // marks is as long as text where has_marks, else empty
    bool has_marks;                // set before the first append
};

// Bytes of the text that a caller gave: where a token, or a byte of normalized text, comes from.
struct oct_range {
    size_t start, end;
};

struct oct_ranges {
    struct oct_range *data; // (count) owned; free() it
    size_t count, capacity;
};
// Appends `count` times the same range.
void oct_ranges_append(struct oct_ranges *ranges, struct oct_range range, size_t count);

static inline struct oct_span oct_subspan(struct oct_span span, size_t start, size_t end) {
    return (struct oct_span){span.text + start, span.marks ? span.marks + start : NULL, end - start};
}

static inline bool oct_span_is_marked(struct oct_span span) {
    return span.marks && memchr(span.marks, 1, span.length);
}

static inline struct oct_span oct_marked_span(const struct oct_marked_text *marked) {
    const char *text = marked->text.data ? marked->text.data : "";
    return (struct oct_span){text, marked->has_marks ? (const unsigned char *)marked->marks.data : NULL, marked->text.length};
}

void oct_marked_append(struct oct_marked_text *marked, struct oct_span span);
// `length` bytes, each with the same mark.
void oct_marked_append_text(struct oct_marked_text *marked, const char *text, size_t length, bool mark);
void oct_marked_clear(struct oct_marked_text *marked); // keeps the memory
void oct_marked_free(struct oct_marked_text *marked);
