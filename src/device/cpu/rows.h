// rows.h: the row operations of a vector table, in plain C that the compiler vectorizes; every instruction-set file includes it once and is
// compiled with its own flags. Reductions keep 16 partial results whatever the register width, so that all vector tables agree bit for bit.
#pragma once

#include "device/cpu/kernels.h"
#include "numeric/bf16.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The E4M3 grid value of x, saturated; the steps of numeric/fp8.h without branches. Adding and subtracting 1.5 * 2^14 rounds to multiples
// of 2^-9, the spacing of E4M3's subnormals.
static inline float grid_e4m3(float x, float full_scale) {
    uint32_t sign = bits_of(x) & 0x80000000;
    float magnitude = float_of(bits_of(x) & 0x7fffffff);
    magnitude = magnitude > full_scale ? full_scale : magnitude; // NaN compares false and stays
    uint32_t wide = bits_of(magnitude);
    float normal = float_of((wide + 0x7ffff + (wide >> 20 & 1)) & 0xfff00000);
    float subnormal = (magnitude + 0x1.8p14f) - 0x1.8p14f;
    float value = magnitude < 0x1p-6f ? subnormal : normal;
    value = magnitude != magnitude ? magnitude : value;
    return float_of(bits_of(value) | sign);
}

// The E5M2 grid value of x, saturated. Adding and subtracting 1.5 * 2^7 rounds to multiples of 2^-16, the spacing of E5M2's subnormals.
static inline float grid_e5m2(float x) {
    uint32_t sign = bits_of(x) & 0x80000000;
    float magnitude = float_of(bits_of(x) & 0x7fffffff);
    magnitude = magnitude > 57344.0f ? 57344.0f : magnitude; // NaN compares false and stays
    uint32_t wide = bits_of(magnitude);
    float normal = float_of((wide + 0xfffff + (wide >> 21 & 1)) & 0xffe00000);
    float subnormal = (magnitude + 0x1.8p7f) - 0x1.8p7f;
    float value = magnitude < 0x1p-14f ? subnormal : normal;
    value = magnitude != magnitude ? magnitude : value;
    return float_of(bits_of(value) | sign);
}

static void row_quantize(float *x, int n, float inv_scale, float full_scale) {
    if (full_scale > 448.0f) {
        for (int i = 0; i < n; i++) x[i] = grid_e5m2(x[i] * inv_scale);
        return;
    }
    for (int i = 0; i < n; i++) x[i] = grid_e4m3(x[i] * inv_scale, full_scale);
}

static void row_encode(const float *restrict x, int n, float inv_scale, float full_scale, uint8_t *restrict out) {
    for (int i = 0; i < n; i++) {
        uint32_t wide = bits_of(grid_e4m3(x[i] * inv_scale, full_scale));
        uint32_t magnitude = wide & 0x7fffffff;
        uint32_t subnormal = (uint32_t)(int32_t)(float_of(magnitude < 0x3c800000 ? magnitude : 0) * 0x1p9f); // below 2^-6
        uint32_t code = magnitude < 0x3c800000 ? subnormal : (magnitude >> 20) - (120u << 3);
        code = magnitude > 0x7f800000 ? 0x7f : code;
        out[i] = (uint8_t)(wide >> 24 & 0x80) | (uint8_t)code;
    }
}

static inline uint32_t bf16_bits(float value) {
    uint32_t wide = bits_of(value);
    uint32_t rounded = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    return (wide & 0x7fffffff) > 0x7f800000 ? (wide >> 16 | 0x40) : rounded;
}

static void row_round_bf16(const float *restrict x, int n, uint16_t *restrict out) {
    for (int i = 0; i < n; i++) out[i] = (uint16_t)bf16_bits(x[i]);
}

static void row_scale(const float *x, int n, float factor, float *y) {
    for (int i = 0; i < n; i++) y[i] = x[i] * factor;
}

// The sum of 16 partial sums, always in this order.
static inline float sum_of_lanes(const float lanes[LANES]) {
    float pairs[LANES / 2];
    for (int i = 0; i < 8; i++) pairs[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++) pairs[i] += pairs[i + 4];
    return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

static void row_rms_norm(const float *restrict x, const float *restrict weight, int n, float epsilon, float *restrict y) {
    float lanes[LANES] = {0};
    int whole = n / LANES * LANES;
    for (int i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += x[i + lane] * x[i + lane];
    for (int i = whole; i < n; i++) lanes[i - whole] += x[i] * x[i];
    float factor = 1 / sqrtf(sum_of_lanes(lanes) / (float)n + epsilon);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void row_rotate(float *restrict head, int half, const float *restrict cosines, const float *restrict sines) {
    float *restrict upper = head + half;
    for (int j = 0; j < half; j++) {
        float a = head[j], b = upper[j];
        head[j] = a * cosines[j] - b * sines[j];
        upper[j] = b * cosines[j] + a * sines[j];
    }
}

// e^x to 2e-7 relative for x in [-87, 88], clamped outside: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r, and n into the exponent.
static inline float exponential(float x) {
    x = x > -87.0f ? x : -87.0f; // NaN too: it has no integer part, and callers look for it themselves
    x = x > 88.0f ? 88.0f : x;
    float n = (x * 1.44269504088896341f + 0x1.8p23f) - 0x1.8p23f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts, the first exact in 10 bits
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * float_of((uint32_t)((int32_t)n + 127) << 23);
}

static void row_silu_mul(const float *restrict gate, const float *restrict up, int n, float *restrict y) {
    for (int i = 0; i < n; i++) {
        float value = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
        y[i] = gate[i] != gate[i] ? gate[i] : value;
    }
}

static float row_softmax(float *x, int n, float factor) {
    float lanes[LANES];
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = -INFINITY;
    int whole = n / LANES * LANES;
    float poison = 0; // becomes NaN if any score is NaN or infinite, and then makes every probability NaN
    for (int i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float score = x[i + lane] * factor;
            x[i + lane] = score;
            lanes[lane] = score > lanes[lane] ? score : lanes[lane];
        }
    for (int i = whole; i < n; i++) {
        x[i] *= factor;
        lanes[i - whole] = x[i] > lanes[i - whole] ? x[i] : lanes[i - whole];
    }
    float largest = lanes[0];
    for (int lane = 1; lane < LANES; lane++) largest = lanes[lane] > largest ? lanes[lane] : largest;
    float poisons[LANES] = {0}, sums[LANES] = {0};
    for (int i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            poisons[lane] += x[i + lane] * 0.0f;
            x[i + lane] = exponential(x[i + lane] - largest);
            sums[lane] += x[i + lane];
        }
    for (int i = whole; i < n; i++) {
        poisons[i - whole] += x[i] * 0.0f;
        x[i] = exponential(x[i] - largest);
        sums[i - whole] += x[i];
    }
    for (int lane = 0; lane < LANES; lane++) poison += poisons[lane];
    float sum = sum_of_lanes(sums) + poison;
    for (int i = 0; i < n; i++) x[i] /= sum;
    return 1.0f / sum; // the largest score has e^0
}

static float row_amax(const float *x, int n) {
    float lanes[LANES] = {0}, poisons[LANES] = {0};
    int whole = n / LANES * LANES;
    for (int i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float magnitude = float_of(bits_of(x[i + lane]) & 0x7fffffff);
            lanes[lane] = magnitude > lanes[lane] ? magnitude : lanes[lane];
            poisons[lane] += magnitude != magnitude ? magnitude : 0.0f;
        }
    for (int i = whole; i < n; i++) {
        float magnitude = fabsf(x[i]);
        lanes[i - whole] = magnitude > lanes[i - whole] ? magnitude : lanes[i - whole];
        poisons[i - whole] += magnitude != magnitude ? magnitude : 0.0f;
    }
    float largest = 0, poison = 0;
    for (int lane = 0; lane < LANES; lane++) {
        largest = lanes[lane] > largest ? lanes[lane] : largest;
        poison += poisons[lane];
    }
    return poison != poison ? poison : largest;
}

static void row_finish(const float *restrict c, int rows, int n, const float *restrict scales, const float *restrict bias,
                       float *restrict y, size_t ldy, bool add) {
    for (int row = 0; row < rows; row++, c += OCT_PANEL, y += ldy) {
        float values[OCT_PANEL];
        for (int i = 0; i < OCT_PANEL; i++) values[i] = c[i];
        if (scales)
            for (int i = 0; i < n; i++) values[i] *= scales[i];
        if (bias)
            for (int i = 0; i < n; i++) values[i] += bias[i];
        if (add)
            for (int i = 0; i < n; i++) values[i] += y[i];
        for (int i = 0; i < n; i++) y[i] = values[i];
    }
}

static uint64_t row_read(const void *memory, size_t bytes) {
    enum { WORDS = 32 };
    const uint64_t *words = memory;
    uint64_t sums[WORDS] = {0}, sum = 0;
    for (size_t i = 0; i < bytes / sizeof *words; i += WORDS) {
        for (int line = 0; line < WORDS; line += 8) __builtin_prefetch(words + i + 1024 + line, 0, 0);
        for (int word = 0; word < WORDS; word++) sums[word] += words[i + (size_t)word];
    }
    for (int word = 0; word < WORDS; word++) sum += sums[word];
    return sum;
}

#define ROW_KERNELS                                                                                                                        \
    .finish = row_finish, .quantize = row_quantize, .encode = row_encode, .round_bf16 = row_round_bf16, .scale = row_scale,                \
    .rms_norm = row_rms_norm, .rotate = row_rotate, .silu_mul = row_silu_mul, .softmax = row_softmax, .amax = row_amax, .read = row_read
