// inspect_files.c: the files of a calibration as tables or as JSON. What a file is, its contents say: a list of names, a dict with
// "Nodes", or a QUANT_CONFIG.
#include "cli/inspect_files.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/table.h"
#include "quant/file_name.h"
#include "quant/node_file.h"
#include "quant/python_json.h"
#include "quant/quant_config.h"
#include "quant/quant_config_keys.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// --- one file ---------------------------------------------------------------------------------------------------------------------

// "0.5", or "0.25 .. 2 (576)" for an array of different values, or "0.5 (576)" for one of equal values; a NaN among them counts for all.
static void describe_array(const struct oct_value *array, struct oct_buffer *out) {
    if (!oct_value_is_numbers(array) || oct_array_size(array) == 0) {
        oct_buffer_puts(out, "?");
        return;
    }
    size_t size = oct_array_size(array);
    double smallest = oct_array_at(array, 0), largest = smallest;
    for (size_t i = 1; i < size && !isnan(largest); i++) {
        double value = oct_array_at(array, i);
        if (value < smallest || isnan(value)) smallest = value;
        if (value > largest || isnan(value)) largest = value;
    }
    if (smallest < largest)
        oct_buffer_printf(out, "%.6g .. %.6g (%zu)", smallest, largest, size);
    else if (size > 1)
        oct_buffer_printf(out, "%.6g (%zu)", smallest, size);
    else
        oct_buffer_printf(out, "%.6g", smallest);
}

static void describe_list(const struct oct_value *list, struct oct_buffer *out) {
    for (size_t i = 0; list && i < list->count; i++) {
        if (i > 0) oct_buffer_puts(out, ", ");
        const struct oct_value *item = list->items[i];
        // Measurements hold each value in a list of its own: [[x]].
        while (oct_value_is_sequence(item) && item->count == 1) item = item->items[0];
        describe_array(item, out);
    }
}

void oct_print_nodes(const struct oct_value *nodes) {
    struct oct_table table = {.num_columns = 4};
    oct_table_add(&table, (const char *[]){"module", "inputs", "outputs", "weight"});
    for (size_t i = 0; i + 1 < nodes->count; i += 2) {
        const struct oct_value *node = nodes->items[i + 1], *weight = oct_dict_get(oct_dict_get(node, "params"), "weight");
        struct oct_buffer inputs = {0}, outputs = {0}, params = {0};
        describe_list(oct_node_list(node, "inputs"), &inputs);
        describe_list(oct_node_list(node, "outputs"), &outputs);
        if (weight) describe_array(weight, &params);
        oct_table_add(&table, (const char *[]){nodes->items[i]->bytes, inputs.data, outputs.data, params.data});
        oct_buffer_free(&inputs);
        oct_buffer_free(&outputs);
        oct_buffer_free(&params);
    }
    oct_table_print(&table, stdout);
    oct_table_free(&table);
}

// What JSON has no word for (infinity, NaN) becomes null.
static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *to_json(const struct oct_value *value) {
    if (oct_value_is_numbers(value)) {
        json_t *list = json_array();
        for (size_t i = 0; i < oct_array_size(value); i++) json_array_append_new(list, number_or_null(oct_array_at(value, i)));
        return list;
    }
    if (oct_value_is_sequence(value)) {
        json_t *list = json_array();
        for (size_t i = 0; i < value->count; i++) json_array_append_new(list, to_json(value->items[i]));
        return list;
    }
    switch (value->kind) {
    case OCT_VALUE_DICT: {
        json_t *object = json_object();
        for (size_t i = 0; i + 1 < value->count; i += 2)
            if (value->items[i]->kind == OCT_VALUE_STRING)
                json_object_set_new(object, value->items[i]->bytes, to_json(value->items[i + 1]));
        return object;
    }
    case OCT_VALUE_BOOL:
        return json_boolean(value->integer);
    case OCT_VALUE_INT:
        return json_integer(value->integer);
    case OCT_VALUE_FLOAT:
        return number_or_null(value->real);
    case OCT_VALUE_STRING:
        return json_stringn(value->bytes, value->length);
    default:
        return json_null();
    }
}

// --- files ------------------------------------------------------------------------------------------------------------------------

static void show_nodes(const char *path, const struct oct_value *root, json_t *files) {
    const struct oct_value *nodes = oct_dict_get(root, "Nodes"), *mode = oct_dict_get(root, "Mode");
    const char *kind = mode && mode->kind == OCT_VALUE_STRING ? mode->bytes : "?";
    if (files) {
        json_array_append_new(files, json_pack("{s:s, s:s, s:o}", "path", path, "mode", kind, "nodes", to_json(nodes)));
        return;
    }
    printf("%s: %zu modules, %s\n", path, nodes->count / 2, kind);
    oct_print_nodes(nodes);
    putchar('\n');
}

static oct_status show_list(const char *path, const struct oct_value *list, json_t *files, oct_error *err) {
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i]->kind != OCT_VALUE_STRING) return oct_fail(err, OCT_CORRUPT, "%s: a list of names expected", path);
    if (files) {
        json_array_append_new(files, json_pack("{s:s, s:o}", "path", path, "modules", to_json(list)));
        return OCT_OK;
    }
    printf("%s: %zu modules selected\n", path, list->count);
    for (size_t i = 0; i < list->count; i++) puts(list->items[i]->bytes);
    putchar('\n');
    return OCT_OK;
}

static json_t *config_to_json(const char *path, const struct oct_quant_config *config) {
    json_t *object = json_pack("{s:s, s:s}", "file", path, "card", oct_profile_name(config->profile));
    for (int key = 0; key < OCT_NUM_QUANT_KEYS; key++) {
        struct oct_buffer value = {0};
        oct_quant_config_value(config, (enum oct_quant_key)key, &value);
        json_object_set_new(object, oct_quant_keys[key].name, json_string(value.data ? value.data : ""));
        oct_buffer_free(&value);
    }
    const char *const infixes[] = {"", config->scale_method}, *const names[] = {"measurement file", "scale file"};
    for (int i = 0; i < 2 && oct_quant_config_uses_files(config); i++) {
        char *file = oct_quant_config_file(config, infixes[i], config->rank, config->world_size, ".npz");
        json_object_set_new(object, names[i], json_sprintf("%s%s", file, oct_path_exists(file) ? "" : " (not there)"));
        free(file);
    }
    return object;
}

// What a configuration comes to, defaults and all.
static oct_status show_config(const char *path, json_t *files, oct_error *err) {
    struct oct_quant_config *config;
    OCT_TRY(oct_quant_config_load(path, &config, err));
    json_t *object = config_to_json(path, config), *value;
    oct_quant_config_free(config);
    if (files) {
        json_array_append_new(files, object);
        return OCT_OK;
    }
    const char *key;
    struct oct_table table = {.num_columns = 2};
    json_object_foreach(object, key, value) oct_table_add(&table, (const char *[]){key, json_string_value(value)});
    oct_table_print(&table, stdout);
    putchar('\n');
    oct_table_free(&table);
    json_decref(object);
    return OCT_OK;
}

static oct_status show_file(const char *path, json_t *files, oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_status status;
    if (oct_ends_with(path, ".npz")) {
        status = oct_node_file_read_any(path, &tree, &root, err);
        if (status == OCT_OK) show_nodes(path, root, files);
    } else {
        status = oct_python_json_read(path, &tree, &root, err);
        if (status == OCT_OK && root->kind == OCT_VALUE_LIST) {
            status = show_list(path, root, files, err);
        } else if (status == OCT_OK && oct_dict_get(root, "Nodes")) {
            status = oct_node_file_read_any(path, &tree, &root, err);
            if (status == OCT_OK) show_nodes(path, root, files);
        } else if (status == OCT_OK) {
            status = show_config(path, files, err);
        }
    }
    oct_tree_free(&tree);
    return status;
}

// Of a folder's files the NPZ count, which are what INC reads; a JSON only where it has no NPZ.
static bool is_shown(const struct oct_file_list *files, size_t i) {
    struct oct_file_name name;
    oct_file_name_parse(files->paths[i], &name);
    bool shown = name.npz || !name.mod_list;
    if (name.json && shown) {
        struct oct_buffer npz = {0};
        oct_buffer_printf(&npz, "%.*snpz", (int)(strlen(files->paths[i]) - 4), files->paths[i]);
        shown = !oct_path_exists(npz.data);
        oct_buffer_free(&npz);
    }
    oct_file_name_free(&name);
    return shown;
}

static oct_status show_folder(const char *folder, json_t *output, oct_error *err) {
    struct oct_file_list files;
    oct_file_list_gather(folder, 2, &files); // a calibration's files lie two levels below its --output: NAME/g3
    oct_status status = OCT_OK;
    if (!files.count)
        status =
            oct_fail(err, OCT_NOT_FOUND, "%s: a model (config.json) or measurement files (*_hooks_*.npz) expected, none found", folder);
    for (size_t i = 0; i < files.count && status == OCT_OK; i++)
        if (is_shown(&files, i)) status = show_file(files.paths[i], output, err);
    oct_file_list_free(&files);
    return status;
}

bool oct_inspects_files(const char *path) {
    if (!oct_path_is_directory(path)) return oct_path_exists(path) && (oct_ends_with(path, ".json") || oct_ends_with(path, ".npz"));
    char *config = oct_path_join(path, "config.json");
    bool is_model = oct_path_exists(config);
    free(config);
    return !is_model;
}

oct_status oct_inspect_files(const char *path, bool json, oct_error *err) {
    json_t *files = json ? json_array() : NULL;
    oct_status status = (oct_path_is_directory(path) ? show_folder : show_file)(path, files, err);
    if (status == OCT_OK && json) {
        json_dumpf(files, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(files);
    return status;
}
