// arena.h: device memory for weights and KV blocks. Matrices of a small model are smaller than a huge page; side by side in large slabs
// they share huge pages instead of wasting one each.
#pragma once

#include "base/error.h"

#include <stddef.h>

struct oct_arena {
    struct oct_slab *slabs; // the newest first. Owned
};

// `size` zeroed bytes on a 64-byte boundary.
oct_status oct_arena_alloc(struct oct_arena *arena, size_t size, const char *what, void **out, oct_error *err);
// Gives a block back; a slab's pages go back to the system with its last block.
void oct_arena_free(struct oct_arena *arena, void *block);
