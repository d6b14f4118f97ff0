#include "numeric/bf16.h"
#include "quant/plan.h"
#include "quant/weight_search.h"
#include "quant_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *const devices[] = {[OCT_GAUDI2] = "GAUDI2", [OCT_GAUDI3] = "GAUDI3"};

struct matrix {
    int rows, cols;
    float *values; // (rows, cols)
};

static struct matrix matrix_of(json_t *weight) {
    const char *hex = json_string_value(json_object_get(weight, "bf16"));
    size_t n = strlen(hex) / 4;
    struct matrix matrix = {.rows = (int)json_integer_value(json_array_get(json_object_get(weight, "shape"), 0))};
    matrix.cols = (int)n / matrix.rows;
    matrix.values = oct_alloc(n, sizeof(float), "a test");
    for (size_t i = 0; i < n; i++) matrix.values[i] = oct_bf16_to_f32((uint16_t)hex_at(hex, i, 4));
    return matrix;
}

// Searches with the rows in two parts, the second one first.
static void search_in_parts(const struct oct_scale_rule *rule, const struct matrix *matrix, float *scales) {
    struct oct_weight_search *search = oct_weight_search_new(rule, matrix->rows);
    int first = matrix->rows / 3;
    oct_weight_search_rows(search, first, matrix->rows - first, matrix->cols, matrix->values + (size_t)(first * matrix->cols));
    oct_weight_search_rows(search, 0, first, matrix->cols, matrix->values);
    oct_weight_search_finish(search, scales);
    oct_weight_search_free(search);
}

static void searched_scales_are_incs(void **state) {
    (void)state;
    json_t *root = golden_json("weights.json");
    size_t compared = 0, tensors = 0;
    for (int profile = 0; profile < 2; profile++)
        for (int m = 0; m < OCT_NUM_SCALE_METHODS; m++) {
            struct oct_scale_rule rule = oct_scale_methods[m].weight;
            rule.profile = (enum oct_profile)profile;
            if (rule.value != OCT_SCALE_OPT) continue;
            json_t *scales = json_object_get(json_object_get(json_object_get(root, "scales"), devices[profile]), oct_scale_methods[m].name);
            assert_int_equal(json_object_size(scales), 8);
            const char *name;
            json_t *expected;
            json_object_foreach(scales, name, expected) {
                struct matrix matrix = matrix_of(json_object_get(json_object_get(root, "weights"), name));
                float found[64];
                search_in_parts(&rule, &matrix, found);
                size_t n = json_array_size(expected);
                assert_int_equal(n, rule.per_channel ? matrix.rows : 1);
                for (size_t i = 0; i < n; i++, compared++)
                    if (json_number_value(json_array_get(expected, i)) != (double)found[i])
                        fail_msg("%s %s %s[%zu]: %g expected, %g found", devices[profile], oct_scale_methods[m].name, name, i,
                                 json_number_value(json_array_get(expected, i)), (double)found[i]);
                free(matrix.values);
                tensors++;
            }
        }
    print_message("# %zu scales of %zu tensors\n", compared, tensors);
    assert_int_equal(tensors, 64); // with those of test_scale_method 352
    json_decref(root);
}

static void candidates_of_ones_own_are_tried_in_their_order(void **state) {
    (void)state;
    struct oct_scale_rule rule = oct_scale_method_find("MAXABS_POW2_OPT_WEIGHT")->weight;
    rule.candidates = (const float[]){0.5f, 1, 2};
    rule.num_candidates = 3;
    struct matrix matrix = {.rows = 3, .cols = 1, .values = (float[]){1, 2, 4}}; // all candidates are exact: the last one wins
    float found;
    search_in_parts(&rule, &matrix, &found);
    assert_true(found == 2);
    rule.num_candidates = 1;
    search_in_parts(&rule, &matrix, &found);
    assert_true(found == 0.5f);
}

static void a_plan_searches_only_what_it_does_not_know(void **state) {
    (void)state;
    struct oct_linear_plan linear = {.fp8 = true, .weight_rule = oct_scale_method_find("MAXABS_POW2")->weight};
    float weights[4] = {1, -2, 0.5f, 0};
    assert_null(oct_plan_search_begin(&linear, 2)); // maxima will do
    linear.weight_rule = oct_scale_method_find("ACT_MAXABS_POW2_WEIGHTS_PCS_OPT_POW2")->weight;
    struct oct_weight_search *search = oct_plan_search_begin(&linear, 2);
    assert_non_null(search);
    oct_weight_search_rows(search, 0, 2, 2, weights);
    oct_plan_search_end(&linear, search, 2);
    assert_int_equal(linear.num_weight_scales, 2);
    assert_true(linear.weight_scales[0] > 0);
    assert_null(oct_plan_search_begin(&linear, 2));
    free(linear.weight_scales);
}

static void a_row_of_zeros_gets_a_scale_that_can_be_used(void **state) {
    (void)state;
    struct oct_linear_plan linear = {.fp8 = true, .weight_rule = oct_scale_method_find("ACT_MAXABS_POW2_WEIGHTS_PCS_OPT_POW2")->weight};
    struct oct_weight_search *search = oct_plan_search_begin(&linear, 1);
    oct_weight_search_rows(search, 0, 1, 2, (float[]){0, 0});
    float found;
    oct_weight_search_finish(search, &found);
    assert_true(found == 0x1p-129f); // as INC; its inverse is infinite
    oct_plan_search_end(&linear, search, 1);
    assert_true(linear.weight_scales[0] == 1);
    free(linear.weight_scales);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searched_scales_are_incs),
        cmocka_unit_test(candidates_of_ones_own_are_tried_in_their_order),
        cmocka_unit_test(a_plan_searches_only_what_it_does_not_know),
        cmocka_unit_test(a_row_of_zeros_gets_a_scale_that_can_be_used),
    };
    return cmocka_run_group_tests_name("weight_search", tests, NULL, NULL);
}
