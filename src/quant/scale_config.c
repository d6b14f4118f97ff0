// scale_config.c: rules by node, layer and class over a default, and which of INC's methods each pair of rules is.
#include "quant/scale_config.h"

#include "base/json.h"
#include "base/memory.h"
#include "quant/python_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// The fields of a rule that are names.
static const struct field {
    const char *key, *python; // the key and INC's class
    const char *names[6];
} fields[] = {
    {"granularity", "ScaleGranularity", {"PTS", "PCS"}},
    {"scale_value_type", "ScaleValueType", {"MAXABS", "FIXED_VALUE", "OPT", "DUMMY_SCALES"}},
    {"rounding_method", "ScaleRoundMethod", {"IDENTITY", "POW2", "HW_ALIGNED", "HW_ALIGNED_FIXED", "SCALE_UNIT"}},
};
enum { GRANULARITY, VALUE, ROUNDING };

static const struct {
    const char *key, *python;
} sections[OCT_NUM_SCALE_SECTIONS] = {
    [OCT_SCALE_NODES] = {"nodes", "CfgStr.NODES"},
    [OCT_SCALE_LAYERS] = {"layers", "CfgStr.LAYERS"},
    [OCT_SCALE_LAYER_TYPES] = {"layer_types", "CfgStr.LAYER_TYPES"},
};

void oct_scale_config_free(struct oct_scale_config *config) {
    for (int i = 0; i < config->num_overrides; i++) free(config->overrides[i].key);
    free(config->overrides);
    for (int i = 0; i < config->num_candidate_lists; i++) free(config->candidates[i]);
    free(config->candidates);
    *config = (struct oct_scale_config){0};
}

// The index of a field's name; `preset` when the key is missing.
static oct_status read_name(const struct field *field, const json_t *rule, int preset, int *out, oct_error *err) {
    const json_t *value = json_object_get(rule, field->key);
    *out = preset;
    if (!value) return OCT_OK;
    if (!json_is_string(value))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: %s: a string expected, %s found", field->key, oct_json_kind(value));
    for (int i = 0; i < 6 && field->names[i]; i++) {
        if (strcasecmp(json_string_value(value), field->names[i]) != 0) continue;
        *out = i;
        return OCT_OK;
    }
    struct oct_buffer names = {0};
    for (int i = 0; i < 6 && field->names[i]; i++) oct_buffer_printf(&names, "%s'%s'", i ? ", " : "", field->names[i]);
    oct_status status = oct_fail(err, OCT_INVALID_ARGUMENT, "Invalid input '%s' for %s. Enter one of [%s]", json_string_value(value),
                                 field->python, names.data);
    oct_buffer_free(&names);
    return status;
}

// {"weight_scales": [...]}: what a search for the best scale tries.
static oct_status read_candidates(struct oct_scale_config *config, const json_t *params, struct oct_scale_rule *out, oct_error *err) {
    const json_t *list = json_object_get(params, "weight_scales");
    size_t n = json_array_size(list);
    if (n < 1 || n > OCT_MAX_CANDIDATES || json_object_size(params) != 1)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: params: {\"weight_scales\": [1 to %d numbers]} expected",
                        OCT_MAX_CANDIDATES);
    float *candidates = oct_alloc(n, sizeof *candidates, "candidates for scales");
    config->candidates =
        oct_resize(config->candidates, (size_t)config->num_candidate_lists + 1, sizeof *config->candidates, "candidates for scales");
    config->candidates[config->num_candidate_lists++] = candidates;
    for (size_t i = 0; i < n; i++) {
        const json_t *number = json_array_get(list, i);
        candidates[i] = (float)json_number_value(number);
        if (!json_is_number(number) || !oct_scale_is_usable(candidates[i]))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: params.weight_scales[%zu]: a positive number expected", i);
    }
    out->candidates = candidates;
    out->num_candidates = (int)n;
    return OCT_OK;
}

static oct_status read_rule(struct oct_scale_config *config, const json_t *json, const struct oct_scale_rule *preset,
                            struct oct_scale_rule *out, oct_error *err) {
    int names[3];
    *out = *preset;
    if (!json) return OCT_OK;
    if (!json_is_object(json)) return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: a dict expected, %s found", oct_json_kind(json));
    OCT_TRY(read_name(&fields[GRANULARITY], json, preset->per_channel, &names[GRANULARITY], err));
    OCT_TRY(read_name(&fields[VALUE], json, (int)preset->value, &names[VALUE], err));
    OCT_TRY(read_name(&fields[ROUNDING], json, (int)preset->rounding, &names[ROUNDING], err));
    out->per_channel = names[GRANULARITY];
    out->value = (enum oct_scale_value)names[VALUE];
    out->rounding = (enum oct_scale_rounding)names[ROUNDING];
    const json_t *backoff = json_object_get(json, "backoff"), *params = json_object_get(json, "params");
    if (backoff) {
        if (!json_is_number(backoff) || !(json_number_value(backoff) > 0))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: backoff: a positive number expected, %s found",
                            json_is_number(backoff) ? "another" : oct_json_kind(backoff));
        out->backoff = json_number_value(backoff);
    }
    return json_object_size(params) > 0 ? read_candidates(config, params, out, err) : OCT_OK;
}

static oct_status read_method(struct oct_scale_config *config, const json_t *json, const struct oct_scale_method *preset,
                              struct oct_scale_method *out, oct_error *err) {
    if (!json_is_object(json)) return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: a dict expected, %s found", oct_json_kind(json));
    OCT_TRY(read_rule(config, json_object_get(json, "weight"), &preset->weight, &out->weight, err));
    return read_rule(config, json_object_get(json, "activation"), &preset->activation, &out->activation, err);
}

static oct_status read_section(struct oct_scale_config *config, enum oct_scale_section section, const json_t *json, oct_error *err) {
    if (!json) return OCT_OK;
    if (!json_is_object(json))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "scale_method: %s: a dict expected, %s found", sections[section].key,
                        oct_json_kind(json));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value) {
        config->overrides = oct_resize(config->overrides, (size_t)config->num_overrides + 1, sizeof *config->overrides, "scale rules");
        struct oct_scale_override *added = &config->overrides[config->num_overrides];
        *added = (struct oct_scale_override){.section = section, .key = oct_strdup(key)};
        config->num_overrides++;
        OCT_TRY(read_method(config, value, &config->preset, &added->method, err));
    }
    return OCT_OK;
}

oct_status oct_scale_config_parse(const json_t *json, struct oct_scale_config *out, oct_error *err) {
    static const struct oct_scale_method identity = {.weight = {.backoff = 1},
                                                     .activation = {.backoff = 1}}; // where a default says nothing
    *out = (struct oct_scale_config){0};
    const json_t *preset = json_object_get(json, "default");
    if (!preset || json_is_null(preset))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "Scale method config should contain a default scale method.");
    OCT_TRY(read_method(out, preset, &identity, &out->preset, err));
    for (int i = 0; i < OCT_NUM_SCALE_SECTIONS; i++)
        OCT_TRY(read_section(out, (enum oct_scale_section)i, json_object_get(json, sections[i].key), err));
    return OCT_OK;
}

static bool same_rule(const struct oct_scale_rule *a, const struct oct_scale_rule *b) {
    return a->per_channel == b->per_channel && a->value == b->value && a->rounding == b->rounding;
}

static void rule_repr(const struct oct_scale_rule *rule, struct oct_buffer *out) {
    oct_buffer_printf(out, "ScaleMethodConfig(granularity=%s.%s, scale_value_type=%s.%s, rounding_method=%s.%s, backoff=",
                      fields[GRANULARITY].python, fields[GRANULARITY].names[rule->per_channel], fields[VALUE].python,
                      fields[VALUE].names[rule->value], fields[ROUNDING].python, fields[ROUNDING].names[rule->rounding]);
    oct_python_repr(rule->backoff, out);
    oct_buffer_puts(out, ", params={");
    float candidates[OCT_MAX_CANDIDATES];
    int n = rule->value == OCT_SCALE_OPT ? oct_scale_candidates(rule, candidates) : 0;
    for (int i = 0; i < n; i++) {
        oct_buffer_puts(out, i ? ", " : "'weight_scales': [");
        oct_python_repr(candidates[i], out);
    }
    oct_buffer_puts(out, n ? "]})" : "})");
}

json_t *oct_scale_rule_to_json(const struct oct_scale_rule *rule) {
    json_t *params = json_object();
    float candidates[OCT_MAX_CANDIDATES];
    int n = rule->value == OCT_SCALE_OPT ? oct_scale_candidates(rule, candidates) : 0;
    if (n) json_object_set_new(params, "weight_scales", json_array());
    for (int i = 0; i < n; i++) json_array_append_new(json_object_get(params, "weight_scales"), json_real(candidates[i]));
    return json_pack("{s:s, s:s, s:s, s:f, s:o}", fields[GRANULARITY].key, fields[GRANULARITY].names[rule->per_channel], fields[VALUE].key,
                     fields[VALUE].names[rule->value], fields[ROUNDING].key, fields[ROUNDING].names[rule->rounding], "backoff",
                     rule->backoff, "params", params);
}

static void method_repr(const struct oct_scale_method *method, struct oct_buffer *out) {
    oct_buffer_puts(out, "{<CfgStr.WEIGHT: 'weight'>: ");
    rule_repr(&method->weight, out);
    oct_buffer_puts(out, ", <CfgStr.ACTIVATION: 'activation'>: ");
    rule_repr(&method->activation, out);
    oct_buffer_puts(out, "}");
}

void oct_scale_config_repr(const struct oct_scale_config *config, struct oct_buffer *out) {
    oct_buffer_puts(out, "{<CfgStr.DEFAULT: 'default'>: ");
    method_repr(&config->preset, out);
    oct_buffer_puts(out, "}");
}

// The backoffs may be one's own; everything else must be one of INC's combinations.
static oct_status resolve(struct oct_scale_method *method, const char *place, oct_error *err) {
    for (int i = 0; i < OCT_NUM_SCALE_METHODS && !method->name; i++)
        if (same_rule(&method->weight, &oct_scale_methods[i].weight) && same_rule(&method->activation, &oct_scale_methods[i].activation))
            method->name = oct_scale_methods[i].name;
    if (method->name) return OCT_OK;
    struct oct_buffer repr = {0};
    method_repr(method, &repr);
    oct_status status =
        oct_fail(err, OCT_INVALID_ARGUMENT, "Unsupported config: scale method config for %s = %s is not supported.", place, repr.data);
    oct_buffer_free(&repr);
    return status;
}

oct_status oct_scale_config_resolve(struct oct_scale_config *config, oct_error *err) {
    OCT_TRY(resolve(&config->preset, "CfgStr.DEFAULT", err));
    for (int i = 0; i < config->num_overrides; i++) {
        struct oct_scale_override *override = &config->overrides[i];
        char place[256];
        snprintf(place, sizeof place, "%s[%s]", sections[override->section].python, override->key);
        OCT_TRY(resolve(&override->method, place, err));
    }
    return OCT_OK;
}

const struct oct_scale_method *oct_scale_config_method(const struct oct_scale_config *config, enum oct_module module, int layer) {
    char name[128], index[16];
    oct_module_name(module, layer, name, sizeof name);
    snprintf(index, sizeof index, "%d", layer);
    const char *wanted[OCT_NUM_SCALE_SECTIONS] = {
        [OCT_SCALE_NODES] = name,
        [OCT_SCALE_LAYERS] = module == OCT_LM_HEAD ? "" : index,
        [OCT_SCALE_LAYER_TYPES] = oct_module_class(module),
    };
    for (int section = 0; section < OCT_NUM_SCALE_SECTIONS; section++)
        for (int i = 0; i < config->num_overrides; i++)
            if (config->overrides[i].section == (enum oct_scale_section)section && !strcmp(config->overrides[i].key, wanted[section]))
                return &config->overrides[i].method;
    return &config->preset;
}

bool oct_scale_config_any(const struct oct_scale_config *config, bool (*each)(const struct oct_scale_method *method)) {
    for (int i = 0; i < config->num_overrides; i++)
        if (each(&config->overrides[i].method)) return true;
    return each(&config->preset);
}
