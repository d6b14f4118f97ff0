// A tokenizer from a model folder: tokenizer.json, and the names of BOS and EOS from the small files beside it.
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TOKENIZER_BYTES (256u << 20)
#define MAX_CONFIG_BYTES    (16u << 20)

static bool flag(const json_t *json, const char *key) {
    return json_is_true(json_object_get(json, key));
}

static oct_status check_id(const char *name, const char *what, const json_t *id, int32_t *out, oct_error *err) {
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value > OCT_MAX_TOKEN_ID) {
        return oct_fail(err, OCT_CORRUPT, "%s: %s: a token id from 0 to %d expected", name, what, OCT_MAX_TOKEN_ID);
    }
    *out = (int32_t)value;
    return OCT_OK;
}

static oct_status load_vocabulary(const char *name, const json_t *model, struct oct_tokenizer *tokenizer, oct_error *err) {
    json_t *vocabulary = json_object_get(model, "vocab"), *id;
    if (!json_is_object(vocabulary)) {
        return oct_fail(err, OCT_CORRUPT, "%s: model.vocab: an object expected, %s found", name, oct_json_kind(vocabulary));
    }
    const char *token;
    size_t length;
    oct_token_table_reserve(&tokenizer->tokens, json_object_size(vocabulary));
    json_object_keylen_foreach(vocabulary, token, length, id) {
        int32_t value = -1;
        OCT_TRY(check_id(name, "model.vocab", id, &value, err));
        size_t other;
        if (oct_token_table_text(&tokenizer->tokens, value, &other)) {
            return oct_fail(err, OCT_CORRUPT, "%s: model.vocab: id %d is given to two tokens", name, (int)value);
        }
        oct_token_table_add(&tokenizer->tokens, value, token, length);
    }
    return OCT_OK;
}

static oct_status load_merges(const char *name, const json_t *model, struct oct_tokenizer *tokenizer, oct_error *err) {
    json_t *merges = json_object_get(model, "merges"), *merge;
    size_t i;
    oct_bpe_reserve_merges(&tokenizer->bpe, json_array_size(merges));
    json_array_foreach(merges, i, merge) {
        const json_t *first = json_array_get(merge, 0), *second = json_array_get(merge, 1);
        const char *left = json_string_value(first), *right = json_string_value(second);
        size_t left_length = json_string_length(first), right_length = json_string_length(second);
        if (json_is_string(merge)) {
            left = json_string_value(merge);
            const char *space = strchr(left, ' ');
            left_length = space ? (size_t)(space - left) : 0;
            right = space ? space + 1 : NULL;
            right_length = space ? json_string_length(merge) - left_length - 1 : 0;
        }
        if (!left || !right) {
            return oct_fail(err, OCT_CORRUPT, "%s: model.merges[%zu]: a string \"left right\" or a pair of strings expected", name, i);
        }
        OCT_TRY(oct_tokenizer_add_merge(tokenizer, name, left, left_length, right, right_length, (uint32_t)i, err));
    }
    return OCT_OK;
}

static oct_status load_model(const char *name, const json_t *model, struct oct_tokenizer *tokenizer, oct_error *err) {
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges")) {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: model type BPE expected, %s found", name, type ? type : "(none)");
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        if (json_string_length(json_object_get(model, affixes[i])))
            return oct_fail(err, OCT_UNSUPPORTED, "%s: model.%s is not supported", name, affixes[i]);
    }
    struct oct_bpe *bpe = &tokenizer->bpe;
    OCT_TRY(load_vocabulary(name, model, tokenizer, err));
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
    return load_merges(name, model, tokenizer, err);
}

static oct_status load_added_tokens(const char *name, const json_t *json, struct oct_tokenizer *tokenizer, oct_error *err) {
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(json, "added_tokens"), i, entry) {
        const json_t *content = json_object_get(entry, "content");
        if (!json_is_string(content)) return oct_fail(err, OCT_CORRUPT, "%s: added_tokens[%zu]: a string \"content\" expected", name, i);
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
    if (type && strcmp(type, "ByteLevel") == 0) return OCT_OK; // changes offsets only
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

static oct_status load_parts(const char *name, const json_t *json, struct oct_tokenizer *tokenizer, oct_error *err) {
    OCT_TRY(oct_normalizer_load(name, json_object_get(json, "normalizer"), &tokenizer->normalizer, err));
    OCT_TRY(oct_pretokenizer_load(name, json_object_get(json, "pre_tokenizer"), &tokenizer->pretokenizer, err));
    OCT_TRY(load_model(name, json_object_get(json, "model"), tokenizer, err));
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
    json_t *json = NULL;
    *out = NULL;
    oct_status status = oct_json_load(path, MAX_TOKENIZER_BYTES, &json, err);
    if (status == OCT_OK) status = oct_tokenizer_from_json(path, json, out, err);
    if (status == OCT_OK) status = load_special_names(directory, *out, err);
    json_decref(json);
    free(path);
    if (status == OCT_OK) return OCT_OK;
    oct_tokenizer_free(*out);
    *out = NULL;
    return status;
}

oct_status oct_tokenizer_from_json(const char *name, const json_t *json, struct oct_tokenizer **out, oct_error *err) {
    struct oct_tokenizer *tokenizer = oct_tokenizer_new();
    oct_status status = load_parts(name, json, tokenizer, err);
    if (status == OCT_OK) {
        oct_tokenizer_finish(tokenizer);
    } else {
        oct_tokenizer_free(tokenizer);
        tokenizer = NULL;
    }
    *out = tokenizer;
    return status;
}
