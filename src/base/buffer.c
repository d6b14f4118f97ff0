// buffer.c: the growing byte string; capacity doubles, so that appending costs amortized constant time.
#include "base/buffer.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(struct oct_buffer *buffer, size_t more) {
    size_t needed = buffer->length + more + 1;
    if (needed <= buffer->capacity) return;
    size_t capacity = buffer->capacity * 2 > needed ? buffer->capacity * 2 : needed < 64 ? 64 : needed;
    buffer->data = oct_resize(buffer->data, capacity, 1, "a byte buffer");
    buffer->capacity = capacity;
}

void oct_buffer_append(struct oct_buffer *buffer, const void *bytes, size_t length) {
    reserve(buffer, length);
    if (length) memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void oct_buffer_puts(struct oct_buffer *buffer, const char *text) {
    oct_buffer_append(buffer, text, strlen(text));
}

void oct_buffer_printf(struct oct_buffer *buffer, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    OCT_CHECK(length >= 0);
    reserve(buffer, (size_t)length);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, again);
    va_end(again);
    buffer->length += (size_t)length;
}

void oct_buffer_free(struct oct_buffer *buffer) {
    free(buffer->data);
    *buffer = (struct oct_buffer){0};
}

char *oct_buffer_take(struct oct_buffer *buffer) {
    reserve(buffer, 0);
    buffer->data[buffer->length] = '\0';
    char *data = buffer->data;
    *buffer = (struct oct_buffer){0};
    return data;
}

bool oct_ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && !strcmp(text + length - tail, ending);
}
