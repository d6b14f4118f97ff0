#include "numeric/bf16.h"
#include "numeric/fp8.h"
#include "quant/scale_method.h"
#include "quant_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *const devices[] = {[OCT_GAUDI2] = "GAUDI2", [OCT_GAUDI3] = "GAUDI3"};

static float f32_of(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static struct oct_scale_rule rule_of(const struct oct_scale_method *method, bool weight, int profile) {
    struct oct_scale_rule rule = weight ? method->weight : method->activation;
    rule.profile = (enum oct_profile)profile;
    return rule;
}

static bool same_number(float a, float b) {
    return a == b || (a != a && b != b); // NaN is NaN
}

// Both arithmetics: the cards' and, under "host", INC's on a CPU.
static void every_activation_scale_is_incs_and_the_cards(void **state) {
    (void)state;
    json_t *root = golden_json("act_scales.json");
    const char *amax = json_string_value(json_object_get(root, "amax"));
    size_t n = strlen(amax) / 8, compared = 0;
    assert_int_equal(n, 616);
    for (int host = 0; host < 2; host++)
        for (int profile = 0; profile < 2; profile++) {
            const char *name;
            json_t *expected;
            json_object_foreach(json_object_get(json_object_get(root, host ? "host" : "scales"), devices[profile]), name, expected) {
                const struct oct_scale_method *method = oct_scale_method_find(name);
                assert_non_null(method);
                struct oct_scale_rule rule = rule_of(method, false, profile);
                rule.host = host;
                for (size_t i = 0; i < n; i++, compared++) {
                    float scale = oct_scale(&rule, f32_of(hex_at(amax, i, 8)));
                    float wanted = oct_bf16_to_f32((uint16_t)hex_at(json_string_value(expected), i, 4));
                    if (!same_number(scale, wanted))
                        fail_msg("%s %s: amax %.9g: %.9g expected, %.9g found", devices[profile], name, (double)f32_of(hex_at(amax, i, 8)),
                                 (double)wanted, (double)scale);
                }
            }
        }
    print_message("# %zu scales\n", compared);
    assert_int_equal(compared, 27104);
    json_decref(root);
}

static void scales_for_e5m2_and_in_other_precisions_are_incs(void **state) {
    (void)state;
    json_t *root = golden_json("extra_scales.json"), *test, *number;
    static const char *const precisions[] = {"BF16", "FP16", "FP32"};
    size_t t, i, compared = 0;
    json_array_foreach(json_object_get(root, "scales"), t, test) {
        const char *device = json_string_value(json_object_get(test, "device_for_scales"));
        const char *dtype = json_string_value(json_object_get(test, "hp_dtype"));
        const char *method = json_string_value(json_object_get(test, "method"));
        struct oct_scale_rule rule = rule_of(oct_scale_method_find(method), false, !strcmp(device, "GAUDI3"));
        rule.host = true;
        rule.e5m2 = !strcmp(json_string_value(json_object_get(test, "fp8_config")), "E5M2");
        while (strcmp(dtype, precisions[rule.precision]) != 0) rule.precision++;
        json_array_foreach(json_object_get(test, "scales_dec"), i, number) {
            double amax = json_number_value(json_array_get(json_object_get(root, "amax"), i));
            float wanted = json_is_string(number) ? strtof(json_string_value(number), NULL) : (float)json_number_value(number);
            float found = oct_scale(&rule, (float)amax);
            if (!same_number(found, wanted))
                fail_msg("%s %s %s%s: amax %g: %.9g expected, %.9g found", device, method, dtype, rule.e5m2 ? " E5M2" : "", amax,
                         (double)wanted, (double)found);
            compared++;
        }
    }
    print_message("# %zu scales\n", compared);
    assert_int_equal(compared, 48 * 16);
    json_decref(root);
}

static float row_amax(const char *hex, size_t cols, size_t row) {
    float max = 0;
    for (size_t i = row * cols; i < (row + 1) * cols; i++) max = fmaxf(max, fabsf(oct_bf16_to_f32((uint16_t)hex_at(hex, i, 4))));
    return max;
}

static float tensor_amax(const char *hex, size_t rows, size_t cols) {
    float max = 0;
    for (size_t row = 0; row < rows; row++) max = fmaxf(max, row_amax(hex, cols, row));
    return max;
}

// With the tensors of test_weight_search, which are found by search, 352.
static void every_weight_scale_is_incs_and_the_cards(void **state) {
    (void)state;
    json_t *root = golden_json("weights.json");
    size_t tensors = 0;
    for (int host = 0; host < 2; host++)
        for (int profile = 0; profile < 2; profile++)
            for (int m = 0; m < OCT_NUM_SCALE_METHODS; m++) {
                struct oct_scale_rule rule = rule_of(&oct_scale_methods[m], true, profile);
                rule.host = host;
                json_t *scales = json_object_get(json_object_get(root, host ? "host" : "scales"), devices[profile]);
                const char *name;
                json_t *expected;
                json_object_foreach(json_object_get(scales, oct_scale_methods[m].name), name, expected) {
                    if (!json_is_string(expected)) continue; // found by search
                    json_t *weight = json_object_get(json_object_get(root, "weights"), name);
                    const char *hex = json_string_value(json_object_get(weight, "bf16"));
                    size_t rows = (size_t)json_integer_value(json_array_get(json_object_get(weight, "shape"), 0));
                    size_t cols = strlen(hex) / 4 / rows, n = strlen(json_string_value(expected)) / 4;
                    assert_int_equal(n, rule.per_channel ? rows : 1);
                    for (size_t i = 0; i < n; i++) {
                        float scale = oct_scale(&rule, rule.per_channel ? row_amax(hex, cols, i) : tensor_amax(hex, rows, cols));
                        assert_int_equal(oct_bf16_from_f32(scale), hex_at(json_string_value(expected), i, 4));
                        assert_true(oct_bf16_round(scale) == scale);
                    }
                    tensors++;
                }
            }
    print_message("# %zu tensors\n", tensors);
    assert_int_equal(tensors, 288);
    json_decref(root);
}

static void every_weight_byte_equals_inc(void **state) {
    (void)state;
    json_t *root = golden_json("weights.json");
    size_t compared = 0;
    for (int profile = 0; profile < 2; profile++) {
        const char *method, *name;
        json_t *matrices, *entry;
        json_object_foreach(json_object_get(json_object_get(root, "bytes"), devices[profile]), method, matrices)
            json_object_foreach(matrices, name, entry) {
            const char *hex = json_string_value(json_object_get(json_object_get(json_object_get(root, "weights"), name), "bf16"));
            const char *inv = json_string_value(json_object_get(entry, "inv"));
            const char *bytes = json_string_value(json_object_get(entry, "bytes"));
            size_t n = strlen(hex) / 4, channels = strlen(inv) / 4;
            assert_int_equal(strlen(bytes), 2 * n);
            for (size_t i = 0; i < n; i++, compared++) {
                float inv_scale = oct_bf16_to_f32((uint16_t)hex_at(inv, i / (n / channels), 4));
                float value = oct_bf16_to_f32((uint16_t)hex_at(hex, i, 4)) * inv_scale;
                uint8_t byte = oct_e4m3_from_f32(value, oct_profile_full_scale((enum oct_profile)profile));
                unsigned expected = hex_at(bytes, i, 2);
                bool both_nan = (byte & 0x7f) == 0x7f && (expected & 0x7f) == 0x7f;
                if (!both_nan && byte != expected)
                    fail_msg("%s %s %s[%zu]: %02x expected, %02x found", devices[profile], method, name, i, expected, byte);
            }
        }
    }
    print_message("# %zu bytes\n", compared);
    assert_true(compared > 50000);
    json_decref(root);
}

static float max_over(const char *hex, size_t start, size_t n, size_t stride) {
    float max = 0;
    for (size_t i = 0; i < n; i++) max = fmaxf(max, fabsf(oct_bf16_to_f32((uint16_t)hex_at(hex, start + i * stride, 4))));
    return max;
}

// Activations per token ("dim-1"), or per column for a matmul's second operand ("dim-2").
static void scales_made_at_run_time_are_incs(void **state) {
    (void)state;
    static const char *const names[] = {"MAXABS_PCS_POW2", "ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW"};
    json_t *root = golden_json("dynamic_scales.json"), *input = json_object_get(root, "input");
    const char *hex = json_string_value(json_object_get(input, "bf16"));
    size_t rows = 6, cols = 24;
    assert_int_equal(strlen(hex), 4 * rows * cols);
    for (int profile = 0; profile < 2; profile++)
        for (int m = 0; m < 2; m++) {
            json_t *expected = json_object_get(json_object_get(root, devices[profile]), names[m]);
            struct oct_scale_rule rule = rule_of(oct_scale_method_find(names[m]), false, profile);
            for (size_t row = 0; row < rows; row++) {
                const char *bits = json_string_value(json_array_get(json_object_get(expected, "dim-1"), row));
                assert_int_equal(oct_bf16_from_f32(oct_scale(&rule, max_over(hex, row * cols, cols, 1))), strtoul(bits, NULL, 16));
            }
            for (size_t col = 0; col < cols; col++) {
                const char *bits = json_string_value(json_array_get(json_object_get(expected, "dim-2"), col));
                assert_int_equal(oct_bf16_from_f32(oct_scale(&rule, max_over(hex, col, rows, cols))), strtoul(bits, NULL, 16));
            }
        }
    json_decref(root);
}

static void a_row_of_activations_gets_a_scale_with_a_backoff_of_a_half(void **state) {
    (void)state;
    struct oct_scale_rule rule = rule_of(oct_scale_method_find("MAXABS_POW2"), false, OCT_GAUDI3); // 0.25 when measured
    float scale, inv_scale;
    oct_scale_row(&rule, 224, &scale, &inv_scale);
    assert_true(scale == 1 && inv_scale == 1);
    oct_scale_row(&rule, 230, &scale, &inv_scale);
    assert_true(scale == 2 && inv_scale == 0.5f);
    oct_scale_row(&rule, 0, &scale, &inv_scale); // nothing but zeros
    assert_true(scale == 1);
    rule = rule_of(oct_scale_method_find("MAXABS_PCS_POW2"), false, OCT_GAUDI3);
    oct_scale_row(&rule, 0, &scale, &inv_scale);
    assert_true(scale == 0x1p-126f && inv_scale == 0x1p126f); // INC's floor
    oct_scale_row(&rule, NAN, &scale, &inv_scale);
    assert_true(isnan(scale));
}

static void an_inverse_scale_is_rounded_to_bf16(void **state) {
    (void)state;
    assert_true(oct_inv_scale(0.25f) == 4);
    assert_true(oct_inv_scale(3) == 0x1.56p-2f);
    assert_true(oct_inv_scale(0) == INFINITY);
}

static void profiles_have_names(void **state) {
    (void)state;
    enum oct_profile profile;
    oct_error err;
    assert_int_equal(oct_profile_parse("GAUDI2", &profile, &err), OCT_OK);
    assert_int_equal(profile, OCT_GAUDI2);
    assert_string_equal(oct_profile_name(OCT_GAUDI3), "gaudi3");
    assert_int_equal(oct_profile_parse("gaudi4", &profile, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "profile: gaudi2 or gaudi3 expected, \"gaudi4\" found");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_activation_scale_is_incs_and_the_cards),
        cmocka_unit_test(scales_for_e5m2_and_in_other_precisions_are_incs),
        cmocka_unit_test(every_weight_scale_is_incs_and_the_cards),
        cmocka_unit_test(every_weight_byte_equals_inc),
        cmocka_unit_test(a_row_of_activations_gets_a_scale_with_a_backoff_of_a_half),
        cmocka_unit_test(an_inverse_scale_is_rounded_to_bf16),
        cmocka_unit_test(scales_made_at_run_time_are_incs),
        cmocka_unit_test(profiles_have_names),
    };
    return cmocka_run_group_tests_name("scale_method", tests, NULL, NULL);
}
