// sampling_flags.c: the table of flags, and their way into oct_sampling_params.
#include "cli/sampling_flags.h"

#include <limits.h>

#define FIELD(name) offsetof(struct oct_sampling_flags, name)

const struct oct_flag oct_sampling_flag_table[] = {
    {.name = "max-tokens",
     .short_name = "n",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(max_tokens),
     .min = 0,
     .max = INT_MAX,
     .initial = "auto",
     .help = "longest answer in tokens; auto or 0: up to the model's limit"},
    {.name = "temperature",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(temperature),
     .min = 0,
     .max = 100,
     .initial = "0",
     .help = "0 always takes the likeliest token; higher is more varied"},
    {.name = "top-p",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(top_p),
     .min = 0,
     .max = 1,
     .initial = "1",
     .help = "sample from the likeliest tokens that together have this probability"},
    {.name = "top-k",
     .type = OCT_FLAG_INT,
     .offset = FIELD(top_k),
     .min = -1,
     .max = INT_MAX,
     .initial = "0",
     .help = "sample from so many of the likeliest tokens; 0 or -1: all"},
    {.name = "min-p",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(min_p),
     .min = 0,
     .max = 1,
     .initial = "0",
     .help = "leave out tokens less likely than this share of the likeliest one"},
    {.name = "repetition-penalty",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(repetition_penalty),
     .min = 0.01,
     .max = 100,
     .initial = "1",
     .help = "above 1: tokens that occurred already become less likely"},
    {.name = "seed", .type = OCT_FLAG_SEED, .offset = FIELD(seed), .help = "the same seed gives the same text"},
    {.name = "stop", .type = OCT_FLAG_EACH, .offset = FIELD(stop), .help = "end the answer before this text"},
    {0},
};

oct_sampling_params oct_sampling_flags_params(const struct oct_sampling_flags *flags) {
    return (oct_sampling_params){
        .temperature = flags->temperature,
        .top_p = flags->top_p,
        .top_k = flags->top_k,
        .min_p = flags->min_p,
        .repetition_penalty = flags->repetition_penalty,
        .has_seed = flags->seed.given,
        .seed = flags->seed.value,
        .max_tokens = flags->max_tokens,
        .stop = flags->stop.items,
        .num_stop = flags->stop.count,
    };
}
