// A tokenizer from the vocabulary of a GGUF file (spec tokenizers, 6).
#include "base/memory.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

#define SPACE_MARK      "\xE2\x96\x81" // U+2581
#define MAX_PIECE_BYTES 4096           // of a SentencePiece token: every way to cut it in two is looked at

static int type_of(const struct oct_vocabulary *vocabulary, size_t id) {
    return vocabulary->types ? vocabulary->types[id] : NORMAL;
}

static oct_status check(const char *name, const struct oct_vocabulary *vocabulary, oct_error *err) {
    if (!vocabulary->num_tokens || vocabulary->num_tokens > OCT_MAX_TOKEN_ID) {
        return oct_fail(err, OCT_CORRUPT, "%s: a vocabulary of 1 to %d tokens expected, %zu found", name, OCT_MAX_TOKEN_ID,
                        vocabulary->num_tokens);
    }
    size_t all = 0;
    for (size_t id = 0; id < vocabulary->num_tokens; id++) {
        if (vocabulary->lengths[id] >= OCT_MAX_TOKEN_TEXT - all) {
            return oct_fail(err, OCT_UNSUPPORTED, "%s: tokens of more than %u bytes are not supported", name, OCT_MAX_TOKEN_TEXT);
        }
        all += vocabulary->lengths[id];
        if (!oct_utf8_valid(vocabulary->tokens[id], vocabulary->lengths[id])) {
            return oct_fail(err, OCT_CORRUPT, "%s: token %zu is not valid UTF-8", name, id);
        }
    }
    const struct {
        const char *what;
        int32_t id;
    } ids[] = {{"bos_token_id", vocabulary->bos_token_id},
               {"eos_token_id", vocabulary->eos_token_id},
               {"unknown_token_id", vocabulary->unknown_token_id}};
    for (size_t i = 0; i < 3; i++) {
        if (ids[i].id < -1 || (ids[i].id >= 0 && (size_t)ids[i].id >= vocabulary->num_tokens)) {
            return oct_fail(err, OCT_CORRUPT, "%s: %s %d is outside the vocabulary of %zu tokens", name, ids[i].what, (int)ids[i].id,
                            vocabulary->num_tokens);
        }
    }
    return OCT_OK;
}

static void add_special_tokens(struct oct_tokenizer *tokenizer, const struct oct_vocabulary *vocabulary, bool sentencepiece) {
    for (size_t id = 0; id < vocabulary->num_tokens; id++) {
        int type = type_of(vocabulary, id);
        if (type != CONTROL && type != USER_DEFINED && !(sentencepiece && type == UNKNOWN)) continue;
        oct_tokenizer_add_token(tokenizer, (struct oct_added_token){
                                               .content = (char *)vocabulary->tokens[id],
                                               .length = vocabulary->lengths[id],
                                               .id = (int32_t)id,
                                               .special = type != USER_DEFINED,
                                           });
    }
}

static oct_status load_byte_level(const char *name, const struct oct_vocabulary *vocabulary, struct oct_tokenizer *tokenizer, bool *llama3,
                                  oct_error *err) {
    const char *pre = vocabulary->pre;
    *llama3 = strcmp(pre, "llama-bpe") == 0 || strcmp(pre, "llama3") == 0 || strcmp(pre, "llama-v3") == 0 || strcmp(pre, "tekken") == 0;
    OCT_TRY(oct_pretokenizer_named(name, pre, &tokenizer->pretokenizer, err));
    if (strcmp(pre, "qwen2") == 0) oct_normalizer_add_nfc(&tokenizer->normalizer);
    tokenizer->bpe.byte_level = true;
    tokenizer->bpe.ignore_merges = *llama3;
    tokenizer->detokenizer.kind = OCT_DETOKENIZE_BYTES;
    oct_tokenizer_index_model(tokenizer);
    for (size_t i = 0; i < vocabulary->num_merges; i++) {
        const char *merge = vocabulary->merges[i];
        size_t length = vocabulary->merge_lengths[i];
        const char *space = memchr(merge, ' ', length);
        if (!space) return oct_fail(err, OCT_CORRUPT, "%s: merge %zu has no space between its two parts", name, i);
        size_t left = (size_t)(space - merge);
        OCT_TRY(oct_tokenizer_add_merge(tokenizer, name, merge, left, space + 1, length - left - 1, err));
    }
    return OCT_OK;
}

// A merge that SentencePiece's scores imply: two pieces make a third.
struct implied_merge {
    float score; // of the whole
    struct oct_merge merge;
};

static int by_score(const void *a, const void *b) {
    const struct oct_merge *x = &((const struct implied_merge *)a)->merge, *y = &((const struct implied_merge *)b)->merge;
    float score = ((const struct implied_merge *)a)->score, other = ((const struct implied_merge *)b)->score;
    if (score != other) return score > other ? -1 : 1;
    if (x->merged != y->merged) return x->merged < y->merged ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static oct_status add_implied_merges(const char *name, struct oct_tokenizer *tokenizer, const struct oct_vocabulary *vocabulary,
                                     oct_error *err) {
    const struct oct_token_table *tokens = &tokenizer->tokens;
    struct implied_merge *merges = NULL;
    size_t count = 0, capacity = 0;
    for (size_t id = 0; id < vocabulary->num_tokens; id++) {
        if (type_of(vocabulary, id) != NORMAL) continue;
        const char *text = vocabulary->tokens[id];
        size_t length = vocabulary->lengths[id];
        for (size_t cut = 1; cut < length; cut++) {
            if (((unsigned char)text[cut] & 0xC0) == 0x80) continue;
            int32_t left = oct_token_table_find(tokens, text, cut);
            int32_t right = left < 0 ? -1 : oct_token_table_find(tokens, text + cut, length - cut);
            if (right < 0) continue;
            if (count == OCT_MAX_MERGES) {
                free(merges);
                return oct_fail(err, OCT_UNSUPPORTED, "%s: pieces with more than %d merges are not supported", name, OCT_MAX_MERGES);
            }
            if (count == capacity) {
                capacity = 2 * capacity + 1024;
                merges = oct_resize(merges, capacity, sizeof *merges, "the merges of a tokenizer");
            }
            merges[count++] = (struct implied_merge){vocabulary->scores[id], {left, right, (int32_t)id}};
        }
    }
    if (count) qsort(merges, count, sizeof *merges, by_score);
    for (size_t i = 0; i < count; i++) oct_bpe_add_merge(&tokenizer->bpe, merges[i].merge);
    free(merges);
    return OCT_OK;
}

static oct_status load_sentencepiece(const char *name, const struct oct_vocabulary *vocabulary, struct oct_tokenizer *tokenizer,
                                     oct_error *err) {
    if (!vocabulary->scores) return oct_fail(err, OCT_CORRUPT, "%s: a vocabulary of model \"llama\" needs scores", name);
    for (size_t id = 0; id < vocabulary->num_tokens; id++) {
        if (vocabulary->lengths[id] <= MAX_PIECE_BYTES) continue;
        return oct_fail(err, OCT_UNSUPPORTED, "%s: token %zu: at most %d bytes expected, %zu found", name, id, MAX_PIECE_BYTES,
                        vocabulary->lengths[id]);
    }
    bool prefix = vocabulary->add_space_prefix != 0;
    if (prefix) oct_normalizer_add_prepend(&tokenizer->normalizer, SPACE_MARK);
    OCT_TRY(oct_normalizer_add_replace(&tokenizer->normalizer, " ", SPACE_MARK, err));
    tokenizer->bpe.byte_fallback = tokenizer->bpe.fuse_unknown = true;
    tokenizer->bpe.unknown = vocabulary->unknown_token_id >= 0 ? vocabulary->unknown_token_id : 0;
    oct_detokenizer_sentencepiece(&tokenizer->detokenizer, prefix);
    oct_tokenizer_index_model(tokenizer);
    return add_implied_merges(name, tokenizer, vocabulary, err);
}

static oct_status load(const char *name, const struct oct_vocabulary *vocabulary, struct oct_tokenizer *tokenizer, oct_error *err) {
    OCT_TRY(check(name, vocabulary, err));
    oct_token_table_reserve(&tokenizer->tokens, vocabulary->num_tokens, 0);
    for (size_t id = 0; id < vocabulary->num_tokens; id++) {
        oct_token_table_add(&tokenizer->tokens, (int32_t)id, vocabulary->tokens[id], vocabulary->lengths[id]);
    }
    bool adds_bos = true, sentencepiece = strcmp(vocabulary->model, "llama") == 0;
    if (sentencepiece) {
        OCT_TRY(load_sentencepiece(name, vocabulary, tokenizer, err));
    } else if (strcmp(vocabulary->model, "gpt2") == 0) {
        OCT_TRY(load_byte_level(name, vocabulary, tokenizer, &adds_bos, err));
    } else {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tokenizer model \"gpt2\" or \"llama\" expected, \"%s\" found", name, vocabulary->model);
    }
    add_special_tokens(tokenizer, vocabulary, sentencepiece);
    int32_t bos = vocabulary->bos_token_id, eos = vocabulary->eos_token_id;
    if (vocabulary->add_bos_token >= 0) adds_bos = vocabulary->add_bos_token;
    if (adds_bos && bos >= 0) oct_ids_append(&tokenizer->prefix, bos);
    if (vocabulary->add_eos_token > 0 && eos >= 0) oct_ids_append(&tokenizer->suffix, eos);
    if (bos >= 0) oct_tokenizer_set_text(&tokenizer->bos, vocabulary->tokens[bos], vocabulary->lengths[bos]);
    if (eos >= 0) oct_tokenizer_set_text(&tokenizer->eos, vocabulary->tokens[eos], vocabulary->lengths[eos]);
    tokenizer->eos_id = eos;
    return oct_tokenizer_finish(name, tokenizer, err);
}

oct_status oct_tokenizer_from_vocabulary(const char *name, const struct oct_vocabulary *vocabulary, struct oct_tokenizer **out,
                                         oct_error *err) {
    struct oct_tokenizer *tokenizer = oct_tokenizer_new();
    oct_status status = load(name, vocabulary, tokenizer, err);
    if (status != OCT_OK) {
        oct_tokenizer_free(tokenizer);
        tokenizer = NULL;
    }
    *out = tokenizer;
    return status;
}
