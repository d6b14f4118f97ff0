// safetensors_write.h: writes a .safetensors file as a stream: first what the tensors are, then their bytes, one after the other.
#pragma once

#include "base/buffer.h"
#include "base/file.h"

#include <stddef.h>
#include <stdint.h>

struct oct_safetensors_writer {
    struct oct_buffer header; // the JSON text, while tensors are declared
    uint64_t declared;        // bytes of the tensors so far
    uint64_t written;
    struct oct_file_writer file;
};

// Declares the next tensor. dtype: the format's spelling ("F8_E4M3", "BF16"), of element_bytes each; shape (num_dims), outermost first.
// `name` must need no escaping in JSON.
void oct_safetensors_declare(struct oct_safetensors_writer *writer, const char *name, const char *dtype, size_t element_bytes, int num_dims,
                             const int64_t *shape);
// All tensors are declared: creates the file and writes the header. Zero-initialise the writer before the first declaration.
oct_status oct_safetensors_begin(struct oct_safetensors_writer *writer, const char *path, oct_error *err);
// The next bytes, in the order of the declarations.
oct_status oct_safetensors_append(struct oct_safetensors_writer *writer, const void *bytes, size_t length, oct_error *err);
// Puts the finished file in its place.
oct_status oct_safetensors_commit(struct oct_safetensors_writer *writer, oct_error *err);
void oct_safetensors_abandon(struct oct_safetensors_writer *writer); // after a failure; harmless after a commit
