// golden_data.h: reference data of the tests: folders, and tensors in safetensors files (read by a few lines of its own, so that the reader
// under test is not its own judge).
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct golden_file {
    char *bytes;
    size_t size;
    json_t *header;
    struct golden_copy *copies; // what golden_tensor gave away; its first element is empty. Owned
};

// Path of a file below tests/golden, in static storage (four alive at a time). Fails the test program when the variable is not set.
const char *golden_path(const char *relative);
// Path below the larger reference folder, or NULL when it is not there; then prints why tests that use it skip.
const char *reference_path(const char *relative);
// Path of the default model in the cache folder, or NULL when it was not fetched; then prints why.
const char *default_model_path(void);
// Path below the folder of published tokenizers: OCTAVO_TOKENIZERS, else that of the cache folder. NULL when it was not fetched; then
// prints why.
const char *published_tokenizer_path(const char *relative);

// Ends the program with a message when the file cannot be read.
struct golden_file golden_open(const char *path);
void golden_close(struct golden_file *file);
// The tensor's elements, aligned for their type, NULL when there is none of this name; they live as long as the file. *count: how many.
const void *golden_tensor(const struct golden_file *file, const char *name, size_t *count);
