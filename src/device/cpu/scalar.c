// scalar.c: every kernel as its definition says it. Written for reading; the oracle of the other tables.
#include "device/cpu/kernels.h"
#include "device/cpu/layout.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>

// Packed x: row after row, float32 values.
static void pack_bf16(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    float *packed = out;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++) *packed++ = i < k ? oct_bf16_round(x[(size_t)row * stride + (size_t)i]) : 0;
}

static void pack_f32(const float *x, size_t stride, int rows, int k, int k_padded, void *out) {
    float *packed = out;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++) *packed++ = i < k ? x[(size_t)row * stride + (size_t)i] : 0;
}

static void pack_e4m3(const float *x, size_t stride, int rows, int k, int k_padded, const float *inv_scales, float full_scale, void *out) {
    float *packed = out;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k_padded; i++)
            *packed++ = i < k ? oct_e4m3_to_f32(oct_e4m3_from_f32(x[(size_t)row * stride + (size_t)i] * inv_scales[row], full_scale)) : 0;
}

static float panel_value(enum oct_dtype dtype, const void *panel, int k, int channel) {
    size_t element = oct_panel_element(dtype, k, channel);
    if (dtype == OCT_F32) return ((const float *)panel)[element];
    if (dtype == OCT_BF16) return oct_bf16_to_f32(((const uint16_t *)panel)[element]);
    return oct_e4m3_to_f32(((const uint8_t *)panel)[element]);
}

static void tile(enum oct_dtype dtype, const float *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    for (int channel = 0; channel < OCT_PANEL; channel++)
        for (int row = 0; row < rows; row++) {
            float sum = accumulate ? c[(size_t)row * ldc + (size_t)channel] : 0;
            for (int k = 0; k < k_padded; k++) sum += x[(size_t)row * (size_t)k_padded + (size_t)k] * panel_value(dtype, panel, k, channel);
            c[(size_t)row * ldc + (size_t)channel] = sum;
        }
}

static void tile_f32(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    tile(OCT_F32, x, rows, panel, k_padded, c, ldc, accumulate);
}

static void tile_bf16(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    tile(OCT_BF16, x, rows, panel, k_padded, c, ldc, accumulate);
}

static void tile_e4m3(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate) {
    tile(OCT_E4M3, x, rows, panel, k_padded, c, ldc, accumulate);
}

static void finish(const float *c, int rows, int n, const float *scales, const float *bias, float *y, size_t ldy, bool add) {
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < n; i++) {
            float value = c[row * OCT_PANEL + i];
            if (scales) value *= scales[i];
            if (bias) value += bias[i];
            y[(size_t)row * ldy + (size_t)i] = add ? y[(size_t)row * ldy + (size_t)i] + value : value;
        }
}

static void quantize(float *x, int n, float inv_scale, float full_scale) {
    bool e5m2 = full_scale > OCT_E4M3_MAX;
    for (int i = 0; i < n; i++) x[i] = e5m2 ? oct_e5m2_round(x[i] * inv_scale) : oct_e4m3_round(x[i] * inv_scale, full_scale);
}

static void encode(const float *x, int n, float inv_scale, float full_scale, uint8_t *out) {
    for (int i = 0; i < n; i++) out[i] = oct_e4m3_from_f32(x[i] * inv_scale, full_scale);
}

static void round_bf16(const float *x, int n, uint16_t *out) {
    for (int i = 0; i < n; i++) out[i] = oct_bf16_from_f32(x[i]);
}

static void scale(const float *x, int n, float factor, float *y) {
    for (int i = 0; i < n; i++) y[i] = x[i] * factor;
}

static void rms_norm(const float *x, const float *weight, int n, float epsilon, float *y) {
    float squares = 0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    float factor = 1 / sqrtf(squares / (float)n + epsilon);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void rotate(float *head, int half, const float *cosines, const float *sines) {
    for (int j = 0; j < half; j++) {
        float a = head[j], b = head[j + half];
        head[j] = a * cosines[j] - b * sines[j];
        head[j + half] = b * cosines[j] + a * sines[j];
    }
}

static void silu_mul(const float *gate, const float *up, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static float softmax(float *x, int n, float factor) {
    float largest = -INFINITY, sum = 0, best = 0;
    for (int i = 0; i < n; i++) largest = fmaxf(largest, x[i] * factor);
    for (int i = 0; i < n; i++) sum += x[i] = expf(x[i] * factor - largest);
    for (int i = 0; i < n; i++) {
        x[i] /= sum;
        if (!(x[i] <= best)) best = x[i]; // NaN is taken over
    }
    return best;
}

static float amax(const float *x, int n) {
    float largest = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(x[i])) return x[i];
        largest = fmaxf(largest, fabsf(x[i]));
    }
    return largest;
}

static uint64_t read_words(const void *memory, size_t bytes) {
    const uint64_t *words = memory;
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes / sizeof *words; i++) sum += words[i];
    return sum;
}

static double multiply_add(int repeats, float *value) {
    float factor = *value, sums[8] = {0};
    for (int repeat = 0; repeat < repeats; repeat++)
        for (int i = 0; i < 8; i++) sums[i] += factor * factor;
    *value = sums[0];
    for (int i = 1; i < 8; i++) *value += sums[i];
    return 2.0 * 8 * repeats;
}

const struct oct_kernels oct_kernels_scalar = {
    .name = "scalar",
    .tile_rows = 4,
    .e4m3_tile_rows = 4,
    .x_bytes = sizeof(float),
    .pack_bf16 = pack_bf16,
    .pack_f32 = pack_f32,
    .pack_e4m3 = pack_e4m3,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .tile_e4m3 = tile_e4m3,
    .finish = finish,
    .quantize = quantize,
    .encode = encode,
    .round_bf16 = round_bf16,
    .scale = scale,
    .rms_norm = rms_norm,
    .rotate = rotate,
    .silu_mul = silu_mul,
    .softmax = softmax,
    .amax = amax,
    .read = read_words,
    .multiply_add = multiply_add,
};
