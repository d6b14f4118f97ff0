// scale_method.h: from a max-abs value to a scale (spec inc 3.2-3.4). All arithmetic is bf16 (or what hp_dtype says), as on the cards:
// "Which arithmetic".
#pragma once

#include "base/error.h"

#include <stdbool.h>

enum oct_profile { OCT_GAUDI2, OCT_GAUDI3 };
const char *oct_profile_name(enum oct_profile profile); // "gaudi2", "gaudi3"
// Case-insensitive; OCT_INVALID_ARGUMENT names the choices.
oct_status oct_profile_parse(const char *name, enum oct_profile *out, oct_error *err);
float oct_profile_full_scale(enum oct_profile profile); // 240, 448
// The powers of two that a card applies for free, largest first, into scales[OCT_MAX_HW_SCALES]. Returns their number: 4, 63.
enum { OCT_MAX_HW_SCALES = 63 };
int oct_profile_hw_scales(enum oct_profile profile, float *scales);

enum oct_scale_rounding { OCT_ROUND_IDENTITY, OCT_ROUND_POW2, OCT_ROUND_HW_ALIGNED, OCT_ROUND_HW_ALIGNED_FIXED, OCT_ROUND_UNIT };
// Where a scale comes from: a maximum, its rounding alone, a search over candidates (weights only: quant/weight_search.h), nothing.
enum oct_scale_value { OCT_SCALE_MAXABS, OCT_SCALE_FIXED, OCT_SCALE_OPT, OCT_SCALE_DUMMY };

// hp_dtype: what all arithmetic on scales is rounded to.
enum oct_scale_precision { OCT_SCALE_BF16, OCT_SCALE_FP16, OCT_SCALE_FP32 };
float oct_scale_precision_round(enum oct_scale_precision precision, float value);

// Whose arithmetic makes scales and inverses.
enum oct_arithmetic {
    OCT_INC_ARITHMETIC,  // bf16 throughout: scales, and the inverse that a cast multiplies by
    OCT_VLLM_ARITHMETIC, // vLLM and compressed-tensors: scales are bf16(max / 448), inverses float32
};

// How scales follow from maxima, for one kind of tensor.
struct oct_scale_rule {
    enum oct_profile profile;
    enum oct_scale_precision precision;
    bool e5m2; // fp8_config: the format that is scaled for; else E4M3
    bool host; // the arithmetic of INC on a host CPU: divides, where cards multiply by a rounded reciprocal
    enum oct_scale_rounding rounding;
    bool per_channel; // weights: per output channel; activations: per token, at run time
    double backoff;   // 0.25 activations, 0.5 weights and what is scaled at run time
    enum oct_scale_value value;
    enum oct_arithmetic arithmetic; // OCT_VLLM_ARITHMETIC: profile, rounding and backoff count no more
    const float
        *candidates;    // OCT_SCALE_OPT: (num_candidates) of one's own, tried in this order; NULL: those of the method. Lifetime of the
    int num_candidates; // configuration
};

// A rule for weights and one for activations, under INC's name for the combination.
struct oct_scale_method {
    const char *name;
    struct oct_scale_rule weight, activation;
};
enum { OCT_NUM_SCALE_METHODS = 13 };
extern const struct oct_scale_method oct_scale_methods[OCT_NUM_SCALE_METHODS]; // in INC's order; their profile is left gaudi2
// NULL when there is no method of that (upper-case) name.
const struct oct_scale_method *oct_scale_method_find(const char *name);
// The same for a name in any case; OCT_INVALID_ARGUMENT names the methods.
oct_status oct_scale_method_parse(const char *name, const struct oct_scale_method **out, oct_error *err);
// Both scales are the same whatever is measured.
static inline bool oct_scale_method_is_fixed(const struct oct_scale_method *method) {
    return method->weight.value == OCT_SCALE_FIXED && method->activation.value == OCT_SCALE_FIXED;
}

// scale of a tensor whose max |x| is amax (first rounded to bf16).
float oct_scale(const struct oct_scale_rule *rule, float amax);

// What a search tries, into candidates[OCT_MAX_CANDIDATES]: scales per tensor, multiples of the maximum's scale per channel. Their number.
enum { OCT_MAX_CANDIDATES = 64 };
int oct_scale_candidates(const struct oct_scale_rule *rule, float *candidates);

// Where values of the rule's format saturate.
float oct_scale_rule_full_scale(const struct oct_scale_rule *rule);

// The multiplier that the cast uses: bf16(1 / scale).
float oct_inv_scale(float scale);

// For oct_linear.row_scale: the scale of a row of activations, made at run time; rule: a struct oct_scale_rule. Like INC, whatever the rule
// says with a backoff of 0.5. INC makes one scale for all rows of a batch where the rule is not per channel; here every row has its own, so
// that a token's result does not depend on those beside it: for a single token the two are the same.
void oct_scale_row(const void *rule, float amax, float *scale, float *inv_scale);

// The same, in either arithmetic.
float oct_inv_scale_in(enum oct_arithmetic arithmetic, float scale);

// Whether the cast can use a scale: it is positive and its inverse is a number.
bool oct_scale_is_usable(float scale);
// What rounding alone makes of a scale.
float oct_scale_round(const struct oct_scale_rule *rule, float scale);
