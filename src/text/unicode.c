// UTF-8 by the table of Unicode 3.9 (well-formed byte sequences); classes by one flat table made from the generated ranges.
#include "text/unicode.h"

#include <pthread.h>

static uint8_t class_table[0x110000];
static pthread_once_t class_table_once = PTHREAD_ONCE_INIT;

bool oct_is_space(uint32_t code) {
    if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13);
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

static void build_class_table(void) {
    for (size_t i = 0; i < oct_num_class_ranges; i++) {
        const struct oct_class_range *range = &oct_class_ranges[i];
        for (uint32_t code = range->first; code <= range->last; code++) class_table[code] = range->classes;
    }
    for (uint32_t code = 0; code <= 0x3000; code++) {
        if (oct_is_space(code)) class_table[code] |= OCT_SPACE;
    }
}

const uint8_t *oct_classes(void) {
    pthread_once(&class_table_once, build_class_table);
    return class_table;
}

// What may follow a lead byte: how many bytes, and the bounds of the first of them (which shut out overlong forms, surrogates and
// what lies past U+10FFFF). 0: not a lead byte.
static int lead(unsigned char byte, unsigned char *low, unsigned char *high) {
    *low = 0x80, *high = 0xBF;
    if (byte >= 0xC2 && byte <= 0xDF) return 1;
    if (byte >= 0xE0 && byte <= 0xEF) {
        if (byte == 0xE0) *low = 0xA0;
        if (byte == 0xED) *high = 0x9F;
        return 2;
    }
    if (byte >= 0xF0 && byte <= 0xF4) {
        if (byte == 0xF0) *low = 0x90;
        if (byte == 0xF4) *high = 0x8F;
        return 3;
    }
    return 0;
}

size_t oct_utf8_decode(const char *text, size_t length, uint32_t *code) {
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) return *code = at[0], 1;
    unsigned char low, high;
    size_t more = (size_t)lead(at[0], &low, &high);
    if (!more || more >= length || at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i <= more; i++) {
        if ((at[i] & 0xC0) != 0x80) return 0;
    }
    return oct_utf8_next(text, code);
}

size_t oct_utf8_encode(uint32_t code, char *out) {
    if (code < 0x80) return out[0] = (char)code, 1;
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

bool oct_utf8_valid(const char *text, size_t length) {
    uint32_t code;
    for (size_t i = 0, n; i < length; i += n) {
        if (!(n = oct_utf8_decode(text + i, length - i, &code))) return false;
    }
    return true;
}

size_t oct_utf8_bad_part(const char *text, size_t length, bool *incomplete) {
    const unsigned char *at = (const unsigned char *)text;
    unsigned char low, high;
    size_t more = (size_t)lead(at[0], &low, &high), n = 1;
    *incomplete = false;
    if (!more) return 1;
    while (n <= more && n < length && at[n] >= low && at[n] <= high) n++, low = 0x80, high = 0xBF;
    *incomplete = n == length;
    return n;
}
