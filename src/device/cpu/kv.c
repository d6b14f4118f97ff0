// kv.c: storing keys and values in the blocks of their sequences.
#include "device/cpu/kv.h"

#include "device/cpu/cpu.h"
#include "numeric/bf16.h"

#include <string.h>

size_t oct_kv_bytes(const struct oct_kv_shape *shape, enum oct_dtype dtype) {
    size_t k = oct_k_head_bytes(shape, dtype), v = oct_v_head_bytes(shape, dtype);
    return (size_t)shape->num_blocks * (size_t)shape->num_key_value_heads * (k > v ? k : v);
}

struct write_task {
    struct oct_device *device;
    const struct oct_kv_shape *shape;
    const struct oct_kv_layer *layer;
    const struct oct_batch *batch;
    const float *qkv;
    int num_heads;
};

// Takes head_dim values through the cache's rounding and the matmul's, as planned, to what is stored: `out` holds head_dim elements of
// dtype. When both are FP8 the second sees bf16(q * scale) of the first; equal power-of-two scales make it exact.
static void round_for_store(const struct oct_kernels *kernels, const struct oct_rounding *cache, const struct oct_rounding *matmul,
                            enum oct_dtype dtype, float full_scale, const float *x, int n, float *work, void *out) {
    if (dtype == OCT_F32) {
        memcpy(out, x, (size_t)n * sizeof(float));
    } else if (dtype == OCT_BF16) {
        memcpy(work, x, (size_t)n * sizeof(float));
        if (cache->fp8) kernels->quantize(work, n, cache->inv_scale, full_scale); // to E5M2, which bf16 holds
        if (cache->fp8 && matmul->fp8 && cache->scale != matmul->scale)
            for (int i = 0; i < n; i++) work[i] = oct_bf16_round(work[i] * cache->scale);
        if (matmul->fp8 && !(cache->fp8 && cache->scale == matmul->scale)) kernels->quantize(work, n, matmul->inv_scale, full_scale);
        kernels->round_bf16(work, n, out);
    } else if (cache->fp8 && matmul->fp8 && cache->scale != matmul->scale) {
        memcpy(work, x, (size_t)n * sizeof(float));
        kernels->quantize(work, n, cache->inv_scale, full_scale);
        for (int i = 0; i < n; i++) work[i] = oct_bf16_round(work[i] * cache->scale);
        kernels->encode(work, n, matmul->inv_scale, full_scale, out);
    } else {
        kernels->encode(x, n, cache->fp8 ? cache->inv_scale : matmul->inv_scale, full_scale, out);
    }
}

// Puts element i of `values` at element `at` of a panel.
static void put(enum oct_dtype dtype, char *panel, size_t at, const void *values, int i) {
    switch (dtype) {
    case OCT_F32:
        ((float *)panel)[at] = ((const float *)values)[i];
        break;
    case OCT_BF16:
        ((uint16_t *)panel)[at] = ((const uint16_t *)values)[i];
        break;
    default:
        ((uint8_t *)panel)[at] = ((const uint8_t *)values)[i];
    }
}

static void write_row(const struct write_task *task, int row, int block, int offset, float *work) {
    const struct oct_kv_shape *shape = task->shape;
    const struct oct_kv_layer *layer = task->layer;
    const struct oct_kernels *kernels = task->device->kernels;
    int head_dim = shape->head_dim, kv_heads = shape->num_key_value_heads;
    const float *k = task->qkv + ((size_t)row * (size_t)(task->num_heads + 2 * kv_heads) + (size_t)task->num_heads) * (size_t)head_dim;
    const float *v = k + (size_t)kv_heads * (size_t)head_dim;
    float *stored = work + head_dim;
    for (int head = 0; head < kv_heads; head++, k += head_dim, v += head_dim) {
        round_for_store(kernels, &layer->k_cache, &layer->matmul_k, layer->dtype_k, layer->full_scale, k, head_dim, work, stored);
        char *panel = oct_k_panel(shape, layer, block, head, offset / OCT_PANEL * OCT_PANEL);
        for (int i = 0; i < head_dim; i++) put(layer->dtype_k, panel, oct_panel_element(layer->dtype_k, i, offset % OCT_PANEL), stored, i);

        round_for_store(kernels, &layer->v_cache, &layer->matmul_v, layer->dtype_v, layer->full_scale, v, head_dim, work, stored);
        for (int part = 0; part < oct_panels(head_dim); part++) {
            char *channels = oct_v_panel(shape, layer, block, head, part);
            // Attention multiplies four tokens at a time, and those after the last one by zero: they must not be NaN from an earlier use.
            if (offset % 4 == 0) {
                size_t element = oct_dtype_block_bytes(layer->dtype_v);
                memset(channels + (size_t)offset * OCT_PANEL * element, 0, 4 * OCT_PANEL * element);
            }
            int first = part * OCT_PANEL, last = first + OCT_PANEL < head_dim ? first + OCT_PANEL : head_dim;
            for (int i = first; i < last; i++)
                put(layer->dtype_v, channels, oct_panel_element(layer->dtype_v, offset, i - first), stored, i);
        }
    }
}

// Sequences, not rows, are shared out: the rows of one write neighbouring elements.
static void write_heads(void *context, int worker, int begin, int end) {
    const struct write_task *task = context;
    const struct oct_batch *batch = task->batch;
    float *work = oct_scratch_reserve(&task->device->workers[worker], 2 * (size_t)task->shape->head_dim * sizeof(float));
    for (int seq = begin; seq < end; seq++)
        for (int row = batch->row_starts[seq]; row < batch->row_starts[seq + 1]; row++) {
            int position = batch->positions[row];
            int block = batch->block_tables[(size_t)seq * (size_t)batch->max_blocks + (size_t)(position / task->shape->block_size)];
            OCT_CHECK(block >= 0 && block < task->shape->num_blocks);
            write_row(task, row, block, position % task->shape->block_size, work);
        }
}

void oct_kv_write(struct oct_device *device, const struct oct_kv_shape *shape, const struct oct_kv_layer *layer,
                  const struct oct_batch *batch, const float *qkv, int num_heads) {
    struct write_task task = {device, shape, layer, batch, qkv, num_heads};
    oct_pool_for(device->pool, batch->num_seqs, 8, write_heads, &task);
}
