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
};

// `json` is the value of "normalizer", or NULL. `name` stands in messages for the file.
oct_status oct_normalizer_load(const char *name, const json_t *json, struct oct_normalizer *out, oct_error *err);
void oct_normalizer_add_prepend(struct oct_normalizer *normalizer, const char *text);
oct_status oct_normalizer_add_replace(struct oct_normalizer *normalizer, const char *pattern, const char *text, oct_error *err);
void oct_normalizer_free(struct oct_normalizer *normalizer);
// The normalized form of `piece`: the piece itself, or text in *out (which keeps its memory for the next call) or *scratch.
struct oct_span oct_normalize(const struct oct_normalizer *normalizer, struct oct_span piece, struct oct_marked_text *out,
                              struct oct_marked_text *scratch);
