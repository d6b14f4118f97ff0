// block_search.c: a greedy choice, a binary search for its length, and a pass that takes back.
#include "cli/block_search.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_TAKEN_BACK = 16 }; // attempts

int oct_order_by_cost(const double *cost, int units, int *order) {
    int count = 0;
    for (int unit = 0; unit < units; unit++) {
        if (isnan(cost[unit])) continue;
        int at = count++;
        for (; at > 0 && cost[order[at - 1]] < cost[unit]; at--) order[at] = order[at - 1];
        order[at] = unit;
    }
    return count;
}

static double measure_first(const struct oct_block_search *search, const int *order, int length, bool *blocked) {
    for (int unit = 0; unit < search->units; unit++) blocked[unit] = false;
    for (int i = 0; i < length; i++) blocked[order[i]] = true;
    return search->measure(search->context, blocked);
}

int oct_block_search_limit(int units) {
    int steps = 1;
    while ((1 << steps) <= units) steps++;
    return 1 + steps + MAX_TAKEN_BACK;
}

double oct_block_search_run(const struct oct_block_search *search, bool *blocked) {
    int *order = oct_alloc((size_t)search->units, sizeof *order, "an order of modules");
    int most = oct_order_by_cost(search->cost, search->units, order), least = 0;
    double kl = measure_first(search, order, 0, blocked), best = 0; // with all of them blocked nothing differs
    if (kl <= search->bound) most = 0, best = kl;
    while (!isnan(kl) && most - least > 1) { // `least` are too few, `most` are enough
        int middle = least + (most - least) / 2;
        kl = measure_first(search, order, middle, blocked);
        if (kl <= search->bound)
            most = middle, best = kl;
        else
            least = middle;
    }
    for (int unit = 0; unit < search->units; unit++) blocked[unit] = false;
    for (int i = 0; i < most; i++) blocked[order[i]] = true;
    for (int i = most - 2, tries = 0; i >= 0 && tries < MAX_TAKEN_BACK && !isnan(kl); i--, tries++) { // without the last it was too much
        blocked[order[i]] = false;
        kl = search->measure(search->context, blocked);
        if (kl <= search->bound)
            best = kl;
        else
            blocked[order[i]] = true;
    }
    free(order);
    return isnan(kl) ? kl : best;
}
