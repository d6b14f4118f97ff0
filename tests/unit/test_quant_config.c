#include "quant/quant_config.h"
#include "quant/quant_select.h"
#include "quant_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", new_folder());
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static oct_status load_as(const char *name, const char *text, struct oct_quant_config **config, oct_error *err) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(oct_file_write(path, text, strlen(text), err), OCT_OK);
    *config = NULL;
    return oct_quant_config_load(path, config, err);
}

static struct oct_quant_config *loaded(const char *name, const char *text) {
    struct oct_quant_config *config;
    oct_error err;
    if (load_as(name, text, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    return config;
}

static void assert_fails(const char *text, oct_status status, const char *message) {
    struct oct_quant_config *config;
    oct_error err;
    assert_int_equal(load_as("c.json", text, &config, &err), status);
    if (!strstr(err.message, message)) fail_msg("\"%s\" expected in \"%s\"", message, err.message);
}

static void missing_keys_have_incs_defaults(void **state) {
    (void)state;
    struct oct_quant_config *config = loaded("c.json", "{}");
    assert_int_equal(config->mode, OCT_QUANT_QUANTIZE);
    assert_string_equal(config->observer, "maxabs");
    assert_string_equal(config->dump_stats_path, "stats");
    assert_string_equal(config->scales.preset.name, "MAXABS_HW");
    assert_int_equal(config->profile, OCT_GAUDI3);
    assert_int_equal(config->calibration_sample_interval, 0);
    assert_false(config->recalc_scales);
    assert_false(config->ignore_modules_wo_measures);
    assert_true(config->separate_measure_files);
    assert_false(config->measure_outputs);
    oct_quant_config_free(config);
}

static void values_are_coerced_as_inc_does(void **state) {
    (void)state;
    struct oct_quant_config *config = loaded(
        "c.json", "{\"mode\": \"measure\", \"scale_method\": \"act_maxabs_pow2_weights_pcs_maxabs_pow2\", \"recalc_scales\": \"TRUE\","
                  "\"ignore_modules_wo_measures\": true, \"seperate_measure_files\": \"False\", \"measure_exclude\": \"none\","
                  "\"calibration_sample_interval\": \"7\", \"device_for_scales\": \"gaudi2\", \"method\": \"HOOKS\","
                  "\"quantize_weight\": false, \"scale_format\": \"const\", \"dynamic_quantization\": \"False\", \"foo\": {}}");
    assert_int_equal(config->mode, OCT_QUANT_MEASURE);
    assert_string_equal(config->scales.preset.name, "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2");
    assert_true(config->recalc_scales);
    assert_true(config->ignore_modules_wo_measures);
    assert_true(config->separate_measure_files); // a non-empty string is true
    assert_true(config->measure_outputs);
    assert_int_equal(config->calibration_sample_interval, 7);
    assert_int_equal(config->profile, OCT_GAUDI2);
    assert_true(config->scales.preset.weight.per_channel);
    assert_int_equal(config->scales.preset.activation.profile, OCT_GAUDI2);
    oct_quant_config_free(config);
}

static void wrong_values_fail_in_incs_words(void **state) {
    (void)state;
    assert_fails("{\"mode\": \"FOO\"}", OCT_INVALID_ARGUMENT,
                 "Invalid 'mode' value in custom config ('FOO'). Enter one of ['NONE', 'QUANTIZE', 'MEASURE', 'SHAPE', 'LOAD']");
    assert_fails("{\"recalc_scales\": null}", OCT_INVALID_ARGUMENT,
                 "Invalid 'recalc_scales' value in custom config ('None'). Enter one of ['TRUE', 'FALSE']");
    assert_fails("{\"use_qdq\": 1}", OCT_INVALID_ARGUMENT,
                 "Invalid 'use_qdq' value in custom config ('1'). Enter one of ['TRUE', 'FALSE']");
    assert_fails("{\"scale_method\": \"MAX\"}", OCT_INVALID_ARGUMENT,
                 "Invalid 'scale_method' value in custom config ('MAX'). Enter one of ['UNIT_SCALE', 'HW_ALIGNED_SINGLE_SCALE', ");
    assert_fails("{\"device_for_scales\": \"CPU\"}", OCT_INVALID_ARGUMENT, "Enter one of ['GAUDI2', 'GAUDI3']");
    assert_fails("{\"foo\": {\"a\": 1}}", OCT_INVALID_ARGUMENT, "'foo'");
    assert_fails("{\"mod_dict\": {\"a\": 1}}", OCT_INVALID_ARGUMENT, "Custom modules are not supported");
    assert_fails("[]", OCT_INVALID_ARGUMENT, "an object expected, array found");
    assert_fails("{\"mode\": \"QUANTIZE\"", OCT_CORRUPT, "not valid JSON");
    assert_fails("{\"dump_stats_path\": 5}", OCT_INVALID_ARGUMENT, "dump_stats_path: a string expected, integer found");
    assert_fails("{\"blocklist\": {\"names\": [\"(\"]}}", OCT_INVALID_ARGUMENT, "\"(\" is not a regular expression");
    assert_fails("{\"blocklist\": {\"names\": \"lm_head\"}}", OCT_INVALID_ARGUMENT,
                 "blocklist.names: a list of strings expected, string found");
}

static void assert_cannot_run(const char *text, oct_status status, const char *message) {
    struct oct_quant_config *config = loaded("c.json", text);
    oct_error err;
    assert_int_equal(oct_quant_config_check_run(config, &err), status);
    if (!strstr(err.message, message)) fail_msg("\"%s\" expected in \"%s\"", message, err.message);
    oct_quant_config_free(config);
}

static void what_a_run_cannot_do_is_refused(void **state) {
    (void)state;
    assert_cannot_run("{\"mode\": \"LOAD\"}", OCT_UNSUPPORTED, "mode LOAD");
    assert_cannot_run("{\"observer\": \"shape\"}", OCT_INVALID_ARGUMENT, "\"shape\" keeps no ranges");
    assert_cannot_run("{\"observer\": \"save\", \"mode\": \"AUTO\"}", OCT_INVALID_ARGUMENT, "\"save\" keeps no ranges");
    assert_cannot_run("{\"row_parallel_linear_allreduce_quantization\": true}", OCT_UNSUPPORTED,
                      "row_parallel_linear_allreduce_quantization: not implemented here");
}

static void a_missing_file_is_not_found(void **state) {
    (void)state;
    struct oct_quant_config *config;
    oct_error err;
    assert_int_equal(oct_quant_config_load("/nonexistent/c.json", &config, &err), OCT_NOT_FOUND);
}

static enum oct_profile profile_of(const char *name, const char *text) {
    struct oct_quant_config *config = loaded(name, text);
    enum oct_profile profile = config->profile;
    oct_quant_config_free(config);
    return profile;
}

static void the_profile_follows_from_the_key_then_from_the_names(void **state) {
    (void)state;
    assert_int_equal(profile_of("maxabs_quant_g2.json", "{}"), OCT_GAUDI2);
    assert_int_equal(profile_of("maxabs_quant_g3.json", "{}"), OCT_GAUDI3);
    assert_int_equal(profile_of("quant.json", "{\"dump_stats_path\": \"/m/g2/inc_output\"}"), OCT_GAUDI2);
    assert_int_equal(profile_of("quant.json", "{\"dump_stats_path\": \"g2/inc_output\"}"), OCT_GAUDI2);
    assert_int_equal(profile_of("quant.json", "{\"dump_stats_path\": \"/m/hqt_g2/inc_output\"}"), OCT_GAUDI3);
    assert_int_equal(profile_of("quant_g2.json", "{\"dump_stats_path\": \"/m/g3/inc_output\"}"), OCT_GAUDI3);
    assert_int_equal(profile_of("quant_g3.json", "{\"device_for_scales\": \"GAUDI2\"}"), OCT_GAUDI2);
    assert_int_equal(profile_of("quant_g2.json", "{\"dump_stats_path\": \"/m/g3/o\", \"device_for_scales\": \"GAUDI2\"}"), OCT_GAUDI2);
}

// A list of names, or a text, of which INC takes every character for a name.
static json_t *names_of(json_t *lists) {
    json_t *names = json_object_get(lists, "names");
    if (!json_is_string(names)) return json_incref(names);
    json_t *characters = json_array();
    for (const char *c = json_string_value(names); *c; c++) json_array_append_new(characters, json_stringn(c, 1));
    return characters;
}

static void modules_are_selected_as_inc_selects_them(void **state) {
    (void)state;
    json_t *root = golden_json("allowblock.json"), *test, *modules = json_object_get(root, "modules");
    size_t c, i, compared = 0;
    json_array_foreach(json_object_get(root, "cases"), c, test) {
        json_t *allow = json_object_get(test, "allowlist"), *block = json_object_get(test, "blocklist");
        bool dynamic = json_is_true(json_object_get(test, "dynamic_quantization"));
        json_t *config_json = json_pack("{s{sOso}s{sOso}s:b,s:s}", "allowlist", "types", json_object_get(allow, "types"), "names",
                                        names_of(allow), "blocklist", "types", json_object_get(block, "types"), "names", names_of(block),
                                        "dynamic_quantization", dynamic, "scale_method", dynamic ? "MAXABS_PCS_POW2" : "MAXABS_HW");
        char *text = json_dumps(config_json, 0);
        struct oct_quant_config *config = loaded("c.json", text);
        const char *selected = json_string_value(json_object_get(test, "selected"));
        json_t *pair;
        json_array_foreach(modules, i, pair) {
            const char *class_name = json_string_value(json_array_get(pair, 0)), *name = json_string_value(json_array_get(pair, 1));
            if (oct_quant_config_selects_name(config, class_name, name) != (selected[i] == '1'))
                fail_msg("%s: %s: %c expected", json_string_value(json_object_get(test, "name")), name, selected[i]);
            compared++;
        }
        oct_quant_config_free(config);
        json_decref(config_json);
        free(text);
    }
    print_message("# %zu decisions\n", compared);
    assert_int_equal(compared, 4472);
    json_decref(root);
}

// Every module of the model has the class and the name that vLLM on a Gaudi gives it, and the order of INC's module list.
static void the_modules_are_those_of_a_gaudi(void **state) {
    (void)state;
    json_t *names = golden_json("hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1_mod_list.json");
    json_t *root = golden_json("allowblock.json"), *pair;
    assert_int_equal(json_array_size(names), oct_module_count(2));
    for (int i = 0; i < oct_module_count(2); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(2, i, &layer);
        assert_string_equal(oct_module_name(module, layer, name, sizeof name), json_string_value(json_array_get(names, (size_t)i)));
        size_t k;
        bool found = false;
        json_array_foreach(json_object_get(root, "modules"), k, pair) {
            if (strcmp(json_string_value(json_array_get(pair, 1)), name) != 0) continue;
            assert_string_equal(json_string_value(json_array_get(pair, 0)), oct_module_class(module));
            found = true;
        }
        assert_true(found);
    }
    json_decref(names);
    json_decref(root);
}

static void a_costly_pattern_ends(void **state) {
    (void)state;
    struct oct_quant_config *config = loaded("c.json", "{\"blocklist\": {\"names\": [\"^(([a-z_.0-9])+.)+[A-Z]([a-z])+$\"]}}");
    assert_true(oct_quant_config_selects(config, OCT_GATE_UP_PROJ, 12345));
    oct_quant_config_free(config);
}

static void file_names_carry_rank_and_method(void **state) {
    (void)state;
    struct oct_quant_config *config = loaded("c.json", "{\"dump_stats_path\": \"/d/inc_output\"}");
    char *name = oct_quant_config_file(config, "MAXABS_HW", 0, 1, ".npz");
    assert_string_equal(name, "/d/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz");
    free(name);
    config->separate_measure_files = false;
    name = oct_quant_config_file(config, "", 3, 8, "_mod_list.json");
    assert_string_equal(name, "/d/inc_output_hooks_maxabs_mod_list.json");
    free(name);
    oct_quant_config_free(config);
}

static void the_pair_has_the_layout_of_the_calibration_scripts(void **state) {
    (void)state;
    char output[128], expected[512], *measure, *quant;
    oct_error err;
    snprintf(output, sizeof output, "%s/out", folder);
    assert_int_equal(oct_quant_config_write_pair(output, "smollm2", OCT_GAUDI2, "maxabs_hw", &measure, &quant, &err), OCT_OK);
    snprintf(expected, sizeof expected, "%s/smollm2/maxabs_measure_g2.json", output);
    assert_string_equal(measure, expected);
    snprintf(expected, sizeof expected, "%s/smollm2/maxabs_quant_g2.json", output);
    assert_string_equal(quant, expected);
    size_t length;
    char *text = golden_text(quant, &length);
    snprintf(expected, sizeof expected,
             "{\n    \"mode\": \"QUANTIZE\",\n    \"observer\": \"maxabs\",\n    \"scale_method\": \"maxabs_hw\",\n"
             "    \"allowlist\": {\n        \"types\": [],\n        \"names\": []\n    },\n"
             "    \"blocklist\": {\n        \"types\": [],\n        \"names\": []\n    },\n"
             "    \"dump_stats_path\": \"%s/smollm2/g2/inc_output\"\n}",
             output);
    assert_string_equal(text, expected);
    free(text);
    struct oct_quant_config *config;
    assert_int_equal(oct_quant_config_load(measure, &config, &err), OCT_OK);
    assert_int_equal(config->mode, OCT_QUANT_MEASURE);
    assert_int_equal(config->profile, OCT_GAUDI2);
    assert_int_equal(config->calibration_sample_interval, 1);
    assert_true(oct_quant_config_selects(config, OCT_LM_HEAD, 0));
    oct_quant_config_free(config);
    free(measure);
    free(quant);
}

static void families_of_models_get_the_scripts_blocklists(void **state) {
    (void)state;
    static const struct {
        const char *model, *scale_format;
        bool lm_head, attention;
    } families[] = {
        {"mixtral-8x7b-instruct", "\"scale_format\": \"CONST\"", false, false},
        {"deepseek-v2-lite", "\"scale_format\": \"scalar\"", false, true},
        {"granite-4.0-tiny", NULL, true, false},
        {"granite-3.3-2b", NULL, true, true},
        {"my-mixtral", NULL, true, true},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char *paths[2];
        oct_error err;
        size_t length;
        assert_int_equal(oct_quant_config_write_pair(folder, families[i].model, OCT_GAUDI3, "maxabs_pow2", &paths[0], &paths[1], &err),
                         OCT_OK);
        for (int j = 0; j < 2; j++) {
            struct oct_quant_config *config;
            assert_int_equal(oct_quant_config_load(paths[j], &config, &err), OCT_OK);
            assert_int_equal(oct_quant_config_selects(config, OCT_LM_HEAD, 0), families[i].lm_head);
            assert_int_equal(oct_quant_config_selects(config, OCT_QKV_PROJ, 0), families[i].attention);
            assert_true(oct_quant_config_selects(config, OCT_DOWN_PROJ, 0));
            oct_quant_config_free(config);
        }
        char *text = golden_text(paths[1], &length);
        assert_non_null(strstr(text, "\"scale_method\": \"maxabs_pow2\""));
        const char *format = families[i].scale_format;
        assert_true(format ? strstr(text, format) != NULL : !strstr(text, "scale_format"));
        free(text);
        free(paths[0]);
        free(paths[1]);
    }
}

static void the_documentation_has_the_table_of_keys(void **state) {
    (void)state;
    struct oct_buffer table = {0};
    oct_quant_keys_markdown(&table);
    char path[1100];
    snprintf(path, sizeof path, "%s/../../../docs/quant-config.md", golden(""));
    size_t length;
    char *text = golden_text(path, &length);
    assert_non_null(text);
    if (!strstr(text, table.data)) fail_msg("docs/quant-config.md must hold:\n%s", table.data);
    free(text);
    oct_buffer_free(&table);
}

static void assert_value(const struct oct_quant_config *config, enum oct_quant_key key, const char *expected) {
    struct oct_buffer text = {0};
    oct_quant_config_value(config, key, &text);
    assert_string_equal(text.data, expected);
    oct_buffer_free(&text);
}

static void every_value_can_be_shown(void **state) {
    (void)state;
    struct oct_quant_config *config =
        loaded("c.json", "{\"mode\": \"measure\", \"blacklist\": {\"types\": [\"Matmul\"], \"names\": [\"lm_head\", \"mlp\"]},"
                         "\"calibration_sample_interval\": \"7\", \"dump_stats_path\": \"/d/p\"}");
    assert_value(config, OCT_KEY_MODE, "MEASURE");
    assert_value(config, OCT_KEY_OBSERVER, "maxabs");
    assert_value(config, OCT_KEY_DUMP_STATS_PATH, "/d/p");
    assert_value(config, OCT_KEY_SCALE_METHOD, "MAXABS_HW");
    assert_value(config, OCT_KEY_ALLOWLIST, "empty");
    assert_value(config, OCT_KEY_BLOCKLIST, "types Matmul; names lm_head, mlp");
    assert_value(config, OCT_KEY_DEVICE_FOR_SCALES, "the card that the names say, or GAUDI3");
    assert_value(config, OCT_KEY_CALIBRATION_SAMPLE_INTERVAL, "7");
    assert_value(config, OCT_KEY_SEPERATE_MEASURE_FILES, "true");
    oct_quant_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_keys_have_incs_defaults),
        cmocka_unit_test(values_are_coerced_as_inc_does),
        cmocka_unit_test(wrong_values_fail_in_incs_words),
        cmocka_unit_test(what_a_run_cannot_do_is_refused),
        cmocka_unit_test(a_missing_file_is_not_found),
        cmocka_unit_test(the_profile_follows_from_the_key_then_from_the_names),
        cmocka_unit_test(modules_are_selected_as_inc_selects_them),
        cmocka_unit_test(the_modules_are_those_of_a_gaudi),
        cmocka_unit_test(the_documentation_has_the_table_of_keys),
        cmocka_unit_test(every_value_can_be_shown),
        cmocka_unit_test(a_costly_pattern_ends),
        cmocka_unit_test(file_names_carry_rank_and_method),
        cmocka_unit_test(the_pair_has_the_layout_of_the_calibration_scripts),
        cmocka_unit_test(families_of_models_get_the_scripts_blocklists),
    };
    return cmocka_run_group_tests_name("quant_config", tests, make_folder, drop_folder);
}
