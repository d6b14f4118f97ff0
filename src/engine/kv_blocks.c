// kv_blocks.c: a stack of free blocks and a count of references a block.
#include "engine/kv_blocks.h"

#include "base/memory.h"

#include <stdlib.h>

void oct_kv_blocks_open(struct oct_kv_blocks *blocks, int block_size, int num_blocks) {
    *blocks = (struct oct_kv_blocks){
        .block_size = block_size,
        .num_blocks = num_blocks,
        .references = oct_alloc((size_t)num_blocks, sizeof *blocks->references, "KV block references"),
        .free = oct_alloc((size_t)num_blocks, sizeof *blocks->free, "free KV blocks"),
        .num_free = num_blocks,
    };
    for (int i = 0; i < num_blocks; i++) blocks->free[i] = num_blocks - 1 - i; // block 0 is taken first
}

void oct_kv_blocks_close(struct oct_kv_blocks *blocks) {
    free(blocks->references);
    free(blocks->free);
    *blocks = (struct oct_kv_blocks){0};
}

int oct_kv_blocks_needed(const struct oct_kv_blocks *blocks, int num_tokens) {
    return num_tokens / blocks->block_size + (num_tokens % blocks->block_size != 0);
}

static int32_t take_block(struct oct_kv_blocks *blocks) {
    int32_t id = blocks->free[--blocks->num_free];
    OCT_CHECK(blocks->references[id] == 0);
    blocks->references[id] = 1;
    return id;
}

static void release_block(struct oct_kv_blocks *blocks, int32_t id) {
    OCT_CHECK(blocks->references[id] > 0);
    if (--blocks->references[id] == 0) blocks->free[blocks->num_free++] = id;
}

void oct_block_table_open(struct oct_block_table *table, int capacity) {
    *table = (struct oct_block_table){.ids = oct_alloc((size_t)capacity, sizeof *table->ids, "a block table"), .capacity = capacity};
}

bool oct_block_table_grow(struct oct_block_table *table, struct oct_kv_blocks *blocks, int num_tokens) {
    int needed = oct_kv_blocks_needed(blocks, num_tokens);
    OCT_CHECK(needed <= table->capacity);
    if (needed - table->count > blocks->num_free) return false;
    while (table->count < needed) table->ids[table->count++] = take_block(blocks);
    return true;
}

void oct_block_table_clear(struct oct_block_table *table, struct oct_kv_blocks *blocks) {
    while (table->count > 0) release_block(blocks, table->ids[--table->count]);
}

void oct_block_table_close(struct oct_block_table *table) {
    OCT_CHECK(table->count == 0);
    free(table->ids);
    *table = (struct oct_block_table){0};
}
