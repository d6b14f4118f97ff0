// gguf.h: the GGUF v3 container (spec gguf): typed key/value pairs and tensors, over a mapped file.
#pragma once

#include "base/error.h"
#include "model/checkpoint.h"

#include <stdbool.h>
#include <stdint.h>

struct oct_gguf_string {
    const char *data; // `length` bytes, not NUL-terminated; lifetime of the file
    size_t length;
};

// A tensor as the file lists it.
struct oct_gguf_tensor_info {
    char name[128];  // "blk.3.ffn_up.weight"
    uint32_t type;   // ggml's code of the format
    bool known_type; // Octavo decodes this format; else data and size are not set
    enum oct_dtype dtype;
    int num_dims;
    int64_t ne[4];       // fastest-varying first: (in, out); 1 from num_dims on
    const uint8_t *data; // size bytes inside the file; lifetime of the file
    size_t size;         // equals ne x dtype
};

oct_status oct_gguf_open(const char *path, struct oct_gguf **out, oct_error *err);
void oct_gguf_close(struct oct_gguf *gguf); // NULL is allowed

const char *oct_gguf_path(const struct oct_gguf *gguf);
bool oct_gguf_has(const struct oct_gguf *gguf, const char *key);
// Typed look-ups: true and *out set when the key exists and has a fitting type.
bool oct_gguf_string(const struct oct_gguf *gguf, const char *key, struct oct_gguf_string *out);
bool oct_gguf_integer(const struct oct_gguf *gguf, const char *key, int64_t *out); // any integer type that fits
bool oct_gguf_float(const struct oct_gguf *gguf, const char *key, double *out);    // f32 or f64
bool oct_gguf_bool(const struct oct_gguf *gguf, const char *key, bool *out);
// Arrays: the number of elements, or -1 when the key is absent or holds another type. *out is allocated; free() it.
int64_t oct_gguf_strings(const struct oct_gguf *gguf, const char *key, struct oct_gguf_string **out);
int64_t oct_gguf_integers(const struct oct_gguf *gguf, const char *key, int32_t **out); // elements i32 or u32
int64_t oct_gguf_floats(const struct oct_gguf *gguf, const char *key, float **out);     // elements f32

size_t oct_gguf_num_tensors(const struct oct_gguf *gguf);
// The i-th tensor in the order of the names.
const struct oct_gguf_tensor_info *oct_gguf_tensor_info(const struct oct_gguf *gguf, size_t i);
// NULL when there is no such tensor.
const struct oct_gguf_tensor_info *oct_gguf_find(const struct oct_gguf *gguf, const char *name);

// The model's facts and tensors, in Hugging Face's names.
oct_status oct_gguf_model_config(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err);
// The i-th tensor under its Hugging Face name; `out` is filled. Tensors of other types are an error that names tensor and type.
oct_status oct_gguf_tensor(const struct oct_gguf *gguf, const struct oct_model_config *config, size_t i, struct oct_tensor *out,
                           oct_error *err);
