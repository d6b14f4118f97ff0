// median.h: numbers in order, and the one in the middle.
#pragma once

#include <stddef.h>
#include <stdlib.h>

static inline int oct_compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sorts values (count), smallest first. NaN has no place.
static inline void oct_sort_doubles(double *values, size_t count) {
    qsort(values, count, sizeof *values, oct_compare_doubles);
}

// Sorts values (count > 0); of an even number, the mean of the two in the middle.
static inline double oct_median(double *values, size_t count) {
    oct_sort_doubles(values, count);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
