// The loops are written so that a compiler turns them into vector code: no branches, no carried state. Every product of a scale and a
// quantized integer is exact in float32 (at most 11 + 8 significant bits; Q6_K rounds once), so the order of operations cannot matter.
#include "model/block_format.h"

#include "base/error.h"
#include "numeric/fp16.h"
#include "numeric/fp8.h"

#include <string.h>

static uint16_t load16(const uint8_t *bytes) {
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static float load_f16(const uint8_t *bytes) {
    return oct_fp16_to_f32(load16(bytes));
}

static void decode_bf16(const uint8_t *restrict bytes, size_t count, float *restrict out) {
    for (size_t i = 0; i < count; i++) {
        uint32_t wide = (uint32_t)load16(bytes + 2 * i) << 16;
        memcpy(out + i, &wide, sizeof wide);
    }
}

// What oct_fp16_to_f32 gives, without its branches: exponent and mantissa, moved to float32's places, are the value times 2^-112
// (subnormals included); only infinity and NaN need their exponent put in.
static void decode_f16(const uint8_t *restrict bytes, size_t count, float *restrict out) {
    for (size_t i = 0; i < count; i++) {
        uint32_t half = load16(bytes + 2 * i), magnitude = half & 0x7fff, wide = magnitude << 13;
        float scaled;
        memcpy(&scaled, &wide, sizeof wide);
        scaled *= 0x1p112f;
        uint32_t finite;
        memcpy(&finite, &scaled, sizeof finite);
        wide = (magnitude >= 0x7c00 ? wide | 0x7f800000 : finite) | (half & 0x8000) << 16;
        memcpy(out + i, &wide, sizeof wide);
    }
}

// f16 d | i8 q[32]                                          x[j] = d q[j]
static void decode_q8_0(const uint8_t *restrict block, size_t count, float *restrict out) {
    for (const float *end = out + count; out < end; out += 32, block += 34) {
        float d = load_f16(block);
        for (int j = 0; j < 32; j++) out[j] = d * (float)(int8_t)block[2 + j];
    }
}

// f16 d | u8 q[16]: low nibbles are elements 0..15, high nibbles 16..31      x[j] = d (q - 8)
static void decode_q4_0(const uint8_t *restrict block, size_t count, float *restrict out) {
    for (const float *end = out + count; out < end; out += 32, block += 18) {
        float d = load_f16(block);
        for (int j = 0; j < 16; j++) out[j] = d * (float)((block[2 + j] & 15) - 8);
        for (int j = 0; j < 16; j++) out[j + 16] = d * (float)((block[2 + j] >> 4) - 8);
    }
}

// f16 d | f16 m | u8 q[16]                                  x[j] = d q + m
static void decode_q4_1(const uint8_t *restrict block, size_t count, float *restrict out) {
    for (const float *end = out + count; out < end; out += 32, block += 20) {
        float d = load_f16(block), m = load_f16(block + 2);
        for (int j = 0; j < 16; j++) out[j] = d * (float)(block[4 + j] & 15) + m;
        for (int j = 0; j < 16; j++) out[j + 16] = d * (float)(block[4 + j] >> 4) + m;
    }
}

// u8 low[128] | u8 high[64] | i8 scale[16] | f16 d          x[j] = d scale[j / 16] (q - 32), q of 6 bits
// Two halves of 128 elements, each four runs of 32: low holds the runs' lower 4 bits as (0 and 2), (1 and 3) in low and high nibbles;
// a byte of high holds the upper 2 bits of all four runs.
static void decode_q6_k(const uint8_t *restrict block, size_t count, float *restrict out) {
    for (const float *end = out + count; out < end; block += 210) {
        float d = load_f16(block + 208);
        for (int half = 0; half < 2; half++) {
            const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half, *scales = block + 192 + 8 * half;
            for (int run = 0; run < 4; run++, out += 32)
                for (int j = 0; j < 32; j++) {
                    int nibble = low[j + 32 * (run & 1)] >> 4 * (run >> 1) & 15;
                    int q = (nibble | (high[j] >> 2 * run & 3) << 4) - 32;
                    out[j] = d * (float)(int8_t)scales[2 * run + j / 16] * (float)q;
                }
        }
    }
}

void oct_decode_row(enum oct_dtype dtype, const uint8_t *bytes, size_t count, float *out) {
    OCT_CHECK(count % oct_dtype_block_elements(dtype) == 0);
    if (count == 0) return;
    switch (dtype) {
    case OCT_F32:
        memcpy(out, bytes, count * sizeof *out);
        return;
    case OCT_F16:
        decode_f16(bytes, count, out);
        return;
    case OCT_BF16:
        decode_bf16(bytes, count, out);
        return;
    case OCT_Q8_0:
        decode_q8_0(bytes, count, out);
        return;
    case OCT_Q4_0:
        decode_q4_0(bytes, count, out);
        return;
    case OCT_Q4_1:
        decode_q4_1(bytes, count, out);
        return;
    case OCT_Q6_K:
        decode_q6_k(bytes, count, out);
        return;
    case OCT_E4M3:
        for (size_t i = 0; i < count; i++) out[i] = oct_e4m3_to_f32(bytes[i]);
        return;
    case OCT_E5M2:
        break;
    }
    OCT_CHECK(!"a row format of a checkpoint");
}
