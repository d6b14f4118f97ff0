// scale_config.h: which scale method a module has (spec inc 1.4). A configuration names one method for all modules, or gives rules by
// module name, layer or class over a default.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "quant/module.h"
#include "quant/scale_method.h"

#include <jansson.h>

enum oct_scale_section { OCT_SCALE_NODES, OCT_SCALE_LAYERS, OCT_SCALE_LAYER_TYPES, OCT_NUM_SCALE_SECTIONS }; // in order of priority

struct oct_scale_override {
    enum oct_scale_section section;
    char *key; // a qualified name, a layer index as text, or a class name. Owned
    struct oct_scale_method method;
};

struct oct_scale_config {
    struct oct_scale_method preset;       // its name stands in the names of scale files
    struct oct_scale_override *overrides; // (num_overrides) owned
    int num_overrides;
    float **candidates; // (num_candidate_lists) what rules point to. Owned
    int num_candidate_lists;
};

// Reads {"default": {"weight": {...}, "activation": {...}}, "nodes": {name: ...}, "layers": ..., "layer_types": ...}. Only the form is
// checked; *out must be freed even after an error.
oct_status oct_scale_config_parse(const json_t *json, struct oct_scale_config *out, oct_error *err);
// Finds INC's method for every pair of rules; one that is none of INC's is an error. Sets the names.
oct_status oct_scale_config_resolve(struct oct_scale_config *config, oct_error *err);
void oct_scale_config_free(struct oct_scale_config *config);

// The rules of a module. Lifetime of the configuration.
const struct oct_scale_method *oct_scale_config_method(const struct oct_scale_config *config, enum oct_module module, int layer);

// Calls `each` with every method in the configuration until it returns true; whether it did.
bool oct_scale_config_any(const struct oct_scale_config *config, bool (*each)(const struct oct_scale_method *method));

// A rule as INC's configurations spell it. The caller releases it.
json_t *oct_scale_rule_to_json(const struct oct_scale_rule *rule);

// The configuration as Python prints INC's objects: INC's messages contain it.
void oct_scale_config_repr(const struct oct_scale_config *config, struct oct_buffer *out);
