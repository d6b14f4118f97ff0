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

// The same in pieces, for files that do not fit in memory. Nothing is at `path` before the commit.
struct oct_file_writer {
    int fd;           // -1: closed
    char *path;       // owned
    char *unfinished; // the temporary name. Owned
};
oct_status oct_file_writer_open(const char *path, struct oct_file_writer *out, oct_error *err);
oct_status oct_file_writer_append(struct oct_file_writer *writer, const void *bytes, size_t length, oct_error *err);
// Syncs and renames. The writer is closed whatever the outcome, and the temporary file gone.
oct_status oct_file_writer_commit(struct oct_file_writer *writer, oct_error *err);
void oct_file_writer_abandon(struct oct_file_writer *writer); // may be closed already, or zeroed by its owner

bool oct_path_is_directory(const char *path);
bool oct_path_exists(const char *path);
// Creates a folder and those above it that are missing.
oct_status oct_make_directories(const char *path, oct_error *err);
// "a/b" from "a" and "b". The caller frees it.
char *oct_path_join(const char *directory, const char *name);
