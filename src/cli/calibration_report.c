// calibration_report.c: the report of a calibration as text and as JSON.
#include "cli/calibration_report.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/block_search.h"
#include "cli/mixture.h"
#include "cli/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORST = 8 }; // modules that are printed

static void print_worst(const struct oct_calibration_report *report, FILE *file) {
    int *order = oct_alloc((size_t)oct_unit_count(report->num_layers), sizeof *order, "an order of modules");
    int count = oct_order_by_cost(report->module_kl, oct_unit_count(report->num_layers), order);
    struct oct_table table = {.num_columns = 2};
    fprintf(file, "costliest modules  KL divergence with that module alone in FP8, over %d tokens\n", report->module_tokens);
    for (int i = 0; i < count && i < WORST; i++) {
        char name[128], indented[132], kl[32];
        snprintf(indented, sizeof indented, "  %s", oct_unit_name(report->num_layers, order[i], name, sizeof name));
        snprintf(kl, sizeof kl, "%.3e", report->module_kl[order[i]]);
        oct_table_add(&table, (const char *[]){indented, kl});
    }
    oct_table_print(&table, file);
    oct_table_free(&table);
    free(order);
}

void oct_calibration_report_print(const struct oct_calibration_report *report, FILE *file) {
    fprintf(file, "measured           %zu prompts, %zu tokens, %.1f s\n", report->prompts, report->tokens, report->seconds);
    fprintf(file, "FP8 against bf16   on %zu tokens of %s\n", report->divergence.count,
            report->on_prompts ? "these prompts, for want of the held-out ones" : "held-out prompts");
    oct_divergence_print(&report->divergence, file);
    fprintf(file, "weights            %.1f MiB in FP8, %.1f MiB in bf16\n", (double)report->fp8_bytes / 0x1p20,
            (double)report->bf16_bytes / 0x1p20);
    if (report->module_kl) print_worst(report, file);
}

static json_t *modules_to_json(const struct oct_calibration_report *report) {
    json_t *modules = json_array();
    for (int unit = 0; report->module_kl && unit < oct_unit_count(report->num_layers); unit++) {
        char name[128];
        if (isnan(report->module_kl[unit])) continue;
        json_array_append_new(modules, json_pack("{s:s, s:f}", "module", oct_unit_name(report->num_layers, unit, name, sizeof name), "kl",
                                                 report->module_kl[unit]));
    }
    return modules;
}

oct_status oct_calibration_report_write(const struct oct_calibration_report *report, const char *folder, enum oct_profile profile,
                                        oct_error *err) {
    const struct oct_divergence_summary *summary = &report->divergence;
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:{s:I, s:b, s:f, s:f, s:f, s:f}, s:i, s:o}", "model", report->model, "device",
                             oct_profile_name(profile), "prompts", (json_int_t)report->prompts, "tokens", (json_int_t)report->tokens,
                             "against_bf16", "tokens", (json_int_t)summary->count, "held_out", !report->on_prompts, "mean_kl",
                             summary->mean, "p99_kl", summary->p99, "max_kl", summary->max, "same_top_token", summary->same_top,
                             "module_tokens", report->module_tokens, "modules", modules_to_json(report));
    char *text = root ? json_dumps(root, JSON_INDENT(4)) : NULL; // NaN is no JSON
    json_decref(root);
    if (!text) return oct_fail(err, OCT_INTERNAL, "the quantized model's logits: finite numbers expected, NaN or infinity found");
    char *path = oct_path_join(folder, profile == OCT_GAUDI2 ? "report_g2.json" : "report_g3.json");
    oct_status status = oct_file_write(path, text, strlen(text), err);
    free(path);
    free(text);
    return status;
}
