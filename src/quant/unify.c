// unify.c: the files of a group of ranks become one tree: the first rank's, into which the others are merged.
#include "quant/unify.h"

#include "base/file.h"
#include "base/memory.h"
#include "numeric/bf16.h"
#include "quant/file_name.h"
#include "quant/node_file.h"
#include "quant/python_json.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// One file of one rank, or of the group as it is merged.
struct part {
    struct oct_tree *tree; // of the group
    struct oct_value *root, *nodes;
    json_t *index; // node name: its position in nodes->items. Owned
    char *path;    // for messages. Owned
};

// A group of ranks being merged.
struct group {
    const struct oct_unify_options *options;
    const struct oct_file_name *name; // of the files
    const struct part *measured;      // of scale files: the group's measurement, NULL when there is none
    struct oct_tree tree;
    struct part unified;
    struct oct_value *names; // of the module list; NULL: there is none
    json_t *listed;          // the same as keys. Owned
    int experts;             // of the first rank
    int left_out;            // nodes that have no place in a unified file
};

// --- experts ----------------------------------------------------------------------------------------------------------------------

static bool contains_moe(const char *name) {
    for (; *name; name++)
        if (!strncasecmp(name, "moe", 3)) return true;
    return false;
}

// The number of an expert's weight, "...moe_op.w13_list.7", and where its digits start; -1: no expert.
static int expert_of(const char *name, size_t *digits) {
    if (!contains_moe(name) || (!strstr(name, ".w13_list") && !strstr(name, ".w2_list"))) return -1;
    const char *dot = strrchr(name, '.');
    size_t length = strlen(dot + 1);
    if (!length || length > 6 || strspn(dot + 1, "0123456789") != length) return -1;
    *digits = (size_t)(dot + 1 - name);
    return atoi(dot + 1);
}

// The operation that runs all experts: its outputs after the first are the experts' intermediate ranges.
static bool runs_experts(const char *name) {
    return contains_moe(name) && !strstr(name, ".w13_list") && !strstr(name, ".w2_list");
}

static int count_experts(const struct oct_value *nodes) {
    int most = -1;
    for (size_t i = 0, digits; i + 1 < nodes->count; i += 2) {
        int expert = expert_of(nodes->items[i]->bytes, &digits);
        if (expert > most) most = expert;
    }
    return most + 1;
}

static char *renumbered(const char *name, size_t digits, int expert) {
    struct oct_buffer text = {0};
    oct_buffer_append(&text, name, digits);
    oct_buffer_printf(&text, "%d", expert);
    return oct_buffer_take(&text);
}

// The name in the group of what the rank at `index` of it calls `name`: experts are numbered through.
static char *name_in_group(const struct group *group, const char *name, int index) {
    size_t digits;
    int expert = group->options->expert_parallel ? expert_of(name, &digits) : -1;
    return expert < 0 ? oct_strdup(name) : renumbered(name, digits, index * group->experts + expert);
}

// --- files ------------------------------------------------------------------------------------------------------------------------

// The JSON is what people edit and the scripts read; a folder may hold the NPZ alone.
static oct_status read_part(struct oct_tree *tree, const struct oct_file_name *name, const char *folder, int rank, int world,
                            struct part *out, oct_error *err) {
    *out = (struct part){.tree = tree, .path = oct_file_name_path(name, folder, rank, world, ".json")};
    if (!oct_path_exists(out->path)) {
        free(out->path);
        out->path = oct_file_name_path(name, folder, rank, world, ".npz");
    }
    OCT_TRY(oct_node_file_read_any(out->path, tree, &out->root, err));
    if (!oct_value_is_storable(out->root)) return oct_fail(err, OCT_CORRUPT, "%s: holds what no such file does", out->path);
    out->nodes = oct_dict_get(out->root, "Nodes");
    out->index = json_object();
    for (size_t i = 0; i + 1 < out->nodes->count; i += 2)
        json_object_set_new(out->index, out->nodes->items[i]->bytes, json_integer((json_int_t)i));
    return OCT_OK;
}

static void free_part(struct part *part) {
    json_decref(part->index);
    free(part->path);
    *part = (struct part){0};
}

static struct oct_value *node_at(const struct part *part, const char *name) {
    const json_t *position = json_object_get(part->index, name);
    return position ? part->nodes->items[json_integer_value(position) + 1] : NULL;
}

// --- merging ----------------------------------------------------------------------------------------------------------------------

// Element by element the larger one; a NaN wins, as it does where ranges are measured.
static struct oct_value *larger(struct oct_tree *tree, const struct oct_value *a, const struct oct_value *b) {
    size_t count = oct_array_size(a);
    double *values = oct_alloc(count + 1, sizeof *values, "a merged tensor");
    for (size_t i = 0; i < count; i++) {
        double x = oct_array_at(a, i), y = oct_array_at(b, i);
        values[i] = y > x || isnan(y) ? y : x;
    }
    struct oct_value *merged = oct_tree_array64(tree, a->num_dims, a->dims, values);
    free(values);
    return merged;
}

static bool same_shape(const struct oct_value *a, const struct oct_value *b) {
    return oct_value_is_numbers(a) && oct_value_is_numbers(b) && a->num_dims == b->num_dims &&
           memcmp(a->dims, b->dims, (size_t)a->num_dims * sizeof *a->dims) == 0;
}

// Merges the first `count` tensors of a list.
static oct_status merge_list(struct group *group, const struct part *other, const char *name, const char *field, struct oct_value *into,
                             const struct oct_value *from, size_t count, oct_error *err) {
    if (!from || from->count < count)
        return oct_fail(err, OCT_CORRUPT, "%s: %s.%s: %zu tensors expected, as in %s, %zu found", other->path, name, field, count,
                        group->unified.path, from ? from->count : 0);
    for (size_t i = 0; i < count; i++) {
        if (!same_shape(into->items[i], from->items[i]))
            return oct_fail(err, OCT_CORRUPT, "%s: %s.%s[%zu]: numbers in the shape of those in %s expected", other->path, name, field, i,
                            group->unified.path);
        into->items[i] = larger(&group->tree, into->items[i], from->items[i]);
    }
    return OCT_OK;
}

static oct_status merge_field(struct group *group, const struct part *other, const char *name, const char *field, struct oct_value *node,
                              const struct oct_value *from, oct_error *err) {
    struct oct_value *into = (struct oct_value *)oct_node_list(node, field);
    if (!into) return OCT_OK;
    const struct oct_value *list = oct_node_list(from, field);
    // Where experts are dealt out, the first tensor is the operation's own and the rest belongs to this rank's experts.
    bool experts = group->options->expert_parallel && runs_experts(name) && !strcmp(field, *group->name->method ? "inputs" : "outputs");
    size_t shared = experts && into->count ? 1 : into->count;
    if (!experts && list && list->count != into->count)
        return oct_fail(err, OCT_CORRUPT, "%s: %s.%s: %zu tensors expected, as in %s, %zu found", other->path, name, field, into->count,
                        group->unified.path, list->count);
    OCT_TRY(merge_list(group, other, name, field, into, list, shared, err));
    for (size_t i = shared; experts && list && i < list->count; i++) oct_value_append(&group->tree, into, list->items[i]);
    return OCT_OK;
}

static struct oct_value **weight_of(struct oct_value *node) {
    struct oct_value *params = oct_dict_get(node, "params");
    for (size_t i = 0; params && params->kind == OCT_VALUE_DICT && i + 1 < params->count; i += 2)
        if (oct_value_is_string(params->items[i], "weight")) return &params->items[i + 1];
    return NULL;
}

static oct_status merge_node(struct group *group, const struct part *other, const char *name, struct oct_value *node,
                             struct oct_value *from, oct_error *err) {
    OCT_TRY(merge_field(group, other, name, "inputs", node, from, err));
    OCT_TRY(merge_field(group, other, name, "outputs", node, from, err));
    struct oct_value **weight = weight_of(node), **theirs = weight_of(from);
    if (!weight || !theirs) return OCT_OK;
    if (!same_shape(*weight, *theirs))
        return oct_fail(err, OCT_CORRUPT, "%s: %s.params.weight: numbers in the shape of those in %s expected", other->path, name,
                        group->unified.path);
    *weight = larger(&group->tree, *weight, *theirs);
    return OCT_OK;
}

static void add_node(struct group *group, const char *name, struct oct_value *node) {
    json_object_set_new(group->unified.index, name, json_integer((json_int_t)group->unified.nodes->count));
    oct_dict_set(&group->tree, group->unified.nodes, oct_tree_string(&group->tree, name), node);
}

static oct_status merge_part(struct group *group, struct part *other, int index, oct_error *err) {
    oct_status status = OCT_OK;
    if (group->options->expert_parallel && count_experts(other->nodes) > group->experts)
        return oct_fail(err, OCT_CORRUPT, "%s: at most %d experts expected, as in %s, %d found", other->path, group->experts,
                        group->unified.path, count_experts(other->nodes));
    for (size_t i = 0; status == OCT_OK && i + 1 < other->nodes->count; i += 2) {
        char *name = name_in_group(group, other->nodes->items[i]->bytes, index);
        struct oct_value *node = node_at(&group->unified, name);
        if (node)
            status = merge_node(group, other, name, node, other->nodes->items[i + 1], err);
        else
            add_node(group, name, other->nodes->items[i + 1]); // an expert, or a module that only this rank met
        free(name);
    }
    return status;
}

// --- scales that are products -----------------------------------------------------------------------------------------------------

// The two scales whose product INC keeps as a node's output scale: of a matmul's inputs, or of a linear's input and weight. A row-parallel
// linear (two outputs measured) has an output scale of its own.
static bool factors_of(const struct group *group, const char *name, struct oct_value *node, const struct oct_value *factors[2]) {
    const struct oct_value *inputs = oct_node_list(node, "inputs"), *outputs = oct_node_list(node, "outputs");
    struct oct_value **weight = weight_of(node);
    struct oct_value *measured = group->measured ? node_at(group->measured, name) : NULL;
    const struct oct_value *measured_outputs = measured ? oct_node_list(measured, "outputs") : NULL;
    if (!inputs || !outputs || outputs->count != 1 || inputs->count + (weight != NULL) != 2) return false;
    if (weight && measured_outputs && measured_outputs->count == 2) return false;
    factors[0] = inputs->items[0];
    factors[1] = weight ? *weight : inputs->items[1];
    for (int i = 0; i < 2; i++)
        if (!oct_value_is_numbers(factors[i]) || oct_array_size(factors[i]) != 1) return false;
    return oct_value_is_numbers(outputs->items[0]) && oct_array_size(outputs->items[0]) == 1;
}

static double product_of(const struct oct_value *const factors[2]) {
    return oct_bf16_round((float)(oct_array_at(factors[0], 0) * oct_array_at(factors[1], 0)));
}

// Notes the nodes of the rank at `index` whose output scale is not a product. Of those that are, the largest products of the ranks need not
// be the product of the largest factors, which is what runs.
static void note_other_outputs(const struct group *group, const struct part *part, int index, json_t *others) {
    for (size_t i = 0; i + 1 < part->nodes->count; i += 2) {
        const struct oct_value *factors[2];
        struct oct_value *node = part->nodes->items[i + 1];
        char *name = name_in_group(group, part->nodes->items[i]->bytes, index);
        bool product =
            factors_of(group, name, node, factors) && oct_array_at(oct_node_list(node, "outputs")->items[0], 0) == product_of(factors);
        if (!product) json_object_set_new(others, name, json_true());
        free(name);
    }
}

static void multiply_again(struct group *group, const json_t *others) {
    struct oct_value *nodes = group->unified.nodes;
    for (size_t i = 0; i + 1 < nodes->count; i += 2) {
        const struct oct_value *factors[2];
        const char *name = nodes->items[i]->bytes;
        if (json_object_get(others, name) || !factors_of(group, name, nodes->items[i + 1], factors)) continue;
        struct oct_value *outputs = (struct oct_value *)oct_node_list(nodes->items[i + 1], "outputs");
        double product = product_of(factors);
        outputs->items[0] = oct_tree_array64(&group->tree, outputs->items[0]->num_dims, outputs->items[0]->dims, &product);
    }
}

// A weight's scales per channel belong to the rows of one rank's shard: they cannot be merged, and a node that a scale file does not have
// is made again from range and weight.
static void leave_out_channels(struct group *group, struct part *part) {
    size_t kept = 0;
    for (size_t i = 0; i + 1 < part->nodes->count; i += 2) {
        struct oct_value **weight = weight_of(part->nodes->items[i + 1]);
        if (weight && (!oct_value_is_numbers(*weight) || oct_array_size(*weight) != 1)) {
            json_object_del(part->index, part->nodes->items[i]->bytes);
            group->left_out++;
            continue;
        }
        part->nodes->items[kept] = part->nodes->items[i];
        part->nodes->items[kept + 1] = part->nodes->items[i + 1];
        json_object_set_new(part->index, part->nodes->items[i]->bytes, json_integer((json_int_t)kept));
        kept += 2;
    }
    part->nodes->count = kept;
}

// --- module lists -----------------------------------------------------------------------------------------------------------------

// Adds the names of a rank's list. A rank without a list adds nothing: what runs does not need them.
static oct_status add_names(struct group *group, int rank, int world, int index, oct_error *err) {
    char *path = oct_file_name_path(group->name, group->options->from, rank, world, "_mod_list.json");
    struct oct_value *list;
    oct_status status = oct_path_exists(path) ? oct_python_json_read(path, &group->tree, &list, err) : OCT_NOT_FOUND;
    if (status == OCT_OK && list->kind != OCT_VALUE_LIST) status = oct_fail(err, OCT_CORRUPT, "%s: a list of names expected", path);
    for (size_t i = 0; status == OCT_OK && i < list->count; i++) {
        if (list->items[i]->kind != OCT_VALUE_STRING) {
            status = oct_fail(err, OCT_CORRUPT, "%s: a list of names expected", path);
            break;
        }
        char *name = name_in_group(group, list->items[i]->bytes, index);
        if (!group->names) group->names = oct_tree_value(&group->tree, OCT_VALUE_LIST);
        if (!json_object_get(group->listed, name)) oct_value_append(&group->tree, group->names, oct_tree_string(&group->tree, name));
        json_object_set_new(group->listed, name, json_true());
        free(name);
    }
    free(path);
    return status == OCT_NOT_FOUND ? OCT_OK : status;
}

// --- a group ----------------------------------------------------------------------------------------------------------------------

static void set_rank(struct group *group, int rank) {
    struct oct_value *root = group->unified.root;
    for (size_t i = 0; i + 1 < root->count; i += 2)
        if (oct_value_is_string(root->items[i], "LocalRank")) root->items[i + 1] = oct_tree_int(&group->tree, rank);
}

static oct_status merge_ranks(struct group *group, int first, int count, int world, oct_error *err) {
    bool scales = *group->name->method;
    json_t *others = json_object(); // nodes whose output scale is not a product in some rank
    group->listed = json_object();
    oct_status status = read_part(&group->tree, group->name, group->options->from, first, world, &group->unified, err);
    if (status == OCT_OK) {
        group->experts = count_experts(group->unified.nodes);
        if (scales) note_other_outputs(group, &group->unified, 0, others);
        if (scales) leave_out_channels(group, &group->unified);
        status = add_names(group, first, world, 0, err);
    }
    for (int i = 1; status == OCT_OK && i < count; i++) {
        struct part other;
        status = read_part(&group->tree, group->name, group->options->from, first + i, world, &other, err);
        if (status == OCT_OK && scales) {
            int left_out = group->left_out;
            note_other_outputs(group, &other, i, others);
            leave_out_channels(group, &other);
            group->left_out = left_out; // the same nodes again
        }
        if (status == OCT_OK) status = merge_part(group, &other, i, err);
        if (status == OCT_OK) status = add_names(group, first + i, world, i, err);
        free_part(&other);
    }
    if (status == OCT_OK && scales) multiply_again(group, others);
    json_decref(others);
    return status;
}

static void free_group(struct group *group) {
    free_part(&group->unified);
    json_decref(group->listed);
    oct_tree_free(&group->tree);
}

static oct_status write_group(const struct group *group, int rank, int world, oct_error *err) {
    char *stem = oct_file_name_path(group->name, group->options->to, rank, world, "");
    char *list = oct_file_name_path(group->name, group->options->to, rank, world, "_mod_list.json");
    oct_status status = oct_node_file_write(stem, group->unified.root, err);
    if (status == OCT_OK && group->names) status = oct_python_json_write(list, group->names, err);
    free(stem);
    free(list);
    return status;
}

// --- a folder ---------------------------------------------------------------------------------------------------------------------

// The kinds of files in a folder: each name without its ranks, once, measurements before the scales made of them.
struct kinds {
    struct oct_file_name *names; // (count) owned
    size_t count;
};

static bool same_kind(const struct oct_file_name *a, const struct oct_file_name *b) {
    return !strcmp(a->prefix, b->prefix) && !strcmp(a->observer, b->observer) && !strcmp(a->method, b->method);
}

static int measurements_first(const void *a, const void *b) {
    const struct oct_file_name *x = a, *y = b;
    if (!*x->method != !*y->method) return *x->method ? 1 : -1;
    int order = strcmp(x->prefix, y->prefix);
    if (!order) order = strcmp(x->observer, y->observer);
    return order ? order : strcmp(x->method, y->method);
}

// Of files with this number of ranks; *most: the largest number of ranks of any measurement in the folder.
static struct kinds kinds_in(const struct oct_file_list *files, int world, int *most) {
    struct kinds kinds = {0};
    *most = -1;
    for (size_t i = 0; i < files->count; i++) {
        struct oct_file_name name;
        bool parsed = oct_file_name_parse(files->paths[i], &name);
        OCT_CHECK(parsed); // or it would not be in the list
        if (!*name.method && !name.mod_list && name.world > *most) *most = name.world;
        bool known = name.mod_list || name.world != world;
        for (size_t j = 0; j < kinds.count && !known; j++) known = same_kind(&kinds.names[j], &name);
        if (known) {
            oct_file_name_free(&name);
            continue;
        }
        kinds.names = oct_resize(kinds.names, kinds.count + 1, sizeof *kinds.names, "kinds of files");
        kinds.names[kinds.count++] = name;
    }
    if (kinds.count) qsort(kinds.names, kinds.count, sizeof *kinds.names, measurements_first);
    return kinds;
}

static void free_kinds(struct kinds *kinds) {
    for (size_t i = 0; i < kinds->count; i++) oct_file_name_free(&kinds->names[i]);
    free(kinds->names);
}

static oct_status check_ranks(const char *folder, int most, int ranks, oct_error *err) {
    if (!oct_path_is_directory(folder))
        return oct_fail(err, OCT_NOT_FOUND, "%s: a folder of measurement files expected, none found", folder);
    if (most < 0) return oct_fail(err, OCT_NOT_FOUND, "%s: measurement files *_hooks_*_RANK_RANKS.json expected, none found", folder);
    if (ranks < 1 || ranks >= most || most % ranks != 0)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "Original total_rank %d should be larger than your target rank %d and be divisible by it (%s)", most, ranks,
                        folder);
    return OCT_OK;
}

// Every rank's file must be there before any is merged: a missing one would lower the ranges without a word.
static oct_status check_complete(const struct kinds *kinds, const char *folder, int world, oct_error *err) {
    for (size_t i = 0; i < kinds->count; i++)
        for (int rank = 0; rank < world; rank++) {
            char *json = oct_file_name_path(&kinds->names[i], folder, rank, world, ".json");
            char *npz = oct_file_name_path(&kinds->names[i], folder, rank, world, ".npz");
            bool there = oct_path_exists(json) || oct_path_exists(npz);
            oct_status status = OCT_OK;
            if (!there) status = oct_fail(err, OCT_NOT_FOUND, "%s: not found; the files of all %d ranks are needed", json, world);
            free(json);
            free(npz);
            OCT_TRY(status);
        }
    return OCT_OK;
}

// Scale files are believed before the measurement is: those in the result's place that are not written now are of other ranges.
static oct_status remove_stale_scales(const struct kinds *written, const char *folder, int world, int *removed, oct_error *err) {
    struct oct_file_list files;
    oct_file_list_gather(folder, 0, &files);
    oct_status status = OCT_OK;
    for (size_t i = 0; status == OCT_OK && i < files.count; i++) {
        struct oct_file_name name;
        oct_file_name_parse(files.paths[i], &name);
        bool stale = *name.method && name.world == world, measured = false;
        for (size_t j = 0; j < written->count; j++) {
            const struct oct_file_name *kind = &written->names[j];
            if (same_kind(kind, &name)) stale = false;
            if (!*kind->method && !strcmp(kind->prefix, name.prefix) && !strcmp(kind->observer, name.observer)) measured = true;
        }
        if (stale && measured) {
            if (unlink(files.paths[i]) != 0)
                status = oct_fail(err, OCT_IO, "%s: cannot remove the old scales: %s", files.paths[i], strerror(errno));
            (*removed)++;
        }
        oct_file_name_free(&name);
    }
    oct_file_list_free(&files);
    return status;
}

static const struct part *measurement_of(const struct kinds *kinds, const struct group *groups, int ranks, size_t kind, int rank) {
    for (size_t i = 0; i < kind; i++)
        if (!*kinds->names[i].method && !strcmp(kinds->names[i].prefix, kinds->names[kind].prefix) &&
            !strcmp(kinds->names[i].observer, kinds->names[kind].observer))
            return &groups[i * (size_t)ranks + (size_t)rank].unified;
    return NULL;
}

static oct_status merge_and_write(const struct oct_unify_options *options, const struct kinds *kinds, int world,
                                  struct oct_unify_report *report, oct_error *err) {
    size_t count = kinds->count * (size_t)options->ranks;
    struct group *groups = oct_alloc(count, sizeof *groups, "groups of ranks");
    oct_status status = OCT_OK;
    int size = world / options->ranks;
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        size_t kind = i / (size_t)options->ranks;
        int rank = (int)(i % (size_t)options->ranks);
        groups[i].options = options;
        groups[i].name = &kinds->names[kind];
        if (*kinds->names[kind].method) groups[i].measured = measurement_of(kinds, groups, options->ranks, kind, rank);
        status = merge_ranks(&groups[i], rank * size, size, world, err);
        if (status == OCT_OK) set_rank(&groups[i], options->ranks == 1 ? -1 : rank); // as the scripts write it
    }
    if (status == OCT_OK) status = oct_make_directories(options->to, err);
    if (status == OCT_OK) status = remove_stale_scales(kinds, options->to, options->ranks, &report->stale_removed, err);
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        status = write_group(&groups[i], (int)(i % (size_t)options->ranks), options->ranks, err);
        (*groups[i].name->method ? report->scales++ : report->measurements++);
        report->left_out += groups[i].left_out;
    }
    for (size_t i = 0; i < count; i++) free_group(&groups[i]);
    free(groups);
    return status;
}

static void drop_scales(struct kinds *kinds) {
    while (kinds->count && *kinds->names[kinds->count - 1].method) oct_file_name_free(&kinds->names[--kinds->count]);
}

oct_status oct_unify(const struct oct_unify_options *options, struct oct_unify_report *report, oct_error *err) {
    *report = (struct oct_unify_report){0};
    struct oct_file_list files;
    oct_file_list_gather(options->from, 0, &files);
    struct kinds kinds = kinds_in(&files, -2, &report->ranks); // of no file: only the number of ranks is of interest
    oct_status status = check_ranks(options->from, report->ranks, options->ranks, err);
    if (status == OCT_OK) {
        int most;
        kinds = kinds_in(&files, report->ranks, &most);
        if (options->skip_scales) drop_scales(&kinds);
        status = check_complete(&kinds, options->from, report->ranks, err);
    }
    if (status == OCT_OK) status = merge_and_write(options, &kinds, report->ranks, report, err);
    free_kinds(&kinds);
    oct_file_list_free(&files);
    return status;
}

// --- expanding --------------------------------------------------------------------------------------------------------------------

// Keeps the intermediate ranges of the rank's experts, and the operation's own output.
static oct_status deal_out(struct group *group, int rank, int ranks, oct_error *err) {
    for (size_t i = 0; i + 1 < group->unified.nodes->count; i += 2) {
        const char *name = group->unified.nodes->items[i]->bytes;
        struct oct_value *outputs = (struct oct_value *)oct_node_list(group->unified.nodes->items[i + 1], "outputs");
        if (!runs_experts(name) || !outputs) continue;
        int found = (int)outputs->count - 1;
        if (found != group->experts || found % ranks != 0)
            return oct_fail(err, OCT_CORRUPT,
                            "%s: %s.outputs: one tensor and %d experts' ranges expected, to be shared by %d ranks, %d found",
                            group->unified.path, name, group->experts, ranks, found);
        size_t each = (size_t)(found / ranks);
        for (size_t k = 0; k < each; k++) outputs->items[1 + k] = outputs->items[1 + (size_t)rank * each + k];
        outputs->count = 1 + each;
    }
    return OCT_OK;
}

static oct_status expand_rank(struct group *group, int world, int rank, int ranks, oct_error *err) {
    group->listed = json_object();
    OCT_TRY(read_part(&group->tree, group->name, group->options->from, world < 0 ? -1 : 0, world, &group->unified, err));
    group->experts = count_experts(group->unified.nodes);
    OCT_TRY(add_names(group, world < 0 ? -1 : 0, world, 0, err));
    OCT_TRY(deal_out(group, rank, ranks, err));
    set_rank(group, rank);
    return OCT_OK;
}

oct_status oct_expand(const char *from, const char *to, int ranks, struct oct_unify_report *report, oct_error *err) {
    *report = (struct oct_unify_report){.ranks = 1};
    struct oct_unify_options options = {.from = from, .to = to, .ranks = ranks};
    struct oct_file_list files;
    oct_file_list_gather(from, 0, &files);
    int most, world = 1;
    struct kinds kinds = kinds_in(&files, 1, &most);
    drop_scales(&kinds);
    if (!kinds.count) {
        free_kinds(&kinds);
        kinds = kinds_in(&files, world = -1, &most);
        drop_scales(&kinds);
    }
    oct_status status = OCT_OK;
    if (!kinds.count)
        status = oct_fail(err, OCT_NOT_FOUND, "%s: the measurement of one rank, *_hooks_*_0_1.json, expected, none found", from);
    size_t count = kinds.count * (size_t)ranks;
    struct group *groups = oct_alloc(count + 1, sizeof *groups, "ranks");
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        groups[i].options = &options;
        groups[i].name = &kinds.names[i / (size_t)ranks];
        status = expand_rank(&groups[i], world, (int)(i % (size_t)ranks), ranks, err);
    }
    if (status == OCT_OK) status = oct_make_directories(to, err);
    if (status == OCT_OK) status = remove_stale_scales(&kinds, to, ranks, &report->stale_removed, err);
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        status = write_group(&groups[i], (int)(i % (size_t)ranks), ranks, err);
        report->measurements++;
    }
    for (size_t i = 0; i < count; i++) free_group(&groups[i]);
    free(groups);
    free_kinds(&kinds);
    oct_file_list_free(&files);
    return status;
}
