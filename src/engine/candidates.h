// candidates.h: the best of a row of logits, without sorting the row: a heap, and a heap of bounded size.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct oct_candidate {
    float logit;
    int32_t id;
};

// Ranked one at a time, only as far as asked. A heap in heap[0 .. size), the best on top; those that were asked for stand behind it, so
// that the whole array becomes ascending.
struct oct_ranking {
    struct oct_candidate *heap; // (count) borrowed
    int size, count;
};

struct oct_ranking oct_rank(struct oct_candidate *candidates, int count);
// The i-th best (0: the best); equal ones by id.
struct oct_candidate oct_ranked(struct oct_ranking *ranking, int i);

// The `count` best ids of logits (vocab_size) whose logit is at least `least`, best first, equal ones by id, into best (count). Returns how
// many there are. One comparison for most ids.
int oct_select_best(const float *logits, int vocab_size, int count, float least, struct oct_candidate *best);
// Every id whose logit is at least `least`, in ascending order of ids, into candidates (vocab_size). Returns how many there are.
int oct_collect(const float *logits, int vocab_size, float least, struct oct_candidate *candidates);

float oct_largest(const float *logits, int count);
