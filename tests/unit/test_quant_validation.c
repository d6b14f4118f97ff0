// What INC says to 217 configurations on a Gaudi 2, a Gaudi 3 and a host (and 13 more with RUNTIME_SCALE_PATCHING), and where Octavo
// deliberately says something else.
#include "base/log.h"
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
    {"mode_AUTO", OCT_OK, "INC takes it one step earlier (FP8Config) and puts MEASURE or QUANTIZE in its place, as Octavo does"},
    {"empty_object", OCT_OK, "a prefix without a folder means the current folder; INC: makedirs('') fails"},
    {"dump_no_directory_*", OCT_OK, "a prefix without a folder means the current folder; INC: makedirs('') fails"},
    {"dump_dir_nonwritable", OCT_OK, "told when measuring begins, in the same words: test_measurement"},
    {"blocklist_as_list", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"blocklist_names_string", OCT_INVALID_ARGUMENT, "INC takes every character for a name"},
    {"blocklist_bad_regex", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"mod_dict_nonempty", OCT_INVALID_ARGUMENT, "INC fails on it later"},
    {"unknown_dict_key", OCT_INVALID_ARGUMENT, "INC: KeyError"},
    {"dump_number", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"device_type_override", OCT_INVALID_ARGUMENT, "INC: AttributeError"},
    {"smd_granularity_number", OCT_INVALID_ARGUMENT, "INC: in other words, as a pair of rules that it does not know"},
    {"smd_default_string", OCT_INVALID_ARGUMENT, "INC: AttributeError"},
    {"json_array", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_string", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_null", OCT_INVALID_ARGUMENT, "INC: TypeError"},
    {"json_duplicate_keys", OCT_OK, "the last one wins"},
    {"json_*", OCT_CORRUPT, "Python's JSON parser has other words; NaN, which it takes, is not JSON"},
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

static bool same_choice(const struct oct_quant_config *config, json_t *result, enum oct_quant_key key) {
    json_t *expected = json_object_get(result, oct_quant_keys[key].name);
    struct oct_buffer value = {0};
    oct_quant_config_value(config, key, &value);
    const char *text = json_string_value(expected), *dot = text ? strrchr(text, '.') : NULL; // ScaleFormat.CONST
    bool same = json_is_boolean(expected) ? !strcasecmp(value.data, json_is_true(expected) ? "true" : "false")
                                          : text && !strcmp(value.data, dot ? dot + 1 : text);
    oct_buffer_free(&value);
    return same;
}

// The first field in which the configuration differs from INC's result; NULL when none.
static const char *differing_field(const struct oct_quant_config *config, json_t *result, const char *device, const char *folder) {
    static const enum oct_quant_key choices[] = {
        OCT_KEY_USE_QDQ,        OCT_KEY_FAKE_QUANT, OCT_KEY_SCALE_FORMAT,    OCT_KEY_DYNAMIC_QUANTIZATION,
        OCT_KEY_MEASURE_ON_HPU, OCT_KEY_ALLREDUCE,  OCT_KEY_MEASURE_EXCLUDE, OCT_KEY_OBSERVER};
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (!same_choice(config, result, choices[i])) return oct_quant_keys[choices[i]].name;
    if (strcmp(text_of(result, "fp8_config"), config->e5m2 ? "torch.float8_e5m2" : "torch.float8_e4m3fn") != 0) return "fp8_config";
    static const char *const precisions[] = {"torch.bfloat16", "torch.float16", "torch.float32"};
    if (strcmp(text_of(result, "hp_dtype"), precisions[config->precision]) != 0) return "hp_dtype";
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
    const char *profile = text_of(result, "device_for_scales"); // INC's host has none
    bool gaudi2 =
        !strcmp(profile, "INCAcceleratorType.GAUDI2") || (!strcmp(profile, "INCAcceleratorType.<CARD>") && !strcmp(device, "gaudi2"));
    if ((config->profile == OCT_GAUDI2) != gaudi2) return "device_for_scales";
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

struct counts {
    int accepted, refused, different, wrong, warnings;
};

struct loading {
    const char *path;
    struct oct_quant_config **config;
    oct_error *err;
    oct_status status;
};

static void load(void *context) {
    struct loading *loading = context;
    loading->status = oct_quant_config_load(loading->path, loading->config, loading->err);
}

static size_t times_in(const char *text, const char *part) {
    size_t count = 0;
    for (; (text = strstr(text, part)); text++) count++;
    return count;
}

// INC's warnings, all of which are about scale_format.
static void check_warnings(json_t *warnings, const char *log, const char *name, const char *device, struct counts *counts) {
    size_t i;
    json_t *warning;
    json_array_foreach(warnings, i, warning) {
        counts->warnings++;
        if (!strstr(log, json_string_value(warning))) counts->wrong++, print_error("%s, %s: \"%s\" expected\n", name, device, log);
    }
    if (times_in(log, "'scale_format = SCALAR'") != json_array_size(warnings))
        counts->wrong++, print_error("%s, %s: too many words: %s\n", name, device, log);
}

// One configuration as INC sees it on one device: the names of a card's files, or INC's CPU backend.
static void check_case(json_t *test, const char *device, const char *folder, struct counts *counts) {
    const char *name = text_of(test, "name");
    char path[128];
    bool host = !strcmp(device, "cpu");
    snprintf(path, sizeof path, "%s/config%s.json", folder, host ? "" : !strcmp(device, "gaudi2") ? "_g2" : "_g3");
    host ? setenv("INC_TARGET_DEVICE", "cpu", 1) : unsetenv("INC_TARGET_DEVICE");
    struct oct_quant_config *config = NULL;
    oct_error err = {0};
    char *text = in_folder(text_of(test, "config"), folder), *message = in_folder(text_of(test, "message"), folder);
    assert_int_equal(oct_file_write(path, text, strlen(text), &err), OCT_OK);
    struct loading loading = {path, &config, &err, OCT_OK};
    char *log = logged(folder, load, &loading);
    oct_status status = loading.status;
    check_warnings(json_object_get(test, "warnings"), log, name, device, counts);
    free(log);
    const oct_status *different = difference_of(name);
    if (different) {
        counts->different++;
        if (status != *different) counts->wrong++, print_error("%s, %s: %s: %s\n", name, device, oct_status_name(status), err.message);
    } else if (json_is_true(json_object_get(test, "ok"))) {
        counts->accepted++;
        const char *field = status == OCT_OK ? differing_field(config, json_object_get(test, "result"), device, folder) : err.message;
        if (field) counts->wrong++, print_error("%s, %s: %s\n", name, device, field);
    } else {
        counts->refused++;
        if (status != OCT_INVALID_ARGUMENT || strcmp(err.message, message) != 0)
            counts->wrong++,
                print_error("%s, %s: \"%s\" expected, \"%s\" found\n", name, device, message, status == OCT_OK ? "" : err.message);
    }
    oct_quant_config_free(config);
    free(text);
    free(message);
}

static void what_inc_accepts_and_refuses(void **state) {
    (void)state;
    const char *folder = new_folder();
    json_t *cases = golden_json("validation.json"), *test, *device;
    size_t i, k;
    struct counts counts = {0};
    oct_log_set_level(OCT_LOG_INFO);
    json_array_foreach(cases, i, test) json_array_foreach(json_object_get(test, "devices"), k, device)
        check_case(test, json_string_value(device), folder, &counts);
    print_message("# %d accepted, %d refused in INC's words, %d different\n", counts.accepted, counts.refused, counts.different);
    json_decref(cases);
    remove_folder(folder);
    unsetenv("INC_TARGET_DEVICE");
    assert_int_equal(counts.wrong, 0);
    assert_int_equal(counts.warnings, 97);
    assert_int_equal(counts.accepted + counts.refused + counts.different, 664);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_inc_accepts_and_refuses)};
    return cmocka_run_group_tests_name("quant_validation", tests, NULL, NULL);
}
