// device.h: what a device can do: the only way the model touches numbers. Shapes are in comments, rows first, C order; all pointers
// to activations are float32 device memory (for the CPU: ordinary memory). Between operations everything is float32. A row's result never
// depends on how many rows there are, nor on the number of threads.
#pragma once

#include "base/error.h"
#include "numeric/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A weight matrix, packed for the device's kernels. What enters the product is rounded once: float32 weights take x as it is,
// bf16 weights take bf16(x), and E4M3 weights take sat_rne_e4m3(x / input_scale), or bf16(x) when input_scale is 0. With row_scale, E4M3
// weights take each row of x divided by a scale of its own, made from the row as it comes.
struct oct_linear {
    enum oct_dtype dtype; // OCT_F32, OCT_BF16 or OCT_E4M3. E5M2 is OCT_BF16 with scales: every E5M2 value is a bf16 value
    int in_features, out_features;
    void *weight; // packed; layout in device/cpu/layout.h. Owned by the device
    size_t weight_bytes;
    float *scales;                      // (k_blocks, out_features) of the product: input_scale * weight scale; FP8 only, else NULL
    float *bias;                        // (out_features) or NULL
    float input_scale, input_inv_scale; // FP8 only
    float full_scale;                   // where FP8 saturates: 240 or 448 of E4M3, 57344 of E5M2
    // FP8 only. NULL: input_scale counts. Else: from max |x| of a row to the row's scale and the inverse that the cast multiplies by; the
    // product is multiplied by the row's scale as well, so `scales` are the weight's alone. Called from all threads.
    void (*row_scale)(const void *rule, float amax, float *scale, float *inv_scale);
    void *row_scale_rule; // malloc'ed; owned, freed by oct_linear_free
    // Runs of k_block inputs (the last may be shorter) have scales of their own, of weights and, with row_scale, of a row. in_features: one
    // run. Their number is k_blocks.
    int k_block, k_blocks;
};

// The rounding that one operand or result of attention goes through on its way.
struct oct_rounding {
    bool fp8;    // false: bf16 (or none, where the KV blocks are float32)
    float scale; // x = q * scale
    float inv_scale;
};

// K and V of one layer for all blocks. A block holds block_size tokens of every KV head.
struct oct_kv_layer {
    enum oct_dtype dtype_k, dtype_v; // OCT_F32, OCT_BF16 or OCT_E4M3; E5M2 is OCT_BF16 with roundings
    void *k, *v;                     // packed; layout in device/cpu/kv.h. Owned by the cache
    float scale_k, scale_v;          // value = stored * scale; 1 unless FP8
    // What K and V go through before they are stored: first the cache's own rounding, then the matmul's, when planned.
    struct oct_rounding k_cache, v_cache, matmul_k, matmul_v;
    // What the queries, the softmax's output and the probabilities go through.
    struct oct_rounding matmul_q, softmax, matmul_p;
    float full_scale;
};

struct oct_kv_shape {
    int num_key_value_heads, head_dim, block_size, num_blocks; // block_size: a multiple of 32
};

// A batch of rows from several sequences. Rows of a sequence are contiguous, ascending in position.
struct oct_batch {
    int num_rows;
    const int32_t *tokens;    // (num_rows)
    const int32_t *positions; // (num_rows) a row sees positions 0 .. its own of its sequence
    int num_seqs;
    const int32_t *row_starts;   // (num_seqs + 1) first row of each sequence
    const int32_t *block_tables; // (num_seqs, max_blocks) physical block of each logical block
    int max_blocks;
    const int32_t *logit_rows; // (num_logit_rows) the rows whose logits are wanted, ascending
    int num_logit_rows;
};

struct oct_device;

struct oct_device_info {
    const char *name; // "cpu"
    const char *isa;  // name of the kernel table: "scalar", "avx2", "avx512_bf16"
    int threads;
};

// The CPU. threads 0: the cores this process may use. OCTAVO_ISA forces a kernel table; a name that this machine cannot run is an error.
oct_status oct_device_open_cpu(int threads, struct oct_device **out, oct_error *err);
void oct_device_close(struct oct_device *device);
void oct_device_get_info(const struct oct_device *device, struct oct_device_info *info);

// --- memory -----------------------------------------------------------------------------------------------------------------------
// Zeroed, on a 64-byte boundary.
oct_status oct_device_alloc(struct oct_device *device, size_t bytes, const char *what, void **out, oct_error *err);
void oct_device_free(struct oct_device *device, void *memory); // memory may be NULL

// Calls task(context, worker, begin, end) over [0, items) in chunks, on all threads of the device's host, worker < threads: for the work
// around the operations, such as decoding a checkpoint. The task must not call an operation.
void oct_parallel_for(struct oct_device *device, int items, int chunk, void (*task)(void *context, int worker, int begin, int end),
                      void *context);

// --- weights ----------------------------------------------------------------------------------------------------------------------
// Allocates a linear of this dtype (OCT_E5M2 as well) and shape, all zero. bias: with a bias of zeros to fill in.
oct_status oct_linear_alloc(struct oct_device *device, enum oct_dtype dtype, int out_features, int in_features, bool bias,
                            struct oct_linear *out, oct_error *err);
// Gives runs of k_block inputs, a multiple of 4, scales of their own: (k_blocks, out_features), all zero. E4M3 only.
void oct_linear_split(struct oct_linear *linear, int k_block);
// Rounds rows first_row .. first_row + rows - 1 from float32 weights (rows, in_features) to the linear's dtype and packs them.
// FP8: w is rounded to sat_rne(w * inv_scales[i]), inv_scales (rows), at the linear's full_scale, which must be set. Runs on the caller
// alone; several threads may pack different rows.
void oct_linear_pack(struct oct_device *device, struct oct_linear *linear, int first_row, int rows, const float *weights,
                     const float *inv_scales);
// The value that a packed weight stands for, before scales. For tests and inspection.
float oct_linear_weight(const struct oct_linear *linear, int out, int in);
// The E4M3 codes of rows first_row .. as they were packed: codes (rows, in_features).
void oct_linear_codes(const struct oct_linear *linear, int first_row, int rows, uint8_t *codes);
void oct_linear_free(struct oct_device *device, struct oct_linear *linear);

// --- operations -------------------------------------------------------------------------------------------------------------------
// y (rows, out_features) = x (rows, in_features) W^T * scales + bias; add: y += that.
void oct_linear_forward(struct oct_device *device, const struct oct_linear *linear, const float *x, int rows, float *y, bool add);
// y (rows, hidden) = weight rows of `table` (an OCT_F32 or OCT_BF16 linear of (vocab, hidden)) picked by ids.
void oct_embed(struct oct_device *device, const struct oct_linear *table, const int32_t *ids, int rows, float *y);
// y = x / sqrt(mean(x^2) + epsilon) * weight; x, y (rows, size), weight (size).
void oct_rms_norm(struct oct_device *device, const float *x, const float *weight, int rows, int size, float epsilon, float *y);
// Rotates pairs (j, j + head_dim / 2) of every query and key head in place. qkv (rows, (heads + 2 kv_heads) * head_dim);
// cos_sin (positions, head_dim): cosines of head_dim / 2 angles, then their sines; row i uses cos_sin[positions[i]].
void oct_rope(struct oct_device *device, float *qkv, const int32_t *positions, int rows, int num_heads, int num_kv_heads, int head_dim,
              const float *cos_sin);
// Stores the K and V parts of qkv rows in the blocks of their sequences.
void oct_kv_write(struct oct_device *device, const struct oct_kv_shape *shape, const struct oct_kv_layer *layer,
                  const struct oct_batch *batch, const float *qkv, int num_heads);
// What attention saw on its way, over all rows and heads.
struct oct_attention_range {
    float scores;                      // max |q k^T * head_dim^-0.5|
    float largest_peak, smallest_peak; // of the largest probability of each row. A row's sum of e^(score - largest score) is 1 / peak
};
// out (rows, num_heads * head_dim) = softmax(q k^T * head_dim^-0.5) v over all stored positions up to the row's own. range may be NULL.
void oct_attention(struct oct_device *device, const struct oct_kv_shape *shape, const struct oct_kv_layer *layer,
                   const struct oct_batch *batch, const float *qkv, int num_heads, float *out, struct oct_attention_range *range);
// y (rows, size) = silu(gate) * up; gate_up (rows, 2 * size), gate first.
void oct_silu_mul(struct oct_device *device, const float *gate_up, int rows, int size, float *y);
// y += x, n elements.
void oct_add(struct oct_device *device, const float *x, size_t n, float *y);
// y (count, size) = the rows of x (.., size) that `rows` (count) names.
void oct_gather_rows(struct oct_device *device, const float *x, const int32_t *rows, int count, int size, float *y);
// max |x| over rows x columns, row stride `stride`. NaN if any is NaN.
float oct_amax(struct oct_device *device, const float *x, int rows, int columns, int stride);

// --- KV blocks --------------------------------------------------------------------------------------------------------------------
// Bytes of K (or of V) of one layer for all blocks.
size_t oct_kv_bytes(const struct oct_kv_shape *shape, enum oct_dtype dtype);

// --- limits -----------------------------------------------------------------------------------------------------------------------
// What the device can do at most at this moment, on all its threads: what a measured speed is a fraction of.
struct oct_device_limits {
    double read_bytes; // a second, read in order from memory far larger than the caches
    double bf16_flops; // a second, multiplications and additions counted apart, of the instruction that bf16 products are made of
};
// Takes memory to read from, once; a measurement then takes about a tenth of a second.
struct oct_device_probe;
oct_status oct_device_probe_open(struct oct_device *device, struct oct_device_probe **out, oct_error *err);
struct oct_device_limits oct_device_probe_measure(struct oct_device_probe *probe);
// Bytes a second, copied by all threads from memory to memory: what loading is compared with.
double oct_device_probe_copy(struct oct_device_probe *probe);
void oct_device_probe_close(struct oct_device_probe *probe);
