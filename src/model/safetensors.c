// safetensors.c: reading and checking a header. Nothing of an entry is believed: its place must lie inside the file, have the size that its
// shape and dtype give, and join its neighbours.
#include "model/safetensors.h"

#include "base/memory.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100 * 1000 * 1000 }; // the limit the format's own library sets

static const struct element_type {
    const char *name;
    size_t bytes;
} element_types[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I64", 8},  {"I32", 4},     {"I16", 2},     {"I8", 1},
    {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

static const struct element_type *find_element_type(const char *name) {
    for (size_t i = 0; i < sizeof element_types / sizeof *element_types; i++)
        if (!strcmp(element_types[i].name, name)) return element_types + i;
    return NULL;
}

// Reads a JSON array of non-negative integers; -1 when it is anything else or longer than `most`.
static int read_integers(const json_t *array, int most, int64_t *out) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > (size_t)most) return -1;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0) return -1;
        out[i] = json_integer_value(item);
    }
    return (int)count;
}

static oct_status read_entry(const char *path, const json_t *fields, const uint8_t *data, size_t data_size,
                             struct oct_safetensors_entry *entry, oct_error *err) {
    const char *dtype = json_string_value(json_object_get(fields, "dtype"));
    if (!dtype) return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: a dtype expected", path, entry->name);
    const struct element_type *type = find_element_type(dtype);
    if (!type) return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: dtype %s is not supported", path, entry->name, dtype);
    entry->dtype = type->name;

    entry->num_dims = read_integers(json_object_get(fields, "shape"), OCT_SAFETENSORS_MAX_DIMS, entry->shape);
    if (entry->num_dims < 0)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: a shape of at most %d sizes expected", path, entry->name,
                        OCT_SAFETENSORS_MAX_DIMS);
    size_t size = type->bytes;
    for (int i = 0; i < entry->num_dims; i++)
        if (__builtin_mul_overflow(size, (size_t)entry->shape[i], &size))
            return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: its shape is too large", path, entry->name);

    int64_t offsets[2];
    if (read_integers(json_object_get(fields, "data_offsets"), 2, offsets) != 2)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: data_offsets [begin, end] expected", path, entry->name);
    size_t begin = (size_t)offsets[0], end = (size_t)offsets[1];
    if (begin > end || end > data_size)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: data_offsets within %zu bytes expected, [%zu, %zu] found", path, entry->name,
                        data_size, begin, end);
    if (end - begin != size)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: %zu bytes expected (shape x %s), data_offsets span %zu", path, entry->name, size,
                        entry->dtype, end - begin);
    entry->data = data + begin;
    entry->size = size;
    return OCT_OK;
}

static int by_place(const void *a, const void *b) {
    const struct oct_safetensors_entry *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size); // an empty tensor comes before the one that starts where it does
}

static int by_name(const void *a, const void *b) {
    const struct oct_safetensors_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

// The tensors, in the order of their places, follow each other from the first data byte to the last of the file.
static oct_status check_cover(const char *path, struct oct_safetensors *file, const uint8_t *data, size_t data_size, oct_error *err) {
    qsort(file->entries, file->num_entries, sizeof *file->entries, by_place);
    const uint8_t *end = data;
    for (size_t i = 0; i < file->num_entries; i++) {
        const struct oct_safetensors_entry *entry = file->entries + i;
        if (entry->data < end) return oct_fail(err, OCT_CORRUPT, "%s: tensors %s and %s overlap", path, entry[-1].name, entry->name);
        if (entry->data > end)
            return oct_fail(err, OCT_CORRUPT, "%s: %zu bytes before tensor %s belong to no tensor", path, (size_t)(entry->data - end),
                            entry->name);
        end = entry->data + entry->size;
    }
    if (end != data + data_size)
        return oct_fail(err, OCT_CORRUPT, "%s: %zu bytes after the last tensor", path, (size_t)(data + data_size - end));
    return OCT_OK;
}

static oct_status read_header(const char *path, struct oct_safetensors *file, oct_error *err) {
    uint64_t length;
    if (file->file.size < sizeof length)
        return oct_fail(err, OCT_CORRUPT, "%s: too short for a safetensors file (%zu bytes)", path, file->file.size);
    memcpy(&length, file->file.data, sizeof length);
    length = le64toh(length);
    if (length > MAX_HEADER_BYTES)
        return oct_fail(err, OCT_CORRUPT, "%s: a header of at most %d bytes expected, %llu announced", path, MAX_HEADER_BYTES,
                        (unsigned long long)length);
    size_t data_size = file->file.size - sizeof length;
    if (length > data_size)
        return oct_fail(err, OCT_CORRUPT, "%s: truncated: a header of %llu bytes announced, %zu bytes left", path,
                        (unsigned long long)length, data_size);
    data_size -= length;
    const uint8_t *data = file->file.data + sizeof length + length;

    OCT_TRY(oct_json_parse(path, (const char *)file->file.data + sizeof length, length, &file->header, err));
    if (!json_is_object(file->header))
        return oct_fail(err, OCT_CORRUPT, "%s: header: an object expected, %s found", path, oct_json_kind(file->header));
    file->entries = oct_alloc(json_object_size(file->header), sizeof *file->entries, "the list of tensors");
    const char *name;
    json_t *fields;
    json_object_foreach(file->header, name, fields) {
        if (!strcmp(name, "__metadata__")) continue;
        struct oct_safetensors_entry *entry = file->entries + file->num_entries++;
        entry->name = name;
        OCT_TRY(read_entry(path, fields, data, data_size, entry, err));
    }
    OCT_TRY(check_cover(path, file, data, data_size, err));
    qsort(file->entries, file->num_entries, sizeof *file->entries, by_name);
    return OCT_OK;
}

oct_status oct_safetensors_open(const char *path, struct oct_safetensors **out, oct_error *err) {
    struct oct_safetensors *file = oct_alloc(1, sizeof *file, "a safetensors file");
    oct_status status = oct_file_map(path, &file->file, err);
    if (status == OCT_OK) status = read_header(path, file, err);
    if (status != OCT_OK) {
        oct_safetensors_close(file);
        return status;
    }
    *out = file;
    return OCT_OK;
}

void oct_safetensors_close(struct oct_safetensors *safetensors) {
    if (!safetensors) return;
    free(safetensors->entries);
    json_decref(safetensors->header);
    oct_file_unmap(&safetensors->file);
    free(safetensors);
}

const struct oct_safetensors_entry *oct_safetensors_find(const struct oct_safetensors *safetensors, const char *name) {
    struct oct_safetensors_entry wanted = {.name = name};
    return bsearch(&wanted, safetensors->entries, safetensors->num_entries, sizeof wanted, by_name);
}
