// tokenizer_vectors.h: compares a tokenizer with vectors of the reference library ({"cases", "streams", "random_ids"}).
#pragma once

#include "golden_json.h"
#include "text/tokenizer.h"

#include <stdbool.h>

static inline bool same_ids(const struct oct_ids *ids, const json_t *expected) {
    if (ids->count != json_array_size(expected)) return false;
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->data[i] != json_integer_value(json_array_get(expected, i))) return false;
    }
    return true;
}

static inline struct oct_ids ids_from_json(const json_t *json) {
    struct oct_ids ids = {0};
    for (size_t i = 0; i < json_array_size(json); i++) oct_ids_append(&ids, (int32_t)json_integer_value(json_array_get(json, i)));
    return ids;
}

static inline bool same_text(const struct oct_buffer *text, const json_t *expected) {
    return text->length == json_string_length(expected) &&
           (!text->length || memcmp(text->data, json_string_value(expected), text->length) == 0);
}

static inline int encodes_to(const struct oct_tokenizer *tokenizer, const json_t *text, int flags, const json_t *expected,
                             const char *what) {
    if (!expected) return 0;
    struct oct_ids ids = {0};
    oct_encode(tokenizer, json_string_value(text), json_string_length(text), flags, &ids);
    bool same = same_ids(&ids, expected);
    if (!same) {
        printf("# %s of %.200s:", what, json_string_value(text));
        for (size_t i = 0; i < ids.count && i < 30; i++) printf(" %d", (int)ids.data[i]);
        char *dump = json_dumps(expected, JSON_COMPACT);
        printf("; expected %.300s\n", dump);
        free(dump);
    }
    free(ids.data);
    return !same;
}

static inline int decodes_to(const struct oct_tokenizer *tokenizer, const json_t *list, int flags, const json_t *expected,
                             const char *what) {
    if (!expected || !list) return 0;
    struct oct_ids ids = ids_from_json(list);
    struct oct_buffer text = {0};
    oct_decode(tokenizer, ids.data, ids.count, flags, &text);
    bool same = same_text(&text, expected);
    if (!same) printf("# %s: %.200s; expected %.200s\n", what, text.data ? text.data : "", json_string_value(expected));
    free(ids.data);
    oct_buffer_free(&text);
    return !same;
}

// All parts of a stream are whole UTF-8 and join to the whole decode.
static inline int streams_whole(const struct oct_tokenizer *tokenizer, const json_t *list, int flags) {
    if (!list) return 0;
    struct oct_ids ids = ids_from_json(list);
    struct oct_buffer all = {0}, joined = {0}, part = {0};
    struct oct_decode_stream stream = {
        .skip_special_tokens = flags & OCT_DECODE_SKIP_SPECIAL,
        .join_special_tokens = flags & OCT_DECODE_JOIN_SPECIAL,
    };
    bool whole = true;
    oct_decode(tokenizer, ids.data, ids.count, flags, &all);
    for (size_t i = 0; i <= ids.count; i++) {
        part.length = 0;
        if (i < ids.count) {
            oct_decode_stream_push(tokenizer, &stream, ids.data[i], &part);
        } else {
            oct_decode_stream_flush(tokenizer, &stream, &part);
        }
        json_t *valid = json_stringn(part.data ? part.data : "", part.length); // refuses invalid UTF-8
        whole = whole && valid;
        json_decref(valid);
        oct_buffer_append(&joined, part.data ? part.data : "", part.length);
    }
    whole = whole && joined.length == all.length && (!all.length || memcmp(joined.data, all.data, all.length) == 0);
    if (!whole) printf("# stream: %.200s; whole: %.200s\n", joined.data ? joined.data : "", all.data ? all.data : "");
    oct_decode_stream_free(&stream);
    oct_buffer_free(&all);
    oct_buffer_free(&joined);
    oct_buffer_free(&part);
    free(ids.data);
    return !whole;
}

// The number of comparisons that failed; each is printed. A key that a case lacks has the value of the one that it would repeat: ids_sp and
// ids_plain are ids, dec is text, dec_skip is dec. plain: the vectors tell what plain encoding gives. with_special: ids_sp is compared too.
static inline int compare_with_vectors(const struct oct_tokenizer *tokenizer, const json_t *vectors, bool plain, bool with_special) {
    int failed = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        const json_t *text = json_object_get(entry, "text"), *ids = json_object_get(entry, "ids"),
                     *ids_sp = json_object_get(entry, "ids_sp");
        const json_t *ids_plain = json_object_get(entry, "ids_plain"), *dec = json_object_get(entry, "dec");
        const json_t *dec_skip = json_object_get(entry, "dec_skip"), *dec_sp = json_object_get(entry, "dec_sp");
        if (!dec) dec = text;
        failed += encodes_to(tokenizer, text, 0, ids, "ids");
        if (with_special) failed += encodes_to(tokenizer, text, OCT_ENCODE_ADD_SPECIAL, ids_sp ? ids_sp : ids, "ids_sp");
        if (plain) failed += encodes_to(tokenizer, text, OCT_ENCODE_PLAIN, ids_plain ? ids_plain : ids, "ids_plain");
        failed += decodes_to(tokenizer, ids, 0, dec, "dec");
        failed += decodes_to(tokenizer, ids, OCT_DECODE_SKIP_SPECIAL, dec_skip ? dec_skip : dec, "dec_skip");
        failed += decodes_to(tokenizer, ids_sp, 0, dec_sp, "dec_sp");
        failed += decodes_to(tokenizer, ids_sp, OCT_DECODE_SKIP_SPECIAL, json_object_get(entry, "dec_sp_skip"), "dec_sp_skip");
        for (int flags = 0; flags <= OCT_DECODE_JOIN_SPECIAL; flags++) failed += streams_whole(tokenizer, ids, flags);
    }
    json_array_foreach(json_object_get(vectors, "random_ids"), i, entry) {
        const json_t *ids = json_object_get(entry, "ids");
        failed += decodes_to(tokenizer, ids, 0, json_object_get(entry, "dec"), "random dec");
        failed += decodes_to(tokenizer, ids, OCT_DECODE_SKIP_SPECIAL, json_object_get(entry, "dec_skip"), "random dec_skip");
    }
    json_array_foreach(json_object_get(vectors, "streams"), i, entry) {
        for (int flags = 0; flags <= OCT_DECODE_JOIN_SPECIAL; flags++)
            failed += streams_whole(tokenizer, json_object_get(entry, "ids"), flags);
    }
    return failed;
}
