// Strings as the template language sees them: sequences of code points. Every result carries the marks of the bytes it came from.
#include "text/jinja_value.h"

#include "text/unicode.h"

#include <utf8proc.h>

size_t jinja_count_characters(struct oct_span span) {
    size_t count = 0;
    for (size_t i = 0; i < span.length; i++) count += ((unsigned char)span.text[i] & 0xC0) != 0x80;
    return count;
}

size_t jinja_character_offset(struct oct_span span, size_t index) {
    size_t i = 0;
    uint32_t code;
    for (; index && i < span.length; index--) i += oct_utf8_next(span.text + i, &code);
    return i;
}

bool jinja_is_space(uint32_t code) {
    return oct_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

static bool is_stripped(uint32_t code, const struct oct_span *characters) {
    if (!characters) return jinja_is_space(code);
    uint32_t other;
    for (size_t i = 0; i < characters->length;) {
        i += oct_utf8_next(characters->text + i, &other);
        if (other == code) return true;
    }
    return false;
}

struct oct_span jinja_strip(struct oct_span span, const struct oct_span *characters, bool left, bool right) {
    size_t start = 0, end = span.length;
    uint32_t code;
    while (left && start < end) {
        size_t n = oct_utf8_next(span.text + start, &code);
        if (!is_stripped(code, characters)) break;
        start += n;
    }
    while (right && end > start) {
        size_t before = oct_utf8_before(span.text, end);
        oct_utf8_next(span.text + before, &code);
        if (!is_stripped(code, characters)) break;
        end = before;
    }
    return oct_subspan(span, start, end);
}

size_t jinja_find(struct oct_span text, struct oct_span part, size_t from) {
    if (from > text.length) return SIZE_MAX;
    if (!part.length) return from;
    const char *found = memmem(text.text + from, text.length - from, part.text, part.length);
    return found ? (size_t)(found - text.text) : SIZE_MAX;
}

size_t jinja_find_last(struct oct_span text, struct oct_span part, size_t end) {
    if (part.length > end) return SIZE_MAX;
    for (size_t i = end - part.length + 1; i-- > 0;) {
        if (memcmp(text.text + i, part.text, part.length) == 0) return i;
    }
    return SIZE_MAX;
}

struct jinja_value jinja_replace(struct jinja *j, struct oct_span text, struct oct_span old, struct oct_span new, int64_t count) {
    struct jinja_text out = {0};
    size_t at = 0;
    uint32_t code;
    jinja_charge(j, text.length);
    while (count != 0) {
        size_t found = jinja_find(text, old, at);
        if (found == SIZE_MAX) break;
        jinja_text_add(j, &out, oct_subspan(text, at, found));
        jinja_text_add(j, &out, new);
        jinja_charge(j, 0);
        at = found + old.length;
        if (count > 0) count--;
        if (old.length) continue;
        if (at >= text.length) return jinja_text_value(j, &out); // an empty pattern matches before each character and at the end
        size_t n = oct_utf8_next(text.text + at, &code);
        jinja_text_add(j, &out, oct_subspan(text, at, at + n));
        at += n;
    }
    jinja_text_add(j, &out, oct_subspan(text, at, text.length));
    return jinja_text_value(j, &out);
}

struct jinja_value jinja_escape(struct jinja *j, struct jinja_value value) {
    static const char *const escapes[128] = {['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;", ['\''] = "&#39;"};
    struct oct_span span = *jinja_to_string(j, value).string;
    struct jinja_text out = {0};
    if (jinja_is_string(value) && value.safe) return value;
    for (size_t i = 0; i < span.length; i++) {
        unsigned char c = (unsigned char)span.text[i];
        const char *escape = c < 128 ? escapes[c] : NULL;
        unsigned char marks[8];
        memset(marks, span.marks ? span.marks[i] : 0, sizeof marks);
        jinja_text_add(j, &out, escape ? (struct oct_span){escape, marks, strlen(escape)} : oct_subspan(span, i, i + 1));
    }
    struct jinja_value result = jinja_text_value(j, &out);
    result.safe = true;
    return result;
}

static bool is_cased(uint32_t code) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

// Upper, lower or title case of one code point, as up to 3 of them (of the cases that grow, the common ones).
static size_t map_case(uint32_t code, enum jinja_case how, uint32_t out[3]) {
    bool upper = how == JINJA_UPPER, title = how == JINJA_TITLE;
    if (code == 0xDF && (upper || title)) return out[0] = 'S', out[1] = upper ? 'S' : 's', 2; // sharp s
    if (code == 0x130 && how == JINJA_LOWER) return out[0] = 'i', out[1] = 0x307, 2;
    if (code >= 0xFB00 && code <= 0xFB06 && (upper || title)) { // ligatures of f and s
        static const char *const letters[] = {"ff", "fi", "fl", "ffi", "ffl", "st", "st"};
        const char *text = letters[code - 0xFB00];
        size_t n = strlen(text);
        for (size_t i = 0; i < n; i++) out[i] = (uint32_t)(upper || i == 0 ? text[i] - 32 : text[i]);
        return n;
    }
    utf8proc_int32_t c = (utf8proc_int32_t)code;
    out[0] = (uint32_t)(upper ? utf8proc_toupper(c) : title ? utf8proc_totitle(c) : utf8proc_tolower(c));
    return 1;
}

struct jinja_value jinja_change_case(struct jinja *j, struct oct_span span, enum jinja_case how) {
    struct jinja_text out = {0};
    bool inside = false; // behind a cased letter
    for (size_t i = 0, n; i < span.length; i += n) {
        uint32_t code, mapped[3];
        n = oct_utf8_next(span.text + i, &code);
        enum jinja_case one = how;
        if (how == JINJA_CAPITALIZE) one = i == 0 ? JINJA_TITLE : JINJA_LOWER;
        if (how == JINJA_TITLE) one = inside ? JINJA_LOWER : JINJA_TITLE;
        if (how == JINJA_SWAP) one = utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_LU ? JINJA_LOWER : JINJA_UPPER;
        inside = is_cased(code);
        size_t count = map_case(code, one, mapped);
        char bytes[12];
        unsigned char marks[12];
        size_t length = 0;
        for (size_t k = 0; k < count; k++) length += oct_utf8_encode(mapped[k], bytes + length);
        memset(marks, span.marks ? span.marks[i] : 0, sizeof marks);
        jinja_text_add(j, &out, (struct oct_span){bytes, marks, length});
    }
    return jinja_text_value(j, &out);
}
