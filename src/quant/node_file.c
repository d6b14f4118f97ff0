// node_file.c: the outer dict of INC's files, and the pair of JSON and NPZ that each of them is.
#include "quant/node_file.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "quant/npz.h"
#include "quant/python_json.h"

#include <stdlib.h>
#include <string.h>

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

oct_status oct_node_file_read(const char *path, struct oct_tree *tree, struct oct_value **nodes, oct_error *err) {
    struct oct_value *root;
    OCT_TRY(oct_npz_read(path, tree, &root, err));
    *nodes = oct_dict_get(root, "Nodes");
    if (!*nodes || (*nodes)->kind != OCT_VALUE_DICT) return oct_fail(err, OCT_CORRUPT, "%s: a dict \"Nodes\" expected, none found", path);
    return OCT_OK;
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
