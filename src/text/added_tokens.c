// A byte trie whose children are sibling lists; at each position the longest pattern wins, and the search goes on behind it.
#include "text/added_tokens.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>

struct oct_trie_node {
    int32_t child, sibling; // 0: none
    int32_t token;          // pattern that ends here; -1: none
    unsigned char byte;
};

static int32_t add_node(struct oct_token_trie *trie, unsigned char byte, int32_t sibling) {
    if (trie->count == trie->capacity) {
        trie->capacity = 2 * trie->capacity + 64;
        trie->nodes = oct_resize(trie->nodes, trie->capacity, sizeof *trie->nodes, "added tokens");
        if (!trie->count) trie->nodes[trie->count++] = (struct oct_trie_node){.token = -1};
    }
    trie->nodes[trie->count] = (struct oct_trie_node){.sibling = sibling, .token = -1, .byte = byte};
    return (int32_t)trie->count++;
}

static int32_t child_of(const struct oct_token_trie *trie, int32_t node, unsigned char byte) {
    int32_t child = trie->nodes[node].child;
    while (child && trie->nodes[child].byte != byte) child = trie->nodes[child].sibling;
    return child;
}

void oct_token_trie_add(struct oct_token_trie *trie, const char *pattern, size_t length, int32_t token) {
    if (!length) return;
    unsigned char first = (unsigned char)pattern[0];
    if (!trie->roots[first]) trie->roots[first] = add_node(trie, first, 0);
    int32_t node = trie->roots[first];
    for (size_t i = 1; i < length; i++) {
        int32_t child = child_of(trie, node, (unsigned char)pattern[i]);
        if (!child) {
            child = add_node(trie, (unsigned char)pattern[i], trie->nodes[node].child);
            trie->nodes[node].child = child;
        }
        node = child;
    }
    trie->nodes[node].token = token;
}

void oct_token_trie_free(struct oct_token_trie *trie) {
    free(trie->nodes);
    *trie = (struct oct_token_trie){0};
}

// The longest pattern at text[at]; its length in bytes, or 0.
static size_t longest_at(const struct oct_token_trie *trie, struct oct_span text, size_t at, int32_t *token) {
    size_t best = 0;
    int32_t node = trie->roots[(unsigned char)text.text[at]];
    for (size_t i = at + 1; node; i++) {
        if (trie->nodes[node].token >= 0) *token = trie->nodes[node].token, best = i - at;
        node = i < text.length ? child_of(trie, node, (unsigned char)text.text[i]) : 0;
    }
    return best;
}

static bool is_word_character(uint32_t code) {
    return code == '_' || (oct_classes()[code] & (OCT_LETTER | OCT_MARK | OCT_NUMBER)) || code == 0x203F || code == 0x2040 ||
           code == 0x2054 || code == 0xFE33 || code == 0xFE34 || (code >= 0xFE4D && code <= 0xFE4F) || code == 0xFF3F || code == 0x200C ||
           code == 0x200D;
}

static bool touches_a_word(struct oct_span text, size_t start, size_t end) {
    uint32_t code;
    if (start && (oct_utf8_next(text.text + oct_utf8_before(text.text, start), &code), is_word_character(code))) return true;
    return end < text.length && (oct_utf8_next(text.text + end, &code), is_word_character(code));
}

bool oct_token_search_next(struct oct_token_search *search, struct oct_token_match *match) {
    struct oct_span text = search->text;
    while (search->at < text.length) {
        int32_t token = -1;
        size_t start = search->at, length = longest_at(search->trie, text, start, &token);
        if (!length) {
            search->at++;
            continue;
        }
        size_t end = start + length;
        const struct oct_added_token *added = &search->tokens[token];
        // A special token that a message helped to spell is ordinary text. Where the template wrote a part of it, a real token may
        // begin inside: then only the first byte is passed over.
        struct oct_span spelled = oct_subspan(text, start, end);
        bool forged = added->special && oct_span_is_marked(spelled);
        search->at = forged && memchr(spelled.marks, 0, length) ? start + 1 : end;
        if (forged || (added->special && search->plain)) continue;
        if (added->single_word && touches_a_word(text, start, end)) continue;
        uint32_t code;
        while (added->lstrip && start > search->taken) {
            size_t before = oct_utf8_before(text.text, start);
            oct_utf8_next(text.text + before, &code);
            if (!oct_is_space(code)) break;
            start = before;
        }
        while (added->rstrip && end < text.length) {
            size_t n = oct_utf8_next(text.text + end, &code);
            if (!oct_is_space(code)) break;
            end += n;
        }
        *match = (struct oct_token_match){token, start, end};
        search->taken = end;
        return true;
    }
    return false;
}
