#include "target.h"

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_safetensors *file;
    oct_error err;
    if (oct_safetensors_open(fuzz_file(data, size), &file, &err) != OCT_OK) return 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < file->num_entries; i++) {
        const struct oct_safetensors_entry *entry = file->entries + i;
        OCT_CHECK(oct_safetensors_find(file, entry->name) == entry);
        for (size_t j = 0; j < entry->size; j++) sum += entry->data[j];
    }
    oct_safetensors_close(file);
    return sum == 1 ? -1 : 0; // keeps the reading
}
