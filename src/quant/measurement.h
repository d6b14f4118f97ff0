// measurement.h: the max-abs of each module's inputs and outputs, and INC's files that hold it (spec inc 2.4): JSON for people, NPZ
// for INC. Values are rounded to bf16 when written, as INC's are.
#pragma once

#include "base/error.h"
#include "quant/module.h"
#include "quant/observer.h"
#include "quant/quant_config.h"
#include "quant/value.h"

#include <stdbool.h>

// INC's observers. All keep the maximum; what stands in the files is: the maximum, the maximum of each channel, the shape last seen, or
// zeros while every tensor goes to a file of its own.
enum oct_observer_kind { OCT_OBSERVE_MAXABS, OCT_OBSERVE_PER_CHANNEL, OCT_OBSERVE_SHAPE, OCT_OBSERVE_SAVE, OCT_NUM_OBSERVERS };
extern const char *const oct_observer_names[OCT_NUM_OBSERVERS]; // "maxabs", "maxabs_per_channel", "shape", "save"

// What the other observers keep of one tensor.
struct oct_port_detail {
    float *channels; // (num_channels) running max |x|; NULL: there are no channels, the maximum stands for them. Owned
    int num_channels;
    int num_dims, dims[OCT_MAX_SEEN_DIMS];
    int iteration; // of the next file of the save observer
};
enum { OCT_MAX_INPUTS = 4, OCT_MAX_OUTPUTS = 2 }; // of a module: measured, or scaled

// What was seen of one module. A port that was never seen is -1.
struct oct_module_measurement {
    bool seen;
    float inputs[OCT_MAX_INPUTS], outputs[OCT_MAX_OUTPUTS]; // running max |x|
    int num_inputs, num_outputs;
    float weight;                    // max |w| of a linear's weight, or -1
    struct oct_port_detail *details; // (inputs, then outputs, then the weight) unless the observer is maxabs: then NULL. Owned
};

struct oct_measurement {
    int num_layers;
    struct oct_module_measurement *modules; // (num_layers * OCT_NUM_MODULES + 1): layer-major, lm_head last. Owned
    enum oct_observer_kind observer;
    bool outputs;                       // also those that no scale needs
    enum oct_scale_precision precision; // of what is written
    char *save_folder;                  // of the save observer. Owned
    oct_error error;                    // the first of the save observer's: code OCT_OK while there is none
};

struct oct_measurement *oct_measurement_new(int num_layers);
void oct_measurement_free(struct oct_measurement *measurement);
// NULL when layer or module is out of range.
struct oct_module_measurement *oct_measurement_at(struct oct_measurement *measurement, enum oct_module module, int layer);

// Before anything is seen: what the configuration wants observed. Without this: maxima, of what scales need.
oct_status oct_measurement_observe(struct oct_measurement *measurement, const struct oct_quant_config *config, oct_error *err);
// An observer that adds to `measurement`; lifetime of the measurement.
struct oct_observer oct_measurement_observer(struct oct_measurement *measurement);
// For oct_llama_options.on_weight; context: the measurement.
void oct_measurement_see_weight(void *context, enum oct_module module, int layer, const struct oct_seen_weight *seen);
// What stands for one tensor in the files: index as in `details`.
struct oct_value *oct_measurement_state(const struct oct_measurement *measurement, const struct oct_module_measurement *measured, int index,
                                        struct oct_tree *tree);

// vllm-gaudi's calibration step 3: matmul_qk.inputs[1] := k_cache.inputs[0], matmul_av.inputs[1] := v_cache.inputs[0].
void oct_measurement_unify_kv(struct oct_measurement *measurement);

// Before measuring: makes the folder of dump_stats_path, checks that it can be written, and moves what older runs left under the same
// prefix into <folder>/backup_<prefix>_<DD-MM_HH:MM:SS>/, as INC does: scale files of an older calibration would win over the new one.
oct_status oct_measurement_prepare(const struct oct_quant_config *config, oct_error *err);

// Writes <dump>_hooks_<observer>_<rank>_<world>.json, .npz and _mod_list.json, each whole or not at all. Modules that the configuration
// does not select are left out. num_samples > 0: written as NumSamples.
oct_status oct_measurement_write(const struct oct_measurement *measurement, const struct oct_quant_config *config, int num_samples,
                                 oct_error *err);
// Reads the NPZ (as INC does; the JSON is informative only), or where it is missing: the one without ranks in its name, or those of all
// ranks of a run on several cards, of which the largest ranges count. Modules may have the names of vLLM or of optimum-habana. No file at
// all is OCT_NOT_FOUND with a message that says which command makes one.
bool oct_measurement_exists(const struct oct_quant_config *config);
oct_status oct_measurement_read(const struct oct_quant_config *config, int num_layers, struct oct_measurement **out, oct_error *err);
// Reads a file of its own, NPZ or JSON, whatever it is called. The layers are as many as it has.
oct_status oct_measurement_read_file(const char *path, struct oct_measurement **out, oct_error *err);
