// detokenizer.c: ids to text, whole or piece by piece; what may still change is held back.
#include "text/detokenizer.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define SPACE_MARK "\xE2\x96\x81" // U+2581

enum { MAX_GROWTH = 64 }; // of a token's text by the replacements of a file

// Bytes that are printable in Latin-1 stand for themselves; the 68 others, in ascending order, for U+0100, U+0101, ...
int oct_byte_of_symbol(uint32_t code) {
    if ((code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xAC) || (code >= 0xAE && code <= 0xFF)) return (int)code;
    if (code < 0x100 || code > 0x143) return -1;
    code -= 0x100;
    if (code <= 0x20) return (int)code;                 // 00 .. 20
    if (code <= 0x42) return (int)(code - 0x21 + 0x7F); // 7F .. A0
    return 0xAD;
}

size_t oct_bytes_of_token(const char *token, size_t length, char *out) {
    size_t count = 0;
    uint32_t code;
    for (size_t i = 0; i < length; i += oct_utf8_next(token + i, &code)) {
        oct_utf8_next(token + i, &code);
        int byte = oct_byte_of_symbol(code);
        if (byte < 0) return SIZE_MAX;
        out[count++] = (char)byte;
    }
    return count;
}

static bool one_character(const json_t *json, char out[5]) {
    size_t length = json_string_length(json);
    uint32_t code;
    if (!length || length > 4 || oct_utf8_next(json_string_value(json), &code) != length) return false;
    memcpy(out, json_string_value(json), length);
    return true;
}

static void add_replace(struct oct_detokenizer *out, const char *pattern, size_t pattern_length, const char *content,
                        size_t content_length) {
    out->replaces[out->num_replaces].pattern = oct_strndup(pattern, pattern_length);
    out->replaces[out->num_replaces].pattern_length = pattern_length;
    out->replaces[out->num_replaces].content = oct_strndup(content, content_length);
    out->replaces[out->num_replaces++].content_length = content_length;
}

static oct_status load_part(const char *name, const json_t *json, bool *fused, struct oct_detokenizer *out, oct_error *err) {
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return oct_fail(err, OCT_CORRUPT, "%s: decoder: an object with a \"type\" expected, %s found", name, oct_json_kind(json));
    if (strcmp(type, "Replace") == 0 && !*fused && !out->byte_fallback && out->num_replaces < 8) {
        const json_t *pattern = json_object_get(json_object_get(json, "pattern"), "String"), *content = json_object_get(json, "content");
        if (!json_string_length(pattern) || !json_is_string(content)) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: decoder Replace: only a pattern {\"String\"} is supported", name);
        }
        add_replace(out, json_string_value(pattern), json_string_length(pattern), json_string_value(content), json_string_length(content));
        return OCT_OK;
    }
    if (strcmp(type, "ByteFallback") == 0 && !*fused) return out->byte_fallback = true, OCT_OK;
    if (strcmp(type, "Fuse") == 0) return *fused = true, OCT_OK;
    if (strcmp(type, "Strip") == 0 && *fused && !out->strip_left) {
        json_int_t start = json_integer_value(json_object_get(json, "start")), stop = json_integer_value(json_object_get(json, "stop"));
        if (!one_character(json_object_get(json, "content"), out->strip_character) || start < 0 || start > 1024 || stop != 0) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: decoder Strip: only leading characters can be stripped", name);
        }
        out->strip_left = (int)start;
        return OCT_OK;
    }
    return oct_fail(err, OCT_UNSUPPORTED, "%s: decoder %s is not supported there", name, type);
}

static oct_status load_sequence(const char *name, const json_t *json, struct oct_detokenizer *out, oct_error *err) {
    bool fused = false;
    size_t i, growth = 1;
    json_t *part;
    const json_t *parts = json_object_get(json, "decoders");
    if (json_array_size(parts) == 1) return oct_detokenizer_load(name, json_array_get(parts, 0), out, err);
    out->kind = OCT_DETOKENIZE_SEQUENCE;
    json_array_foreach(parts, i, part) {
        OCT_TRY(load_part(name, part, &fused, out, err));
    }
    for (size_t k = 0; k < out->num_replaces; k++) {
        size_t length = out->replaces[k].content_length;
        if (length > MAX_GROWTH / growth)
            return oct_fail(err, OCT_UNSUPPORTED, "%s: decoder: its replacements could make a text more than %d times as long", name,
                            MAX_GROWTH);
        if (length) growth *= length;
    }
    return OCT_OK;
}

oct_status oct_detokenizer_load(const char *name, const json_t *json, struct oct_detokenizer *out, oct_error *err) {
    out->kind = OCT_DETOKENIZE_SPACED;
    if (!json || json_is_null(json)) return OCT_OK;
    const char *type = json_string_value(json_object_get(json, "type"));
    if (type && strcmp(type, "ByteLevel") == 0) return out->kind = OCT_DETOKENIZE_BYTES, OCT_OK;
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *parts = json_object_get(json, "decoders");
        const char *inner = json_string_value(json_object_get(json_array_get(parts, 0), "type"));
        if (json_array_size(parts) == 1 && inner && strcmp(inner, "Sequence") == 0) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: decoder: a Sequence in a Sequence is not supported", name);
        }
        return load_sequence(name, json, out, err);
    }
    if (type && strcmp(type, "Metaspace") == 0) {
        out->kind = OCT_DETOKENIZE_METASPACE;
        if (!one_character(json_object_get(json, "replacement"), out->mark)) {
            return oct_fail(err, OCT_CORRUPT, "%s: decoder Metaspace: a replacement of one character expected", name);
        }
        const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
        const json_t *prefix = json_object_get(json, "add_prefix_space");
        if (scheme ? strcmp(scheme, "never") != 0 : !json_is_false(prefix)) return OCT_OK;
        out->kind = OCT_DETOKENIZE_SEQUENCE; // nothing was put before the text, so that no token is special
        add_replace(out, out->mark, strlen(out->mark), " ", 1);
        return OCT_OK;
    }
    bool fused = false;
    out->kind = OCT_DETOKENIZE_SEQUENCE;
    return load_part(name, json, &fused, out, err);
}

void oct_detokenizer_sentencepiece(struct oct_detokenizer *detokenizer, bool strip_space) {
    detokenizer->kind = OCT_DETOKENIZE_SEQUENCE;
    detokenizer->byte_fallback = true;
    detokenizer->strip_left = strip_space;
    strcpy(detokenizer->strip_character, " ");
    add_replace(detokenizer, SPACE_MARK, 3, " ", 1);
}

static void replace_all(const char *pattern, size_t pattern_length, const char *content, size_t content_length, struct oct_buffer *text,
                        struct oct_buffer *scratch) {
    scratch->length = 0;
    size_t at = 0;
    for (const char *found; (found = memmem(text->data + at, text->length - at, pattern, pattern_length));) {
        size_t start = (size_t)(found - text->data);
        oct_buffer_append(scratch, text->data + at, start - at);
        oct_buffer_append(scratch, content, content_length);
        at = start + pattern_length;
    }
    oct_buffer_append(scratch, text->data + at, text->length - at);
    struct oct_buffer other = *text;
    *text = *scratch;
    *scratch = other;
}

// What a token adds to a text goes into *text. Hostile replacements must not make gigabytes of a vocabulary: false.
static bool prepare_text(const struct oct_detokenizer *detokenizer, const char *token, size_t length, struct oct_buffer *text,
                         struct oct_buffer *scratch) {
    text->length = 0;
    oct_buffer_append(text, token, length);
    if (detokenizer->kind == OCT_DETOKENIZE_BYTES) {
        size_t bytes = oct_bytes_of_token(token, length, text->data);
        if (bytes == SIZE_MAX) {
            memcpy(text->data, token, length);
        } else {
            text->length = bytes;
        }
    }
    for (size_t i = 0; i < detokenizer->num_replaces; i++) {
        size_t pattern_length = detokenizer->replaces[i].pattern_length, content_length = detokenizer->replaces[i].content_length;
        if (text->length / pattern_length * content_length > OCT_MAX_TOKEN_TEXT) return false;
        replace_all(detokenizer->replaces[i].pattern, pattern_length, detokenizer->replaces[i].content, content_length, text, scratch);
    }
    return text->length < OCT_MAX_TOKEN_TEXT - detokenizer->texts.text_length;
}

oct_status oct_detokenizer_prepare(const char *name, struct oct_detokenizer *detokenizer, const struct oct_token_table *tokens,
                                   const struct oct_token_table *respelled, oct_error *err) {
    struct oct_buffer text = {0}, scratch = {0};
    oct_status status = OCT_OK;
    oct_token_table_reserve(&detokenizer->texts, tokens->size, tokens->text_length);
    for (int32_t id = 0; status == OCT_OK && (size_t)id < tokens->size; id++) {
        size_t length;
        const char *token = oct_token_table_text(respelled, id, &length);
        if (!token) token = oct_token_table_text(tokens, id, &length);
        if (!token) continue;
        if (prepare_text(detokenizer, token, length, &text, &scratch)) {
            oct_token_table_set(&detokenizer->texts, id, text.data, text.length);
        } else {
            status = oct_fail(err, OCT_UNSUPPORTED, "%s: decoder: texts of tokens of together at most %u bytes expected", name,
                              OCT_MAX_TOKEN_TEXT);
        }
    }
    oct_buffer_free(&text);
    oct_buffer_free(&scratch);
    return status;
}

void oct_detokenizer_free(struct oct_detokenizer *detokenizer) {
    for (size_t i = 0; i < detokenizer->num_replaces; i++) {
        free(detokenizer->replaces[i].pattern);
        free(detokenizer->replaces[i].content);
    }
    oct_token_table_free(&detokenizer->texts);
    *detokenizer = (struct oct_detokenizer){0};
}

// Gives out text, less the leading characters that the whole output loses.
static void emit(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, const char *bytes, size_t length,
                 struct oct_buffer *text) {
    size_t mark = strlen(detokenizer->strip_character);
    while (!stream->started && stream->stripped < detokenizer->strip_left && length >= mark &&
           memcmp(bytes, detokenizer->strip_character, mark) == 0) {
        bytes += mark, length -= mark;
        stream->stripped++;
    }
    if (length) stream->started = true;
    oct_buffer_append(text, bytes, length);
}

static void emit_replacements(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, size_t count,
                              struct oct_buffer *text) {
    while (count--) emit(detokenizer, stream, OCT_REPLACEMENT, 3, text);
}

// Gives out the whole characters of what is held, and U+FFFD for each maximal bad part; keeps an unfinished tail.
static void emit_characters(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, struct oct_buffer *text) {
    struct oct_buffer *held = &stream->held;
    size_t at = 0, good = 0;
    uint32_t code;
    while (at < held->length) {
        size_t n = oct_utf8_decode(held->data + at, held->length - at, &code);
        if (n) {
            at += n;
            continue;
        }
        emit(detokenizer, stream, held->data + good, at - good, text);
        bool incomplete;
        n = oct_utf8_bad_part(held->data + at, held->length - at, &incomplete);
        good = at;
        if (incomplete) break;
        emit_replacements(detokenizer, stream, 1, text);
        good = at += n;
    }
    if (at == held->length && at > good) {
        emit(detokenizer, stream, held->data + good, at - good, text);
        good = at;
    }
    memmove(held->data, held->data + good, held->length - good);
    held->length -= good;
}

// A run of byte tokens ended: valid, it is text; otherwise each of its bytes is one U+FFFD.
static void end_run(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, struct oct_buffer *text) {
    struct oct_buffer *held = &stream->held;
    if (!held->length) return;
    if (!stream->broken && oct_utf8_valid(held->data, held->length)) {
        emit(detokenizer, stream, held->data, held->length, text);
    } else {
        emit_replacements(detokenizer, stream, held->length, text);
    }
    held->length = 0;
    stream->broken = false;
}

static void push_byte(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, unsigned char byte, bool whole_runs,
                      struct oct_buffer *text) {
    struct oct_buffer *held = &stream->held;
    oct_buffer_append(held, &byte, 1);
    if (whole_runs || stream->broken) return;
    uint32_t code;
    bool incomplete;
    if (oct_utf8_decode(held->data, held->length, &code) == held->length) {
        emit(detokenizer, stream, held->data, held->length, text);
        held->length = 0;
    } else if (oct_utf8_bad_part(held->data, held->length, &incomplete), !incomplete) {
        stream->broken = true;
    }
}

static int hexadecimal(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_byte_token(const char *text, size_t length, unsigned char *byte) {
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return false;
    int high = hexadecimal(text[3]), low = hexadecimal(text[4]);
    if (high < 0 || low < 0) return false;
    *byte = (unsigned char)(high << 4 | low);
    return true;
}

// Marks are spaces, but for those of the first token, which vanish. Its other spaces stay, so that the two must be told apart here.
static void push_marked(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, const char *token, size_t length,
                        struct oct_buffer *text) {
    const size_t mark = strlen(detokenizer->mark);
    for (const char *found; (found = memmem(token, length, detokenizer->mark, mark));) {
        size_t before = (size_t)(found - token);
        emit(detokenizer, stream, token, before, text);
        if (stream->first_done) emit(detokenizer, stream, " ", 1, text);
        token += before + mark, length -= before + mark;
    }
    emit(detokenizer, stream, token, length, text);
    stream->first_done = true;
}

void oct_detokenizer_push(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, int32_t id, bool whole_runs,
                          struct oct_buffer *text) {
    size_t length;
    const char *token = oct_token_table_text(&detokenizer->texts, id, &length);
    unsigned char byte;
    if (!token) return;
    switch (detokenizer->kind) {
    case OCT_DETOKENIZE_BYTES:
        oct_buffer_append(&stream->held, token, length);
        emit_characters(detokenizer, stream, text);
        return;
    case OCT_DETOKENIZE_SEQUENCE:
        if (detokenizer->byte_fallback && is_byte_token(token, length, &byte)) {
            push_byte(detokenizer, stream, byte, whole_runs, text);
            return;
        }
        end_run(detokenizer, stream, text);
        emit(detokenizer, stream, token, length, text);
        return;
    case OCT_DETOKENIZE_METASPACE:
        push_marked(detokenizer, stream, token, length, text);
        return;
    case OCT_DETOKENIZE_SPACED:
        if (stream->first_done) oct_buffer_append(text, " ", 1);
        oct_buffer_append(text, token, length);
        stream->first_done = true;
        return;
    }
}

void oct_detokenizer_flush(const struct oct_detokenizer *detokenizer, struct oct_decode_stream *stream, struct oct_buffer *text) {
    if (detokenizer->kind == OCT_DETOKENIZE_BYTES) {
        if (stream->held.length) emit_replacements(detokenizer, stream, 1, text); // what is held is one unfinished character
        stream->held.length = 0;
    } else {
        end_run(detokenizer, stream, text);
    }
}
