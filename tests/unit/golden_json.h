// golden_json.h: reference data kept as JSON, plain or through gzip.
#pragma once

#include "base/buffer.h"
#include "base/json.h"
#include "golden_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Parses a file; its name may end in .gz. Ends the program with a message when it cannot be read.
static inline json_t *golden_json(const char *path) {
    size_t length = strlen(path);
    char command[5000];
    snprintf(command, sizeof command, length > 3 && !strcmp(path + length - 3, ".gz") ? "gzip -dc '%s'" : "cat '%s'", path);
    FILE *pipe = popen(command, "r");
    struct oct_buffer text = {0};
    char block[65536];
    for (size_t n; pipe && (n = fread(block, 1, sizeof block, pipe)) > 0;) oct_buffer_append(&text, block, n);
    if (pipe) pclose(pipe);
    oct_error err = {0};
    json_t *json = NULL;
    if (!text.length || oct_json_parse(path, text.data, text.length, &json, &err) != OCT_OK) {
        fprintf(stderr, "%s: cannot be read: %s\n", path, err.message);
        exit(1);
    }
    oct_buffer_free(&text);
    return json;
}
