// pickle.h: the subset of Python's pickle format that INC's npz files use (a dict of lists of numpy arrays). Reading builds values and
// executes nothing: the only callables known are numpy's array constructors, and any other name is an error. Containers form a tree: a
// pickle that refers twice to one list or dict is refused (numpy writes none), so that a small file cannot stand for a huge one.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "quant/value.h"

// Reads protocols 2 to 5, as numpy 1 and numpy 2 write them: a 0-d object array, whose element becomes *out (lifetime of the tree).
// `name` stands in messages for the source.
oct_status oct_pickle_read(const char *name, const void *bytes, size_t length, struct oct_tree *tree, struct oct_value **out,
                           oct_error *err);

// Appends the 0-d object array that holds `value`, byte for byte as numpy 1.26 writes it (protocol 3, "numpy.core"): every numpy from
// 1.13 to 2.x loads that.
void oct_pickle_write(struct oct_value *value, struct oct_buffer *out);
