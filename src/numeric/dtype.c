// dtype.c: one table with the name and block size of each format.
#include "numeric/dtype.h"

#include <stdint.h>

static const struct {
    const char *name;
    uint16_t elements, bytes;
} formats[] = {
    [OCT_F32] = {"f32", 1, 4},     [OCT_F16] = {"f16", 1, 2},     [OCT_BF16] = {"bf16", 1, 2},
    [OCT_E4M3] = {"e4m3", 1, 1},   [OCT_E5M2] = {"e5m2", 1, 1},   [OCT_Q8_0] = {"Q8_0", 32, 34},
    [OCT_Q4_0] = {"Q4_0", 32, 18}, [OCT_Q4_1] = {"Q4_1", 32, 20}, [OCT_Q6_K] = {"Q6_K", 256, 210},
};

const char *oct_dtype_name(enum oct_dtype dtype) {
    return formats[dtype].name;
}

size_t oct_dtype_block_elements(enum oct_dtype dtype) {
    return formats[dtype].elements;
}

size_t oct_dtype_block_bytes(enum oct_dtype dtype) {
    return formats[dtype].bytes;
}
