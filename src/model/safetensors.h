// safetensors.h: one mapped .safetensors file: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes. The header
// gives each tensor a dtype, a shape and its place among those bytes, which the tensors must cover without gap or overlap.
#pragma once

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

enum { OCT_SAFETENSORS_MAX_DIMS = 8 };

struct oct_safetensors_entry {
    const char *name;  // lifetime of the file, like the pointers below
    const char *dtype; // "F32", "BF16", "I64" ...: the format's own spelling
    int num_dims;
    int64_t shape[OCT_SAFETENSORS_MAX_DIMS]; // outermost first; the first num_dims are set
    const uint8_t *data;                     // size bytes, at any alignment
    size_t size;                             // equals shape x dtype
};

struct oct_safetensors {
    struct oct_mapped_file file;
    json_t *header;                        // owns the names
    struct oct_safetensors_entry *entries; // (num_entries), sorted by name
    size_t num_entries;
};

oct_status oct_safetensors_open(const char *path, struct oct_safetensors **out, oct_error *err);
void oct_safetensors_close(struct oct_safetensors *safetensors); // NULL is allowed
// NULL when there is no such tensor.
const struct oct_safetensors_entry *oct_safetensors_find(const struct oct_safetensors *safetensors, const char *name);
