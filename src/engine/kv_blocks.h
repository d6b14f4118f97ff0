// kv_blocks.h: which physical KV blocks are free, and which ones hold the tokens of each sequence. Only numbers: the memory
// itself is the model's (struct oct_kv_cache).
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct oct_kv_blocks {
    int block_size, num_blocks;
    int32_t *references; // (num_blocks) how many block tables hold the block; 0: free. Owned
    int32_t *free;       // (num_free of num_blocks) a stack, so that the memory last used, still in the caches, is used first. Owned
    int num_free;
};

void oct_kv_blocks_open(struct oct_kv_blocks *blocks, int block_size, int num_blocks);
void oct_kv_blocks_close(struct oct_kv_blocks *blocks);
// Blocks that num_tokens tokens fill.
int oct_kv_blocks_needed(const struct oct_kv_blocks *blocks, int num_tokens);

// The physical block of each logical block of one sequence.
struct oct_block_table {
    int32_t *ids; // (count of capacity) owned
    int count, capacity;
};

void oct_block_table_open(struct oct_block_table *table, int capacity);
// Takes free blocks until the table holds num_tokens tokens (at most its capacity allows). All or nothing: false when there are not
// enough free ones.
bool oct_block_table_grow(struct oct_block_table *table, struct oct_kv_blocks *blocks, int num_tokens);
// Gives all blocks back.
void oct_block_table_clear(struct oct_block_table *table, struct oct_kv_blocks *blocks);
void oct_block_table_close(struct oct_block_table *table); // it must be clear
