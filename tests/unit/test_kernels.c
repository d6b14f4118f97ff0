// Every kernel table against the scalar one: all E4M3 codes, odd sizes, tails, signed zeros, subnormals, NaN.
#include "base/memory.h"
#include "device/cpu/kernels.h"
#include "device/cpu/layout.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct oct_kernels *const reference = &oct_kernels_scalar;
static const struct oct_kernels *tables[3];
static int num_tables;

static uint64_t random_state = 1;
static uint32_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}
static float random_value(void) {
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

static void *aligned(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 8192 + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, (bytes + 8192 + 63) / 64 * 64);
    return memory;
}

// A panel with random elements; E4M3 panels hold every code but NaN.
static void *random_panel(enum oct_dtype dtype, int k_padded) {
    void *panel = aligned(oct_panel_bytes(dtype, k_padded));
    for (int k = 0; k < k_padded; k++)
        for (int channel = 0; channel < OCT_PANEL; channel++) {
            size_t at = oct_panel_element(dtype, k, channel);
            if (dtype == OCT_F32) ((float *)panel)[at] = random_value();
            if (dtype == OCT_BF16) ((uint16_t *)panel)[at] = oct_bf16_from_f32(random_value());
            if (dtype == OCT_E4M3) {
                uint8_t code = (uint8_t)random_bits();
                ((uint8_t *)panel)[at] = (code & 0x7f) == 0x7f ? 0 : code;
            }
        }
    return panel;
}

typedef void tile_function(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate);
static tile_function *tile_of(const struct oct_kernels *kernels, enum oct_dtype dtype) {
    return dtype == OCT_F32 ? kernels->tile_f32 : dtype == OCT_BF16 ? kernels->tile_bf16 : kernels->tile_e4m3;
}

static void multiply(const struct oct_kernels *kernels, enum oct_dtype dtype, const float *x, int rows, int k, const void *panel, float *c,
                     bool accumulate) {
    int k_padded = oct_k_padded(k);
    void *packed = aligned((size_t)rows * (size_t)k_padded * sizeof(float));
    (dtype == OCT_F32 ? kernels->pack_f32 : kernels->pack_bf16)(x, (size_t)k, rows, k, k_padded, packed);
    tile_of(kernels, dtype)(packed, rows, panel, k_padded, c, OCT_PANEL, accumulate);
    free(packed);
}

static int tile_rows_of(const struct oct_kernels *kernels, enum oct_dtype dtype) {
    return dtype == OCT_E4M3 ? kernels->e4m3_tile_rows : kernels->tile_rows;
}

// The order of summation differs between tables: n additions of float32 differ by at most n * 2^-24 of the sum of magnitudes.
static void assert_products_agree(const struct oct_kernels *kernels, enum oct_dtype dtype, int rows, int k) {
    float *x = oct_alloc((size_t)(rows * k), sizeof *x, "x");
    for (int i = 0; i < rows * k; i++) x[i] = random_value();
    void *panel = random_panel(dtype, oct_k_padded(k));
    float expected[OCT_MAX_TILE_ROWS * OCT_PANEL], found[OCT_MAX_TILE_ROWS * OCT_PANEL];
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        for (int i = 0; i < OCT_MAX_TILE_ROWS * OCT_PANEL; i++) expected[i] = found[i] = accumulate ? (float)i : NAN;
        for (int row = 0; row < rows; row++) multiply(reference, dtype, x + row * k, 1, k, panel, expected + row * OCT_PANEL, accumulate);
        multiply(kernels, dtype, x, rows, k, panel, found, accumulate);
        float largest = dtype == OCT_E4M3 ? 448.0f : 1.0f;
        for (int i = 0; i < rows * OCT_PANEL; i++) {
            float bound = (float)(k + 2) * 0x1p-24f * ((float)k * largest + (float)i);
            if (!(fabsf(found[i] - expected[i]) <= bound))
                fail_msg("%s, dtype %d, rows %d, k %d, element %d: %g expected, %g found", kernels->name, dtype, rows, k, i, expected[i],
                         found[i]);
        }
    }
    free(x);
    free(panel);
}

static void tiles_equal_the_scalar_product_for_all_row_counts_and_odd_sizes(void **state) {
    (void)state;
    const int sizes[] = {1, 2, 3, 4, 5, 7, 12, 31, 40, 64, 72, 200, 577};
    const enum oct_dtype dtypes[] = {OCT_F32, OCT_BF16, OCT_E4M3};
    for (int t = 0; t < num_tables; t++)
        for (int d = 0; d < 3; d++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
                for (int rows = 1; rows <= tile_rows_of(tables[t], dtypes[d]); rows++)
                    assert_products_agree(tables[t], dtypes[d], rows, sizes[s]);
}

static void every_e4m3_code_is_decoded_exactly_at_every_place(void **state) {
    (void)state;
    uint8_t *panel = aligned(oct_panel_bytes(OCT_E4M3, 8));
    for (int t = 0; t < num_tables; t++)
        for (int code = 0; code < 256; code++) {
            if ((code & 0x7f) == 0x7f) continue;
            for (int k = 0; k < 8; k++) {
                memset(panel, 0, oct_panel_bytes(OCT_E4M3, 8));
                for (int channel = 0; channel < OCT_PANEL; channel++) panel[oct_panel_element(OCT_E4M3, k, channel)] = (uint8_t)code;
                float x[8] = {0}, c[OCT_PANEL];
                x[k] = 1;
                multiply(tables[t], OCT_E4M3, x, 1, 8, panel, c, false);
                for (int channel = 0; channel < OCT_PANEL; channel++) assert_true(c[channel] == oct_e4m3_to_f32((uint8_t)code));
            }
        }
    free(panel);
}

static void a_decoded_panel_gives_the_same_bits_as_fused_decoding(void **state) {
    (void)state;
    enum { K = 100, ROWS = 3 };
    uint8_t *panel = random_panel(OCT_E4M3, K);
    uint16_t *decoded = aligned(oct_panel_bytes(OCT_BF16, K));
    float x[ROWS * K], fused[ROWS * OCT_PANEL], staged[ROWS * OCT_PANEL];
    for (int i = 0; i < ROWS * K; i++) x[i] = random_value();
    for (int t = 0; t < num_tables; t++) {
        if (!tables[t]->decode_panel) continue;
        tables[t]->decode_panel(panel, K, decoded);
        multiply(tables[t], OCT_E4M3, x, ROWS, K, panel, fused, false);
        multiply(tables[t], OCT_BF16, x, ROWS, K, decoded, staged, false);
        assert_memory_equal(fused, staged, sizeof fused);
    }
    free(panel);
    free(decoded);
}

static void a_row_does_not_depend_on_the_rows_beside_it(void **state) {
    (void)state;
    enum { K = 129 };
    const enum oct_dtype dtypes[] = {OCT_F32, OCT_BF16, OCT_E4M3};
    float x[OCT_MAX_TILE_ROWS * K], together[OCT_MAX_TILE_ROWS * OCT_PANEL], alone[OCT_PANEL];
    for (int i = 0; i < OCT_MAX_TILE_ROWS * K; i++) x[i] = random_value();
    for (int t = 0; t < num_tables; t++)
        for (int d = 0; d < 3; d++) {
            void *panel = random_panel(dtypes[d], oct_k_padded(K));
            for (int rows = 1; rows <= tile_rows_of(tables[t], dtypes[d]); rows++) {
                multiply(tables[t], dtypes[d], x, rows, K, panel, together, false);
                for (int row = 0; row < rows; row++) {
                    multiply(tables[t], dtypes[d], x + row * K, 1, K, panel, alone, false);
                    assert_memory_equal(together + row * OCT_PANEL, alone, sizeof alone);
                }
            }
            free(panel);
        }
}

// Seen through the product with a panel that is 1 where k is the channel: c[row][channel] is what was packed for k = channel.
static void packing_rounds_each_row_to_e4m3_with_its_own_scale(void **state) {
    (void)state;
    enum { K = OCT_PANEL, MAX_K = 77 };
    uint8_t *panel = aligned(oct_panel_bytes(OCT_E4M3, MAX_K + 3));
    float x[OCT_MAX_TILE_ROWS * MAX_K], inv_scales[OCT_MAX_TILE_ROWS], c[OCT_MAX_TILE_ROWS * OCT_PANEL];
    for (int i = 0; i < OCT_MAX_TILE_ROWS * MAX_K; i++) x[i] = ldexpf(random_value(), (int)(random_bits() % 24) - 14);
    for (int row = 0; row < OCT_MAX_TILE_ROWS; row++) inv_scales[row] = ldexpf(1, row - 4);
    for (int first = 0; first < MAX_K; first += K) {
        memset(panel, 0, oct_panel_bytes(OCT_E4M3, MAX_K + 3));
        for (int k = first; k < first + K && k < MAX_K; k++) panel[oct_panel_element(OCT_E4M3, k, k - first)] = 0x38;
        for (int t = 0; t < num_tables; t++)
            for (int rows = 1; rows <= tables[t]->e4m3_tile_rows; rows++) {
                void *packed = aligned((size_t)rows * (MAX_K + 3) * sizeof(float));
                tables[t]->pack_e4m3(x, MAX_K, rows, MAX_K, MAX_K + 3, inv_scales, OCT_E4M3_MAX_GAUDI2, packed);
                tables[t]->tile_e4m3(packed, rows, panel, MAX_K + 3, c, OCT_PANEL, false);
                for (int row = 0; row < rows; row++)
                    for (int k = first; k < first + K && k < MAX_K; k++)
                        assert_true(c[row * OCT_PANEL + k - first] ==
                                    oct_e4m3_round(x[row * MAX_K + k] * inv_scales[row], OCT_E4M3_MAX_GAUDI2));
                free(packed);
            }
    }
    free(panel);
}

static void encoders_equal_the_scalar_encoder_on_every_bf16_and_around_ties(void **state) {
    (void)state;
    enum { N = 65536 };
    float *x = oct_alloc(3 * N, sizeof *x, "x"), *grid = oct_alloc(3 * N, sizeof *x, "x"),
          *expected_grid = oct_alloc(3 * N, sizeof *x, "x");
    uint8_t *codes = oct_alloc(3 * N, 1, "codes"), *expected = oct_alloc(3 * N, 1, "codes");
    for (int i = 0; i < N; i++) {
        x[i] = oct_bf16_to_f32((uint16_t)i);
        x[N + i] = nextafterf(x[i], INFINITY);
        x[2 * N + i] = nextafterf(x[i], -INFINITY);
    }
    const float full_scales[] = {OCT_E4M3_MAX, OCT_E4M3_MAX_GAUDI2, OCT_E5M2_MAX}, inverses[] = {1, 0x1p-5f, 16, 0.3359375f};
    for (int t = 0; t < num_tables; t++)
        for (int f = 0; f < 3; f++)
            for (int s = 0; s < 4; s++) {
                bool e4m3 = full_scales[f] <= OCT_E4M3_MAX; // which alone has bytes
                if (e4m3) reference->encode(x, 3 * N, inverses[s], full_scales[f], expected);
                if (e4m3) tables[t]->encode(x, 3 * N, inverses[s], full_scales[f], codes);
                memcpy(grid, x, 3 * N * sizeof *x);
                memcpy(expected_grid, x, 3 * N * sizeof *x);
                reference->quantize(expected_grid, 3 * N, inverses[s], full_scales[f]);
                tables[t]->quantize(grid, 3 * N, inverses[s], full_scales[f]);
                for (int i = 0; i < 3 * N; i++) {
                    if (isnan(x[i])) {
                        if (e4m3) assert_int_equal(codes[i] & 0x7f, 0x7f);
                        assert_true(isnan(grid[i]));
                        continue;
                    }
                    if (e4m3) assert_int_equal(codes[i], expected[i]);
                    assert_memory_equal(&grid[i], &expected_grid[i], sizeof(float));
                }
            }
    free(x);
    free(grid);
    free(expected_grid);
    free(codes);
    free(expected);
}

static void bf16_rounding_equals_the_scalar_one(void **state) {
    (void)state;
    enum { N = 200000 };
    float *x = oct_alloc(N, sizeof *x, "x");
    uint16_t *found = oct_alloc(N, sizeof *found, "bits"), *expected = oct_alloc(N, sizeof *found, "bits");
    for (int i = 0; i < N; i++) {
        uint32_t bits = random_bits();
        memcpy(&x[i], &bits, sizeof bits);
    }
    reference->round_bf16(x, N, expected);
    for (int t = 0; t < num_tables; t++) {
        tables[t]->round_bf16(x, N, found);
        assert_memory_equal(found, expected, N * sizeof *found);
    }
    free(x);
    free(found);
    free(expected);
}

static void assert_close(const char *what, const struct oct_kernels *kernels, float found, float expected, float relative) {
    if (!(fabsf(found - expected) <= relative * fabsf(expected) + 1e-30f))
        fail_msg("%s, %s: %.9g expected, %.9g found", what, kernels->name, expected, found);
}

static void row_operations_agree_with_the_scalar_ones(void **state) {
    (void)state;
    enum { MAX = 1537 };
    static float x[MAX], weight[MAX], up[MAX], y[MAX], expected[MAX];
    for (int t = 0; t < num_tables; t++)
        for (int n = 1; n <= MAX; n = n < 70 ? n + 1 : n * 3 + 2) {
            for (int i = 0; i < n; i++) {
                x[i] = random_value() * (i % 7 ? 8 : 40);
                weight[i] = 1 + random_value() / 4;
                up[i] = random_value();
            }
            reference->rms_norm(x, weight, n, 1e-5f, expected);
            tables[t]->rms_norm(x, weight, n, 1e-5f, y);
            for (int i = 0; i < n; i++) assert_close("rms_norm", tables[t], y[i], expected[i], 1e-5f);
            reference->silu_mul(x, up, n, expected);
            tables[t]->silu_mul(x, up, n, y);
            for (int i = 0; i < n; i++) assert_close("silu_mul", tables[t], y[i], expected[i], 2e-6f);
            assert_true(tables[t]->amax(x, n) == reference->amax(x, n));
            memcpy(expected, x, sizeof x);
            memcpy(y, x, sizeof x);
            float largest = reference->softmax(expected, n, 0.7f), found = tables[t]->softmax(y, n, 0.7f);
            assert_close("softmax maximum", tables[t], found, largest, 1e-5f);
            for (int i = 0; i < n; i++) assert_close("softmax", tables[t], y[i], expected[i], 2e-5f);
            if (n % 2 == 0) {
                memcpy(expected, x, sizeof x);
                memcpy(y, x, sizeof x);
                reference->rotate(expected, n / 2, weight, up);
                tables[t]->rotate(y, n / 2, weight, up);
                assert_memory_equal(y, expected, (size_t)n * sizeof *y);
            }
        }
}

static void nan_is_never_lost(void **state) {
    (void)state;
    for (int t = 0; t < num_tables; t++)
        for (int at = 0; at < 35; at++) {
            float x[35], up[35], y[35];
            for (int i = 0; i < 35; i++) x[i] = up[i] = random_value();
            x[at] = NAN;
            assert_true(isnan(tables[t]->amax(x, 35)));
            tables[t]->silu_mul(x, up, 35, y);
            assert_true(isnan(y[at]));
            tables[t]->rms_norm(x, up, 35, 1e-5f, y);
            assert_true(isnan(y[0]) && isnan(y[34]));
            assert_true(isnan(tables[t]->softmax(x, 35, 1)));
            for (int i = 0; i < 35; i++) assert_true(isnan(x[i]));
        }
}

int main(void) {
    const char *reason = NULL, *const names[] = {"scalar", "avx2", "avx512_bf16"};
    for (int i = 0; i < 3; i++) {
        const struct oct_kernels *kernels = oct_kernels_choose(names[i], &reason);
        if (kernels)
            tables[num_tables++] = kernels;
        else
            printf("# table %s is not tested: %s\n", names[i], reason);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_equal_the_scalar_product_for_all_row_counts_and_odd_sizes),
        cmocka_unit_test(every_e4m3_code_is_decoded_exactly_at_every_place),
        cmocka_unit_test(a_decoded_panel_gives_the_same_bits_as_fused_decoding),
        cmocka_unit_test(a_row_does_not_depend_on_the_rows_beside_it),
        cmocka_unit_test(packing_rounds_each_row_to_e4m3_with_its_own_scale),
        cmocka_unit_test(encoders_equal_the_scalar_encoder_on_every_bf16_and_around_ties),
        cmocka_unit_test(bf16_rounding_equals_the_scalar_one),
        cmocka_unit_test(row_operations_agree_with_the_scalar_ones),
        cmocka_unit_test(nan_is_never_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
