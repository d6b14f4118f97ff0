// Before compilation the source is rewritten: \s becomes the 25 White_Space code points (PCRE2's \s has U+180E too), and each \p{X}
// gets the ranges that were assigned after PCRE2's Unicode.
#include "text/pattern.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "text/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERN_BYTES 65536
#define MATCH_LIMIT       10000000

struct oct_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
};

static const char space_ranges[] =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";

// Length of a \p{X}, \P{X} or \pX escape at source[0], and the name of its class. 0: it is none.
static size_t property_escape(const char *source, size_t length, char name[8]) {
    if (length < 3 || (source[1] != 'p' && source[1] != 'P')) return 0;
    if (source[2] != '{') {
        name[0] = source[2], name[1] = '\0';
        return 3;
    }
    const char *close = memchr(source, '}', length);
    size_t n = close ? (size_t)(close - source) - 3 : 0;
    if (!close || n == 0 || n >= 8) return 0;
    memcpy(name, source + 3, n);
    name[n] = '\0';
    return n + 4;
}

static void add_new_ranges(struct oct_buffer *out, const char *name) {
    for (size_t i = 0; i < oct_num_new_ranges; i++) {
        const struct oct_new_range *range = &oct_new_ranges[i];
        if (strcmp(range->category, name) == 0) oct_buffer_printf(out, "\\x{%X}-\\x{%X}", range->first, range->last);
    }
}

static oct_status translate(const char *where, const char *source, size_t length, struct oct_buffer *out, oct_error *err) {
    bool in_class = false;
    for (size_t i = 0, n; i < length; i += n) {
        n = 1;
        char name[8];
        if (source[i] != '\\' || i + 1 == length) {
            if (source[i] == '[' && in_class && i + 1 < length && (source[i + 1] == ':' || source[i + 1] == '[')) {
                return oct_fail(err, OCT_UNSUPPORTED, "%s: nested character classes are not supported in a pattern", where);
            }
            if (source[i] == '[' && !in_class) {
                in_class = true;
                while (i + n < length && (source[i + n] == '^' || source[i + n] == ']')) {
                    n++;
                    if (source[i + n - 1] == ']') break;
                }
            } else if (source[i] == ']') {
                in_class = false;
            }
            oct_buffer_append(out, source + i, n);
            continue;
        }
        char kind = source[i + 1];
        n = property_escape(source + i, length - i, name);
        if (n && kind == 'P' && in_class) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: \\P inside a character class is not supported in a pattern", where);
        }
        if (n) {
            if (!in_class) oct_buffer_puts(out, kind == 'P' ? "[^" : "[");
            oct_buffer_printf(out, "\\p{%s}", name);
            add_new_ranges(out, name);
            if (!in_class) oct_buffer_puts(out, "]");
            continue;
        }
        n = 2;
        if (kind == 'S' && in_class) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: \\S inside a character class is not supported in a pattern", where);
        }
        if (kind == 's' && in_class) {
            oct_buffer_puts(out, space_ranges);
        } else if (kind == 's' || kind == 'S') {
            oct_buffer_printf(out, "[%s%s]", kind == 'S' ? "^" : "", space_ranges);
        } else {
            oct_buffer_append(out, source + i, 2);
        }
    }
    return OCT_OK;
}

oct_status oct_pattern_compile(const char *where, const char *source, size_t length, bool literal, struct oct_pattern **out,
                               oct_error *err) {
    *out = NULL;
    if (length > MAX_PATTERN_BYTES) {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: a pattern of at most %d bytes expected, %zu found", where, MAX_PATTERN_BYTES, length);
    }
    struct oct_buffer translated = {0};
    oct_status status = OCT_OK;
    if (literal) {
        oct_buffer_append(&translated, source, length);
    } else {
        status = translate(where, source, length, &translated, err);
    }
    if (status != OCT_OK) goto out;
    int problem;
    PCRE2_SIZE at;
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)(translated.data ? translated.data : ""), translated.length, options, &problem, &at, NULL);
    if (!code) {
        PCRE2_UCHAR text[256];
        pcre2_get_error_message(problem, text, sizeof text);
        status = oct_fail(err, OCT_UNSUPPORTED, "%s: pattern %.*s: %s", where, (int)(length < 200 ? length : 200), source, (char *)text);
        goto out;
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // where the processor has no JIT, pcre2_match interprets
    *out = oct_alloc(1, sizeof **out, "a pattern");
    (*out)->code = code;
    (*out)->limits = pcre2_match_context_create(NULL);
    OCT_CHECK((*out)->limits);
    pcre2_set_match_limit((*out)->limits, MATCH_LIMIT);
out:
    oct_buffer_free(&translated);
    return status;
}

void oct_pattern_free(struct oct_pattern *pattern) {
    if (!pattern) return;
    pcre2_match_context_free(pattern->limits);
    pcre2_code_free(pattern->code);
    free(pattern);
}

bool oct_pattern_find(const struct oct_pattern *pattern, const char *text, size_t length, size_t from, size_t *start, size_t *end) {
    static _Thread_local pcre2_match_data *match; // one small block a thread, kept: creating it costs more than a match
    if (!match) match = pcre2_match_data_create(1, NULL);
    OCT_CHECK(match);
    while (from < length) {
        int found = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, match, pattern->limits);
        if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
            found = pcre2_match(pattern->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, pattern->limits);
        }
        if (found < 0) return false;
        PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
        *start = span[0], *end = span[1];
        if (*end > *start) return true;
        uint32_t code;
        if (*start >= length) return false;
        from = *start + oct_utf8_next(text + *start, &code);
    }
    return false;
}
