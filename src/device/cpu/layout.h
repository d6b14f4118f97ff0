// layout.h: where an element of a panel lies. A panel is 32 output channels times k_padded inputs, stored so that a kernel reads it as one
// stream and multiplies 16 channels at once without horizontal sums:
//
//   float32  k0: c0 c1 ... c31 | k1: c0 ...                                   128 bytes a k
//   bf16     k0,k1: (c0k0 c0k1)(c1k0 c1k1) ... (c15k1) | c16 ... c31 | k2,k3  128 bytes a pair of k: two registers of 16 pairs
//   E4M3     k0..k3: 16 channels in 64 bytes, four channels to 16 bytes: first their (k0 k1) pairs, then their (k2 k3) pairs, so that
//            interleaving decoded low and high bytes inside 128-bit lanes gives the bf16 registers of (k0 k1) and of (k2 k3)
#pragma once

#include "device/cpu/kernels.h"
#include "numeric/dtype.h"

#include <stddef.h>

static inline int oct_k_padded(int k) {
    return (k + 3) & ~3;
}

static inline int oct_panels(int channels) {
    return (channels + OCT_PANEL - 1) / OCT_PANEL;
}

static inline size_t oct_panel_element(enum oct_dtype dtype, int k, int channel) {
    size_t pair = (size_t)k / 2, quad = (size_t)k / 4, group = (size_t)channel / 16, c = (size_t)channel % 16;
    if (dtype == OCT_F32) return (size_t)k * OCT_PANEL + (size_t)channel;
    if (dtype == OCT_BF16) return pair * 64 + group * 32 + c * 2 + (size_t)(k & 1);
    return quad * 128 + group * 64 + c / 4 * 16 + (pair & 1) * 8 + c % 4 * 2 + (size_t)(k & 1);
}

// Bytes of a panel.
static inline size_t oct_panel_bytes(enum oct_dtype dtype, int k_padded) {
    return (size_t)k_padded * OCT_PANEL * oct_dtype_block_bytes(dtype);
}
