// golden.h: where tests find reference data.
#pragma once

#include "base/buffer.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// tests/golden/NAME (OCTAVO_GOLDEN) or the larger reference folder's NAME (OCTAVO_REFERENCE). Static storage, one path at a time.
static inline const char *golden_path(bool reference, const char *name) {
    static char path[4096];
    const char *root = getenv(reference ? "OCTAVO_REFERENCE" : "OCTAVO_GOLDEN");
    snprintf(path, sizeof path, "%s/%s", root ? root : reference ? "" : "tests/golden", name);
    return path;
}

// Parses a JSON file, through gzip where its name ends in .gz. NULL, and why on standard output, when it is not there.
static inline json_t *golden_json(const char *path) {
    size_t length = strlen(path);
    bool packed = length > 3 && strcmp(path + length - 3, ".gz") == 0;
    char command[5000];
    snprintf(command, sizeof command, packed ? "gzip -dc '%s'" : "cat '%s'", path);
    FILE *probe = fopen(path, "rb");
    if (!probe) {
        printf("# skipped: %s is not there\n", path);
        return NULL;
    }
    fclose(probe);
    FILE *pipe = popen(command, "r");
    struct oct_buffer text = {0};
    char block[65536];
    for (size_t n; (n = fread(block, 1, sizeof block, pipe)) > 0;) oct_buffer_append(&text, block, n);
    pclose(pipe);
    oct_error err = {0};
    json_t *json = NULL;
    if (oct_json_parse(path, text.data, text.length, &json, &err) != OCT_OK) printf("# %s\n", err.message);
    oct_buffer_free(&text);
    return json;
}
