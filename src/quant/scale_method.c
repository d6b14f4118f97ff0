// scale_method.c: the arithmetic of scales: every step is rounded to bf16, as on the cards.
#include "quant/scale_method.h"

#include "base/buffer.h"
#include "numeric/bf16.h"
#include "numeric/fp16.h"
#include "numeric/fp8.h"

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

int oct_profile_hw_scales(enum oct_profile profile, float *scales) {
    int n = 0;
    for (int e = profiles[profile].max_exponent; e >= profiles[profile].min_exponent; e -= profiles[profile].exponent_step)
        scales[n++] = ldexpf(1, e);
    return n;
}

#define WEIGHT(rounding_)                                                                                                                  \
    { .rounding = (rounding_), .backoff = 0.5 }
#define ROWS(rounding_)                                                                                                                    \
    { .rounding = (rounding_), .backoff = 0.5, .per_channel = true }
#define SEARCH(rounding_, per_channel_)                                                                                                    \
    { .rounding = (rounding_), .backoff = 0.5, .per_channel = (per_channel_), .value = OCT_SCALE_OPT }
#define ACTIVATION(rounding_)                                                                                                              \
    { .rounding = (rounding_), .backoff = 0.25 }
#define TOKENS(rounding_)                                                                                                                  \
    { .rounding = (rounding_), .backoff = 0.5, .per_channel = true }
#define FIXED(rounding_)                                                                                                                   \
    { .rounding = (rounding_), .backoff = 1, .value = OCT_SCALE_FIXED }

const struct oct_scale_method oct_scale_methods[OCT_NUM_SCALE_METHODS] = {
    {"UNIT_SCALE", FIXED(OCT_ROUND_UNIT), FIXED(OCT_ROUND_UNIT)},
    {"HW_ALIGNED_SINGLE_SCALE", FIXED(OCT_ROUND_HW_ALIGNED_FIXED), FIXED(OCT_ROUND_HW_ALIGNED_FIXED)},
    {"MAXABS_HW", WEIGHT(OCT_ROUND_HW_ALIGNED), ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {"MAXABS_POW2", WEIGHT(OCT_ROUND_POW2), ACTIVATION(OCT_ROUND_POW2)},
    {"ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2", ROWS(OCT_ROUND_POW2), ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {"ACT_MAXABS_HW_WEIGHTS_PCS_OPT_POW2", SEARCH(OCT_ROUND_POW2, true), ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {"ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2", ROWS(OCT_ROUND_POW2), ACTIVATION(OCT_ROUND_POW2)},
    {"ACT_MAXABS_POW2_WEIGHTS_PCS_OPT_POW2", SEARCH(OCT_ROUND_POW2, true), ACTIVATION(OCT_ROUND_POW2)},
    {"MAXABS_HW_OPT_WEIGHT", SEARCH(OCT_ROUND_HW_ALIGNED, false), ACTIVATION(OCT_ROUND_HW_ALIGNED)},
    {"MAXABS_POW2_OPT_WEIGHT", SEARCH(OCT_ROUND_POW2, false), ACTIVATION(OCT_ROUND_POW2)},
    {"MAXABS_ARBITRARY", WEIGHT(OCT_ROUND_IDENTITY), ACTIVATION(OCT_ROUND_IDENTITY)},
    {"ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW", WEIGHT(OCT_ROUND_HW_ALIGNED), TOKENS(OCT_ROUND_POW2)},
    {"MAXABS_PCS_POW2", ROWS(OCT_ROUND_POW2), TOKENS(OCT_ROUND_POW2)},
};

const struct oct_scale_method *oct_scale_method_find(const char *name) {
    for (size_t i = 0; i < OCT_NUM_SCALE_METHODS; i++)
        if (!strcmp(name, oct_scale_methods[i].name)) return &oct_scale_methods[i];
    return NULL;
}

oct_status oct_scale_method_parse(const char *name, const struct oct_scale_method **out, oct_error *err) {
    for (size_t i = 0; i < OCT_NUM_SCALE_METHODS; i++) {
        if (strcasecmp(name, oct_scale_methods[i].name) != 0) continue;
        *out = &oct_scale_methods[i];
        return OCT_OK;
    }
    struct oct_buffer names = {0};
    for (int i = 0; i < OCT_NUM_SCALE_METHODS; i++) oct_buffer_printf(&names, "%s%s", i ? ", " : "", oct_scale_methods[i].name);
    oct_status status = oct_fail(err, OCT_INVALID_ARGUMENT, "scale method: one of %s expected, \"%s\" found", names.data, name);
    oct_buffer_free(&names);
    return status;
}

float oct_scale_precision_round(enum oct_scale_precision precision, float value) {
    switch (precision) {
    case OCT_SCALE_BF16:
        return oct_bf16_round(value);
    case OCT_SCALE_FP16:
        return oct_fp16_round(value);
    case OCT_SCALE_FP32:
        return value;
    }
    OCT_CHECK(!"a precision");
}

// log2 is rounded before ceil, as on the cards: a scale a little above 2^k becomes 2^k where bf16 cannot tell the logarithms apart. Zero,
// infinity and NaN pass through.
static float round_up_to_pow2(const struct oct_scale_rule *rule, float scale) {
    float exponent = ceilf(oct_scale_precision_round(rule->precision, (float)log2(scale)));
    return oct_scale_precision_round(rule->precision, exp2f(exponent)); // below 2^-133 bf16 has only zero
}

static float round_up_to_hw_aligned(const struct oct_scale_rule *rule, float scale) {
    if (isnan(scale)) return scale;
    enum oct_profile profile = rule->profile;
    float step = (float)profiles[profile].exponent_step;
    float exponent = ceilf(oct_scale_precision_round(rule->precision, (float)log2(round_up_to_pow2(rule, scale))) / step) * step;
    exponent = fminf(fmaxf(exponent, (float)profiles[profile].min_exponent), (float)profiles[profile].max_exponent);
    return oct_scale_precision_round(rule->precision, exp2f(exponent));
}

float oct_scale_round(const struct oct_scale_rule *rule, float scale) {
    switch (rule->rounding) {
    case OCT_ROUND_IDENTITY:
        return scale;
    case OCT_ROUND_POW2:
        return round_up_to_pow2(rule, scale);
    case OCT_ROUND_HW_ALIGNED:
        return round_up_to_hw_aligned(rule, scale);
    case OCT_ROUND_HW_ALIGNED_FIXED:
        return ldexpf(1, profiles[rule->profile].max_exponent);
    case OCT_ROUND_UNIT:
        return 1;
    }
    OCT_CHECK(!"a rounding rule");
}

int oct_scale_candidates(const struct oct_scale_rule *rule, float *candidates) {
    if (rule->candidates) {
        memcpy(candidates, rule->candidates, (size_t)rule->num_candidates * sizeof *candidates);
        return rule->num_candidates;
    }
    if (!rule->per_channel && rule->rounding == OCT_ROUND_HW_ALIGNED) return oct_profile_hw_scales(rule->profile, candidates);
    int n = 0, last = rule->per_channel ? 4 : 9;
    for (int exponent = rule->per_channel ? -3 : -10; exponent <= last; exponent++) candidates[n++] = ldexpf(1, exponent);
    return n;
}

float oct_scale_rule_full_scale(const struct oct_scale_rule *rule) {
    return rule->e5m2 ? OCT_E5M2_MAX : profiles[rule->profile].full_scale;
}

float oct_scale(const struct oct_scale_rule *rule, float amax) {
    if (rule->arithmetic == OCT_VLLM_ARITHMETIC) return oct_bf16_round(amax / OCT_E4M3_MAX);
    double largest = oct_scale_rule_full_scale(rule) * rule->backoff;
    float rounded = oct_scale_precision_round(rule->precision, amax);
    float quotient = rule->host ? (float)(rounded / largest) : rounded * oct_scale_precision_round(rule->precision, (float)(1 / largest));
    float scale = oct_scale_precision_round(rule->precision, quotient);
    if (rule->per_channel && scale < 0x1p-126f) scale = 0x1p-126f; // a channel of zeros
    return oct_scale_round(rule, scale);
}

void oct_scale_row(const void *rule, float amax, float *scale, float *inv_scale) {
    struct oct_scale_rule at_run_time = *(const struct oct_scale_rule *)rule;
    at_run_time.backoff = 0.5;
    *scale = oct_scale(&at_run_time, amax);
    if (!oct_scale_is_usable(*scale) && !isnan(amax)) *scale = 1; // a row of zeros
    *inv_scale = oct_inv_scale(*scale);
}

bool oct_scale_is_usable(float scale) {
    return scale > 0 && isfinite(scale) && isfinite(oct_inv_scale(scale));
}

float oct_inv_scale(float scale) {
    return oct_bf16_round(1 / scale);
}

float oct_inv_scale_in(enum oct_arithmetic arithmetic, float scale) {
    return arithmetic == OCT_VLLM_ARITHMETIC ? 1 / scale : oct_inv_scale(scale);
}
