// expand.c: `octavo expand`: the measurement of one rank for many.
#include "cli/commands.h"
#include "quant/unify.h"

#include <stdio.h>

struct expand_options {
    const char *from, *to;
    int ranks;
};

#define FIELD(name) offsetof(struct expand_options, name)

static const struct oct_flag flags[] = {
    {.name = "target-world-size",
     .short_name = "w",
     .type = OCT_FLAG_INT,
     .offset = FIELD(ranks),
     .min = 1,
     .max = 1024, // the most ranks that a measurement is read of
     .metavar = "N",
     .help = "how many ranks the result is for"},
    {.name = "measurements",
     .short_name = "m",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(from),
     .metavar = "DIR",
     .help = "the folder of the file *_hooks_*_0_1.json"},
    {.name = "out",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(to),
     .metavar = "DIR",
     .initial = ".",
     .help = "the folder to write to; may be the same"},
    {0},
};

static oct_status run(const void *given, oct_error *err) {
    const struct expand_options *options = given;
    struct oct_unify_report report;
    if (!options->from) return oct_fail(err, OCT_INVALID_ARGUMENT, "--measurements DIR is missing");
    if (!options->ranks) return oct_fail(err, OCT_INVALID_ARGUMENT, "--target-world-size N is missing");
    OCT_TRY(oct_expand(options->from, options->to, options->ranks, &report, err));
    printf("1 rank as %d in %s: %d measurements\n", options->ranks, options->to, report.measurements);
    if (report.stale_removed) printf("%d scale files of older measurements were removed\n", report.stale_removed);
    return OCT_OK;
}

const struct oct_command oct_command_expand = {
    .name = "expand",
    .summary = "turn the measurement of one rank into those of many",
    .details = "Every rank gets the same ranges, but for experts' intermediate ranges, which are dealt out. Scales are made when the\n"
               "model is loaded.\n\n"
               "  octavo unify -r 1 -m measured -o one && octavo expand -w 16 -m one -o sixteen\n",
    .options_size = sizeof(struct expand_options),
    .groups = {{"Files", flags, 0}},
    .run = run,
};
