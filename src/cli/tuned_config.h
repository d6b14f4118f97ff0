// tuned_config.h: a QUANT_CONFIG with what tuning found, made from the one that was tuned: all its other keys stay.
#pragma once

#include "base/error.h"
#include "quant/scale_method.h"

#include <stdbool.h>

struct oct_tuned_config {
    const char *base_path;             // the configuration that was tuned
    const char *path;                  // to write
    const char *const *block_patterns; // (num_patterns) regular expressions to add to the blocklist
    int num_patterns;
    // Scale methods by module name. Scale files are named after the default alone, so these get a folder of their own, "tuned" beside the
    // base's, with a copy of the measurement: else the two configurations would overwrite each other's scales.
    const struct oct_scale_method *preset; // the default; NULL: methods stay as they are
    const char *const *modules;            // (num_modules)
    const struct oct_scale_method *const *methods;
    int num_modules;
};

oct_status oct_tuned_config_write(const struct oct_tuned_config *config, oct_error *err);
// Where it goes unless the user says: "maxabs_quant_g3.json" becomes "tuned_quant_g3.json" in the same folder. The caller frees it.
char *oct_tuned_config_path(const char *base_path);
