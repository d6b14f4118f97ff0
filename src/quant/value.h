// value.h: a tree of Python values (None, int, str, dict, list, tuple, numpy array), which is what INC's files hold. One tree is written
// twice, as JSON for people and as a pickle for INC. All values of a tree live in its arena and die with it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum oct_value_kind {
    OCT_VALUE_NONE,
    OCT_VALUE_BOOL,
    OCT_VALUE_INT,
    OCT_VALUE_FLOAT,
    OCT_VALUE_STRING,
    OCT_VALUE_BYTES,
    OCT_VALUE_LIST,
    OCT_VALUE_TUPLE,
    OCT_VALUE_DICT,
    OCT_VALUE_ARRAY,
    // Only while a pickle is read: a function or class by its number, and a numpy dtype by its element size.
    OCT_VALUE_GLOBAL,
    OCT_VALUE_DTYPE,
};

enum { OCT_ARRAY_MAX_DIMS = 4 };

struct oct_value {
    enum oct_value_kind kind;
    int depth;                // levels of containers in it: 0 for a plain value
    int64_t integer;          // BOOL, INT
    double real;              // FLOAT
    const char *bytes;        // (length) and a NUL: STRING (UTF-8), BYTES; ARRAY: its elements, row-major, little endian
    size_t length;            // bytes
    struct oct_value **items; // (count) LIST, TUPLE; DICT: key, value, key, value, ...
    size_t count, capacity;
    int num_dims; // ARRAY
    size_t dims[OCT_ARRAY_MAX_DIMS];
    int element_size; // ARRAY: 4 (float32) or 8 (float64)
    uint32_t memo;    // of the pickle writer: where it was written, plus one; else 0
};

struct oct_tree {
    struct oct_tree_block *blocks; // owned
    struct oct_value *keys[8];     // interned by oct_tree_key
    size_t num_keys;
};

void oct_tree_free(struct oct_tree *tree);
void *oct_tree_alloc(struct oct_tree *tree, size_t size); // zeroed, 16-byte aligned

struct oct_value *oct_tree_value(struct oct_tree *tree, enum oct_value_kind kind); // None, or an empty container
struct oct_value *oct_tree_int(struct oct_tree *tree, int64_t integer);
struct oct_value *oct_tree_string(struct oct_tree *tree, const char *text); // copied
// The same value for the same text: Python shares its constant strings, and the pickle shows it. At most 8 of them.
struct oct_value *oct_tree_key(struct oct_tree *tree, const char *text);
// A float32 array: the product of dims[num_dims] values, copied.
struct oct_value *oct_tree_array(struct oct_tree *tree, int num_dims, const size_t *dims, const float *values);
struct oct_value *oct_tree_array64(struct oct_tree *tree, int num_dims, const size_t *dims, const double *values); // the same in float64
struct oct_value *oct_tree_scalar(struct oct_tree *tree, float value);                                             // 0-d array

void oct_value_append(struct oct_tree *tree, struct oct_value *container, struct oct_value *item);
void oct_dict_set(struct oct_tree *tree, struct oct_value *dict, struct oct_value *key, struct oct_value *item); // key must be new

// The value of a string key; NULL when `dict` is NULL or no dict, or has no such key. Of equal keys the last one counts.
struct oct_value *oct_dict_get(const struct oct_value *dict, const char *key);
struct oct_value *oct_dict_get_index(const struct oct_value *dict, int key); // an int key, or its digits as a string
bool oct_value_is_string(const struct oct_value *value, const char *text);
bool oct_value_is_sequence(const struct oct_value *value); // list or tuple; NULL is none
bool oct_value_is_numbers(const struct oct_value *value);  // an array of floats; NULL is none
// Whether INC's files may hold it, and so the writers write it: None, truth values, integers of 32 bits, strings, arrays of numbers, and
// lists, tuples and dicts of them.
bool oct_value_is_storable(const struct oct_value *value);
size_t oct_array_size(const struct oct_value *array); // elements
double oct_array_at(const struct oct_value *array, size_t index);
