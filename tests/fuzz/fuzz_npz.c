#include "target.h"

#include "quant/npz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    oct_npz_parse("fuzz", data, size, &tree, &root, &err);
    oct_tree_free(&tree);
    return 0;
}
