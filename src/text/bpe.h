// bpe.h: byte-pair encoding of one word: initial symbols, then the merges of lowest rank first (spec tokenizers, 5).
#pragma once

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

#include <stdatomic.h>

struct oct_merge {
    int32_t left, right, merged; // ids; merged is the joined token
};

#define OCT_MAX_MERGES ((1 << 22) - 1)

struct oct_bpe {
    struct oct_token_table pieces; // what a word is made of: raw bytes of a byte-level vocabulary, else the tokens' own text
    struct oct_merge *merges;      // (num_merges) by rank; owned
    size_t num_merges, merge_capacity;
    uint32_t *slots;  // (num_slots) hash table of the pairs: a rank, and above it 10 bits of the pair's hash, so that a look-up of what is
                      // no pair, which most are, ends at one number; UINT32_MAX: free. Owned
    size_t num_slots; // a power of two; 0: there are no merges
    int32_t symbols[256];  // initial symbol of a byte (byte-level) or of an ASCII character; -1: none
    int32_t fallback[256]; // <0xXX> of a byte; -1: none
    int32_t unknown;       // id for what has no symbol; -1: it is dropped
    bool byte_level, byte_fallback, fuse_unknown, ignore_merges;
    bool breaks_before_space; // no merge joins anything to a following U+2581: a text may be cut before each that follows another character
    _Atomic unsigned char *whole; // (pieces.size) memo: 1 once the word that equals this piece is known to encode to it alone
};

// Scratch of one encode call. Zero-initialise.
struct oct_bpe_scratch {
    struct oct_bpe_symbol *symbols; // (symbol_capacity)
    struct oct_bpe_candidate *heap; // (heap_capacity)
    size_t symbol_capacity, heap_capacity, heap_count;
    bool wants_places;
    struct oct_range *symbol_places; // (symbol_capacity) bytes of the word that a symbol stands for; where places are wanted
    struct oct_ranges places;        // of each id appended, in its word; where they are wanted
};

void oct_bpe_init(struct oct_bpe *bpe);
// Call after all pieces stand in bpe->pieces and the flags are set: fills symbols and fallback.
void oct_bpe_index_pieces(struct oct_bpe *bpe);
// Merges come by rank, OCT_MAX_MERGES at most. A pair given twice has its last rank.
void oct_bpe_add_merge(struct oct_bpe *bpe, struct oct_merge merge);
// Call last.
void oct_bpe_finish(struct oct_bpe *bpe);
void oct_bpe_free(struct oct_bpe *bpe);

// Appends the ids of one word, `length` bytes of valid UTF-8 (any bytes where byte_level).
// Where scratch->wants_places is set, a range of the word is appended to scratch->places for each of them.
void oct_bpe_encode(const struct oct_bpe *bpe, struct oct_bpe_scratch *scratch, const char *word, size_t length, struct oct_ids *ids);
void oct_bpe_scratch_free(struct oct_bpe_scratch *scratch);
