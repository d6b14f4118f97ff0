// vocabulary.h: a set of token strings and their ids, both ways.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OCT_MAX_TOKEN_ID ((1 << 22) - 1) // bounds what a hostile file can make us allocate

struct oct_token_table {
    char *text; // (text_length) all strings, back to back; owned, like the arrays below
    size_t text_length, text_capacity;
    size_t *offsets;   // (size) where a token starts in text
    uint32_t *lengths; // (size) bytes; ids without a token have UINT32_MAX
    size_t size;       // largest id + 1
    size_t capacity;   // of offsets and lengths
    struct oct_token_slot {
        uint32_t id;  // id + 1; 0: free
        uint32_t tag; // half of the hash, so that other tokens are passed over without a look at their text
    } * slots;        // (num_slots) hash table
    size_t num_slots; // a power of two
    size_t count;     // tokens in slots
    size_t longest;   // bytes of the longest token
};

// Room for `count` tokens without growing; may be left out.
void oct_token_table_reserve(struct oct_token_table *table, size_t count);
// 0 <= id <= OCT_MAX_TOKEN_ID. An id given before gets the new text. Of equal texts the first id is found by text.
void oct_token_table_add(struct oct_token_table *table, int32_t id, const char *text, size_t length);
int32_t oct_token_table_find(const struct oct_token_table *table, const char *text, size_t length); // -1: none
// NULL: no such id. Not NUL-terminated; lives as long as the table.
const char *oct_token_table_text(const struct oct_token_table *table, int32_t id, size_t *length);
void oct_token_table_free(struct oct_token_table *table);
