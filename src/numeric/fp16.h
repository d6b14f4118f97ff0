// fp16.h: IEEE binary16. Exact scalar decode.
#pragma once

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
