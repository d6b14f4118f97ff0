// test_tokenizer.c: ids, texts and streams against vectors of the reference library (tests/golden/text).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/text_source.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/unicode.h"
#include "tokenizer_vectors.h"

#include <unistd.h>

static char folder[] = "/tmp/octavo-tokenizer-XXXXXX";

static void write_file(const char *name, const char *text) {
    char *path = oct_path_join(folder, name);
    oct_error err = {0};
    assert_int_equal(oct_file_write(path, text, strlen(text), &err), OCT_OK);
    free(path);
}

static void remove_file(const char *name) {
    char *path = oct_path_join(folder, name);
    unlink(path);
    free(path);
}

// A tokenizer from the text of a tokenizer.json. NULL with *err filled when it is refused.
static struct oct_tokenizer *from_text(const char *text, oct_error *err) {
    struct oct_tokenizer *tokenizer;
    write_file("tokenizer.json", text);
    oct_status status = oct_tokenizer_from_directory(folder, &tokenizer, err);
    remove_file("tokenizer.json");
    assert_true((status == OCT_OK) == (tokenizer != NULL));
    return tokenizer;
}

static struct oct_tokenizer *from_json(const json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    oct_error err = {0};
    struct oct_tokenizer *tokenizer = from_text(text, &err);
    free(text);
    if (!tokenizer) print_message("%s\n", err.message);
    return tokenizer;
}

static json_t *synthetic; // name -> {"about", "tokenizer_json", "cases"}

// A small byte-level tokenizer that other tests load.
static struct oct_tokenizer *small_tokenizer(const char *name) {
    struct oct_tokenizer *tokenizer = from_json(json_object_get(json_object_get(synthetic, name), "tokenizer_json"));
    assert_non_null(tokenizer);
    return tokenizer;
}

static void every_feature_gives_the_reference_ids_and_texts(void **state) {
    (void)state;
    const char *name;
    json_t *entry;
    int failed = 0;
    json_object_foreach(synthetic, name, entry) {
        struct oct_tokenizer *tokenizer = small_tokenizer(name);
        int here = compare_with_vectors(tokenizer, entry, false, true);
        if (here) print_message("%s: %d comparisons failed\n", name, here);
        failed += here;
        oct_tokenizer_free(tokenizer);
    }
    assert_int_equal(failed, 0);
}

static json_t *published_vectors(const char *name) {
    char path[64];
    snprintf(path, sizeof path, "text/tokenizers/%s.json.gz", name);
    return golden_json(golden_path(path));
}

// All vectors of a published tokenizer.
static void compare_with_published(const char *name, const struct oct_tokenizer *tokenizer, bool with_special) {
    json_t *vectors = published_vectors(name);
    assert_int_equal(json_array_size(json_object_get(vectors, "cases")), 984);
    assert_int_equal(json_array_size(json_object_get(vectors, "streams")), 40);
    assert_int_equal(json_array_size(json_object_get(vectors, "random_ids")), 30);
    int failed = compare_with_vectors(tokenizer, vectors, true, with_special);
    if (failed) fail_msg("%s: %d comparisons failed", name, failed);
    json_decref(vectors);
}

// The tokenizer is NULL where path is.
static struct oct_text_source open_text(const char *path) {
    struct oct_text_source source = {0};
    struct oct_checkpoint *checkpoint;
    oct_error err = {0};
    if (!path) return source;
    if (oct_checkpoint_open(path, &checkpoint, &err) != OCT_OK) fail_msg("%s", err.message);
    if (oct_text_source_open(checkpoint, path, NULL, &source, &err) != OCT_OK) fail_msg("%s", err.message);
    oct_checkpoint_close(checkpoint);
    return source;
}

static void the_default_model_tokenizes_as_the_reference(void **state) {
    (void)state;
    struct oct_text_source source = open_text(default_model_path());
    if (!source.tokenizer) skip();
    compare_with_published("smollm2", source.tokenizer, true);
    assert_string_equal(oct_tokenizer_bos(source.tokenizer), "<|im_start|>");
    assert_string_equal(oct_tokenizer_eos(source.tokenizer), "<|im_end|>");
    assert_int_equal(oct_tokenizer_eos_id(source.tokenizer), 2);
    assert_int_equal(oct_tokenizer_vocab_size(source.tokenizer), 49152);
    oct_text_source_close(&source);
}

static void the_default_model_renders_and_encodes_chats_as_the_reference(void **state) {
    (void)state;
    struct oct_text_source source = open_text(default_model_path());
    if (!source.tokenizer) skip();
    json_t *vectors = golden_json(golden_path("text/smollm2_chats.json")), *chat, *entry;
    size_t i;
    int failed = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        failed += encodes_to(source.tokenizer, json_object_get(entry, "text"), 0, json_object_get(entry, "ids"), "ids");
    }
    json_array_foreach(json_object_get(vectors, "chats"), i, chat) {
        struct oct_chat_context options = {
            .add_generation_prompt = json_is_true(json_object_get(chat, "add_generation_prompt")),
            .bos_token = oct_tokenizer_bos(source.tokenizer),
            .eos_token = oct_tokenizer_eos(source.tokenizer),
        };
        struct oct_chat_prompt prompt = {0};
        struct oct_ids ids = {0};
        oct_error err = {0};
        assert_int_equal(oct_chat_render(source.chat, json_object_get(chat, "messages"), &options, &prompt, &err), OCT_OK);
        assert_string_equal(prompt.text.data, json_string_value(json_object_get(chat, "text")));
        oct_chat_encode(source.tokenizer, &prompt, 0, &ids);
        assert_true(same_ids(&ids, json_object_get(chat, "ids")));
        free(ids.data);
        oct_chat_prompt_free(&prompt);
    }
    assert_int_equal(failed, 0);
    json_decref(vectors);
    oct_text_source_close(&source);
}

// One of the published tokenizers, where they are; else NULL.
static struct oct_tokenizer *published_tokenizer(const char *name) {
    const char *path = published_tokenizer_path(name);
    struct oct_tokenizer *tokenizer;
    oct_error err = {0};
    if (!path) return NULL;
    if (oct_tokenizer_from_directory(path, &tokenizer, &err) != OCT_OK) fail_msg("%s", err.message);
    return tokenizer;
}

static void published_tokenizers_give_the_reference_ids_and_texts(void **state) {
    (void)state;
    static const char *const names[] = {"llama3", "llama2_real", "llama2_metaspace", "npm_llama2", "smollm2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct oct_tokenizer *tokenizer = published_tokenizer(names[i]);
        if (!tokenizer) skip();
        compare_with_published(names[i], tokenizer, true);
        oct_tokenizer_free(tokenizer);
    }
}

// The scores and merges of a GGUF file say the same as the merges of tokenizer.json; but this tokenizer.json of Llama 3 adds no BOS.
static void the_same_vocabularies_in_gguf_give_the_same_ids(void **state) {
    (void)state;
    static const struct {
        const char *name, *file;
        int32_t bos;
    } cases[] = {{"llama3", "llama3/vocabulary.gguf", 128000}, {"llama2_real", "llama2_real/vocabulary.gguf", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_text_source source = open_text(published_tokenizer_path(cases[i].file));
        if (!source.tokenizer) skip();
        compare_with_published(cases[i].name, source.tokenizer, i > 0);
        struct oct_ids ids = {0};
        oct_encode(source.tokenizer, "", 0, OCT_ENCODE_ADD_SPECIAL, &ids);
        assert_int_equal(ids.count, 1);
        assert_int_equal(ids.data[0], cases[i].bos);
        free(ids.data);
        oct_text_source_close(&source);
    }
}

// The number of characters in the first `bytes` bytes.
static json_int_t characters(const char *text, size_t bytes) {
    json_int_t count = 0;
    for (size_t i = 0; i < bytes; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

// 1 where the offsets are not the expected ones, which count characters.
static int offsets_differ(const struct oct_tokenizer *tokenizer, const char *name, const json_t *text, const json_t *expected) {
    if (!json_is_array(expected)) return 0;
    struct oct_span span = {.text = json_string_value(text), .length = json_string_length(text)};
    struct oct_ids ids = {0}, plain = {0};
    struct oct_ranges offsets = {0};
    oct_encode_with_offsets(tokenizer, span, OCT_ENCODE_ADD_SPECIAL, &ids, &offsets);
    oct_encode(tokenizer, span.text, span.length, OCT_ENCODE_ADD_SPECIAL, &plain);
    assert_int_equal(ids.count, plain.count);
    assert_int_equal(ids.count, offsets.count);
    assert_memory_equal(ids.data, plain.data, ids.count * sizeof *ids.data);
    json_t *found = json_array();
    for (size_t i = 0; i < offsets.count; i++) {
        assert_true(offsets.data[i].start <= offsets.data[i].end && offsets.data[i].end <= span.length);
        json_array_append_new(found, json_integer(characters(span.text, offsets.data[i].start)));
        json_array_append_new(found, json_integer(characters(span.text, offsets.data[i].end)));
    }
    bool same = json_equal(found, expected);
    if (!same) {
        char *a = json_dumps(found, JSON_COMPACT), *b = json_dumps(expected, JSON_COMPACT), *c = json_dumps(text, JSON_ENCODE_ANY);
        print_message("%s: %.200s\n  found    %.200s\n  expected %.200s\n", name, c, a, b);
        free(a), free(b), free(c);
    }
    json_decref(found);
    free(ids.data);
    free(plain.data);
    free(offsets.data);
    return !same;
}

static void offsets_are_those_of_the_reference(void **state) {
    (void)state;
    json_t *offsets = golden_json(golden_path("text/offsets.json.gz")), *lists, *list;
    const char *name, *index;
    size_t i;
    int failed = 0;
    json_object_foreach(json_object_get(offsets, "synthetic"), name, lists) {
        const json_t *cases = json_object_get(json_object_get(synthetic, name), "cases");
        struct oct_tokenizer *tokenizer = small_tokenizer(name);
        json_array_foreach(lists, i, list) failed +=
            offsets_differ(tokenizer, name, json_object_get(json_array_get(cases, i), "text"), list);
        oct_tokenizer_free(tokenizer);
    }
    json_object_foreach(json_object_get(offsets, "published"), name, lists) {
        struct oct_tokenizer *tokenizer = published_tokenizer(name);
        if (!tokenizer) skip();
        json_t *vectors = published_vectors(name);
        json_object_foreach(lists, index, list) {
            const json_t *entry = json_array_get(json_object_get(vectors, "cases"), strtoul(index, NULL, 10));
            assert_non_null(entry);
            failed += offsets_differ(tokenizer, name, json_object_get(entry, "text"), list);
        }
        json_decref(vectors);
        oct_tokenizer_free(tokenizer);
    }
    json_decref(offsets);
    assert_int_equal(failed, 0);
}

// "ab" and "abab" of a vocabulary given as a GGUF file gives it; a space is the symbol U+0120.
static struct oct_vocabulary tiny_vocabulary(void) {
    static const char *const tokens[] = {"<s>",
                                         "a",
                                         "b",
                                         "ab",
                                         "\xC4\xA0",
                                         ("\xC4\xA0"
                                          "ab"),
                                         "<mine>"};
    static const size_t lengths[] = {3, 1, 1, 2, 2, 4, 6};
    static const int32_t types[] = {3, 1, 1, 1, 1, 1, 4};
    static const char *const merges[] = {"a b", "\xC4\xA0 ab"};
    static const size_t merge_lengths[] = {3, 5};
    return (struct oct_vocabulary){"gpt2", "smollm", 7, tokens, lengths, types, NULL, 2, merges, merge_lengths, 0, -1, -1, -1, -1, -1};
}

static void ids_equal(const struct oct_tokenizer *tokenizer, const char *text, int flags, size_t count, const int32_t *expected) {
    struct oct_ids ids = {0};
    oct_encode(tokenizer, text, strlen(text), flags, &ids);
    assert_int_equal(ids.count, count);
    for (size_t i = 0; i < count; i++) assert_int_equal(ids.data[i], expected[i]);
    free(ids.data);
}

static void a_byte_level_vocabulary_merges_by_rank(void **state) {
    (void)state;
    struct oct_vocabulary vocabulary = tiny_vocabulary();
    struct oct_tokenizer *tokenizer;
    oct_error err = {0};
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_OK);
    ids_equal(tokenizer, "abab ab", 0, 3, (int32_t[]){3, 3, 5});
    ids_equal(tokenizer, "a<s>b<mine>", 0, 4, (int32_t[]){1, 0, 2, 6});
    ids_equal(tokenizer, "a<s>b<mine>", OCT_ENCODE_PLAIN, 3, (int32_t[]){1, 2, 6}); // '<', 's' and '>' have no symbols here
    ids_equal(tokenizer, "b", OCT_ENCODE_ADD_SPECIAL, 1, (int32_t[]){2});
    oct_tokenizer_free(tokenizer);
    vocabulary.add_bos_token = 1;
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_OK);
    ids_equal(tokenizer, "b", OCT_ENCODE_ADD_SPECIAL, 2, (int32_t[]){0, 2});
    ids_equal(tokenizer, "", OCT_ENCODE_ADD_SPECIAL, 1, (int32_t[]){0});
    oct_tokenizer_free(tokenizer);
}

static void a_sentencepiece_vocabulary_merges_by_score_and_falls_back_to_bytes(void **state) {
    (void)state;
    static const char *const tokens[] = {"<unk>",
                                         "<s>",
                                         "<0xC3>",
                                         "<0xA9>",
                                         "\xE2\x96\x81",
                                         "a",
                                         "b",
                                         "ab",
                                         "ba",
                                         ("\xE2\x96\x81"
                                          "ab")};
    static const size_t lengths[] = {5, 3, 6, 6, 3, 1, 1, 2, 2, 5};
    static const int32_t types[] = {2, 3, 6, 6, 1, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, 0, -1, -2, -3, -5, -4, -6};
    struct oct_vocabulary vocabulary = {"llama", "", 10, tokens, lengths, types, scores, 0, NULL, NULL, 1, -1, 0, -1, -1, -1};
    struct oct_tokenizer *tokenizer;
    struct oct_buffer text = {0};
    oct_error err = {0};
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_OK);
    ids_equal(tokenizer, "aba", 0, 3, (int32_t[]){4, 5, 8}); // "ba" has the better score
    ids_equal(tokenizer, "ab", OCT_ENCODE_ADD_SPECIAL, 2, (int32_t[]){1, 9});
    ids_equal(tokenizer, "\xC3\xA9zz", 0, 4, (int32_t[]){4, 2, 3, 0}); // unknown characters fuse
    oct_decode(tokenizer, (int32_t[]){1, 9, 2, 3}, 4, OCT_DECODE_SKIP_SPECIAL, &text);
    assert_string_equal(text.data, "ab\xC3\xA9");
    oct_buffer_free(&text);
    oct_tokenizer_free(tokenizer);
}

static void a_damaged_vocabulary_is_an_error_that_names_the_fault(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer;
    oct_error err = {0};
    struct oct_vocabulary vocabulary = tiny_vocabulary();
    vocabulary.bos_token_id = 7;
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "bos_token_id 7"));
    vocabulary = tiny_vocabulary();
    vocabulary.pre = "wordy";
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_UNSUPPORTED);
    assert_non_null(strstr(err.message, "wordy"));
    vocabulary = tiny_vocabulary();
    static const char *const merges[] = {"a c", "ab"};
    vocabulary.merges = merges;
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "a c"));
    vocabulary = tiny_vocabulary();
    static const char *const tokens[] = {"<s>",
                                         "a",
                                         "\xFF",
                                         "ab",
                                         "\xC4\xA0",
                                         ("\xC4\xA0"
                                          "ab"),
                                         "<mine>"};
    vocabulary.tokens = tokens;
    assert_int_equal(oct_tokenizer_from_vocabulary("tiny", &vocabulary, &tokenizer, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "token 2"));
}

static void an_unsupported_part_is_named(void **state) {
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "Unigram"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "WordPiece"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"BertNormalizer\"}}", "BertNormalizer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Whitespace\"}}", "Whitespace"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"decoder\":{\"type\":\"WordPiece\"}}", "WordPiece"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":\"BertProcessing\"}}",
         "BertProcessing"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "token id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}}", "token id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"b\"]]}}", "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[1]}}", "merges[0]"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", "model.vocab: an object expected, array found"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "id 0 is given to two tokens"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "id 1 is given to a token that has an id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"vocab\":{\"b\":1},\"merges\":[]}}", "model.vocab is given twice"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"w\"}}", "end_of_word_suffix"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":"
         "\"$A\"}}",
         "array \"single\" expected, string found"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,},\"merges\":[]}}", "line 1, column 39"},
        {"{\"model\":{\"type\":\"BPE\",\n\"vocab\":{\"a\":0},\"merges\":[],\n}}", "line 3, column 1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\" 1]}}", "not valid JSON"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":"
         "\"a\"},"
         "\"content\":\"--------------------------------------------------------------------------------\"}}",
         "64 times as long"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":{}}",
         "added_tokens: an array expected, object found"},
        {"[]", "BPE"},
        {"{", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_error err = {0};
        assert_null(from_text(cases[i].json, &err));
        if (!strstr(err.message, cases[i].named)) fail_msg("%s does not name %s", err.message, cases[i].named);
    }
}

static void the_order_of_keys_and_their_spelling_do_not_matter(void **state) {
    (void)state;
    static const char *const forms[] = {
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\\n\":3},\"merges\":[\"a b\"]}}",
        "{\"mod\\u0065l\": {\"merges\" : [ [\"a\", \"\\u0062\"] ] , \"voc\\u0061b\" :{\"ab\":2 , \"\\u000a\":3,\"b\":1,\"\\u0061\":0 }, "
        "\"type\":\"BPE\"}}\n",
    };
    for (size_t i = 0; i < 2; i++) {
        oct_error err = {0};
        struct oct_tokenizer *tokenizer = from_text(forms[i], &err);
        if (!tokenizer) fail_msg("%s", err.message);
        ids_equal(tokenizer, "abb\n", 0, 3, (int32_t[]){2, 1, 3});
        oct_tokenizer_free(tokenizer);
    }
}

// 64 kilobytes for each letter of a token of 20,000: more than a gigabyte.
static void a_decoder_that_would_fill_memory_is_an_error(void **state) {
    (void)state;
    struct oct_buffer text = {0};
    oct_error err = {0};
    oct_buffer_puts(&text, "{\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"");
    for (int i = 0; i < 1 << 16; i++) oct_buffer_puts(&text, "b");
    oct_buffer_puts(&text, "\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"");
    for (int i = 0; i < 20000; i++) oct_buffer_puts(&text, "a");
    oct_buffer_puts(&text, "\":0}}}");
    assert_null(from_text(text.data, &err));
    assert_non_null(strstr(err.message, "decoder"));
    oct_buffer_free(&text);
}

static void special_names_are_read_beside_the_tokenizer(void **state) {
    (void)state;
    write_file("tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\"},\"model_max_length\":1000000000000000019884624838656}");
    write_file("special_tokens_map.json", "{\"bos_token\":\"other\",\"eos_token\":\"</s>\"}");
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_template_eos");
    remove_file("tokenizer_config.json");
    remove_file("special_tokens_map.json");
    assert_string_equal(oct_tokenizer_bos(tokenizer), "<s>");
    assert_string_equal(oct_tokenizer_eos(tokenizer), "</s>");
    assert_int_equal(oct_tokenizer_eos_id(tokenizer), 701);
    oct_tokenizer_free(tokenizer);
}

static void a_normalized_added_token_comes_out_normalized(void **state) {
    (void)state;
    oct_error err = {0};
    struct oct_tokenizer *tokenizer =
        from_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Lowercase\"},"
                  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                  "\"added_tokens\":[{\"id\":1,\"content\":\"<T>\",\"normalized\":true},{\"id\":2,\"content\":\"<U>\"}]}",
                  &err);
    assert_non_null(tokenizer);
    struct oct_buffer text = {0};
    ids_equal(tokenizer, "X<t>x<T><u><U>", 0, 5, (int32_t[]){0, 1, 0, 1, 2}); // "<u>" has no symbols
    oct_decode(tokenizer, (int32_t[]){0, 1, 2}, 3, 0, &text);
    assert_string_equal(text.data, "x<t><U>");
    oct_buffer_free(&text);
    oct_tokenizer_free(tokenizer);
}

// Texts of these ids, whole and streamed.
static void decodes_as(const struct oct_tokenizer *tokenizer, size_t count, const int32_t *ids, int flags, const char *expected) {
    struct oct_buffer whole = {0}, streamed = {0};
    struct oct_decode_stream stream = {
        .skip_special_tokens = flags & OCT_DECODE_SKIP_SPECIAL,
        .join_special_tokens = flags & OCT_DECODE_JOIN_SPECIAL,
    };
    oct_decode(tokenizer, ids, count, flags, &whole);
    for (size_t i = 0; i < count; i++) oct_decode_stream_push(tokenizer, &stream, ids[i], &streamed);
    oct_decode_stream_flush(tokenizer, &stream, &streamed);
    assert_string_equal(whole.data, expected);
    assert_string_equal(streamed.data, expected);
    oct_decode_stream_free(&stream);
    oct_buffer_free(&whole);
    oct_buffer_free(&streamed);
}

// Of the first token, a Metaspace decoder drops what stands for a space, but no space.
static void only_marks_of_the_first_token_vanish(void **state) {
    (void)state;
    oct_error err = {0};
    struct oct_tokenizer *tokenizer =
        from_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0,\"\\u2581\":1},\"merges\":[]},"
                  "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\"},"
                  "\"added_tokens\":[{\"id\":2,\"content\":\" a\\u2581b c\"}]}",
                  &err);
    assert_non_null(tokenizer);
    decodes_as(tokenizer, 2, (int32_t[]){2, 2}, 0, " ab c a b c");
    decodes_as(tokenizer, 3, (int32_t[]){1, 1, 0}, 0, " x");
    oct_tokenizer_free(tokenizer);
}

static void added_tokens_in_a_row_can_be_joined(void **state) {
    (void)state;
    oct_error err = {0};
    struct oct_tokenizer *tokenizer =
        from_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0},\"merges\":[]},"
                  "\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"<tool>\"}]}",
                  &err);
    assert_non_null(tokenizer);
    static const int32_t ids[] = {1, 1, 2, 0, 2, 0, 1, 0};
    decodes_as(tokenizer, 8, ids, 0, "<s> <s> <tool> x <tool> x <s> x");
    decodes_as(tokenizer, 8, ids, OCT_DECODE_JOIN_SPECIAL, "<s><s><tool> x <tool> x <s> x");
    decodes_as(tokenizer, 8, ids, OCT_DECODE_SKIP_SPECIAL, "<tool> x <tool> x x");
    decodes_as(tokenizer, 8, ids, OCT_DECODE_SKIP_SPECIAL | OCT_DECODE_JOIN_SPECIAL, "<tool> x <tool> x x");
    decodes_as(tokenizer, 3, (int32_t[]){1, 1, 2}, OCT_DECODE_SKIP_SPECIAL | OCT_DECODE_JOIN_SPECIAL, "<tool>");
    oct_tokenizer_free(tokenizer);
}

static void a_joined_token_is_given_as_it_is_spelled(void **state) {
    (void)state;
    oct_error err = {0};
    struct oct_tokenizer *tokenizer =
        from_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0},\"merges\":[]},\"decoder\":{\"type\":\"ByteLevel\"},"
                  "\"added_tokens\":[{\"id\":1,\"content\":\"\\u00f5\"}]}",
                  &err);
    assert_non_null(tokenizer);
    decodes_as(tokenizer, 3, (int32_t[]){1, 1, 0}, 0, "\xEF\xBF\xBD\xEF\xBF\xBDx"); // a byte that is no character
    decodes_as(tokenizer, 3, (int32_t[]){1, 1, 0}, OCT_DECODE_JOIN_SPECIAL, "\xEF\xBF\xBD\xC3\xB5x");
    oct_tokenizer_free(tokenizer);
}

static void invalid_utf8_is_read_as_replacement_characters(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_gpt2");
    struct oct_ids bad = {0}, good = {0};
    oct_encode(tokenizer, "a\xE2\x82z\xFF\xFE", 6, 0, &bad); // the first two bad bytes begin one character
    oct_encode(tokenizer, "a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD", 11, 0, &good);
    assert_int_equal(bad.count, good.count);
    assert_memory_equal(bad.data, good.data, good.count * sizeof *good.data);
    free(bad.data);
    free(good.data);
    oct_tokenizer_free(tokenizer);
}

static void offsets_count_the_bytes_of_invalid_utf8(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_template_eos");
    struct oct_span text = {.text = "a\xE2\x82z<s>\xFF", .length = 8};
    struct oct_ids ids = {0};
    struct oct_ranges offsets = {0};
    oct_encode_with_offsets(tokenizer, text, 0, &ids, &offsets);
    assert_int_equal(offsets.count, ids.count);
    size_t end = 0;
    for (size_t i = 0; i < offsets.count; i++) { // three tokens for each U+FFFD at most, all with the same range
        assert_true(offsets.data[i].start <= end && offsets.data[i].end >= end);
        end = offsets.data[i].end;
        if (ids.data[i] == 700) assert_true(offsets.data[i].start == 4 && offsets.data[i].end == 7);
    }
    assert_true(offsets.data[1].start == 1 && offsets.data[1].end == 3);
    assert_true(offsets.data[offsets.count - 1].start == 7 && end == 8);
    free(ids.data);
    free(offsets.data);
    oct_tokenizer_free(tokenizer);
}

static void marked_text_never_spells_a_special_token(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_template_eos");
    static const char text[] = "<s>hi<s></s>";
    static const unsigned char marks[] = {0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    struct oct_ids ids = {0}, plain = {0};
    oct_encode_marked(tokenizer, (struct oct_span){text, marks, 12}, 0, &ids);
    oct_encode(tokenizer, "hi<s>", 5, OCT_ENCODE_PLAIN, &plain);
    assert_int_equal(ids.count, plain.count + 2);
    assert_int_equal(ids.data[0], 700);
    assert_memory_equal(ids.data + 1, plain.data, plain.count * sizeof *plain.data);
    assert_int_equal(ids.data[ids.count - 1], 701);
    ids.count = 0;
    static const unsigned char last[] = {0, 0, 1}; // one marked byte is enough
    oct_encode_marked(tokenizer, (struct oct_span){"<s>", last, 3}, 0, &ids);
    for (size_t i = 0; i < ids.count; i++) assert_int_not_equal(ids.data[i], 700);
    free(ids.data);
    free(plain.data);
    oct_tokenizer_free(tokenizer);
}

static void a_word_of_a_megabyte_takes_no_quadratic_time(void **state) {
    (void)state;
    size_t length = 1 << 20;
    char *text = oct_alloc(length, 1, "a test");
    for (size_t i = 0; i < length; i++) text[i] = "thea"[i * i % 4];
    static const char *const names[] = {"bl_gpt2", "sp_legacy"};
    for (size_t i = 0; i < 2; i++) {
        struct oct_tokenizer *tokenizer = small_tokenizer(names[i]);
        struct oct_ids ids = {0};
        struct oct_buffer back = {0};
        oct_encode(tokenizer, text, length, 0, &ids);
        oct_decode(tokenizer, ids.data, ids.count, 0, &back);
        assert_int_equal(back.length, length);
        assert_memory_equal(back.data, text, length);
        free(ids.data);
        oct_buffer_free(&back);
        oct_tokenizer_free(tokenizer);
    }
    free(text);
}

// Combining characters of two classes in turn, which a normalizer has to sort.
static void a_megabyte_of_accents_takes_no_quadratic_time(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_nfc");
    struct oct_buffer text = {0}, back = {0};
    struct oct_ids ids = {0};
    for (int i = 0; i < 1 << 18; i++) oct_buffer_puts(&text, "\xCC\x81\xCC\xA3"); // U+0301, U+0323
    oct_encode(tokenizer, text.data, text.length, 0, &ids);
    oct_decode(tokenizer, ids.data, ids.count, 0, &back);
    assert_int_equal(back.length, text.length);
    for (size_t i = 0; i < back.length; i += 2) assert_memory_equal(back.data + i, i < back.length / 2 ? "\xCC\xA3" : "\xCC\x81", 2);
    oct_buffer_free(&text);
    oct_buffer_free(&back);
    free(ids.data);
    oct_tokenizer_free(tokenizer);
}

static void ten_megabytes_of_any_bytes_are_encoded_and_decoded(void **state) {
    (void)state;
    size_t length = 10 << 20;
    char *text = oct_alloc(length, 1, "a test");
    uint32_t random = 1;
    for (size_t i = 0; i < length; i++) {
        random = 1664525 * random + 1013904223;
        text[i] = i % 5 ? (char)("etaoin shrdlu\n\0\0"[random >> 28]) : (char)(random >> 24); // letters, NULs, and what is no UTF-8
    }
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_gpt2");
    struct oct_ids ids = {0}, again = {0};
    struct oct_buffer back = {0};
    oct_encode(tokenizer, text, length, 0, &ids);
    oct_decode(tokenizer, ids.data, ids.count, 0, &back);
    assert_true(back.length > length);
    assert_true(oct_utf8_valid(back.data, back.length));
    oct_encode(tokenizer, back.data, back.length, 0, &again);
    assert_int_equal(again.count, ids.count);
    assert_memory_equal(again.data, ids.data, ids.count * sizeof *ids.data);
    free(text);
    free(ids.data);
    free(again.data);
    oct_buffer_free(&back);
    oct_tokenizer_free(tokenizer);
}

static void a_stream_gives_whole_characters_and_flushes_a_broken_one(void **state) {
    (void)state;
    struct oct_tokenizer *tokenizer = small_tokenizer("bl_gpt2");
    struct oct_decode_stream stream = {0};
    struct oct_ids ids = {0};
    struct oct_buffer text = {0};
    oct_encode(tokenizer, "\xF0\x9F\x94\xA5", 4, 0, &ids);
    assert_true(ids.count > 1);
    for (size_t i = 0; i + 1 < ids.count; i++) oct_decode_stream_push(tokenizer, &stream, ids.data[i], &text);
    assert_int_equal(text.length, 0);
    oct_decode_stream_flush(tokenizer, &stream, &text);
    assert_string_equal(text.data, "\xEF\xBF\xBD");
    oct_decode_stream_free(&stream);
    oct_buffer_free(&text);
    free(ids.data);
    oct_tokenizer_free(tokenizer);
}

static int set_up(void **state) {
    (void)state;
    synthetic = golden_json(golden_path("text/synthetic_tokenizers.json.gz"));
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    json_decref(synthetic);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feature_gives_the_reference_ids_and_texts),
        cmocka_unit_test(the_default_model_tokenizes_as_the_reference),
        cmocka_unit_test(the_default_model_renders_and_encodes_chats_as_the_reference),
        cmocka_unit_test(published_tokenizers_give_the_reference_ids_and_texts),
        cmocka_unit_test(offsets_are_those_of_the_reference),
        cmocka_unit_test(the_same_vocabularies_in_gguf_give_the_same_ids),
        cmocka_unit_test(a_byte_level_vocabulary_merges_by_rank),
        cmocka_unit_test(a_sentencepiece_vocabulary_merges_by_score_and_falls_back_to_bytes),
        cmocka_unit_test(a_damaged_vocabulary_is_an_error_that_names_the_fault),
        cmocka_unit_test(an_unsupported_part_is_named),
        cmocka_unit_test(the_order_of_keys_and_their_spelling_do_not_matter),
        cmocka_unit_test(a_decoder_that_would_fill_memory_is_an_error),
        cmocka_unit_test(special_names_are_read_beside_the_tokenizer),
        cmocka_unit_test(a_normalized_added_token_comes_out_normalized),
        cmocka_unit_test(only_marks_of_the_first_token_vanish),
        cmocka_unit_test(added_tokens_in_a_row_can_be_joined),
        cmocka_unit_test(a_joined_token_is_given_as_it_is_spelled),
        cmocka_unit_test(invalid_utf8_is_read_as_replacement_characters),
        cmocka_unit_test(offsets_count_the_bytes_of_invalid_utf8),
        cmocka_unit_test(marked_text_never_spells_a_special_token),
        cmocka_unit_test(a_word_of_a_megabyte_takes_no_quadratic_time),
        cmocka_unit_test(a_megabyte_of_accents_takes_no_quadratic_time),
        cmocka_unit_test(ten_megabytes_of_any_bytes_are_encoded_and_decoded),
        cmocka_unit_test(a_stream_gives_whole_characters_and_flushes_a_broken_one),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
