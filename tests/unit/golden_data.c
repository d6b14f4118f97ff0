#include "golden_data.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *next_path(void) {
    static char paths[4][1024];
    static int next;
    return paths[next++ % 4];
}

const char *golden_path(const char *relative) {
    const char *root = getenv("OCTAVO_GOLDEN");
    if (!root) {
        fprintf(stderr, "OCTAVO_GOLDEN is not set: run the tests through meson\n");
        exit(1);
    }
    char *path = next_path();
    snprintf(path, 1024, "%s/%s", root, relative);
    return path;
}

const char *reference_path(const char *relative) {
    const char *root = getenv("OCTAVO_REFERENCE");
    char *path = next_path();
    snprintf(path, 1024, "%s/%s", root ? root : "", relative);
    if (root && access(path, R_OK) == 0) return path;
    printf("# skipped: the larger reference data (OCTAVO_REFERENCE) does not have %s\n", relative);
    return NULL;
}

static const char *cache_path(const char *relative) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool named = cache && *cache;
    char *path = next_path();
    snprintf(path, 1024, "%s%s/octavo/%s", named ? cache : home ? home : "", named ? "" : "/.cache", relative);
    return path;
}

const char *default_model_path(void) {
    const char *path = cache_path("SmolLM2-135M-Instruct.Q4_1.gguf");
    if (access(path, R_OK) == 0) return path;
    printf("# skipped: the default model is not in the cache folder (make model)\n");
    return NULL;
}

const char *published_tokenizer_path(const char *relative) {
    const char *folder = getenv("OCTAVO_TOKENIZERS");
    char *path = next_path();
    snprintf(path, 1024, "%s/%s", folder && *folder ? folder : cache_path("tokenizers"), relative);
    if (access(path, R_OK) == 0) return path;
    printf("# skipped: %s is not there (make tokenizers)\n", path);
    return NULL;
}

// A tensor's bytes where its elements are aligned; in a file they may start anywhere.
struct golden_copy {
    struct golden_copy *next;
    max_align_t data[];
};

struct golden_file golden_open(const char *path) {
    struct golden_file file;
    oct_error err;
    if (oct_file_read(path, (size_t)1 << 30, &file.bytes, &file.size, &err) != OCT_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    uint64_t length;
    memcpy(&length, file.bytes, sizeof length);
    file.header = json_loadb(file.bytes + 8, length, 0, NULL);
    file.copies = oct_alloc(1, sizeof *file.copies, "the list of a test's tensors");
    return file;
}

void golden_close(struct golden_file *file) {
    for (struct golden_copy *copy = file->copies, *next; copy; copy = next) {
        next = copy->next;
        free(copy);
    }
    json_decref(file->header);
    free(file->bytes);
}

const void *golden_tensor(const struct golden_file *file, const char *name, size_t *count) {
    const json_t *info = json_object_get(file->header, name);
    if (!info) return NULL;
    const json_t *size;
    size_t i;
    *count = 1;
    json_array_foreach(json_object_get(info, "shape"), i, size) *count *= (size_t)json_integer_value(size);
    uint64_t length;
    memcpy(&length, file->bytes, sizeof length);
    const json_t *offsets = json_object_get(info, "data_offsets");
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0)), end = (size_t)json_integer_value(json_array_get(offsets, 1));
    struct golden_copy *copy = oct_alloc(1, sizeof *copy + end - begin, "a test's tensor");
    memcpy(copy->data, file->bytes + 8 + length + begin, end - begin);
    copy->next = file->copies->next;
    file->copies->next = copy;
    return copy->data;
}
