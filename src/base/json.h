// json.h: what Octavo adds to jansson: loading with a size limit, and errors that name the file.
#pragma once

#include "base/error.h"

#include <jansson.h>

// Parses a JSON file of at most `limit` bytes. *out is released with json_decref. Duplicate keys: the last one wins.
oct_status oct_json_load(const char *path, size_t limit, json_t **out, oct_error *err);
// Both read an integer that does not fit in 64 bits, which jansson cannot hold, as a string: U+0000 and then its digits, so that none is
// lost. Configurations written by Python hold such numbers (model_max_length), and arguments of tools may. Parses `length` bytes; `name`
// stands in messages for the source.
oct_status oct_json_parse(const char *name, const char *text, size_t length, json_t **out, oct_error *err);
// "object", "array", "string", "integer", "real", "true", "false" or "null": for messages.
const char *oct_json_kind(const json_t *value);
