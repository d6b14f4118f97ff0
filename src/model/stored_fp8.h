// stored_fp8.h: checkpoints whose weights are FP8 already: their scale tensors, and the plan that runs them as they were made.
#pragma once

#include "device/device.h"
#include "model/checkpoint.h"
#include "quant/plan.h"

#include <stdbool.h>

// One FP8 weight's scales, spread out: value = code * scale. Every number is checked to be finite and positive.
// scales: (k_blocks, row_stride) where oct_stored_k_blocks tells k_blocks; the weight's rows are written to [b * row_stride + row].
oct_status oct_stored_weight_scales(const struct oct_checkpoint *checkpoint, const struct oct_tensor *weight, int row_stride, float *scales,
                                    oct_error *err);
// Runs of in_features that have scales of their own: 1 unless the checkpoint's weights are scaled in blocks.
int oct_stored_k_blocks(const struct oct_fp8_format *format, int in_features);

// Gives a linear the scales that the checkpoint's dynamic activations have, where they are dynamic.
void oct_stored_row_scales(const struct oct_fp8_format *format, struct oct_linear *linear);

// Whether it was made to run with FP8 K and V.
bool oct_stored_has_fp8_kv(const struct oct_checkpoint *checkpoint);

// The plan of a checkpoint that has FP8 weights: linears as stored, with the checkpoint's activations; K and V with its scales where
// fp8_kv. Parts of a fused module may have weight scales of their own, which are kept; of their activations' scales the largest counts.
oct_status oct_stored_plan(const struct oct_checkpoint *checkpoint, bool fp8_kv, struct oct_plan **out, oct_error *err);
