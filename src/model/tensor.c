// Rows of a stored tensor as float32, whatever its format and row order.
#include "base/memory.h"
#include "model/block_format.h"
#include "model/checkpoint.h"
#include "numeric/fp8.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int64_t oct_tensor_rows(const struct oct_tensor *tensor) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < tensor->num_dims; i++) rows *= tensor->shape[i];
    return rows;
}

int64_t oct_tensor_columns(const struct oct_tensor *tensor) {
    return tensor->num_dims ? tensor->shape[tensor->num_dims - 1] : 1;
}

// Where row `row` of the order that rotates pairs (j, j + d / 2) stands in the order that rotates neighbours (2 j, 2 j + 1); d = head_dim.
static int64_t interleaved_row(int64_t row, int64_t head_dim) {
    int64_t in_head = row % head_dim, half = head_dim / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

// A bias of Q or K: what are rows of the weight are elements here.
static void decode_interleaved_vector(const struct oct_tensor *tensor, float *out) {
    size_t count = (size_t)oct_tensor_columns(tensor);
    float *stored = oct_alloc(count, sizeof *stored, "a bias");
    oct_decode_row(tensor->dtype, tensor->data, count, stored);
    for (size_t i = 0; i < count; i++) out[i] = stored[interleaved_row((int64_t)i, tensor->interleaved_head_dim)];
    free(stored);
}

// A byte of each stored row makes a row here.
static void decode_transposed(const struct oct_tensor *tensor, int64_t first, int64_t count, float *out) {
    int64_t rows = oct_tensor_rows(tensor), columns = oct_tensor_columns(tensor);
    for (int64_t k = 0; k < columns; k++)
        for (int64_t row = 0; row < count; row++) out[row * columns + k] = oct_e4m3_to_f32(tensor->data[k * rows + first + row]);
}

void oct_tensor_rows_f32(const struct oct_tensor *tensor, int64_t first, int64_t count, float *out) {
    OCT_CHECK(first >= 0 && count >= 0 && count <= oct_tensor_rows(tensor) && first <= oct_tensor_rows(tensor) - count);
    if (tensor->interleaved_head_dim && tensor->num_dims == 1) {
        if (count) decode_interleaved_vector(tensor, out);
        return;
    }
    if (tensor->transposed) {
        decode_transposed(tensor, first, count, out);
        return;
    }
    size_t columns = (size_t)oct_tensor_columns(tensor);
    size_t row_bytes = columns / oct_dtype_block_elements(tensor->dtype) * oct_dtype_block_bytes(tensor->dtype);
    for (int64_t row = first; row < first + count; row++, out += columns) {
        int64_t stored = tensor->interleaved_head_dim ? interleaved_row(row, tensor->interleaved_head_dim) : row;
        oct_decode_row(tensor->dtype, tensor->data + (size_t)stored * row_bytes, columns, out);
    }
}

// Whole pages, so neighbours' bytes on the first and last one are dropped too; they come back from the file when they are read.
void oct_tensor_drop_pages(const struct oct_tensor *tensor) {
    if (!tensor->size) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)tensor->data & ~(page - 1);
    madvise((void *)first, (uintptr_t)tensor->data + tensor->size - first, MADV_DONTNEED);
}
