// candidates.c: heaps over (logit, id). Both kinds sift the same way; they differ in who stands on top.
#include "engine/candidates.h"

static bool better(struct oct_candidate a, struct oct_candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static bool worse(struct oct_candidate a, struct oct_candidate b) {
    return better(b, a);
}

// `above` is a constant in every call, so that each kind of heap gets its own code.
static inline __attribute__((always_inline)) void sift_down(struct oct_candidate *heap, int size, int at,
                                                            bool (*above)(struct oct_candidate, struct oct_candidate)) {
    struct oct_candidate moved = heap[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && above(heap[child + 1], heap[child])) child++;
        if (!above(heap[child], moved)) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

struct oct_ranking oct_rank(struct oct_candidate *candidates, int count) {
    for (int i = count / 2 - 1; i >= 0; i--) sift_down(candidates, count, i, better);
    return (struct oct_ranking){candidates, count, count};
}

struct oct_candidate oct_ranked(struct oct_ranking *ranking, int i) {
    while (ranking->count - ranking->size <= i) {
        struct oct_candidate best = ranking->heap[0];
        ranking->heap[0] = ranking->heap[--ranking->size];
        sift_down(ranking->heap, ranking->size, 0, better);
        ranking->heap[ranking->size] = best;
    }
    return ranking->heap[ranking->count - 1 - i];
}

int oct_select_best(const float *logits, int vocab_size, int count, float least, struct oct_candidate *best) {
    int held = 0;
    int32_t id = 0;
    for (; id < vocab_size && held < count; id++)
        if (logits[id] >= least) best[held++] = (struct oct_candidate){logits[id], id};
    for (int i = held / 2 - 1; i >= 0; i--) sift_down(best, held, i, worse);
    if (held > 0)
        for (; id < vocab_size; id++) {
            if (!(logits[id] > best[0].logit)) continue; // equal ones with a lower id are in already
            best[0] = (struct oct_candidate){logits[id], id};
            sift_down(best, held, 0, worse);
        }
    for (int size = held - 1; size > 0; size--) { // the worst of what is left goes to the end
        struct oct_candidate last = best[0];
        best[0] = best[size];
        sift_down(best, size, 0, worse);
        best[size] = last;
    }
    return held;
}

int oct_collect(const float *logits, int vocab_size, float least, struct oct_candidate *candidates) {
    int count = 0;
    for (int32_t id = 0; id < vocab_size; id++) {
        candidates[count] = (struct oct_candidate){logits[id], id};
        count += logits[id] >= least; // no branch: near the threshold it would be a guess
    }
    return count;
}

float oct_largest(const float *logits, int count) {
    enum { LANES = 16 }; // independent maxima, so that the compiler may take several at once
    float lanes[LANES], largest = logits[0];
    for (int j = 0; j < LANES; j++) lanes[j] = logits[0];
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
    for (; i < count; i++) lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    for (int j = 0; j < LANES; j++) largest = lanes[j] > largest ? lanes[j] : largest;
    return largest;
}
