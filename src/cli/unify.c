// unify.c: `octavo unify`: measurements of many ranks as those of fewer.
#include "quant/unify.h"

#include "cli/commands.h"

#include <stdio.h>

#define FIELD(name) offsetof(struct oct_unify_options, name)

static const struct oct_flag flags[] = {
    {.name = "rank",
     .short_name = "r",
     .type = OCT_FLAG_INT,
     .offset = FIELD(ranks),
     .min = 1,
     .max = 1024, // the most ranks that a measurement is read of
     .metavar = "N",
     .help = "how many ranks the result is for; they must divide the ranks that were measured"},
    {.name = "measurements",
     .short_name = "m",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(from),
     .metavar = "DIR",
     .help = "the folder of the files *_hooks_*_RANK_RANKS.json; of several numbers of ranks in it the largest counts"},
    {.name = "out",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(to),
     .metavar = "DIR",
     .initial = ".",
     .help = "the folder to write to; may be the same"},
    {.name = "use-expert-paral",
     .short_name = "u",
     .alias = "use-expert-parallel",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(expert_parallel),
     .help = "the ranks hold different experts: number them through instead of merging expert 0 with expert 0"},
    {.name = "skip-unify-scales",
     .short_name = "s",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(skip_scales),
     .help = "measurements alone; scales are then made when the model is loaded"},
    {0},
};

static oct_status run(const void *given, oct_error *err) {
    const struct oct_unify_options *options = given;
    struct oct_unify_report report;
    if (!options->from) return oct_fail(err, OCT_INVALID_ARGUMENT, "--measurements DIR is missing");
    if (!options->ranks) return oct_fail(err, OCT_INVALID_ARGUMENT, "--rank N is missing");
    OCT_TRY(oct_unify(options, &report, err));
    printf("%d ranks as %d in %s: %d measurements, %d scale files\n", report.ranks, options->ranks, options->to, report.measurements,
           report.scales);
    if (report.left_out) printf("%d weights have a scale per channel: those are made again when the model is loaded\n", report.left_out);
    if (report.stale_removed) printf("%d scale files of older measurements were removed\n", report.stale_removed);
    return OCT_OK;
}

const struct oct_command oct_command_unify = {
    .name = "unify",
    .summary = "turn measurements of many ranks into those of fewer",
    .details = "Consecutive ranks become one (16 to 8: 0 and 1, 2 and 3, ...), each range the largest of theirs. Nothing is written\n"
               "unless every file is there and whole.\n\n"
               "  octavo unify -r 1 -m calibrated/llama/g3 -o unified\n",
    .options_size = sizeof(struct oct_unify_options),
    .groups = {{"Files", flags, 0}},
    .run = run,
};
