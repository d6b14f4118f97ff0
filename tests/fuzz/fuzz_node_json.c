#include "target.h"

#include "base/memory.h"
#include "quant/node_file.h"
#include "quant/python_json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    char *text = oct_alloc(size + 1, 1, "a fuzz input");
    for (size_t i = 0; i < size; i++) text[i] = (char)data[i];
    if (oct_node_file_parse_json("fuzz", text, size, &tree, &root, &err) == OCT_OK) {
        struct oct_buffer again = {0};
        oct_python_json(root, &again);
        oct_buffer_free(&again);
    }
    oct_tree_free(&tree);
    free(text);
    return 0;
}
