#include "quant/node_file.h"
#include "quant/plan.h"
#include "quant_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { NUM_LAYERS = 30 }; // of the SmolLM2 measurement

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

static struct oct_quant_config config_at(const char *path, enum oct_profile profile, const char *method) {
    struct oct_quant_config config = {.mode = OCT_QUANT_QUANTIZE,
                                      .observer = "maxabs",
                                      .dump_stats_path = (char *)path,
                                      .profile = profile,
                                      .world_size = 1,
                                      .separate_measure_files = true};
    snprintf(config.scale_method, sizeof config.scale_method, "%s", method);
    config.scales.preset = *oct_scale_method_find(method);
    config.scales.preset.weight.profile = config.scales.preset.activation.profile = profile;
    return config;
}

static const char *path_in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static struct oct_measurement *smollm2(void) {
    struct oct_quant_config config = config_at(golden("smollm2/inc_output"), OCT_GAUDI3, "MAXABS_HW");
    struct oct_measurement *measurement = NULL;
    oct_error err = {0};
    if (oct_measurement_read(&config, NUM_LAYERS, &measurement, &err) != OCT_OK) fail_msg("%s", err.message);
    return measurement;
}

static struct oct_plan *built(const struct oct_quant_config *config, const struct oct_measurement *measurement) {
    struct oct_plan *plan = NULL;
    oct_error err = {0};
    if (oct_plan_build(config, measurement, NUM_LAYERS, true, &plan, &err) != OCT_OK) fail_msg("%s", err.message);
    return plan;
}

// Gives every linear the weight maximum that was measured, as one output row.
static void set_measured_weights(struct oct_plan *plan, struct oct_measurement *measurement) {
    for (int i = 0; i < oct_module_count(NUM_LAYERS); i++) {
        int layer;
        enum oct_module module = oct_module_at(NUM_LAYERS, i, &layer);
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (linear && linear->fp8) oct_plan_set_weight_scales(linear, &oct_measurement_at(measurement, module, layer)->weight, 1);
    }
}

static json_t *file_json(const char *path) {
    oct_error err = {0};
    json_t *root = NULL;
    if (oct_json_load(path, 64 << 20, &root, &err) != OCT_OK) fail_msg("%s", err.message);
    return root;
}

// INC's file, with the scales of the cards where the reference says that INC on a host computed others. An output of a linear module is
// the product of its two scales.
static json_t *expected_scales(const char *device, const char *method) {
    char name[128];
    snprintf(name, sizeof name, "smollm2/%s/inc_output_hooks_maxabs_%s_0_1.json", device, method);
    json_t *root = golden_json(name), *all = golden_json("smollm2/scales_hpu_rule.json"), *differences, *difference;
    snprintf(name, sizeof name, "%s_%s", device, method);
    const char *module;
    assert_non_null(json_object_get(all, name));
    json_object_foreach(json_object_get(all, name), module, differences) {
        difference = json_object_get(differences, "params.weight");
        assert_int_equal(json_object_size(differences), 1);
        assert_non_null(difference);
        json_t *node = json_object_get(json_object_get(root, "Nodes"), module);
        json_object_set(json_object_get(node, "params"), "weight", json_object_get(difference, "hpu_rule"));
    }
    json_decref(all);
    return root;
}

static void the_scale_files_of_a_model_are_incs(void **state) {
    (void)state;
    static const char *const devices[] = {[OCT_GAUDI2] = "gaudi2", [OCT_GAUDI3] = "gaudi3"}, *const methods[] = {"MAXABS_HW",
                                                                                                                 "MAXABS_POW2"};
    struct oct_measurement *measurement = smollm2();
    for (int profile = 0; profile < 2; profile++)
        for (int m = 0; m < 2; m++) {
            char stem[64], name[128];
            oct_error err;
            snprintf(stem, sizeof stem, "%s/inc_output", devices[profile]);
            struct oct_quant_config config = config_at(path_in_folder(stem), (enum oct_profile)profile, methods[m]);
            struct oct_plan *plan = built(&config, measurement);
            assert_true(plan->full_scale == (profile == OCT_GAUDI2 ? 240 : 448));
            set_measured_weights(plan, measurement);
            assert_int_equal(oct_plan_write_scales(plan, &config, measurement, &err), OCT_OK);
            snprintf(name, sizeof name, "%s/inc_output_hooks_maxabs_%s_0_1.json", devices[profile], methods[m]);
            json_t *found = file_json(path_in_folder(name)), *expected = expected_scales(devices[profile], methods[m]);
            if (!json_equal(found, expected)) fail_msg("%s differs", name);
            json_decref(found);
            json_decref(expected);
            oct_plan_free(plan);
        }
    oct_measurement_free(measurement);
}

static void the_json_of_scales_is_incs_byte_for_byte(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("bytes/inc_output"), OCT_GAUDI3, "MAXABS_HW");
    struct oct_plan *plan = built(&config, measurement);
    set_measured_weights(plan, measurement);
    oct_error err;
    assert_int_equal(oct_plan_write_scales(plan, &config, measurement, &err), OCT_OK);
    size_t length;
    char *found = golden_text(path_in_folder("bytes/inc_output_hooks_maxabs_MAXABS_HW_0_1.json"), &length);
    char *expected = golden_text(golden("smollm2/gaudi3/inc_output_hooks_maxabs_MAXABS_HW_0_1.json"), &length);
    assert_true(strcmp(found, expected) == 0);
    free(found);
    free(expected);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void cached_scales_win_over_the_measurement(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(golden("smollm2/gaudi3/inc_output"), OCT_GAUDI3, "MAXABS_HW");
    oct_measurement_at(measurement, OCT_QKV_PROJ, 0)->inputs[0] = 5000;
    struct oct_plan *plan = built(&config, measurement);
    assert_true(plan->layers[0].qkv_proj.input_scale == 0x1p-6f);
    assert_int_equal(plan->layers[0].qkv_proj.num_weight_scales, 1);
    float row_amax[2] = {1000, 1000};
    oct_plan_set_weight_scales(&plan->layers[0].qkv_proj, row_amax, 2);
    assert_true(plan->layers[0].qkv_proj.weight_scales[0] == 0x1p-5f);
    assert_true(plan->layers[0].attention.softmax_scale == 0x1p-6f);
    oct_plan_free(plan);

    plan = built(&config, NULL); // everything is in the file
    assert_true(plan->lm_head.fp8);
    oct_plan_free(plan);

    config.recalc_scales = true;
    plan = built(&config, measurement);
    assert_true(plan->layers[0].qkv_proj.input_scale == 64);
    assert_null(plan->layers[0].qkv_proj.weight_scales);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void per_channel_scales_survive_the_file(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("pcs/inc_output"), OCT_GAUDI2, "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2");
    struct oct_plan *plan = built(&config, measurement);
    float row_amax[3] = {1, 2, 0};
    oct_error err;
    for (int i = 0; i < oct_module_count(NUM_LAYERS); i++) {
        int layer;
        enum oct_module module = oct_module_at(NUM_LAYERS, i, &layer);
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (!linear) continue;
        linear->in_features = 5;
        oct_plan_set_weight_scales(linear, row_amax, 3);
    }
    assert_true(plan->lm_head.weight_scales[2] == 0x1p-126f); // the floor of a channel of zeros
    assert_int_equal(oct_plan_write_scales(plan, &config, measurement, &err), OCT_OK);
    oct_plan_free(plan);

    json_t *root = file_json(path_in_folder("pcs/inc_output_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_0_1.json"));
    json_t *node = json_object_get(json_object_get(root, "Nodes"), "lm_head"),
           *weight = json_object_get(json_object_get(node, "params"), "weight");
    assert_int_equal(json_array_size(json_object_get(weight, "0")), 3);
    assert_int_equal(json_array_size(json_object_get(weight, "1")), 5);
    assert_int_equal(json_array_size(json_array_get(json_object_get(node, "outputs"), 0)), 3);
    json_decref(root);

    plan = built(&config, NULL);
    assert_int_equal(plan->lm_head.num_weight_scales, 3);
    assert_true(plan->lm_head.weight_scales[0] == 0x1p-6f && plan->lm_head.weight_scales[1] == 0x1p-5f);
    oct_plan_set_weight_scales(&plan->lm_head, row_amax, 2); // another weight: the file's do not fit
    assert_int_equal(plan->lm_head.num_weight_scales, 2);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void modules_of_others_stay_in_the_file(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    const char *written = path_in_folder("keep/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz");
    struct oct_quant_config config = config_at(path_in_folder("keep/inc_output"), OCT_GAUDI3, "MAXABS_HW");
    oct_error err;
    size_t length;
    char *bytes = golden_text(golden("hpu_gaudi3/tp1/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz"), &length); // two layers
    assert_int_equal(oct_make_directories(path_in_folder("keep"), &err), OCT_OK);
    assert_int_equal(oct_file_write(written, bytes, length, &err), OCT_OK);
    free(bytes);
    struct oct_plan *plan = built(&config, measurement);
    set_measured_weights(plan, measurement);
    assert_int_equal(oct_plan_write_scales(plan, &config, measurement, &err), OCT_OK);
    json_t *root = file_json(path_in_folder("keep/inc_output_hooks_maxabs_MAXABS_HW_0_1.json")), *nodes = json_object_get(root, "Nodes");
    assert_non_null(json_object_get(nodes, "model.layers.0.self_attn.attn.impl.fused_scaled_dot_product_attention"));
    assert_non_null(json_object_get(nodes, "model.layers.29.mlp.down_proj"));
    assert_int_equal(json_object_size(nodes), 271 + 6);
    json_decref(root);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void fixed_scales_need_no_files(void **state) {
    (void)state;
    struct oct_quant_config config = config_at("/nonexistent/x", OCT_GAUDI3, "HW_ALIGNED_SINGLE_SCALE");
    struct oct_plan *plan = built(&config, NULL);
    oct_error err;
    assert_true(plan->layers[3].attention.matmul_av_scales[1] == 128);
    assert_int_equal(oct_plan_write_scales(plan, &config, NULL, &err), OCT_OK);
    oct_plan_free(plan);
}

static void an_unmeasured_module_is_an_error_or_stays_in_bf16(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("none/x"), OCT_GAUDI3, "MAXABS_HW");
    struct oct_plan *plan;
    oct_error err;
    oct_measurement_at(measurement, OCT_MATMUL_AV, 7)->inputs[1] = -1;
    assert_int_equal(oct_plan_build(&config, measurement, NUM_LAYERS, true, &plan, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "'model.layers.7.self_attn.attn.impl.matmul_av' has no measurements"));
    config.ignore_modules_wo_measures = true;
    plan = built(&config, measurement);
    assert_false(plan->layers[7].attention.matmul_av);
    assert_true(plan->layers[7].attention.matmul_qk);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

// A Gaudi that only saw prompts through its fused kernel measured no products: their operands are that kernel's.
static void a_measurement_of_the_fused_kernel_alone_is_enough(void **state) {
    (void)state;
    struct oct_quant_config config = config_at(golden("hpu_gaudi2/prefill_only_fsdpa/inc_output"), OCT_GAUDI2, "MAXABS_HW");
    struct oct_measurement *measurement = NULL;
    oct_error err;
    assert_int_equal(oct_measurement_read(&config, 2, &measurement, &err), OCT_OK);
    oct_measurement_at(measurement, OCT_LM_HEAD, 0)->seen = true; // it saw no logits
    oct_measurement_at(measurement, OCT_LM_HEAD, 0)->inputs[0] = 1;
    config.dump_stats_path = (char *)path_in_folder("fused/inc_output");
    struct oct_plan *plan = NULL;
    if (oct_plan_build(&config, measurement, 2, true, &plan, &err) != OCT_OK) fail_msg("%s", err.message);
    for (int layer = 0; layer < 2; layer++) {
        const struct oct_attention_plan *a = &plan->layers[layer].attention;
        assert_true(a->matmul_qk && a->matmul_av && a->fused_sdpa && !a->softmax && !a->batch2block);
        assert_true(a->matmul_qk_scales[0] == a->fused_sdpa_scales[0] && a->matmul_qk_scales[1] == a->fused_sdpa_scales[1]);
        assert_true(a->matmul_av_scales[0] == a->fused_sdpa_scales[3] && a->matmul_av_scales[1] == a->fused_sdpa_scales[2]);
    }
    // The fused kernel's scales are those that INC gave it.
    json_t *inc = golden_json("hpu_gaudi2/prefill_only_fsdpa/inc_output_hooks_maxabs_MAXABS_HW_0_1.json");
    json_t *node = json_object_get(json_object_get(inc, "Nodes"), "model.layers.0.self_attn.attn.impl.fused_scaled_dot_product_attention");
    for (size_t i = 0; i < 4; i++)
        assert_true(json_number_value(json_array_get(json_object_get(node, "inputs"), i)) ==
                    (double)plan->layers[0].attention.fused_sdpa_scales[i]);
    assert_true(json_number_value(json_array_get(json_object_get(node, "outputs"), 0)) ==
                (double)plan->layers[0].attention.fused_sdpa_output_scale);
    json_decref(inc);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void add_cached_part(struct oct_tree *tree, struct oct_value *nodes, const char *name, float input, const float *weights, size_t n) {
    struct oct_value *node = oct_tree_value(tree, OCT_VALUE_DICT), *list = oct_tree_value(tree, OCT_VALUE_LIST);
    struct oct_value *params = oct_tree_value(tree, OCT_VALUE_DICT), *both = oct_tree_value(tree, OCT_VALUE_DICT);
    oct_value_append(tree, list, oct_tree_scalar(tree, input));
    oct_dict_set(tree, both, oct_tree_int(tree, 0), oct_tree_array(tree, 1, &n, weights));
    oct_dict_set(tree, params, oct_tree_key(tree, "weight"), n > 1 ? both : oct_tree_scalar(tree, *weights));
    oct_dict_set(tree, node, oct_tree_key(tree, "inputs"), list);
    oct_dict_set(tree, node, oct_tree_key(tree, "params"), params);
    oct_dict_set(tree, nodes, oct_tree_string(tree, name), node);
}

static void cached_scales_of_separate_projections_are_stacked(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("parts/inc_output"), OCT_GAUDI3, "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2");
    struct oct_tree tree = {0};
    struct oct_value *nodes, *root = oct_node_file_new(&tree, 0, 0, "Scale", &nodes);
    add_cached_part(&tree, nodes, "model.layers.0.self_attn.q_proj", 0.5f, (float[]){1, 2}, 2);
    add_cached_part(&tree, nodes, "model.layers.0.self_attn.k_proj", 4, (float[]){4, 8}, 2);
    add_cached_part(&tree, nodes, "model.layers.0.self_attn.v_proj", 2, (float[]){16, 32}, 2);
    add_cached_part(&tree, nodes, "model.layers.0.mlp.gate_proj", 1, (float[]){0.5f}, 1);
    add_cached_part(&tree, nodes, "model.layers.0.mlp.up_proj", 0.5f, (float[]){0.25f}, 1);
    oct_error err;
    assert_int_equal(
        oct_node_file_write(path_in_folder("parts/inc_output_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_0_1"), root, &err),
        OCT_OK);
    struct oct_plan *plan = built(&config, measurement);
    const struct oct_linear_plan *qkv = &plan->layers[0].qkv_proj, *gate_up = &plan->layers[0].gate_up_proj;
    assert_true(qkv->input_scale == 4 && gate_up->input_scale == 1);
    assert_int_equal(qkv->num_weight_scales, 6);
    for (int i = 0; i < 6; i++) assert_true(qkv->weight_scales[i] == ldexpf(1, i));
    assert_true(gate_up->num_weight_scales == 1 && gate_up->weight_scales[0] == 0.5f);
    oct_tree_free(&tree);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

struct sources {
    const struct oct_quant_config *config;
    const struct oct_measurement *measurement;
};

static void build_and_free(void *context) {
    const struct sources *sources = context;
    oct_plan_free(built(sources->config, sources->measurement));
}

static void scales_that_the_measurement_no_longer_gives_are_told(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(golden("smollm2/gaudi3/inc_output"), OCT_GAUDI3, "MAXABS_HW");
    struct sources sources = {&config, measurement};
    char *log = logged(folder, build_and_free, &sources);
    assert_string_equal(log, "");
    free(log);
    oct_measurement_at(measurement, OCT_DOWN_PROJ, 3)->inputs[0] *= 8;
    log = logged(folder, build_and_free, &sources);
    assert_non_null(strstr(log, "the scales of 1 modules (the first is model.layers.3.mlp.down_proj)"));
    free(log);
    oct_measurement_free(measurement);
}

static void a_cache_in_bf16_is_not_planned(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("none/x"), OCT_GAUDI3, "MAXABS_HW");
    config.block_types = (char *[]){(char *)"RowParallelLinear", NULL};
    struct oct_plan *plan;
    oct_error err;
    assert_int_equal(oct_plan_build(&config, measurement, NUM_LAYERS, false, &plan, &err), OCT_OK);
    assert_false(plan->layers[0].attention.k_cache || plan->layers[0].attention.v_cache);
    assert_true(plan->layers[0].attention.softmax);
    assert_false(plan->layers[0].o_proj.fp8 || plan->layers[0].down_proj.fp8);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

static void impossible_scales_are_refused(void **state) {
    (void)state;
    struct oct_measurement *measurement = smollm2();
    struct oct_quant_config config = config_at(path_in_folder("none/x"), OCT_GAUDI3, "MAXABS_POW2");
    struct oct_plan *plan;
    oct_error err;
    oct_measurement_at(measurement, OCT_K_CACHE, 2)->inputs[0] = INFINITY;
    assert_int_equal(oct_plan_build(&config, measurement, NUM_LAYERS, true, &plan, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "model.layers.2.self_attn.attn.impl.k_cache: inputs[0]: the measurement is inf"));
    oct_measurement_at(measurement, OCT_K_CACHE, 2)->inputs[0] = 0; // only zeros: any scale does, but its inverse must be finite
    plan = built(&config, measurement);
    assert_true(plan->layers[2].attention.k_cache_scale == 1);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scale_files_of_a_model_are_incs),
        cmocka_unit_test(the_json_of_scales_is_incs_byte_for_byte),
        cmocka_unit_test(cached_scales_win_over_the_measurement),
        cmocka_unit_test(per_channel_scales_survive_the_file),
        cmocka_unit_test(modules_of_others_stay_in_the_file),
        cmocka_unit_test(fixed_scales_need_no_files),
        cmocka_unit_test(an_unmeasured_module_is_an_error_or_stays_in_bf16),
        cmocka_unit_test(a_measurement_of_the_fused_kernel_alone_is_enough),
        cmocka_unit_test(cached_scales_of_separate_projections_are_stacked),
        cmocka_unit_test(scales_that_the_measurement_no_longer_gives_are_told),
        cmocka_unit_test(a_cache_in_bf16_is_not_planned),
        cmocka_unit_test(impossible_scales_are_refused),
    };
    return cmocka_run_group_tests_name("plan", tests, make_folder, drop_folder);
}
