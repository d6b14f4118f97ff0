#include "quant/measurement.h"
#include "quant/node_file.h"
#include "quant_golden.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static void write_node(struct oct_tree *tree, struct oct_value *name, struct oct_value *node) {
    struct oct_value *nodes, *root = oct_node_file_new(tree, 0, 0, "DynamicRange", &nodes);
    oct_dict_set(tree, nodes, name, node);
    oct_error err;
    char stem[128];
    snprintf(stem, sizeof stem, "%s/odd_hooks_maxabs_0_1", folder);
    assert_int_equal(oct_node_file_write(stem, root, &err), OCT_OK);
}

static void write_nodes(struct oct_tree *tree, struct oct_value *node) {
    write_node(tree, oct_tree_string(tree, "lm_head"), node);
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

// A pickle may have any key; who compares or prints nodes takes them for names.
static void a_node_without_a_name_is_an_error(void **state) {
    (void)state;
    struct oct_tree tree = {0};
    struct oct_measurement *measurement;
    oct_error err;
    write_node(&tree, oct_tree_int(&tree, 1), oct_tree_value(&tree, OCT_VALUE_DICT));
    assert_int_equal(read_odd(&measurement, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "modules' names as keys expected"));
    oct_tree_free(&tree);
}

static void copy_as(const char *from, const char *name) {
    size_t length;
    oct_error err;
    char *bytes = golden_text(from, &length), *path = oct_path_join(folder, name);
    assert_int_equal(oct_file_write(path, bytes, length, &err), OCT_OK);
    free(bytes);
    free(path);
}

static const char *prefix_in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void files_of_two_ranks_give_the_larger_ranges(void **state) {
    (void)state;
    const char *ranks[] = {golden("hpu_gaudi3/tp2/inc_output_hooks_maxabs_0_2.npz"),
                           golden("hpu_gaudi3/tp2/inc_output_hooks_maxabs_1_2.npz")};
    struct oct_quant_config first = config_at(golden("hpu_gaudi3/tp2/inc_output")), second = first;
    first.world_size = second.world_size = 2;
    second.rank = 1;
    struct oct_measurement *one, *other, *both;
    oct_error err;
    assert_int_equal(oct_measurement_read(&first, 2, &one, &err), OCT_OK);
    assert_int_equal(oct_measurement_read(&second, 2, &other, &err), OCT_OK);
    copy_as(ranks[0], "tp2_hooks_maxabs_0_2.npz");
    copy_as(ranks[1], "tp2_hooks_maxabs_1_2.npz");
    both = read_at(prefix_in_folder("tp2"), 2); // as rank 0 of 1, which wrote nothing
    int larger[2] = {0};
    for (int i = 0; i < oct_module_count(2); i++) {
        int layer;
        enum oct_module module = oct_module_at(2, i, &layer);
        const struct oct_module_measurement *a = oct_measurement_at(one, module, layer), *b = oct_measurement_at(other, module, layer);
        const struct oct_module_measurement *c = oct_measurement_at(both, module, layer);
        for (int k = 0; k < a->num_inputs; k++) {
            assert_true(c->inputs[k] == fmaxf(a->inputs[k], b->inputs[k]));
            if (a->inputs[k] != b->inputs[k]) larger[a->inputs[k] < b->inputs[k]]++;
        }
        assert_true(c->weight == fmaxf(a->weight, b->weight));
    }
    assert_true(larger[0] > 0 && larger[1] > 0); // either rank has its own
    oct_measurement_free(one);
    oct_measurement_free(other);
    oct_measurement_free(both);
}

static void a_missing_rank_is_an_error_that_names_it(void **state) {
    (void)state;
    copy_as(golden("hpu_gaudi3/tp2/inc_output_hooks_maxabs_0_2.npz"), "half_hooks_maxabs_0_2.npz");
    struct oct_quant_config config = config_at(prefix_in_folder("half"));
    struct oct_measurement *measurement;
    oct_error err;
    assert_int_equal(oct_measurement_read(&config, 2, &measurement, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "half_hooks_maxabs_1_2.npz: not there"));
}

static void a_name_without_ranks_is_found(void **state) {
    (void)state;
    copy_as(golden("hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1.npz"), "single_hooks_maxabs.npz");
    struct oct_measurement *measurement = read_at(prefix_in_folder("single"), 2);
    assert_true(oct_measurement_at(measurement, OCT_LM_HEAD, 0)->inputs[0] == 9.5f);
    oct_measurement_free(measurement);
}

static void add_node(struct oct_tree *tree, struct oct_value *nodes, const char *name, float input, float weight) {
    struct oct_value *node = oct_tree_value(tree, OCT_VALUE_DICT), *list = oct_tree_value(tree, OCT_VALUE_LIST);
    oct_value_append(tree, list, oct_tree_array(tree, 2, (size_t[]){1, 1}, &input));
    oct_dict_set(tree, node, oct_tree_key(tree, "inputs"), list);
    if (weight > 0) {
        struct oct_value *params = oct_tree_value(tree, OCT_VALUE_DICT);
        oct_dict_set(tree, params, oct_tree_key(tree, "weight"), oct_tree_array(tree, 2, (size_t[]){1, 1}, &weight));
        oct_dict_set(tree, node, oct_tree_key(tree, "params"), params);
    }
    oct_dict_set(tree, nodes, oct_tree_string(tree, name), node);
}

static void separate_projections_give_the_stacked_one_their_largest(void **state) {
    (void)state;
    struct oct_tree tree = {0};
    struct oct_value *nodes, *root = oct_node_file_new(&tree, 0, 0, "DynamicRange", &nodes);
    add_node(&tree, nodes, "model.layers.0.self_attn.q_proj", 3, 0.5f);
    add_node(&tree, nodes, "model.layers.0.self_attn.k_proj", 3, 2);
    add_node(&tree, nodes, "model.layers.0.self_attn.v_proj", 3, 1);
    add_node(&tree, nodes, "model.layers.0.mlp.gate_proj", 4, 0.25f);
    add_node(&tree, nodes, "model.layers.0.mlp.up_proj", 4.5f, 0.125f);
    add_node(&tree, nodes, "model.layers.0.self_attn.k_cache", 7, 0);
    oct_error err;
    char *stem = oct_path_join(folder, "habana_hooks_maxabs_0_1");
    assert_int_equal(oct_node_file_write(stem, root, &err), OCT_OK);
    free(stem);
    oct_tree_free(&tree);
    struct oct_measurement *m = read_at(prefix_in_folder("habana"), 1);
    assert_true(oct_measurement_at(m, OCT_QKV_PROJ, 0)->inputs[0] == 3 && oct_measurement_at(m, OCT_QKV_PROJ, 0)->weight == 2);
    assert_true(oct_measurement_at(m, OCT_GATE_UP_PROJ, 0)->inputs[0] == 4.5f &&
                oct_measurement_at(m, OCT_GATE_UP_PROJ, 0)->weight == 0.25f);
    assert_true(oct_measurement_at(m, OCT_K_CACHE, 0)->inputs[0] == 7);
    assert_false(oct_measurement_at(m, OCT_V_CACHE, 0)->seen);
    oct_measurement_free(m);
}

static void read_edited(void *context) {
    (void)context;
    oct_measurement_free(read_at(prefix_in_folder("edited"), 2));
}

static void a_json_that_was_edited_after_its_npz_is_told(void **state) {
    (void)state;
    copy_as(golden("hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1.npz"), "edited_hooks_maxabs_0_1.npz");
    copy_as(golden("hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1.json"), "edited_hooks_maxabs_0_1.json");
    char *npz = oct_path_join(folder, "edited_hooks_maxabs_0_1.npz"), *json = oct_path_join(folder, "edited_hooks_maxabs_0_1.json");
    struct timespec older[2] = {{.tv_sec = time(NULL) - 100}, {.tv_sec = time(NULL) - 100}};
    assert_int_equal(utimensat(AT_FDCWD, npz, older, 0), 0);
    char *log = logged(folder, read_edited, NULL); // newer, but the same: copied after each other
    assert_string_equal(log, "");
    free(log);
    size_t length;
    oct_error err;
    char *text;
    assert_int_equal(oct_file_read(json, 1 << 20, &text, &length, &err), OCT_OK);
    *strstr(text, "4.0625") = '5';
    assert_int_equal(oct_file_write(json, text, length, &err), OCT_OK);
    log = logged(folder, read_edited, NULL);
    assert_non_null(strstr(log, "edited_hooks_maxabs_0_1.json was changed after"));
    free(log);
    free(text);
    free(npz);
    free(json);
}

// --- what goes wrong while writing ------------------------------------------------------------------------------------------------

// The written measurement whose qkv_proj range tells which one it is.
static oct_status write_range(const char *prefix, float range, oct_error *err) {
    struct oct_measurement *measurement = oct_measurement_new(8);
    struct oct_observer observer = oct_measurement_observer(measurement);
    for (int layer = 0; layer < 8; layer++)
        observer.see(observer.context, OCT_QKV_PROJ, layer, OCT_INPUT0, &(struct oct_seen){.amax = range, .factor = 1});
    struct oct_quant_config config = config_at(prefix);
    oct_status status = oct_measurement_write(measurement, &config, 0, err);
    oct_measurement_free(measurement);
    return status;
}

static float range_of(const char *prefix) {
    struct oct_measurement *measurement = read_at(prefix, 8);
    float range = oct_measurement_at(measurement, OCT_QKV_PROJ, 7)->inputs[0];
    oct_measurement_free(measurement);
    return range;
}

// A limit on the size of files stands for a full disk: writing fails half way.
static void a_full_disk_leaves_the_old_files_and_says_so(void **state) {
    (void)state;
    const char *prefix = prefix_in_folder("full");
    oct_error err;
    assert_int_equal(write_range(prefix, 2, &err), OCT_OK);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 600, .rlim_max = 600});
        oct_status status = write_range(prefix, 3, &err);
        _exit(status == OCT_IO && strstr(err.message, "full_hooks_maxabs_0_1.json: cannot write: ") ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(range_of(prefix) == 2);
    char command[160];
    snprintf(command, sizeof command, "ls '%s' | grep -q tmp", folder);
    assert_int_not_equal(system(command), 0); // nothing half is left
}

static void a_folder_without_permission_is_refused_in_incs_words(void **state) {
    (void)state;
    char *readonly = oct_path_join(folder, "readonly"), *prefix = oct_path_join(readonly, "inc_output");
    assert_int_equal(mkdir(readonly, 0755), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(0); // root may write anywhere
        chmod(readonly, 0555);
        struct oct_quant_config config = config_at(prefix);
        oct_error err;
        char expected[256];
        snprintf(expected, sizeof expected, "Measurements dump directory '%s' is non-writable", readonly);
        _exit(oct_measurement_prepare(&config, &err) == OCT_IO && !strcmp(err.message, expected) ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    free(prefix);
    free(readonly);
}

// A writer that is killed at any moment leaves a measurement that can be read: an older one or a newer one, never half of one.
static void a_killed_run_leaves_files_that_can_be_read(void **state) {
    (void)state;
    const char *prefix = prefix_in_folder("killed");
    oct_error err;
    assert_int_equal(write_range(prefix, 1, &err), OCT_OK);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0)
            for (int i = 2;; i++) write_range(prefix, (float)(i % 200), &err);
        usleep((useconds_t)(700 * round));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        float range = range_of(prefix);
        assert_true(range >= 0 && range < 200);
        size_t length;
        char *path = oct_path_join(folder, "killed_hooks_maxabs_0_1.json"), *json = golden_text(path, &length);
        assert_true(length > 2 && json[0] == '{' && json[length - 1] == '}');
        free(json);
        free(path);
    }
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
        cmocka_unit_test(files_of_two_ranks_give_the_larger_ranges),
        cmocka_unit_test(a_missing_rank_is_an_error_that_names_it),
        cmocka_unit_test(a_name_without_ranks_is_found),
        cmocka_unit_test(separate_projections_give_the_stacked_one_their_largest),
        cmocka_unit_test(a_json_that_was_edited_after_its_npz_is_told),
        cmocka_unit_test(a_full_disk_leaves_the_old_files_and_says_so),
        cmocka_unit_test(a_folder_without_permission_is_refused_in_incs_words),
        cmocka_unit_test(a_killed_run_leaves_files_that_can_be_read),
        cmocka_unit_test(former_names_and_channels_are_understood),
        cmocka_unit_test(a_node_of_another_shape_is_an_error_that_names_it),
        cmocka_unit_test(a_node_without_a_name_is_an_error),
    };
    return cmocka_run_group_tests_name("measurement", tests, make_folder, drop_folder);
}
