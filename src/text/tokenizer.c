// The pipeline of encoding: added tokens are cut out of the text, the rest is normalized, cut again, split into words, and each word
// becomes ids. Decoding is in detokenizer.c.
#include "text/tokenizer.h"

#include "base/memory.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>

void oct_ids_append(struct oct_ids *ids, int32_t id) {
    if (ids->count == ids->capacity) {
        ids->capacity = 2 * ids->capacity + 16;
        ids->data = oct_resize(ids->data, ids->capacity, sizeof *ids->data, "token ids");
    }
    ids->data[ids->count++] = id;
}

struct oct_tokenizer *oct_tokenizer_new(void) {
    struct oct_tokenizer *tokenizer = oct_alloc(1, sizeof *tokenizer, "a tokenizer");
    oct_bpe_init(&tokenizer->bpe);
    tokenizer->eos_id = -1;
    return tokenizer;
}

void oct_tokenizer_free(struct oct_tokenizer *tokenizer) {
    if (!tokenizer) return;
    oct_token_table_free(&tokenizer->tokens);
    for (size_t i = 0; i < tokenizer->num_added; i++) free(tokenizer->added[i].content);
    free(tokenizer->added);
    oct_token_trie_free(&tokenizer->raw_tokens);
    oct_token_trie_free(&tokenizer->normalized_tokens);
    oct_normalizer_free(&tokenizer->normalizer);
    oct_pretokenizer_free(&tokenizer->pretokenizer);
    oct_bpe_free(&tokenizer->bpe);
    free(tokenizer->prefix.data);
    free(tokenizer->suffix.data);
    oct_detokenizer_free(&tokenizer->detokenizer);
    free(tokenizer->kinds);
    free(tokenizer->bos);
    free(tokenizer->eos);
    free(tokenizer);
}

void oct_tokenizer_add_token(struct oct_tokenizer *tokenizer, struct oct_added_token token) {
    size_t length;
    token.content = oct_strndup(token.content, token.length);
    if (!oct_token_table_text(&tokenizer->tokens, token.id, &length)) {
        oct_token_table_add(&tokenizer->tokens, token.id, token.content, token.length);
    }
    if (tokenizer->num_added == tokenizer->added_capacity) {
        tokenizer->added_capacity = 2 * tokenizer->added_capacity + 16;
        tokenizer->added = oct_resize(tokenizer->added, tokenizer->added_capacity, sizeof token, "added tokens");
    }
    tokenizer->added[tokenizer->num_added++] = token;
}

void oct_tokenizer_set_text(char **which, const char *text, size_t length) {
    free(*which);
    *which = text ? oct_strndup(text, length) : NULL;
}

void oct_tokenizer_index_model(struct oct_tokenizer *tokenizer) {
    struct oct_bpe *bpe = &tokenizer->bpe;
    char *bytes = oct_alloc(tokenizer->tokens.longest + 1, 1, "a token");
    oct_token_table_reserve(&bpe->pieces, tokenizer->tokens.count, tokenizer->tokens.text_length);
    for (int32_t id = 0; (size_t)id < tokenizer->tokens.size; id++) {
        size_t length;
        const char *text = oct_token_table_text(&tokenizer->tokens, id, &length);
        if (!text) continue;
        if (bpe->byte_level) {
            length = oct_bytes_of_token(text, length, bytes);
            if (length == SIZE_MAX) continue;
            text = bytes;
        }
        oct_token_table_add(&bpe->pieces, id, text, length);
    }
    free(bytes);
    oct_bpe_index_pieces(bpe);
}

// The token that a merge makes. Merges come in the order in which their tokens were learnt, so that most make the token of the one before
// or the next one: a look there saves a third of all look-ups.
static int32_t merged_token(const struct oct_tokenizer *tokenizer, const char *text, size_t length) {
    const struct oct_bpe *bpe = &tokenizer->bpe;
    int32_t last = bpe->num_merges ? bpe->merges[bpe->num_merges - 1].merged : 0;
    for (int32_t id = last; id <= last + 1; id++)
        if (oct_token_table_is(&tokenizer->tokens, id, text, length)) return id;
    return oct_token_table_find(&tokenizer->tokens, text, length);
}

oct_status oct_tokenizer_add_merge(struct oct_tokenizer *tokenizer, const char *name, const char *left, size_t left_length,
                                   const char *right, size_t right_length, oct_error *err) {
    const struct oct_token_table *tokens = &tokenizer->tokens;
    if (tokenizer->bpe.num_merges == OCT_MAX_MERGES)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: more than %d merges are not supported", name, OCT_MAX_MERGES);
    char near[256], *joined = near;
    if (left_length + right_length > sizeof near) joined = oct_alloc(left_length + right_length, 1, "a merge");
    memcpy(joined, left, left_length);
    memcpy(joined + left_length, right, right_length);
    struct oct_merge merge = {
        .left = oct_token_table_find(tokens, left, left_length),
        .right = oct_token_table_find(tokens, right, right_length),
        .merged = merged_token(tokenizer, joined, left_length + right_length),
    };
    if (joined != near) free(joined);
    if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
        return oct_fail(err, OCT_CORRUPT, "%s: merge %zu, \"%.*s %.*s\": its parts and their union must be in the vocabulary", name,
                        tokenizer->bpe.num_merges, (int)(left_length < 100 ? left_length : 100), left,
                        (int)(right_length < 100 ? right_length : 100), right);
    }
    oct_bpe_add_merge(&tokenizer->bpe, merge);
    return OCT_OK;
}

oct_status oct_tokenizer_finish(const char *name, struct oct_tokenizer *tokenizer, oct_error *err) {
    struct oct_normal_memory memory[2] = {0};
    struct oct_token_table respelled = {0}; // tokens looked for in normalized text also come out normalized
    tokenizer->kinds = oct_alloc(tokenizer->tokens.size + 1, 1, "special tokens");
    for (size_t i = 0; i < tokenizer->num_added; i++) {
        const struct oct_added_token *token = &tokenizer->added[i];
        tokenizer->kinds[token->id] = token->special ? OCT_TOKEN_SPECIAL : OCT_TOKEN_ADDED;
        if (!token->normalized) {
            oct_token_trie_add(&tokenizer->raw_tokens, token->content, token->length, (int32_t)i);
            continue;
        }
        struct oct_normal_text whole = {.span = {.text = token->content, .length = token->length}};
        struct oct_span content = oct_normalize(&tokenizer->normalizer, whole, memory).span;
        oct_token_trie_add(&tokenizer->normalized_tokens, content.text, content.length, (int32_t)i);
        bool same = content.length == token->length && memcmp(content.text, token->content, token->length) == 0;
        if (!same) oct_token_table_set(&respelled, token->id, content.text, content.length);
    }
    for (size_t i = 0; i < 2; i++) oct_normal_memory_free(&memory[i]);
    oct_bpe_finish(&tokenizer->bpe);
    oct_status status = oct_detokenizer_prepare(name, &tokenizer->detokenizer, &tokenizer->tokens, &respelled, err);
    oct_token_table_free(&respelled);
    return status;
}

size_t oct_tokenizer_vocab_size(const struct oct_tokenizer *tokenizer) {
    return tokenizer->tokens.size;
}

const char *oct_tokenizer_token(const struct oct_tokenizer *tokenizer, int32_t id, size_t *length) {
    return oct_token_table_text(&tokenizer->tokens, id, length);
}

int32_t oct_tokenizer_token_id(const struct oct_tokenizer *tokenizer, const char *token, size_t length) {
    return oct_token_table_find(&tokenizer->tokens, token, length);
}

static enum oct_token_kind kind_of(const struct oct_tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (size_t)id < tokenizer->tokens.size ? tokenizer->kinds[id] : OCT_TOKEN_ORDINARY;
}

bool oct_tokenizer_is_special(const struct oct_tokenizer *tokenizer, int32_t id) {
    return kind_of(tokenizer, id) == OCT_TOKEN_SPECIAL;
}

const char *oct_tokenizer_bos(const struct oct_tokenizer *tokenizer) {
    return tokenizer->bos;
}

const char *oct_tokenizer_eos(const struct oct_tokenizer *tokenizer) {
    return tokenizer->eos;
}

int32_t oct_tokenizer_eos_id(const struct oct_tokenizer *tokenizer) {
    return tokenizer->eos_id;
}

// One encode call.
struct encoding {
    const struct oct_tokenizer *tokenizer;
    bool plain;
    struct oct_bpe_scratch scratch;
    struct oct_normal_memory memory[2]; // of the normalizer
    struct oct_ids *ids;
    struct oct_ranges *offsets; // of the ids; NULL: not asked for
};

static void encode_word(void *context, const char *word, size_t length, const struct oct_range *origins) {
    struct encoding *encoding = context;
    struct oct_ranges *places = &encoding->scratch.places;
    oct_bpe_encode(&encoding->tokenizer->bpe, &encoding->scratch, word, length, encoding->ids);
    for (size_t i = 0; i < places->count; i++) {
        struct oct_range range = {origins[places->data[i].start].start, origins[places->data[i].end - 1].end};
        oct_ranges_append(encoding->offsets, range, 1);
    }
    places->count = 0;
}

static void encode_words(struct encoding *encoding, struct oct_normal_text text, bool at_start) {
    oct_pretokenize(&encoding->tokenizer->pretokenizer, text.span.text, text.span.length, text.origins, at_start, encode_word, encoding);
}

static void add_token(struct encoding *encoding, struct oct_normal_text text, struct oct_token_match match) {
    oct_ids_append(encoding->ids, encoding->tokenizer->added[match.token].id);
    if (!text.origins) return;
    oct_ranges_append(encoding->offsets, (struct oct_range){text.origins[match.start].start, text.origins[match.end - 1].end}, 1);
}

static void encode_normalized(struct encoding *encoding, struct oct_normal_text text, bool at_start) {
    const struct oct_tokenizer *tokenizer = encoding->tokenizer;
    struct oct_token_search search = {&tokenizer->normalized_tokens, tokenizer->added, text.span, encoding->plain, 0, 0};
    struct oct_token_match match;
    size_t at = 0;
    while (tokenizer->normalized_tokens.count && oct_token_search_next(&search, &match)) {
        if (match.start > at) encode_words(encoding, oct_normal_part(text, at, match.start), at_start && at == 0);
        add_token(encoding, text, match);
        at = match.end;
    }
    if (at < text.span.length) encode_words(encoding, oct_normal_part(text, at, text.span.length), at_start && at == 0);
}

static void encode_piece(struct encoding *encoding, struct oct_normal_text piece, bool at_start) {
    encode_normalized(encoding, oct_normalize(&encoding->tokenizer->normalizer, piece, encoding->memory), at_start);
}

static void encode_valid(struct encoding *encoding, struct oct_normal_text text) {
    const struct oct_tokenizer *tokenizer = encoding->tokenizer;
    struct oct_token_search search = {&tokenizer->raw_tokens, tokenizer->added, text.span, encoding->plain, 0, 0};
    struct oct_token_match match;
    size_t at = 0;
    while (tokenizer->raw_tokens.count && oct_token_search_next(&search, &match)) {
        if (match.start > at) encode_piece(encoding, oct_normal_part(text, at, match.start), at == 0);
        add_token(encoding, text, match);
        at = match.end;
    }
    if (at < text.span.length) encode_piece(encoding, oct_normal_part(text, at, text.span.length), at == 0);
}

// Each maximal bad part becomes U+FFFD.
static void repair(struct oct_span text, struct oct_marked_text *out) {
    uint32_t code;
    bool incomplete;
    out->has_marks = text.marks != NULL;
    for (size_t i = 0, n; i < text.length; i += n) {
        n = oct_utf8_decode(text.text + i, text.length - i, &code);
        if (n) {
            oct_marked_append(out, oct_subspan(text, i, i + n));
        } else {
            n = oct_utf8_bad_part(text.text + i, text.length - i, &incomplete);
            oct_marked_append_text(out, OCT_REPLACEMENT, 3, oct_span_is_marked(oct_subspan(text, i, i + n)));
        }
    }
}

// The origins of the bytes of a text, or of what repair makes of it: each comes from its whole character, or its bad part.
static void find_origins(struct oct_span text, struct oct_ranges *out) {
    uint32_t code;
    bool incomplete;
    for (size_t i = 0, n; i < text.length; i += n) {
        n = oct_utf8_decode(text.text + i, text.length - i, &code);
        size_t length = n ? n : strlen(OCT_REPLACEMENT);
        if (!n) n = oct_utf8_bad_part(text.text + i, text.length - i, &incomplete);
        oct_ranges_append(out, (struct oct_range){i, i + n}, length);
    }
}

static void encode(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, struct oct_ids *ids,
                   struct oct_ranges *offsets) {
    struct encoding encoding = {.tokenizer = tokenizer, .plain = flags & OCT_ENCODE_PLAIN, .ids = ids, .offsets = offsets};
    struct oct_marked_text repaired = {0};
    struct oct_ranges origins = {0};
    bool around = flags & OCT_ENCODE_ADD_SPECIAL;
    encoding.scratch.wants_places = offsets;
    if (offsets) find_origins(text, &origins);
    if (!oct_utf8_valid(text.text, text.length)) {
        repair(text, &repaired);
        text = oct_marked_span(&repaired);
    }
    for (size_t i = 0; around && i < tokenizer->prefix.count; i++) oct_ids_append(ids, tokenizer->prefix.data[i]);
    if (offsets && around) oct_ranges_append(offsets, (struct oct_range){0, 0}, tokenizer->prefix.count);
    encode_valid(&encoding, (struct oct_normal_text){text, origins.data});
    for (size_t i = 0; around && i < tokenizer->suffix.count; i++) oct_ids_append(ids, tokenizer->suffix.data[i]);
    if (offsets && around) oct_ranges_append(offsets, (struct oct_range){0, 0}, tokenizer->suffix.count);
    oct_marked_free(&repaired);
    free(origins.data);
    for (size_t i = 0; i < 2; i++) oct_normal_memory_free(&encoding.memory[i]);
    oct_bpe_scratch_free(&encoding.scratch);
}

void oct_encode_marked(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, struct oct_ids *ids) {
    encode(tokenizer, text, flags, ids, NULL);
}

static bool is_trimmed(const char *character) {
    uint32_t code;
    oct_utf8_next(character, &code);
    return code == 0x120 || oct_is_space(code); // 0x120 is the symbol of a space
}

// As the post-processor ByteLevel does it: as many characters as the token has white space at an end are taken off that end of its range.
// A space that was put before the text has no character there, so that at the beginning one is not counted.
static struct oct_range trimmed(const struct oct_tokenizer *tokenizer, struct oct_span text, int32_t id, struct oct_range range,
                                bool first) {
    size_t length, leading = 0, trailing = 0, end = range.end;
    uint32_t code;
    const char *token = oct_token_table_text(&tokenizer->tokens, id, &length);
    for (size_t i = 0; i < length && is_trimmed(token + i); i += oct_utf8_next(token + i, &code)) leading++;
    for (size_t i = length; i && is_trimmed(token + oct_utf8_before(token, i)); i = oct_utf8_before(token, i)) trailing++;
    if (leading && (first || !range.start) && tokenizer->trims_behind_prefix) leading--;
    for (; leading && range.start < range.end; leading--) {
        do range.start++;
        while (range.start < range.end && ((unsigned char)text.text[range.start] & 0xC0) == 0x80);
    }
    for (; trailing && end; trailing--) end = oct_utf8_before(text.text, end);
    if (!trailing) range.end = end > range.start ? end : range.start;
    return range;
}

void oct_encode_with_offsets(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, struct oct_ids *ids,
                             struct oct_ranges *offsets) {
    size_t around = flags & OCT_ENCODE_ADD_SPECIAL ? 1 : 0, before = ids->count, shift = offsets->count - before;
    encode(tokenizer, text, flags, ids, offsets);
    size_t start = before + around * tokenizer->prefix.count, end = ids->count - around * tokenizer->suffix.count;
    for (size_t i = start; tokenizer->trims_offsets && i < end; i++) {
        struct oct_range *range = &offsets->data[i + shift];
        *range = trimmed(tokenizer, text, ids->data[i], *range, i == start);
    }
}

void oct_encode(const struct oct_tokenizer *tokenizer, const char *text, size_t length, int flags, struct oct_ids *ids) {
    oct_encode_marked(tokenizer, (struct oct_span){.text = text, .length = length}, flags, ids);
}

static void push(const struct oct_tokenizer *tokenizer, struct oct_decode_stream *stream, int32_t id, bool whole_runs,
                 struct oct_buffer *text) {
    enum oct_token_kind kind = kind_of(tokenizer, id);
    if (stream->skip_special_tokens && kind == OCT_TOKEN_SPECIAL) return;
    bool raw = stream->last_was_added && kind != OCT_TOKEN_ORDINARY && stream->join_special_tokens && !stream->skip_special_tokens;
    stream->last_was_added = kind != OCT_TOKEN_ORDINARY;
    if (!raw) {
        oct_detokenizer_push(&tokenizer->detokenizer, stream, id, whole_runs, text);
        return;
    }
    size_t length;
    const char *spelling = oct_token_table_text(&tokenizer->tokens, id, &length);
    oct_detokenizer_flush(&tokenizer->detokenizer, stream, text);
    oct_buffer_append(text, spelling, length);
    stream->started = true;
}

void oct_decode(const struct oct_tokenizer *tokenizer, const int32_t *ids, size_t count, int flags, struct oct_buffer *text) {
    struct oct_decode_stream stream = {
        .skip_special_tokens = flags & OCT_DECODE_SKIP_SPECIAL,
        .join_special_tokens = flags & OCT_DECODE_JOIN_SPECIAL,
    };
    for (size_t i = 0; i < count; i++) push(tokenizer, &stream, ids[i], true, text);
    oct_detokenizer_flush(&tokenizer->detokenizer, &stream, text);
    oct_decode_stream_free(&stream);
}

void oct_decode_stream_push(const struct oct_tokenizer *tokenizer, struct oct_decode_stream *stream, int32_t id, struct oct_buffer *text) {
    push(tokenizer, stream, id, false, text);
}

void oct_decode_stream_flush(const struct oct_tokenizer *tokenizer, struct oct_decode_stream *stream, struct oct_buffer *text) {
    oct_detokenizer_flush(&tokenizer->detokenizer, stream, text);
}

void oct_decode_stream_free(struct oct_decode_stream *stream) {
    oct_buffer_free(&stream->held);
    *stream = (struct oct_decode_stream){0};
}
