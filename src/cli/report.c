// report.c: `octavo report`: one HTML page about the files of a calibration: what ranges were measured, what room the scales leave above
// them, what is clipped, and what each module costs. Nothing in the page points outside it.
#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/svg_chart.h"
#include "quant/file_name.h"
#include "quant/node_file.h"
#include "quant/scale_method.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct report_options {
    const char *folder, *output, *device;
};

#define FIELD(name) offsetof(struct report_options, name)

static const struct oct_flag flags[] = {
    {.name = "output",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(output),
     .metavar = "FILE",
     .help = "the page to write (default: report.html in DIR)"},
    {.name = "device",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(device),
     .choices = "gaudi2|gaudi3",
     .help = "whose FP8 the scales are for (default: the card that a folder g2 or g3 of the files names, or gaudi3)"},
    {0},
};

enum { MAX_REPORT_BYTES = 16 << 20, MAX_LAYERS = 4096 };

// One tensor of a module: its range, and the scale that it is quantized with. Numbers that are not known are NaN.
struct tensor {
    char *module; // owned
    char what[32];
    int layer;          // -1: the module is in none
    const char *suffix; // of the module's name after its layer: into `module`
    double amax, scale;
};

struct tensors {
    struct tensor *items; // (count) owned
    size_t count;
    int num_layers;
};

// --- tensors ----------------------------------------------------------------------------------------------------------------------

static double largest(const struct oct_value *array) {
    if (!oct_value_is_numbers(array) || !oct_array_size(array)) return (double)NAN;
    double most = oct_array_at(array, 0);
    for (size_t i = 1; i < oct_array_size(array); i++) most = fmax(most, oct_array_at(array, i));
    return most;
}

static double one_number(const struct oct_value *array) {
    return oct_value_is_numbers(array) && oct_array_size(array) == 1 ? oct_array_at(array, 0) : (double)NAN;
}

static const struct oct_value *item_of(const struct oct_value *node, const char *field, size_t index) {
    const struct oct_value *list = oct_node_list(node, field);
    return list && index < list->count ? list->items[index] : NULL;
}

static void add(struct tensors *tensors, const char *module, const char *what, const struct oct_value *range, double scale) {
    double amax = largest(range);
    if (isnan(amax) && isnan(scale)) return;
    struct tensor tensor = {.module = oct_strdup(module), .layer = -1, .amax = amax, .scale = scale};
    snprintf(tensor.what, sizeof tensor.what, "%s", what);
    int layer, end = 0;
    tensor.suffix = tensor.module;
    if (sscanf(tensor.module, "model.layers.%5d.%n", &layer, &end) == 1 && end && layer >= 0 && layer < MAX_LAYERS) {
        tensor.layer = layer;
        tensor.suffix = tensor.module + end;
        if (layer >= tensors->num_layers) tensors->num_layers = layer + 1;
    }
    if (tensors->count % 64 == 0) tensors->items = oct_resize(tensors->items, tensors->count + 64, sizeof tensor, "tensors");
    tensors->items[tensors->count++] = tensor;
}

// The range that the scale of an input was made of: its own, but for data that comes out of the cache with what lay there before, and for
// the probabilities inside the fused attention, which are both measured as outputs.
static const struct oct_value *range_of_input(const char *module, const struct oct_value *measured, size_t index) {
    bool spread = oct_ends_with(module, ".batch2block_matmul") || oct_ends_with(module, ".block2batch_matmul");
    if (spread && index == 1) return item_of(measured, "outputs", 0);
    if (oct_ends_with(module, ".fused_scaled_dot_product_attention") && index == 3) return item_of(measured, "outputs", 1);
    return item_of(measured, "inputs", index);
}

static void add_node(struct tensors *tensors, const char *module, const struct oct_value *measured, const struct oct_value *scaled) {
    const struct oct_value *inputs = oct_node_list(scaled ? scaled : measured, "inputs");
    for (size_t i = 0; inputs && i < inputs->count; i++) {
        char what[32];
        snprintf(what, sizeof what, "input %zu", i);
        if (inputs->count == 1) snprintf(what, sizeof what, "input");
        double scale = scaled ? one_number(inputs->items[i]) : (double)NAN;
        if (!(oct_ends_with(module, ".softmax") && !scaled)) add(tensors, module, what, range_of_input(module, measured, i), scale);
    }
    if (oct_ends_with(module, ".softmax"))
        add(tensors, module, "output", item_of(measured, "outputs", 0), one_number(item_of(scaled, "outputs", 0)));
    const struct oct_value *range = oct_dict_get(oct_dict_get(measured, "params"), "weight");
    const struct oct_value *scale = oct_dict_get(oct_dict_get(scaled, "params"), "weight");
    if (range) add(tensors, module, "weight", range, one_number(scale));
}

static void free_tensors(struct tensors *tensors) {
    for (size_t i = 0; i < tensors->count; i++) free(tensors->items[i].module);
    free(tensors->items);
}

// By how much the largest value of FP8 is above the largest that was measured; below 1 values are clipped.
static double headroom_of(const struct tensor *tensor, float full_scale) {
    return tensor->amax > 0 ? tensor->scale * (double)full_scale / tensor->amax : (double)NAN;
}

// --- charts -----------------------------------------------------------------------------------------------------------------------

typedef double value_of(const struct tensor *tensor, float full_scale);

static double amax_of(const struct tensor *tensor, float full_scale) {
    (void)full_scale;
    return tensor->amax;
}

// What is drawn together.
enum group { LINEAR_INPUTS, ATTENTION, WEIGHTS, NUM_GROUPS };
static const char *const group_names[NUM_GROUPS] = {"inputs of linears", "attention", "weights"};

static enum group group_of(const struct tensor *tensor) {
    if (!strcmp(tensor->what, "weight")) return WEIGHTS;
    return strstr(tensor->suffix, "attn.impl.") ? ATTENTION : LINEAR_INPUTS;
}

static const char *short_name(const struct tensor *tensor) {
    const char *dot = strrchr(tensor->suffix, '.');
    return dot ? dot + 1 : tensor->suffix;
}

static void draw_group(struct oct_buffer *page, const struct tensors *tensors, enum group group, const char *title, value_of *value,
                       float full_scale, double mark) {
    struct oct_chart_series series[OCT_CHART_COLOURS] = {0};
    char names[OCT_CHART_COLOURS][96];
    double *values[OCT_CHART_COLOURS];
    int count = 0;
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->items[i];
        char name[96];
        if (tensor->layer < 0 || group_of(tensor) != group) continue;
        snprintf(name, sizeof name, "%.60s%s%s", short_name(tensor), group == WEIGHTS || !strcmp(tensor->what, "input") ? "" : ", ",
                 group == WEIGHTS || !strcmp(tensor->what, "input") ? "" : tensor->what);
        int at = 0;
        while (at < count && strcmp(names[at], name) != 0) at++;
        if (at == OCT_CHART_COLOURS) continue; // the table below the charts has everything
        if (at == count) {
            snprintf(names[count], sizeof names[count], "%s", name);
            values[count] = oct_alloc((size_t)tensors->num_layers, sizeof **values, "a chart");
            for (int x = 0; x < tensors->num_layers; x++) values[count][x] = (double)NAN;
            series[count] = (struct oct_chart_series){names[count], values[count]};
            count++;
        }
        values[at][tensor->layer] = value(tensor, full_scale);
    }
    oct_chart_lines(page, title, series, count, tensors->num_layers, mark);
    for (int i = 0; i < count; i++) free(values[i]);
}

static void draw_groups(struct oct_buffer *page, const struct tensors *tensors, const char *what, value_of *value, float full_scale,
                        double mark) {
    for (int group = 0; group < NUM_GROUPS; group++) {
        char title[96];
        snprintf(title, sizeof title, "%s: %s", what, group_names[group]);
        draw_group(page, tensors, (enum group)group, title, value, full_scale, mark);
    }
}

static void write_clipping(struct oct_buffer *page, const struct tensors *tensors, float full_scale) {
    size_t clipped = 0;
    for (size_t i = 0; i < tensors->count; i++) clipped += headroom_of(&tensors->items[i], full_scale) < 1;
    oct_buffer_puts(page, "<h3>Clipping</h3>\n");
    if (!clipped) {
        oct_buffer_puts(page,
                        "<p>Nothing that was measured is clipped: every scale times the largest value of FP8 is above the range.</p>\n");
        return;
    }
    oct_buffer_printf(page, "<p>%zu tensors have values that FP8 cannot hold under their scale; they end at the value shown.</p>\n<table>",
                      clipped);
    oct_buffer_puts(page, "<tr><th>module<th>tensor<th>range<th>ends at<th>of the range\n");
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->items[i];
        double headroom = headroom_of(tensor, full_scale);
        if (!(headroom < 1)) continue;
        oct_buffer_puts(page, "<tr><td>");
        oct_html_text(page, tensor->module);
        oct_buffer_printf(page, "<td>%s<td>%.5g<td>%.5g<td>%.1f %%\n", tensor->what, tensor->amax, tensor->scale * (double)full_scale,
                          100 * headroom);
    }
    oct_buffer_puts(page, "</table>\n");
}

static void write_table(struct oct_buffer *page, const struct tensors *tensors, float full_scale, bool scales) {
    oct_buffer_printf(page, "<details><summary>All %zu tensors</summary><table><tr><th>module<th>tensor<th>range%s\n", tensors->count,
                      scales ? "<th>scale<th>headroom" : "");
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *tensor = &tensors->items[i];
        oct_buffer_puts(page, "<tr><td>");
        oct_html_text(page, tensor->module);
        oct_buffer_printf(page, "<td>%s<td>%.6g", tensor->what, tensor->amax);
        if (scales && isnan(tensor->scale)) oct_buffer_puts(page, "<td>per channel<td>");
        if (scales && !isnan(tensor->scale)) oct_buffer_printf(page, "<td>%.6g<td>%.3g", tensor->scale, headroom_of(tensor, full_scale));
        oct_buffer_puts(page, "\n");
    }
    oct_buffer_puts(page, "</table></details>\n");
}

// --- sections ---------------------------------------------------------------------------------------------------------------------

// "g2" or "g3", the folder of a calibration's files, says whose FP8 it is, wherever the path to it starts.
static enum oct_profile profile_of(const char *path, const char *device) {
    if (device) return strcmp(device, "gaudi2") == 0 ? OCT_GAUDI2 : OCT_GAUDI3;
    char *absolute = realpath(path, NULL);
    bool gaudi2 = absolute && strstr(absolute, "/g2/");
    free(absolute);
    return gaudi2 ? OCT_GAUDI2 : OCT_GAUDI3;
}

static oct_status write_section(struct oct_buffer *page, const char *measurement, const char *scales, const char *device, oct_error *err) {
    struct oct_tree tree = {0};
    struct oct_value *measured_root, *scaled_root = NULL;
    struct tensors tensors = {0};
    oct_status status = oct_node_file_read_any(measurement, &tree, &measured_root, err);
    if (status == OCT_OK && scales) status = oct_node_file_read_any(scales, &tree, &scaled_root, err);
    if (status == OCT_OK) {
        const struct oct_value *measured = oct_dict_get(measured_root, "Nodes"),
                               *scaled = scales ? oct_dict_get(scaled_root, "Nodes") : NULL;
        const struct oct_value *names = scaled ? scaled : measured;
        for (size_t i = 0; i + 1 < names->count; i += 2) {
            const char *module = names->items[i]->bytes;
            add_node(&tensors, module, oct_dict_get(measured, module), oct_dict_get(scaled, module));
        }
        enum oct_profile profile = profile_of(measurement, device);
        float full_scale = oct_profile_full_scale(profile);
        oct_buffer_puts(page, "<section><h2>");
        oct_html_text(page, scales ? scales : measurement);
        oct_buffer_puts(page, "</h2>\n");
        if (!scales) draw_groups(page, &tensors, "Ranges", amax_of, full_scale, 0);
        if (scales) {
            oct_buffer_printf(page,
                              "<p>Headroom is the largest value that FP8 of %s holds under a scale (scale × %.0f) over the largest that "
                              "was measured. Below 1 values are clipped; far above it, small values lose precision.</p>\n",
                              oct_profile_name(profile), (double)full_scale);
            draw_groups(page, &tensors, "Headroom", headroom_of, full_scale, 1);
            write_clipping(page, &tensors, full_scale);
        }
        write_table(page, &tensors, full_scale, scales);
        oct_buffer_puts(page, "</section>\n");
    }
    free_tensors(&tensors);
    oct_tree_free(&tree);
    return status;
}

// Whether both are NPZ files of one calibration, `scales` those made of `measurement`.
static bool belong_together(const char *measurement, const char *scales) {
    struct oct_file_name a, b;
    bool named = oct_file_name_parse(measurement, &a), both = oct_file_name_parse(scales, &b) && named; // both are filled in any case
    const char *slash_a = strrchr(measurement, '/'), *slash_b = strrchr(scales, '/');
    bool same = both && a.npz && b.npz && !*a.method && *b.method && !strcmp(a.prefix, b.prefix) && !strcmp(a.observer, b.observer) &&
                a.rank == b.rank && a.world == b.world && slash_a - measurement == slash_b - scales &&
                !strncmp(measurement, scales, (size_t)(slash_a - measurement));
    oct_file_name_free(&a);
    oct_file_name_free(&b);
    return same;
}

static bool is_measurement(const char *path) {
    struct oct_file_name name;
    bool is = oct_file_name_parse(path, &name) && name.npz && !*name.method && !strcmp(name.observer, "maxabs");
    oct_file_name_free(&name);
    return is;
}

static oct_status write_sections(struct oct_buffer *page, const struct oct_file_list *files, const char *device, int *sections,
                                 oct_error *err) {
    for (size_t i = 0; i < files->count; i++) {
        if (!is_measurement(files->paths[i])) continue;
        OCT_TRY(write_section(page, files->paths[i], NULL, device, err));
        for (size_t j = 0; j < files->count; j++)
            if (belong_together(files->paths[i], files->paths[j]))
                OCT_TRY(write_section(page, files->paths[i], files->paths[j], device, err));
        (*sections)++;
    }
    return OCT_OK;
}

// --- the report of a calibration --------------------------------------------------------------------------------------------------

static const char *const unit_names[] = {"self_attn.qkv_proj", "self_attn.attn.impl", "self_attn.o_proj", "mlp.gate_up_proj",
                                         "mlp.down_proj"};
enum { NUM_UNITS = sizeof unit_names / sizeof *unit_names };

static int layers_in(const json_t *modules) {
    size_t i;
    json_t *module;
    int layers = 0;
    json_array_foreach(modules, i, module) {
        int layer;
        const char *name = json_string_value(json_object_get(module, "module"));
        if (name && sscanf(name, "model.layers.%5d.", &layer) == 1 && layer >= layers && layer < MAX_LAYERS) layers = layer + 1;
    }
    return layers;
}

static void draw_errors(struct oct_buffer *page, const json_t *modules) {
    struct oct_chart_series series[NUM_UNITS] = {0};
    double *values[NUM_UNITS];
    int layers = layers_in(modules);
    size_t i;
    json_t *module;
    for (int unit = 0; unit < NUM_UNITS; unit++) {
        values[unit] = oct_alloc((size_t)layers + 1, sizeof **values, "a chart");
        series[unit] = (struct oct_chart_series){unit_names[unit], values[unit]};
    }
    json_array_foreach(modules, i, module) {
        int layer, end = 0;
        const char *name = json_string_value(json_object_get(module, "module"));
        if (!name || sscanf(name, "model.layers.%5d.%n", &layer, &end) != 1 || !end || layer < 0 || layer >= layers) continue;
        for (int unit = 0; unit < NUM_UNITS; unit++)
            if (!strcmp(name + end, unit_names[unit])) values[unit][layer] = json_number_value(json_object_get(module, "kl"));
    }
    oct_chart_heat(page, "Error of each module: KL divergence with it alone in FP8, by layer", series, NUM_UNITS, layers);
    for (int unit = 0; unit < NUM_UNITS; unit++) free(values[unit]);
}

static int costliest_first(const void *a, const void *b) {
    double x = json_number_value(json_object_get(*(json_t *const *)a, "kl")),
           y = json_number_value(json_object_get(*(json_t *const *)b, "kl"));
    return (x < y) - (x > y);
}

static void list_errors(struct oct_buffer *page, const json_t *modules) {
    enum { WORST = 12 };
    size_t count = json_array_size(modules);
    if (!count) return;
    const json_t **order = oct_alloc(count, sizeof *order, "an order of modules");
    for (size_t i = 0; i < count; i++) order[i] = json_array_get(modules, i);
    qsort(order, count, sizeof *order, costliest_first);
    oct_buffer_puts(page, "<table><tr><th>costliest modules<th>KL alone in FP8\n");
    for (size_t i = 0; i < count && i < WORST; i++) {
        const char *name = json_string_value(json_object_get(order[i], "module"));
        oct_buffer_puts(page, "<tr><td>");
        oct_html_text(page, name ? name : "?");
        oct_buffer_printf(page, "<td>%.3e\n", json_number_value(json_object_get(order[i], "kl")));
    }
    oct_buffer_puts(page, "</table>\n");
    free(order);
}

static oct_status write_errors(struct oct_buffer *page, const char *path, oct_error *err) {
    json_t *root;
    OCT_TRY(oct_json_load(path, MAX_REPORT_BYTES, &root, err));
    const json_t *against = json_object_get(root, "against_bf16"), *modules = json_object_get(root, "modules");
    const char *model = json_string_value(json_object_get(root, "model"));
    oct_buffer_puts(page, "<section><h2>");
    oct_html_text(page, path);
    oct_buffer_puts(page, "</h2>\n<p>");
    oct_html_text(page, model ? model : "?");
    oct_buffer_printf(page, ": mean KL divergence from bf16 %.3e nats over %lld tokens%s, same top token %.2f %%.</p>\n",
                      json_number_value(json_object_get(against, "mean_kl")),
                      (long long)json_integer_value(json_object_get(against, "tokens")),
                      json_is_true(json_object_get(against, "held_out")) ? " of held-out prompts" : "",
                      100 * json_number_value(json_object_get(against, "same_top_token")));
    draw_errors(page, modules);
    list_errors(page, modules);
    oct_buffer_puts(page, "</section>\n");
    json_decref(root);
    return OCT_OK;
}

// The reports that octavo calibrate leaves beside its configurations: in the folder, one below, or, of the folder g3, one above.
static oct_status find_errors(struct oct_buffer *page, const char *folder, int depth, int *found, oct_error *err) {
    static const char *const names[] = {"report_g2.json", "report_g3.json"};
    for (int i = 0; i < 2; i++) {
        char *path = oct_path_join(folder, names[i]);
        oct_status status = oct_path_exists(path) ? write_errors(page, path, err) : OCT_NOT_FOUND;
        free(path);
        if (status == OCT_OK) (*found)++;
        if (status != OCT_NOT_FOUND) OCT_TRY(status);
    }
    DIR *dir = depth > 0 ? opendir(folder) : NULL;
    oct_status status = OCT_OK;
    for (struct dirent *entry; dir && status == OCT_OK && (entry = readdir(dir));) {
        char *path = oct_path_join(folder, entry->d_name);
        if (entry->d_name[0] != '.' && oct_path_is_directory(path)) status = find_errors(page, path, depth - 1, found, err);
        free(path);
    }
    if (dir) closedir(dir);
    return status;
}

// --- the command ------------------------------------------------------------------------------------------------------------------

static const char head[] =
    "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Octavo "
    "calibration</title>\n"
    "<style>\n:root{color-scheme:light dark;--line:#8884}\nbody{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem "
    "auto;padding:0 1rem}\n"
    "h2{font-size:1rem;overflow-wrap:anywhere;border-top:1px solid var(--line);padding-top:1rem}\nfigure{margin:1rem "
    "0}figcaption{font-weight:600}\n"
    "svg{width:100%;height:auto}svg "
    "text{font-size:11px;fill:currentColor}.grid{stroke:var(--line)}.mark{stroke:#d03b1c;stroke-dasharray:4}\n"
    ".legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}\n"
    "table{border-collapse:collapse;font-size:.85rem}td,th{padding:.1rem .8rem .1rem 0;text-align:left;border-bottom:1px solid "
    "var(--line)}\n"
    "</style>\n<h1>Octavo calibration</h1>\n";

static oct_status write_page(const struct report_options *options, struct oct_buffer *page, oct_error *err) {
    struct oct_file_list files;
    int sections = 0, reports = 0;
    oct_buffer_puts(page, head);
    oct_file_list_gather(options->folder, 2, &files);
    oct_status status = find_errors(page, options->folder, 1, &reports, err);
    if (status == OCT_OK && !reports) {
        char *parent = oct_path_join(options->folder, "..");
        status = find_errors(page, parent, 0, &reports, err);
        free(parent);
    }
    if (status == OCT_OK) status = write_sections(page, &files, options->device, &sections, err);
    if (status == OCT_OK && !sections)
        status = oct_fail(err, OCT_NOT_FOUND, "%s: measurement files (*_hooks_maxabs*.npz) expected, none found", options->folder);
    oct_file_list_free(&files);
    oct_buffer_puts(page, "</html>\n");
    return status;
}

static oct_status run(const void *given, oct_error *err) {
    const struct report_options *options = given;
    struct oct_buffer page = {0};
    char *output = options->output ? oct_strdup(options->output) : oct_path_join(options->folder, "report.html");
    oct_status status = write_page(options, &page, err);
    if (status == OCT_OK) status = oct_file_write(output, page.data, page.length, err);
    if (status == OCT_OK) printf("%s\n", output);
    oct_buffer_free(&page);
    free(output);
    return status;
}

const struct oct_command oct_command_report = {
    .name = "report",
    .positional = "DIR",
    .positional_offset = FIELD(folder),
    .summary = "draw a calibration's ranges, headroom, clipping and errors on one HTML page",
    .details = "DIR holds what octavo calibrate wrote, or the files of a Gaudi. The page needs no network.\n\n"
               "  octavo report calibrated/smollm2\n",
    .options_size = sizeof(struct report_options),
    .groups = {{"Output", flags, 0}},
    .run = run,
};
