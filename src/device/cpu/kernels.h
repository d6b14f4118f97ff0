// kernels.h: the functions of one instruction set, all single-threaded: a kernel table. scalar.c is the one to read and the oracle of
// the others; a table is chosen once, when the device opens.
//
// Everything is built on one product: a tile of up to tile_rows rows of x times a panel of 32 output channels. A weight matrix, the
// keys of 32 tokens and the values of a block are all panels (layout.h), so linears and attention share the kernels. Each output is summed
// over ascending k in one fixed order: it does not depend on the rows beside it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OCT_PANEL = 32, OCT_MAX_TILE_ROWS = 24 };

struct oct_kernels {
    const char *name;
    int tile_rows;      // rows of a full tile, at most OCT_MAX_TILE_ROWS
    int e4m3_tile_rows; // the same for tile_e4m3, which decodes its panel anew for each tile: may be more, never less

    // x is packed tile by tile: for bf16 and E4M3 panels by pack_bf16 (x_bytes bytes an element), for float32 panels by pack_f32 (4 bytes).
    // A tile of r rows takes r * k_padded elements, k_padded a multiple of 4; elements past k are zero.
    size_t x_bytes;
    void (*pack_bf16)(const float *x, size_t stride, int rows, int k, int k_padded, void *out); // rounds to bf16, nearest even
    void (*pack_f32)(const float *x, size_t stride, int rows, int k, int k_padded, void *out);
    // As pack_bf16, of the values of sat_rne_e4m3(x * inv_scales[row]), which bf16 holds exactly. inv_scales (rows).
    void (*pack_e4m3)(const float *x, size_t stride, int rows, int k, int k_padded, const float *inv_scales, float full_scale, void *out);

    // c (rows, 32), row stride ldc = [accumulate ? c : 0] + x (rows, k_padded) * panel (k_padded, 32).
    void (*tile_f32)(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate);
    void (*tile_bf16)(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate);
    void (*tile_e4m3)(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate);
    // Rewrites an E4M3 panel as the bf16 panel of the same values, to be used for many tiles. NULL: decoding again is as good.
    void (*decode_panel)(const uint8_t *e4m3, int k_padded, uint16_t *bf16);
    // y (rows, n) = [add ? y : 0] + c (rows, 32) * scales + bias; scales (n) or NULL, bias (n) or NULL, n <= 32.
    void (*finish)(const float *c, int rows, int n, const float *scales, const float *bias, float *y, size_t ldy, bool add);

    // Vectors of n float32.
    void (*quantize)(float *x, int n, float inv_scale, float full_scale); // x = value of sat_rne(x * inv_scale): E5M2 beyond 448, else E4M3
    void (*encode)(const float *x, int n, float inv_scale, float full_scale, uint8_t *out); // the byte itself, E4M3
    void (*round_bf16)(const float *x, int n, uint16_t *out);
    void (*scale)(const float *x, int n, float factor, float *y); // y = x * factor
    void (*rms_norm)(const float *x, const float *weight, int n, float epsilon, float *y);
    void (*rotate)(float *head, int half, const float *cosines, const float *sines); // pairs (j, j + half)
    void (*silu_mul)(const float *gate, const float *up, int n, float *y);
    float (*softmax)(float *x, int n, float factor); // in place over x * factor; returns the largest probability
    float (*amax)(const float *x, int n);            // max |x|; NaN if any is NaN

    // For measuring limits: the sum of the 8-byte words of memory (bytes, a multiple of 256), and `repeats` rounds of independent
    // multiply-adds in registers, of the kind that tile_bf16 is made of, with *value, which takes the result. Returns how many
    // floating-point operations those were.
    uint64_t (*read)(const void *memory, size_t bytes);
    double (*multiply_add)(int repeats, float *value);
};

extern const struct oct_kernels oct_kernels_scalar;
extern const struct oct_kernels oct_kernels_avx2;
extern const struct oct_kernels oct_kernels_avx512_bf16;

// The best table for this machine, or the one OCTAVO_ISA names; NULL and *reason set when that one cannot run here.
const struct oct_kernels *oct_kernels_choose(const char *wanted, const char **reason);
