// vocabulary.h: a set of token strings and their ids, both ways.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OCT_MAX_TOKEN_ID   ((1 << 22) - 2) // these two bound what a hostile file can make us allocate
#define OCT_MAX_TOKEN_TEXT (1u << 30)      // bytes of all tokens of a table

struct oct_token_table {
    char *text; // (text_length) all strings, back to back; owned, like the arrays below
    size_t text_length, text_capacity;
    struct oct_token_place {
        uint32_t offset, length; // in text; ids without a token have length UINT32_MAX
    } * places;                  // (size)
    size_t size;                 // largest id + 1
    size_t capacity;             // of places
    uint32_t *slots;             // (num_slots) hash table: an id, and above it 10 bits of the text's hash, so that other tokens are passed
                     // over without a look at their text; UINT32_MAX: free. Small, because every look-up is a miss of the cache here
    size_t num_slots; // a power of two
    size_t count;     // tokens in slots
    size_t longest;   // bytes of the longest token
};

// Room for `count` tokens of together `text_bytes` without growing; may be left out.
void oct_token_table_reserve(struct oct_token_table *table, size_t count, size_t text_bytes);
// A text for an id that has none. 0 <= id <= OCT_MAX_TOKEN_ID, and all texts together stay below OCT_MAX_TOKEN_TEXT. false: another id
// has the same text; that one is still found by it.
bool oct_token_table_add(struct oct_token_table *table, int32_t id, const char *text, size_t length);
// For a table whose texts are only looked up by id: this one is not found by its text. An id given before gets the new text.
void oct_token_table_set(struct oct_token_table *table, int32_t id, const char *text, size_t length);
int32_t oct_token_table_find(const struct oct_token_table *table, const char *text, size_t length); // -1: none
// Asks the memory for what oct_token_table_find will look at first; worth it some look-ups ahead.
void oct_token_table_prefetch(const struct oct_token_table *table, const char *text, size_t length);
// Whether the text of `id` is this one; false where there is no such id.
bool oct_token_table_is(const struct oct_token_table *table, int32_t id, const char *text, size_t length);
// NULL: no such id. Not NUL-terminated; lives as long as the table.
const char *oct_token_table_text(const struct oct_token_table *table, int32_t id, size_t *length);
void oct_token_table_free(struct oct_token_table *table);
