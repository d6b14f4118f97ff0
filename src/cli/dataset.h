// dataset.h: calibration prompts: a .jsonl file (a line: {"prompt"}, {"messages"} or {"system_prompt", "question"}), a .json file (an array
// of such objects or of strings) or a .txt file (a line: a prompt).
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stddef.h>

struct oct_prompt {
    char *text;       // a plain prompt, or NULL. Owned
    json_t *messages; // a chat, where text is NULL: array of {"role", "content"}. Owned
};

struct oct_dataset {
    struct oct_prompt *prompts; // (count) owned
    size_t count;
};

// Reads at most `limit` prompts (0: all). A file without any is an error. On failure there is nothing to free.
oct_status oct_dataset_read(const char *path, size_t limit, struct oct_dataset *out, oct_error *err);
void oct_dataset_free(struct oct_dataset *dataset);
