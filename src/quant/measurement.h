// measurement.h: the max-abs of each module's inputs and outputs, and INC's files that hold it (spec inc 2.4): JSON for people, NPZ
// for INC. Values are rounded to bf16 when written, as INC's are.
#pragma once

#include "base/error.h"
#include "quant/module.h"
#include "quant/observer.h"
#include "quant/quant_config.h"

#include <stdbool.h>

// What was seen of one module. A port that was never seen is -1.
struct oct_module_measurement {
    bool seen;
    float inputs[4], outputs[2]; // running max |x|
    int num_inputs, num_outputs;
    float weight; // max |w| of a linear's weight, or -1
};

struct oct_measurement {
    int num_layers;
    struct oct_module_measurement *modules; // (num_layers * OCT_NUM_MODULES + 1): layer-major, lm_head last. Owned
};

struct oct_measurement *oct_measurement_new(int num_layers);
void oct_measurement_free(struct oct_measurement *measurement);
// NULL when layer or module is out of range.
struct oct_module_measurement *oct_measurement_at(struct oct_measurement *measurement, enum oct_module module, int layer);

// An observer that adds to `measurement`; lifetime of the measurement.
struct oct_observer oct_measurement_observer(struct oct_measurement *measurement);

// vllm-gaudi's calibration step 3: matmul_qk.inputs[1] := k_cache.inputs[0], matmul_av.inputs[1] := v_cache.inputs[0].
void oct_measurement_unify_kv(struct oct_measurement *measurement);

// Before measuring: makes the folder of dump_stats_path, checks that it can be written, and moves what older runs left under the same
// prefix into <folder>/backup_<prefix>_<DD-MM_HH:MM:SS>/, as INC does: scale files of an older calibration would win over the new one.
oct_status oct_measurement_prepare(const struct oct_quant_config *config, oct_error *err);

// Writes <dump>_hooks_<observer>_<rank>_<world>.json, .npz and _mod_list.json, each whole or not at all. Modules that the configuration
// does not select are left out. num_samples > 0: written as NumSamples.
oct_status oct_measurement_write(const struct oct_measurement *measurement, const struct oct_quant_config *config, int num_samples,
                                 oct_error *err);
// Reads the NPZ (as INC does; the JSON is informative only). A missing file is OCT_NOT_FOUND with a message that says which command
// makes it.
oct_status oct_measurement_read(const struct oct_quant_config *config, int num_layers, struct oct_measurement **out, oct_error *err);
