// Token strings in one block, and an open-addressing hash table from text to id.
#include "text/vocabulary.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define ABSENT  UINT32_MAX
#define FREE    UINT32_MAX
#define ID_MASK ((1u << 22) - 1)

// The last bytes of a text, fewer than 8, in one word, which tells texts of the same length apart. Loads overlap: a copy of variable length
// would cost more than the rest of a look-up.
static inline uint64_t last_bytes(const char *text, size_t length) {
    if (length >= 4) {
        uint32_t head, tail;
        memcpy(&head, text, 4);
        memcpy(&tail, text + length - 4, 4);
        return (uint64_t)head << 32 | tail;
    }
    if (!length) return 0;
    const unsigned char *at = (const unsigned char *)text;
    return (uint64_t)at[0] << 16 | (uint64_t)at[length / 2] << 8 | at[length - 1];
}

static inline uint64_t hash_bytes(const char *text, size_t length) {
    uint64_t hash = 0x9E3779B97F4A7C15u ^ length;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
        text += 8, length -= 8;
    }
    hash = (hash ^ last_bytes(text, length)) * 0xFF51AFD7ED558CCDu;
    return hash ^ hash >> 29;
}

static uint32_t tag_of(uint64_t hash) {
    return (uint32_t)(hash >> 32) & ~ID_MASK;
}

// memcmp for texts that are nearly always shorter than a call is long.
static inline bool equal(const char *a, const char *b, size_t length) {
    for (; length >= 8; a += 8, b += 8, length -= 8) {
        uint64_t x, y;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        if (x != y) return false;
    }
    return last_bytes(a, length) == last_bytes(b, length);
}

// The slot that holds `text`, or the free one where it belongs.
static uint32_t *find_slot(const struct oct_token_table *table, const char *text, size_t length, uint64_t hash) {
    size_t mask = table->num_slots - 1, at = (size_t)hash & mask;
    uint32_t tag = tag_of(hash);
    for (uint32_t slot; (slot = table->slots[at]) != FREE; at = (at + 1) & mask) {
        if ((slot & ~ID_MASK) != tag) continue;
        const struct oct_token_place *place = &table->places[slot & ID_MASK];
        if (place->length == length && equal(table->text + place->offset, text, length)) break;
    }
    return &table->slots[at];
}

static bool put_into_slot(struct oct_token_table *table, int32_t id) {
    const char *text = table->text + table->places[id].offset;
    uint64_t hash = hash_bytes(text, table->places[id].length);
    uint32_t *slot = find_slot(table, text, table->places[id].length, hash);
    if (*slot != FREE) return false;
    *slot = tag_of(hash) | (uint32_t)id;
    table->count++;
    return true;
}

static void grow_slots(struct oct_token_table *table, size_t count) {
    size_t num_slots = 16;
    while (num_slots < 2 * count) num_slots *= 2;
    if (num_slots <= table->num_slots) return;
    table->slots = oct_resize(table->slots, num_slots, sizeof *table->slots, "a vocabulary");
    memset(table->slots, 0xFF, num_slots * sizeof *table->slots);
    table->num_slots = num_slots;
    table->count = 0;
    for (size_t id = 0; id < table->size; id++) {
        if (table->places[id].length != ABSENT) put_into_slot(table, (int32_t)id);
    }
}

static void grow_text(struct oct_token_table *table, size_t capacity) {
    table->text = oct_resize(table->text, capacity, 1, "a vocabulary");
    table->text_capacity = capacity;
}

static void grow_places(struct oct_token_table *table, size_t capacity) {
    table->places = oct_resize(table->places, capacity, sizeof *table->places, "a vocabulary");
    table->capacity = capacity;
}

void oct_token_table_reserve(struct oct_token_table *table, size_t count, size_t text_bytes) {
    if (count > table->capacity) grow_places(table, count);
    if (text_bytes > table->text_capacity) grow_text(table, text_bytes);
    grow_slots(table, count);
}

void oct_token_table_set(struct oct_token_table *table, int32_t id, const char *text, size_t length) {
    OCT_CHECK(id >= 0 && id <= OCT_MAX_TOKEN_ID && length < OCT_MAX_TOKEN_TEXT - table->text_length);
    if ((size_t)id >= table->capacity) grow_places(table, (size_t)id + 1 > 2 * table->capacity ? (size_t)id + 1 : 2 * table->capacity);
    for (; table->size <= (size_t)id; table->size++) table->places[table->size].length = ABSENT;
    if (!table->text || length > table->text_capacity - table->text_length) grow_text(table, 2 * table->text_capacity + length + 256);
    if (length) memcpy(table->text + table->text_length, text, length);
    table->places[id] = (struct oct_token_place){(uint32_t)table->text_length, (uint32_t)length};
    table->text_length += length;
    if (length > table->longest) table->longest = length;
}

bool oct_token_table_add(struct oct_token_table *table, int32_t id, const char *text, size_t length) {
    OCT_CHECK((size_t)id >= table->size || table->places[id].length == ABSENT);
    grow_slots(table, table->count + 1);
    oct_token_table_set(table, id, text, length);
    return put_into_slot(table, id);
}

int32_t oct_token_table_find(const struct oct_token_table *table, const char *text, size_t length) {
    if (!table->num_slots || length > table->longest) return -1;
    uint32_t slot = *find_slot(table, text, length, hash_bytes(text, length));
    return slot == FREE ? -1 : (int32_t)(slot & ID_MASK);
}

void oct_token_table_prefetch(const struct oct_token_table *table, const char *text, size_t length) {
    if (table->num_slots) __builtin_prefetch(&table->slots[hash_bytes(text, length) & (table->num_slots - 1)]);
}

bool oct_token_table_is(const struct oct_token_table *table, int32_t id, const char *text, size_t length) {
    if (id < 0 || (size_t)id >= table->size || table->places[id].length != length) return false;
    return equal(table->text + table->places[id].offset, text, length);
}

const char *oct_token_table_text(const struct oct_token_table *table, int32_t id, size_t *length) {
    if (id < 0 || (size_t)id >= table->size || table->places[id].length == ABSENT) return NULL;
    *length = table->places[id].length;
    return table->text + table->places[id].offset;
}

void oct_token_table_free(struct oct_token_table *table) {
    free(table->text);
    free(table->places);
    free(table->slots);
    *table = (struct oct_token_table){0};
}
