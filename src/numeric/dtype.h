// dtype.h: the number formats of stored tensors.
#pragma once

#include <stddef.h>

enum oct_dtype {
    OCT_F32,
    OCT_F16,
    OCT_BF16,
    OCT_E4M3, // FP8: sign, 4 exponent bits (bias 7), 3 mantissa bits; no infinity, 0x7F and 0xFF are NaN
    OCT_E5M2, // FP8: sign, 5 exponent bits (bias 15), 2 mantissa bits: the upper half of fp16
    OCT_Q8_0, // GGUF block formats, 32 elements (Q6_K: 256) a block: spec gguf, "Block formats"
    OCT_Q4_0,
    OCT_Q4_1,
    OCT_Q6_K,
};

// Printable name: "bf16", "Q4_1".
const char *oct_dtype_name(enum oct_dtype dtype);
// Elements in a block (1 for plain formats) and bytes of a block.
size_t oct_dtype_block_elements(enum oct_dtype dtype);
size_t oct_dtype_block_bytes(enum oct_dtype dtype);
