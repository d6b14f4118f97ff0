// gguf_tokenizer.c: the same tokenizer in another spelling: vocabulary and merges are copied, the pre-tokenizer's name becomes its rules.
#include "cli/gguf_tokenizer.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum token_type { CONTROL = 3, USER_DEFINED = 4 };

// NULL: no such key.
static char *string_of(const struct oct_gguf *gguf, const char *key) {
    struct oct_gguf_string text;
    return oct_gguf_string(gguf, key, &text) ? oct_strndup(text.data, text.length) : NULL;
}

static json_t *text_of(const struct oct_gguf_string *text) {
    return json_stringn(text->data, text->length); // NULL: not UTF-8
}

static json_t *byte_level(bool use_regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", use_regex);
}

// NULL: a pre-tokenizer of another name.
static json_t *pre_tokenizer(const char *pre) {
    static const char llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                 "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    json_t *first;
    if (!strcmp(pre, "gpt-2")) return byte_level(true);
    if (!strcmp(pre, "smollm"))
        first = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    else if (!strcmp(pre, "llama-bpe"))
        first = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", llama3, "behavior", "Isolated", "invert", 0);
    else
        return NULL;
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, byte_level(!strcmp(pre, "smollm")));
}

// Whether BOS is put before a text.
static bool adds_bos(const struct oct_gguf *gguf, const char *pre) {
    bool flag;
    return oct_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &flag) ? flag : !strcmp(pre, "llama-bpe");
}

struct vocabulary {
    const char *path; // for messages
    struct oct_gguf_string *tokens, *merges;
    int64_t num_tokens, num_merges;
    int32_t *types; // (num_tokens) or NULL
};

static oct_status read_vocabulary(const struct oct_gguf *gguf, struct vocabulary *v, oct_error *err) {
    v->path = oct_gguf_path(gguf);
    v->num_tokens = oct_gguf_strings(gguf, "tokenizer.ggml.tokens", &v->tokens);
    v->num_merges = oct_gguf_strings(gguf, "tokenizer.ggml.merges", &v->merges);
    int64_t num_types = oct_gguf_integers(gguf, "tokenizer.ggml.token_type", &v->types);
    if (v->num_tokens < 1 || v->num_merges < 0 || (num_types >= 0 && num_types != v->num_tokens))
        return oct_fail(err, OCT_CORRUPT, "%s: tokens, merges and as many token types expected in its tokenizer", v->path);
    return OCT_OK;
}

static void free_vocabulary(struct vocabulary *v) {
    if (v->num_tokens >= 0) free(v->tokens);
    if (v->num_merges >= 0) free(v->merges);
    free(v->types);
}

static oct_status add_tokens(const struct vocabulary *v, json_t *vocab, json_t *merges, json_t *added, oct_error *err) {
    bool valid = true;
    for (int64_t id = 0; id < v->num_tokens && valid; id++) {
        char *name = oct_strndup(v->tokens[id].data, v->tokens[id].length);
        valid = json_object_set_new(vocab, name, json_integer(id)) == 0;
        free(name);
        int type = v->types ? v->types[id] : 1;
        if (!valid || (type != CONTROL && type != USER_DEFINED)) continue;
        json_array_append_new(added, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content",
                                               text_of(&v->tokens[id]), "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized",
                                               type == USER_DEFINED, "special", type == CONTROL));
    }
    for (int64_t i = 0; i < v->num_merges && valid; i++) valid = json_array_append_new(merges, text_of(&v->merges[i])) == 0;
    return valid ? OCT_OK : oct_fail(err, OCT_CORRUPT, "%s: tokens and merges in UTF-8 expected", v->path);
}

// The text of the token that a key names; NULL: none.
static json_t *special_token(const struct oct_gguf *gguf, const struct vocabulary *v, const char *key, int64_t *id) {
    if (!oct_gguf_integer(gguf, key, id) || *id < 0 || *id >= v->num_tokens) return NULL;
    return text_of(&v->tokens[*id]);
}

static json_t *post_processor(const struct oct_gguf *gguf, const struct vocabulary *v, const char *pre) {
    int64_t id;
    json_t *bos = adds_bos(gguf, pre) ? special_token(gguf, v, "tokenizer.ggml.bos_token_id", &id) : NULL;
    if (!bos) return json_null();
    json_t *token = json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", bos, "type_id", 0);
    json_t *a = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0);
    json_t *b = json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1);
    json_t *special = json_object();
    json_object_set_new(special, json_string_value(bos), json_pack("{s:O, s:[I], s:[O]}", "id", bos, "ids", (json_int_t)id, "tokens", bos));
    json_decref(bos);
    return json_pack("{s:s, s:[O, O], s:[o, o, o], s:o}", "type", "TemplateProcessing", "single", token, a, "pair", token, a, b,
                     "special_tokens", special);
}

static oct_status write_json(const char *folder, const char *name, const json_t *value, oct_error *err) {
    char *path = oct_path_join(folder, name), *text = json_dumps(value, JSON_INDENT(1));
    oct_status status =
        text ? oct_file_write(path, text, strlen(text), err) : oct_fail(err, OCT_CORRUPT, "%s: text in UTF-8 expected", path);
    free(text);
    free(path);
    return status;
}

static oct_status write_tokenizer(const struct oct_gguf *gguf, const struct vocabulary *v, const char *pre, const char *folder,
                                  oct_error *err) {
    json_t *rules = pre_tokenizer(pre);
    if (!rules)
        return oct_fail(
            err, OCT_UNSUPPORTED,
            "%s: a tokenizer of kind \"smollm\", \"gpt-2\" or \"llama-bpe\" expected, \"%s\" found: --tokenizer DIR names a folder with "
            "the model's tokenizer.json",
            v->path, pre);
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    oct_status status = add_tokens(v, vocab, merges, added, err);
    json_t *tokenizer = json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}}",
                                  "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer", rules,
                                  "post_processor", post_processor(gguf, v, pre), "decoder", byte_level(true), "model", "type", "BPE",
                                  "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback",
                                  0, "ignore_merges", !strcmp(pre, "llama-bpe"), "vocab", vocab, "merges", merges);
    if (status == OCT_OK) status = write_json(folder, "tokenizer.json", tokenizer, err);
    json_decref(tokenizer);
    return status;
}

static oct_status write_tokenizer_config(const struct oct_gguf *gguf, const struct vocabulary *v, const char *folder, oct_error *err) {
    int64_t id;
    json_t *bos = special_token(gguf, v, "tokenizer.ggml.bos_token_id", &id),
           *eos = special_token(gguf, v, "tokenizer.ggml.eos_token_id", &id);
    struct oct_gguf_string chat;
    json_t *template = oct_gguf_string(gguf, "tokenizer.chat_template", &chat) ? text_of(&chat) : NULL;
    json_t *config = json_pack("{s:s, s:b, s:o*, s:o*, s:o*}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces",
                               0, "bos_token", bos, "eos_token", eos, "chat_template", template);
    oct_status status = write_json(folder, "tokenizer_config.json", config, err);
    json_decref(config);
    return status;
}

oct_status oct_gguf_tokenizer_write(const struct oct_gguf *gguf, const char *folder, oct_error *err) {
    struct vocabulary v = {0};
    char *model = string_of(gguf, "tokenizer.ggml.model"), *pre = string_of(gguf, "tokenizer.ggml.pre");
    oct_status status = read_vocabulary(gguf, &v, err);
    if (status == OCT_OK) {
        bool byte_level_bpe = model && !strcmp(model, "gpt2");
        status = write_tokenizer(gguf, &v, !byte_level_bpe ? (model ? model : "none") : pre ? pre : "gpt-2", folder, err);
    }
    if (status == OCT_OK) status = write_tokenizer_config(gguf, &v, folder, err);
    free_vocabulary(&v);
    free(model);
    free(pre);
    return status;
}
