// diff.c: `octavo diff`: what two calibrations say differently: every range and every scale, those furthest apart first.
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "quant/file_name.h"
#include "quant/node_file.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct diff_options {
    const char *a, *b;
    int limit;
    bool json;
};

#define FIELD(name) offsetof(struct diff_options, name)

static const struct oct_flag flags[] = {
    {.name = "limit",
     .short_name = "l",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(limit),
     .min = 0,
     .max = INT_MAX,
     .initial = "20",
     .help = "how many differences to print; 0: all"},
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print JSON"},
    {0},
};

struct difference {
    char *module, *tensor; // owned
    const char *kind;      // "range" or "scale": lifetime of the program
    double a, b;
    double distance; // |log2(b / a)|; infinite where one is 0, infinite or not a number
};

struct comparison {
    struct difference *differences; // (count) owned
    size_t count, tensors;          // tensors: compared
    json_t *only_a, *only_b;        // names: module and tensor, or file. Owned
    json_t *other_shapes;           // names of tensors that hold another number of values in B. Owned
};

// --- tensors ----------------------------------------------------------------------------------------------------------------------

static double distance_of(double a, double b) {
    if (a == b || (isnan(a) && isnan(b))) return 0;
    double distance = fabs(log2(b / a));
    return isnan(distance) ? (double)INFINITY : distance;
}

// Of two arrays the elements that are furthest apart.
static void compare_tensors(struct comparison *out, const char *kind, const char *module, const char *tensor, const struct oct_value *a,
                            const struct oct_value *b) {
    if (!oct_value_is_numbers(a) || !oct_value_is_numbers(b)) return;
    size_t count = oct_array_size(a);
    if (count != oct_array_size(b)) {
        json_array_append_new(out->other_shapes, json_sprintf("%s %s: %zu and %zu numbers", module, tensor, count, oct_array_size(b)));
        return;
    }
    struct difference worst = {.kind = kind};
    for (size_t i = 0; i < count; i++) {
        double x = oct_array_at(a, i), y = oct_array_at(b, i), distance = distance_of(x, y);
        if (distance > worst.distance) worst.a = x, worst.b = y, worst.distance = distance;
    }
    out->tensors++;
    if (!(worst.distance > 0)) return;
    worst.module = oct_strdup(module);
    worst.tensor = oct_strdup(tensor);
    out->differences = oct_resize(out->differences, out->count + 1, sizeof worst, "differences");
    out->differences[out->count++] = worst;
}

static const struct oct_value *weight_of(const struct oct_value *node) {
    const struct oct_value *weight = oct_dict_get(oct_dict_get(node, "params"), "weight");
    return weight && weight->kind == OCT_VALUE_DICT ? oct_dict_get_index(weight, 0) : weight;
}

static void compare_lists(struct comparison *out, const char *kind, const char *module, const char *field, const struct oct_value *a,
                          const struct oct_value *b) {
    const struct oct_value *x = oct_node_list(a, field), *y = oct_node_list(b, field);
    size_t in_a = x ? x->count : 0, in_b = y ? y->count : 0;
    for (size_t i = 0; i < in_a || i < in_b; i++) {
        char tensor[32];
        snprintf(tensor, sizeof tensor, "%s[%zu]", field, i);
        if (i < in_a && i < in_b)
            compare_tensors(out, kind, module, tensor, x->items[i], y->items[i]);
        else
            json_array_append_new(i < in_a ? out->only_a : out->only_b, json_sprintf("%s %s", module, tensor));
    }
}

static void compare_nodes(struct comparison *out, const char *kind, const struct oct_value *a, const struct oct_value *b) {
    for (size_t i = 0; i + 1 < a->count; i += 2) {
        const char *module = a->items[i]->bytes;
        const struct oct_value *mine = a->items[i + 1], *theirs = oct_dict_get(b, module);
        if (!theirs) {
            json_array_append_new(out->only_a, json_string(module));
            continue;
        }
        compare_lists(out, kind, module, "inputs", mine, theirs);
        compare_lists(out, kind, module, "outputs", mine, theirs);
        if (weight_of(mine) && weight_of(theirs)) compare_tensors(out, kind, module, "weight", weight_of(mine), weight_of(theirs));
    }
    for (size_t i = 0; i + 1 < b->count; i += 2)
        if (!oct_dict_get(a, b->items[i]->bytes)) json_array_append_new(out->only_b, json_string(b->items[i]->bytes));
}

// --- files ------------------------------------------------------------------------------------------------------------------------

static void find_files(const char *path, struct oct_file_list *out) {
    *out = (struct oct_file_list){0};
    if (oct_path_is_directory(path)) {
        oct_file_list_gather(path, 2, out);
        return;
    }
    out->paths = oct_alloc(1, sizeof *out->paths, "a path");
    out->paths[out->count++] = oct_strdup(path);
}

// The file of the other side that says the same of its calibration: the same observer, method and rank. An NPZ is what INC reads, so it
// wins over its JSON.
static const char *counterpart(const struct oct_file_name *name, const struct oct_file_list *files) {
    const char *found = NULL;
    for (size_t i = 0; i < files->count; i++) {
        struct oct_file_name other;
        if (oct_file_name_parse(files->paths[i], &other) && !other.mod_list && !strcmp(name->observer, other.observer) &&
            !strcmp(name->method, other.method) && (name->rank < 0 ? 0 : name->rank) == (other.rank < 0 ? 0 : other.rank) &&
            abs(name->world) == abs(other.world) && (!found || other.npz))
            found = files->paths[i];
        oct_file_name_free(&other);
    }
    return found;
}

static oct_status compare_files(struct comparison *out, const char *a, const char *b, oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *root_a, *root_b;
    oct_status status = oct_node_file_read_any(a, &tree, &root_a, err);
    if (status == OCT_OK) status = oct_node_file_read_any(b, &tree, &root_b, err);
    bool scales = status == OCT_OK && oct_value_is_string(oct_dict_get(root_a, "Mode"), "Scale");
    if (status == OCT_OK && scales != oct_value_is_string(oct_dict_get(root_b, "Mode"), "Scale"))
        status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s, %s: two measurements or two scale files expected, one of each found", a, b);
    if (status == OCT_OK) {
        compare_nodes(out, scales ? "scale" : "range", oct_dict_get(root_a, "Nodes"), oct_dict_get(root_b, "Nodes"));
    }
    oct_tree_free(&tree);
    return status;
}

// Whether the file at `i` is the one of its kind to compare: an NPZ, or a JSON without one.
static bool stands_for_its_kind(const struct oct_file_list *files, size_t i, struct oct_file_name *name) {
    return oct_file_name_parse(files->paths[i], name) && !name->mod_list && counterpart(name, files) == files->paths[i];
}

static oct_status compare_folders(struct comparison *out, const struct diff_options *options, oct_error *err) {
    struct oct_file_list a, b;
    find_files(options->a, &a);
    find_files(options->b, &b);
    size_t pairs = 0;
    oct_status status = OCT_OK;
    if (a.count == 1 && b.count == 1) { // two files that were named: whatever they are called
        pairs = 1;
        status = compare_files(out, a.paths[0], b.paths[0], err);
    }
    for (size_t i = 0; i < a.count && !(a.count == 1 && b.count == 1) && status == OCT_OK; i++) {
        struct oct_file_name name;
        if (stands_for_its_kind(&a, i, &name)) {
            const char *other = counterpart(&name, &b);
            if (other)
                status = compare_files(out, a.paths[i], other, err);
            else
                json_array_append_new(out->only_a, json_string(a.paths[i]));
            pairs += other != NULL;
        }
        oct_file_name_free(&name);
    }
    for (size_t i = 0; i < b.count && !(a.count == 1 && b.count == 1); i++) {
        struct oct_file_name name;
        if (stands_for_its_kind(&b, i, &name) && !counterpart(&name, &a)) json_array_append_new(out->only_b, json_string(b.paths[i]));
        oct_file_name_free(&name);
    }
    if (status == OCT_OK && !pairs)
        status = oct_fail(err, OCT_NOT_FOUND,
                          "%s, %s: measurement or scale files of the same observer, method and rank expected, none found in both (octavo "
                          "unify brings other numbers of ranks together)",
                          options->a, options->b);
    oct_file_list_free(&a);
    oct_file_list_free(&b);
    return status;
}

// --- output -----------------------------------------------------------------------------------------------------------------------

static int furthest_first(const void *a, const void *b) {
    const struct difference *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? 1 : -1;
    int order = strcmp(x->module, y->module);
    if (!order) order = strcmp(x->tensor, y->tensor);
    return order ? order : strcmp(x->kind, y->kind);
}

static void print_table(const struct comparison *comparison, const struct diff_options *options) {
    struct oct_table table = {.num_columns = 6};
    size_t shown = options->limit && (size_t)options->limit < comparison->count ? (size_t)options->limit : comparison->count;
    if (shown) oct_table_add(&table, (const char *[]){"what", "module", "tensor", "A", "B", "B / A"});
    for (size_t i = 0; i < shown; i++) {
        const struct difference *d = &comparison->differences[i];
        char a[32], b[32], ratio[32];
        snprintf(a, sizeof a, "%.6g", d->a);
        snprintf(b, sizeof b, "%.6g", d->b);
        snprintf(ratio, sizeof ratio, "%.4g", d->b / d->a);
        oct_table_add(&table, (const char *[]){d->kind, d->module, d->tensor, a, b, ratio});
    }
    oct_table_print(&table, stdout);
    oct_table_free(&table);
    if (shown) putchar('\n');
    printf("%zu tensors compared, %zu differ", comparison->tensors, comparison->count);
    if (shown < comparison->count) printf(" (%zu shown, --limit 0 shows all)", shown);
    putchar('\n');
    const struct {
        const char *title;
        const json_t *names;
    } lists[] = {{"only in A", comparison->only_a}, {"only in B", comparison->only_b}, {"in other shapes", comparison->other_shapes}};
    for (size_t list = 0; list < sizeof lists / sizeof *lists; list++) {
        size_t i;
        json_t *name;
        json_array_foreach(lists[list].names, i, name) printf("%s: %s\n", lists[list].title, json_string_value(name));
    }
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static void print_json(const struct comparison *comparison, const struct diff_options *options) {
    json_t *list = json_array();
    for (size_t i = 0; i < comparison->count && (!options->limit || i < (size_t)options->limit); i++) {
        const struct difference *d = &comparison->differences[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "what", d->kind, "module", d->module, "tensor", d->tensor,
                                              "a", number(d->a), "b", number(d->b), "ratio", number(d->b / d->a)));
    }
    json_t *report = json_pack("{s:s, s:s, s:I, s:I, s:o, s:O, s:O, s:O}", "a", options->a, "b", options->b, "tensors",
                               (json_int_t)comparison->tensors, "differ", (json_int_t)comparison->count, "differences", list, "only_in_a",
                               comparison->only_a, "only_in_b", comparison->only_b, "other_shapes", comparison->other_shapes);
    json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(report);
}

static oct_status run(const void *given, oct_error *err) {
    const struct diff_options *options = given;
    struct comparison comparison = {.only_a = json_array(), .only_b = json_array(), .other_shapes = json_array()};
    oct_status status = compare_folders(&comparison, options, err);
    if (status == OCT_OK) {
        if (comparison.count) qsort(comparison.differences, comparison.count, sizeof *comparison.differences, furthest_first);
        (options->json ? print_json : print_table)(&comparison, options);
    }
    for (size_t i = 0; i < comparison.count; i++) {
        free(comparison.differences[i].module);
        free(comparison.differences[i].tensor);
    }
    free(comparison.differences);
    json_decref(comparison.only_a);
    json_decref(comparison.only_b);
    json_decref(comparison.other_shapes);
    return status;
}

const struct oct_command oct_command_diff = {
    .name = "diff",
    .positional = "A",
    .positional_offset = FIELD(a),
    .second = "B",
    .second_offset = FIELD(b),
    .summary = "compare the ranges and scales of two calibrations, those furthest apart first",
    .details = "A and B are folders, or a measurement or scale file each. Of tensors with many numbers the pair furthest apart counts.\n\n"
               "  octavo diff calibrated/smollm2/g3 other/smollm2/g3\n",
    .options_size = sizeof(struct diff_options),
    .groups = {{"Output", flags, 0}},
    .run = run,
};
