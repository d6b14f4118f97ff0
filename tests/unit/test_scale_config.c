#include "quant/plan.h"
#include "quant_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { NUM_LAYERS = 2 };

// INC's example: another rule for lm_head, for layer 1 and for one class of linears.
static struct oct_quant_config *example(void) {
    struct oct_quant_config *config = NULL;
    oct_error err = {0};
    if (oct_quant_config_load(golden("hpu_gaudi2/scale_method_dict/cfg_quant.json"), &config, &err) != OCT_OK) fail_msg("%s", err.message);
    free(config->dump_stats_path);
    config->dump_stats_path = oct_strdup(golden("hpu_gaudi2/scale_method_dict/inc_output"));
    config->profile = OCT_GAUDI2; // the card it was run on, which the file does not say
    struct oct_scale_method *preset = &config->scales.preset;
    preset->weight.profile = preset->activation.profile = OCT_GAUDI2;
    for (int i = 0; i < config->scales.num_overrides; i++) {
        struct oct_scale_method *method = &config->scales.overrides[i].method;
        method->weight.profile = method->activation.profile = OCT_GAUDI2;
    }
    return config;
}

static const char *rounding_of(json_t *rule) {
    return json_string_value(json_object_get(rule, "rounding_method"));
}

static void assert_rule(const struct oct_scale_rule *rule, json_t *expected) {
    static const char *const roundings[] = {"IDENTITY", "POW2", "HW_ALIGNED", "HW_ALIGNED_FIXED", "SCALE_UNIT"};
    assert_string_equal(roundings[rule->rounding], rounding_of(expected));
    assert_string_equal(rule->per_channel ? "PCS" : "PTS", json_string_value(json_object_get(expected, "granularity")));
    assert_true(rule->backoff == json_number_value(json_object_get(expected, "backoff")));
}

static void a_module_gets_the_rules_that_inc_gives_it(void **state) {
    (void)state;
    struct oct_quant_config *config = example();
    json_t *dump = golden_json("hpu_gaudi2/scale_method_dict/scale_method_dump.json");
    for (int i = 0; i < oct_module_count(NUM_LAYERS); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(NUM_LAYERS, i, &layer);
        json_t *expected = json_object_get(dump, oct_module_name(module, layer, name, sizeof name));
        assert_non_null(expected);
        const struct oct_scale_method *method = oct_scale_config_method(&config->scales, module, layer);
        assert_rule(&method->weight, json_object_get(expected, "WEIGHT"));
        assert_rule(&method->activation, json_object_get(expected, "ACTIVATION"));
    }
    json_decref(dump);
    oct_quant_config_free(config);
}

static void its_scales_are_incs(void **state) {
    (void)state;
    struct oct_quant_config *config = example();
    struct oct_measurement *measurement;
    struct oct_plan *plan;
    oct_error err;
    assert_int_equal(oct_measurement_read(config, NUM_LAYERS, &measurement, &err), OCT_OK);
    assert_int_equal(oct_plan_build(config, measurement, NUM_LAYERS, true, &plan, &err), OCT_OK);
    json_t *root = golden_json("hpu_gaudi2/scale_method_dict/inc_output_hooks_maxabs_MAXABS_POW2_0_1.json");
    for (int i = 0; i < oct_module_count(NUM_LAYERS); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(NUM_LAYERS, i, &layer);
        json_t *node = json_object_get(json_object_get(root, "Nodes"), oct_module_name(module, layer, name, sizeof name));
        json_t *inputs = json_object_get(node, "inputs"), *weight = json_object_get(json_object_get(node, "params"), "weight");
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (!linear) continue;
        // IDENTITY rounds nothing away, so division, which made this file, and the cards' reciprocal may differ by a bf16 step.
        double tolerance = linear->weight_rule.rounding == OCT_ROUND_IDENTITY ? 0x1p-7 : 0;
        double expected = json_number_value(json_array_get(inputs, 0));
        assert_true(fabs((double)linear->input_scale - expected) <= tolerance * expected);
        if (json_is_object(weight)) {
            assert_true(linear->weight_rule.per_channel);
            continue;
        }
        oct_plan_set_weight_scales(linear, &oct_measurement_at(measurement, module, layer)->weight, 1);
        expected = json_number_value(weight);
        if (!(fabs((double)linear->weight_scales[0] - expected) <= tolerance * expected))
            fail_msg("%s: weight scale %g expected, %g found", name, expected, (double)linear->weight_scales[0]);
    }
    json_decref(root);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
    oct_quant_config_free(config);
}

static void assert_refused(const char *text, const char *message) {
    oct_error err;
    json_t *json;
    struct oct_scale_config config;
    assert_int_equal(oct_json_parse("x", text, strlen(text), &json, &err), OCT_OK);
    oct_status status = oct_scale_config_parse(json, &config, &err);
    if (status == OCT_OK) status = oct_scale_config_resolve(&config, &err);
    assert_true(status != OCT_OK);
    if (!strstr(err.message, message)) fail_msg("\"%s\" expected in \"%s\"", message, err.message);
    oct_scale_config_free(&config);
    json_decref(json);
}

static void what_is_no_rule_is_refused(void **state) {
    (void)state;
    assert_refused("{\"default\": {}, \"nodes\": {\"lm_head\": {\"weight\": {\"rounding_method\": \"POW2\"}}}}",
                   "Unsupported config: scale method config for CfgStr.NODES[lm_head] = {<CfgStr.WEIGHT: 'weight'>: "
                   "ScaleMethodConfig(granularity=ScaleGranularity.PTS, scale_value_type=ScaleValueType.MAXABS, "
                   "rounding_method=ScaleRoundMethod.POW2, backoff=1.0, params={}), ");
    assert_refused("{\"default\": {\"weight\": {\"backoff\": 0}}}", "backoff: a positive number expected");
    assert_refused("{\"default\": {\"weight\": {\"backoff\": \"x\"}}}", "backoff: a positive number expected, string found");
    assert_refused("{\"default\": {}, \"layers\": [1]}", "scale_method: layers: a dict expected, array found");
    assert_refused("{\"default\": {\"weight\": 3}}", "scale_method: a dict expected, integer found");
}

static void candidates_of_ones_own_are_read(void **state) {
    (void)state;
    json_t *json = json_loads("{\"default\": {\"weight\": {\"scale_value_type\": \"OPT\", \"rounding_method\": \"POW2\", \"params\": "
                              "{\"weight_scales\": [0.5, 4]}}, \"activation\": {\"rounding_method\": \"POW2\"}}}",
                              0, NULL);
    struct oct_scale_config config;
    oct_error err;
    assert_int_equal(oct_scale_config_parse(json, &config, &err), OCT_OK);
    float candidates[OCT_MAX_CANDIDATES];
    assert_int_equal(oct_scale_candidates(&config.preset.weight, candidates), 2);
    assert_true(candidates[0] == 0.5f && candidates[1] == 4);
    oct_scale_config_free(&config);
    json_decref(json);
}

static void the_rules_of_each_module_are_dumped_as_inc_dumps_them(void **state) {
    (void)state;
    struct oct_quant_config *config = example();
    const char *folder = new_folder();
    char path[128];
    snprintf(path, sizeof path, "%s/dump.json", folder);
    oct_error err;
    assert_int_equal(oct_quant_config_dump_scale_methods(config, NUM_LAYERS, path, &err), OCT_OK);
    size_t length;
    char *found = golden_text(path, &length),
         *expected = golden_text(golden("hpu_gaudi2/scale_method_dict/scale_method_dump.json"), &length);
    assert_string_equal(found, expected);
    free(found);
    free(expected);
    snprintf(path, sizeof path, "%s/missing/dump.json", folder);
    assert_int_equal(oct_quant_config_dump_scale_methods(config, NUM_LAYERS, path, &err), OCT_IO);
    remove_folder(folder);
    oct_quant_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_of_ones_own_are_read),
        cmocka_unit_test(the_rules_of_each_module_are_dumped_as_inc_dumps_them),
        cmocka_unit_test(a_module_gets_the_rules_that_inc_gives_it),
        cmocka_unit_test(its_scales_are_incs),
        cmocka_unit_test(what_is_no_rule_is_refused),
    };
    return cmocka_run_group_tests_name("scale_config", tests, NULL, NULL);
}
