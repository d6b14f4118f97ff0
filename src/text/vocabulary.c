// Token strings in one block, and an open-addressing hash table from text to id.
#include "text/vocabulary.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define ABSENT UINT32_MAX

static uint64_t hash_bytes(const char *text, size_t length) {
    uint64_t hash = 0x9E3779B97F4A7C15u ^ length;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
        text += 8, length -= 8;
    }
    uint64_t word = 0;
    memcpy(&word, text, length);
    hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
    return hash ^ hash >> 29;
}

// The slot that holds `text`, or the free one where it belongs.
static struct oct_token_slot *find_slot(const struct oct_token_table *table, const char *text, size_t length, uint64_t hash) {
    size_t mask = table->num_slots - 1, at = (size_t)hash & mask;
    uint32_t tag = (uint32_t)(hash >> 32);
    for (; table->slots[at].id; at = (at + 1) & mask) {
        uint32_t id = table->slots[at].id - 1;
        if (table->slots[at].tag != tag || table->lengths[id] != length) continue;
        if (memcmp(table->text + table->offsets[id], text, length) == 0) break;
    }
    return &table->slots[at];
}

static void put_into_slot(struct oct_token_table *table, int32_t id) {
    const char *text = table->text + table->offsets[id];
    uint64_t hash = hash_bytes(text, table->lengths[id]);
    struct oct_token_slot *slot = find_slot(table, text, table->lengths[id], hash);
    if (slot->id) return;
    *slot = (struct oct_token_slot){(uint32_t)id + 1, (uint32_t)(hash >> 32)};
    table->count++;
}

static void grow_slots(struct oct_token_table *table, size_t count) {
    size_t num_slots = 16;
    while (num_slots < 2 * count) num_slots *= 2;
    if (num_slots <= table->num_slots) return;
    free(table->slots);
    table->slots = oct_alloc(num_slots, sizeof *table->slots, "a vocabulary");
    table->num_slots = num_slots;
    table->count = 0;
    for (size_t id = 0; id < table->size; id++) {
        if (table->lengths[id] != ABSENT) put_into_slot(table, (int32_t)id);
    }
}

void oct_token_table_reserve(struct oct_token_table *table, size_t count) {
    grow_slots(table, count);
}

void oct_token_table_add(struct oct_token_table *table, int32_t id, const char *text, size_t length) {
    OCT_CHECK(id >= 0 && id <= OCT_MAX_TOKEN_ID && length < ABSENT);
    if ((size_t)id >= table->capacity) {
        size_t capacity = (size_t)id + 1 > 2 * table->capacity ? (size_t)id + 1 : 2 * table->capacity;
        table->offsets = oct_resize(table->offsets, capacity, sizeof *table->offsets, "a vocabulary");
        table->lengths = oct_resize(table->lengths, capacity, sizeof *table->lengths, "a vocabulary");
        table->capacity = capacity;
    }
    for (; table->size <= (size_t)id; table->size++) table->lengths[table->size] = ABSENT;
    if (table->text_length + length > table->text_capacity) {
        table->text_capacity = 2 * table->text_capacity + length + 256;
        table->text = oct_resize(table->text, table->text_capacity, 1, "a vocabulary");
    }
    grow_slots(table, table->count + 1);
    bool renamed = table->lengths[id] != ABSENT;
    if (length) memcpy(table->text + table->text_length, text, length);
    table->offsets[id] = table->text_length;
    table->lengths[id] = (uint32_t)length;
    table->text_length += length;
    if (length > table->longest) table->longest = length;
    if (renamed) { // its old text may stand in a slot: make the slots anew
        free(table->slots);
        table->slots = NULL, table->num_slots = 0;
        grow_slots(table, table->count + 1);
        return;
    }
    put_into_slot(table, id);
}

int32_t oct_token_table_find(const struct oct_token_table *table, const char *text, size_t length) {
    if (!table->num_slots || length > table->longest) return -1;
    return (int32_t)find_slot(table, text, length, hash_bytes(text, length))->id - 1;
}

const char *oct_token_table_text(const struct oct_token_table *table, int32_t id, size_t *length) {
    if (id < 0 || (size_t)id >= table->size || table->lengths[id] == ABSENT) return NULL;
    *length = table->lengths[id];
    return table->text + table->offsets[id];
}

void oct_token_table_free(struct oct_token_table *table) {
    free(table->text);
    free(table->offsets);
    free(table->lengths);
    free(table->slots);
    *table = (struct oct_token_table){0};
}
