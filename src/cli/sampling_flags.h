// sampling_flags.h: the flags that say how tokens are picked; shared by generate and chat.
#pragma once

#include "cli/flags.h"
#include "octavo.h"

struct oct_sampling_flags {
    double temperature, top_p, min_p, repetition_penalty;
    int top_k, max_tokens;
    struct oct_flag_seed seed;
    struct oct_flag_list stop;
};

extern const struct oct_flag oct_sampling_flag_table[];

// The parameters that the flags stand for; they point into `flags`.
oct_sampling_params oct_sampling_flags_params(const struct oct_sampling_flags *flags);
