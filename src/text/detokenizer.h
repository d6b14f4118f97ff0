// detokenizer.h: token ids back to text (spec tokenizers, 7 and 8). A token's text is prepared at loading; what remains at run time is
// to join the texts, and to hold back bytes until they make whole characters.
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

enum oct_detokenizer_kind {
    OCT_DETOKENIZE_BYTES,     // texts are bytes; what is not UTF-8 becomes U+FFFD
    OCT_DETOKENIZE_SEQUENCE,  // texts are UTF-8, <0xXX> tokens are bytes, leading spaces are stripped
    OCT_DETOKENIZE_METASPACE, // as above, but the first token loses all its marks
    OCT_DETOKENIZE_SPACED,    // no decoder: texts joined by a space
};

struct oct_detokenizer {
    enum oct_detokenizer_kind kind;
    struct oct_token_table texts; // what each token adds; only looked up by id
    bool byte_fallback;
    int strip_left; // at most that many leading strip_character are dropped from the whole text
    char strip_character[5];
    char mark[5]; // METASPACE: the character that stands for a space
    struct {
        char *pattern, *content; // (pattern_length), (content_length) owned
        size_t pattern_length, content_length;
    } replaces[8]; // SEQUENCE: applied to each token, in order
    size_t num_replaces;
};

oct_status oct_detokenizer_load(const char *name, const json_t *json, struct oct_detokenizer *out, oct_error *err);
// The decoder of a SentencePiece vocabulary.
void oct_detokenizer_sentencepiece(struct oct_detokenizer *detokenizer, bool strip_space);
// Prepares the texts. Call once all tokens are known. `respelled` holds those whose text is not their spelling in `tokens`.
// `name` stands in messages for the file.
oct_status oct_detokenizer_prepare(const char *name, struct oct_detokenizer *detokenizer, const struct oct_token_table *tokens,
                                   const struct oct_token_table *respelled, oct_error *err);
void oct_detokenizer_free(struct oct_detokenizer *detokenizer);

// Appends what the token adds. whole_runs: a run of byte tokens is decoded only once it ended, as the reference does for whole lists.
void oct_detokenizer_push(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, int32_t id, bool whole_runs,
                          struct oct_buffer *text);
void oct_detokenizer_flush(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, struct oct_buffer *text);

// The byte that a symbol of the byte-level alphabet stands for; -1: not in the alphabet.
int oct_byte_of_symbol(uint32_t code);
// Writes the bytes that a byte-level token stands for to out (length bytes). SIZE_MAX: it has a character outside the alphabet.
size_t oct_bytes_of_token(const char *token, size_t length, char *out);
