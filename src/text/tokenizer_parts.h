// tokenizer_parts.h: what a tokenizer is made of, for the files that load one and the file that runs it.
#pragma once

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

enum oct_token_kind { OCT_TOKEN_ORDINARY, OCT_TOKEN_ADDED, OCT_TOKEN_SPECIAL }; // special ones are added ones too

// Text flows through the parts in this order (spec tokenizers, 2).
struct oct_tokenizer {
    struct oct_token_table tokens; // spelling of every id, added tokens too
    struct oct_added_token *added; // (num_added) owned
    size_t num_added, added_capacity;
    struct oct_token_trie raw_tokens; // added tokens that are looked for in the text as it comes
    struct oct_normalizer normalizer;
    struct oct_token_trie normalized_tokens; // ... and those looked for in normalized text
    struct oct_pretokenizer pretokenizer;
    struct oct_bpe bpe;
    struct oct_ids prefix, suffix; // special tokens around a text
    bool trims_offsets;            // offsets leave out white space at the ends of a token
    bool trims_behind_prefix;      // ... but not the space that was put before the text
    struct oct_detokenizer detokenizer;
    unsigned char *kinds; // (tokens.size) enum oct_token_kind; owned
    char *bos, *eos;      // NUL-terminated spelling, or NULL; owned
    int32_t eos_id;       // -1: none
};

// `length` bytes of a tokenizer.json; `name` stands in messages for the file. BOS and EOS stay unnamed.
oct_status oct_tokenizer_from_json(const char *name, const char *text, size_t length, struct oct_tokenizer **out, oct_error *err);

struct oct_tokenizer *oct_tokenizer_new(void);
// `token.content` is copied. Adds its spelling to tokens where the id has none.
void oct_tokenizer_add_token(struct oct_tokenizer *tokenizer, struct oct_added_token token);
// Sets bos or eos (`which` is &tokenizer->bos or &tokenizer->eos). NULL: none.
void oct_tokenizer_set_text(char **which, const char *text, size_t length);
// Call before tokens are added and merges given. Fills bpe.pieces with the model's tokens, which are those in tokens so far.
void oct_tokenizer_index_model(struct oct_tokenizer *tokenizer);
// The next merge, by the spelling of its halves.
oct_status oct_tokenizer_add_merge(struct oct_tokenizer *tokenizer, const char *name, const char *left, size_t left_length,
                                   const char *right, size_t right_length, oct_error *err);
// Call once everything is set; `name` stands in messages for the file.
oct_status oct_tokenizer_finish(const char *name, struct oct_tokenizer *tokenizer, oct_error *err);
