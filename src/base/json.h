// json.h: what Octavo adds to jansson: loading with a size limit, and errors that name the file.
#pragma once

#include "base/error.h"

#include <jansson.h>

// Parses a JSON file of at most `limit` bytes. *out is released with json_decref. Duplicate keys: the last one wins.
oct_status oct_json_load(const char *path, size_t limit, json_t **out, oct_error *err);
// Parses `length` bytes; `name` stands in messages for the source.
oct_status oct_json_parse(const char *name, const char *text, size_t length, json_t **out, oct_error *err);
// "object", "array", "string", "integer", "real", "true", "false" or "null": for messages.
const char *oct_json_kind(const json_t *value);
