// unify.h: measurement and scale files of several ranks as those of fewer ranks (vllm-gaudi's calibration step 5), and of one rank as
// those of many (step 6), so that a model measured on 16 cards runs on 8, or on one.
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct oct_unify_options {
    const char *from, *to; // folders; `to` is created. They may be the same
    int ranks;             // of the result
    bool expert_parallel;  // the ranks hold different experts: they are numbered through instead of being merged
    bool skip_scales;      // measurements only
};

struct oct_unify_report {
    int ranks;         // found in `from`
    int measurements;  // written, each as JSON and NPZ
    int scales;        // written
    int left_out;      // nodes of scale files whose weights have a scale per channel: they are made again from the weights
    int stale_removed; // scale files in `to` that the new measurements contradict
};

// Consecutive ranks make one: 16 to 8 merges 0 and 1, 2 and 3, ... Every range is the largest of its group's; every scale too, but for
// those that are products of others, which are multiplied again. Everything is read and merged before the first file is written.
oct_status oct_unify(const struct oct_unify_options *options, struct oct_unify_report *report, oct_error *err);

// The measurement of one rank for each of `ranks`: experts' intermediate ranges are dealt out evenly, everything else is copied. Scale
// files are not expanded: they are made when a model is loaded.
oct_status oct_expand(const char *from, const char *to, int ranks, struct oct_unify_report *report, oct_error *err);
