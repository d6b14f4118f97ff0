// locate.h: where the model that a user names lies.
#pragma once

#include "base/error.h"

// "smollm2" is the default model in the cache ($XDG_CACHE_HOME/octavo, or ~/.cache/octavo); anything else is the path of a folder with
// config.json or of a .gguf file. *path is what oct_checkpoint_open takes, and exists; free() it.
oct_status oct_model_locate(const char *model, char **path, oct_error *err);
