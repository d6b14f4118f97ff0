// The first byte chooses a tokenizer and flags, the second where marks begin, the rest is text. Streams must join to the whole decode, and
// a byte-level tokenizer that has all 256 symbols must give valid text back unchanged.
#include "target.h"

#include "base/memory.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

// All bytes as symbols, a few merges, special tokens of every kind.
static struct oct_tokenizer *byte_level(void) {
    json_t *vocabulary = json_object(), *json;
    char symbol[5] = "";
    for (uint32_t code = 0, id = 0; id < 256; code++) {
        if (oct_byte_of_symbol(code) < 0) continue;
        symbol[oct_utf8_encode(code, symbol)] = '\0';
        json_object_set_new(vocabulary, symbol, json_integer(id++));
    }
    json_object_set_new(vocabulary, "th", json_integer(256));
    json_object_set_new(vocabulary, "the", json_integer(257));
    json_object_set_new(vocabulary, "aa", json_integer(258));
    json_object_set_new(vocabulary, "aaaa", json_integer(259));
    json = json_pack("{s:{s:s, s:o, s:[[s,s],[s,s],[s,s],[s,s]]}, s:{s:s, s:b}, s:{s:s}, s:[{s:i, s:s, s:b}, {s:i, s:s, s:b, s:b, s:b}]}",
                     "model", "type", "BPE", "vocab", vocabulary, "merges", "t", "h", "th", "e", "a", "a", "aa", "aa", "pre_tokenizer",
                     "type", "ByteLevel", "add_prefix_space", 0, "decoder", "type", "ByteLevel", "added_tokens", "id", 260, "content",
                     "<s>", "special", 1, "id", 261, "content", "<tool>", "single_word", 1, "normalized", 1, "special", 0);
    struct oct_tokenizer *tokenizer;
    oct_error err;
    char *text = json_dumps(json, 0);
    json_decref(json);
    OCT_CHECK(oct_tokenizer_from_json("byte level", text, strlen(text), &tokenizer, &err) == OCT_OK);
    free(text);
    return tokenizer;
}

static struct oct_tokenizer *sentencepiece(void) {
    enum { COUNT = 256 + 9 };
    static char names[256][8];
    const char *tokens[COUNT] = {"<unk>",
                                 "<s>",
                                 "\xE2\x96\x81",
                                 "a",
                                 "b",
                                 "ab",
                                 "ba",
                                 ("\xE2\x96\x81"
                                  "a"),
                                 "\xE2\x96\x81\xE2\x96\x81"};
    size_t lengths[COUNT];
    int32_t types[COUNT] = {2, 3, 1, 1, 1, 1, 1, 1, 1};
    float scores[COUNT] = {0};
    for (int i = 0; i < 256; i++) {
        snprintf(names[i], sizeof names[i], "<0x%02X>", (unsigned)i);
        tokens[9 + i] = names[i];
        types[9 + i] = 6;
    }
    for (int i = 0; i < COUNT; i++) lengths[i] = strlen(tokens[i]), scores[i] = (float)-i;
    struct oct_vocabulary vocabulary = {"llama", "", COUNT, tokens, lengths, types, scores, 0, NULL, NULL, 1, -1, 0, -1, -1, -1};
    struct oct_tokenizer *tokenizer;
    oct_error err;
    OCT_CHECK(oct_tokenizer_from_vocabulary("sentencepiece", &vocabulary, &tokenizer, &err) == OCT_OK);
    return tokenizer;
}

static void check(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, const char *expected, size_t length) {
    struct oct_buffer whole = {0}, joined = {0};
    struct oct_decode_stream stream = {0};
    oct_decode(tokenizer, ids->data, ids->count, 0, &whole);
    for (size_t i = 0; i < ids->count; i++) {
        oct_decode_stream_push(tokenizer, &stream, ids->data[i], &joined);
        OCT_CHECK(oct_utf8_valid(joined.data ? joined.data : "", joined.length));
    }
    oct_decode_stream_flush(tokenizer, &stream, &joined);
    OCT_CHECK(whole.length == joined.length && (!whole.length || memcmp(whole.data, joined.data, whole.length) == 0));
    if (expected) OCT_CHECK(whole.length == length && (!length || memcmp(whole.data, expected, length) == 0));
    oct_decode_stream_free(&stream);
    oct_buffer_free(&whole);
    oct_buffer_free(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct oct_tokenizer *tokenizers[2];
    if (!tokenizers[0]) tokenizers[0] = byte_level(), tokenizers[1] = sentencepiece();
    if (size < 2) return 0;
    const struct oct_tokenizer *tokenizer = tokenizers[data[0] & 1];
    size_t length = size - 2, start = data[1] % (length + 1);
    unsigned char *marks = oct_alloc(length + 1, 1, "marks");
    memset(marks + start, 1, length - start);
    struct oct_ids ids = {0};
    const char *text = (const char *)data + 2;
    oct_encode_marked(tokenizer, (struct oct_span){text, marks, length}, data[0] & 2 ? OCT_ENCODE_PLAIN : 0, &ids);
    check(tokenizer, &ids, !(data[0] & 1) && oct_utf8_valid(text, length) ? text : NULL, length);
    free(ids.data);
    free(marks);
    return 0;
}
