// avx2.c: tiles by float32 FMA. A register holds four channels times one pair of k, as the panels store them; the two halves of a pair are
// summed at the end. E4M3 goes through binary16, whose bits differ by a shift: (code << 7 with the sign kept apart) is the value times
// 2^-8, exactly, subnormals included; F16C widens it. x is packed as float32 pairs.
#include "device/cpu/kernels.h"
#include "device/cpu/layout.h"
#include "device/cpu/rows.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILE_ROWS = 3, GROUP_REGISTERS = 4 }; // 3 rows x 16 channels: 12 accumulators, 4 registers left

static void pack_pairs(const float *x, size_t stride, int rows, int k, int k_padded, float *out, bool to_bf16) {
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++) {
            float value = i < k ? x[(size_t)row * stride + (size_t)i] : 0;
            out[(size_t)((i / 2 * rows + row) * 2 + (i & 1))] = to_bf16 ? float_of(bf16_bits(value) << 16) : value;
        }
}

static void pack_bf16(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    pack_pairs(x, stride, rows, k, k_padded, out, true);
}

static void pack_f32(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    pack_pairs(x, stride, rows, k, k_padded, out, false);
}

static void pack_e4m3(const float *x, size_t stride, int rows, int k, int k_padded, const float *inv_scales, float full_scale, void *out) {
    float *packed = out;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++)
            packed[(size_t)((i / 2 * rows + row) * 2 + (i & 1))] =
                i < k ? grid_e4m3(x[(size_t)row * stride + (size_t)i] * inv_scales[row], full_scale) : 0;
}

INLINE __m256 broadcast_pair(const float *pair) {
    return _mm256_castpd_ps(_mm256_broadcast_sd((const double *)(const void *)pair));
}

// 8 bf16: four channels of one k pair.
INLINE __m256 widen_bf16(const uint16_t *values) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)values)), 16));
}

// 8 E4M3 codes: four channels of one k pair, times 2^-8.
INLINE __m256 widen_e4m3(const uint8_t *codes) {
    __m128i wide = _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)codes)), 8);
    return _mm256_cvtph_ps(_mm_and_si128(_mm_srai_epi16(wide, 1), _mm_set1_epi16((short)0xbf80)));
}

// Sums the halves of the k pairs and stores 16 channels.
INLINE void store_group(__m256 acc[GROUP_REGISTERS], float factor, float *c, bool accumulate) {
    for (int i = 0; i < GROUP_REGISTERS; i += 2) {
        // hadd works inside 128-bit lanes: channels come out as 0 1 4 5 2 3 6 7.
        __m256 sums = _mm256_hadd_ps(acc[i], acc[i + 1]);
        sums = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sums), 0xd8));
        sums = _mm256_mul_ps(sums, _mm256_set1_ps(factor));
        if (accumulate) sums = _mm256_add_ps(_mm256_loadu_ps(c + 4 * i), sums);
        _mm256_storeu_ps(c + 4 * i, sums);
    }
}

INLINE void tile_bf16_rows(int rows, const float *x, const uint16_t *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    for (int group = 0; group < 2; group++) {
        __m256 acc[TILE_ROWS][GROUP_REGISTERS] = {0};
        for (int pair = 0; pair < k_padded / 2; pair++)
#pragma GCC unroll 4
            for (int i = 0; i < GROUP_REGISTERS; i++) {
                __m256 w = widen_bf16(panel + 64 * pair + 32 * group + 8 * i);
#pragma GCC unroll 4
                for (int row = 0; row < rows; row++)
                    acc[row][i] = _mm256_fmadd_ps(w, broadcast_pair(x + 2 * (pair * rows + row)), acc[row][i]);
            }
        for (int row = 0; row < rows; row++) store_group(acc[row], 1, c + (size_t)row * ldc + 16 * group, accumulate);
    }
}

INLINE void tile_e4m3_rows(int rows, const float *x, const uint8_t *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    for (int group = 0; group < 2; group++) {
        __m256 acc[TILE_ROWS][GROUP_REGISTERS] = {0};
        for (int pair = 0; pair < k_padded / 2; pair++)
#pragma GCC unroll 4
            for (int i = 0; i < GROUP_REGISTERS; i++) {
                __m256 w = widen_e4m3(panel + 128 * (pair / 2) + 64 * group + 16 * i + 8 * (pair & 1));
#pragma GCC unroll 4
                for (int row = 0; row < rows; row++)
                    acc[row][i] = _mm256_fmadd_ps(w, broadcast_pair(x + 2 * (pair * rows + row)), acc[row][i]);
            }
        for (int row = 0; row < rows; row++) store_group(acc[row], 0x1p8f, c + (size_t)row * ldc + 16 * group, accumulate);
    }
}

INLINE void tile_f32_rows(int rows, const float *x, const float *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    for (int group = 0; group < 2; group++) {
        __m256 acc[TILE_ROWS][2];
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < 2; i++)
                acc[row][i] = accumulate ? _mm256_loadu_ps(c + (size_t)row * ldc + 16 * group + 8 * i) : _mm256_setzero_ps();
        for (int k = 0; k < k_padded; k++)
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                __m256 w = _mm256_load_ps(panel + 32 * k + 16 * group + 8 * i);
#pragma GCC unroll 4
                for (int row = 0; row < rows; row++)
                    acc[row][i] = _mm256_fmadd_ps(w, _mm256_broadcast_ss(x + (k / 2 * rows + row) * 2 + (k & 1)), acc[row][i]);
            }
        for (int row = 0; row < rows; row++)
            for (int i = 0; i < 2; i++) _mm256_storeu_ps(c + (size_t)row * ldc + 16 * group + 8 * i, acc[row][i]);
    }
}

static void tile_bf16(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) {
    case 1:
        tile_bf16_rows(1, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 2:
        tile_bf16_rows(2, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 3:
        tile_bf16_rows(3, x, panel, k_padded, c, ldc, accumulate);
        break;
    }
}

static void tile_e4m3(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) {
    case 1:
        tile_e4m3_rows(1, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 2:
        tile_e4m3_rows(2, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 3:
        tile_e4m3_rows(3, x, panel, k_padded, c, ldc, accumulate);
        break;
    }
}

static void tile_f32(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    switch (rows) {
    case 1:
        tile_f32_rows(1, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 2:
        tile_f32_rows(2, x, panel, k_padded, c, ldc, accumulate);
        break;
    case 3:
        tile_f32_rows(3, x, panel, k_padded, c, ldc, accumulate);
        break;
    }
}

static double multiply_add(int repeats, float *value) {
    enum { CHAINS = 12 };
    __m256 acc[CHAINS], factor = _mm256_set1_ps(*value);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_setzero_ps();
    for (int repeat = 0; repeat < repeats; repeat++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_fmadd_ps(factor, factor, acc[i]);
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_ps(acc[0], acc[i]);
    float lanes[8];
    _mm256_storeu_ps(lanes, acc[0]);
    *value = lanes[0];
    return 8.0 * 2 * CHAINS * repeats;
}

const struct oct_kernels oct_kernels_avx2 = {
    .name = "avx2",
    .tile_rows = TILE_ROWS,
    .e4m3_tile_rows = TILE_ROWS,
    .x_bytes = sizeof(float),
    .pack_bf16 = pack_bf16,
    .pack_f32 = pack_f32,
    .pack_e4m3 = pack_e4m3,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .tile_e4m3 = tile_e4m3,
    .multiply_add = multiply_add,
    ROW_KERNELS,
};
