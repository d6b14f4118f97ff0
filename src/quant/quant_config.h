// quant_config.h: the JSON file that QUANT_CONFIG names (spec inc 1).
#pragma once

#include "base/error.h"
#include "quant/module.h"
#include "quant/scale_method.h"

#include <stdbool.h>

enum oct_quant_mode { OCT_QUANT_NONE, OCT_QUANT_QUANTIZE, OCT_QUANT_MEASURE, OCT_QUANT_SHAPE, OCT_QUANT_LOAD, OCT_QUANT_AUTO };

struct oct_quant_config {
    enum oct_quant_mode mode;
    char observer[32];          // "maxabs"
    char *dump_stats_path;      // prefix of the measurement and scale files. Owned
    char scale_method[64];      // upper case: "MAXABS_HW"
    enum oct_profile profile;   // device_for_scales; gaudi3 when the file does not say
    char **allow_types, **allow_names, **block_types, **block_names; // NULL-terminated lists. Owned
    int calibration_sample_interval; // > 0: rewrite the measurement files every so many steps
    bool recalc_scales, ignore_modules_wo_measures, separate_measure_files;
};

oct_status oct_quant_config_load(const char *path, struct oct_quant_config **out, oct_error *err);
void oct_quant_config_free(struct oct_quant_config *config);

// Whether allowlist and blocklist select a module (spec inc 6).
bool oct_quant_config_selects(const struct oct_quant_config *config, enum oct_module module, int layer);
// The rule of the configuration's scale method for activations or for weights.
struct oct_scale_rule oct_quant_config_rule(const struct oct_quant_config *config, bool weight);

// File names: <dump_stats_path>_hooks_<observer>[_<rank>_<world>].json / .npz, and with "_<SCALE_METHOD>" after the observer
// for scales, "_mod_list" before the ending for the module list. The caller frees them.
char *oct_quant_config_file(const struct oct_quant_config *config, const char *infix, int rank, int world, const char *ending);
