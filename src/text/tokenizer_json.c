// A tokenizer from a model folder: tokenizer.json, and the names of BOS and EOS from the small files beside it.
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/json_cursor.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOKENIZER_BYTES (256u << 20)
#define MAX_CONFIG_BYTES    (16u << 20)
#define MAX_ADDED_BYTES     (4 << 20) // of added tokens, each byte of which becomes a node of a tree
#define MERGE_BATCH         16
#define TOKEN_ID            "a token id from 0 to %d"

static bool flag(const json_t *json, const char *key) {
    return json_is_true(json_object_get(json, key));
}

// A tokenizer.json. Nearly all of it is the vocabulary and the merges, which are read in place; jansson parses the rest.
struct document {
    const char *name; // stands in messages for the file
    const char *text; // (length)
    size_t length;
    json_t *rest;                              // all of it, but that model.vocab and model.merges are empty; owned
    struct oct_json_cursor vocabulary, merges; // their places; at NULL: not there, or no object and no array
};

static oct_status check_id(const char *name, const char *what, const json_t *id, int32_t *out, oct_error *err) {
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value > OCT_MAX_TOKEN_ID) {
        return oct_fail(err, OCT_CORRUPT, "%s: %s: " TOKEN_ID " expected", name, what, OCT_MAX_TOKEN_ID);
    }
    *out = (int32_t)value;
    return OCT_OK;
}

// The cursor met something else than `expected`. Where that is not even JSON, jansson says so, with line and column.
static oct_status refuse(const struct document *document, const char *where, const char *expected, oct_error *err) {
    json_t *whole;
    OCT_TRY(oct_json_parse(document->name, document->text, document->length, &whole, err));
    json_decref(whole);
    return oct_fail(err, OCT_CORRUPT, "%s: %s: %s expected", document->name, where, expected);
}

static oct_status load_token(const struct document *document, struct oct_json_cursor *in, struct oct_buffer *unescaped,
                             struct oct_token_table *tokens, oct_error *err) {
    struct oct_json_text token;
    int64_t id;
    size_t other;
    if (!oct_json_take_string(in, unescaped, &token) || !oct_json_take(in, ':') || !oct_json_take_integer(in, &id) || id < 0 ||
        id > OCT_MAX_TOKEN_ID) {
        char expected[64];
        snprintf(expected, sizeof expected, TOKEN_ID, OCT_MAX_TOKEN_ID);
        return refuse(document, "model.vocab", expected, err);
    }
    if (oct_token_table_text(tokens, (int32_t)id, &other)) {
        return oct_fail(err, OCT_CORRUPT, "%s: model.vocab: id %d is given to two tokens", document->name, (int)id);
    }
    if (!oct_token_table_add(tokens, (int32_t)id, token.bytes, token.length)) {
        return oct_fail(err, OCT_CORRUPT, "%s: model.vocab: id %d is given to a token that has an id", document->name, (int)id);
    }
    return OCT_OK;
}

static oct_status load_vocabulary(const struct document *document, struct oct_json_cursor *in, struct oct_tokenizer *tokenizer,
                                  oct_error *err) {
    struct oct_buffer unescaped = {0};
    oct_status status = OCT_OK;
    bool more = oct_json_take(in, '{') && !oct_json_next_is(in, '}');
    while (status == OCT_OK && more) {
        status = load_token(document, in, &unescaped, &tokenizer->tokens, err);
        more = oct_json_take(in, ',');
    }
    if (status == OCT_OK && !oct_json_take(in, '}')) status = refuse(document, "model.vocab", "an object", err);
    oct_buffer_free(&unescaped);
    return status;
}

// A merge as the file spells it.
struct merge_text {
    struct oct_json_text left, right;
    struct oct_buffer unescaped[2];
};

// "left right", or a pair of strings.
static bool take_merge(struct oct_json_cursor *in, struct merge_text *merge) {
    struct oct_json_text *left = &merge->left, *right = &merge->right;
    if (oct_json_take(in, '[')) {
        return oct_json_take_string(in, &merge->unescaped[0], left) && oct_json_take(in, ',') &&
               oct_json_take_string(in, &merge->unescaped[1], right) && oct_json_take(in, ']');
    }
    if (!oct_json_take_string(in, &merge->unescaped[0], left)) return false;
    const char *space = memchr(left->bytes, ' ', left->length), *end = left->bytes + left->length;
    if (!space) return false;
    left->length = (size_t)(space - left->bytes);
    *right = (struct oct_json_text){space + 1, (size_t)(end - space - 1)};
    return true;
}

// Reads up to MERGE_BATCH merges ahead of their look-ups, which would otherwise wait for memory one after the other. *more: others follow.
static oct_status take_merges(const struct document *document, struct oct_json_cursor *in, size_t first,
                              const struct oct_token_table *tokens, struct merge_text batch[MERGE_BATCH], size_t *count, bool *more,
                              oct_error *err) {
    for (*count = 0; *more && *count < MERGE_BATCH; ++*count) {
        struct merge_text *merge = &batch[*count];
        if (!take_merge(in, merge)) {
            char where[40];
            snprintf(where, sizeof where, "model.merges[%zu]", first + *count);
            return refuse(document, where, "a string \"left right\" or a pair of strings", err);
        }
        oct_token_table_prefetch(tokens, merge->left.bytes, merge->left.length);
        oct_token_table_prefetch(tokens, merge->right.bytes, merge->right.length);
        *more = oct_json_take(in, ',');
    }
    return OCT_OK;
}

static oct_status load_merges(const struct document *document, struct oct_json_cursor *in, struct oct_tokenizer *tokenizer,
                              oct_error *err) {
    struct merge_text batch[MERGE_BATCH] = {0};
    oct_status status = OCT_OK;
    bool more = oct_json_take(in, '[') && !oct_json_next_is(in, ']');
    for (size_t first = 0, count; status == OCT_OK && more; first += count) {
        status = take_merges(document, in, first, &tokenizer->tokens, batch, &count, &more, err);
        for (size_t i = 0; status == OCT_OK && i < count; i++) {
            const struct oct_json_text left = batch[i].left, right = batch[i].right;
            status = oct_tokenizer_add_merge(tokenizer, document->name, left.bytes, left.length, right.bytes, right.length, err);
        }
    }
    if (status == OCT_OK && !oct_json_take(in, ']')) status = refuse(document, "model.merges", "an array", err);
    for (size_t i = 0; i < MERGE_BATCH; i++) {
        oct_buffer_free(&batch[i].unescaped[0]);
        oct_buffer_free(&batch[i].unescaped[1]);
    }
    return status;
}

static oct_status check_model_type(const char *name, const json_t *model, oct_error *err) {
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type ? !strcmp(type, "BPE") : json_object_get(model, "merges") != NULL) return OCT_OK;
    return oct_fail(err, OCT_UNSUPPORTED, "%s: model type BPE expected, %s found", name, type ? type : "(none)");
}

static oct_status load_model(const struct document *document, const json_t *model, struct oct_tokenizer *tokenizer, oct_error *err) {
    const char *name = document->name;
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        if (json_string_length(json_object_get(model, affixes[i])))
            return oct_fail(err, OCT_UNSUPPORTED, "%s: model.%s is not supported", name, affixes[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0) // would make encoding random
        return oct_fail(err, OCT_UNSUPPORTED, "%s: model.dropout is not supported", name);
    struct oct_bpe *bpe = &tokenizer->bpe;
    if (!document->vocabulary.at) {
        return oct_fail(err, OCT_CORRUPT, "%s: model.vocab: an object expected, %s found", name,
                        oct_json_kind(json_object_get(model, "vocab")));
    }
    bpe->byte_level = tokenizer->pretokenizer.byte_level;
    bpe->ignore_merges = flag(model, "ignore_merges");
    bpe->byte_fallback = flag(model, "byte_fallback");
    bpe->fuse_unknown = flag(model, "fuse_unk");
    if (bpe->byte_level && bpe->byte_fallback) {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: byte_fallback with a ByteLevel pre_tokenizer is not supported", name);
    }
    const json_t *unknown = json_object_get(model, "unk_token");
    if (json_is_string(unknown)) {
        bpe->unknown = oct_token_table_find(&tokenizer->tokens, json_string_value(unknown), json_string_length(unknown));
        if (bpe->unknown < 0)
            return oct_fail(err, OCT_CORRUPT, "%s: unk_token %s is not in the vocabulary", name, json_string_value(unknown));
    }
    oct_tokenizer_index_model(tokenizer);
    return OCT_OK;
}

static oct_status load_added_tokens(const char *name, const json_t *json, struct oct_tokenizer *tokenizer, oct_error *err) {
    size_t i, bytes = 0;
    json_t *entry;
    const json_t *entries = json_object_get(json, "added_tokens");
    if (entries && !json_is_array(entries) && !json_is_null(entries))
        return oct_fail(err, OCT_CORRUPT, "%s: added_tokens: an array expected, %s found", name, oct_json_kind(entries));
    json_array_foreach(entries, i, entry) {
        const json_t *content = json_object_get(entry, "content");
        if (!json_is_string(content)) return oct_fail(err, OCT_CORRUPT, "%s: added_tokens[%zu]: a string \"content\" expected", name, i);
        bytes += json_string_length(content);
        if (bytes > MAX_ADDED_BYTES) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: added_tokens: together at most %d bytes expected", name, MAX_ADDED_BYTES);
        }
        struct oct_added_token token = {
            .content = (char *)json_string_value(content),
            .length = json_string_length(content),
            .special = flag(entry, "special"),
            .single_word = flag(entry, "single_word"),
            .lstrip = flag(entry, "lstrip"),
            .rstrip = flag(entry, "rstrip"),
            .normalized = flag(entry, "normalized"),
        };
        OCT_TRY(check_id(name, "added_tokens", json_object_get(entry, "id"), &token.id, err));
        oct_tokenizer_add_token(tokenizer, token);
    }
    return OCT_OK;
}

// The ids that a TemplateProcessing puts around one text.
static oct_status load_template(const char *name, const json_t *json, struct oct_tokenizer *tokenizer, oct_error *err) {
    size_t i, k;
    json_t *part, *id;
    struct oct_ids *ids = &tokenizer->prefix;
    if (!json_is_array(json_object_get(json, "single"))) {
        return oct_fail(err, OCT_CORRUPT, "%s: post_processor TemplateProcessing: an array \"single\" expected, %s found", name,
                        oct_json_kind(json_object_get(json, "single")));
    }
    json_array_foreach(json_object_get(json, "single"), i, part) {
        if (json_object_get(part, "Sequence")) {
            ids = &tokenizer->suffix;
            continue;
        }
        const char *token = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
        const json_t *entry = token ? json_object_get(json_object_get(json, "special_tokens"), token) : NULL;
        if (!entry) return oct_fail(err, OCT_CORRUPT, "%s: post_processor: special token %s has no ids", name, token ? token : "(none)");
        json_array_foreach(json_object_get(entry, "ids"), k, id) {
            int32_t value = -1;
            OCT_TRY(check_id(name, "post_processor", id, &value, err));
            oct_ids_append(ids, value);
        }
    }
    return OCT_OK;
}

static oct_status load_post_processor(const char *name, const json_t *json, int depth, struct oct_tokenizer *tokenizer, oct_error *err) {
    if (!json || json_is_null(json)) return OCT_OK;
    const char *type = json_string_value(json_object_get(json, "type"));
    if (type && strcmp(type, "ByteLevel") == 0) { // changes offsets only
        tokenizer->trims_offsets = !json_is_false(json_object_get(json, "trim_offsets"));
        tokenizer->trims_behind_prefix = !json_is_false(json_object_get(json, "add_prefix_space"));
        return OCT_OK;
    }
    if (type && strcmp(type, "TemplateProcessing") == 0) return load_template(name, json, tokenizer, err);
    if (!type || strcmp(type, "Sequence") != 0 || depth > 8) {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: post_processor %s is not supported", name, type ? type : "(none)");
    }
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(json, "processors"), i, part) {
        OCT_TRY(load_post_processor(name, part, depth + 1, tokenizer, err));
    }
    return OCT_OK;
}

static oct_status load_parts(const struct document *document, struct oct_tokenizer *tokenizer, oct_error *err) {
    const char *name = document->name;
    const json_t *json = document->rest;
    OCT_TRY(oct_normalizer_load(name, json_object_get(json, "normalizer"), &tokenizer->normalizer, err));
    OCT_TRY(oct_pretokenizer_load(name, json_object_get(json, "pre_tokenizer"), &tokenizer->pretokenizer, err));
    OCT_TRY(load_model(document, json_object_get(json, "model"), tokenizer, err));
    OCT_TRY(load_added_tokens(name, json, tokenizer, err));
    OCT_TRY(load_post_processor(name, json_object_get(json, "post_processor"), 0, tokenizer, err));
    return oct_detokenizer_load(name, json_object_get(json, "decoder"), &tokenizer->detokenizer, err);
}

// bos_token and eos_token of a configuration: a string, or an added token's object.
static void take_special_token(const json_t *json, const char *key, char **which) {
    const json_t *value = json_object_get(json, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (json_is_string(value) && !*which) oct_tokenizer_set_text(which, json_string_value(value), json_string_length(value));
}

static oct_status load_special_names(const char *directory, struct oct_tokenizer *tokenizer, oct_error *err) {
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < 2; i++) {
        char *path = oct_path_join(directory, files[i]);
        json_t *json = NULL;
        oct_status status = oct_path_exists(path) ? oct_json_load(path, MAX_CONFIG_BYTES, &json, err) : OCT_OK;
        free(path);
        if (status != OCT_OK) return status;
        take_special_token(json, "bos_token", &tokenizer->bos);
        take_special_token(json, "eos_token", &tokenizer->eos);
        json_decref(json);
    }
    if (tokenizer->eos) tokenizer->eos_id = oct_token_table_find(&tokenizer->tokens, tokenizer->eos, strlen(tokenizer->eos));
    return OCT_OK;
}

oct_status oct_tokenizer_from_directory(const char *directory, struct oct_tokenizer **out, oct_error *err) {
    char *path = oct_path_join(directory, "tokenizer.json");
    struct oct_mapped_file file = {0};
    *out = NULL;
    oct_status status = oct_file_map(path, &file, err);
    if (status == OCT_OK && file.size > MAX_TOKENIZER_BYTES)
        status = oct_fail(err, OCT_UNSUPPORTED, "%s: at most %u bytes expected, %zu found", path, MAX_TOKENIZER_BYTES, file.size);
    if (status == OCT_OK) status = oct_tokenizer_from_json(path, file.data ? (const char *)file.data : "", file.size, out, err);
    if (status == OCT_OK) status = load_special_names(directory, *out, err);
    oct_file_unmap(&file);
    free(path);
    if (status == OCT_OK) return OCT_OK;
    oct_tokenizer_free(*out);
    *out = NULL;
    return status;
}

static bool is(struct oct_json_text key, const char *name) {
    return key.length == strlen(name) && memcmp(key.bytes, name, key.length) == 0;
}

// Reads one of the two large values, or only notes where the merges are while there is no vocabulary yet.
static oct_status read_large(struct document *document, struct oct_json_cursor *in, struct oct_tokenizer *tokenizer, oct_error *err) {
    bool is_vocabulary = oct_json_next_is(in, '{');
    struct oct_json_cursor *place = is_vocabulary ? &document->vocabulary : &document->merges;
    if (place->at) return oct_fail(err, OCT_CORRUPT, "%s: model.%s is given twice", document->name, is_vocabulary ? "vocab" : "merges");
    place->at = in->at;
    if (is_vocabulary) {
        OCT_TRY(load_vocabulary(document, in, tokenizer, err));
    } else if (document->vocabulary.at) {
        OCT_TRY(load_merges(document, in, tokenizer, err));
    } else {
        oct_json_skip(in);
    }
    place->end = in->at;
    return OCT_OK;
}

// Goes through the object of the document, or, inside it, of its model. Where it is not JSON it stops, for jansson to say what is wrong.
static oct_status read_large_values(struct document *document, struct oct_json_cursor *in, bool in_model, struct oct_tokenizer *tokenizer,
                                    oct_error *err) {
    struct oct_buffer unescaped = {0};
    struct oct_json_text key;
    oct_status status = OCT_OK;
    bool more = oct_json_take(in, '{');
    while (more && status == OCT_OK && oct_json_take_string(in, &unescaped, &key) && oct_json_take(in, ':')) {
        bool object = oct_json_next_is(in, '{'), array = oct_json_next_is(in, '[');
        if (in_model && ((object && is(key, "vocab")) || (array && is(key, "merges")))) {
            status = read_large(document, in, tokenizer, err);
        } else if (!in_model && object && is(key, "model")) {
            status = read_large_values(document, in, true, tokenizer, err);
        } else {
            oct_json_skip(in);
        }
        more = oct_json_take(in, ',');
    }
    if (status == OCT_OK) oct_json_take(in, '}');
    oct_buffer_free(&unescaped);
    return status;
}

// What lies between the two large values, which become empty.
static oct_status parse_rest(struct document *document, oct_error *err) {
    struct oct_json_cursor large[2] = {document->vocabulary, document->merges};
    const char *at = document->text, *end = document->text + document->length;
    struct oct_buffer rest = {0};
    if (large[1].at && (!large[0].at || large[1].at < large[0].at)) large[0] = document->merges, large[1] = document->vocabulary;
    for (int i = 0; i < 2 && large[i].at; i++) {
        oct_buffer_append(&rest, at, (size_t)(large[i].at - at));
        oct_buffer_puts(&rest, *large[i].at == '{' ? "{}" : "[]");
        at = large[i].end;
    }
    oct_buffer_append(&rest, at, (size_t)(end - at));
    oct_status status = oct_json_parse(document->name, rest.data, rest.length, &document->rest, err);
    oct_buffer_free(&rest);
    if (status == OCT_OK) return OCT_OK;
    return oct_json_parse(document->name, document->text, document->length, &document->rest, err); // names the right line
}

static oct_status load(struct document *document, struct oct_tokenizer *tokenizer, oct_error *err) {
    struct oct_json_cursor in = {document->text, document->text + document->length}, merges;
    OCT_TRY(read_large_values(document, &in, false, tokenizer, err));
    OCT_TRY(parse_rest(document, err));
    OCT_TRY(check_model_type(document->name, json_object_get(document->rest, "model"), err)); // others have no merges
    merges = document->merges;
    if (merges.at < document->vocabulary.at) OCT_TRY(load_merges(document, &merges, tokenizer, err));
    OCT_TRY(load_parts(document, tokenizer, err));
    return oct_tokenizer_finish(document->name, tokenizer, err);
}

oct_status oct_tokenizer_from_json(const char *name, const char *text, size_t length, struct oct_tokenizer **out, oct_error *err) {
    struct document document = {.name = name, .text = text, .length = length};
    struct oct_tokenizer *tokenizer = oct_tokenizer_new();
    oct_status status = load(&document, tokenizer, err);
    json_decref(document.rest);
    if (status != OCT_OK) {
        oct_tokenizer_free(tokenizer);
        tokenizer = NULL;
    }
    *out = tokenizer;
    return status;
}
