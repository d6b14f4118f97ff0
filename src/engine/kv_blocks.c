// kv_blocks.c: a count of references to each block, and a list of the free ones, linked through the blocks themselves.
#include "engine/kv_blocks.h"

#include "base/memory.h"

#include <stdlib.h>

// --- the list of free blocks ------------------------------------------------------------------------------------------------------

static void insert_after(struct oct_kv_blocks *blocks, int32_t place, int32_t id) {
    struct oct_kv_block *before = &blocks->blocks[place], *block = &blocks->blocks[id];
    block->previous = place;
    block->next = before->next;
    blocks->blocks[before->next].previous = id;
    before->next = id;
    blocks->num_free++;
}

static void unlink_free(struct oct_kv_blocks *blocks, int32_t id) {
    struct oct_kv_block *block = &blocks->blocks[id];
    blocks->blocks[block->previous].next = block->next;
    blocks->blocks[block->next].previous = block->previous;
    blocks->num_free--;
}

static int32_t take_block(struct oct_kv_blocks *blocks) {
    int32_t id = blocks->blocks[blocks->num_blocks].next;
    OCT_CHECK(blocks->num_free > 0 && blocks->blocks[id].references == 0);
    unlink_free(blocks, id);
    oct_prefix_cache_forget(&blocks->prefix_cache, id);
    blocks->blocks[id].references = 1;
    return id;
}

static void release_block(struct oct_kv_blocks *blocks, int32_t id) {
    int32_t head = blocks->num_blocks;
    OCT_CHECK(blocks->blocks[id].references > 0);
    if (--blocks->blocks[id].references > 0) return;
    bool cached = oct_prefix_cache_holds(&blocks->prefix_cache, id);
    insert_after(blocks, cached ? blocks->blocks[head].previous : head, id);
}

// --- open and close ---------------------------------------------------------------------------------------------------------------

void oct_kv_blocks_open(struct oct_kv_blocks *blocks, int block_size, int num_blocks, bool prefix_caching) {
    *blocks = (struct oct_kv_blocks){
        .block_size = block_size,
        .num_blocks = num_blocks,
        .blocks = oct_alloc((size_t)num_blocks + 1, sizeof *blocks->blocks, "KV blocks"),
    };
    if (prefix_caching) oct_prefix_cache_open(&blocks->prefix_cache, num_blocks);
    blocks->blocks[num_blocks] = (struct oct_kv_block){0, num_blocks, num_blocks};
    for (int i = num_blocks - 1; i >= 0; i--) insert_after(blocks, num_blocks, i); // block 0 is taken first
}

void oct_kv_blocks_close(struct oct_kv_blocks *blocks) {
    oct_prefix_cache_close(&blocks->prefix_cache);
    free(blocks->blocks);
    *blocks = (struct oct_kv_blocks){0};
}

int oct_kv_blocks_needed(const struct oct_kv_blocks *blocks, int num_tokens) {
    return num_tokens / blocks->block_size + (num_tokens % blocks->block_size != 0);
}

void oct_kv_blocks_forget(struct oct_kv_blocks *blocks) {
    for (int i = 0; i < blocks->num_blocks; i++) oct_prefix_cache_forget(&blocks->prefix_cache, i);
}

// --- block tables -----------------------------------------------------------------------------------------------------------------

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

void oct_block_table_share(struct oct_block_table *table, struct oct_kv_blocks *blocks, int32_t block) {
    OCT_CHECK(table->count < table->capacity);
    if (blocks->blocks[block].references++ == 0) unlink_free(blocks, block);
    table->ids[table->count++] = block;
}

void oct_block_table_clear(struct oct_block_table *table, struct oct_kv_blocks *blocks) {
    while (table->count > 0) release_block(blocks, table->ids[--table->count]);
}

void oct_block_table_close(struct oct_block_table *table) {
    OCT_CHECK(table->count == 0);
    free(table->ids);
    *table = (struct oct_block_table){0};
}
