#include "toy_tokenizers.h"

#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

struct oct_tokenizer *toy_byte_level_tokenizer(void) {
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
    json =
        json_pack("{s:{s:s, s:o, s:[[s,s],[s,s],[s,s],[s,s]]}, s:{s:s, s:b}, s:{s:s}, s:[{s:i, s:s, s:b}, {s:i, s:s, s:b}, {s:i, s:s, s:b},"
                  "{s:i, s:s, s:b, s:b, s:b}]}",
                  "model", "type", "BPE", "vocab", vocabulary, "merges", "t", "h", "th", "e", "a", "a", "aa", "aa", "pre_tokenizer", "type",
                  "ByteLevel", "add_prefix_space", 0, "decoder", "type", "ByteLevel", "added_tokens", "id", 260, "content", "<s>",
                  "special", 1, "id", 261, "content", "<|start|>", "special", 1, "id", 262, "content", "<|end|>", "special", 1, "id", 263,
                  "content", "<tool>", "single_word", 1, "normalized", 1, "special", 0);
    struct oct_tokenizer *tokenizer;
    oct_error err;
    char *text = json_dumps(json, 0);
    json_decref(json);
    OCT_CHECK(oct_tokenizer_from_json("byte level", text, strlen(text), &tokenizer, &err) == OCT_OK);
    free(text);
    return tokenizer;
}

struct oct_tokenizer *toy_sentencepiece_tokenizer(void) {
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
