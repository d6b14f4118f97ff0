// json_cursor.h: walks over JSON text in place, without making a tree: for the vocabulary and the merges of a tokenizer.json, which are
// nearly all of its bytes. jansson is not used for those because it makes a heap block of each of their 400,000 strings and numbers, and
// hashes every key: two thirds of the time that loading Llama 3's tokenizer took. What these functions accept, jansson accepts (but for
// U+0000 in a key); they are tested against it.
#pragma once

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oct_json_cursor {
    const char *at, *end; // the caller's text; every function begins by passing over white space
};

// Bytes of a string: of the text itself, or, where it has escapes, unescaped into the caller's buffer.
struct oct_json_text {
    const char *bytes; // (length) valid UTF-8, not NUL-terminated
    size_t length;
};

// Passes over `symbol`, one of {}[]:, if it comes next.
bool oct_json_take(struct oct_json_cursor *cursor, char symbol);
// Whether `symbol` comes next; passes over nothing but white space.
bool oct_json_next_is(struct oct_json_cursor *cursor, char symbol);
// Each false: no such value comes next; the cursor then stands anywhere. An integer of more than 18 digits is none.
bool oct_json_take_string(struct oct_json_cursor *cursor, struct oct_buffer *unescaped, struct oct_json_text *out);
bool oct_json_take_integer(struct oct_json_cursor *cursor, int64_t *out);
// Passes over any value of valid JSON; of what is not JSON, over something.
bool oct_json_skip(struct oct_json_cursor *cursor);
