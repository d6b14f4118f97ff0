// avx512_bf16.c: tiles by VDPBF16PS, two multiply-adds a lane and instruction. E4M3 weights become bf16 by two byte look-ups in registers
// (VBMI), which is exact for all codes, subnormals included. x is packed as pairs of bf16: k pair after k pair, the rows of the tile
// side by side, so that one 32-bit broadcast feeds 32 products.
#include "device/cpu/kernels.h"
#include "device/cpu/layout.h"
#include "device/cpu/rows.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILE_ROWS = 12, NARROW_ROWS = 8, E4M3_TILE_ROWS = 24, PREFETCH_BYTES = 8192 };

// Columns `first` to `first` + 32 of a tile's rows, as bf16 pairs (rows, 16), go to their places: pair after pair, rows side by side.
INLINE void place_pairs(uint16_t halves[][32], int rows, int first, int k_padded, uint32_t *out) {
    int count = (k_padded - first) / 2 < 16 ? (k_padded - first) / 2 : 16;
    for (int pair = 0; pair < count; pair++)
        for (int row = 0; row < rows; row++) {
            uint32_t value;
            memcpy(&value, &halves[row][2 * pair], sizeof value);
            out[(size_t)((first / 2 + pair) * rows + row)] = value;
        }
}

// 32 values from column `first` on, zero past k.
INLINE const float *columns(const float *x, int first, int k, float buffer[32]) {
    if (first + 32 <= k) return x + first;
    for (int i = 0; i < 32; i++) buffer[i] = first + i < k ? x[first + i] : 0;
    return buffer;
}

static void pack_bf16(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    uint16_t halves[E4M3_TILE_ROWS][32];
    float buffer[32];
    for (int first = 0; first < k_padded; first += 32) {
        for (int row = 0; row < rows; row++) {
            const float *from = columns(x + (size_t)row * stride, first, k, buffer);
            for (int i = 0; i < 32; i++) halves[row][i] = (uint16_t)bf16_bits(from[i]);
        }
        place_pairs(halves, rows, first, k_padded, out);
    }
}

static void pack_e4m3(const float *x, size_t stride, int rows, int k, int k_padded, const float *inv_scales, float full_scale, void *out) {
    uint16_t halves[E4M3_TILE_ROWS][32];
    float buffer[32];
    for (int first = 0; first < k_padded; first += 32) {
        for (int row = 0; row < rows; row++) {
            const float *from = columns(x + (size_t)row * stride, first, k, buffer);
            for (int i = 0; i < 32; i++) halves[row][i] = (uint16_t)(bits_of(grid_e4m3(from[i] * inv_scales[row], full_scale)) >> 16);
        }
        place_pairs(halves, rows, first, k_padded, out);
    }
}

static void pack_f32(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    float *packed = out;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++) packed[(size_t)(i * rows + row)] = i < k ? x[(size_t)row * stride + (size_t)i] : 0;
}

// The bf16 of a non-negative E4M3 code: both put the mantissa right under the exponent, so a normal number moves up by four bits and
// changes its bias; the seven subnormals and NaN are written out.
#define BF16_OF(c)                                                                                                                         \
    ((c) == 127 ? 0x7fc0                                                                                                                   \
     : (c) >= 8 ? ((c) << 4) + 0x3c00                                                                                                      \
     : (c) >= 4 ? 0x3c00 + ((c)-4) * 0x20                                                                                                  \
     : (c) == 3 ? 0x3bc0                                                                                                                   \
     : (c) == 2 ? 0x3b80                                                                                                                   \
     : (c) == 1 ? 0x3b00                                                                                                                   \
                : 0)
#define HIGH_BYTE(c) (uint8_t)(BF16_OF(c) >> 8)
#define LOW_BYTE(c)  (uint8_t)(BF16_OF(c) & 0xff)
#define FOR_8(F, c)  F(c), F(c + 1), F(c + 2), F(c + 3), F(c + 4), F(c + 5), F(c + 6), F(c + 7)
#define FOR_64(F, c)                                                                                                                       \
    FOR_8(F, c), FOR_8(F, c + 8), FOR_8(F, c + 16), FOR_8(F, c + 24), FOR_8(F, c + 32), FOR_8(F, c + 40), FOR_8(F, c + 48), FOR_8(F, c + 56)

// Constants, not filled in at start: nothing of this file may run on a processor without its instructions.
static const uint8_t table_high[128] __attribute__((aligned(64))) = {FOR_64(HIGH_BYTE, 0), FOR_64(HIGH_BYTE, 64)};
static const uint8_t table_low[128] __attribute__((aligned(64))) = {FOR_64(LOW_BYTE, 0), FOR_64(LOW_BYTE, 64)};

struct decoder {
    __m512i high[2], low[2], sign;
};

INLINE struct decoder decoder_load(void) {
    return (struct decoder){
        .high = {_mm512_load_si512(table_high), _mm512_load_si512(table_high + 64)},
        .low = {_mm512_load_si512(table_low), _mm512_load_si512(table_low + 64)},
        .sign = _mm512_set1_epi8((char)0x80),
    };
}

// 64 codes (16 channels, 4 k) to the bf16 pairs of (k0 k1) and of (k2 k3). VPERMI2B ignores the sign bit of an index; it is put back
// into the upper byte by high | (code & 0x80).
INLINE void decode(const struct decoder *d, const uint8_t *codes, __m512bh *first, __m512bh *second) {
    __m512i code = _mm512_load_si512(codes);
    __m512i high = _mm512_permutex2var_epi8(d->high[0], code, d->high[1]);
    __m512i low = _mm512_permutex2var_epi8(d->low[0], code, d->low[1]);
    high = _mm512_ternarylogic_epi32(high, code, d->sign, 0xf8);
    *first = (__m512bh)_mm512_unpacklo_epi8(low, high);
    *second = (__m512bh)_mm512_unpackhi_epi8(low, high);
}

INLINE __m512bh broadcast_pair(const uint32_t *pair) {
    return (__m512bh)_mm512_set1_epi32((int)*pair);
}

INLINE void tile_start(int rows, __m512 acc[][2], const float *c, size_t ldc, bool accumulate) {
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int group = 0; group < 2; group++)
            acc[row][group] = accumulate ? _mm512_loadu_ps(c + (size_t)row * ldc + 16 * group) : _mm512_setzero_ps();
}

INLINE void tile_store(int rows, __m512 acc[][2], float *c, size_t ldc) {
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 2
        for (int group = 0; group < 2; group++) _mm512_storeu_ps(c + (size_t)row * ldc + 16 * group, acc[row][group]);
}

INLINE void tile_bf16_rows(int rows, const uint32_t *x, const uint16_t *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    __m512 acc[TILE_ROWS][2];
    tile_start(rows, acc, c, ldc, accumulate);
    for (int pair = 0; pair < k_padded / 2; pair++, panel += 64, x += rows) {
        _mm_prefetch((const char *)panel + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)panel + PREFETCH_BYTES + 64, _MM_HINT_T0);
        __m512bh w0 = (__m512bh)_mm512_load_si512(panel), w1 = (__m512bh)_mm512_load_si512(panel + 32);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            acc[row][0] = _mm512_dpbf16_ps(acc[row][0], w0, broadcast_pair(x + row));
            acc[row][1] = _mm512_dpbf16_ps(acc[row][1], w1, broadcast_pair(x + row));
        }
    }
    tile_store(rows, acc, c, ldc);
}

INLINE void tile_e4m3_rows(int rows, const uint32_t *x, const uint8_t *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    const struct decoder d = decoder_load();
    __m512 acc[NARROW_ROWS][2];
    tile_start(rows, acc, c, ldc, accumulate);
    for (int quad = 0; quad < k_padded / 4; quad++, panel += 128, x += 2 * rows) {
        _mm_prefetch((const char *)panel + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)panel + PREFETCH_BYTES + 64, _MM_HINT_T0);
#pragma GCC unroll 2
        for (int group = 0; group < 2; group++) {
            __m512bh first, second;
            decode(&d, panel + 64 * group, &first, &second);
#pragma GCC unroll 16
            for (int row = 0; row < rows; row++) acc[row][group] = _mm512_dpbf16_ps(acc[row][group], first, broadcast_pair(x + row));
#pragma GCC unroll 16
            for (int row = 0; row < rows; row++)
                acc[row][group] = _mm512_dpbf16_ps(acc[row][group], second, broadcast_pair(x + rows + row));
        }
    }
    tile_store(rows, acc, c, ldc);
}

// More rows than there are registers for both groups of 16 channels and the look-up tables: one group after the other, each half of the
// panel read and decoded once.
INLINE void tile_e4m3_wide_rows(int rows, const uint32_t *x, const uint8_t *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    const struct decoder d = decoder_load();
    for (int group = 0; group < 2; group++, panel += 64, c += 16) {
        __m512 acc[E4M3_TILE_ROWS];
#pragma GCC unroll 24
        for (int row = 0; row < rows; row++) acc[row] = accumulate ? _mm512_loadu_ps(c + (size_t)row * ldc) : _mm512_setzero_ps();
        const uint32_t *pairs = x;
        const uint8_t *codes = panel;
        for (int quad = 0; quad < k_padded / 4; quad++, codes += 128, pairs += 2 * rows) {
            _mm_prefetch((const char *)codes + PREFETCH_BYTES, _MM_HINT_T0);
            __m512bh first, second;
            decode(&d, codes, &first, &second);
#pragma GCC unroll 24
            for (int row = 0; row < rows; row++) acc[row] = _mm512_dpbf16_ps(acc[row], first, broadcast_pair(pairs + row));
#pragma GCC unroll 24
            for (int row = 0; row < rows; row++) acc[row] = _mm512_dpbf16_ps(acc[row], second, broadcast_pair(pairs + rows + row));
        }
#pragma GCC unroll 24
        for (int row = 0; row < rows; row++) _mm512_storeu_ps(c + (size_t)row * ldc, acc[row]);
    }
}

INLINE void tile_f32_rows(int rows, const float *x, const float *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    __m512 acc[TILE_ROWS][2];
    tile_start(rows, acc, c, ldc, accumulate);
    for (int k = 0; k < k_padded; k++, panel += 32, x += rows) {
        __m512 w0 = _mm512_load_ps(panel), w1 = _mm512_load_ps(panel + 16);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            acc[row][0] = _mm512_fmadd_ps(w0, _mm512_set1_ps(x[row]), acc[row][0]);
            acc[row][1] = _mm512_fmadd_ps(w1, _mm512_set1_ps(x[row]), acc[row][1]);
        }
    }
    tile_store(rows, acc, c, ldc);
}

// One copy of a tile function for each number of rows, so that all accumulators are registers.
#define FOR_EACH_ROW_COUNT(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
#define CASE_BF16(n)                                                                                                                       \
    case n:                                                                                                                                \
        tile_bf16_rows(n, x, panel, k_padded, c, ldc, accumulate);                                                                         \
        break;
#define CASE_E4M3(n)                                                                                                                       \
    case n:                                                                                                                                \
        tile_e4m3_rows(n, x, panel, k_padded, c, ldc, accumulate);                                                                         \
        break;
#define FOR_EACH_NARROW_ROW_COUNT(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#define FOR_EACH_WIDE_ROW_COUNT(F)   F(9) F(10) F(11) F(12) F(13) F(14) F(15) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24)
#define CASE_E4M3_WIDE(n)                                                                                                                  \
    case n:                                                                                                                                \
        tile_e4m3_wide_rows(n, x, panel, k_padded, c, ldc, accumulate);                                                                    \
        break;
#define CASE_F32(n)                                                                                                                        \
    case n:                                                                                                                                \
        tile_f32_rows(n, x, panel, k_padded, c, ldc, accumulate);                                                                          \
        break;

static void tile_bf16(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) { FOR_EACH_ROW_COUNT(CASE_BF16) }
}

static void tile_e4m3(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) { FOR_EACH_NARROW_ROW_COUNT(CASE_E4M3) FOR_EACH_WIDE_ROW_COUNT(CASE_E4M3_WIDE) }
}

static void tile_f32(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) { FOR_EACH_ROW_COUNT(CASE_F32) }
}

static void decode_panel(const uint8_t *e4m3, int k_padded, uint16_t *bf16) {
    const struct decoder d = decoder_load();
    for (int quad = 0; quad < k_padded / 4; quad++, e4m3 += 128, bf16 += 128)
        for (int group = 0; group < 2; group++) {
            __m512bh first, second;
            decode(&d, e4m3 + 64 * group, &first, &second);
            _mm512_store_si512(bf16 + 32 * group, (__m512i)first);
            _mm512_store_si512(bf16 + 64 + 32 * group, (__m512i)second);
        }
}

static double multiply_add(int repeats, float *value) {
    enum { CHAINS = 24 };
    __m512 acc[CHAINS];
    __m512bh factor = (__m512bh)_mm512_set1_epi16((short)bf16_bits(*value));
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_ps();
    for (int repeat = 0; repeat < repeats; repeat++)
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_dpbf16_ps(acc[i], factor, factor);
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_add_ps(acc[0], acc[i]);
    *value = _mm512_reduce_add_ps(acc[0]);
    return 16.0 * 4 * CHAINS * repeats;
}

const struct oct_kernels oct_kernels_avx512_bf16 = {
    .name = "avx512_bf16",
    .tile_rows = TILE_ROWS,
    .e4m3_tile_rows = E4M3_TILE_ROWS,
    .x_bytes = sizeof(uint16_t),
    .pack_bf16 = pack_bf16,
    .pack_f32 = pack_f32,
    .pack_e4m3 = pack_e4m3,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .tile_e4m3 = tile_e4m3,
    .decode_panel = decode_panel,
    .multiply_add = multiply_add,
    ROW_KERNELS,
};
