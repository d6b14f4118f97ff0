// block_search.h: the fewest units of a model to leave in bf16 so that the rest in FP8 stays within a bound. Knows nothing of models: it is
// given what each unit costs alone, and asks what a choice costs together.
#pragma once

#include <stdbool.h>

struct oct_block_search {
    int units;
    const double *cost; // (units) KL with that unit alone in FP8; NaN: it is not in FP8 anyway
    double bound;       // KL
    // KL with the units of blocked (units) in bf16 and all others in FP8. NaN: stop.
    double (*measure)(void *context, const bool *blocked);
    void *context;
};

// The units whose cost (units) is a number, the costliest first, of equal ones the earlier, into order (units). Returns how many.
int oct_order_by_cost(const double *cost, int units, int *order);

// How often `measure` is called at the most.
int oct_block_search_limit(int units);
// Sets blocked (units) and returns its KL; NaN when it was stopped.
//
// Costs add up nearly enough that the costliest units are the ones to block; how many, a binary search finds. Then, beginning with the
// least costly, each is tried without: what only looked costly goes back to FP8.
double oct_block_search_run(const struct oct_block_search *search, bool *blocked);
