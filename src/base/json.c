// json.c: jansson, and the one thing it cannot hold: integers of more than 64 bits, which are made strings before it sees them.
#include "base/json.h"

#include "base/buffer.h"
#include "base/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Whether `length` bytes are an integer outside 64 bits.
static bool is_big_integer(const char *text, size_t length) {
    char copy[24], *end;
    size_t digits = length - (text[0] == '-');
    for (size_t i = length - digits; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
    }
    if (length >= sizeof copy) return true;
    memcpy(copy, text, length);
    copy[length] = '\0';
    errno = 0;
    strtoll(copy, &end, 10);
    return errno == ERANGE;
}

// A copy of the text in which each big integer has become a string (see json.h).
static void quote_big_integers(const char *text, size_t length, struct oct_buffer *out) {
    static const char number[] = "0123456789+-.eE";
    bool in_string = false;
    for (size_t i = 0, n; i < length; i += n) {
        n = in_string && text[i] == '\\' && i + 1 < length ? 2 : 1;
        if (text[i] == '"') in_string = !in_string;
        bool begins = !in_string && (text[i] == '-' || (text[i] >= '0' && text[i] <= '9'));
        while (begins && i + n < length && memchr(number, text[i + n], sizeof number - 1)) n++;
        bool big = begins && is_big_integer(text + i, n);
        if (big) oct_buffer_puts(out, "\"\\u0000");
        oct_buffer_append(out, text + i, n);
        if (big) oct_buffer_puts(out, "\"");
    }
}

oct_status oct_json_parse(const char *name, const char *text, size_t length, json_t **out, oct_error *err) {
    json_error_t problem;
    *out = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!*out && json_error_code(&problem) == json_error_numeric_overflow) {
        struct oct_buffer quoted = {0};
        quote_big_integers(text, length, &quoted);
        *out = json_loadb(quoted.data, quoted.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
        oct_buffer_free(&quoted);
    }
    if (*out) return OCT_OK;
    return oct_fail(err, OCT_CORRUPT, "%s: not valid JSON: line %d, column %d: %s", name, problem.line, problem.column, problem.text);
}

oct_status oct_json_load(const char *path, size_t limit, json_t **out, oct_error *err) {
    char *text;
    size_t length;
    OCT_TRY(oct_file_read(path, limit, &text, &length, err));
    oct_status status = oct_json_parse(path, text, length, out, err);
    free(text);
    return status;
}

const char *oct_json_kind(const json_t *value) {
    static const char *const names[] = {"object", "array", "string", "integer", "real", "true", "false", "null"};
    return value ? names[json_typeof(value)] : "nothing";
}
