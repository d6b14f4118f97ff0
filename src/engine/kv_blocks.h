// kv_blocks.h: which physical KV blocks are free, and which ones hold the tokens of each sequence. Only numbers: the memory
// itself is the model's (struct oct_kv_cache).
#pragma once

#include "engine/prefix_cache.h"

#include <stdbool.h>
#include <stdint.h>

struct oct_kv_block {
    int32_t references;     // block tables that hold it; 0: free
    int32_t previous, next; // in the list of free blocks
};

// Free blocks stand in a list in the order in which they will be taken: first those that hold nothing that could be asked for again, then,
// least recently used first, those that the prefix cache knows. So a block is cached until its memory is needed.
struct oct_kv_blocks {
    int block_size, num_blocks, num_free;
    struct oct_kv_block *blocks; // (num_blocks + 1) the last one is the head of the list. Owned
    struct oct_prefix_cache prefix_cache;
};

void oct_kv_blocks_open(struct oct_kv_blocks *blocks, int block_size, int num_blocks, bool prefix_caching);
void oct_kv_blocks_close(struct oct_kv_blocks *blocks);
// Blocks that num_tokens tokens fill.
int oct_kv_blocks_needed(const struct oct_kv_blocks *blocks, int num_tokens);
// Nothing that was computed so far is found any more.
void oct_kv_blocks_forget(struct oct_kv_blocks *blocks);

// The physical block of each logical block of one sequence.
struct oct_block_table {
    int32_t *ids; // (count of capacity) owned
    int count, capacity;
};

void oct_block_table_open(struct oct_block_table *table, int capacity);
// Takes free blocks until the table holds num_tokens tokens (at most its capacity allows). All or nothing: false when there are not
// enough free ones.
bool oct_block_table_grow(struct oct_block_table *table, struct oct_kv_blocks *blocks, int num_tokens);
// Adds a block that the prefix cache has found, free or not.
void oct_block_table_share(struct oct_block_table *table, struct oct_kv_blocks *blocks, int32_t block);
// Gives all blocks back, the last first: the end of a sequence is asked for again less often than its start.
void oct_block_table_clear(struct oct_block_table *table, struct oct_kv_blocks *blocks);
void oct_block_table_close(struct oct_block_table *table); // it must be clear
