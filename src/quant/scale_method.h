// scale_method.h: from a max-abs value to a scale (spec inc 3.2-3.4). All arithmetic is bf16, as on the cards: "Which arithmetic".
#pragma once

#include "base/error.h"

#include <stdbool.h>

enum oct_profile { OCT_GAUDI2, OCT_GAUDI3 };
const char *oct_profile_name(enum oct_profile profile); // "gaudi2", "gaudi3"
// Case-insensitive; OCT_INVALID_ARGUMENT names the choices.
oct_status oct_profile_parse(const char *name, enum oct_profile *out, oct_error *err);
float oct_profile_full_scale(enum oct_profile profile); // 240, 448

enum oct_scale_rounding { OCT_ROUND_IDENTITY, OCT_ROUND_POW2, OCT_ROUND_HW_ALIGNED, OCT_ROUND_HW_ALIGNED_FIXED, OCT_ROUND_UNIT };

// How scales follow from maxima, for one kind of tensor.
struct oct_scale_rule {
    enum oct_profile profile;
    enum oct_scale_rounding rounding;
    bool per_channel;
    float backoff; // 0.25 activations, 0.5 weights
};

// INC's named scale methods: a rule for activations and one for weights (the profile is left gaudi2: set it).
struct oct_scale_method {
    const char *name;
    struct oct_scale_rule weight, activation;
    bool fixed;              // both rules ignore the maxima: no measurement is needed
    const char *unsupported; // NULL, or why Octavo cannot use it
};
enum { OCT_NUM_SCALE_METHODS = 13 };
extern const struct oct_scale_method oct_scale_methods[OCT_NUM_SCALE_METHODS]; // in INC's order
// NULL when there is no method of that (upper-case) name.
const struct oct_scale_method *oct_scale_method_find(const char *name);

// scale of a tensor whose max |x| is amax (first rounded to bf16).
float oct_scale(const struct oct_scale_rule *rule, float amax);

// The multiplier that the cast uses: bf16(1 / scale).
float oct_inv_scale(float scale);
