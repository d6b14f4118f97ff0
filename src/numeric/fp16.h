// fp16.h: IEEE binary16. Exact scalar encode and decode.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float oct_fp16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff, wide;
    if (exponent == 0) {
        float value = (float)mantissa * 0x1p-24f; // zero and subnormals: exact
        memcpy(&wide, &value, sizeof wide);
        wide |= sign;
    } else if (exponent == 31) {
        wide = sign | 0x7f800000 | mantissa << 13;
    } else {
        wide = sign | (exponent + 112) << 23 | mantissa << 13;
    }
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// The float32 value of x rounded to fp16: to nearest, ties to even; beyond 65504 infinity.
static inline float oct_fp16_round(float value) {
    if (!(fabsf(value) >= 0x1p-14f)) return nearbyintf(value * 0x1p24f) * 0x1p-24f; // subnormal: multiples of 2^-24
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7fffffff) >= 0x7f800000) return value; // infinity, NaN
    wide = (wide + 0xfff + (wide >> 13 & 1)) & ~0x1fffu;
    memcpy(&value, &wide, sizeof value);
    return fabsf(value) > 65504 ? copysignf(INFINITY, value) : value;
}
