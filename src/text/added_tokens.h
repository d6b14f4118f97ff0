// added_tokens.h: finding added tokens (special ones and others) in text before it is tokenized (spec tokenizers, 2).
#pragma once

#include "text/marked_text.h"

#include <stdint.h>

struct oct_added_token {
    char *content; // (length) owned
    size_t length;
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

// All patterns of one pass as a trie. Zero-initialise.
struct oct_token_trie {
    struct oct_trie_node *nodes; // (count)
    size_t count, capacity;
    int32_t roots[256]; // node of a first byte; 0: none (node 0 is not used)
};

// `token` indexes the caller's array of added tokens. An empty pattern is ignored.
void oct_token_trie_add(struct oct_token_trie *trie, const char *pattern, size_t length, int32_t token);
void oct_token_trie_free(struct oct_token_trie *trie);

struct oct_token_match {
    int32_t token;     // index
    size_t start, end; // of the text that it takes, with white space that lstrip and rstrip swallow; may begin in that of the last match
};

struct oct_token_search {
    const struct oct_token_trie *trie;
    const struct oct_added_token *tokens;
    struct oct_span text;
    bool plain;   // special tokens are not recognised
    size_t at;    // where to search on; start with 0
    size_t taken; // end of the last match; start with 0
};
// The next match, left to right; false: none is left.
bool oct_token_search_next(struct oct_token_search *search, struct oct_token_match *match);
