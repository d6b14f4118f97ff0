// quant_golden.h: reading the golden data of tests/golden/inc (its README.md says what each file holds).
#pragma once

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Paths are built in a few rotating buffers that live until the program ends.
static inline const char *golden(const char *name) {
    static char paths[8][1024];
    static int next;
    const char *root = getenv("OCTAVO_GOLDEN");
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/inc/%s", root ? root : "tests/golden", name);
    return path;
}

static inline json_t *golden_json(const char *name) {
    oct_error err = {0};
    json_t *root = NULL;
    if (oct_json_load(golden(name), 64 << 20, &root, &err) != OCT_OK) fprintf(stderr, "%s\n", err.message);
    return root;
}

// The whole file, NUL-terminated; the caller frees it.
static inline char *golden_text(const char *path, size_t *length) {
    oct_error err = {0};
    char *text = NULL;
    if (oct_file_read(path, 64 << 20, &text, length, &err) != OCT_OK) fprintf(stderr, "%s\n", err.message);
    return text;
}

// The number of `digits` hex digits at text[digits * index].
static inline unsigned hex_at(const char *text, size_t index, int digits) {
    char word[9] = {0};
    for (int i = 0; i < digits; i++) word[i] = text[index * (size_t)digits + (size_t)i];
    return (unsigned)strtoul(word, NULL, 16);
}

// A new empty folder under /tmp, to be removed by remove_folder.
static inline const char *new_folder(void) {
    static char folder[64];
    snprintf(folder, sizeof folder, "/tmp/octavo-quant-XXXXXX");
    return mkdtemp(folder);
}

static inline void remove_folder(const char *folder) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) fprintf(stderr, "cannot remove %s\n", folder);
}

// What `body` writes to standard error, through a file in the folder; the caller frees it.
static inline char *logged(const char *folder, void (*body)(void *context), void *context) {
    char *path = oct_path_join(folder, "stderr");
    fflush(stderr);
    int kept = dup(STDERR_FILENO), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    body(context);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(file);
    size_t length;
    char *text = golden_text(path, &length);
    free(path);
    return text;
}
