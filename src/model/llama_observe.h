// llama_observe.h: what the forward pass tells an observer: the tensors at the boundaries of modules, those of attention as the modules
// of a Gaudi would see them. Nothing is computed where there is no observer.
#pragma once

#include "device/device.h"
#include "model/config.h"
#include "quant/observer.h"

struct oct_watch {
    const struct oct_observer *observer; // NULL: nobody watches
    struct oct_device *device;
    const struct oct_model_config *config;
    const struct oct_batch *batch;
};

// x (rows, columns) at a port of a linear. Outputs only where the observer wants them all, or `needed`: a row-parallel linear's.
void oct_watch_input(const struct oct_watch *watch, enum oct_module module, int layer, const float *x, int rows, int columns);
void oct_watch_output(const struct oct_watch *watch, enum oct_module module, int layer, const float *x, int rows, int columns, bool needed);
// Everything of a layer's attention: qkv (num_rows, q + 2 kv) after the rotation, its result (num_rows, q), and what it saw between them.
void oct_watch_attention(const struct oct_watch *watch, int layer, const float *qkv, const float *attention,
                         const struct oct_attention_range *range);
