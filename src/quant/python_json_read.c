// python_json_read.c: JSON as Python's json.load takes it: with NaN, Infinity and -Infinity, which standard JSON lacks and INC's files
// have. Everything is made in the tree; depth is limited, and a value takes at least one byte of text, so the text's size bounds memory.
#include "quant/python_json.h"

#include "base/file.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32 };

struct reader {
    const char *name, *at, *end; // the text ends with a NUL at `end`
    const char *start;
    struct oct_tree *tree;
    int depth;
    oct_error *err;
};

static oct_status bad(struct reader *r, const char *expected) {
    size_t line = 1;
    for (const char *c = r->start; c < r->at; c++) line += *c == '\n';
    return oct_fail(r->err, OCT_CORRUPT, "%s: line %zu: %s expected", r->name, line, expected);
}

static void skip_blanks(struct reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at)) r->at++;
}

// Whether `text` stands here; steps over it.
static bool take(struct reader *r, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, text, length) != 0) return false;
    r->at += length;
    return true;
}

// A string: its end is found here, its escapes are decoded by jansson, which refuses NUL characters and what is not UTF-8.
static oct_status read_string(struct reader *r, struct oct_value **out) {
    const char *start = r->at++;
    while (r->at < r->end && *r->at != '"') r->at += r->at[0] == '\\' && r->at + 1 < r->end ? 2 : 1;
    if (r->at >= r->end) return bad(r, "the end of a string");
    r->at++;
    json_t *text = json_loadb(start, (size_t)(r->at - start), JSON_DECODE_ANY, NULL);
    if (!json_is_string(text)) {
        json_decref(text);
        return bad(r, "a string of UTF-8");
    }
    *out = oct_tree_string(r->tree, json_string_value(text));
    json_decref(text);
    return OCT_OK;
}

static struct oct_value *new_float(struct reader *r, double number) {
    struct oct_value *value = oct_tree_value(r->tree, OCT_VALUE_FLOAT);
    value->real = number;
    return value;
}

static oct_status read_number(struct reader *r, struct oct_value **out) {
    if (take(r, "NaN")) return *out = new_float(r, (double)NAN), OCT_OK;
    if (take(r, "Infinity")) return *out = new_float(r, (double)INFINITY), OCT_OK;
    if (take(r, "-Infinity")) return *out = new_float(r, -(double)INFINITY), OCT_OK;
    size_t length = strspn(r->at, "+-0123456789.eE");
    const char *digits = r->at + (*r->at == '-');
    if (!length || *digits < '0' || *digits > '9') return bad(r, "a value");
    char *end;
    errno = 0;
    if (strcspn(r->at, ".eE") < length) {
        *out = new_float(r, strtod(r->at, &end));
    } else {
        long long integer = strtoll(r->at, &end, 10);
        *out = errno ? new_float(r, strtod(r->at, &end)) : oct_tree_int(r->tree, integer);
    }
    if (end != r->at + length) return bad(r, "a number");
    r->at = end;
    return OCT_OK;
}

static oct_status read_value(struct reader *r, struct oct_value **out);

static oct_status read_item(struct reader *r, struct oct_value *container) {
    struct oct_value *value;
    if (container->kind == OCT_VALUE_DICT) {
        if (r->at >= r->end || *r->at != '"') return bad(r, "a key in quotes");
        OCT_TRY(read_string(r, &value));
        oct_value_append(r->tree, container, value);
        skip_blanks(r);
        if (!take(r, ":")) return bad(r, "a colon");
    }
    OCT_TRY(read_value(r, &value));
    oct_value_append(r->tree, container, value);
    return OCT_OK;
}

static oct_status read_container(struct reader *r, enum oct_value_kind kind, const char *close, struct oct_value **out) {
    r->at++;
    if (++r->depth > MAX_DEPTH) return bad(r, "less nesting");
    *out = oct_tree_value(r->tree, kind);
    skip_blanks(r);
    while (!take(r, close)) {
        if ((*out)->count) {
            if (!take(r, ",")) return bad(r, "a comma or the end of what was opened");
            skip_blanks(r);
        }
        OCT_TRY(read_item(r, *out));
        skip_blanks(r);
    }
    r->depth--;
    return OCT_OK;
}

static oct_status read_value(struct reader *r, struct oct_value **out) {
    skip_blanks(r);
    if (r->at >= r->end) return bad(r, "a value");
    switch (*r->at) {
    case '{':
        return read_container(r, OCT_VALUE_DICT, "}", out);
    case '[':
        return read_container(r, OCT_VALUE_LIST, "]", out);
    case '"':
        return read_string(r, out);
    default:
        break;
    }
    if (take(r, "null")) return *out = oct_tree_value(r->tree, OCT_VALUE_NONE), OCT_OK;
    bool truth = take(r, "true");
    if (truth || take(r, "false")) {
        *out = oct_tree_value(r->tree, OCT_VALUE_BOOL);
        (*out)->integer = truth;
        return OCT_OK;
    }
    return read_number(r, out);
}

oct_status oct_python_json_parse(const char *name, const char *text, size_t length, struct oct_tree *tree, struct oct_value **out,
                                 oct_error *err) {
    struct reader reader = {.name = name, .start = text, .at = text, .end = text + length, .tree = tree, .err = err};
    OCT_TRY(read_value(&reader, out));
    skip_blanks(&reader);
    return reader.at == reader.end ? OCT_OK : bad(&reader, "the end of the file");
}

oct_status oct_python_json_read(const char *path, struct oct_tree *tree, struct oct_value **out, oct_error *err) {
    char *text;
    size_t length;
    OCT_TRY(oct_file_read(path, OCT_MAX_PYTHON_JSON_BYTES, &text, &length, err));
    oct_status status = oct_python_json_parse(path, text, length, tree, out, err);
    free(text);
    return status;
}
