// node_file.c: the envelope that measurement and scale files share, as JSON and as NPZ.
#include "quant/node_file.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "quant/npz.h"
#include "quant/python_json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_JSON_BYTES = 256 << 20 };

struct oct_value *oct_node_file_new(struct oct_tree *tree, int num_samples, int local_rank, const char *mode, struct oct_value **nodes) {
    struct oct_value *root = oct_tree_value(tree, OCT_VALUE_DICT);
    if (num_samples > 0) oct_dict_set(tree, root, oct_tree_string(tree, "NumSamples"), oct_tree_int(tree, num_samples));
    oct_dict_set(tree, root, oct_tree_string(tree, "GlobalRank"), oct_tree_value(tree, OCT_VALUE_NONE));
    oct_dict_set(tree, root, oct_tree_string(tree, "LocalRank"), oct_tree_int(tree, local_rank));
    oct_dict_set(tree, root, oct_tree_string(tree, "Mode"), oct_tree_string(tree, mode));
    *nodes = oct_tree_value(tree, OCT_VALUE_DICT);
    oct_dict_set(tree, root, oct_tree_string(tree, "Nodes"), *nodes);
    return root;
}

// Who edits the JSON by hand changes nothing: only the NPZ is read. Formatting alone is no edit, nor is a JSON that was written just before
// or after its NPZ.
static void warn_of_edits(const char *npz_path, const struct oct_value *root) {
    enum { SECONDS_APART = 2 };
    if (strlen(npz_path) < 4) return;
    size_t stem = strlen(npz_path) - 4;
    struct oct_buffer json_path = {0}, expected = {0};
    oct_buffer_append(&json_path, npz_path, stem);
    oct_buffer_puts(&json_path, ".json");
    struct stat npz, json;
    char *text = NULL;
    size_t length;
    oct_error unread;
    bool newer = !strcmp(npz_path + stem, ".npz") && stat(npz_path, &npz) == 0 && stat(json_path.data, &json) == 0 &&
                 json.st_mtime > npz.st_mtime + SECONDS_APART;
    if (newer && oct_value_is_storable(root) && oct_file_read(json_path.data, MAX_JSON_BYTES, &text, &length, &unread) == OCT_OK) {
        oct_python_json(root, &expected);
        if (length != expected.length || memcmp(text, expected.data, length) != 0)
            oct_log(OCT_LOG_WARNING,
                    "%s was changed after %s, which alone counts (as for INC): make the NPZ again from it, or undo the change",
                    json_path.data, npz_path);
    }
    free(text);
    oct_buffer_free(&expected);
    oct_buffer_free(&json_path);
}

// Who reads the nodes can rely on their keys being strings.
static oct_status nodes_of(const char *path, const struct oct_value *root, struct oct_value **nodes, oct_error *err) {
    *nodes = oct_dict_get(root, "Nodes");
    if (!*nodes || (*nodes)->kind != OCT_VALUE_DICT) return oct_fail(err, OCT_CORRUPT, "%s: a dict \"Nodes\" expected, none found", path);
    for (size_t i = 0; i + 1 < (*nodes)->count; i += 2) {
        const struct oct_value *name = (*nodes)->items[i], *node = (*nodes)->items[i + 1];
        if (name->kind != OCT_VALUE_STRING) return oct_fail(err, OCT_CORRUPT, "%s: \"Nodes\": modules' names as keys expected", path);
        if (node->kind != OCT_VALUE_DICT) return oct_fail(err, OCT_CORRUPT, "%s: %s: a dict expected", path, name->bytes);
    }
    return OCT_OK;
}

oct_status oct_node_file_read(const char *path, struct oct_tree *tree, struct oct_value **nodes, oct_error *err) {
    struct oct_value *root;
    OCT_TRY(oct_npz_read(path, tree, &root, err));
    warn_of_edits(path, root);
    return nodes_of(path, root, nodes, err);
}

// The shape of nested lists of numbers, as far as their first items show it; -1 when they are deeper than arrays are.
static int shape_of(const struct oct_value *value, size_t dims[OCT_ARRAY_MAX_DIMS]) {
    int num_dims = 0;
    for (; value->kind == OCT_VALUE_LIST; value = value->items[0]) {
        if (num_dims == OCT_ARRAY_MAX_DIMS) return -1;
        dims[num_dims++] = value->count;
        if (!value->count) break;
    }
    return num_dims;
}

// Appends the numbers of nested lists; false when they do not have this shape.
static bool gather_numbers(const struct oct_value *value, const size_t *dims, int num_dims, double *numbers, size_t *count) {
    if (num_dims == 0) {
        if (value->kind != OCT_VALUE_FLOAT && value->kind != OCT_VALUE_INT) return false;
        numbers[(*count)++] = value->kind == OCT_VALUE_FLOAT ? value->real : (double)value->integer;
        return true;
    }
    if (value->kind != OCT_VALUE_LIST || value->count != *dims) return false;
    for (size_t i = 0; i < value->count; i++)
        if (!gather_numbers(value->items[i], dims + 1, num_dims - 1, numbers, count)) return false;
    return true;
}

static size_t leaves_of(const struct oct_value *value) {
    if (value->kind != OCT_VALUE_LIST) return 1;
    size_t leaves = 0;
    for (size_t i = 0; i < value->count; i++) leaves += leaves_of(value->items[i]);
    return leaves;
}

// Numbers, and nested lists of them, as an array; {"0": [...]} with the number as its key. Anything else stays as it is.
static struct oct_value *as_array(struct oct_tree *tree, struct oct_value *value) {
    if (value->kind == OCT_VALUE_DICT) {
        for (size_t i = 0; i + 1 < value->count; i += 2) {
            const struct oct_value *key = value->items[i];
            if (key->kind == OCT_VALUE_STRING && key->length == 1 && *key->bytes >= '0' && *key->bytes <= '9')
                value->items[i] = oct_tree_int(tree, *key->bytes - '0');
            value->items[i + 1] = as_array(tree, value->items[i + 1]);
        }
        return value;
    }
    size_t dims[OCT_ARRAY_MAX_DIMS], count = 0;
    int num_dims = shape_of(value, dims);
    if (num_dims < 0) return value;
    double *numbers = oct_alloc(leaves_of(value) + 1, sizeof *numbers, "numbers of a JSON file");
    if (gather_numbers(value, dims, num_dims, numbers, &count)) value = oct_tree_array64(tree, num_dims, dims, numbers);
    free(numbers);
    return value;
}

static void lists_to_arrays(struct oct_tree *tree, struct oct_value *node) {
    for (size_t i = 0; node->kind == OCT_VALUE_DICT && i + 1 < node->count; i += 2) {
        struct oct_value *field = node->items[i + 1]; // a list of tensors, or a dict of them
        bool dict = field->kind == OCT_VALUE_DICT;
        if (!dict && field->kind != OCT_VALUE_LIST) continue;
        for (size_t j = dict; j < field->count; j += dict ? 2 : 1) field->items[j] = as_array(tree, field->items[j]);
    }
}

oct_status oct_node_file_parse_json(const char *name, const char *text, size_t length, struct oct_tree *tree, struct oct_value **root,
                                    oct_error *err) {
    struct oct_value *nodes;
    OCT_TRY(oct_python_json_parse(name, text, length, tree, root, err));
    OCT_TRY(nodes_of(name, *root, &nodes, err));
    for (size_t i = 0; i + 1 < nodes->count; i += 2) lists_to_arrays(tree, nodes->items[i + 1]);
    return OCT_OK;
}

oct_status oct_node_file_read_any(const char *path, struct oct_tree *tree, struct oct_value **root, oct_error *err) {
    size_t length = strlen(path);
    struct oct_value *nodes;
    if (length < 5 || strcmp(path + length - 5, ".json") != 0) {
        OCT_TRY(oct_npz_read(path, tree, root, err));
        return nodes_of(path, *root, &nodes, err);
    }
    char *text;
    OCT_TRY(oct_file_read(path, OCT_MAX_PYTHON_JSON_BYTES, &text, &length, err));
    oct_status status = oct_node_file_parse_json(path, text, length, tree, root, err);
    free(text);
    return status;
}

oct_status oct_node_file_write(const char *stem, struct oct_value *root, oct_error *err) {
    const char *slash = strrchr(stem, '/');
    if (slash && slash != stem) {
        char *folder = oct_strndup(stem, (size_t)(slash - stem));
        oct_status status = oct_make_directories(folder, err);
        free(folder);
        OCT_TRY(status);
    }
    struct oct_buffer path = {0};
    oct_buffer_printf(&path, "%s.json", stem);
    oct_status status = oct_python_json_write(path.data, root, err);
    memcpy(path.data + path.length - 4, "npz", 4);
    if (status == OCT_OK) status = oct_npz_write(path.data, root, err);
    oct_buffer_free(&path);
    return status;
}

const struct oct_value *oct_node_list(const struct oct_value *node, const char *field) {
    const struct oct_value *list = oct_dict_get(node, field);
    if (!list) {
        char singular[16];
        size_t length = strlen(field) - 1;
        OCT_CHECK(length < sizeof singular);
        memcpy(singular, field, length);
        singular[length] = '\0';
        list = oct_dict_get(node, singular);
    }
    return oct_value_is_sequence(list) ? list : NULL;
}
