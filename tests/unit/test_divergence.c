// How far two models' distributions are apart.
#include "cli/divergence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void add(struct oct_divergence *divergence, const float *reference, const float *model, size_t n) {
    oct_divergence_add(divergence, reference, oct_logsumexp(reference, n), model, oct_logsumexp(model, n), n);
}

static void logsumexp_survives_large_logits_and_passes_nan_on(void **state) {
    (void)state;
    assert_true(fabs(oct_logsumexp((float[]){1000, 1000}, 2) - (1000 + log(2))) < 1e-12);
    assert_true(fabs(oct_logsumexp((float[]){-1000, -INFINITY}, 2) + 1000) < 1e-12);
    assert_true(isnan(oct_logsumexp((float[]){0, NAN, 1}, 3)));
}

static void kl_is_that_of_the_reference_against_the_model(void **state) {
    (void)state;
    // reference (1/4, 3/4), model (1/2, 1/2); logits may be shifted by any constant
    const float reference[] = {5, 5 + logf(3)}, model[] = {-2, -2};
    struct oct_divergence divergence = {0};
    add(&divergence, reference, model, 2);
    double expected = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5);
    assert_true(fabs(divergence.kl[0] - expected) < 1e-6);
    oct_divergence_free(&divergence);
}

static void a_summary_has_mean_percentile_maximum_and_agreement(void **state) {
    (void)state;
    struct oct_divergence divergence = {0};
    const float same[] = {1, 0, 0}, other[] = {0, 1, 0};
    for (int i = 0; i < 150; i++) add(&divergence, same, same, 3);
    for (int i = 0; i < 50; i++) add(&divergence, same, other, 3);
    divergence.kl[0] = 7; // an outlier: above the 99th percentile of 200 values
    double apart = divergence.kl[199];
    struct oct_divergence_summary summary = oct_divergence_summarize(&divergence);
    assert_int_equal(summary.count, 200);
    assert_true(summary.max == 7);
    assert_true(summary.p99 == apart && apart > 0);
    assert_true(fabs(summary.mean - (7 + 50 * apart) / 200) < 1e-12);
    assert_true(summary.same_top == 0.75);
    oct_divergence_free(&divergence);
}

static void no_position_is_no_divergence(void **state) {
    (void)state;
    struct oct_divergence divergence = {0};
    struct oct_divergence_summary summary = oct_divergence_summarize(&divergence);
    assert_int_equal(summary.count, 0);
    assert_true(summary.mean == 0 && summary.same_top == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logsumexp_survives_large_logits_and_passes_nan_on),
        cmocka_unit_test(kl_is_that_of_the_reference_against_the_model),
        cmocka_unit_test(a_summary_has_mean_percentile_maximum_and_agreement),
        cmocka_unit_test(no_position_is_no_divergence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
