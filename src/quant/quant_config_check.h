// quant_config_check.h: what INC refuses of a configuration that can be read, in its order and words.
#pragma once

#include "quant/quant_config.h"

// Also changes scale_format where INC does, and says so: how a Gaudi holds a scale, which is not its value.
oct_status oct_quant_config_check(struct oct_quant_config *config, oct_error *err);
