// module_tensors.h: which weights of a checkpoint make a linear module: vLLM fuses what Hugging Face stores apart.
#pragma once

#include "quant/module.h"

enum { OCT_MAX_PARTS = 3, OCT_PART_NAME = 128 };

// Names without ".weight" ("model.layers.3.self_attn.q_proj"), in the order of their rows in the module. Returns their number.
int oct_module_parts(enum oct_module module, int layer, char names[OCT_MAX_PARTS][OCT_PART_NAME]);
