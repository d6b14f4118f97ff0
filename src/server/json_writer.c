// json_writer.c: JSON text without a tree. The writer only remembers whether a comma is due.
#include "server/json_writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void separate(struct oct_json_writer *writer) {
    if (writer->comma) oct_buffer_append(&writer->out, ",", 1);
    writer->comma = true;
}

void oct_json_open(struct oct_json_writer *writer, char bracket) {
    separate(writer);
    oct_buffer_append(&writer->out, &bracket, 1);
    writer->comma = false;
}

void oct_json_close(struct oct_json_writer *writer, char bracket) {
    oct_buffer_append(&writer->out, &bracket, 1);
    writer->comma = true;
}

void oct_json_key(struct oct_json_writer *writer, const char *name) {
    oct_json_text(writer, name);
    oct_buffer_append(&writer->out, ":", 1);
    writer->comma = false;
}

size_t oct_utf8_length(const char *text, size_t length) {
    const unsigned char *b = (const unsigned char *)text;
    if (b[0] < 0x80) return 1;
    size_t n = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || n > length) return 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    bool overlong = (b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xf0 && b[1] < 0x90);
    bool surrogate = b[0] == 0xed && b[1] > 0x9f, too_large = b[0] == 0xf4 && b[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : n;
}

static const char *escape_of(unsigned char c, char spelled[8]) {
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    default:
        snprintf(spelled, 8, "\\u%04x", c);
        return spelled;
    }
}

void oct_json_string(struct oct_json_writer *writer, const char *text, size_t length) {
    separate(writer);
    struct oct_buffer *out = &writer->out;
    oct_buffer_append(out, "\"", 1);
    size_t plain = 0; // text[plain .. i) needs no escape and is not written yet
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = oct_utf8_length(text + i, length - i);
        if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        char spelled[8];
        oct_buffer_append(out, text + plain, i - plain);
        oct_buffer_puts(out, n == 0 ? "\xef\xbf\xbd" : escape_of(c, spelled));
        plain = ++i;
    }
    oct_buffer_append(out, text + plain, length - plain);
    oct_buffer_append(out, "\"", 1);
}

void oct_json_text(struct oct_json_writer *writer, const char *text) {
    if (text)
        oct_json_string(writer, text, strlen(text));
    else
        oct_json_null(writer);
}

void oct_json_integer(struct oct_json_writer *writer, int64_t value) {
    separate(writer);
    oct_buffer_printf(&writer->out, "%" PRId64, value);
}

void oct_format_real(double value, char text[32]) {
    if (isnan(value) || isinf(value)) {
        snprintf(text, 32, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    // 15 digits survive a trip through any double, so a number with a shorter spelling has it in its %.15g.
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (!strpbrk(text, ".e")) strncat(text, ".0", 31 - strlen(text));
}

void oct_json_real(struct oct_json_writer *writer, double value) {
    char text[32];
    oct_format_real(value, text);
    separate(writer);
    oct_buffer_puts(&writer->out, text);
}

void oct_json_bool(struct oct_json_writer *writer, bool value) {
    separate(writer);
    oct_buffer_puts(&writer->out, value ? "true" : "false");
}

void oct_json_null(struct oct_json_writer *writer) {
    separate(writer);
    oct_buffer_puts(&writer->out, "null");
}

void oct_json_raw(struct oct_json_writer *writer, const char *json, size_t length) {
    separate(writer);
    oct_buffer_append(&writer->out, json, length);
}
