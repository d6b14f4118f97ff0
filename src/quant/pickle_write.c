// Writes what CPython's pickler (protocol 3) writes for the same object under numpy 1.26. Its one rule that matters: every string, bytes,
// list, dict, non-empty tuple, class and reduced object gets the next memo number when it is first written, and is referred to by that
// number when the same object comes again.
#include "quant/pickle.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

// Objects that numpy shares between all arrays, by the memo number they got; 0 while unwritten (numbers are kept plus one).
struct writer {
    struct oct_buffer *out;
    uint32_t num_memos;
    uint32_t reconstruct, ndarray, dtype, b, dtypes[9]; // dtypes: by element size, 1 for objects
    struct oct_value **shared;                          // (num_shared) values whose memo must be cleared in the end
    size_t num_shared, capacity;
};

static void put_byte(struct writer *w, uint8_t byte) {
    oct_buffer_append(w->out, &byte, 1);
}

static void put_number(struct writer *w, uint64_t number, size_t n) {
    for (size_t i = 0; i < n; i++) put_byte(w, (uint8_t)(number >> (8 * i)));
}

static uint32_t memoize(struct writer *w) {
    uint32_t number = w->num_memos++;
    put_byte(w, number < 256 ? 'q' : 'r');
    put_number(w, number, number < 256 ? 1 : 4);
    return number + 1;
}

// Refers to an object that has been written. False when it has not.
static bool recall(struct writer *w, uint32_t memo) {
    if (!memo) return false;
    put_byte(w, memo - 1 < 256 ? 'h' : 'j');
    put_number(w, memo - 1, memo - 1 < 256 ? 1 : 4);
    return true;
}

static void write_integer(struct writer *w, int64_t number) {
    if (number >= 0 && number < 65536) {
        put_byte(w, number < 256 ? 'K' : 'M');
        put_number(w, (uint64_t)number, number < 256 ? 1 : 2);
    } else {
        OCT_CHECK(number >= INT32_MIN && number <= INT32_MAX);
        put_byte(w, 'J');
        put_number(w, (uint64_t)number, 4);
    }
}

static void write_text(struct writer *w, const char *text, size_t length) {
    put_byte(w, 'X');
    put_number(w, length, 4);
    oct_buffer_append(w->out, text, length);
    memoize(w);
}

static void write_bytes(struct writer *w, const char *bytes, size_t length) {
    put_byte(w, length < 256 ? 'C' : 'B');
    put_number(w, length, length < 256 ? 1 : 4);
    oct_buffer_append(w->out, bytes, length);
}

static void write_global(struct writer *w, const char *module_and_name, uint32_t *memo) {
    if (recall(w, *memo)) return;
    put_byte(w, 'c');
    oct_buffer_puts(w->out, module_and_name);
    *memo = memoize(w);
}

// Closes a tuple whose `count` items have been written; before the items of a tuple of more than three stands a mark.
static void close_tuple(struct writer *w, size_t count) {
    put_byte(w, count > 3 ? 't' : (uint8_t)(0x84 + count));
    memoize(w);
}

static void write_dtype(struct writer *w, int element_size) {
    uint32_t *memo = &w->dtypes[element_size];
    if (recall(w, *memo)) return;
    bool object = element_size == 1;
    write_global(w, "numpy\ndtype\n", &w->dtype);
    write_text(w, object ? "O8" : element_size == 4 ? "f4" : "f8", 2);
    oct_buffer_puts(w->out, "\x89\x88"); // align False, copy True
    close_tuple(w, 3);
    put_byte(w, 'R');
    *memo = memoize(w);
    put_byte(w, '(');
    write_integer(w, 3);
    write_text(w, object ? "|" : "<", 1);
    oct_buffer_puts(w->out, "NNN");
    write_integer(w, -1);
    write_integer(w, -1);
    write_integer(w, object ? 63 : 0);
    close_tuple(w, 7);
    put_byte(w, 'b');
}

// _reconstruct(ndarray, (0,), b'b') and the opening of the state: (1, shape, dtype, False, ...
static void open_array(struct writer *w, int num_dims, const size_t *dims, int element_size) {
    write_global(w, "numpy.core.multiarray\n_reconstruct\n", &w->reconstruct);
    write_global(w, "numpy\nndarray\n", &w->ndarray);
    write_integer(w, 0);
    close_tuple(w, 1);
    if (!recall(w, w->b)) {
        write_bytes(w, "b", 1);
        w->b = memoize(w);
    }
    close_tuple(w, 3);
    put_byte(w, 'R');
    memoize(w);
    put_byte(w, '(');
    write_integer(w, 1);
    if (num_dims > 3) put_byte(w, '(');
    for (int i = 0; i < num_dims; i++) write_integer(w, (int64_t)dims[i]);
    if (num_dims)
        close_tuple(w, (size_t)num_dims);
    else
        put_byte(w, ')');
    write_dtype(w, element_size);
    put_byte(w, 0x89);
}

static void close_array(struct writer *w) {
    close_tuple(w, 5);
    put_byte(w, 'b');
}

static void write_value(struct writer *w, struct oct_value *value);

// Python writes the items of a list or dict in batches of 1000. A full batch of a dict is always followed by another one, be it empty.
static void write_items(struct writer *w, const struct oct_value *value) {
    enum { BATCH = 1000 };
    bool dict = value->kind == OCT_VALUE_DICT;
    size_t stride = dict ? 2 : 1, count = value->count / stride;
    if (count == 1) {
        for (size_t i = 0; i < stride; i++) write_value(w, value->items[i]);
        put_byte(w, dict ? 's' : 'a');
        return;
    }
    for (size_t first = 0; first < count || (dict && count && first == count); first += BATCH) {
        size_t last = count - first < BATCH ? count : first + BATCH;
        put_byte(w, '(');
        for (size_t i = first * stride; i < last * stride; i++) write_value(w, value->items[i]);
        put_byte(w, dict ? 'u' : 'e');
    }
}

static void write_string(struct writer *w, struct oct_value *value) {
    if (recall(w, value->memo)) return;
    value->memo = w->num_memos + 1;
    write_text(w, value->bytes, value->length);
    if (w->num_shared == w->capacity) {
        w->capacity = w->capacity ? w->capacity * 2 : 64;
        w->shared = oct_resize(w->shared, w->capacity, sizeof(struct oct_value *), "a pickle");
    }
    w->shared[w->num_shared++] = value;
}

static void write_value(struct writer *w, struct oct_value *value) {
    switch (value->kind) {
    case OCT_VALUE_NONE:
        put_byte(w, 'N');
        return;
    case OCT_VALUE_BOOL:
        put_byte(w, value->integer ? 0x88 : 0x89);
        return;
    case OCT_VALUE_INT:
        write_integer(w, value->integer);
        return;
    case OCT_VALUE_STRING:
        write_string(w, value);
        return;
    case OCT_VALUE_TUPLE:
        if (value->count > 3) put_byte(w, '(');
        for (size_t i = 0; i < value->count; i++) write_value(w, value->items[i]);
        if (value->count)
            close_tuple(w, value->count);
        else
            put_byte(w, ')');
        return;
    case OCT_VALUE_LIST:
    case OCT_VALUE_DICT:
        put_byte(w, value->kind == OCT_VALUE_LIST ? ']' : '}');
        memoize(w);
        write_items(w, value);
        return;
    case OCT_VALUE_ARRAY:
        open_array(w, value->num_dims, value->dims, value->element_size);
        write_bytes(w, value->bytes, value->length);
        memoize(w);
        close_array(w);
        return;
    case OCT_VALUE_FLOAT:
    case OCT_VALUE_BYTES:
    case OCT_VALUE_GLOBAL:
    case OCT_VALUE_DTYPE:
        break;
    }
    OCT_CHECK(!"a value that INC's files do not hold");
}

void oct_pickle_write(struct oct_value *value, struct oct_buffer *out) {
    struct writer w = {.out = out};
    oct_buffer_puts(out, "\x80\x03");
    open_array(&w, 0, NULL, 1);
    put_byte(&w, ']');
    memoize(&w);
    write_value(&w, value);
    put_byte(&w, 'a');
    close_array(&w);
    put_byte(&w, '.');
    for (size_t i = 0; i < w.num_shared; i++) w.shared[i]->memo = 0;
    free(w.shared);
}
