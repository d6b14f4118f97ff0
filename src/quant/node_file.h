// node_file.h: the envelope that INC's measurement and scale files share: {"GlobalRank": null, "LocalRank": r, "Mode": m, "Nodes": {name:
// {"inputs": [...], "outputs": [...], "params": {"weight": ...}}}}. NPZ is what INC reads; the JSON beside it is for people.
#pragma once

#include "base/error.h"
#include "quant/value.h"

// num_samples > 0: the first key is NumSamples. *nodes receives the empty dict of nodes. Returns the root.
struct oct_value *oct_node_file_new(struct oct_tree *tree, int num_samples, int local_rank, const char *mode, struct oct_value **nodes);

// Whatever is read has "Nodes": a dict whose keys are strings and whose values are dicts.
// Reads the NPZ at `path`. *nodes: its dict of nodes, lifetime of the tree.
oct_status oct_node_file_read(const char *path, struct oct_tree *tree, struct oct_value **nodes, oct_error *err);
// JSON, of which `text` has `length` bytes and a NUL: the whole envelope. Lists of numbers are float64 arrays, as numpy makes them when the
// calibration scripts turn JSON into NPZ.
oct_status oct_node_file_parse_json(const char *name, const char *text, size_t length, struct oct_tree *tree, struct oct_value **root,
                                    oct_error *err);
// An NPZ or a JSON file, as its name ends.
oct_status oct_node_file_read_any(const char *path, struct oct_tree *tree, struct oct_value **root, oct_error *err);

// Writes <stem>.json and <stem>.npz, each whole or not at all; creates the folder.
oct_status oct_node_file_write(const char *stem, struct oct_value *root, oct_error *err);

// A list ("inputs", "outputs") of a node, which older files call "input", "output". NULL when it is missing or no list or tuple.
const struct oct_value *oct_node_list(const struct oct_value *node, const char *field);
