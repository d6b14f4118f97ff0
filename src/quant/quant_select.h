// quant_select.h: which modules a configuration selects (spec inc 6): exact class names, and regular expressions found anywhere in a name.
#pragma once

#include "quant/quant_config.h"

// Whether a regular expression can be used; if not, message says why.
bool oct_name_pattern_is_valid(const char *pattern, char message[static 120]);
// The same as oct_quant_config_selects for a module of any model, by its class and qualified name.
bool oct_quant_config_selects_name(const struct oct_quant_config *config, const char *class_name, const char *name);
