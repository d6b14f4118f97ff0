// locate.c: from what the user calls a model to a path that can be opened.
#include "model/locate.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MODEL_FILE "SmolLM2-135M-Instruct.Q4_1.gguf"

static oct_status locate_default(char **path, oct_error *err) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct oct_buffer file = {0};
    if (cache && *cache)
        oct_buffer_printf(&file, "%s/octavo/%s", cache, DEFAULT_MODEL_FILE);
    else
        oct_buffer_printf(&file, "%s/.cache/octavo/%s", home ? home : "", DEFAULT_MODEL_FILE);
    *path = oct_buffer_take(&file);
    if (oct_path_exists(*path)) return OCT_OK;
    oct_fail(err, OCT_NOT_FOUND, "model smollm2: %s is not there; fetch it with `make model` or `tools/fetch_model.sh`", *path);
    free(*path);
    *path = NULL;
    return OCT_NOT_FOUND;
}

static bool has_config(const char *directory) {
    char *config = oct_path_join(directory, "config.json");
    bool exists = oct_path_exists(config);
    free(config);
    return exists;
}

oct_status oct_model_locate(const char *model, char **path, oct_error *err) {
    if (!strcmp(model, "smollm2")) return locate_default(path, err);
    if (!oct_path_exists(model))
        return oct_fail(err, OCT_NOT_FOUND, "model %s: no such file or folder; a folder with config.json, a .gguf file or smollm2 expected",
                        model);
    if (oct_path_is_directory(model)) {
        if (!has_config(model)) return oct_fail(err, OCT_NOT_FOUND, "model %s: the folder has no config.json", model);
    } else {
        size_t length = strlen(model);
        if (length < 5 || strcmp(model + length - 5, ".gguf"))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "model %s: a folder with config.json or a .gguf file expected", model);
    }
    *path = oct_strdup(model);
    return OCT_OK;
}
