// buffer.h: a growing byte string, always NUL-terminated. Zero-initialise to start: struct oct_buffer b = {0};
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct oct_buffer {
    char *data;      // length bytes and a NUL; NULL while empty and never written. Owned
    size_t length;   // bytes, without the NUL
    size_t capacity; // bytes allocated
};

void oct_buffer_append(struct oct_buffer *buffer, const void *bytes, size_t length);
void oct_buffer_puts(struct oct_buffer *buffer, const char *text);
void oct_buffer_printf(struct oct_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void oct_buffer_free(struct oct_buffer *buffer);  // back to the zero state
char *oct_buffer_take(struct oct_buffer *buffer); // the bytes, owned by the caller (never NULL); the buffer is empty again

bool oct_ends_with(const char *text, const char *ending);
