// value.c: a tree of the few Python values that INC's files are made of, all from one arena.
#include "quant/value.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oct_tree_block {
    struct oct_tree_block *next;
    size_t used, size; // bytes of data
    _Alignas(16) unsigned char data[];
};

enum { BLOCK_SIZE = 64 << 10 };

void oct_tree_free(struct oct_tree *tree) {
    for (struct oct_tree_block *block = tree->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *tree = (struct oct_tree){0};
}

void *oct_tree_alloc(struct oct_tree *tree, size_t size) {
    size = (size + 15) & ~(size_t)15;
    struct oct_tree_block *block = tree->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = oct_alloc(1, sizeof *block + room, "a value tree");
        block->size = room;
        block->next = tree->blocks;
        tree->blocks = block;
    }
    void *data = block->data + block->used;
    block->used += size;
    return data;
}

struct oct_value *oct_tree_value(struct oct_tree *tree, enum oct_value_kind kind) {
    struct oct_value *value = oct_tree_alloc(tree, sizeof *value);
    value->kind = kind;
    return value;
}

struct oct_value *oct_tree_int(struct oct_tree *tree, int64_t integer) {
    struct oct_value *value = oct_tree_value(tree, OCT_VALUE_INT);
    value->integer = integer;
    return value;
}

static void set_bytes(struct oct_tree *tree, struct oct_value *value, const void *bytes, size_t length) {
    char *copy = oct_tree_alloc(tree, length + 1);
    if (length) memcpy(copy, bytes, length);
    value->bytes = copy;
    value->length = length;
}

struct oct_value *oct_tree_string(struct oct_tree *tree, const char *text) {
    struct oct_value *value = oct_tree_value(tree, OCT_VALUE_STRING);
    set_bytes(tree, value, text, strlen(text));
    return value;
}

struct oct_value *oct_tree_key(struct oct_tree *tree, const char *text) {
    for (size_t i = 0; i < tree->num_keys; i++)
        if (oct_value_is_string(tree->keys[i], text)) return tree->keys[i];
    OCT_CHECK(tree->num_keys < sizeof tree->keys / sizeof *tree->keys);
    return tree->keys[tree->num_keys++] = oct_tree_string(tree, text);
}

static struct oct_value *new_array(struct oct_tree *tree, int num_dims, const size_t *dims, const void *elements, int element_size) {
    OCT_CHECK(num_dims <= OCT_ARRAY_MAX_DIMS);
    struct oct_value *value = oct_tree_value(tree, OCT_VALUE_ARRAY);
    value->num_dims = num_dims;
    for (int i = 0; i < num_dims; i++) value->dims[i] = dims[i];
    value->element_size = element_size;
    set_bytes(tree, value, elements, oct_array_size(value) * (size_t)element_size);
    return value;
}

struct oct_value *oct_tree_array(struct oct_tree *tree, int num_dims, const size_t *dims, const float *values) {
    return new_array(tree, num_dims, dims, values, sizeof *values);
}

struct oct_value *oct_tree_array64(struct oct_tree *tree, int num_dims, const size_t *dims, const double *values) {
    return new_array(tree, num_dims, dims, values, sizeof *values);
}

struct oct_value *oct_tree_scalar(struct oct_tree *tree, float value) {
    return oct_tree_array(tree, 0, NULL, &value);
}

void oct_value_append(struct oct_tree *tree, struct oct_value *container, struct oct_value *item) {
    if (container->count == container->capacity) {
        size_t capacity = container->capacity ? container->capacity * 2 : 4;
        struct oct_value **items = oct_tree_alloc(tree, capacity * sizeof(struct oct_value *));
        if (container->count) memcpy(items, container->items, container->count * sizeof(struct oct_value *));
        container->items = items;
        container->capacity = capacity;
    }
    container->items[container->count++] = item;
    if (item->depth >= container->depth) container->depth = item->depth + 1;
}

void oct_dict_set(struct oct_tree *tree, struct oct_value *dict, struct oct_value *key, struct oct_value *item) {
    oct_value_append(tree, dict, key);
    oct_value_append(tree, dict, item);
}

struct oct_value *oct_dict_get(const struct oct_value *dict, const char *key) {
    if (!dict || dict->kind != OCT_VALUE_DICT) return NULL;
    for (size_t i = dict->count; i >= 2; i -= 2)
        if (oct_value_is_string(dict->items[i - 2], key)) return dict->items[i - 1];
    return NULL;
}

struct oct_value *oct_dict_get_index(const struct oct_value *dict, int key) {
    if (!dict || dict->kind != OCT_VALUE_DICT) return NULL;
    char digits[12];
    snprintf(digits, sizeof digits, "%d", key);
    for (size_t i = dict->count; i >= 2; i -= 2) {
        const struct oct_value *found = dict->items[i - 2];
        if ((found->kind == OCT_VALUE_INT && found->integer == key) || oct_value_is_string(found, digits)) return dict->items[i - 1];
    }
    return NULL;
}

bool oct_value_is_string(const struct oct_value *value, const char *text) {
    size_t length = strlen(text);
    return value && value->kind == OCT_VALUE_STRING && value->length == length && !memcmp(value->bytes, text, length);
}

bool oct_value_is_sequence(const struct oct_value *value) {
    return value && (value->kind == OCT_VALUE_LIST || value->kind == OCT_VALUE_TUPLE);
}

bool oct_value_is_numbers(const struct oct_value *value) {
    return value && value->kind == OCT_VALUE_ARRAY && value->element_size >= 4;
}

bool oct_value_is_storable(const struct oct_value *value) {
    switch (value->kind) {
    case OCT_VALUE_NONE:
    case OCT_VALUE_BOOL:
    case OCT_VALUE_STRING:
        return true;
    case OCT_VALUE_INT:
        return value->integer >= INT32_MIN && value->integer <= INT32_MAX;
    case OCT_VALUE_ARRAY: // an empty one of several dimensions would be as many empty lists as they say
        return oct_value_is_numbers(value) && (oct_array_size(value) > 0 || value->num_dims == 1);
    case OCT_VALUE_LIST:
    case OCT_VALUE_TUPLE:
    case OCT_VALUE_DICT:
        for (size_t i = 0; i < value->count; i++)
            if (!oct_value_is_storable(value->items[i])) return false;
        return true;
    default:
        return false;
    }
}

size_t oct_array_size(const struct oct_value *array) {
    size_t size = 1;
    for (int i = 0; i < array->num_dims; i++) size *= array->dims[i];
    return size;
}

double oct_array_at(const struct oct_value *array, size_t index) {
    if (array->element_size == 8) {
        double value;
        memcpy(&value, array->bytes + index * sizeof value, sizeof value);
        return value;
    }
    float value;
    memcpy(&value, array->bytes + index * sizeof value, sizeof value);
    return value;
}
