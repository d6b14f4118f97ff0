// file_name.h: the names of INC's files, taken apart: <prefix>_hooks_<observer>[_<SCALE_METHOD>][_<rank>_<world>][_mod_list].json or .npz.
// Everything is compared whole: "_0_1" is not part of "_0_16".
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct oct_file_name {
    char *prefix;    // the last part of dump_stats_path: "inc_output". Owned
    char *observer;  // "maxabs". Owned
    char *method;    // of a scale file: "MAXABS_HW"; "" of a measurement. Owned
    int rank, world; // -1: the name has none
    bool mod_list, json, npz;
};

// Takes the last part of `path` apart; false when it is no such name. Free with oct_file_name_free.
bool oct_file_name_parse(const char *path, struct oct_file_name *out);
void oct_file_name_free(struct oct_file_name *name);
// The path in `folder` of the file that belongs to `name` at another rank and with another ending (".json", "_mod_list.json"); rank < 0:
// without ranks. The caller frees it.
char *oct_file_name_path(const struct oct_file_name *name, const char *folder, int rank, int world, const char *ending);

struct oct_file_list {
    char **paths; // (count) sorted. Owned
    size_t count;
};
// All files with such names in `folder` and, `depth` levels deep, in those below it, without the backup_ folders of earlier runs.
void oct_file_list_gather(const char *folder, int depth, struct oct_file_list *out);
void oct_file_list_free(struct oct_file_list *list);
