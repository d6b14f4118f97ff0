// exponential.h: e^x for x <= 0, written so that the compiler computes several at once: no branch, no table, no call.
#pragma once

#include <stdint.h>
#include <string.h>

// Within 2 units in the last place; 0 below -87, where float32 would leave its normal range.
static inline float oct_exp(float x) {
    const float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    const float shifter = 0x1.8p23f; // adding it rounds to an integer, which then stands in the low bits
    float clamped = x < -87.0f ? -87.0f : x;
    float shifted = clamped * log2_e + shifter, whole = shifted - shifter;
    float r = clamped - whole * ln2_high - whole * ln2_low; // |r| <= ln(2) / 2
    float e = 1.98756915e-4f;                               // Cephes' polynomial for e^r
    e = e * r + 1.39819995e-3f;
    e = e * r + 8.33345191e-3f;
    e = e * r + 4.16657958e-2f;
    e = e * r + 1.66666655e-1f;
    e = e * r + 5.00000012e-1f;
    e = e * r * r + r + 1;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23; // 2^whole
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0 : e * power;
}
