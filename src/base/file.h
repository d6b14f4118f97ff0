// file.h: reading, mapping and writing whole files. A file is written whole or not at all: to a temporary name in the same
// folder, synced, then renamed.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oct_mapped_file {
    const uint8_t *data; // size bytes, read-only; NULL when the file is empty
    size_t size;
};

oct_status oct_file_map(const char *path, struct oct_mapped_file *out, oct_error *err);
void oct_file_unmap(struct oct_mapped_file *file);

// Reads the whole file into *out (NUL-terminated; free() it). A file larger than `limit` bytes is an error.
oct_status oct_file_read(const char *path, size_t limit, char **out, size_t *length, oct_error *err);
oct_status oct_file_write(const char *path, const void *bytes, size_t length, oct_error *err);

bool oct_path_is_directory(const char *path);
bool oct_path_exists(const char *path);
// Creates a folder and those above it that are missing.
oct_status oct_make_directories(const char *path, oct_error *err);
// "a/b" from "a" and "b". The caller frees it.
char *oct_path_join(const char *directory, const char *name);
