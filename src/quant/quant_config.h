// quant_config.h: the JSON file that QUANT_CONFIG names (spec inc 1).
#pragma once

#include "base/error.h"
#include "quant/module.h"
#include "quant/quant_config_keys.h"
#include "quant/scale_config.h"

#include <stdbool.h>

enum oct_quant_mode { OCT_QUANT_NONE, OCT_QUANT_QUANTIZE, OCT_QUANT_MEASURE, OCT_QUANT_SHAPE, OCT_QUANT_LOAD, OCT_QUANT_AUTO };

// The device that INC would run on: the card that the names of the calibration scripts' files say, or INC's own CPU backend.
enum oct_card { OCT_CARD_UNKNOWN, OCT_CARD_GAUDI2, OCT_CARD_GAUDI3, OCT_CARD_HOST };

struct oct_quant_config {
    int values[OCT_NUM_QUANT_KEYS]; // by key, as read: see quant_config_keys.h. What Octavo acts on is below
    enum oct_quant_mode mode;
    char observer[64];              // "maxabs"; any name: it is checked where something is to be observed
    char *dump_stats_path;          // prefix of the measurement and scale files. Owned
    char scale_method[64];          // upper case: "MAXABS_HW"; of rules by module, the default's: it stands in the names of scale files
    struct oct_scale_config scales; // which scale method each module has. Owned
    enum oct_card card;             // see oct_quant_config_load
    enum oct_profile profile;       // whose range and scales apply
    bool e5m2;                      // fp8_config; else E4M3
    enum oct_scale_precision precision;
    bool dynamic;                                                    // scales of activations are made at run time
    char **allow_types, **allow_names, **block_types, **block_names; // NULL-terminated lists. Owned
    int calibration_sample_interval;                                 // > 0: rewrite the measurement files every so many steps
    bool recalc_scales, ignore_modules_wo_measures, separate_measure_files;
    int rank, world_size; // in file names: 0 of 1 after loading. The caller sets them for tensor parallelism
    bool measure_outputs; // measure_exclude is neither OUTPUT nor ALL: also the outputs that no scale needs
};

// Reads and checks a configuration. What INC refuses is refused in INC's words. The profile: device_for_scales; INC takes the device it
// runs on when that key is missing, which here follows from the names that the calibration scripts give: the file ends in _g2.json or
// _g3.json, or the folder of dump_stats_path (".../g2/inc_output") is called g2 or g3. gaudi3 when neither says so, or (with a warning)
// when they contradict each other. INC_TARGET_DEVICE=cpu takes the rules and the arithmetic of INC on a host instead.
oct_status oct_quant_config_load(const char *path, struct oct_quant_config **out, oct_error *err);
void oct_quant_config_free(struct oct_quant_config *config);
// What INC accepts and a run here cannot do is OCT_UNSUPPORTED, never ignored: to be asked before a run.
oct_status oct_quant_config_check_run(const struct oct_quant_config *config, oct_error *err);

// Whether allowlist and blocklist select a module (spec inc 6).
bool oct_quant_config_selects(const struct oct_quant_config *config, enum oct_module module, int layer);
// False when all scales are fixed (UNIT_SCALE, HW_ALIGNED_SINGLE_SCALE) or made at run time: then no file is read or written.
bool oct_quant_config_uses_files(const struct oct_quant_config *config);

// File names: <dump_stats_path>_hooks_<observer>[_<rank>_<world>].json / .npz, and with "_<SCALE_METHOD>" after the observer
// for scales, "_mod_list" before the ending for the module list. The caller frees them.
char *oct_quant_config_file(const struct oct_quant_config *config, const char *infix, int rank, int world, const char *ending);

// Writes which rules every selected module has, as INC does where SCALE_METHOD_CONFIG_DUMP_PATH names a file: {module: {"ACTIVATION":
// {"granularity": ..., ...}, "WEIGHT": {...}}}.
oct_status oct_quant_config_dump_scale_methods(const struct oct_quant_config *config, int num_layers, const char *path, oct_error *err);

// Writes the two configurations that the calibration scripts generate: <output_dir>/<model_name>/maxabs_measure_<g2|g3>.json and
// maxabs_quant_<g2|g3>.json, with the statistics in <output_dir>/<model_name>/<g2|g3>/inc_output (folders are created). output_dir
// becomes absolute. Some families of models get the blocklist that the scripts give them, by model_name, which is in lower case. The
// caller frees both paths.
oct_status oct_quant_config_write_pair(const char *output_dir, const char *model_name, enum oct_profile profile, const char *scale_method,
                                       char **measure_path, char **quant_path, oct_error *err);
