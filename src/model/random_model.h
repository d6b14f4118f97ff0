// random_model.h: models of well-known shapes with random weights: speed depends on shapes, and needs no download.
#pragma once

#include "base/error.h"
#include "model/checkpoint.h"

struct oct_random_model {
    struct oct_checkpoint *checkpoint; // bf16 weights, uniform in a range that keeps activations of ordinary size
    void *weights;                     // (size bytes) what its tensors share: every matrix begins at the same place. Owned
    size_t size;
};

// shape: "135m" (SmolLM2-135M), "1b" (Llama 3.2 1B) or "8b" (Llama 3.1 8B).
oct_status oct_random_model_open(const char *shape, struct oct_random_model *out, oct_error *err);
void oct_random_model_close(struct oct_random_model *model);
