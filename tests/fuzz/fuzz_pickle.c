#include "target.h"

#include "base/buffer.h"
#include "quant/pickle.h"
#include "quant/python_json.h"

// What was read is a tree of bounded depth, so it can be walked to its last leaf.
static void walk(const struct oct_value *value, int depth) {
    OCT_CHECK(depth < 64);
    if (oct_value_is_numbers(value) && oct_array_size(value)) {
        struct oct_buffer text = {0};
        oct_python_repr(oct_array_at(value, oct_array_size(value) - 1), &text);
        oct_buffer_free(&text);
    }
    for (size_t i = 0; i < value->count; i++) walk(value->items[i], depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    if (oct_pickle_read("fuzz", data, size, &tree, &root, &err) == OCT_OK) walk(root, 0);
    oct_tree_free(&tree);
    return 0;
}
