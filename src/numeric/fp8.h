// fp8.h: E4M3 (float8_e4m3fn) and E5M2 (float8_e5m2). Exact scalar encode and decode.
//
//     7 6 5 4 3 2 1 0     value = (-1)^s * 2^(e-7) * (1 + m/8)   e > 0
//     s e e e e m m m           = (-1)^s * 2^-6 * m/8            e = 0
//     S.1111.111 is NaN; there is no infinity; the largest value is S.1111.110 = 448.
//
// E5M2 is the upper half of fp16: value = (-1)^s * 2^(e-15) * (1 + m/4); e = 31 is infinity and NaN; the largest value is 57344.
//
// Gaudi 2's E4M3 has the same bits but stops at 240 (S.1110.111): a profile is a full scale, not another format.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define OCT_E4M3_MAX        448.0f
#define OCT_E4M3_MAX_GAUDI2 240.0f
#define OCT_E5M2_MAX        57344.0f

static inline float oct_e4m3_to_f32(uint8_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x80) << 24, magnitude = bits & 0x7f, wide;
    if (magnitude == 0x7f) {
        wide = sign | 0x7fc00000;
    } else if (magnitude < 8) {
        float value = (float)magnitude * 0x1p-9f;
        memcpy(&wide, &value, sizeof wide);
        wide |= sign;
    } else {
        wide = sign | ((magnitude << 20) + (120u << 23)); // the exponent's bias goes from 7 to 127
    }
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// Rounds to nearest, ties to even, once; saturates to +-full_scale (240 or 448); keeps the sign of zero; NaN stays NaN.
static inline uint8_t oct_e4m3_from_f32(float value, float full_scale) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    uint8_t sign = (uint8_t)(wide >> 24 & 0x80);
    if (isnan(value)) return sign | 0x7f;
    float magnitude = fabsf(value);
    if (magnitude > full_scale) magnitude = full_scale;
    if (magnitude < 0x1p-6f) return sign | (uint8_t)(int)nearbyintf(magnitude * 0x1p9f); // subnormal: multiples of 2^-9
    memcpy(&wide, &magnitude, sizeof wide);
    wide += 0x7ffff + (wide >> 20 & 1); // round the 20 bits that fall away, half to even
    return sign | (uint8_t)((wide >> 20) - (120u << 3));
}

// The value of x on the E4M3 grid.
static inline float oct_e4m3_round(float value, float full_scale) {
    return oct_e4m3_to_f32(oct_e4m3_from_f32(value, full_scale));
}

// The value of x on the E5M2 grid: rounds to nearest, ties to even, once; saturates to +-57344; keeps the sign of zero; NaN stays NaN.
static inline float oct_e5m2_round(float value) {
    if (isnan(value)) return value;
    float magnitude = fabsf(value);
    if (magnitude > OCT_E5M2_MAX) magnitude = OCT_E5M2_MAX;
    if (magnitude < 0x1p-14f) return copysignf(nearbyintf(magnitude * 0x1p16f) * 0x1p-16f, value); // subnormal: multiples of 2^-16
    uint32_t wide;
    memcpy(&wide, &magnitude, sizeof wide);
    wide = (wide + 0xfffff + (wide >> 21 & 1)) & ~0x1fffffu; // round the 21 bits that fall away, half to even
    memcpy(&magnitude, &wide, sizeof magnitude);
    return copysignf(magnitude, value);
}
