// quantization.h: what QUANT_CONFIG asks of an engine: to run as planned, or to measure. Ties the files of quant/ to the life of an engine.
#pragma once

#include "base/buffer.h"
#include "model/checkpoint.h"
#include "octavo.h"
#include "quant/measurement.h"
#include "quant/observer.h"
#include "quant/plan.h"
#include "quant/quant_config.h"

struct oct_quantization {
    struct oct_quant_config *config;     // NULL: no QUANT_CONFIG
    struct oct_measurement *measurement; // read (QUANTIZE) or being made (MEASURE), or NULL
    struct oct_plan *plan;               // NULL: nothing is quantized
    const char *kv_dtype;                // "fp8_inc" or "fp8": how K and V are stored; NULL: as the unquantized model
    bool fp8_weights;                    // quantization fp8 of a checkpoint that is not
    struct oct_fp8_format stored;        // how the checkpoint's own FP8 weights run; of no method: they do not
    bool measuring;
    struct oct_observer observer; // when measuring
    int num_forwards;             // measured so far
};

// Reads the options and what they name, before the weights are loaded.
oct_status oct_quantization_open(const oct_engine_options *options, const struct oct_checkpoint *checkpoint, struct oct_quantization *out,
                                 oct_error *err);
// Which numbers the linears compute with, in a few words; nothing where the plan leaves them alone.
void oct_quantization_describe(const struct oct_quantization *quantization, struct oct_buffer *out);
// Before a measuring run: makes its folder and moves older files there out of the way. Not for who only looks at a configuration.
oct_status oct_quantization_prepare(const struct oct_quantization *quantization, oct_error *err);
// The weights have been seen: writes the scale files, where they are not there yet.
oct_status oct_quantization_loaded(const struct oct_quantization *quantization, oct_error *err);
// A forward pass has been measured: rewrites the measurement files every calibration_sample_interval passes.
oct_status oct_quantization_measured(struct oct_quantization *quantization, oct_error *err);
// Writes the measurement files of a measuring engine, and frees everything.
oct_status oct_quantization_close(struct oct_quantization *quantization, oct_error *err);
