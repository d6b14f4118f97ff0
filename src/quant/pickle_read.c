// A stack machine over the opcodes that numpy's files contain. Everything a pickle makes is allocated in the tree and costs a bounded
// number of bytes for each byte of input, so the size limit of the file bounds memory too.
#include "quant/pickle.h"

#include "base/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum global { RECONSTRUCT, NDARRAY, DTYPE, ARRAY };

static const struct {
    const char *module, *name;
    enum global global;
} globals[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},  // numpy 1
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT}, // numpy 2
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE},
    {"numpy", "array", ARRAY}, // no numpy writes it, but a hand-made file may
};

// A model of 100 layers takes 30,000 opcodes.
enum { MAX_DEPTH = 32, MAX_OPCODES = 4 << 20, OBJECT_ELEMENT = 1 };

struct reader {
    const char *name;
    const uint8_t *bytes;
    size_t length, at;
    struct oct_tree *tree;
    struct oct_value **stack; // (top)
    size_t top, capacity;
    size_t *marks; // (num_marks) heights of the stack
    size_t num_marks, marks_capacity;
    struct oct_value **memo; // (memo_size), NULL where nothing was put
    size_t memo_size, memo_next;
    oct_error *err;
};

static oct_status bad(struct reader *r, const char *what) {
    oct_fail(r->err, OCT_CORRUPT, "%s: pickle: %s at byte %zu", r->name, what, r->at);
    return OCT_CORRUPT;
}

static oct_status take(struct reader *r, size_t n, const uint8_t **out) {
    if (n > r->length - r->at) return bad(r, "the data ends too early");
    *out = r->bytes + r->at;
    r->at += n;
    return OCT_OK;
}

// A little-endian number of n <= 8 bytes.
static oct_status take_number(struct reader *r, size_t n, uint64_t *out) {
    const uint8_t *bytes;
    OCT_TRY(take(r, n, &bytes));
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | bytes[i];
    return OCT_OK;
}

static oct_status push(struct reader *r, struct oct_value *value) {
    if (value->depth > MAX_DEPTH) return bad(r, "nested too deeply");
    if (r->top == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 64;
        r->stack = oct_resize(r->stack, r->capacity, sizeof *r->stack, "a pickle");
    }
    r->stack[r->top++] = value;
    return OCT_OK;
}

// The part of the stack above the innermost mark belongs to the container being built; nothing pops through a mark.
static size_t floor_of(const struct reader *r) {
    return r->num_marks ? r->marks[r->num_marks - 1] : 0;
}

static oct_status pop(struct reader *r, struct oct_value **out) {
    if (r->top <= floor_of(r)) return bad(r, "too few values");
    *out = r->stack[--r->top];
    return OCT_OK;
}

static oct_status push_kind(struct reader *r, enum oct_value_kind kind, int64_t integer) {
    struct oct_value *value = oct_tree_value(r->tree, kind);
    value->integer = integer;
    return push(r, value);
}

static oct_status push_bytes(struct reader *r, enum oct_value_kind kind, size_t length_bytes) {
    uint64_t length;
    const uint8_t *bytes;
    OCT_TRY(take_number(r, length_bytes, &length));
    if (length > r->length) return bad(r, "the data ends too early");
    OCT_TRY(take(r, (size_t)length, &bytes));
    struct oct_value *value = oct_tree_value(r->tree, kind);
    char *copy = oct_tree_alloc(r->tree, (size_t)length + 1);
    memcpy(copy, bytes, (size_t)length);
    value->bytes = copy;
    value->length = (size_t)length;
    return push(r, value);
}

static oct_status mark(struct reader *r) {
    if (r->num_marks == r->marks_capacity) {
        r->marks_capacity = r->marks_capacity ? r->marks_capacity * 2 : 16;
        r->marks = oct_resize(r->marks, r->marks_capacity, sizeof *r->marks, "a pickle");
    }
    r->marks[r->num_marks++] = r->top;
    return OCT_OK;
}

// Removes the innermost mark; *first is the height of the stack below the values that were above it.
static oct_status pop_mark(struct reader *r, size_t *first) {
    if (!r->num_marks) return bad(r, "no mark");
    *first = r->marks[--r->num_marks];
    return OCT_OK;
}

static oct_status push_tuple(struct reader *r, size_t count) {
    if (r->top - floor_of(r) < count) return bad(r, "too few values");
    struct oct_value *tuple = oct_tree_value(r->tree, OCT_VALUE_TUPLE);
    for (size_t i = r->top - count; i < r->top; i++) oct_value_append(r->tree, tuple, r->stack[i]);
    r->top -= count;
    return push(r, tuple);
}

// Moves the values from stack[first] up into the container below them.
static oct_status fill(struct reader *r, size_t first, enum oct_value_kind kind) {
    if (first <= floor_of(r) || first > r->top || r->stack[first - 1]->kind != kind) return bad(r, "no container to fill");
    struct oct_value *container = r->stack[first - 1];
    if (kind == OCT_VALUE_DICT && (r->top - first) % 2) return bad(r, "a key without a value");
    for (size_t i = first; i < r->top; i++) oct_value_append(r->tree, container, r->stack[i]);
    r->top = first;
    return container->depth > MAX_DEPTH ? bad(r, "nested too deeply") : OCT_OK;
}

static oct_status put(struct reader *r, uint64_t index) {
    if (r->top <= floor_of(r)) return bad(r, "too few values");
    if (index > r->at) return bad(r, "a memo index out of range"); // a real one is at most the number of opcodes so far
    if (index >= r->memo_size) {
        size_t size = (size_t)index + 1 > r->memo_size * 2 ? (size_t)index + 1 : r->memo_size * 2;
        r->memo = oct_resize(r->memo, size, sizeof *r->memo, "a pickle");
        memset(r->memo + r->memo_size, 0, (size - r->memo_size) * sizeof *r->memo);
        r->memo_size = size;
    }
    r->memo[index] = r->stack[r->top - 1];
    return OCT_OK;
}

static oct_status get(struct reader *r, size_t index_bytes) {
    uint64_t index;
    OCT_TRY(take_number(r, index_bytes, &index));
    if (index >= r->memo_size || !r->memo[index]) return bad(r, "a memo index that was never put");
    struct oct_value *value = r->memo[index];
    bool container = value->kind == OCT_VALUE_LIST || value->kind == OCT_VALUE_TUPLE || value->kind == OCT_VALUE_DICT;
    if (container || (value->kind == OCT_VALUE_ARRAY && !oct_value_is_numbers(value))) return bad(r, "a second reference to a container");
    return push(r, value);
}

static oct_status push_global(struct reader *r, const char *module, size_t module_length, const char *name, size_t name_length) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strlen(globals[i].module) == module_length && !memcmp(globals[i].module, module, module_length) &&
            strlen(globals[i].name) == name_length && !memcmp(globals[i].name, name, name_length))
            return push_kind(r, OCT_VALUE_GLOBAL, globals[i].global);
    return oct_fail(r->err, OCT_CORRUPT, "%s: pickle: only numpy arrays expected, \"%.*s.%.*s\" found", r->name,
                    (int)(module_length < 100 ? module_length : 100), module, (int)(name_length < 100 ? name_length : 100), name);
}

static oct_status take_line(struct reader *r, const char **line, size_t *length) {
    const uint8_t *end = memchr(r->bytes + r->at, '\n', r->length - r->at);
    if (!end) return bad(r, "the data ends too early");
    *line = (const char *)r->bytes + r->at;
    *length = (size_t)(end - (r->bytes + r->at));
    r->at += *length + 1;
    return OCT_OK;
}

static oct_status global_by_lines(struct reader *r) {
    const char *module, *name;
    size_t module_length, name_length;
    OCT_TRY(take_line(r, &module, &module_length));
    OCT_TRY(take_line(r, &name, &name_length));
    return push_global(r, module, module_length, name, name_length);
}

static oct_status global_by_stack(struct reader *r) {
    struct oct_value *module, *name;
    OCT_TRY(pop(r, &name));
    OCT_TRY(pop(r, &module));
    if (module->kind != OCT_VALUE_STRING || name->kind != OCT_VALUE_STRING) return bad(r, "a name that is no string");
    return push_global(r, module->bytes, module->length, name->bytes, name->length);
}

// 4, 8 or OBJECT_ELEMENT; 0 for a dtype that INC's files do not hold.
static int element_size_of(const struct oct_value *dtype_name) {
    static const struct {
        const char *name;
        int size;
    } dtypes[] = {{"f4", 4}, {"<f4", 4}, {"f8", 8}, {"<f8", 8}, {"O8", OBJECT_ELEMENT}, {"O", OBJECT_ELEMENT}, {"|O", OBJECT_ELEMENT}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (oct_value_is_string(dtype_name, dtypes[i].name)) return dtypes[i].size;
    return 0;
}

static oct_status set_shape(struct reader *r, struct oct_value *array, const struct oct_value *shape) {
    if (shape->kind != OCT_VALUE_TUPLE || shape->count > OCT_ARRAY_MAX_DIMS) return bad(r, "an array of at most 4 dimensions expected");
    size_t size = 1;
    for (size_t i = 0; i < shape->count; i++) {
        const struct oct_value *dim = shape->items[i];
        if (dim->kind != OCT_VALUE_INT || dim->integer < 0 || (uint64_t)dim->integer > r->length) return bad(r, "a bad array dimension");
        if (__builtin_mul_overflow(size, (size_t)dim->integer, &size)) return bad(r, "an array that is too large");
        array->dims[i] = (size_t)dim->integer;
    }
    array->num_dims = (int)shape->count;
    return OCT_OK;
}

static oct_status set_elements(struct reader *r, struct oct_value *array, const struct oct_value *data) {
    size_t bytes;
    if (data->kind != OCT_VALUE_BYTES || __builtin_mul_overflow(oct_array_size(array), (size_t)array->element_size, &bytes) ||
        data->length != bytes)
        return bad(r, "array data that does not fit the shape");
    array->bytes = data->bytes;
    array->length = data->length;
    return OCT_OK;
}

static oct_status call(struct reader *r) {
    struct oct_value *args, *function;
    OCT_TRY(pop(r, &args));
    OCT_TRY(pop(r, &function));
    if (function->kind != OCT_VALUE_GLOBAL || args->kind != OCT_VALUE_TUPLE) return bad(r, "a call of something that is no function");
    struct oct_value **arg = args->items;
    switch ((enum global)function->integer) {
    case RECONSTRUCT: // (ndarray, (0,), b'b'): an empty array, whose state BUILD sets
        return push(r, oct_tree_value(r->tree, OCT_VALUE_ARRAY));
    case DTYPE: // ('f4', False, True)
        if (args->count < 1 || !element_size_of(arg[0])) return bad(r, "an element type that is not float32, float64 or object");
        return push_kind(r, OCT_VALUE_DTYPE, element_size_of(arg[0]));
    case ARRAY: { // (value,)
        if (args->count != 1) return bad(r, "numpy.array with one argument expected");
        struct oct_value *array = oct_tree_value(r->tree, OCT_VALUE_ARRAY);
        array->element_size = OBJECT_ELEMENT;
        oct_value_append(r->tree, array, arg[0]);
        return push(r, array);
    }
    case NDARRAY: { // (shape, '<f4', bytes)
        if (args->count != 3) return bad(r, "numpy.ndarray with three arguments expected");
        struct oct_value *array = oct_tree_value(r->tree, OCT_VALUE_ARRAY);
        array->element_size = element_size_of(arg[1]);
        if (array->element_size < 4) return bad(r, "an element type that is not float32 or float64");
        OCT_TRY(set_shape(r, array, arg[0]));
        OCT_TRY(set_elements(r, array, arg[2]));
        return push(r, array);
    }
    }
    return bad(r, "an unknown function");
}

// The state of an array: (1, shape, dtype, is_fortran, data); of a dtype: (3, byte order, ...).
static oct_status build(struct reader *r) {
    struct oct_value *state;
    OCT_TRY(pop(r, &state));
    if (r->top <= floor_of(r) || state->kind != OCT_VALUE_TUPLE) return bad(r, "an object's state expected");
    struct oct_value *object = r->stack[r->top - 1];
    if (object->kind == OCT_VALUE_DTYPE) {
        const struct oct_value *order = state->count > 1 ? state->items[1] : NULL;
        if (!oct_value_is_string(order, "<") && !oct_value_is_string(order, "|") && !oct_value_is_string(order, "="))
            return bad(r, "little-endian numbers expected");
        return OCT_OK;
    }
    if (object->kind != OCT_VALUE_ARRAY || object->element_size) return bad(r, "a state for something that has none");
    if (state->count != 5 || state->items[2]->kind != OCT_VALUE_DTYPE) return bad(r, "an array's state expected");
    const struct oct_value *fortran = state->items[3], *data = state->items[4];
    OCT_TRY(set_shape(r, object, state->items[1]));
    object->element_size = (int)state->items[2]->integer;
    if (object->num_dims > 1 && (fortran->kind != OCT_VALUE_BOOL || fortran->integer)) return bad(r, "a row-major array expected");
    if (object->element_size != OBJECT_ELEMENT) return set_elements(r, object, data);
    if (object->num_dims || data->kind != OCT_VALUE_LIST || data->count != 1) return bad(r, "an object array of one element expected");
    oct_value_append(r->tree, object, data->items[0]);
    return OCT_OK;
}

static oct_status push_integer(struct reader *r, size_t n, bool is_signed) {
    uint64_t number;
    OCT_TRY(take_number(r, n, &number));
    return push_kind(r, OCT_VALUE_INT, is_signed ? (int64_t)(int32_t)number : (int64_t)number);
}

static oct_status push_long(struct reader *r) {
    uint64_t n, number;
    OCT_TRY(take_number(r, 1, &n));
    if (n > 8) return bad(r, "a number that is too large");
    OCT_TRY(take_number(r, (size_t)n, &number));
    if (n && n < 8 && number >> (8 * n - 1)) number |= ~(uint64_t)0 << (8 * n); // two's complement of n bytes
    return push_kind(r, OCT_VALUE_INT, (int64_t)number);
}

static oct_status push_float(struct reader *r) { // big endian, the only such opcode
    const uint8_t *bytes;
    OCT_TRY(take(r, 8, &bytes));
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    struct oct_value *value = oct_tree_value(r->tree, OCT_VALUE_FLOAT);
    memcpy(&value->real, &bits, sizeof bits);
    return push(r, value);
}

static oct_status put_numbered(struct reader *r, size_t index_bytes) {
    uint64_t index;
    OCT_TRY(take_number(r, index_bytes, &index));
    return put(r, index);
}

static oct_status step(struct reader *r, uint8_t opcode) {
    uint64_t number;
    size_t first;
    const uint8_t *skipped;
    switch (opcode) {
    case 0x80: // PROTO
        OCT_TRY(take_number(r, 1, &number));
        return number < 2 || number > 5 ? bad(r, "protocol 2 to 5 expected") : OCT_OK;
    case 0x95:
        return take(r, 8, &skipped); // FRAME: a hint for buffering
    case '(':
        return mark(r);
    case 'N':
        return push_kind(r, OCT_VALUE_NONE, 0);
    case 0x88:
        return push_kind(r, OCT_VALUE_BOOL, 1);
    case 0x89:
        return push_kind(r, OCT_VALUE_BOOL, 0);
    case 'K':
        return push_integer(r, 1, false);
    case 'M':
        return push_integer(r, 2, false);
    case 'J':
        return push_integer(r, 4, true);
    case 0x8a:
        return push_long(r);
    case 'G':
        return push_float(r);
    case 0x8c:
        return push_bytes(r, OCT_VALUE_STRING, 1);
    case 'X':
        return push_bytes(r, OCT_VALUE_STRING, 4);
    case 0x8d:
        return push_bytes(r, OCT_VALUE_STRING, 8);
    case 'C':
        return push_bytes(r, OCT_VALUE_BYTES, 1);
    case 'B':
        return push_bytes(r, OCT_VALUE_BYTES, 4);
    case 0x8e:
        return push_bytes(r, OCT_VALUE_BYTES, 8);
    case '}':
        return push(r, oct_tree_value(r->tree, OCT_VALUE_DICT));
    case ']':
        return push(r, oct_tree_value(r->tree, OCT_VALUE_LIST));
    case ')':
        return push(r, oct_tree_value(r->tree, OCT_VALUE_TUPLE));
    case 's':
        return r->top - floor_of(r) < 3 ? bad(r, "too few values") : fill(r, r->top - 2, OCT_VALUE_DICT);
    case 'a':
        return r->top - floor_of(r) < 2 ? bad(r, "too few values") : fill(r, r->top - 1, OCT_VALUE_LIST);
    case 'u':
        OCT_TRY(pop_mark(r, &first));
        return fill(r, first, OCT_VALUE_DICT);
    case 'e':
        OCT_TRY(pop_mark(r, &first));
        return fill(r, first, OCT_VALUE_LIST);
    case 't':
        OCT_TRY(pop_mark(r, &first));
        return push_tuple(r, r->top - first);
    case 0x85:
        return push_tuple(r, 1);
    case 0x86:
        return push_tuple(r, 2);
    case 0x87:
        return push_tuple(r, 3);
    case 'q':
        return put_numbered(r, 1);
    case 'r':
        return put_numbered(r, 4);
    case 0x94:
        return put(r, r->memo_next++);
    case 'h':
        return get(r, 1);
    case 'j':
        return get(r, 4);
    case 'c':
        return global_by_lines(r);
    case 0x93:
        return global_by_stack(r);
    case 'R':
        return call(r);
    case 'b':
        return build(r);
    default:
        return oct_fail(r->err, OCT_CORRUPT, "%s: pickle: opcode 0x%02x at byte %zu is not one numpy uses", r->name, opcode, r->at - 1);
    }
}

oct_status oct_pickle_read(const char *name, const void *bytes, size_t length, struct oct_tree *tree, struct oct_value **out,
                           oct_error *err) {
    struct reader r = {.name = name, .bytes = bytes, .length = length, .tree = tree, .err = err};
    oct_status status = OCT_OK;
    uint64_t opcode = 0;
    for (int n = 0; status == OCT_OK; n++) {
        status = n == MAX_OPCODES ? bad(&r, "too many opcodes") : take_number(&r, 1, &opcode);
        if (status != OCT_OK || opcode == '.') break;
        status = step(&r, (uint8_t)opcode);
    }
    struct oct_value *array = NULL;
    if (status == OCT_OK) status = pop(&r, &array);
    if (status == OCT_OK && (array->kind != OCT_VALUE_ARRAY || array->element_size != OBJECT_ELEMENT || !array->count))
        status = bad(&r, "an array that holds one Python object expected");
    if (status == OCT_OK) *out = array->items[0];
    free(r.stack);
    free(r.marks);
    free(r.memo);
    return status;
}
