// bf16.h: bfloat16 is the upper half of a float32. Exact scalar encode and decode.
#pragma once

#include <stdint.h>
#include <string.h>

static inline float oct_bf16_to_f32(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// Rounds to nearest, ties to even; NaN stays a (quiet) NaN, overflow goes to infinity.
static inline uint16_t oct_bf16_from_f32(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7fffffff) > 0x7f800000) return (uint16_t)(wide >> 16 | 0x40);
    return (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
}

// The float32 value of x rounded to bf16.
static inline float oct_bf16_round(float value) {
    return oct_bf16_to_f32(oct_bf16_from_f32(value));
}
