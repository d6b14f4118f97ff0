// tokenize_lines MODEL: for each line of JSON on standard input one on standard output. A string is a text: its ids without and with the
// special tokens around it, those with special tokens in the text taken for text, the characters where the first ids start and end, then
// these ids decoded without and with special tokens skipped. An array is ids: these two texts alone. What a stream of the ids gives must
// equal the whole text.
#include "api/text_source.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static oct_status open_tokenizer(const char *path, struct oct_text_source *source, oct_error *err) {
    if (oct_path_is_directory(path)) return oct_tokenizer_from_directory(path, &source->tokenizer, err);
    struct oct_checkpoint *checkpoint;
    OCT_TRY(oct_checkpoint_open(path, &checkpoint, err));
    oct_status status = oct_text_source_open(checkpoint, path, NULL, source, err);
    oct_checkpoint_close(checkpoint);
    return status;
}

static json_t *ids_to_json(const struct oct_ids *ids) {
    json_t *array = json_array();
    for (size_t i = 0; i < ids->count; i++) json_array_append_new(array, json_integer(ids->data[i]));
    return array;
}

static struct oct_ids ids_from_json(const json_t *array) {
    struct oct_ids ids = {0};
    size_t i;
    json_t *id;
    json_array_foreach(array, i, id) oct_ids_append(&ids, (int32_t)json_integer_value(id));
    return ids;
}

static json_t *encoded(const struct oct_tokenizer *tokenizer, const json_t *text, int flags) {
    struct oct_ids ids = {0};
    oct_encode(tokenizer, json_string_value(text), json_string_length(text), flags, &ids);
    json_t *array = ids_to_json(&ids);
    free(ids.data);
    return array;
}

// Start and end of each token, in characters of the text.
static json_t *offsets_of(const struct oct_tokenizer *tokenizer, const json_t *text) {
    struct oct_span span = {.text = json_string_value(text), .length = json_string_length(text)};
    struct oct_ids ids = {0};
    struct oct_ranges offsets = {0};
    oct_encode_with_offsets(tokenizer, span, 0, &ids, &offsets);
    uint32_t *characters = oct_alloc(span.length + 1, sizeof *characters, "a test"); // before each byte
    for (size_t i = 0; i < span.length; i++) characters[i + 1] = characters[i] + ((span.text[i] & 0xC0) != 0x80);
    json_t *array = json_array();
    for (size_t i = 0; i < offsets.count; i++) {
        json_array_append_new(array, json_integer(characters[offsets.data[i].start]));
        json_array_append_new(array, json_integer(characters[offsets.data[i].end]));
    }
    free(characters);
    free(offsets.data);
    free(ids.data);
    return array;
}

static json_t *decoded(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, bool skip_special_tokens) {
    struct oct_buffer text = {0};
    oct_decode(tokenizer, ids->data, ids->count, skip_special_tokens ? OCT_DECODE_SKIP_SPECIAL : 0, &text);
    json_t *string = json_stringn(text.data ? text.data : "", text.length); // NULL: invalid UTF-8
    OCT_CHECK(string);
    oct_buffer_free(&text);
    return string;
}

static json_t *streamed(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, bool skip_special_tokens) {
    struct oct_decode_stream stream = {.skip_special_tokens = skip_special_tokens};
    struct oct_buffer text = {0};
    for (size_t i = 0; i < ids->count; i++) oct_decode_stream_push(tokenizer, &stream, ids->data[i], &text);
    oct_decode_stream_flush(tokenizer, &stream, &text);
    json_t *string = json_stringn(text.data ? text.data : "", text.length);
    OCT_CHECK(string);
    oct_decode_stream_free(&stream);
    oct_buffer_free(&text);
    return string;
}

static json_t *answer(const struct oct_tokenizer *tokenizer, const json_t *line) {
    json_t *out = json_array();
    bool is_text = json_is_string(line);
    if (is_text) {
        json_array_append_new(out, encoded(tokenizer, line, 0));
        json_array_append_new(out, encoded(tokenizer, line, OCT_ENCODE_ADD_SPECIAL));
        json_array_append_new(out, encoded(tokenizer, line, OCT_ENCODE_PLAIN));
        json_array_append_new(out, offsets_of(tokenizer, line));
    }
    struct oct_ids ids = ids_from_json(is_text ? json_array_get(out, 0) : line);
    for (int skip = 0; skip < 2; skip++) {
        json_t *whole = decoded(tokenizer, &ids, skip), *joined = streamed(tokenizer, &ids, skip);
        OCT_CHECK(!is_text || json_equal(whole, joined)); // a stream of ids that no text has may differ (tokenizer.h)
        json_array_append_new(out, whole);
        json_decref(joined);
    }
    free(ids.data);
    return out;
}

int main(int argc, char **argv) {
    struct oct_text_source source = {0};
    oct_error err;
    if (argc != 2) return 2;
    if (open_tokenizer(argv[1], &source, &err) != OCT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    char *text = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&text, &capacity, stdin)) > 0;) {
        json_t *line, *out;
        if (oct_json_parse("standard input", text, (size_t)length, &line, &err) != OCT_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        out = answer(source.tokenizer, line);
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(out);
        json_decref(line);
    }
    free(text);
    oct_text_source_close(&source);
    return 0;
}
