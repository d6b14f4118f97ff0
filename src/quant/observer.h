// observer.h: what the forward pass tells about the numbers that pass through a module. A null pointer normally.
#pragma once

#include "quant/module.h"

#include <stdbool.h>

// Which tensor of a module: INC's inputs[i] and outputs[i].
enum oct_port { OCT_INPUT0, OCT_INPUT1, OCT_INPUT2, OCT_OUTPUT0, OCT_OUTPUT1 };

enum { OCT_MAX_SEEN_DIMS = 5 };

// One tensor of one step.
struct oct_seen {
    float amax; // max |x|, float32; NaN if any is NaN
    const float
        *x; // (rows, columns) with a row stride of `stride`; NULL: it exists nowhere as a whole (probabilities). Until see() returns
    int rows, columns, stride;
    float factor;                          // the values are x * factor
    int channels;                          // a column's channel is its index modulo this; 0: their number is not that of the model
    int num_dims, dims[OCT_MAX_SEEN_DIMS]; // the shape that the module sees on a Gaudi
};

// The weight of a linear, seen once as it is loaded.
struct oct_seen_weight {
    float amax;            // max |w|, w in bf16
    const float *row_amax; // (out_features) of each output channel
    int out_features, in_features;
};

struct oct_observer {
    // Called from the engine's thread only.
    void (*see)(void *context, enum oct_module module, int layer, enum oct_port port, const struct oct_seen *seen);
    void *context;
    bool outputs; // also wants the outputs that no scale needs
};
