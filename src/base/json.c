#include "base/json.h"

#include "base/file.h"

#include <stdlib.h>

oct_status oct_json_parse(const char *name, const char *text, size_t length, json_t **out, oct_error *err) {
    json_error_t problem;
    *out = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
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
