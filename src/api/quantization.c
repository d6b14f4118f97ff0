// quantization.c: from QUANT_CONFIG to a plan or a running measurement, and back to files when the engine closes.
#include "api/quantization.h"

#include "base/log.h"
#include "base/memory.h"
#include "model/stored_fp8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *config_path(const oct_engine_options *options) {
    if (options->quant_config) return options->quant_config;
    const char *path = getenv("QUANT_CONFIG");
    return path && *path ? path : NULL;
}

// vLLM's fp8 is E4M3 in the cache alone; fp8_inc is INC's, where attention multiplies in it too.
static oct_status read_kv_cache_dtype(const char *name, const char **kv_dtype, oct_error *err) {
    *kv_dtype = NULL;
    if (!name || !strcmp(name, "auto")) return OCT_OK;
    if (!strcmp(name, "fp8_inc")) *kv_dtype = "fp8_inc";
    if (!strcmp(name, "fp8") || !strcmp(name, "fp8_e4m3")) *kv_dtype = "fp8";
    if (*kv_dtype) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "kv_cache_dtype: \"auto\", \"fp8\" (or \"fp8_e4m3\") or \"fp8_inc\" expected, \"%s\" found",
                    name);
}

static bool is_inc_kv(const struct oct_quantization *quantization) {
    return quantization->kv_dtype && !strcmp(quantization->kv_dtype, "fp8_inc");
}

// Where a scale file holds every module, the measurement is not needed, and its absence only told when the plan misses it.
static oct_status open_plan(struct oct_quantization *quantization, const char *model, int num_layers, oct_error *err) {
    const struct oct_quant_config *config = quantization->config;
    const char *dump_path = getenv("SCALE_METHOD_CONFIG_DUMP_PATH");
    if (dump_path && *dump_path) OCT_TRY(oct_quant_config_dump_scale_methods(config, num_layers, dump_path, err));
    oct_error missing = {OCT_OK, ""};
    if (oct_quant_config_uses_files(config)) {
        oct_status status = oct_measurement_read(config, num_layers, &quantization->measurement, &missing);
        if (status != OCT_OK && status != OCT_NOT_FOUND) return oct_fail(err, status, "%s", missing.message);
    }
    oct_status status = oct_plan_build(config, quantization->measurement, num_layers, is_inc_kv(quantization), &quantization->plan, err);
    if (status == OCT_NOT_FOUND && missing.code != OCT_OK)
        return oct_fail(err, missing.code, "%s: octavo calibrate %s --output DIR (or run the model under a configuration of mode MEASURE)",
                        missing.message, model);
    return status;
}

// Serving commands name fp8_inc whatever the configuration says. What is measured are the numbers of the unquantized model.
static oct_status open_measurement(struct oct_quantization *quantization, int num_layers, oct_error *err) {
    if (quantization->kv_dtype)
        oct_log(OCT_LOG_WARNING, "measuring: KV blocks stay bf16, fp8_inc takes effect with the quantizing configuration");
    quantization->kv_dtype = NULL;
    quantization->measurement = oct_measurement_new(num_layers);
    OCT_TRY(oct_measurement_observe(quantization->measurement, quantization->config, err));
    quantization->observer = oct_measurement_observer(quantization->measurement);
    quantization->measuring = true;
    return OCT_OK;
}

// INC puts one of two modes in the place of AUTO, by the step that it is asked for: measuring comes first, and without it nothing can be
// quantized.
static void choose_mode(struct oct_quant_config *config) {
    bool measured = !oct_quant_config_uses_files(config) || oct_measurement_exists(config);
    config->mode = measured ? OCT_QUANT_QUANTIZE : OCT_QUANT_MEASURE;
    oct_log(OCT_LOG_INFO, "mode AUTO: %s", measured ? "there is a measurement: quantizing" : "there is no measurement: measuring");
}

static oct_status open_from_config(const char *path, const char *model, int num_layers, struct oct_quantization *quantization,
                                   oct_error *err) {
    OCT_TRY(oct_quant_config_load(path, &quantization->config, err));
    OCT_TRY(oct_quant_config_check_run(quantization->config, err));
    if (quantization->config->mode == OCT_QUANT_AUTO) choose_mode(quantization->config);
    switch (quantization->config->mode) {
    case OCT_QUANT_NONE:
        return OCT_OK;
    case OCT_QUANT_QUANTIZE:
        return open_plan(quantization, model, num_layers, err);
    case OCT_QUANT_MEASURE:
    case OCT_QUANT_SHAPE:
        return open_measurement(quantization, num_layers, err);
    case OCT_QUANT_LOAD: // refused above
    case OCT_QUANT_AUTO: // replaced above
        break;
    }
    OCT_CHECK(!"a mode");
}

static oct_status open_inc(const char *path, const char *model, int num_layers, struct oct_quantization *out, oct_error *err) {
    if (!path)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "quantization inc needs QUANT_CONFIG, the path of a JSON file that says what to quantize, and the measurement it "
                        "names. Make both with: octavo calibrate %s --output DIR   Then set the QUANT_CONFIG that it prints.",
                        model);
    if (out->kv_dtype && !is_inc_kv(out))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "kv_cache_dtype: \"auto\" or \"fp8_inc\" expected with QUANT_CONFIG, \"%s\" found",
                        out->kv_dtype);
    oct_status status = open_from_config(path, model, num_layers, out, err);
    if (status != OCT_OK) oct_quantization_close(out, NULL);
    return status;
}

// Nothing but flags: weights to FP8 as they are loaded, K and V to FP8 with scales of 1.
static void open_without_files(bool fp8_weights, int num_layers, struct oct_quantization *out) {
    if (fp8_weights) out->plan = oct_plan_fp8_weights(num_layers);
    if (out->kv_dtype) oct_plan_unit_scale_kv(&out->plan, num_layers, is_inc_kv(out));
    out->fp8_weights = fp8_weights;
}

// A checkpoint that is FP8 already. K and V follow what it says, unless a flag says more.
static oct_status open_stored(const struct oct_checkpoint *checkpoint, struct oct_quantization *out, oct_error *err) {
    const struct oct_fp8_format *format = &oct_checkpoint_config(checkpoint)->fp8;
    if (!out->kv_dtype && oct_stored_has_fp8_kv(checkpoint)) out->kv_dtype = "fp8";
    out->stored = *format;
    return oct_stored_plan(checkpoint, out->kv_dtype != NULL, &out->plan, err);
}

oct_status oct_quantization_open(const oct_engine_options *options, const struct oct_checkpoint *checkpoint, struct oct_quantization *out,
                                 oct_error *err) {
    *out = (struct oct_quantization){0};
    const struct oct_model_config *config = oct_checkpoint_config(checkpoint);
    enum oct_fp8_method stored = config->fp8.method;
    const char *method = options->quantization, *path = config_path(options);
    bool inc = method ? !strcmp(method, "inc") : path != NULL, fp8 = method && !strcmp(method, "fp8");
    if (method && !inc && !fp8 && strcmp(method, "compressed-tensors"))
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "quantization: \"inc\", \"fp8\", \"compressed-tensors\" or nothing expected, \"%s\" found", method);
    if (method && !inc && options->quant_config)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "quant_config: none expected with quantization %s, \"%s\" found", method,
                        options->quant_config);
    OCT_TRY(read_kv_cache_dtype(options->kv_cache_dtype, &out->kv_dtype, err));
    if (inc && (path || stored != OCT_FP8_INC)) return open_inc(path, options->model, config->num_hidden_layers, out, err);
    if (method && !(fp8 && !stored) && strcmp(method, oct_fp8_method_name(stored)))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "quantization: \"%s\", the checkpoint's own, or nothing expected, \"%s\" found",
                        oct_fp8_method_name(stored), method);
    if (stored) return open_stored(checkpoint, out, err);
    open_without_files(fp8, config->num_hidden_layers, out);
    return OCT_OK;
}

void oct_quantization_describe(const struct oct_quantization *quantization, struct oct_buffer *out) {
    const struct oct_quant_config *config = quantization->config;
    if (config && quantization->plan) {
        oct_buffer_printf(out, "inc fp8 (%s ", oct_profile_name(config->profile));
        for (const char *c = config->scales.preset.name; *c; c++) oct_buffer_printf(out, "%c", tolower((unsigned char)*c));
        oct_buffer_puts(out, ")");
    }
    if (quantization->fp8_weights) oct_buffer_puts(out, "fp8 weights");
    if (quantization->stored.method)
        oct_buffer_printf(out, "%s fp8 (%s activations)", oct_fp8_method_name(quantization->stored.method),
                          oct_fp8_activation_name(quantization->stored.activation));
}

oct_status oct_quantization_prepare(const struct oct_quantization *quantization, oct_error *err) {
    return quantization->measuring ? oct_measurement_prepare(quantization->config, err) : OCT_OK;
}

oct_status oct_quantization_loaded(const struct oct_quantization *quantization, oct_error *err) {
    if (!quantization->config || !quantization->plan) return OCT_OK;
    return oct_plan_write_scales(quantization->plan, quantization->config, quantization->measurement, err);
}

// MEASUREMENT_DUMP_METHOD=5 is INC's way to measure without writing.
static oct_status write_measurement(const struct oct_quantization *quantization, oct_error *err) {
    const char *method = getenv("MEASUREMENT_DUMP_METHOD");
    if (quantization->measurement->error.code != OCT_OK)
        return oct_fail(err, quantization->measurement->error.code, "%s", quantization->measurement->error.message);
    if (method && !strcmp(method, "5")) return OCT_OK;
    const struct oct_quant_config *config = quantization->config;
    int num_samples = config->calibration_sample_interval > 0 ? quantization->num_forwards : 0;
    return oct_measurement_write(quantization->measurement, config, num_samples, err);
}

oct_status oct_quantization_measured(struct oct_quantization *quantization, oct_error *err) {
    int interval = quantization->config->calibration_sample_interval;
    quantization->num_forwards++;
    if (interval <= 0 || quantization->num_forwards % interval != 0) return OCT_OK;
    return write_measurement(quantization, err);
}

oct_status oct_quantization_close(struct oct_quantization *quantization, oct_error *err) {
    oct_status status = OCT_OK;
    if (quantization->measuring && quantization->num_forwards > 0) status = write_measurement(quantization, err);
    oct_plan_free(quantization->plan);
    oct_measurement_free(quantization->measurement);
    oct_quant_config_free(quantization->config);
    *quantization = (struct oct_quantization){0};
    return status;
}
