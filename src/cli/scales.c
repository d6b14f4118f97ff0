// scales.c: `octavo scales`: the scales that a method makes of a measurement file alone, its own weight maxima included: for checks, and to
// see what another method or another card would make of it. Planned by the same code as a model's.
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/inspect_files.h"
#include "quant/node_file.h"
#include "quant/plan.h"
#include "quant/python_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scales_options {
    const char *file, *method, *device;
    bool json;
};

#define FIELD(name) offsetof(struct scales_options, name)

static const struct oct_flag flags[] = {
    {.name = "method",
     .short_name = "m",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(method),
     .metavar = "METHOD",
     .initial = "maxabs_hw",
     .help = "one of INC's scale methods, such as maxabs_hw, maxabs_pow2 or maxabs_arbitrary"},
    {.name = "device",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(device),
     .choices = "gaudi2|gaudi3",
     .initial = "gaudi3",
     .help = "whose FP8 rules apply: Gaudi 2 ends at 240, Gaudi 3 at 448"},
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print the JSON of a scale file"},
    {0},
};

static oct_status find_method(const char *given, const struct oct_scale_method **out, oct_error *err) {
    OCT_TRY(oct_scale_method_parse(given, out, err));
    if ((*out)->weight.value == OCT_SCALE_OPT)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "--method: %s searches for the weights' scales, which takes the weights: octavo calibrate", (*out)->name);
    if ((*out)->activation.per_channel)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--method: %s makes the activations' scales at run time", (*out)->name);
    return OCT_OK;
}

// One maximum stands for all channels of a weight: a file of maxima says no more.
static void add_weights(struct oct_plan *plan, struct oct_measurement *measurement, size_t *without) {
    for (int i = 0; i < oct_module_count(plan->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(plan->num_layers, i, &layer);
        struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
        if (!linear || !linear->fp8) continue;
        float amax = oct_measurement_at(measurement, module, layer)->weight;
        if (amax < 0) {
            (*without)++;
            amax = 0;
        }
        oct_plan_set_weight_scales(linear, &amax, 1);
    }
}

static void show(const struct scales_options *options, const struct oct_scale_method *method, struct oct_value *root,
                 const struct oct_value *nodes) {
    if (options->json) {
        struct oct_buffer text = {0};
        oct_python_json(root, &text);
        puts(text.data);
        oct_buffer_free(&text);
    } else {
        printf("%s, %s: %zu modules\n", method->name, options->device, nodes->count / 2);
        oct_print_nodes(nodes);
    }
}

static oct_status run(const void *given, oct_error *err) {
    const struct scales_options *options = given;
    const struct oct_scale_method *method;
    struct oct_quant_config config = {
        .mode = OCT_QUANT_QUANTIZE, .world_size = 1, .recalc_scales = true, .ignore_modules_wo_measures = true};
    OCT_TRY(find_method(options->method, &method, err));
    OCT_TRY(oct_profile_parse(options->device, &config.profile, err));
    config.dump_stats_path = oct_strdup("");
    config.scales.preset = *method;
    config.scales.preset.weight.profile = config.scales.preset.activation.profile = config.profile;
    struct oct_measurement *measurement = NULL;
    struct oct_plan *plan = NULL;
    struct oct_tree tree = {0};
    oct_status status = oct_measurement_read_file(options->file, &measurement, err);
    if (status == OCT_OK) status = oct_plan_build(&config, measurement, measurement->num_layers, true, &plan, err);
    if (status == OCT_OK) {
        struct oct_value *nodes;
        size_t without = 0;
        struct oct_value *root = oct_node_file_new(&tree, 0, 0, "Scale", &nodes);
        add_weights(plan, measurement, &without);
        *nodes = *oct_plan_nodes(plan, &config, measurement, &tree);
        show(options, method, root, nodes);
        if (without) fprintf(stderr, "%zu weights have no maximum in the file: their scales are those of zeros\n", without);
    }
    oct_tree_free(&tree);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
    free(config.dump_stats_path);
    return status;
}

const struct oct_command oct_command_scales = {
    .name = "scales",
    .positional = "FILE",
    .positional_offset = FIELD(file),
    .summary = "show the scales that a method makes of a measurement file",
    .details = "Weights' maxima are taken from the file too, one for a whole weight. Nothing is written.\n\n"
               "  octavo scales calibrated/smollm2/g3/inc_output_hooks_maxabs_0_1.npz --method maxabs_pow2 --device gaudi2\n",
    .options_size = sizeof(struct scales_options),
    .groups = {{"Scales", flags, 0}},
    .run = run,
};
