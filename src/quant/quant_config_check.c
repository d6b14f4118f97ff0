// quant_config_check.c: INC's checks between keys. Where they depend on the device it runs on, that is the card that the files' names say
// (with none, nothing can contradict it), or the host when INC_TARGET_DEVICE says cpu.
#include "quant/quant_config_check.h"

#include "base/log.h"
#include "quant/quant_config_keys.h"

#include <stdio.h>
#include <string.h>

static bool is_true(const struct oct_quant_config *config, enum oct_quant_key key) {
    return config->values[key] == OCT_KEY_TRUE;
}

static bool is_dynamic_only(const struct oct_scale_method *method) {
    return method->activation.per_channel;
}

static bool is_static_only(const struct oct_scale_method *method) {
    return method->activation.rounding == OCT_ROUND_HW_ALIGNED || oct_scale_method_is_fixed(method);
}

static bool is_not_maxabs_hw(const struct oct_scale_method *method) {
    return method->name != oct_scale_method_find("MAXABS_HW")->name;
}

static oct_status refuse_method(const struct oct_quant_config *config, const char *before, const char *after, oct_error *err) {
    struct oct_buffer repr = {0};
    oct_scale_config_repr(&config->scales, &repr);
    oct_status status = oct_fail(err, OCT_INVALID_ARGUMENT, "Unsupported config: %s%s%s", before, repr.data, after);
    oct_buffer_free(&repr);
    return status;
}

static const char *accelerator(enum oct_profile profile) {
    return profile == OCT_GAUDI2 ? "INCAcceleratorType.GAUDI2" : "INCAcceleratorType.GAUDI3";
}

enum { CONST, SCALAR }; // of scale_format

// A scale_format that does not go with the rest is changed, in INC's words. Not a warning here: the numbers are the same.
static void change_scale_format(struct oct_quant_config *config, bool applies, int to, const char *message) {
    if (!applies) return;
    config->values[OCT_KEY_SCALE_FORMAT] = to;
    oct_log(OCT_LOG_INFO, "%s", message);
}

static bool has_channels(const struct oct_scale_method *method) {
    return method->weight.per_channel || method->activation.per_channel;
}

static bool has_weights_per_tensor(const struct oct_scale_method *method) {
    return !method->weight.per_channel;
}

static oct_status check_host(const struct oct_quant_config *config, oct_error *err) {
    if (is_true(config, OCT_KEY_USE_QDQ)) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "For FP8 quantization, only QDQ mode is supported on CPU device.");
}

// A Gaudi 3 can apply a Gaudi 2's scales, and nothing else can be put in another's place.
static oct_status check_card(const struct oct_quant_config *config, oct_error *err) {
    enum oct_profile card = config->card == OCT_CARD_GAUDI2 ? OCT_GAUDI2 : OCT_GAUDI3;
    if (config->profile == card) return OCT_OK;
    if (oct_scale_config_any(&config->scales, is_not_maxabs_hw)) {
        char after[80];
        snprintf(after, sizeof after, " for scale device overriding: %s", accelerator(config->profile));
        return refuse_method(config, "scale_method: ", after, err);
    }
    if (card == OCT_GAUDI3) return OCT_OK;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "Unsupported config: device_for_scales=%s for device_type=%s", accelerator(config->profile),
                    accelerator(card));
}

static oct_status check_dynamic(struct oct_quant_config *config, oct_error *err) {
    if (is_true(config, OCT_KEY_USE_QDQ) || is_true(config, OCT_KEY_FAKE_QUANT))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "Currently dynamic quantization is not supported for qdq and fake quant.");
    change_scale_format(config, config->values[OCT_KEY_SCALE_FORMAT] == SCALAR, CONST,
                        "Cannot use 'scale_format = SCALAR' when using dynamic quantization. Reduced to 'CONST'.");
    if (oct_scale_config_any(&config->scales, is_static_only))
        return refuse_method(config, "scale_method ", " is not supported in dynamic quantization", err);
    if (config->mode != OCT_QUANT_QUANTIZE && config->mode != OCT_QUANT_LOAD && config->mode != OCT_QUANT_AUTO)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "Quantization mode is QuantMode.%s, but dynamic quantization is only supported in QUANTIZE or LOAD mode",
                        oct_quant_key_choice(OCT_KEY_MODE, config->values[OCT_KEY_MODE]));
    if (config->values[OCT_KEY_ALLREDUCE])
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "Dynamic quantization is not supported when using row_parallel_linear_allreduce_quantization");
    return OCT_OK;
}

static oct_status check_static(const struct oct_quant_config *config, oct_error *err) {
    const struct oct_scale_config *scales = &config->scales;
    if (!oct_scale_config_any(scales, is_dynamic_only)) return OCT_OK;
    const char *name = scales->preset.name;
    for (int i = 0; i < scales->num_overrides; i++)
        if (is_dynamic_only(&scales->overrides[i].method)) name = scales->overrides[i].method.name;
    return oct_fail(err, OCT_INVALID_ARGUMENT, "Unsupported config: scale_method %s is supported only in dynamic quantization", name);
}

oct_status oct_quant_config_check(struct oct_quant_config *config, oct_error *err) {
    bool host = config->card == OCT_CARD_HOST;
    if (host) OCT_TRY(check_host(config, err));
    bool constant = config->values[OCT_KEY_SCALE_FORMAT] == CONST;
    change_scale_format(config, host && constant && oct_scale_config_any(&config->scales, has_weights_per_tensor), SCALAR,
                        "FP8 per-tensor quantization on CPU device requires 'scale_format = SCALAR'");
    if (config->card == OCT_CARD_GAUDI2 || config->card == OCT_CARD_GAUDI3) OCT_TRY(check_card(config, err));
    if (config->values[OCT_KEY_SCALE_FORMAT] == SCALAR) { // INC names both reasons
        change_scale_format(config, oct_scale_config_any(&config->scales, has_channels), CONST,
                            "Cannot use 'scale_format = SCALAR' when using PCQ (Per Channel Quantization), Reduced to 'CONST'.");
        change_scale_format(config, is_true(config, OCT_KEY_FAKE_QUANT), CONST,
                            "Cannot use 'scale_format = SCALAR' when using fake_quant. Reduced to 'CONST'.");
    }
    return config->dynamic ? check_dynamic(config, err) : check_static(config, err);
}

oct_status oct_quant_config_check_run(const struct oct_quant_config *config, oct_error *err) {
    if (config->mode == OCT_QUANT_LOAD)
        return oct_fail(err, OCT_UNSUPPORTED,
                        "mode LOAD: a checkpoint that INC saved holds its scales: run it without QUANT_CONFIG; other checkpoints need mode "
                        "QUANTIZE");
    bool keeps_ranges = strcmp(config->observer, "shape") != 0 && strcmp(config->observer, "save") != 0;
    if ((config->mode == OCT_QUANT_QUANTIZE || config->mode == OCT_QUANT_AUTO) && oct_quant_config_uses_files(config) && !keeps_ranges)
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "observer: \"%s\" keeps no ranges: measure and quantize with \"maxabs\" or \"maxabs_per_channel\"",
                        config->observer);
    if (config->values[OCT_KEY_ALLREDUCE])
        return oct_fail(err, OCT_UNSUPPORTED,
                        "row_parallel_linear_allreduce_quantization: not implemented here, and INC fails on it since 3.5: set it to false");
    return OCT_OK;
}
