// block_format.h: exact decoding of stored rows to float32. A row of n elements is n / block_elements blocks without gaps; a block is
// decoded on its own, from its bytes alone, so rows may start at any address (Q8_0 rows are only 2-byte aligned).
#pragma once

#include "numeric/dtype.h"

#include <stddef.h>
#include <stdint.h>

// Decodes `count` elements (a whole number of blocks; of OCT_E4M3 the codes' values, without scales) from `bytes` to out (count).
void oct_decode_row(enum oct_dtype dtype, const uint8_t *bytes, size_t count, float *out);
