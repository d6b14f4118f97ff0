// The container. One cursor walks the mapped file; it refuses to pass the end, so nothing it hands out lies outside. Counts are compared
// with what the rest of the file could hold before memory is asked for.
#include "model/gguf.h"

#include "base/file.h"
#include "base/memory.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, NUM_VALUE_TYPES };
// Bytes of a value; 0: has a length of its own.
static const uint8_t value_bytes[NUM_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

enum { MIN_KEY_BYTES = 8 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8, MAX_ALIGNMENT = 1 << 20 };

struct key_value {
    struct oct_gguf_string key;
    enum value_type type, element_type; // element_type and count: of an array
    uint64_t count;
    const uint8_t *bytes; // of the value, of the string's characters, or of the array's first element
    size_t size;          // bytes there
};

struct oct_gguf {
    char *path;
    struct oct_mapped_file file;
    struct key_value *keys; // (num_keys), sorted
    size_t num_keys;
    struct oct_gguf_tensor_info *tensors; // (num_tensors), sorted by name
    size_t num_tensors;
};

struct cursor {
    const char *path;
    const uint8_t *at, *end;
    oct_error *err;
};

static oct_status take(struct cursor *c, uint64_t size, const uint8_t **out) {
    if (size > (size_t)(c->end - c->at))
        return oct_fail(c->err, OCT_CORRUPT, "%s: truncated: %llu bytes expected, %zu left", c->path, (unsigned long long)size,
                        (size_t)(c->end - c->at));
    *out = c->at;
    c->at += size;
    return OCT_OK;
}

static uint64_t load_unsigned(const uint8_t *bytes, size_t size) {
    uint64_t value = 0;
    memcpy(&value, bytes, size);
    return le64toh(value);
}

static oct_status take_u32(struct cursor *c, uint32_t *out) {
    const uint8_t *bytes = NULL;
    OCT_TRY(take(c, sizeof *out, &bytes));
    *out = (uint32_t)load_unsigned(bytes, sizeof *out);
    return OCT_OK;
}

static oct_status take_u64(struct cursor *c, uint64_t *out) {
    const uint8_t *bytes = NULL;
    OCT_TRY(take(c, sizeof *out, &bytes));
    *out = load_unsigned(bytes, sizeof *out);
    return OCT_OK;
}

static oct_status take_string(struct cursor *c, struct oct_gguf_string *out) {
    uint64_t length = 0;
    const uint8_t *bytes = NULL;
    OCT_TRY(take_u64(c, &length));
    OCT_TRY(take(c, length, &bytes));
    *out = (struct oct_gguf_string){(const char *)bytes, length};
    return OCT_OK;
}

// Names appear in messages: printable ASCII, as the format asks for.
static oct_status take_name(struct cursor *c, size_t most, struct oct_gguf_string *out) {
    OCT_TRY(take_string(c, out));
    bool valid = out->length > 0 && out->length <= most;
    for (size_t i = 0; valid && i < out->length; i++) valid = out->data[i] > 0x20 && out->data[i] < 0x7f;
    if (!valid) return oct_fail(c->err, OCT_CORRUPT, "%s: a name of 1 to %zu printable characters expected", c->path, most);
    return OCT_OK;
}

static oct_status take_value_type(struct cursor *c, const struct key_value *kv, enum value_type *out) {
    uint32_t type = 0;
    OCT_TRY(take_u32(c, &type));
    if (type >= NUM_VALUE_TYPES)
        return oct_fail(c->err, OCT_CORRUPT, "%s: key %.*s: unknown type %u", c->path, (int)kv->key.length, kv->key.data, type);
    *out = (enum value_type)type;
    return OCT_OK;
}

static oct_status take_array(struct cursor *c, struct key_value *kv) {
    OCT_TRY(take_value_type(c, kv, &kv->element_type));
    OCT_TRY(take_u64(c, &kv->count));
    if (kv->element_type == ARRAY)
        return oct_fail(c->err, OCT_UNSUPPORTED, "%s: key %.*s: arrays of arrays are not supported", c->path, (int)kv->key.length,
                        kv->key.data);
    kv->bytes = c->at;
    if (kv->element_type == STRING) {
        struct oct_gguf_string skipped;
        for (uint64_t i = 0; i < kv->count; i++) OCT_TRY(take_string(c, &skipped));
    } else {
        uint64_t size;
        if (__builtin_mul_overflow(kv->count, (uint64_t)value_bytes[kv->element_type], &size)) size = UINT64_MAX;
        OCT_TRY(take(c, size, &kv->bytes));
    }
    kv->size = (size_t)(c->at - kv->bytes);
    return OCT_OK;
}

static oct_status take_key_value(struct cursor *c, struct key_value *kv) {
    OCT_TRY(take_name(c, 255, &kv->key));
    OCT_TRY(take_value_type(c, kv, &kv->type));
    if (kv->type == ARRAY) return take_array(c, kv);
    if (kv->type == STRING) {
        struct oct_gguf_string text = {0};
        OCT_TRY(take_string(c, &text));
        kv->bytes = (const uint8_t *)text.data;
        kv->size = text.length;
        return OCT_OK;
    }
    kv->size = value_bytes[kv->type];
    return take(c, kv->size, &kv->bytes);
}

static int compare_keys(const void *a, const void *b) {
    const struct oct_gguf_string *x = &((const struct key_value *)a)->key, *y = &((const struct key_value *)b)->key;
    int order = memcmp(x->data, y->data, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static oct_status take_keys(struct cursor *c, struct oct_gguf *gguf, uint64_t count) {
    if (count > (size_t)(c->end - c->at) / MIN_KEY_BYTES)
        return oct_fail(c->err, OCT_CORRUPT, "%s: truncated: %llu keys announced, %zu bytes left", c->path, (unsigned long long)count,
                        (size_t)(c->end - c->at));
    gguf->keys = oct_alloc(count, sizeof *gguf->keys, "GGUF keys");
    gguf->num_keys = count;
    for (uint64_t i = 0; i < count; i++) OCT_TRY(take_key_value(c, gguf->keys + i));
    qsort(gguf->keys, count, sizeof *gguf->keys, compare_keys);
    for (uint64_t i = 1; i < count; i++)
        if (!compare_keys(gguf->keys + i - 1, gguf->keys + i))
            return oct_fail(c->err, OCT_CORRUPT, "%s: key %.*s stands twice", c->path, (int)gguf->keys[i].key.length,
                            gguf->keys[i].key.data);
    return OCT_OK;
}

static bool find_dtype(uint32_t type, enum oct_dtype *out) {
    static const struct {
        uint32_t type;
        enum oct_dtype dtype;
    } codes[] = {{0, OCT_F32}, {1, OCT_F16}, {2, OCT_Q4_0}, {3, OCT_Q4_1}, {8, OCT_Q8_0}, {14, OCT_Q6_K}, {30, OCT_BF16}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].type == type) {
            *out = codes[i].dtype;
            return true;
        }
    return false;
}

// Bytes of ne[0] x ... elements of the tensor's dtype.
static oct_status find_size(struct cursor *c, struct oct_gguf_tensor_info *tensor) {
    size_t elements = oct_dtype_block_elements(tensor->dtype);
    if (tensor->ne[0] % (int64_t)elements)
        return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s: rows of a multiple of %zu elements expected (%s), %lld found", c->path,
                        tensor->name, elements, oct_dtype_name(tensor->dtype), (long long)tensor->ne[0]);
    size_t size = oct_dtype_block_bytes(tensor->dtype);
    bool overflow = __builtin_mul_overflow(size, (size_t)tensor->ne[0] / elements, &size);
    for (int i = 1; i < tensor->num_dims; i++) overflow |= __builtin_mul_overflow(size, (size_t)tensor->ne[i], &size);
    if (overflow) return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s: its shape is too large", c->path, tensor->name);
    tensor->size = size;
    return OCT_OK;
}

// `offset` counts from the data section, which is not known before all infos are read.
static oct_status take_tensor(struct cursor *c, struct oct_gguf_tensor_info *tensor, uint64_t *offset) {
    struct oct_gguf_string name = {0};
    OCT_TRY(take_name(c, sizeof tensor->name - 1, &name));
    memcpy(tensor->name, name.data, name.length);
    uint32_t num_dims = 0;
    OCT_TRY(take_u32(c, &num_dims));
    if (num_dims < 1 || num_dims > 4)
        return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s: 1 to 4 dimensions expected, %u found", c->path, tensor->name, num_dims);
    tensor->num_dims = (int)num_dims;
    for (int i = 0; i < 4; i++) {
        uint64_t ne = 1;
        if (i < tensor->num_dims) OCT_TRY(take_u64(c, &ne));
        if (ne < 1 || ne > INT64_MAX)
            return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s: dimension %d is %llu", c->path, tensor->name, i, (unsigned long long)ne);
        tensor->ne[i] = (int64_t)ne;
    }
    OCT_TRY(take_u32(c, &tensor->type));
    OCT_TRY(take_u64(c, offset));
    tensor->known_type = find_dtype(tensor->type, &tensor->dtype);
    return tensor->known_type ? find_size(c, tensor) : OCT_OK;
}

static oct_status find_alignment(const struct oct_gguf *gguf, size_t *out, oct_error *err) {
    int64_t alignment = 32;
    if (oct_gguf_has(gguf, "general.alignment") && !oct_gguf_integer(gguf, "general.alignment", &alignment)) alignment = 0;
    if (alignment < 1 || alignment > MAX_ALIGNMENT || alignment & (alignment - 1))
        return oct_fail(err, OCT_CORRUPT, "%s: general.alignment: a power of two up to %d expected", gguf->path, MAX_ALIGNMENT);
    *out = (size_t)alignment;
    return OCT_OK;
}

static oct_status place_tensors(struct cursor *c, struct oct_gguf *gguf, const uint64_t *offsets) {
    size_t alignment = 0;
    OCT_TRY(find_alignment(gguf, &alignment, c->err));
    size_t start = (size_t)(c->at - gguf->file.data);
    start = (start + alignment - 1) & ~(alignment - 1);
    size_t data_size = start < gguf->file.size ? gguf->file.size - start : 0;
    for (size_t i = 0; i < gguf->num_tensors; i++) {
        struct oct_gguf_tensor_info *tensor = gguf->tensors + i;
        if (!tensor->known_type) continue;
        if (offsets[i] % alignment)
            return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s: offset %llu is not a multiple of the alignment %zu", c->path, tensor->name,
                            (unsigned long long)offsets[i], alignment);
        if (offsets[i] > data_size || tensor->size > data_size - offsets[i])
            return oct_fail(c->err, OCT_CORRUPT, "%s: truncated: tensor %s needs %zu bytes at %llu, the file has %zu", c->path,
                            tensor->name, tensor->size, (unsigned long long)offsets[i], data_size);
        tensor->data = gguf->file.data + start + offsets[i];
    }
    return OCT_OK;
}

static int compare_tensors(const void *a, const void *b) {
    const struct oct_gguf_tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static oct_status take_tensors(struct cursor *c, struct oct_gguf *gguf, uint64_t count) {
    if (count > (size_t)(c->end - c->at) / MIN_TENSOR_BYTES)
        return oct_fail(c->err, OCT_CORRUPT, "%s: truncated: %llu tensors announced, %zu bytes left", c->path, (unsigned long long)count,
                        (size_t)(c->end - c->at));
    gguf->tensors = oct_alloc(count, sizeof *gguf->tensors, "GGUF tensors");
    gguf->num_tensors = count;
    uint64_t *offsets = oct_alloc(count, sizeof *offsets, "GGUF tensor offsets");
    oct_status status = OCT_OK;
    for (uint64_t i = 0; i < count && status == OCT_OK; i++) status = take_tensor(c, gguf->tensors + i, offsets + i);
    if (status == OCT_OK) status = place_tensors(c, gguf, offsets);
    free(offsets);
    OCT_TRY(status);
    qsort(gguf->tensors, count, sizeof *gguf->tensors, compare_tensors);
    for (uint64_t i = 1; i < count; i++)
        if (!compare_tensors(gguf->tensors + i - 1, gguf->tensors + i))
            return oct_fail(c->err, OCT_CORRUPT, "%s: tensor %s stands twice", c->path, gguf->tensors[i].name);
    return OCT_OK;
}

static oct_status read_container(struct oct_gguf *gguf, oct_error *err) {
    if (!gguf->file.size) return oct_fail(err, OCT_CORRUPT, "%s: an empty file", gguf->path);
    struct cursor cursor = {gguf->path, gguf->file.data, gguf->file.data + gguf->file.size, err}, *c = &cursor;
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    uint64_t num_tensors = 0, num_keys = 0;
    OCT_TRY(take(c, 4, &magic));
    if (memcmp(magic, "GGUF", 4)) return oct_fail(err, OCT_CORRUPT, "%s: not a GGUF file", gguf->path);
    OCT_TRY(take_u32(c, &version));
    if (version != 3) return oct_fail(err, OCT_UNSUPPORTED, "%s: GGUF version 3, little endian, expected, %u found", gguf->path, version);
    OCT_TRY(take_u64(c, &num_tensors));
    OCT_TRY(take_u64(c, &num_keys));
    OCT_TRY(take_keys(c, gguf, num_keys));
    return take_tensors(c, gguf, num_tensors);
}

oct_status oct_gguf_open(const char *path, struct oct_gguf **out, oct_error *err) {
    struct oct_gguf *gguf = oct_alloc(1, sizeof *gguf, "a GGUF file");
    gguf->path = oct_strdup(path);
    oct_status status = oct_file_map(path, &gguf->file, err);
    if (status == OCT_OK) status = read_container(gguf, err);
    if (status != OCT_OK) {
        oct_gguf_close(gguf);
        return status;
    }
    *out = gguf;
    return OCT_OK;
}

void oct_gguf_close(struct oct_gguf *gguf) {
    if (!gguf) return;
    free(gguf->tensors);
    free(gguf->keys);
    oct_file_unmap(&gguf->file);
    free(gguf->path);
    free(gguf);
}

const char *oct_gguf_path(const struct oct_gguf *gguf) {
    return gguf->path;
}

static const struct key_value *find_key(const struct oct_gguf *gguf, const char *key) {
    struct key_value wanted = {.key = {key, strlen(key)}};
    return bsearch(&wanted, gguf->keys, gguf->num_keys, sizeof wanted, compare_keys);
}

static const struct key_value *find_typed(const struct oct_gguf *gguf, const char *key, enum value_type type) {
    const struct key_value *kv = find_key(gguf, key);
    return kv && kv->type == type ? kv : NULL;
}

bool oct_gguf_has(const struct oct_gguf *gguf, const char *key) {
    return find_key(gguf, key) != NULL;
}

bool oct_gguf_string(const struct oct_gguf *gguf, const char *key, struct oct_gguf_string *out) {
    const struct key_value *kv = find_typed(gguf, key, STRING);
    if (kv) *out = (struct oct_gguf_string){(const char *)kv->bytes, kv->size};
    return kv;
}

bool oct_gguf_integer(const struct oct_gguf *gguf, const char *key, int64_t *out) {
    const struct key_value *kv = find_key(gguf, key);
    if (!kv) return false;
    uint64_t bits = kv->size <= 8 ? load_unsigned(kv->bytes, kv->size) : 0;
    switch (kv->type) {
    case U8:
    case U16:
    case U32:
        *out = (int64_t)bits;
        return true;
    case I8:
        *out = (int8_t)bits;
        return true;
    case I16:
        *out = (int16_t)bits;
        return true;
    case I32:
        *out = (int32_t)bits;
        return true;
    case I64:
        *out = (int64_t)bits;
        return true;
    case U64:
        *out = (int64_t)bits;
        return bits <= INT64_MAX;
    default:
        return false;
    }
}

bool oct_gguf_float(const struct oct_gguf *gguf, const char *key, double *out) {
    const struct key_value *kv = find_key(gguf, key);
    if (!kv || (kv->type != F32 && kv->type != F64)) return false;
    uint64_t bits = load_unsigned(kv->bytes, kv->size);
    if (kv->type == F64) {
        memcpy(out, &bits, sizeof *out);
    } else {
        uint32_t narrow = (uint32_t)bits;
        float value;
        memcpy(&value, &narrow, sizeof value);
        *out = value;
    }
    return true;
}

bool oct_gguf_bool(const struct oct_gguf *gguf, const char *key, bool *out) {
    const struct key_value *kv = find_typed(gguf, key, BOOL);
    if (kv) *out = kv->bytes[0] != 0;
    return kv;
}

static const struct key_value *find_array(const struct oct_gguf *gguf, const char *key, enum value_type element, enum value_type other) {
    const struct key_value *kv = find_typed(gguf, key, ARRAY);
    return kv && (kv->element_type == element || kv->element_type == other) ? kv : NULL;
}

int64_t oct_gguf_strings(const struct oct_gguf *gguf, const char *key, struct oct_gguf_string **out) {
    const struct key_value *kv = find_array(gguf, key, STRING, STRING);
    if (!kv) return -1;
    *out = oct_alloc(kv->count, sizeof **out, key);
    struct cursor c = {gguf->path, kv->bytes, kv->bytes + kv->size, NULL};
    for (uint64_t i = 0; i < kv->count; i++) OCT_CHECK(take_string(&c, *out + i) == OCT_OK); // was walked when the file was opened
    return (int64_t)kv->count;
}

// Elements of 4 bytes, copied because the file may hold them at any address.
static int64_t copy_array(const struct key_value *kv, const char *key, void **out) {
    if (!kv) return -1;
    *out = oct_alloc(kv->count, 4, key);
    if (kv->size) memcpy(*out, kv->bytes, kv->size);
    return (int64_t)kv->count;
}

int64_t oct_gguf_integers(const struct oct_gguf *gguf, const char *key, int32_t **out) {
    void *elements;
    int64_t count = copy_array(find_array(gguf, key, I32, U32), key, &elements);
    if (count >= 0) *out = elements;
    return count;
}

int64_t oct_gguf_floats(const struct oct_gguf *gguf, const char *key, float **out) {
    void *elements;
    int64_t count = copy_array(find_array(gguf, key, F32, F32), key, &elements);
    if (count >= 0) *out = elements;
    return count;
}

size_t oct_gguf_num_tensors(const struct oct_gguf *gguf) {
    return gguf->num_tensors;
}

const struct oct_gguf_tensor_info *oct_gguf_tensor_info(const struct oct_gguf *gguf, size_t i) {
    OCT_CHECK(i < gguf->num_tensors);
    return gguf->tensors + i;
}

const struct oct_gguf_tensor_info *oct_gguf_find(const struct oct_gguf *gguf, const char *name) {
    struct oct_gguf_tensor_info wanted = {0};
    if (strlen(name) >= sizeof wanted.name) return NULL;
    strcpy(wanted.name, name);
    return bsearch(&wanted, gguf->tensors, gguf->num_tensors, sizeof wanted, compare_tensors);
}
