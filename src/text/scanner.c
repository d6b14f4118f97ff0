// scanner.c: each pattern as one function: look at the class of the first character, then run to the end of its alternative.
#include "text/scanner.h"

#include "text/unicode.h"

#include <stdbool.h>

struct scanner {
    const uint8_t *classes;
    const char *text;
    size_t length;
};

// The classes of the character at `at` and its length; 0 and 0 past the end.
static unsigned class_at(const struct scanner *in, size_t at, size_t *n) {
    if (at >= in->length) return *n = 0, 0;
    uint32_t code;
    *n = oct_utf8_next(in->text + at, &code);
    return in->classes[code];
}

// Passes over characters that have one of `classes`.
static size_t skip(const struct scanner *in, size_t at, unsigned classes) {
    size_t n;
    while (class_at(in, at, &n) & classes) at += n;
    return at;
}

// Passes over characters that are neither space, letter nor number.
static size_t skip_other(const struct scanner *in, size_t at) {
    size_t n;
    while (at < in->length && !(class_at(in, at, &n) & (OCT_SPACE | OCT_LETTER | OCT_NUMBER))) at += n;
    return at;
}

// The length of 's 't 're 've 'm 'll 'd at text[at], where an apostrophe stands; 0: none of them.
static size_t contraction(const struct scanner *in, size_t at, bool any_case) {
    size_t left = in->length - at - 1;
    const char *text = in->text + at + 1;
    char fold = any_case ? 0x20 : 0;
    if (left >= 1) {
        char c = (char)(text[0] | fold);
        if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
    }
    if (left >= 2) {
        char a = (char)(text[0] | fold), b = (char)(text[1] | fold);
        if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return 3;
        if (any_case && text[0] == '\xC5' && text[1] == '\xBF') return 3; // U+017F is an s to a caseless match
    }
    return 0;
}

// The end of the run of white space at `at`, less its last character where more text follows and the run has others:
// \s+(?!\S), or else \s+.
static size_t scan_space(const struct scanner *in, size_t at) {
    size_t end = skip(in, at, OCT_SPACE);
    if (end == in->length) return end;
    size_t last = oct_utf8_before(in->text, end);
    return last > at ? last : end;
}

size_t oct_scan_gpt2(const char *text, size_t length, size_t at) {
    struct scanner in = {oct_classes(), text, length};
    if (text[at] == '\'') {
        size_t n = contraction(&in, at, false);
        if (n) return at + n;
    }
    size_t first = at + (text[at] == ' '), n;
    unsigned classes = class_at(&in, first, &n);
    if (n && !(classes & OCT_SPACE)) {
        if (classes & OCT_LETTER) return skip(&in, first + n, OCT_LETTER);
        if (classes & OCT_NUMBER) return skip(&in, first + n, OCT_NUMBER);
        return skip_other(&in, first + n);
    }
    return scan_space(&in, at);
}

size_t oct_scan_llama3(const char *text, size_t length, size_t at, int max_digits) {
    struct scanner in = {oct_classes(), text, length};
    if (text[at] == '\'') {
        size_t n = contraction(&in, at, true);
        if (n) return at + n;
    }
    size_t n, next;
    unsigned classes = class_at(&in, at, &n);
    if (classes & OCT_LETTER) return skip(&in, at + n, OCT_LETTER);
    if (classes & OCT_NUMBER) {
        for (int digits = 0; digits < max_digits && class_at(&in, at, &n) & OCT_NUMBER; digits++) at += n;
        return at;
    }
    if (text[at] != '\r' && text[at] != '\n' && class_at(&in, at + n, &next) & OCT_LETTER) return skip(&in, at + n + next, OCT_LETTER);
    size_t first = at + (text[at] == ' ');
    size_t end = skip_other(&in, first);
    if (end > first) {
        while (end < length && (text[end] == '\r' || text[end] == '\n')) end++;
        return end;
    }
    end = skip(&in, at, OCT_SPACE);
    for (size_t i = end; i > at; i--) {
        if (text[i - 1] == '\r' || text[i - 1] == '\n') return i;
    }
    return scan_space(&in, at);
}
