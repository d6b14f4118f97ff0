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

oct_status oct_node_file_read(const char *path, struct oct_tree *tree, struct oct_value **nodes, oct_error *err) {
    struct oct_value *root;
    OCT_TRY(oct_npz_read(path, tree, &root, err));
    warn_of_edits(path, root);
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
