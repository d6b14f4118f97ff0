// json_cursor.c: strings and integers of JSON, read in place and as strictly as jansson does.
#include "text/json_cursor.h"

#include "text/unicode.h"

#include <string.h>

static void skip_space(struct oct_json_cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n' || *cursor->at == '\t' || *cursor->at == '\r'))
        cursor->at++;
}

bool oct_json_next_is(struct oct_json_cursor *cursor, char symbol) {
    skip_space(cursor);
    return cursor->at < cursor->end && *cursor->at == symbol;
}

bool oct_json_take(struct oct_json_cursor *cursor, char symbol) {
    if (!oct_json_next_is(cursor, symbol)) return false;
    cursor->at++;
    return true;
}

static bool take_hexadecimal(struct oct_json_cursor *cursor, uint32_t *out) {
    if (cursor->end - cursor->at < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *cursor->at++, letter = (char)(c | 0x20);
        if (c >= '0' && c <= '9') {
            *out = *out << 4 | (uint32_t)(c - '0');
        } else if (letter >= 'a' && letter <= 'f') {
            *out = *out << 4 | (uint32_t)(letter - 'a' + 10);
        } else {
            return false;
        }
    }
    return true;
}

// The character behind \u: one unit of UTF-16, or two of them as a pair. Half a pair is none.
static bool take_code(struct oct_json_cursor *cursor, uint32_t *out) {
    uint32_t low;
    if (!take_hexadecimal(cursor, out)) return false;
    if (*out < 0xD800 || *out > 0xDFFF) return true;
    if (*out > 0xDBFF || cursor->end - cursor->at < 2 || memcmp(cursor->at, "\\u", 2) != 0) return false;
    cursor->at += 2;
    if (!take_hexadecimal(cursor, &low) || low < 0xDC00 || low > 0xDFFF) return false;
    *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
    return true;
}

static bool take_escape(struct oct_json_cursor *cursor, struct oct_buffer *out) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (cursor->at == cursor->end) return false;
    char name = *cursor->at++, bytes[4];
    uint32_t code;
    if (name == 'u') {
        if (!take_code(cursor, &code)) return false;
        oct_buffer_append(out, bytes, oct_utf8_encode(code, bytes));
        return true;
    }
    const char *found = name ? strchr(names, name) : NULL;
    if (found) oct_buffer_append(out, &meanings[found - names], 1);
    return found;
}

// Passes over the ordinary characters of a string. false: one of them is not allowed.
static bool take_plain(struct oct_json_cursor *cursor, struct oct_json_text *out) {
    const char *at = cursor->at;
    unsigned char all = 0;
    while (at < cursor->end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20) all |= (unsigned char)*at++;
    *out = (struct oct_json_text){cursor->at, (size_t)(at - cursor->at)};
    cursor->at = at;
    return at < cursor->end && (unsigned char)*at >= 0x20 && (all < 0x80 || oct_utf8_valid(out->bytes, out->length));
}

bool oct_json_take_string(struct oct_json_cursor *cursor, struct oct_buffer *unescaped, struct oct_json_text *out) {
    if (!oct_json_take(cursor, '"') || !take_plain(cursor, out)) return false;
    if (*cursor->at == '"') return cursor->at++, true;
    struct oct_json_text part = *out;
    unescaped->length = 0;
    oct_buffer_append(unescaped, part.bytes, part.length);
    while (*cursor->at++ == '\\') {
        if (!take_escape(cursor, unescaped) || !take_plain(cursor, &part)) return false;
        oct_buffer_append(unescaped, part.bytes, part.length);
    }
    *out = (struct oct_json_text){unescaped->data, unescaped->length};
    return true;
}

bool oct_json_take_integer(struct oct_json_cursor *cursor, int64_t *out) {
    bool negative = oct_json_take(cursor, '-');
    const char *digits = cursor->at;
    int64_t value = 0;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9' && cursor->at - digits < 18)
        value = 10 * value + (*cursor->at++ - '0');
    if (cursor->at == digits || (*digits == '0' && cursor->at > digits + 1)) return false;
    if (cursor->at < cursor->end && strchr("0123456789.eE", *cursor->at) && *cursor->at) return false;
    *out = negative ? -value : value;
    return true;
}

bool oct_json_skip(struct oct_json_cursor *cursor) {
    enum { OTHER, QUOTE, OPEN, CLOSE, COMMA };
    static const unsigned char kinds[256] = {['"'] = QUOTE, ['['] = OPEN, ['{'] = OPEN, [']'] = CLOSE, ['}'] = CLOSE, [','] = COMMA};
    const char *text = cursor->at;
    size_t length = (size_t)(cursor->end - text), depth = 0, i;
    for (i = 0; i < length; i++) {
        unsigned char kind = kinds[(unsigned char)text[i]];
        if (kind == OTHER) continue;
        if (depth == 0 && (kind == CLOSE || kind == COMMA)) break;
        if (kind == OPEN) depth++;
        if (kind == CLOSE) depth--;
        if (kind == QUOTE)
            for (i++; i < length && text[i] != '"'; i++) i += text[i] == '\\';
    }
    cursor->at = i < length ? text + i : cursor->end;
    return i < length;
}
