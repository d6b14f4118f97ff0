// unicode.h: UTF-8 and the classes of code points, as the reference tokenizers see them (Unicode 16; \s and White_Space fixed).
#pragma once

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum oct_class {
    OCT_LETTER = 1,
    OCT_NUMBER = 2, // \p{N}
    OCT_MARK = 4,
    OCT_PUNCTUATION = 8,
    OCT_SYMBOL = 16,
    OCT_NUMERIC = 32, // what the Digits pre-tokenizer splits off: \p{N} and a few younger ones
    OCT_SPACE = 64,   // White_Space, which is also \s
};

struct oct_class_range {
    uint32_t first, last; // inclusive
    uint8_t classes;      // OCT_LETTER | ...
};
extern const struct oct_class_range oct_class_ranges[];
extern const size_t oct_num_class_ranges;

// Code points assigned after Unicode 14, by the general category whose pattern (\p{L}, \p{Lu}, ...) matches them.
struct oct_new_range {
    char category[3];
    uint32_t first, last; // inclusive
};
extern const struct oct_new_range oct_new_ranges[];
extern const size_t oct_num_new_ranges;

// The table of classes by code point, 0x110000 entries. Built at the first call; any thread may call.
const uint8_t *oct_classes(void);

bool oct_is_space(uint32_t code);

// The length in bytes (1 to 4) of the valid character at text[0..length), length > 0, and its code point. 0: it is not valid there.
size_t oct_utf8_decode(const char *text, size_t length, uint32_t *code);
// The same for text known to be valid.
static inline size_t oct_utf8_next(const char *text, uint32_t *code) {
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) return *code = at[0], 1;
    if (at[0] < 0xE0) return *code = (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu), 2;
    if (at[0] < 0xF0) return *code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu), 3;
    return *code = (at[0] & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu), 4;
}
// The start of the character that ends at text[end), end > 0; text is valid.
static inline size_t oct_utf8_before(const char *text, size_t end) {
    do end--;
    while (end && ((unsigned char)text[end] & 0xC0) == 0x80);
    return end;
}
// Bytes of `code` written to out[4].
size_t oct_utf8_encode(uint32_t code, char *out);
// Whether all of text is valid UTF-8.
bool oct_utf8_valid(const char *text, size_t length);
// Bytes (1 to 3) of the maximal invalid part at text[0], where oct_utf8_decode gave 0: they become one U+FFFD. *incomplete: the text
// ends inside a character that could still become valid.
size_t oct_utf8_bad_part(const char *text, size_t length, bool *incomplete);

#define OCT_REPLACEMENT "\xEF\xBF\xBD" // U+FFFD
