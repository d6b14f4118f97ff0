// Products of rows with E4M3 weights in every kernel table: bf16 activations, runs of inputs with scales of their own, and scales of a row,
// against the same rounded numbers multiplied in double precision.
#include "base/memory.h"
#include "device/device.h"
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

enum { MOST_ROWS = 50, IN = 300, OUT = 77 }; // neither fills its panels, tiles and runs

static float x[MOST_ROWS * IN], weights[OUT * IN], inv_scales[OUT];

static float random_value(void) {
    static uint32_t state = 7;
    state = state * 1664525 + 1013904223;
    return (float)(int32_t)state * 0x1p-31f;
}

static int fill(void **state) {
    (void)state;
    for (int i = 0; i < MOST_ROWS * IN; i++) x[i] = ldexpf(random_value(), (i / IN) % 9 - 4);
    for (int i = 0; i < OUT * IN; i++) weights[i] = random_value();
    for (int i = 0; i < OUT; i++) inv_scales[i] = 448 / (1 + random_value() * 0.5f);
    return 0;
}

static void by_full_scale(const void *rule, float amax, float *scale, float *inv_scale) {
    *scale = amax / *(const float *)rule;
    *inv_scale = 1 / *scale;
}

// What enters the product for element k of a row, and the scale that the product of its run is multiplied with.
static double entering(const struct oct_linear *linear, int row, int k, double *scale) {
    const float *values = x + row * IN;
    *scale = 1;
    if (!linear->row_scale) return (double)oct_bf16_round(values[k]);
    int begin = k / linear->k_block * linear->k_block, end = begin + linear->k_block < IN ? begin + linear->k_block : IN;
    float amax = 0, row_scale, inv_scale;
    for (int i = begin; i < end; i++) amax = fmaxf(amax, fabsf(values[i]));
    linear->row_scale(linear->row_scale_rule, amax, &row_scale, &inv_scale);
    *scale = row_scale;
    return (double)oct_e4m3_round(values[k] * inv_scale, linear->full_scale);
}

static void assert_product(struct oct_device *device, const struct oct_linear *linear, int rows, bool add) {
    static float found[MOST_ROWS * OUT], alone[OUT];
    for (int i = 0; i < rows * OUT; i++) found[i] = 0.25f;
    oct_linear_forward(device, linear, x, rows, found, add);
    for (int row = 0; row < rows; row++) {
        double values[IN], scales[IN];
        for (int k = 0; k < IN; k++) values[k] = entering(linear, row, k, &scales[k]);
        for (int out = 0; out < OUT; out++) {
            double sum = (double)linear->bias[out] + (add ? 0.25 : 0), size = fabs(sum);
            for (int k = 0; k < IN; k++) {
                double weight = (double)oct_linear_weight(linear, out, k) * (double)linear->scales[k / linear->k_block * OUT + out];
                double product = values[k] * scales[k] * weight;
                sum += product;
                size += fabs(product);
            }
            // float32 sums of IN terms: the error is that of a few roundings of the terms' size.
            if (!(fabs(found[row * OUT + out] - sum) <= 4e-6 * size))
                fail_msg("row %d, output %d: %.9g expected, %.9g found", row, out, sum, found[row * OUT + out]);
        }
        for (int i = 0; i < OUT; i++) alone[i] = 0.25f;
        struct oct_linear same = *linear;
        static float one[IN];
        memcpy(one, x + row * IN, sizeof one);
        oct_linear_forward(device, &same, one, 1, alone, add);
        assert_memory_equal(found + row * OUT, alone, sizeof alone);
    }
}

static void products_are_those_of_the_rounded_numbers(void **state) {
    (void)state;
    static const char *const tables[] = {"scalar", "avx2", "avx512_bf16"};
    static const int blocks[] = {0, 128, 4, 64}, rows[] = {1, 5, MOST_ROWS};
    static const float full = 448;
    int ran = 0;
    for (size_t t = 0; t < 3; t++) {
        struct oct_device *device;
        oct_error err;
        setenv("OCTAVO_ISA", tables[t], 1);
        oct_status status = oct_device_open_cpu(2, &device, &err);
        unsetenv("OCTAVO_ISA");
        if (status != OCT_OK) {
            print_message("# %s\n", err.message);
            continue;
        }
        for (int b = 0; b < 4; b++)
            for (int dynamic = 0; dynamic < 2; dynamic++) {
                struct oct_linear linear;
                assert_int_equal(oct_linear_alloc(device, OCT_E4M3, OUT, IN, true, &linear, &err), OCT_OK);
                linear.full_scale = full;
                oct_linear_pack(device, &linear, 0, OUT, weights, inv_scales);
                if (blocks[b]) oct_linear_split(&linear, blocks[b]);
                assert_int_equal(linear.k_blocks, blocks[b] ? (IN + blocks[b] - 1) / blocks[b] : 1);
                for (int i = 0; i < linear.k_blocks * OUT; i++) linear.scales[i] = (1 + 0.9f * random_value()) / 448;
                for (int i = 0; i < OUT; i++) linear.bias[i] = random_value();
                if (dynamic) {
                    linear.row_scale = by_full_scale;
                    linear.row_scale_rule = oct_alloc(1, sizeof full, "a rule");
                    memcpy(linear.row_scale_rule, &full, sizeof full);
                }
                for (int r = 0; r < 3; r++) {
                    assert_product(device, &linear, rows[r], false);
                    assert_product(device, &linear, rows[r], true);
                    ran++;
                }
                oct_linear_free(device, &linear);
            }
        oct_device_close(device);
    }
    assert_true(ran > 0);
}

static void embedding_rows_are_the_rows_that_were_packed(void **state) {
    (void)state;
    enum { ODD = IN - 1 };
    const enum oct_dtype dtypes[] = {OCT_F32, OCT_BF16};
    const int32_t ids[] = {OUT - 1, 0, 31, 32, 17, 0};
    enum { ROWS = sizeof ids / sizeof *ids };
    struct oct_device *device;
    oct_error err;
    assert_int_equal(oct_device_open_cpu(2, &device, &err), OCT_OK);
    for (int i = 0; i < 4; i++) {
        int size = i < 2 ? IN : ODD;
        float rows[ROWS * IN + 1];
        struct oct_linear table;
        assert_int_equal(oct_linear_alloc(device, dtypes[i % 2], OUT, size, false, &table, &err), OCT_OK);
        oct_linear_pack(device, &table, 0, OUT, weights, NULL);
        rows[ROWS * size] = 5;
        oct_embed(device, &table, ids, ROWS, rows);
        for (int row = 0; row < ROWS; row++)
            for (int k = 0; k < size; k++) {
                float weight = weights[ids[row] * size + k], expected = i % 2 ? oct_bf16_round(weight) : weight;
                assert_true(rows[row * size + k] == expected);
            }
        assert_true(rows[ROWS * size] == 5);
        oct_linear_free(device, &table);
    }
    oct_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_the_rounded_numbers),
        cmocka_unit_test(embedding_rows_are_the_rows_that_were_packed),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
