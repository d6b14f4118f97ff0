// share.h: the data files that come with Octavo: calibration prompts, the evaluation text.
#pragma once

#include "base/error.h"

// The path of a file in share/octavo, which is searched in the folder that OCTAVO_SHARE names, then beside the program's own folder:
// build/octavo and prefix/bin/octavo both have it in ../share/octavo. *path exists; free() it.
oct_status oct_share_file(const char *name, char **path, oct_error *err);
