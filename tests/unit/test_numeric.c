// The number formats, exhaustively: 256 E4M3 bytes, 65,536 bf16 and fp16 patterns.
#include "numeric/bf16.h"
#include "numeric/fp16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void e4m3_decodes_by_its_definition(void **state) {
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        int exponent = byte >> 3 & 15, mantissa = byte & 7;
        float magnitude = exponent ? ldexpf(1 + (float)mantissa / 8, exponent - 7) : ldexpf((float)mantissa / 8, -6);
        float value = oct_e4m3_to_f32((uint8_t)byte);
        if ((byte & 0x7f) == 0x7f) {
            assert_true(isnan(value));
            continue;
        }
        assert_true(value == (byte & 0x80 ? -magnitude : magnitude));
        assert_int_equal(signbit(value) != 0, byte >> 7);
    }
}

// The nearest code by search over all codes up to the full scale; ties go to the even mantissa.
static uint8_t nearest_e4m3(float value, float full_scale) {
    float magnitude = fminf(fabsf(value), full_scale);
    int best = 0;
    for (int code = 0; code < 0x7f; code++) {
        if (oct_e4m3_to_f32((uint8_t)code) > full_scale) break;
        double error = fabs((double)oct_e4m3_to_f32((uint8_t)code) - magnitude);
        double least = fabs((double)oct_e4m3_to_f32((uint8_t)best) - magnitude);
        if (error < least || (error == least && !(code & 1))) best = code;
    }
    return (uint8_t)(best | (signbit(value) ? 0x80 : 0));
}

static void e4m3_encodes_every_bf16_to_the_nearest_even(void **state) {
    (void)state;
    const float full_scales[] = {OCT_E4M3_MAX, OCT_E4M3_MAX_GAUDI2};
    for (int i = 0; i < 2; i++)
        for (int bits = 0; bits < 65536; bits++) {
            float value = oct_bf16_to_f32((uint16_t)bits);
            uint8_t code = oct_e4m3_from_f32(value, full_scales[i]);
            if (isnan(value))
                assert_int_equal(code & 0x7f, 0x7f);
            else
                assert_int_equal(code, nearest_e4m3(value, full_scales[i]));
        }
}

static void e4m3_rounds_float32_once(void **state) {
    (void)state;
    // 1.0625 is halfway between 1 and 1.125; a hair above must go up. Rounding to bf16 first would lose the hair.
    assert_int_equal(oct_e4m3_from_f32(1.0625f, 448), oct_e4m3_from_f32(1.0f, 448));
    assert_true(oct_e4m3_round(nextafterf(1.0625f, 2), 448) == 1.125f);
    assert_true(oct_e4m3_round(nextafterf(0x1p-10f, 1), 448) == 0x1p-9f);
    assert_true(oct_e4m3_round(0x1p-10f, 448) == 0);
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (int bits = 0; bits < 65536; bits++) {
        float value = oct_bf16_to_f32((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(oct_bf16_round(value)));
            continue;
        }
        assert_int_equal(oct_bf16_from_f32(value), bits);
        if (isinf(value) || (bits & 0x7fff) == 0x7f7f) continue;
        float next = oct_bf16_to_f32((uint16_t)(bits + 1));
        float half = (float)(((double)value + next) / 2);
        assert_int_equal(oct_bf16_from_f32(half), bits & 1 ? bits + 1 : bits);
        assert_int_equal(oct_bf16_from_f32(nextafterf(half, next)), bits + 1);
        assert_int_equal(oct_bf16_from_f32(nextafterf(half, value)), bits);
    }
}

static void fp16_decodes_by_its_definition(void **state) {
    (void)state;
    for (int bits = 0; bits < 65536; bits++) {
        int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
        float value = oct_fp16_to_f32((uint16_t)bits);
        if (exponent == 31) {
            assert_true(mantissa ? isnan(value) : isinf(value));
            continue;
        }
        float magnitude = exponent ? ldexpf(1 + (float)mantissa / 1024, exponent - 15) : ldexpf((float)mantissa / 1024, -14);
        assert_true(value == (bits & 0x8000 ? -magnitude : magnitude));
        assert_int_equal(signbit(value) != 0, bits >> 15);
    }
}

// The nearest value of 256 codes, the upper halves of fp16, up to 57344; ties go to the even mantissa.
static void e5m2_rounds_every_bf16_to_the_nearest_even(void **state) {
    (void)state;
    for (int bits = 0; bits < 65536; bits++) {
        float value = oct_bf16_to_f32((uint16_t)bits), found = oct_e5m2_round(value);
        if (isnan(value)) {
            assert_true(isnan(found));
            continue;
        }
        float magnitude = fminf(fabsf(value), OCT_E5M2_MAX);
        int best = 0;
        for (int code = 0; code < 0x7c; code++) {
            double error = fabs((double)oct_fp16_to_f32((uint16_t)(code << 8)) - magnitude);
            double least = fabs((double)oct_fp16_to_f32((uint16_t)(best << 8)) - magnitude);
            if (error < least || (error == least && !(code & 1))) best = code;
        }
        assert_true(fabsf(found) == oct_fp16_to_f32((uint16_t)(best << 8)));
        assert_int_equal(signbit(found) != 0, bits >> 15);
    }
    assert_true(oct_e5m2_round(1.125f) == 1 && oct_e5m2_round(nextafterf(1.125f, 2)) == 1.25f); // once, from float32
}

static void fp16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (int bits = 0; bits < 0x7c00; bits++) {
        float value = oct_fp16_to_f32((uint16_t)bits);
        assert_true(oct_fp16_round(value) == value && oct_fp16_round(-value) == -value);
        if (bits == 0x7bff) continue;
        float next = oct_fp16_to_f32((uint16_t)(bits + 1)), half = (value + next) / 2;
        assert_true(oct_fp16_round(half) == (bits & 1 ? next : value));
        assert_true(oct_fp16_round(nextafterf(half, next)) == next);
        assert_true(oct_fp16_round(nextafterf(half, value)) == value);
    }
    assert_true(oct_fp16_round(65519) == 65504 && isinf(oct_fp16_round(65520)) && isinf(oct_fp16_round(-INFINITY)));
    assert_true(isnan(oct_fp16_round(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e4m3_decodes_by_its_definition), cmocka_unit_test(e4m3_encodes_every_bf16_to_the_nearest_even),
        cmocka_unit_test(e4m3_rounds_float32_once),       cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(fp16_decodes_by_its_definition), cmocka_unit_test(e5m2_rounds_every_bf16_to_the_nearest_even),
        cmocka_unit_test(fp16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
