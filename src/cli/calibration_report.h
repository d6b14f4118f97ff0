// calibration_report.h: how far a calibrated model is from bf16, and which modules that is due to: for people, and as a file beside the
// configurations, report_g3.json, which `octavo report` draws.
#pragma once

#include "cli/divergence.h"
#include "quant/scale_method.h"

#include <stdbool.h>

struct oct_calibration_report {
    const char *model; // as given
    size_t prompts, tokens;
    double seconds;
    bool on_prompts; // compared on the prompts that were measured, for want of others
    struct oct_divergence_summary divergence;
    size_t fp8_bytes, bf16_bytes;
    int num_layers;
    const double *module_kl; // (oct_unit_count(num_layers)) mean KL with that unit alone in FP8, NaN: not planned. NULL: not tried
    int module_tokens;
};

void oct_calibration_report_print(const struct oct_calibration_report *report, FILE *file);
// <folder>/report_<g2|g3>.json
oct_status oct_calibration_report_write(const struct oct_calibration_report *report, const char *folder, enum oct_profile profile,
                                        oct_error *err);
