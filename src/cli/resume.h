// resume.h: a measuring run that was broken off, and where it goes on. What was seen so far lies in a folder beside the results, as INC's
// files, with a description of the run: only the same model and the same prompts go on. Maxima can be taken in any parts, so a run in two
// parts ends with the same files as a run in one.
#pragma once

#include "base/error.h"
#include "cli/prompts.h"
#include "quant/measurement.h"

struct oct_resume {
    char *folder;      // owned
    char *description; // of this run: a JSON text. Owned
    double saved;      // seconds, when it was saved last
};

// `folder`: of the measurement so far; made when something is saved.
void oct_resume_open(const char *folder, const char *model_path, const struct oct_prompts *prompts, struct oct_resume *out);
void oct_resume_close(struct oct_resume *resume);

// Replaces *measurement by what an earlier run of the same saw, and sets *prompts_done; leaves both where there is none, or what there is
// cannot be read.
void oct_resume_load(const struct oct_resume *resume, struct oct_measurement **measurement, size_t *prompts_done);
oct_status oct_resume_save(struct oct_resume *resume, const struct oct_measurement *measurement, size_t prompts_done, oct_error *err);
// Whether it is time to save again.
bool oct_resume_is_due(const struct oct_resume *resume);
// The run is complete: nothing is left to go on with.
void oct_resume_remove(const struct oct_resume *resume);
