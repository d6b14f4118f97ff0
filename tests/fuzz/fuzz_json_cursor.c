// The bytes are JSON, or not: the cursor and jansson must agree on what is a string, an integer, an array or an object of these.
#include "target.h"

#include "base/json.h"
#include "text/json_cursor.h"

#include <string.h>

enum { MAX_DEPTH = 100 };

static json_t *read_value(struct oct_json_cursor *in, int depth);

static bool read_members(struct oct_json_cursor *in, json_t *value, bool object, int depth) {
    struct oct_buffer unescaped = {0};
    bool valid = true;
    do {
        struct oct_json_text key = {0};
        if (object) valid = oct_json_take_string(in, &unescaped, &key) && oct_json_take(in, ':');
        json_t *member = valid ? read_value(in, depth + 1) : NULL;
        valid = member;
        if (valid && object) json_object_setn_new_nocheck(value, key.bytes, key.length, member);
        if (valid && !object) json_array_append_new(value, member);
    } while (valid && oct_json_take(in, ','));
    oct_buffer_free(&unescaped);
    return valid;
}

// The tree of what the cursor takes; NULL: it takes something not.
static json_t *read_value(struct oct_json_cursor *in, int depth) {
    bool object = oct_json_next_is(in, '{');
    if (object || oct_json_next_is(in, '[')) {
        json_t *value = object ? json_object() : json_array();
        char close = object ? '}' : ']';
        in->at++;
        if (oct_json_take(in, close)) return value;
        if (depth < MAX_DEPTH && read_members(in, value, object, depth) && oct_json_take(in, close)) return value;
        json_decref(value);
        return NULL;
    }
    struct oct_buffer unescaped = {0};
    struct oct_json_text text;
    int64_t integer;
    json_t *value = NULL;
    if (oct_json_next_is(in, '"')) {
        if (oct_json_take_string(in, &unescaped, &text)) value = json_stringn_nocheck(text.bytes, text.length);
    } else if (oct_json_take_integer(in, &integer)) {
        value = json_integer(integer);
    }
    oct_buffer_free(&unescaped);
    return value;
}

// Whether the cursor should take this: it knows no fractions and literals, no integers of more than 18 digits, and no deep nesting.
static bool within_reach(const json_t *value, int depth) {
    size_t i;
    const char *key;
    json_t *member;
    if (json_is_object(value) || json_is_array(value)) {
        if (depth >= MAX_DEPTH) return false;
        json_array_foreach(value, i, member) if (!within_reach(member, depth + 1)) return false;
        json_object_foreach((json_t *)value, key, member) if (!within_reach(member, depth + 1)) return false;
        return true;
    }
    json_int_t limit = 1000000000000000000;
    return json_is_string(value) || (json_is_integer(value) && json_integer_value(value) < limit && json_integer_value(value) > -limit);
}

static bool at_end(struct oct_json_cursor in) {
    return !oct_json_next_is(&in, '\0') && in.at == in.end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_json_cursor in = {(const char *)data, (const char *)data + size}, skipped = in;
    json_error_t problem;
    if (memchr(data, '\0', size)) return 0; // behind a value jansson takes it for the end of the text
    json_t *expected = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem), *value = read_value(&in, 0);
    if (value && !at_end(in)) json_decref(value), value = NULL;
    if (value) OCT_CHECK(expected ? json_equal(value, expected) : json_error_code(&problem) == json_error_null_byte_in_key);
    // A duplicate key hides a value that may be out of reach.
    if (expected && !value) OCT_CHECK(!within_reach(expected, 0) || memchr(data, '{', size));
    oct_json_skip(&skipped);
    if (expected) OCT_CHECK(at_end(skipped));
    json_decref(value);
    json_decref(expected);
    return 0;
}
