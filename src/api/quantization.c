// quantization.c: from QUANT_CONFIG to a plan or a running measurement, and back to files when the engine closes.
#include "api/quantization.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "numeric/fp8.h"

#include <stdlib.h>
#include <string.h>

static const char *config_path(const oct_engine_options *options) {
    if (options->quant_config) return options->quant_config;
    const char *path = getenv("QUANT_CONFIG");
    return path && *path ? path : NULL;
}

static oct_status read_kv_cache_dtype(const char *name, bool *fp8, oct_error *err) {
    *fp8 = name && !strcmp(name, "fp8_inc");
    if (*fp8 || !name || !strcmp(name, "auto")) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "kv_cache_dtype: \"auto\" or \"fp8_inc\" expected, \"%s\" found", name);
}

// fp8_inc without a configuration: K and V, and what attention multiplies, are E4M3 with scales of 1. Nothing needs to be measured.
static struct oct_plan *unit_scale_kv_plan(int num_layers) {
    struct oct_plan *plan = oct_alloc(1, sizeof *plan, "the plan");
    plan->full_scale = OCT_E4M3_MAX;
    plan->num_layers = num_layers;
    plan->layers = oct_alloc((size_t)num_layers, sizeof *plan->layers, "the plan");
    for (int i = 0; i < num_layers; i++)
        plan->layers[i].attention = (struct oct_attention_plan){
            .k_cache = true,
            .v_cache = true,
            .matmul_qk = true,
            .matmul_av = true,
            .k_cache_scale = 1,
            .v_cache_scale = 1,
            .matmul_qk_scales = {1, 1},
            .matmul_av_scales = {1, 1},
        };
    return plan;
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
    oct_status status = oct_plan_build(config, quantization->measurement, num_layers, quantization->fp8_kv, &quantization->plan, err);
    if (status == OCT_NOT_FOUND && missing.code != OCT_OK)
        return oct_fail(err, missing.code, "%s: octavo calibrate %s --output DIR (or run the model under a configuration of mode MEASURE)",
                        missing.message, model);
    return status;
}

// Serving commands name fp8_inc whatever the configuration says. What is measured are the numbers of the unquantized model.
static oct_status open_measurement(struct oct_quantization *quantization, int num_layers, oct_error *err) {
    if (quantization->fp8_kv)
        oct_log(OCT_LOG_WARNING, "measuring: KV blocks stay bf16, fp8_inc takes effect with the quantizing configuration");
    quantization->fp8_kv = false;
    quantization->measurement = oct_measurement_new(num_layers);
    OCT_TRY(oct_measurement_observe(quantization->measurement, quantization->config, err));
    quantization->observer = oct_measurement_observer(quantization->measurement);
    quantization->measuring = true;
    return OCT_OK;
}

// INC puts one of two modes in the place of AUTO, by the step that it is asked for: measuring comes first, and without it nothing can be
// quantized.
static void choose_mode(struct oct_quant_config *config) {
    char *path = oct_quant_config_file(config, "", config->rank, config->world_size, ".npz");
    bool measured = !oct_quant_config_uses_files(config) || oct_path_exists(path);
    config->mode = measured ? OCT_QUANT_QUANTIZE : OCT_QUANT_MEASURE;
    oct_log(OCT_LOG_INFO, "mode AUTO: %s: %s", path, measured ? "found, quantizing" : "not there, measuring");
    free(path);
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

oct_status oct_quantization_open(const oct_engine_options *options, int num_layers, struct oct_quantization *out, oct_error *err) {
    *out = (struct oct_quantization){0};
    const char *method = options->quantization, *path = config_path(options);
    if (method && strcmp(method, "inc"))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "quantization: \"inc\" or nothing expected, \"%s\" found", method);
    OCT_TRY(read_kv_cache_dtype(options->kv_cache_dtype, &out->fp8_kv, err));
    if (method && !path)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "quantization inc needs QUANT_CONFIG, the path of a JSON file that says what to quantize, and the measurement it "
                        "names. Make both with: octavo calibrate %s --output DIR   Then set the QUANT_CONFIG that it prints.",
                        options->model);
    if (!path) {
        if (out->fp8_kv) out->plan = unit_scale_kv_plan(num_layers);
        return OCT_OK;
    }
    oct_status status = open_from_config(path, options->model, num_layers, out, err);
    if (status != OCT_OK) oct_quantization_close(out, NULL);
    return status;
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
