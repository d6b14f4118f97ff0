// checkpoint.h: weights on disk, whatever the format. Tensors carry Hugging Face's names and orientation: weight[out][in],
// row-major, rows of Q and K in the order that rotates pairs (j, j + head_dim / 2).
#pragma once

#include "base/error.h"
#include "model/config.h"
#include "numeric/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oct_tensor {
    char name[128]; // "model.layers.3.mlp.up_proj.weight"
    enum oct_dtype dtype;
    int num_dims;             // 1 or 2 for every tensor of a Llama model
    int64_t shape[4];         // outermost first: (out, in)
    const uint8_t *data;      // into the mapped file; lifetime of the checkpoint
    size_t size;              // bytes at data; already checked to equal shape x dtype and to lie inside the file
    bool transposed;          // stored as (in, out): weights of INC's saved models
    int interleaved_head_dim; // GGUF Q and K: rows of each head are stored pairwise interleaved, head_dim of them; else 0
};

struct oct_checkpoint;
struct oct_gguf;

// Opens a directory with config.json and model.safetensors (or model.safetensors.index.json and its shards), or a .gguf file.
// Every offset, count and shape is checked against the files before use.
oct_status oct_checkpoint_open(const char *path, struct oct_checkpoint **out, oct_error *err);
// A checkpoint without a file: tensors (num_tensors) are copied, what they point to must outlive the checkpoint.
struct oct_checkpoint *oct_checkpoint_from_tensors(const char *name, const struct oct_model_config *config,
                                                   const struct oct_tensor *tensors, size_t num_tensors);
void oct_checkpoint_close(struct oct_checkpoint *checkpoint);

const struct oct_model_config *oct_checkpoint_config(const struct oct_checkpoint *checkpoint);
// NULL when there is no such tensor.
const struct oct_tensor *oct_checkpoint_find(const struct oct_checkpoint *checkpoint, const char *name);
// As find, but a tensor that is missing or has another shape is an error that names both. shape1 = 0: a vector (shape0).
oct_status oct_checkpoint_require(const struct oct_checkpoint *checkpoint, const char *name, int64_t shape0, int64_t shape1,
                                  const struct oct_tensor **out, oct_error *err);
// The GGUF file behind it, or NULL for a directory. Lifetime of the checkpoint.
const struct oct_gguf *oct_checkpoint_gguf(const struct oct_checkpoint *checkpoint);
// As it was opened: for messages.
const char *oct_checkpoint_path(const struct oct_checkpoint *checkpoint);
// All tensors, in the order of their names; 0 <= i < oct_checkpoint_num_tensors.
size_t oct_checkpoint_num_tensors(const struct oct_checkpoint *checkpoint);
const struct oct_tensor *oct_checkpoint_tensor(const struct oct_checkpoint *checkpoint, size_t i);
// The folder that holds the checkpoint's other files (tokenizer.json ...), or NULL for a GGUF file.
const char *oct_checkpoint_directory(const struct oct_checkpoint *checkpoint);

// Number of rows and of columns when a tensor is seen as a matrix; a vector is one row.
int64_t oct_tensor_rows(const struct oct_tensor *tensor);
int64_t oct_tensor_columns(const struct oct_tensor *tensor);
// Decodes rows first .. first + count - 1, in Hugging Face's order, exactly, to float32: out (count, columns). FP8 weights come without
// their scales, which are tensors of their own (model/stored_fp8.h).
void oct_tensor_rows_f32(const struct oct_tensor *tensor, int64_t first, int64_t count, float *out);
// Tells the system that the mapped pages of this tensor are not needed again.
void oct_tensor_drop_pages(const struct oct_tensor *tensor);
