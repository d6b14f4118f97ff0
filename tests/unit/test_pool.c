// The thread pool: every item once, whatever the sizes, with more threads than cores, and from a caller that keeps coming back.
#include "device/cpu/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 1000 };

struct tally {
    int threads, chunk;
    atomic_int visits[MOST];
    atomic_int inside[64]; // calls running for a worker
};

static void visit(void *context, int worker, int begin, int end) {
    struct tally *tally = context;
    assert_true(worker >= 0 && worker < tally->threads);
    assert_int_equal(atomic_fetch_add(&tally->inside[worker], 1), 0);
    assert_true(end > begin && end - begin <= tally->chunk);
    for (int i = begin; i < end; i++) atomic_fetch_add(&tally->visits[i], 1);
    atomic_fetch_sub(&tally->inside[worker], 1);
}

static void every_item_is_visited_exactly_once(void **state) {
    (void)state;
    static struct tally tally;
    for (int threads = 1; threads <= 9; threads += 2) {
        struct oct_pool *pool;
        oct_error err;
        assert_int_equal(oct_pool_open(threads, &pool, &err), OCT_OK);
        assert_int_equal(oct_pool_threads(pool), threads);
        for (int round = 0; round < 2000; round++) {
            int items = round * 7 % MOST;
            tally.threads = threads;
            tally.chunk = 1 + round % 13;
            memset(tally.visits, 0, sizeof tally.visits);
            oct_pool_for(pool, items, tally.chunk, visit, &tally);
            for (int i = 0; i < MOST; i++) assert_int_equal(atomic_load(&tally.visits[i]), i < items);
        }
        oct_pool_close(pool);
    }
}

static void a_number_of_threads_out_of_range_is_an_error(void **state) {
    (void)state;
    struct oct_pool *pool;
    oct_error err;
    assert_int_equal(oct_pool_open(-1, &pool, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "threads"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_visited_exactly_once),
        cmocka_unit_test(a_number_of_threads_out_of_range_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
