// prefix_cache.c: a hash table whose entries are the blocks themselves, chained through an array.
#include "engine/prefix_cache.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { LAST = -1, NOT_CACHED = -2 };

void oct_prefix_cache_open(struct oct_prefix_cache *cache, int num_blocks) {
    size_t blocks = (size_t)num_blocks, buckets = 1;
    while (buckets < blocks) buckets *= 2;
    *cache = (struct oct_prefix_cache){
        .secret = oct_random_key(),
        .num_blocks = num_blocks,
        .keys = oct_alloc(blocks, sizeof *cache->keys, "keys of KV blocks"),
        .chains = oct_alloc(blocks, sizeof *cache->chains, "keys of KV blocks"),
        .buckets = oct_alloc(buckets, sizeof *cache->buckets, "keys of KV blocks"),
        .mask = (uint32_t)buckets - 1,
    };
    for (size_t i = 0; i < blocks; i++) cache->chains[i] = NOT_CACHED;
    for (size_t i = 0; i < buckets; i++) cache->buckets[i] = LAST;
}

void oct_prefix_cache_close(struct oct_prefix_cache *cache) {
    free(cache->keys);
    free(cache->chains);
    free(cache->buckets);
    *cache = (struct oct_prefix_cache){0};
}

struct oct_hash oct_prefix_root(const struct oct_prefix_cache *cache, const char *salt) {
    return oct_keyed_hash(&cache->secret, salt ? salt : "", salt ? strlen(salt) : 0);
}

struct oct_hash oct_prefix_key(const struct oct_prefix_cache *cache, struct oct_hash parent, const int32_t *tokens, int block_size) {
    // The parent is the key of the hash of this block, mixed with the secret: chained without copying the tokens behind it.
    struct oct_hash key = {parent.low ^ cache->secret.low, parent.high ^ cache->secret.high};
    return oct_keyed_hash(&key, tokens, (size_t)block_size * sizeof *tokens);
}

static int32_t *bucket_of(const struct oct_prefix_cache *cache, struct oct_hash key) {
    return &cache->buckets[(uint32_t)key.low & cache->mask];
}

int32_t oct_prefix_cache_find(const struct oct_prefix_cache *cache, struct oct_hash key) {
    if (cache->num_blocks == 0) return -1;
    int32_t block = *bucket_of(cache, key);
    while (block >= 0 && !oct_hash_equal(cache->keys[block], key)) block = cache->chains[block];
    return block;
}

void oct_prefix_cache_insert(struct oct_prefix_cache *cache, int32_t block, struct oct_hash key) {
    if (cache->num_blocks == 0 || oct_prefix_cache_holds(cache, block) || oct_prefix_cache_find(cache, key) >= 0) return;
    int32_t *bucket = bucket_of(cache, key);
    cache->keys[block] = key;
    cache->chains[block] = *bucket;
    *bucket = block;
}

bool oct_prefix_cache_holds(const struct oct_prefix_cache *cache, int32_t block) {
    return cache->num_blocks > 0 && cache->chains[block] != NOT_CACHED;
}

void oct_prefix_cache_forget(struct oct_prefix_cache *cache, int32_t block) {
    if (!oct_prefix_cache_holds(cache, block)) return;
    int32_t *link = bucket_of(cache, cache->keys[block]);
    while (*link != block) link = &cache->chains[*link];
    *link = cache->chains[block];
    cache->chains[block] = NOT_CACHED;
}
