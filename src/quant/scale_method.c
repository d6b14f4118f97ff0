#include "quant/scale_method.h"

#include "numeric/bf16.h"

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

// The scales that a card can apply for free are 2^(k * exponent_step) within a range.
static const struct {
    const char *name;
    float full_scale;
    int min_exponent, max_exponent, exponent_step;
} profiles[] = {
    [OCT_GAUDI2] = {"gaudi2", 240, -8, 4, 4},
    [OCT_GAUDI3] = {"gaudi3", 448, -55, 7, 1},
};

const char *oct_profile_name(enum oct_profile profile) {
    return profiles[profile].name;
}

oct_status oct_profile_parse(const char *name, enum oct_profile *out, oct_error *err) {
    for (int i = 0; i < 2; i++) {
        if (strcasecmp(name, profiles[i].name) != 0) continue;
        *out = (enum oct_profile)i;
        return OCT_OK;
    }
    return oct_fail(err, OCT_INVALID_ARGUMENT, "profile: gaudi2 or gaudi3 expected, \"%s\" found", name);
}

float oct_profile_full_scale(enum oct_profile profile) {
    return profiles[profile].full_scale;
}

#define WEIGHT(rounding_, per_channel_)                                                                                                    \
    { .rounding = (rounding_), .per_channel = (per_channel_), .backoff = 0.5f }
#define ACTIVATION(rounding_)                                                                                                              \
    { .rounding = (rounding_), .backoff = 0.25f }
#define SEARCH  "weight scales found by search (OPT) are not implemented"
#define DYNAMIC "activation scales computed at run time (dynamic quantization) are not implemented"

const struct oct_scale_method oct_scale_methods[OCT_NUM_SCALE_METHODS] = {
    {.name = "UNIT_SCALE", .weight = WEIGHT(OCT_ROUND_UNIT, false), .activation = ACTIVATION(OCT_ROUND_UNIT), .fixed = true},
    {.name = "HW_ALIGNED_SINGLE_SCALE",
     .weight = WEIGHT(OCT_ROUND_HW_ALIGNED_FIXED, false),
     .activation = ACTIVATION(OCT_ROUND_HW_ALIGNED_FIXED),
     .fixed = true},
    {.name = "MAXABS_HW", .weight = WEIGHT(OCT_ROUND_HW_ALIGNED, false), .activation = ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {.name = "MAXABS_POW2", .weight = WEIGHT(OCT_ROUND_POW2, false), .activation = ACTIVATION(OCT_ROUND_POW2)},
    {.name = "ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2",
     .weight = WEIGHT(OCT_ROUND_POW2, true),
     .activation = ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {.name = "ACT_MAXABS_HW_WEIGHTS_PCS_OPT_POW2",
     .weight = WEIGHT(OCT_ROUND_POW2, true),
     .activation = ACTIVATION(OCT_ROUND_HW_ALIGNED),
     .unsupported = SEARCH},
    {.name = "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2", .weight = WEIGHT(OCT_ROUND_POW2, true), .activation = ACTIVATION(OCT_ROUND_POW2)},
    {.name = "ACT_MAXABS_POW2_WEIGHTS_PCS_OPT_POW2",
     .weight = WEIGHT(OCT_ROUND_POW2, true),
     .activation = ACTIVATION(OCT_ROUND_POW2),
     .unsupported = SEARCH},
    {.name = "MAXABS_HW_OPT_WEIGHT",
     .weight = WEIGHT(OCT_ROUND_HW_ALIGNED, false),
     .activation = ACTIVATION(OCT_ROUND_HW_ALIGNED),
     .unsupported = SEARCH},
    {.name = "MAXABS_POW2_OPT_WEIGHT",
     .weight = WEIGHT(OCT_ROUND_POW2, false),
     .activation = ACTIVATION(OCT_ROUND_POW2),
     .unsupported = SEARCH},
    {.name = "MAXABS_ARBITRARY", .weight = WEIGHT(OCT_ROUND_IDENTITY, false), .activation = ACTIVATION(OCT_ROUND_IDENTITY)},
    {.name = "ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW",
     .weight = WEIGHT(OCT_ROUND_HW_ALIGNED, false),
     .activation = ACTIVATION(OCT_ROUND_POW2),
     .unsupported = DYNAMIC},
    {.name = "MAXABS_PCS_POW2", .weight = WEIGHT(OCT_ROUND_POW2, true), .activation = ACTIVATION(OCT_ROUND_POW2), .unsupported = DYNAMIC},
};

const struct oct_scale_method *oct_scale_method_find(const char *name) {
    for (size_t i = 0; i < OCT_NUM_SCALE_METHODS; i++)
        if (!strcmp(name, oct_scale_methods[i].name)) return &oct_scale_methods[i];
    return NULL;
}

static float bf16_log2(float x) {
    return oct_bf16_round((float)log2(x));
}

static float bf16_exp2(float exponent) {
    return oct_bf16_round(exp2f(exponent)); // below 2^-133 bf16 has only zero
}

// log2 is rounded to bf16 before ceil, as on the cards: a scale a little above 2^k becomes 2^k where bf16 cannot tell the logarithms
// apart. Zero, infinity and NaN pass through.
static float round_up_to_pow2(float scale) {
    return bf16_exp2(ceilf(bf16_log2(scale)));
}

static float round_up_to_hw_aligned(float scale, enum oct_profile profile) {
    if (isnan(scale)) return scale;
    float step = (float)profiles[profile].exponent_step;
    float exponent = ceilf(bf16_log2(round_up_to_pow2(scale)) / step) * step;
    return bf16_exp2(fminf(fmaxf(exponent, (float)profiles[profile].min_exponent), (float)profiles[profile].max_exponent));
}

float oct_scale(const struct oct_scale_rule *rule, float amax) {
    if (rule->rounding == OCT_ROUND_UNIT) return 1;
    if (rule->rounding == OCT_ROUND_HW_ALIGNED_FIXED) return ldexpf(1, profiles[rule->profile].max_exponent);
    float reciprocal = oct_bf16_round(1 / (profiles[rule->profile].full_scale * rule->backoff));
    float scale = oct_bf16_round(oct_bf16_round(amax) * reciprocal);
    if (rule->per_channel && scale < 0x1p-126f) scale = 0x1p-126f; // a channel of zeros
    switch (rule->rounding) {
    case OCT_ROUND_POW2:
        return round_up_to_pow2(scale);
    case OCT_ROUND_HW_ALIGNED:
        return round_up_to_hw_aligned(scale, rule->profile);
    default:
        return scale;
    }
}

float oct_inv_scale(float scale) {
    return oct_bf16_round(1 / scale);
}
