// What INC says to 217 configurations on a Gaudi 3, and where Octavo deliberately says something else.
#include "quant/quant_config.h"
#include "quant_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *name; // of a case, or its beginning with a * at the end
    oct_status status;
    const char *why;
} differences[] = {
    {"mode_SHAPE", OCT_UNSUPPORTED, "not implemented"},
    {"mode_LOAD", OCT_UNSUPPORTED, "not implemented"},
    {"observer_maxabs_measure", OCT_OK, "the one observer"},
    {"observer_*", OCT_UNSUPPORTED, "not implemented; INC does not check the name"},
    {"fp8_config_e5m2", OCT_UNSUPPORTED, "not implemented"},
    {"hp_dtype_fp16", OCT_UNSUPPORTED, "not implemented"},
    {"hp_dtype_FP32", OCT_UNSUPPORTED, "not implemented"},
    {"use_qdq_tr*", OCT_UNSUPPORTED, "not implemented"},
    {"use_qdq_Tr*", OCT_UNSUPPORTED, "not implemented"},
    {"fake_quant_*", OCT_UNSUPPORTED, "not implemented"},
    {"allreduce_quant", OCT_UNSUPPORTED, "not implemented; fails in INC later"},
    {"dyn_pcs_*", OCT_UNSUPPORTED, "not implemented"},
    {"dyn_empty_dump", OCT_UNSUPPORTED, "not implemented"},
    {"dyn_pow2_*", OCT_UNSUPPORTED, "not implemented"},
    {"dyn_arbitrary", OCT_UNSUPPORTED, "not implemented"},
    {"dyn_load_ok", OCT_UNSUPPORTED, "not implemented"},
    {"full_vllm_dynamic", OCT_UNSUPPORTED, "not implemented"},
    {"smd_opt_params_given", OCT_UNSUPPORTED, "not implemented"},
    {"device_for_scales_GAUDI2_MAXABS_POW2", OCT_OK, "there is no card whose scales would be replaced"},
    {"device_for_scales_GAUDI2_UNIT_SCALE", OCT_OK, "there is no card"},
    {"device_for_scales_gaudi2_MAXABS_POW2", OCT_OK, "there is no card"},
    {"device_for_scales_gaudi2_UNIT_SCALE", OCT_OK, "there is no card"},
    {"empty_object", OCT_OK, "a prefix without a folder means the current folder"},
    {"dump_no_directory_*", OCT_OK, "a prefix without a folder means the current folder"},
    {"dump_dir_nonwritable", OCT_OK, "checked when measuring begins (oct_measurement_prepare)"},
    {"blocklist_as_list", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"blocklist_names_string", OCT_INVALID_ARGUMENT, "INC takes every character for a name"},
    {"blocklist_bad_regex", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"mod_dict_nonempty", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"unknown_dict_key", OCT_INVALID_ARGUMENT, "INC: KeyError"},
    {"dump_number", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"device_type_override", OCT_INVALID_ARGUMENT, "INC: AttributeError"},
    {"smd_granularity_number", OCT_INVALID_ARGUMENT, "INC: in other words"},
    {"smd_default_string", OCT_INVALID_ARGUMENT, "INC: AttributeError"},
    {"json_array", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_string", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_null", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_duplicate_keys", OCT_OK, "the last one wins"},
    {"json_*", OCT_CORRUPT, "INC: JSONDecodeError, or NaN, which JSON has not"},
    {"file_missing", OCT_CORRUPT, "an empty file here; INC: FileNotFoundError"},
};

static bool matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern);
    return pattern[n - 1] == '*' ? !strncmp(pattern, name, n - 1) : !strcmp(pattern, name);
}

static const oct_status *difference_of(const char *name) {
    for (size_t i = 0; i < sizeof differences / sizeof *differences; i++)
        if (matches(differences[i].name, name)) return &differences[i].status;
    return NULL;
}

// The text with every <DIR> replaced; the caller frees it.
static char *in_folder(const char *text, const char *folder) {
    struct oct_buffer out = {0};
    const char *mark;
    while ((mark = strstr(text, "<DIR>"))) {
        oct_buffer_append(&out, text, (size_t)(mark - text));
        oct_buffer_puts(&out, folder);
        text = mark + 5;
    }
    oct_buffer_puts(&out, text);
    return oct_buffer_take(&out);
}

static const char *text_of(json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool same_rule(const struct oct_scale_rule *rule, json_t *expected) {
    static const char *const values[] = {"MAXABS", "FIXED_VALUE", "OPT", "DUMMY_SCALES"};
    static const char *const roundings[] = {"IDENTITY", "POW2", "HW_ALIGNED", "HW_ALIGNED_FIXED", "SCALE_UNIT"};
    double backoff = json_number_value(json_object_get(expected, "backoff"));
    // INC lists 1 for scales made at run time, and uses 0.5.
    bool same_backoff = rule->backoff == backoff || (rule->per_channel && rule->backoff == 0.5 && backoff == 1);
    return !strcmp(text_of(expected, "granularity"), rule->per_channel ? "PCS" : "PTS") &&
           !strcmp(text_of(expected, "scale_value_type"), values[rule->value]) &&
           !strcmp(text_of(expected, "rounding_method"), roundings[rule->rounding]) && same_backoff;
}

static bool same_method(const struct oct_scale_method *method, json_t *expected) {
    return same_rule(&method->weight, json_object_get(expected, "weight")) &&
           same_rule(&method->activation, json_object_get(expected, "activation"));
}

static bool same_list(char *const *list, json_t *expected) {
    size_t n = 0;
    for (; list && list[n]; n++)
        if (strcmp(list[n], json_string_value(json_array_get(expected, n)) ? json_string_value(json_array_get(expected, n)) : "") != 0)
            return false;
    return n == json_array_size(expected);
}

// The first field in which the configuration differs from INC's result; NULL when none.
static const char *differing_field(const struct oct_quant_config *config, json_t *result, const char *folder) {
    static const char *const modes[] = {"QuantMode.NONE", "QuantMode.QUANTIZE", "QuantMode.MEASURE", "QuantMode.SHAPE", "QuantMode.LOAD"};
    static const char *const sections[] = {"nodes", "layers", "layer_types"};
    const char *exclude = text_of(result, "measure_exclude");
    bool outputs = strcmp(exclude, "MeasureExclude.OUTPUT") != 0 && strcmp(exclude, "MeasureExclude.ALL") != 0;
    json_t *methods = json_object_get(result, "scale_method"), *allow = json_object_get(result, "allowlist"),
           *block = json_object_get(result, "blocklist"), *separate = json_object_get(result, "seperate_measure_files");
    if (strcmp(text_of(result, "mode"), modes[config->mode]) != 0) return "mode";
    if (json_is_true(json_object_get(result, "recalc_scales")) != config->recalc_scales) return "recalc_scales";
    if (json_is_true(json_object_get(result, "ignore_modules_wo_measures")) != config->ignore_modules_wo_measures) return "ignore_modules";
    if ((json_is_true(separate) || json_is_string(separate)) != config->separate_measure_files) return "seperate_measure_files";
    if (outputs != config->measure_outputs) return "measure_exclude";
    json_t *interval = json_object_get(result, "calibration_sample_interval"); // INC converts it later; only positive numbers count
    int steps = json_is_string(interval) ? atoi(json_string_value(interval)) : (int)json_number_value(interval);
    if ((steps > 0 ? steps : 0) != config->calibration_sample_interval) return "calibration_sample_interval";
    if ((config->profile == OCT_GAUDI2) != !strcmp(text_of(result, "device_for_scales"), "INCAcceleratorType.GAUDI2"))
        return "device_for_scales";
    if (!same_method(&config->scales.preset, json_object_get(methods, "default"))) return "scale_method";
    for (int i = 0; i < config->scales.num_overrides; i++) {
        const struct oct_scale_override *override = &config->scales.overrides[i];
        if (!same_method(&override->method, json_object_get(json_object_get(methods, sections[override->section]), override->key)))
            return "scale_method override";
    }
    if (oct_quant_config_uses_files(config) != json_is_true(json_object_get(result, "use_stats_files"))) return "use_stats_files";
    if (!same_list(config->allow_types, json_object_get(allow, "types")) ||
        !same_list(config->allow_names, json_object_get(allow, "names")))
        return "allowlist";
    if (!same_list(config->block_types, json_object_get(block, "types")) ||
        !same_list(config->block_names, json_object_get(block, "names")))
        return "blocklist";
    if (*text_of(result, "scale_file")) {
        char *found = oct_quant_config_file(config, config->scales.preset.name, 0, 0, "");
        char *expected = in_folder(text_of(result, "scale_file"), folder);
        bool same = !strcmp(found, expected);
        free(found);
        free(expected);
        if (!same) return "scale_file";
    }
    return NULL;
}

static void what_inc_accepts_and_refuses(void **state) {
    (void)state;
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *cases = golden_json("validation.json"), *test;
    size_t i;
    int wrong = 0, counts[3] = {0}; // accepted, refused in INC's words, different
    json_array_foreach(cases, i, test) {
        const char *name = text_of(test, "name");
        struct oct_quant_config *config = NULL;
        oct_error err = {0};
        char *text = in_folder(text_of(test, "config"), folder), *message = in_folder(text_of(test, "message"), folder);
        assert_int_equal(oct_file_write(path, text, strlen(text), &err), OCT_OK);
        oct_status status = oct_quant_config_load(path, &config, &err);
        const oct_status *different = difference_of(name);
        if (different) {
            counts[2]++;
            if (status != *different) wrong++, print_error("%s: %s: %s\n", name, oct_status_name(status), err.message);
        } else if (json_is_true(json_object_get(test, "ok"))) {
            counts[0]++;
            const char *field = status == OCT_OK ? differing_field(config, json_object_get(test, "result"), folder) : err.message;
            if (field) wrong++, print_error("%s: %s\n", name, field);
        } else {
            counts[1]++;
            if (status != OCT_INVALID_ARGUMENT || strcmp(err.message, message) != 0)
                wrong++, print_error("%s: \"%s\" expected, \"%s\" found\n", name, message, status == OCT_OK ? "" : err.message);
        }
        oct_quant_config_free(config);
        free(text);
        free(message);
    }
    print_message("# %d accepted, %d refused in INC's words, %d different\n", counts[0], counts[1], counts[2]);
    json_decref(cases);
    remove_folder(folder);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_inc_accepts_and_refuses)};
    return cmocka_run_group_tests_name("quant_validation", tests, NULL, NULL);
}
