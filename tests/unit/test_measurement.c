#include "quant/measurement.h"
#include "quant/node_file.h"
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

// The configuration of files <path>_hooks_maxabs_0_1.*
static struct oct_quant_config config_at(const char *path) {
    return (struct oct_quant_config){
        .mode = OCT_QUANT_MEASURE, .observer = "maxabs", .dump_stats_path = (char *)path, .world_size = 1, .separate_measure_files = true};
}

static struct oct_quant_config config_here(void) {
    static char path[128];
    snprintf(path, sizeof path, "%s/sub/inc_output", folder);
    return config_at(path);
}

static struct oct_measurement *read_at(const char *path, int num_layers) {
    struct oct_quant_config config = config_at(path);
    struct oct_measurement *measurement = NULL;
    oct_error err = {0};
    if (oct_measurement_read(&config, num_layers, &measurement, &err) != OCT_OK) fail_msg("%s", err.message);
    return measurement;
}

static void assert_same_text(const char *found, const char *expected) {
    size_t length;
    char *a = golden_text(found, &length), *b = golden_text(expected, &length);
    assert_non_null(a);
    if (strcmp(a, b) != 0) fail_msg("%s differs from %s", found, expected);
    free(a);
    free(b);
}

static const char *written(const char *ending) {
    static char path[160];
    snprintf(path, sizeof path, "%s/sub/inc_output_hooks_maxabs_0_1%s", folder, ending);
    return path;
}

static void incs_measurement_of_a_model_is_read_and_written_alike(void **state) {
    (void)state;
    struct oct_measurement *measurement = read_at(golden("smollm2/inc_output"), NUM_LAYERS);
    struct oct_module_measurement *down = oct_measurement_at(measurement, OCT_DOWN_PROJ, 29);
    assert_true(down->seen);
    assert_true(down->inputs[0] == 482 && down->outputs[0] == 5856 && down->weight == 4.34375f);
    assert_true(isinf(oct_measurement_at(measurement, OCT_SOFTMAX, 0)->inputs[0]));
    assert_true(oct_measurement_at(measurement, OCT_LM_HEAD, 0)->inputs[0] == 52);
    assert_null(oct_measurement_at(measurement, OCT_DOWN_PROJ, 30));
    struct oct_quant_config config = config_here();
    oct_error err;
    assert_int_equal(oct_measurement_write(measurement, &config, 0, &err), OCT_OK);
    assert_same_text(written(".json"), golden("smollm2/inc_output_hooks_maxabs_0_1.json"));
    oct_measurement_free(measurement);
}

static void files_that_the_scripts_rewrote_are_read(void **state) {
    (void)state;
    struct oct_measurement *measurement = read_at(golden("vllm_step3_gaudi3/inc_output"), 2); // float64
    assert_true(oct_measurement_at(measurement, OCT_MATMUL_QK, 1)->inputs[1] == 9.125f);
    assert_true(oct_measurement_at(measurement, OCT_GATE_UP_PROJ, 0)->weight == 1.265625f);
    oct_measurement_free(measurement);
}

static void see(const struct oct_observer *observer, enum oct_module module, enum oct_port port, float amax) {
    observer->see(observer->context, module, 0, port, &(struct oct_seen){.amax = amax, .factor = 1});
}

static void an_observer_keeps_the_maximum_rounded_to_bf16(void **state) {
    (void)state;
    struct oct_measurement *measurement = oct_measurement_new(1);
    struct oct_observer observer = oct_measurement_observer(measurement);
    see(&observer, OCT_QKV_PROJ, OCT_INPUT0, 1);
    see(&observer, OCT_QKV_PROJ, OCT_INPUT0, 3.01f);
    see(&observer, OCT_QKV_PROJ, OCT_INPUT0, 2);
    see(&observer, OCT_MATMUL_AV, OCT_INPUT1, NAN);
    see(&observer, OCT_MATMUL_AV, OCT_INPUT1, 5);
    see(&observer, OCT_DOWN_PROJ, OCT_INPUT0, 7);
    see(&observer, OCT_DOWN_PROJ, OCT_OUTPUT0, 8);
    oct_measurement_at(measurement, OCT_QKV_PROJ, 0)->weight = 0.3f;
    struct oct_quant_config config = config_here();
    oct_error err;
    assert_int_equal(oct_measurement_write(measurement, &config, 12, &err), OCT_OK);
    oct_measurement_free(measurement);

    size_t length;
    char *json = golden_text(written(".json"), &length);
    assert_non_null(
        strstr(json, "{\n    \"NumSamples\": 12,\n    \"GlobalRank\": null,\n    \"LocalRank\": 0,\n    \"Mode\": \"DynamicRange\""));
    assert_non_null(strstr(json, "NaN"));
    assert_null(strstr(json, "k_cache")); // never seen
    free(json);
    measurement = read_at(config.dump_stats_path, 1);
    assert_true(oct_measurement_at(measurement, OCT_QKV_PROJ, 0)->inputs[0] == 3.015625f);
    assert_true(oct_measurement_at(measurement, OCT_QKV_PROJ, 0)->weight == 0.30078125f);
    assert_true(isnan(oct_measurement_at(measurement, OCT_MATMUL_AV, 0)->inputs[1]));
    assert_true(oct_measurement_at(measurement, OCT_DOWN_PROJ, 0)->outputs[0] == 8);
    assert_true(oct_measurement_at(measurement, OCT_DOWN_PROJ, 0)->outputs[1] == 0); // no other rank
    assert_true(oct_measurement_at(measurement, OCT_QKV_PROJ, 0)->outputs[0] == -1); // excluded
    assert_false(oct_measurement_at(measurement, OCT_K_CACHE, 0)->seen);
    oct_measurement_free(measurement);
}

static void outputs_are_written_when_they_are_not_excluded(void **state) {
    (void)state;
    struct oct_measurement *measurement = read_at(golden("hpu_gaudi2/tp1_exclude_none/inc_output"), 2);
    assert_true(oct_measurement_at(measurement, OCT_MATMUL_QK, 0)->outputs[0] > 0);
    struct oct_quant_config config = config_here();
    config.measure_outputs = true;
    oct_error err;
    assert_int_equal(oct_measurement_write(measurement, &config, 0, &err), OCT_OK);
    struct oct_measurement *again = read_at(config.dump_stats_path, 2);
    assert_true(oct_measurement_at(again, OCT_MATMUL_QK, 0)->outputs[0] == oct_measurement_at(measurement, OCT_MATMUL_QK, 0)->outputs[0]);
    oct_measurement_free(measurement);
    oct_measurement_free(again);
}

static void blocked_modules_are_left_out(void **state) {
    (void)state;
    struct oct_measurement *measurement = read_at(golden("smollm2/inc_output"), NUM_LAYERS);
    struct oct_quant_config config = config_here();
    config.block_names = (char *[]){(char *)"lm_head", (char *)"self_attn", NULL};
    oct_error err;
    assert_int_equal(oct_measurement_write(measurement, &config, 0, &err), OCT_OK);
    size_t length;
    char *names = golden_text(written("_mod_list.json"), &length), *json = golden_text(written(".json"), &length);
    assert_null(strstr(names, "lm_head"));
    assert_null(strstr(json, "qkv_proj"));
    assert_non_null(strstr(json, "model.layers.29.mlp.down_proj"));
    assert_ptr_equal(strstr(names, "[\n    \"model.layers.0.mlp.gate_up_proj\",\n"), names);
    free(names);
    free(json);
    oct_measurement_free(measurement);
}

static void unifying_gives_the_matmuls_the_range_of_the_cache(void **state) {
    (void)state;
    struct oct_measurement *measurement = oct_measurement_new(1);
    struct oct_observer observer = oct_measurement_observer(measurement);
    see(&observer, OCT_MATMUL_QK, OCT_INPUT1, 100);
    see(&observer, OCT_K_CACHE, OCT_INPUT0, 10);
    see(&observer, OCT_MATMUL_AV, OCT_INPUT1, 7);
    oct_measurement_unify_kv(measurement);
    assert_true(oct_measurement_at(measurement, OCT_MATMUL_QK, 0)->inputs[1] == 10);
    assert_true(oct_measurement_at(measurement, OCT_MATMUL_AV, 0)->inputs[1] == 7); // the cache was not measured
    oct_measurement_free(measurement);
}

static void a_missing_measurement_names_the_remedy(void **state) {
    (void)state;
    struct oct_quant_config config = config_at("/nonexistent/inc_output");
    struct oct_measurement *measurement;
    oct_error err;
    assert_int_equal(oct_measurement_read(&config, 1, &measurement, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/inc_output_hooks_maxabs_0_1.npz"));
    assert_non_null(strstr(err.message, "octavo calibrate"));
}

static void files_of_an_older_run_are_moved_away(void **state) {
    (void)state;
    char path[128], name[512];
    snprintf(path, sizeof path, "%s/again/new/inc_output", folder);
    struct oct_quant_config config = config_at(path);
    oct_error err;
    assert_int_equal(oct_measurement_prepare(&config, &err), OCT_OK); // makes the folder
    snprintf(name, sizeof name, "%s_hooks_maxabs_MAXABS_HW_0_1.npz", path);
    assert_int_equal(oct_file_write(name, "old", 3, &err), OCT_OK);
    snprintf(name, sizeof name, "%s/again/new/other", folder);
    assert_int_equal(oct_file_write(name, "kept", 4, &err), OCT_OK);
    assert_int_equal(oct_measurement_prepare(&config, &err), OCT_OK);
    assert_true(oct_path_exists(name));
    snprintf(name, sizeof name, "%s_hooks_maxabs_MAXABS_HW_0_1.npz", path);
    assert_false(oct_path_exists(name));
    snprintf(name, sizeof name, "cat %s/again/new/backup_inc_output_*/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz | grep -qx old", folder);
    assert_int_equal(system(name), 0);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state) {
    (void)state;
    struct oct_quant_config config = config_at("/proc/nowhere/inc_output");
    oct_error err;
    assert_int_equal(oct_measurement_prepare(&config, &err), OCT_IO);
}

static void write_nodes(struct oct_tree *tree, struct oct_value *node) {
    struct oct_value *nodes, *root = oct_node_file_new(tree, 0, 0, "DynamicRange", &nodes);
    oct_dict_set(tree, nodes, oct_tree_string(tree, "lm_head"), node);
    oct_error err;
    char stem[128];
    snprintf(stem, sizeof stem, "%s/odd_hooks_maxabs_0_1", folder);
    assert_int_equal(oct_node_file_write(stem, root, &err), OCT_OK);
}

static oct_status read_odd(struct oct_measurement **measurement, oct_error *err) {
    char path[128];
    snprintf(path, sizeof path, "%s/odd", folder);
    struct oct_quant_config config = config_at(path);
    *measurement = NULL;
    return oct_measurement_read(&config, 1, measurement, err);
}

static void former_names_and_channels_are_understood(void **state) {
    (void)state;
    struct oct_tree tree = {0};
    struct oct_value *node = oct_tree_value(&tree, OCT_VALUE_DICT), *list = oct_tree_value(&tree, OCT_VALUE_TUPLE);
    oct_value_append(&tree, list, oct_tree_array(&tree, 2, (size_t[]){3, 1}, (float[]){1, 5, 2}));
    oct_dict_set(&tree, node, oct_tree_string(&tree, "input"), list);
    write_nodes(&tree, node);
    struct oct_measurement *measurement;
    oct_error err;
    assert_int_equal(read_odd(&measurement, &err), OCT_OK);
    assert_true(oct_measurement_at(measurement, OCT_LM_HEAD, 0)->inputs[0] == 5);
    oct_measurement_free(measurement);
    oct_tree_free(&tree);
}

static void a_node_of_another_shape_is_an_error_that_names_it(void **state) {
    (void)state;
    struct oct_tree tree = {0};
    struct oct_measurement *measurement;
    oct_error err;
    struct oct_value *node = oct_tree_value(&tree, OCT_VALUE_DICT), *list = oct_tree_value(&tree, OCT_VALUE_LIST);
    oct_value_append(&tree, list, oct_tree_array(&tree, 2, (size_t[]){0, 1}, NULL));
    oct_dict_set(&tree, node, oct_tree_string(&tree, "inputs"), list);
    write_nodes(&tree, node);
    assert_int_equal(read_odd(&measurement, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "lm_head.inputs: an array of numbers expected"));
    write_nodes(&tree, oct_tree_int(&tree, 3));
    assert_int_equal(read_odd(&measurement, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "lm_head: a dict expected"));
    oct_tree_free(&tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(incs_measurement_of_a_model_is_read_and_written_alike),
        cmocka_unit_test(files_that_the_scripts_rewrote_are_read),
        cmocka_unit_test(an_observer_keeps_the_maximum_rounded_to_bf16),
        cmocka_unit_test(outputs_are_written_when_they_are_not_excluded),
        cmocka_unit_test(blocked_modules_are_left_out),
        cmocka_unit_test(unifying_gives_the_matmuls_the_range_of_the_cache),
        cmocka_unit_test(a_missing_measurement_names_the_remedy),
        cmocka_unit_test(files_of_an_older_run_are_moved_away),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
        cmocka_unit_test(former_names_and_channels_are_understood),
        cmocka_unit_test(a_node_of_another_shape_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests_name("measurement", tests, make_folder, drop_folder);
}
