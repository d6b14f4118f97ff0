// normalizer.h: what tokenizer.json's "normalizer" does to a piece of text (spec tokenizers, 4), with the marks of its bytes.
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "text/marked_text.h"
#include "text/pattern.h"

enum oct_normalizer_kind {
    OCT_NORMALIZE_PREPEND,
    OCT_NORMALIZE_REPLACE,
    OCT_NORMALIZE_UNICODE,
    OCT_NORMALIZE_LOWERCASE,
    OCT_NORMALIZE_STRIP
};

struct oct_normalizer_step {
    enum oct_normalizer_kind kind;
    struct oct_pattern *pattern; // REPLACE; owned
    char *text;                  // (length) what PREPEND puts before and REPLACE puts in; owned
    size_t length;
    int unicode_options; // UNICODE: utf8proc's
    bool left, right;    // STRIP
};

struct oct_normalizer {
    struct oct_normalizer_step *steps; // (count) in order; owned
    size_t count;
    size_t growth; // bytes that REPLACE steps can make of one, at most; 0: there are none
};

// `json` is the value of "normalizer", or NULL. `name` stands in messages for the file.
oct_status oct_normalizer_load(const char *name, const json_t *json, struct oct_normalizer *out, oct_error *err);
void oct_normalizer_add_prepend(struct oct_normalizer *normalizer, const char *text);
void oct_normalizer_add_nfc(struct oct_normalizer *normalizer);
oct_status oct_normalizer_add_replace(struct oct_normalizer *normalizer, const char *pattern, const char *text, oct_error *err);
void oct_normalizer_free(struct oct_normalizer *normalizer);

// Text on its way through the steps.
struct oct_normal_text {
    struct oct_span span;
    const struct oct_range *origins; // (span.length) where each byte comes from; NULL: nobody asks
};

static inline struct oct_normal_text oct_normal_part(struct oct_normal_text text, size_t start, size_t end) {
    return (struct oct_normal_text){oct_subspan(text.span, start, end), text.origins ? text.origins + start : NULL};
}

// Where steps write; keeps its memory from call to call. Zero-initialise.
struct oct_normal_memory {
    struct oct_marked_text text;
    struct oct_ranges origins; // as long as the text where origins are asked for, else empty
};
void oct_normal_memory_free(struct oct_normal_memory *memory);
// The normalized form of `piece`: a part of the piece itself, or text in memory[0] or memory[1].
struct oct_normal_text oct_normalize(const struct oct_normalizer *normalizer, struct oct_normal_text piece,
                                     struct oct_normal_memory memory[2]);
