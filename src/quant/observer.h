// observer.h: what the forward pass tells about the numbers that pass through a module. A null pointer normally.
#pragma once

#include "quant/module.h"

// Which tensor of a module: INC's inputs[i] and outputs[i].
enum oct_port { OCT_INPUT0, OCT_INPUT1, OCT_OUTPUT0, OCT_OUTPUT1 };

struct oct_observer {
    // amax = max |x| over one tensor of one step, float32. NaN is passed on. Called from the engine's thread only.
    void (*see)(void *context, enum oct_module module, int layer, enum oct_port port, float amax);
    void *context;
};
