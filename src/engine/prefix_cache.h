// prefix_cache.h: which block holds K and V of which tokens. A full block's key is a keyed hash of its tokens and of the key of the block
// before it, so that one key stands for everything from the start of the sequence.
#pragma once

#include "base/keyed_hash.h"

#include <stdint.h>

struct oct_prefix_cache {
    struct oct_hash secret; // of this process
    int num_blocks;         // 0: nothing is cached
    struct oct_hash *keys;  // (num_blocks) valid where the block is in a chain. Owned, like the arrays below
    int32_t *chains;        // (num_blocks) the next block with the same bucket; -1: the last, NOT_CACHED: the block has no key
    int32_t *buckets;       // (mask + 1) the first block of each bucket; -1: none
    uint32_t mask;
};

void oct_prefix_cache_open(struct oct_prefix_cache *cache, int num_blocks);
void oct_prefix_cache_close(struct oct_prefix_cache *cache);

// The parent of a sequence's first block. Sequences with different salts share nothing; salt may be NULL.
struct oct_hash oct_prefix_root(const struct oct_prefix_cache *cache, const char *salt);
struct oct_hash oct_prefix_key(const struct oct_prefix_cache *cache, struct oct_hash parent, const int32_t *tokens, int block_size);

// The block with this key, or -1.
int32_t oct_prefix_cache_find(const struct oct_prefix_cache *cache, struct oct_hash key);
// From now on the block is found under the key, unless another one is already: then the block stays without a key.
void oct_prefix_cache_insert(struct oct_prefix_cache *cache, int32_t block, struct oct_hash key);
bool oct_prefix_cache_holds(const struct oct_prefix_cache *cache, int32_t block);
// The block is about to hold something else. Does nothing to a block without a key.
void oct_prefix_cache_forget(struct oct_prefix_cache *cache, int32_t block);
