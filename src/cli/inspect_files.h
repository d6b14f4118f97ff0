// inspect_files.h: what the files of a calibration say, whoever wrote them: measurements, scales, shapes, module lists, configurations.
#pragma once

#include "base/error.h"
#include "quant/value.h"

#include <stdbool.h>

// Whether `path` is one of these files, or a folder that is no model.
bool oct_inspects_files(const char *path);
// Shows a file, or every measurement and scale file in a folder and in the folders right below it, as tables or as JSON.
oct_status oct_inspect_files(const char *path, bool json, oct_error *err);

// The nodes of a measurement or scale file as a table, on standard output.
void oct_print_nodes(const struct oct_value *nodes);
