// quant_config_check.h: what INC refuses of a configuration that can be read, in its order and words.
#pragma once

#include "quant/quant_config.h"

oct_status oct_quant_config_check(const struct oct_quant_config *config, oct_error *err);
