// pretokenizer.h: cutting text into words, each of which is encoded by itself (spec tokenizers, 3).
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "text/marked_text.h"
#include "text/pattern.h"

#include <stdbool.h>

enum oct_split_kind {
    OCT_SPLIT_GPT2,         // the pattern built into ByteLevel
    OCT_SPLIT_LLAMA3,       // the cl100k-like pattern of Llama 3; with max_digits 1, Qwen 2's
    OCT_SPLIT_PATTERN,      // any other
    OCT_SPLIT_DIGITS,       // runs of numeric characters, or each alone
    OCT_SPLIT_SPACE,        // white space, as a match
    OCT_SPLIT_PUNCTUATION,  // each punctuation character
    OCT_SPLIT_METASPACE,    // ' ' becomes the replacement, one is put before; then, maybe, a split before each
    OCT_SPLIT_PREFIX_SPACE, // a space before each piece that does not begin with one
};

enum oct_split_behavior { OCT_ISOLATED, OCT_REMOVED, OCT_MERGED_WITH_PREVIOUS, OCT_MERGED_WITH_NEXT, OCT_CONTIGUOUS };
enum oct_prepend_scheme { OCT_PREPEND_ALWAYS, OCT_PREPEND_FIRST, OCT_PREPEND_NEVER };

struct oct_split {
    enum oct_split_kind kind;
    enum oct_split_behavior behavior;
    bool invert;                 // matches and gaps change places
    int max_digits;              // LLAMA3: 1 or 3
    struct oct_pattern *pattern; // PATTERN; owned
    char replacement[5];         // METASPACE: one character, NUL-terminated
    enum oct_prepend_scheme prepend_scheme;
    bool split; // METASPACE
};

struct oct_pretokenizer {
    struct oct_split *stages; // (count) each splits every piece of the one before; owned
    size_t count;
    bool byte_level; // words are handed to a byte-level vocabulary
};

// `json` is the value of "pre_tokenizer", or NULL. `name` stands in messages for the file.
oct_status oct_pretokenizer_load(const char *name, const json_t *json, struct oct_pretokenizer *out, oct_error *err);
// The pre-tokenizer that a GGUF file names, e.g. "smollm".
oct_status oct_pretokenizer_named(const char *name, const char *pre, struct oct_pretokenizer *out, oct_error *err);
void oct_pretokenizer_free(struct oct_pretokenizer *pretokenizer);

// origins: (length) where each byte of the word comes from; NULL where oct_pretokenize was given none.
typedef void (*oct_word_function)(void *context, const char *word, size_t length, const struct oct_range *origins);
// Calls `word` for each word, in order. Text is valid UTF-8; origins: (length) or NULL. at_start: the piece begins the whole text.
void oct_pretokenize(const struct oct_pretokenizer *pretokenizer, const char *text, size_t length, const struct oct_range *origins,
                     bool at_start, oct_word_function word, void *context);
