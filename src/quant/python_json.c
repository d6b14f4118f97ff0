// python_json.c: JSON byte for byte as Python's json.dump(indent=4) writes it, floats by the shortest digits that read back.
#include "quant/python_json.h"

#include "base/file.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The shortest digits that read back as `value` (positive, finite): "d.ddde[+-]xx" into text[40].
//
// If any decimal of at most 15 digits reads back as a normal double, it is the one nearest to it with 15 digits, so begin there. With 16
// digits the nearest one can fail where another does not: just below a power of two doubles lie twice as dense as above it, so the next
// one upward counts too (2^-44 is 5.684341886080802e-14, though ...801 is nearer). A quarter of a step up, rounding finds that one.
static void shortest_digits(double value, char text[40]) {
    for (int digits = value < DBL_MIN ? 1 : DBL_DIG; digits < DBL_DECIMAL_DIG; digits++) {
        snprintf(text, 40, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value) return;
    }
    snprintf(text, 40, "%.15Le", (long double)value * (1 + 0x1p-54L));
    if (strtod(text, NULL) == value) return;
    snprintf(text, 40, "%.16e", value);
}

void oct_python_repr(double value, struct oct_buffer *out) {
    if (isnan(value)) {
        oct_buffer_puts(out, "nan");
        return;
    }
    if (signbit(value)) oct_buffer_puts(out, "-");
    value = fabs(value);
    if (isinf(value)) {
        oct_buffer_puts(out, "inf");
        return;
    }
    char text[40];
    shortest_digits(value, text);
    char digits[40];
    int count = 0;
    const char *c = text;
    for (; *c != 'e'; c++)
        if (*c != '.') digits[count++] = *c;
    while (count > 1 && digits[count - 1] == '0') count--;
    digits[count] = '\0';
    int exponent = atoi(c + 1);
    if (exponent < -4 || exponent >= 16) {
        oct_buffer_printf(out, "%c%s%s", digits[0], count > 1 ? "." : "", digits + 1);
        oct_buffer_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        oct_buffer_printf(out, "0.%.*s%s", -exponent - 1, "0000", digits);
    } else if (count <= exponent + 1) {
        oct_buffer_printf(out, "%s%.*s.0", digits, exponent + 1 - count, "0000000000000000");
    } else {
        oct_buffer_printf(out, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    }
}

static void put_number(double value, struct oct_buffer *out) {
    if (isnan(value))
        oct_buffer_puts(out, "NaN");
    else if (isinf(value))
        oct_buffer_puts(out, value < 0 ? "-Infinity" : "Infinity");
    else
        oct_python_repr(value, out);
}

static void put_string(const struct oct_value *value, struct oct_buffer *out) {
    json_t *text = json_stringn(value->bytes, value->length);
    char *dumped = text ? json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    oct_buffer_puts(out, dumped ? dumped : "\"\""); // NULL: not UTF-8
    free(dumped);
    json_decref(text);
}

static void new_line(int depth, struct oct_buffer *out) {
    oct_buffer_printf(out, "\n%*s", 4 * depth, "");
}

static void put_key(const struct oct_value *key, struct oct_buffer *out) {
    if (key->kind == OCT_VALUE_INT)
        oct_buffer_printf(out, "\"%lld\"", (long long)key->integer);
    else
        put_string(key, out);
    oct_buffer_puts(out, ": ");
}

// An array as Python's tolist() nests it; *index runs over its elements in row-major order.
static void put_array(const struct oct_value *array, int dim, size_t *index, int depth, struct oct_buffer *out) {
    if (dim == array->num_dims || dim == OCT_ARRAY_MAX_DIMS) {
        put_number(oct_array_at(array, (*index)++), out);
        return;
    }
    if (!array->dims[dim]) {
        oct_buffer_puts(out, "[]");
        return;
    }
    for (size_t i = 0; i < array->dims[dim]; i++) {
        oct_buffer_puts(out, i ? "," : "[");
        new_line(depth + 1, out);
        put_array(array, dim + 1, index, depth + 1, out);
    }
    new_line(depth, out);
    oct_buffer_puts(out, "]");
}

static void put_value(const struct oct_value *value, int depth, struct oct_buffer *out);

static void put_container(const struct oct_value *value, int depth, struct oct_buffer *out) {
    bool dict = value->kind == OCT_VALUE_DICT;
    if (!value->count) {
        oct_buffer_puts(out, dict ? "{}" : "[]");
        return;
    }
    oct_buffer_puts(out, dict ? "{" : "[");
    for (size_t i = 0; i < value->count; i++) {
        if (i) oct_buffer_puts(out, ",");
        new_line(depth + 1, out);
        if (dict) put_key(value->items[i++], out);
        put_value(value->items[i], depth + 1, out);
    }
    new_line(depth, out);
    oct_buffer_puts(out, dict ? "}" : "]");
}

static void put_value(const struct oct_value *value, int depth, struct oct_buffer *out) {
    switch (value->kind) {
    case OCT_VALUE_NONE:
        oct_buffer_puts(out, "null");
        return;
    case OCT_VALUE_BOOL:
        oct_buffer_puts(out, value->integer ? "true" : "false");
        return;
    case OCT_VALUE_INT:
        oct_buffer_printf(out, "%lld", (long long)value->integer);
        return;
    case OCT_VALUE_FLOAT:
        put_number(value->real, out);
        return;
    case OCT_VALUE_STRING:
        put_string(value, out);
        return;
    case OCT_VALUE_LIST:
    case OCT_VALUE_TUPLE:
    case OCT_VALUE_DICT:
        put_container(value, depth, out);
        return;
    case OCT_VALUE_ARRAY:
        put_array(value, 0, &(size_t){0}, depth, out);
        return;
    case OCT_VALUE_BYTES:
    case OCT_VALUE_GLOBAL:
    case OCT_VALUE_DTYPE:
        break;
    }
    OCT_CHECK(!"a value that JSON does not hold");
}

void oct_python_json(const struct oct_value *value, struct oct_buffer *out) {
    put_value(value, 0, out);
}

oct_status oct_python_json_write(const char *path, const struct oct_value *value, oct_error *err) {
    struct oct_buffer text = {0};
    oct_python_json(value, &text);
    oct_status status = oct_file_write(path, text.data, text.length, err);
    oct_buffer_free(&text);
    return status;
}
