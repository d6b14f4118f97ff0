// inspect_files.h: what the measurement and scale files of a folder say, whoever wrote them.
#pragma once

#include "base/error.h"

#include <stdbool.h>

// Shows every INC .npz file in the folder and in the folders right below it, as tables or as JSON.
oct_status oct_inspect_files(const char *folder, bool json, oct_error *err);
