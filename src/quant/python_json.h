// python_json.h: JSON exactly as Python's json.dump(value, indent=4) writes it and json.load takes it, which is what INC and its scripts
// exchange. It has what standard JSON lacks (Infinity, NaN) and numbers in the shortest form that reads back as the same double.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "quant/value.h"

void oct_python_json(const struct oct_value *value, struct oct_buffer *out); // no newline at the end, as Python
oct_status oct_python_json_write(const char *path, const struct oct_value *value, oct_error *err);
enum { OCT_MAX_PYTHON_JSON_BYTES = 256 << 20 }; // the scales of a 70B model, one an output channel, take 200 MB
// `text` has `length` bytes and a NUL behind them; `name` stands for it in messages. Numbers become INT or FLOAT, lists LIST.
oct_status oct_python_json_parse(const char *name, const char *text, size_t length, struct oct_tree *tree, struct oct_value **out,
                                 oct_error *err);
oct_status oct_python_json_read(const char *path, struct oct_tree *tree, struct oct_value **out, oct_error *err);
// repr() of a Python float: "0.1", "1e-05", "482.0", "inf".
void oct_python_repr(double value, struct oct_buffer *out);
