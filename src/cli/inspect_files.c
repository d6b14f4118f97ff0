// inspect_files.c: finds npz files of measurements and scales, and prints them as tables or JSON.
#include "cli/inspect_files.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/table.h"
#include "quant/node_file.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// --- the files --------------------------------------------------------------------------------------------------------------------

struct paths {
    char **items; // (count) owned
    size_t count;
};

static void gather(const char *folder, int depth, struct paths *paths) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char *path = oct_path_join(folder, entry->d_name);
        size_t length = strlen(path);
        if (length > 4 && strcmp(path + length - 4, ".npz") == 0 && strstr(entry->d_name, "_hooks_")) {
            paths->items = oct_resize(paths->items, paths->count + 1, sizeof *paths->items, "paths");
            paths->items[paths->count++] = path;
            continue;
        }
        if (depth > 0 && strncmp(entry->d_name, "backup_", 7) != 0 && oct_path_is_directory(path)) gather(path, depth - 1, paths);
        free(path);
    }
    closedir(dir);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// --- one file ---------------------------------------------------------------------------------------------------------------------

// "0.5", or "0.25 .. 2 (576)" for an array of different values, or "0.5 (576)" for one of equal values.
static void describe_array(const struct oct_value *array, struct oct_buffer *out) {
    if (!oct_value_is_numbers(array) || oct_array_size(array) == 0) {
        oct_buffer_puts(out, "?");
        return;
    }
    size_t size = oct_array_size(array);
    double smallest = oct_array_at(array, 0), largest = smallest;
    for (size_t i = 1; i < size; i++) {
        smallest = fmin(smallest, oct_array_at(array, i));
        largest = fmax(largest, oct_array_at(array, i));
    }
    if (smallest != largest)
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

static void print_nodes(const char *path, const struct oct_value *nodes) {
    printf("%s: %zu modules\n", path, nodes->count / 2);
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
    putchar('\n');
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

oct_status oct_inspect_files(const char *folder, bool json, oct_error *err) {
    struct paths paths = {0};
    gather(folder, 1, &paths);
    oct_status status = OCT_OK;
    if (!paths.count)
        status =
            oct_fail(err, OCT_NOT_FOUND, "%s: a model (config.json) or measurement files (*_hooks_*.npz) expected, none found", folder);
    else
        qsort(paths.items, paths.count, sizeof *paths.items, by_name);
    json_t *files = json_array();
    for (size_t i = 0; status == OCT_OK && i < paths.count; i++) {
        struct oct_tree tree = {0};
        struct oct_value *nodes;
        status = oct_node_file_read(paths.items[i], &tree, &nodes, err);
        if (status == OCT_OK && json)
            json_array_append_new(files, json_pack("{s:s, s:o}", "path", paths.items[i], "nodes", to_json(nodes)));
        else if (status == OCT_OK)
            print_nodes(paths.items[i], nodes);
        oct_tree_free(&tree);
    }
    if (status == OCT_OK && json) {
        json_dumpf(files, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(files);
    for (size_t i = 0; i < paths.count; i++) free(paths.items[i]);
    free(paths.items);
    return status;
}
