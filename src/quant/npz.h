// npz.h: INC's .npz files: a zip with one stored member arr_0.npy, which is a 0-d object array whose pickle is a dict. Read through
// libzip (stored or deflated); written by hand, because numpy's zip is small and fixed and the file should equal numpy's own.
#pragma once

#include "base/error.h"
#include "quant/value.h"

oct_status oct_npz_read(const char *path, struct oct_tree *tree, struct oct_value **out, oct_error *err);
// The same from memory; `name` stands in messages for the file.
oct_status oct_npz_parse(const char *name, const void *bytes, size_t length, struct oct_tree *tree, struct oct_value **out, oct_error *err);
// Byte for byte the file that numpy 1.26's savez writes. Whole or not at all.
oct_status oct_npz_write(const char *path, struct oct_value *value, oct_error *err);
