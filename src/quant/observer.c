// observer.c: INC's four observers. The maximum of a tensor is always kept; the others keep something of the tensor itself besides.
#include "quant/observer.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "quant/measurement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const oct_observer_names[OCT_NUM_OBSERVERS] = {
    [OCT_OBSERVE_MAXABS] = "maxabs",
    [OCT_OBSERVE_PER_CHANNEL] = "maxabs_per_channel",
    [OCT_OBSERVE_SHAPE] = "shape",
    [OCT_OBSERVE_SAVE] = "save",
};

oct_status oct_measurement_observe(struct oct_measurement *measurement, const struct oct_quant_config *config, oct_error *err) {
    int kind = 0;
    while (kind < OCT_NUM_OBSERVERS && strcmp(config->observer, oct_observer_names[kind]) != 0) kind++;
    if (kind == OCT_NUM_OBSERVERS)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "observer: \"maxabs\", \"maxabs_per_channel\", \"shape\" or \"save\" expected, \"%s\" found", config->observer);
    measurement->observer = (enum oct_observer_kind)kind;
    measurement->outputs = config->measure_outputs;
    measurement->precision = config->precision;
    if (kind == OCT_OBSERVE_MAXABS) return OCT_OK;
    for (int i = 0; i < oct_module_count(measurement->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(measurement->num_layers, i, &layer);
        struct oct_module_measurement *measured = oct_measurement_at(measurement, module, layer);
        size_t tensors = (size_t)(measured->num_inputs + measured->num_outputs + 1);
        measured->details = oct_alloc(tensors, sizeof *measured->details, "what an observer keeps");
    }
    if (kind != OCT_OBSERVE_SAVE) return OCT_OK;
    const char *slash = strrchr(config->dump_stats_path, '/');
    char *folder = slash ? oct_strndup(config->dump_stats_path, (size_t)(slash - config->dump_stats_path)) : oct_strdup(".");
    measurement->save_folder = oct_path_join(folder, "tensors");
    free(folder);
    return oct_make_directories(measurement->save_folder, err);
}

static void widen(float *max, float amax) {
    if (amax > *max || isnan(amax)) *max = amax; // a NaN stays: no number is greater than it
}

static void widen_channels(struct oct_port_detail *detail, const struct oct_seen *seen) {
    if (!seen->x || !seen->channels) return;
    if (!detail->channels) {
        detail->channels = oct_alloc((size_t)seen->channels, sizeof *detail->channels, "maxima of channels");
        detail->num_channels = seen->channels;
    }
    for (int row = 0; row < seen->rows; row++) {
        const float *x = seen->x + (size_t)row * (size_t)seen->stride;
        for (int first = 0; first < seen->columns; first += detail->num_channels)
            for (int i = 0; i < detail->num_channels; i++) widen(&detail->channels[i], fabsf(x[first + i]) * seen->factor);
    }
}

// One tensor "tensor" of float32, in the shape that the module sees or as rows.
static oct_status save_tensor(const struct oct_seen *seen, const char *path, oct_error *err) {
    struct oct_buffer header = {0}, file = {0};
    size_t n = (size_t)seen->rows * (size_t)seen->columns;
    oct_buffer_printf(&header, "{\"tensor\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", seen->rows, seen->columns,
                      n * sizeof(float));
    while (header.length % 8) oct_buffer_puts(&header, " ");
    uint64_t length = header.length;
    oct_buffer_append(&file, &length, sizeof length);
    oct_buffer_append(&file, header.data, header.length);
    for (int row = 0; row < seen->rows; row++)
        for (int column = 0; column < seen->columns; column++) {
            float value = seen->x[(size_t)row * (size_t)seen->stride + (size_t)column] * seen->factor;
            oct_buffer_append(&file, &value, sizeof value);
        }
    oct_status status = oct_file_write(path, file.data, file.length, err);
    oct_buffer_free(&header);
    oct_buffer_free(&file);
    return status;
}

static void save(struct oct_measurement *measurement, enum oct_module module, int layer, const char *tensor, int iteration,
                 const struct oct_seen *seen) {
    if (!seen->x || measurement->error.code != OCT_OK) return;
    char name[160];
    struct oct_buffer path = {0};
    oct_buffer_printf(&path, "%s/%s_%s_iter%d.safetensors", measurement->save_folder, oct_module_name(module, layer, name, sizeof name),
                      tensor, iteration);
    save_tensor(seen, path.data, &measurement->error);
    oct_buffer_free(&path);
}

static void see(void *context, enum oct_module module, int layer, enum oct_port port, const struct oct_seen *seen) {
    struct oct_measurement *measurement = context;
    struct oct_module_measurement *measured = oct_measurement_at(measurement, module, layer);
    OCT_CHECK(measured);
    bool output = port >= OCT_OUTPUT0;
    int index = output ? port - OCT_OUTPUT0 : port - OCT_INPUT0;
    OCT_CHECK(index < (output ? measured->num_outputs : measured->num_inputs));
    widen(output ? &measured->outputs[index] : &measured->inputs[index], seen->amax);
    measured->seen = true;
    if (measurement->observer == OCT_OBSERVE_MAXABS) return;
    struct oct_port_detail *detail = &measured->details[output ? measured->num_inputs + index : index];
    detail->num_dims = seen->num_dims;
    memcpy(detail->dims, seen->dims, sizeof detail->dims);
    if (measurement->observer == OCT_OBSERVE_PER_CHANNEL) widen_channels(detail, seen);
    static const char *const names[] = {"input0", "input1", "input2", "output0", "output1"};
    if (measurement->observer == OCT_OBSERVE_SAVE) save(measurement, module, layer, names[port], detail->iteration++, seen);
}

struct oct_observer oct_measurement_observer(struct oct_measurement *measurement) {
    return (struct oct_observer){.see = see, .context = measurement, .outputs = measurement->outputs};
}

void oct_measurement_see_weight(void *context, enum oct_module module, int layer, const struct oct_seen_weight *seen) {
    struct oct_module_measurement *measured = oct_measurement_at(context, module, layer);
    measured->weight = seen->amax;
    if (!measured->details) return;
    struct oct_port_detail *detail = &measured->details[measured->num_inputs + measured->num_outputs];
    *detail = (struct oct_port_detail){
        .channels = oct_alloc((size_t)seen->out_features, sizeof *detail->channels, "maxima of channels"),
        .num_channels = seen->out_features,
        .num_dims = 2,
        .dims = {seen->out_features, seen->in_features},
    };
    memcpy(detail->channels, seen->row_amax, (size_t)seen->out_features * sizeof *detail->channels);
}

// A port that was never seen is 0, where INC's observers start: so is the second output of a row-parallel linear, the sum over ranks, when
// there is one rank (INC on one card writes uninitialised memory there).
static float state_number(const struct oct_measurement *measurement, float max) {
    return max < 0 ? 0 : oct_scale_precision_round(measurement->precision, max);
}

struct oct_value *oct_measurement_state(const struct oct_measurement *measurement, const struct oct_module_measurement *measured, int index,
                                        struct oct_tree *tree) {
    int output = index - measured->num_inputs;
    float amax = output < 0 ? measured->inputs[index] : output < measured->num_outputs ? measured->outputs[output] : measured->weight;
    const struct oct_port_detail *detail = measured->details ? &measured->details[index] : NULL;
    float number = measurement->observer == OCT_OBSERVE_SAVE ? 0 : state_number(measurement, amax);
    size_t n = 1;
    if (measurement->observer == OCT_OBSERVE_SHAPE && detail->num_dims) {
        float dims[OCT_MAX_SEEN_DIMS];
        for (int i = 0; i < detail->num_dims; i++) dims[i] = (float)detail->dims[i];
        return oct_tree_array(tree, 2, (size_t[]){1, (size_t)detail->num_dims}, dims);
    }
    if (measurement->observer == OCT_OBSERVE_PER_CHANNEL && detail->channels) {
        n = (size_t)detail->num_channels;
        float *channels = oct_alloc(n, sizeof *channels, "maxima of channels");
        for (size_t i = 0; i < n; i++) channels[i] = state_number(measurement, detail->channels[i]);
        struct oct_value *array = oct_tree_array(tree, 2, (size_t[]){n, 1}, channels);
        free(channels);
        return array;
    }
    return oct_tree_array(tree, 2, (size_t[]){n, 1}, &number);
}
