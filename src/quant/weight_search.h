// weight_search.h: the scales of a weight that lose least (INC's OPT): each candidate quantizes the weight and the smallest error wins.
// Rows arrive in any order and any number at a time.
#pragma once

#include "quant/scale_method.h"

// `rule`: value OCT_SCALE_OPT; copied. Free with oct_weight_search_free.
struct oct_weight_search *oct_weight_search_new(const struct oct_scale_rule *rule, int out_features);
// weights (rows, in_features): rows first_row .. first_row + rows - 1, bf16 numbers.
void oct_weight_search_rows(struct oct_weight_search *search, int first_row, int rows, int in_features, const float *weights);
// After all rows: scales (out_features) when the rule is per channel, else (1).
void oct_weight_search_finish(const struct oct_weight_search *search, float *scales);
void oct_weight_search_free(struct oct_weight_search *search);
