// tokenizer.h: text to token ids and back, equal to Hugging Face tokenizers (spec tokenizers).
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "text/marked_text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oct_tokenizer; // immutable after loading; may be used by many threads at once

// A vocabulary as a GGUF file holds it. Pointers are only read while loading.
struct oct_vocabulary {
    const char *model; // "gpt2": byte-level BPE with merges; "llama": SentencePiece with scores
    const char *pre;   // name of the pre-tokenizer, e.g. "smollm"; "" when absent
    size_t num_tokens;
    const char *const *tokens; // (num_tokens) bytes of each token, in GGUF's spelling
    const size_t *lengths;     // (num_tokens)
    const int32_t *types;      // (num_tokens) 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; NULL: all normal
    const float *scores;       // (num_tokens), SentencePiece only; else NULL
    size_t num_merges;
    const char *const *merges;                            // (num_merges) "left right"
    const size_t *merge_lengths;                          // (num_merges)
    int32_t bos_token_id, eos_token_id, unknown_token_id; // -1: none
    int add_bos_token, add_eos_token, add_space_prefix;   // 0, 1, or -1 when the file does not say
};

oct_status oct_tokenizer_from_vocabulary(const char *name, const struct oct_vocabulary *vocabulary, struct oct_tokenizer **out,
                                         oct_error *err);
// Reads tokenizer.json, and tokenizer_config.json beside it where present. What is not supported is an error that names it.
oct_status oct_tokenizer_from_directory(const char *directory, struct oct_tokenizer **out, oct_error *err);
void oct_tokenizer_free(struct oct_tokenizer *tokenizer);

size_t oct_tokenizer_vocab_size(const struct oct_tokenizer *tokenizer);
// Bytes of a token as decode would give them for it alone are in oct_decode; this is its spelling in the vocabulary. NULL: no such id.
const char *oct_tokenizer_token(const struct oct_tokenizer *tokenizer, int32_t id, size_t *length);
int32_t oct_tokenizer_token_id(const struct oct_tokenizer *tokenizer, const char *token, size_t length); // -1: none
bool oct_tokenizer_is_special(const struct oct_tokenizer *tokenizer, int32_t id);
// The BOS and EOS strings that chat templates see; NULL when there is none.
const char *oct_tokenizer_bos(const struct oct_tokenizer *tokenizer);
const char *oct_tokenizer_eos(const struct oct_tokenizer *tokenizer);
int32_t oct_tokenizer_eos_id(const struct oct_tokenizer *tokenizer); // -1: none

struct oct_ids {
    int32_t *data; // (count) owned; free() it
    size_t count, capacity;
};
void oct_ids_append(struct oct_ids *ids, int32_t id);

enum oct_encode_flags {
    OCT_ENCODE_ADD_SPECIAL = 1, // BOS/EOS where the post-processor puts them
    OCT_ENCODE_PLAIN = 2,       // special tokens in the text are ordinary text (for what a user wrote)
};
// Appends the ids of `length` bytes of text. Invalid UTF-8: each maximal bad part is read as U+FFFD.
void oct_encode(const struct oct_tokenizer *tokenizer, const char *text, size_t length, int flags, struct oct_ids *ids);
// The same for text of which some bytes are marked: a special token is recognised only where none of its bytes is.
void oct_encode_marked(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, struct oct_ids *ids);
// The same, and for each id appended a range of `text`: what the token stands for, as the reference says it, but in bytes where it counts
// characters. A token that is a part of a character has all of it, and one that is a part of an invalid sequence of bytes has that; what is
// put before a text belongs to its first character, white space that lstrip or rstrip swallow to its token; BOS and EOS have the range 0 to
// 0. Where tokenizer.json's post-processor trims offsets, the white space at a token's ends is left out.
void oct_encode_with_offsets(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, struct oct_ids *ids,
                             struct oct_ranges *offsets);

enum oct_decode_flags {
    OCT_DECODE_SKIP_SPECIAL = 1,
    // The request parameter spaces_between_special_tokens = false, with the meaning that vLLM gives it when it streams text: an added token
    // (special or not) right after another is given as its spelling, without what the decoder would put before it. Without an effect
    // where special tokens are skipped; the reference library itself knows no such thing.
    OCT_DECODE_JOIN_SPECIAL = 2,
};
// The whole text of ids. Unknown ids are skipped.
void oct_decode(const struct oct_tokenizer *tokenizer, const int32_t *ids, size_t count, int flags, struct oct_buffer *text);

// Streaming decode of one sequence: what a token adds, only whole UTF-8 characters, never changing what was given before; all parts
// together (with the flush) equal oct_decode of all ids. (One exception, met only by nonsense: a run of byte tokens that begins as
// valid UTF-8 and then breaks; the reference takes back the whole run, a stream cannot.)
// Zero-initialise, then set the first two; free with oct_decode_stream_free.
struct oct_decode_stream {
    bool skip_special_tokens;
    bool join_special_tokens; // OCT_DECODE_JOIN_SPECIAL
    struct oct_buffer held;   // bytes that do not make a whole character yet
    bool broken;              // held can not become valid
    bool first_done;          // a token was pushed
    bool started;             // something was given out
    int stripped;             // leading characters dropped so far
    bool last_was_added;      // the last token was an added one
};
void oct_decode_stream_push(const struct oct_tokenizer *tokenizer, struct oct_decode_stream *stream, int32_t id, struct oct_buffer *text);
void oct_decode_stream_flush(const struct oct_tokenizer *tokenizer, struct oct_decode_stream *stream, struct oct_buffer *text);
void oct_decode_stream_free(struct oct_decode_stream *stream);
