// measurement.c: between the running maxima of modules and the nodes of INC's files.
#include "quant/measurement.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "numeric/bf16.h"
#include "quant/node_file.h"
#include "quant/python_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// What INC measures of a module; `always`: its outputs too, whatever measure_exclude says.
static const struct {
    int num_inputs, num_outputs;
    bool always;
} ports[OCT_NUM_MODULES] = {
    [OCT_QKV_PROJ] = {1, 1, false},  [OCT_O_PROJ] = {1, 2, true},      [OCT_MATMUL_QK] = {2, 1, false},    [OCT_SOFTMAX] = {1, 1, true},
    [OCT_MATMUL_AV] = {2, 1, false}, [OCT_BATCH2BLOCK] = {2, 1, true}, [OCT_BLOCK2BATCH] = {2, 1, true},   [OCT_K_CACHE] = {1, 1, false},
    [OCT_V_CACHE] = {1, 1, false},   [OCT_FUSED_SDPA] = {3, 2, true},  [OCT_GATE_UP_PROJ] = {1, 1, false}, [OCT_DOWN_PROJ] = {1, 2, true},
    [OCT_LM_HEAD] = {1, 1, false},
};

struct oct_measurement *oct_measurement_new(int num_layers) {
    OCT_CHECK(num_layers >= 0);
    struct oct_measurement *measurement = oct_alloc(1, sizeof *measurement, "a measurement");
    measurement->num_layers = num_layers;
    measurement->modules = oct_alloc((size_t)num_layers * OCT_NUM_MODULES + 1, sizeof *measurement->modules, "a measurement");
    for (int i = 0; i < oct_module_count(num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(num_layers, i, &layer);
        *oct_measurement_at(measurement, module, layer) = (struct oct_module_measurement){
            .inputs = {-1, -1, -1, -1},
            .outputs = {-1, -1},
            .num_inputs = ports[module].num_inputs,
            .num_outputs = ports[module].num_outputs,
            .weight = -1,
        };
    }
    return measurement;
}

void oct_measurement_free(struct oct_measurement *measurement) {
    if (!measurement) return;
    for (int i = 0; i < oct_module_count(measurement->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(measurement->num_layers, i, &layer);
        struct oct_module_measurement *measured = oct_measurement_at(measurement, module, layer);
        for (int port = 0; measured->details && port <= measured->num_inputs + measured->num_outputs; port++)
            free(measured->details[port].channels);
        free(measured->details);
    }
    free(measurement->save_folder);
    free(measurement->modules);
    free(measurement);
}

struct oct_module_measurement *oct_measurement_at(struct oct_measurement *measurement, enum oct_module module, int layer) {
    if (module == OCT_LM_HEAD) return &measurement->modules[(size_t)measurement->num_layers * OCT_NUM_MODULES];
    if ((unsigned)module >= OCT_NUM_MODULES || layer < 0 || layer >= measurement->num_layers) return NULL;
    return &measurement->modules[(size_t)layer * OCT_NUM_MODULES + module];
}

void oct_measurement_unify_kv(struct oct_measurement *measurement) {
    static const struct { enum oct_module matmul, cache; } pairs[] = {{OCT_MATMUL_QK, OCT_K_CACHE}, {OCT_MATMUL_AV, OCT_V_CACHE}};
    for (int layer = 0; layer < measurement->num_layers; layer++)
        for (int i = 0; i < 2; i++) {
            struct oct_module_measurement *matmul = oct_measurement_at(measurement, pairs[i].matmul, layer);
            const struct oct_module_measurement *cache = oct_measurement_at(measurement, pairs[i].cache, layer);
            if (matmul->seen && cache->seen) matmul->inputs[1] = cache->inputs[0];
        }
}

static struct oct_value *states(struct oct_tree *tree, const struct oct_measurement *measurement,
                                const struct oct_module_measurement *measured, int first, int n) {
    struct oct_value *list = oct_tree_value(tree, OCT_VALUE_LIST);
    for (int i = 0; i < n; i++) oct_value_append(tree, list, oct_measurement_state(measurement, measured, first + i, tree));
    return list;
}

static struct oct_value *node_of(struct oct_tree *tree, const struct oct_measurement *measurement,
                                 const struct oct_module_measurement *measured, bool outputs) {
    struct oct_value *node = oct_tree_value(tree, OCT_VALUE_DICT);
    int inputs = measured->num_inputs, weight = inputs + measured->num_outputs;
    oct_dict_set(tree, node, oct_tree_key(tree, "inputs"), states(tree, measurement, measured, 0, inputs));
    if (outputs)
        oct_dict_set(tree, node, oct_tree_key(tree, "outputs"), states(tree, measurement, measured, inputs, measured->num_outputs));
    if (!(measured->weight < 0)) {
        struct oct_value *params = oct_tree_value(tree, OCT_VALUE_DICT);
        oct_dict_set(tree, params, oct_tree_key(tree, "weight"), oct_measurement_state(measurement, measured, weight, tree));
        oct_dict_set(tree, node, oct_tree_key(tree, "params"), params);
    }
    return node;
}

static oct_status write_module_list(const struct oct_quant_config *config, const struct oct_value *names, oct_error *err) {
    char *path = oct_quant_config_file(config, "", config->rank, config->world_size, "_mod_list.json");
    oct_status status = oct_python_json_write(path, names, err);
    free(path);
    return status;
}

oct_status oct_measurement_write(const struct oct_measurement *measurement, const struct oct_quant_config *config, int num_samples,
                                 oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *nodes, *names = oct_tree_value(&tree, OCT_VALUE_LIST);
    struct oct_value *root =
        oct_node_file_new(&tree, num_samples, config->rank, config->mode == OCT_QUANT_SHAPE ? "Shape" : "DynamicRange", &nodes);
    for (int i = 0; i < oct_module_count(measurement->num_layers); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(measurement->num_layers, i, &layer);
        if (!oct_quant_config_selects(config, module, layer)) continue;
        struct oct_value *key = oct_tree_string(&tree, oct_module_name(module, layer, name, sizeof name));
        oct_value_append(&tree, names, key);
        const struct oct_module_measurement *measured = oct_measurement_at((struct oct_measurement *)measurement, module, layer);
        bool outputs = ports[module].always || (config->measure_outputs && !(measured->outputs[0] < 0));
        if (measured->seen) oct_dict_set(&tree, nodes, key, node_of(&tree, measurement, measured, outputs));
    }
    char *stem = oct_quant_config_file(config, "", config->rank, config->world_size, "");
    oct_status status = oct_node_file_write(stem, root, err);
    if (status == OCT_OK) status = write_module_list(config, names, err);
    free(stem);
    oct_tree_free(&tree);
    return status;
}

// The maximum over an array, as INC takes it: a per-channel measurement counts as its largest channel. NaN wins.
static oct_status read_state(const char *path, const char *name, const char *field, const struct oct_value *array, float *out,
                             oct_error *err) {
    size_t n = oct_value_is_numbers(array) ? oct_array_size(array) : 0;
    if (!n) return oct_fail(err, OCT_CORRUPT, "%s: %s.%s: an array of numbers expected, none found", path, name, field);
    double max = oct_array_at(array, 0);
    for (size_t i = 1; i < n && !isnan(max); i++) {
        double value = oct_array_at(array, i);
        if (value > max || isnan(value)) max = value;
    }
    if (max < 0) return oct_fail(err, OCT_CORRUPT, "%s: %s.%s: a maximum of absolute values expected, %g found", path, name, field, max);
    if (max > *out || isnan(max)) *out = (float)max; // of several ranks, or parts of a linear, the largest counts
    return OCT_OK;
}

static oct_status read_states(const char *path, const char *name, const char *field, const struct oct_value *node, float *maxima, int n,
                              oct_error *err) {
    const struct oct_value *list = oct_node_list(node, field);
    for (int i = 0; list && i < n && (size_t)i < list->count; i++) OCT_TRY(read_state(path, name, field, list->items[i], &maxima[i], err));
    return OCT_OK;
}

static oct_status read_node(const char *path, const char *name, const struct oct_value *node, struct oct_module_measurement *measured,
                            oct_error *err) {
    OCT_TRY(read_states(path, name, "inputs", node, measured->inputs, measured->num_inputs, err));
    OCT_TRY(read_states(path, name, "outputs", node, measured->outputs, measured->num_outputs, err));
    const struct oct_value *weight = oct_dict_get(oct_dict_get(node, "params"), "weight");
    if (weight) OCT_TRY(read_state(path, name, "params.weight", weight, &measured->weight, err));
    measured->seen = true;
    return OCT_OK;
}

static oct_status read_nodes(const char *path, const struct oct_value *nodes, struct oct_measurement *measurement, oct_error *err) {
    for (int i = 0; i < oct_module_count(measurement->num_layers); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(measurement->num_layers, i, &layer);
        struct oct_module_measurement *measured = oct_measurement_at(measurement, module, layer);
        oct_module_name(module, layer, name, sizeof name);
        const struct oct_value *node = oct_dict_get(nodes, name);
        if (node) OCT_TRY(read_node(path, name, node, measured, err));
        for (int part = 0; !node && oct_module_part_name(module, layer, part, name, sizeof name); part++) {
            const struct oct_value *part_node = oct_dict_get(nodes, name);
            if (part_node) OCT_TRY(read_node(path, name, part_node, measured, err));
        }
    }
    return OCT_OK;
}

static oct_status read_file(const char *path, struct oct_measurement *measurement, oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *nodes;
    oct_status status = oct_node_file_read(path, &tree, &nodes, err);
    if (status == OCT_OK) status = read_nodes(path, nodes, measurement, err);
    oct_tree_free(&tree);
    return status;
}

// Files of an earlier run with another number of cards: each holds what one rank saw, and the largest is what one process would have seen.
static oct_status read_ranks(const struct oct_quant_config *config, int ranks, struct oct_measurement *measurement, oct_error *err) {
    for (int rank = 0; rank < ranks; rank++) {
        char *path = oct_quant_config_file(config, "", rank, ranks, ".npz");
        oct_status status = read_file(path, measurement, err);
        if (status == OCT_NOT_FOUND)
            status = oct_fail(err, OCT_CORRUPT, "%s: not there, but files of other ones of %d ranks are: all are needed", path, ranks);
        free(path);
        OCT_TRY(status);
    }
    oct_log(OCT_LOG_INFO, "%s: taking the largest ranges of %d ranks", config->dump_stats_path, ranks);
    return OCT_OK;
}

// The name without ranks: what INC writes outside a distributed run, and scripts leave after merging.
static oct_status read_without_ranks(const struct oct_quant_config *config, struct oct_measurement *measurement, oct_error *err) {
    char *path = oct_quant_config_file(config, "", 0, 0, ".npz");
    oct_status status = read_file(path, measurement, err);
    if (status == OCT_OK) oct_log(OCT_LOG_INFO, "%s: taking the measurement without ranks in its name", path);
    free(path);
    return status;
}

static bool file_exists(const struct oct_quant_config *config, int rank, int ranks) {
    char *path = oct_quant_config_file(config, "", rank, ranks, ".npz");
    bool exists = oct_path_exists(path);
    free(path);
    return exists;
}

// How many ranks wrote files, if other than world_size; 0: none did.
static int ranks_of_files(const struct oct_quant_config *config) {
    enum { MAX_RANKS = 1024 };
    for (int ranks = 1; config->separate_measure_files && ranks <= MAX_RANKS; ranks++)
        if (ranks != config->world_size && file_exists(config, 0, ranks)) return ranks;
    return 0;
}

bool oct_measurement_exists(const struct oct_quant_config *config) {
    return file_exists(config, config->rank, config->world_size) || file_exists(config, 0, 0) || ranks_of_files(config) > 0;
}

oct_status oct_measurement_read(const struct oct_quant_config *config, int num_layers, struct oct_measurement **out, oct_error *err) {
    char *path = oct_quant_config_file(config, "", config->rank, config->world_size, ".npz");
    struct oct_measurement *measurement = oct_measurement_new(num_layers);
    oct_status status = read_file(path, measurement, err);
    if (status == OCT_NOT_FOUND) status = read_without_ranks(config, measurement, err);
    int ranks = status == OCT_NOT_FOUND ? ranks_of_files(config) : 0;
    if (ranks) status = read_ranks(config, ranks, measurement, err);
    if (status == OCT_NOT_FOUND) status = oct_fail(err, OCT_NOT_FOUND, "%s: no measurement found; `octavo calibrate` makes one", path);
    free(path);
    if (status != OCT_OK) {
        oct_measurement_free(measurement);
        return status;
    }
    *out = measurement;
    return OCT_OK;
}

// One more than the largest N of a name "model.layers.N."; 0 when there is none.
static int count_layers(const struct oct_value *nodes) {
    int count = 0;
    for (size_t i = 0; i + 1 < nodes->count; i += 2) {
        int layer = -1;
        sscanf(nodes->items[i]->bytes, "model.layers.%5d.", &layer);
        if (layer >= count) count = layer + 1;
    }
    return count;
}

oct_status oct_measurement_read_file(const char *path, struct oct_measurement **out, oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_status status = oct_node_file_read_any(path, &tree, &root, err);
    if (status == OCT_OK && !oct_value_is_string(oct_dict_get(root, "Mode"), "DynamicRange"))
        status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a measurement (Mode DynamicRange) expected, another file found", path);
    if (status == OCT_OK) {
        const struct oct_value *nodes = oct_dict_get(root, "Nodes");
        struct oct_measurement *measurement = oct_measurement_new(count_layers(nodes));
        status = read_nodes(path, nodes, measurement, err);
        if (status == OCT_OK)
            *out = measurement;
        else
            oct_measurement_free(measurement);
    }
    oct_tree_free(&tree);
    return status;
}
