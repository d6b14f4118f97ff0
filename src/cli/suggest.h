// suggest.h: the known word that a mistyped one was probably meant to be.
#pragma once

#include <stddef.h>

// Edits (insert, delete, replace, swap neighbours) from `word` to `known`; `_` and `-` are alike.
size_t oct_edit_distance(const char *word, const char *known);

// Remembers the closest word offered so far. Initialise with the mistyped word.
struct oct_suggestion {
    const char *word;
    const char *best; // NULL: nothing close enough
    size_t distance;
};
void oct_suggest(struct oct_suggestion *suggestion, const char *known);
