// Which units to leave in bf16, with models that are only sums.
#include "cli/block_search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { UNITS = 40 };

struct model {
    double truth[UNITS]; // what each unit really adds
    int calls, stop_after;
};

static double measure(void *context, const bool *blocked) {
    struct model *model = context;
    double sum = 0;
    for (int i = 0; i < UNITS; i++)
        if (!blocked[i]) sum += model->truth[i];
    return ++model->calls == model->stop_after ? (double)NAN : sum;
}

static double run(struct model *model, const double *cost, double bound, bool *blocked) {
    struct oct_block_search search = {.units = UNITS, .cost = cost, .bound = bound, .measure = measure, .context = model};
    return oct_block_search_run(&search, blocked);
}

static int count(const bool *blocked) {
    int n = 0;
    for (int i = 0; i < UNITS; i++) n += blocked[i];
    return n;
}

static void the_fewest_of_the_costliest_are_blocked(void **state) {
    (void)state;
    struct model model = {0};
    for (int i = 0; i < UNITS; i++) model.truth[i] = 1 + (i * 7) % UNITS; // 1 .. 40 in some order, 820 together
    bool blocked[UNITS];
    double kl = run(&model, model.truth, 820 - 40 - 39 - 38, blocked);
    assert_true(kl == 820 - 40 - 39 - 38);
    assert_int_equal(count(blocked), 3);
    for (int i = 0; i < UNITS; i++) assert_int_equal(blocked[i], model.truth[i] > 37);
    assert_true(model.calls <= oct_block_search_limit(UNITS));
}

static void within_the_bound_nothing_is_blocked(void **state) {
    (void)state;
    struct model model = {0};
    model.truth[3] = 2;
    bool blocked[UNITS];
    assert_true(run(&model, model.truth, 2, blocked) == 2);
    assert_int_equal(count(blocked), 0);
    assert_int_equal(model.calls, 1);
}

static void a_bound_of_zero_blocks_all_that_costs(void **state) {
    (void)state;
    struct model model = {0};
    for (int i = 0; i < 5; i++) model.truth[i] = i + 1;
    bool blocked[UNITS];
    assert_true(run(&model, model.truth, 0, blocked) == 0);
    for (int i = 0; i < 5; i++) assert_true(blocked[i]);
    assert_int_equal(count(blocked), 5);
}

static void what_only_looked_costly_is_taken_back(void **state) {
    (void)state;
    struct model model = {0};
    double cost[UNITS] = {0};
    for (int i = 0; i < 4; i++) cost[i] = 10 - i;
    model.truth[0] = 1; // of the four only the first and the last matter
    model.truth[3] = 1;
    bool blocked[UNITS];
    assert_true(run(&model, cost, 0, blocked) == 0);
    assert_true(blocked[0] && !blocked[1] && !blocked[2] && blocked[3]);
}

static void what_is_not_in_fp8_is_not_blocked(void **state) {
    (void)state;
    struct model model = {0};
    double cost[UNITS];
    for (int i = 0; i < UNITS; i++) cost[i] = i % 2 ? (double)NAN : 1;
    for (int i = 0; i < UNITS; i += 2) model.truth[i] = 1;
    bool blocked[UNITS];
    assert_true(run(&model, cost, 4, blocked) == 4);
    for (int i = 1; i < UNITS; i += 2) assert_false(blocked[i]);
    assert_int_equal(count(blocked), 16);
}

static void it_can_be_stopped_at_any_call(void **state) {
    (void)state;
    for (int stop = 1; stop < 20; stop++) {
        struct model model = {.stop_after = stop};
        for (int i = 0; i < UNITS; i++) model.truth[i] = i;
        bool blocked[UNITS];
        double kl = run(&model, model.truth, 300, blocked);
        assert_true(isnan(kl) ? model.calls == stop : model.calls < stop);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fewest_of_the_costliest_are_blocked), cmocka_unit_test(within_the_bound_nothing_is_blocked),
        cmocka_unit_test(a_bound_of_zero_blocks_all_that_costs),   cmocka_unit_test(what_only_looked_costly_is_taken_back),
        cmocka_unit_test(what_is_not_in_fp8_is_not_blocked),       cmocka_unit_test(it_can_be_stopped_at_any_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
