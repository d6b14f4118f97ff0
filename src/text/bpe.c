// Merging runs over a doubly linked list of symbols with a heap of candidate pairs: O(n log n), so that a word of megabytes (a whole
// prompt, with a SentencePiece vocabulary) is no problem. Candidates go stale when a neighbour merges; they are recognised when popped.
#include "text/bpe.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FREE       UINT32_MAX
#define RANK_MASK  ((1u << 22) - 1)
#define SPACE_MARK "\xE2\x96\x81" // U+2581

struct oct_bpe_symbol {
    int32_t id;          // -1: merged into its left neighbour
    uint32_t prev, next; // NONE at the ends
};

struct oct_bpe_candidate {
    uint64_t order; // rank << 32 | position: lowest rank first, then leftmost
    int32_t left, right, merged;
};

#define NONE UINT32_MAX

void oct_bpe_init(struct oct_bpe *bpe) {
    *bpe = (struct oct_bpe){.unknown = -1};
    memset(bpe->symbols, -1, sizeof bpe->symbols);
    memset(bpe->fallback, -1, sizeof bpe->fallback);
}

void oct_bpe_index_pieces(struct oct_bpe *bpe) {
    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte, name[8];
        if (bpe->byte_level || byte < 0x80) bpe->symbols[byte] = oct_token_table_find(&bpe->pieces, &one, 1);
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        bpe->fallback[byte] = oct_token_table_find(&bpe->pieces, name, 6);
    }
}

static uint64_t hash_pair(int32_t left, int32_t right) {
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

// The slot of a pair, or the free one where it belongs.
static uint32_t *slot_of(const struct oct_bpe *bpe, int32_t left, int32_t right) {
    uint64_t hash = hash_pair(left, right);
    size_t mask = bpe->num_slots - 1, at = (size_t)hash & mask;
    uint32_t tag = (uint32_t)hash & ~RANK_MASK;
    for (uint32_t slot; (slot = bpe->slots[at]) != FREE; at = (at + 1) & mask) {
        const struct oct_merge *merge = &bpe->merges[slot & RANK_MASK];
        if ((slot & ~RANK_MASK) == tag && merge->left == left && merge->right == right) break;
    }
    return &bpe->slots[at];
}

void oct_bpe_add_merge(struct oct_bpe *bpe, struct oct_merge merge) {
    OCT_CHECK(bpe->num_merges < OCT_MAX_MERGES);
    if (bpe->num_merges == bpe->merge_capacity) {
        bpe->merge_capacity = 2 * bpe->merge_capacity + 1024;
        bpe->merges = oct_resize(bpe->merges, bpe->merge_capacity, sizeof *bpe->merges, "the merges of a tokenizer");
    }
    bpe->merges[bpe->num_merges++] = merge;
}

static void fill_slots(struct oct_bpe *bpe) {
    if (!bpe->num_merges) return;
    bpe->num_slots = 16;
    while (bpe->num_slots < 2 * bpe->num_merges) bpe->num_slots *= 2;
    bpe->slots = oct_alloc(bpe->num_slots, sizeof *bpe->slots, "the merges of a tokenizer");
    memset(bpe->slots, 0xFF, bpe->num_slots * sizeof *bpe->slots);
    for (uint32_t rank = 0; rank < bpe->num_merges; rank++) {
        const struct oct_merge *merge = &bpe->merges[rank];
        *slot_of(bpe, merge->left, merge->right) = ((uint32_t)hash_pair(merge->left, merge->right) & ~RANK_MASK) | rank;
    }
}

static bool begins_with_mark(const struct oct_bpe *bpe, int32_t id) {
    size_t length;
    const char *text = oct_token_table_text(&bpe->pieces, id, &length);
    return text && length >= 3 && memcmp(text, SPACE_MARK, 3) == 0;
}

static bool ends_with_mark(const struct oct_bpe *bpe, int32_t id) {
    size_t length;
    const char *text = oct_token_table_text(&bpe->pieces, id, &length);
    return text && length >= 3 && memcmp(text + length - 3, SPACE_MARK, 3) == 0;
}

void oct_bpe_finish(struct oct_bpe *bpe) {
    bpe->whole = oct_alloc(bpe->pieces.size + 1, 1, "the memo of a tokenizer");
    bpe->breaks_before_space = !bpe->byte_level && !bpe->ignore_merges && oct_token_table_find(&bpe->pieces, SPACE_MARK, 3) >= 0;
    for (size_t i = 0; i < bpe->num_merges && bpe->breaks_before_space; i++) {
        const struct oct_merge *merge = &bpe->merges[i];
        if (begins_with_mark(bpe, merge->right) && !ends_with_mark(bpe, merge->left)) bpe->breaks_before_space = false;
    }
    fill_slots(bpe);
}

void oct_bpe_free(struct oct_bpe *bpe) {
    oct_token_table_free(&bpe->pieces);
    free(bpe->merges);
    free(bpe->slots);
    free(bpe->whole);
    *bpe = (struct oct_bpe){0};
}

void oct_bpe_scratch_free(struct oct_bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    free(scratch->symbol_places);
    free(scratch->places.data);
    *scratch = (struct oct_bpe_scratch){0};
}

// The initial symbols of a word as they are found.
struct symbol_list {
    struct oct_bpe_symbol *data;
    struct oct_range *places; // NULL: nobody asks
    size_t count;
};

static inline void add_symbol(struct symbol_list *list, int32_t id, size_t start, size_t end) {
    if (list->places) list->places[list->count] = (struct oct_range){start, end};
    list->data[list->count++].id = id;
}

static bool fall_back_to_bytes(const struct oct_bpe *bpe, const char *word, size_t start, size_t end, struct symbol_list *list) {
    for (size_t i = start; i < end; i++) {
        if (bpe->fallback[(unsigned char)word[i]] < 0) return false;
    }
    for (size_t i = start; i < end; i++) add_symbol(list, bpe->fallback[(unsigned char)word[i]], i, i + 1);
    return true;
}

// Writes the initial symbols of a word, at most one a byte; returns how many.
static size_t initial_symbols(const struct oct_bpe *bpe, const char *word, size_t length, struct oct_bpe_symbol *symbols,
                              struct oct_range *places) {
    struct symbol_list list = {symbols, places, 0};
    size_t n, unknown = 0, unknown_end = 0;
    bool pending = false; // an unknown id waits for what follows: with fuse_unknown a run of them becomes one
    for (size_t i = 0; i < length; i += n) {
        unsigned char byte = (unsigned char)word[i];
        uint32_t code;
        int32_t id = bpe->symbols[byte];
        n = bpe->byte_level ? 1 : oct_utf8_next(word + i, &code);
        if (n > 1) id = oct_token_table_find(&bpe->pieces, word + i, n);
        if (id >= 0) {
            if (pending) add_symbol(&list, bpe->unknown, unknown, unknown_end);
            pending = false;
            add_symbol(&list, id, i, i + n);
            continue;
        }
        if (bpe->byte_fallback && fall_back_to_bytes(bpe, word, i, i + n, &list)) continue;
        if (bpe->unknown < 0) continue;
        if (pending && !bpe->fuse_unknown) add_symbol(&list, bpe->unknown, unknown, unknown_end);
        if (!pending || !bpe->fuse_unknown) unknown = i;
        unknown_end = i + n;
        pending = true;
    }
    if (pending) add_symbol(&list, bpe->unknown, unknown, unknown_end);
    for (size_t i = 0; i < list.count; i++) {
        symbols[i].prev = i ? (uint32_t)i - 1 : NONE;
        symbols[i].next = i + 1 < list.count ? (uint32_t)i + 1 : NONE;
    }
    return list.count;
}

static void heap_push(struct oct_bpe_scratch *scratch, struct oct_bpe_candidate candidate) {
    if (scratch->heap_count == scratch->heap_capacity) {
        scratch->heap_capacity = 2 * scratch->heap_capacity + 64;
        scratch->heap = oct_resize(scratch->heap, scratch->heap_capacity, sizeof *scratch->heap, "merge candidates");
    }
    size_t at = scratch->heap_count++;
    while (at && candidate.order < scratch->heap[(at - 1) / 2].order) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = candidate;
}

static struct oct_bpe_candidate heap_pop(struct oct_bpe_scratch *scratch) {
    struct oct_bpe_candidate top = scratch->heap[0], last = scratch->heap[--scratch->heap_count];
    size_t at = 0, child, count = scratch->heap_count;
    while ((child = 2 * at + 1) < count) {
        if (child + 1 < count && scratch->heap[child + 1].order < scratch->heap[child].order) child++;
        if (last.order <= scratch->heap[child].order) break;
        scratch->heap[at] = scratch->heap[child];
        at = child;
    }
    scratch->heap[at] = last;
    return top;
}

static void consider(const struct oct_bpe *bpe, struct oct_bpe_scratch *scratch, uint32_t at) {
    const struct oct_bpe_symbol *symbol = &scratch->symbols[at];
    if (symbol->next == NONE) return;
    int32_t right = scratch->symbols[symbol->next].id;
    uint32_t slot = *slot_of(bpe, symbol->id, right), rank = slot & RANK_MASK;
    if (slot == FREE) return;
    heap_push(scratch, (struct oct_bpe_candidate){(uint64_t)rank << 32 | at, symbol->id, right, bpe->merges[rank].merged});
}

// A token stands for what the initial symbols from its own to the next token's stand for. The word begins at `start`.
static void add_places(struct oct_bpe_scratch *scratch, size_t count, size_t start) {
    const struct oct_bpe_symbol *symbols = scratch->symbols;
    for (uint32_t at = 0; at != NONE; at = symbols[at].next) {
        size_t next = symbols[at].next == NONE ? count : symbols[at].next;
        struct oct_range place = {start + scratch->symbol_places[at].start, start + scratch->symbol_places[next - 1].end};
        oct_ranges_append(&scratch->places, place, 1);
    }
}

// Appends the ids of bytes [start, start + length) of the word.
static void merge_word(const struct oct_bpe *bpe, struct oct_bpe_scratch *scratch, const char *word, size_t start, size_t length,
                       struct oct_ids *ids) {
    word += start;
    OCT_CHECK(length < NONE);
    if (length > scratch->symbol_capacity) {
        scratch->symbol_capacity = length > 2 * scratch->symbol_capacity ? length : 2 * scratch->symbol_capacity;
        scratch->symbols = oct_resize(scratch->symbols, scratch->symbol_capacity, sizeof *scratch->symbols, "the symbols of a word");
        if (scratch->wants_places) {
            scratch->symbol_places =
                oct_resize(scratch->symbol_places, scratch->symbol_capacity, sizeof *scratch->symbol_places, "the symbols of a word");
        }
    }
    struct oct_bpe_symbol *symbols = scratch->symbols;
    size_t count = initial_symbols(bpe, word, length, symbols, scratch->symbol_places);
    if (!count) return;
    scratch->heap_count = 0;
    for (size_t i = 0; i + 1 < count && bpe->num_slots; i++) consider(bpe, scratch, (uint32_t)i);
    while (scratch->heap_count) {
        struct oct_bpe_candidate best = heap_pop(scratch);
        uint32_t at = (uint32_t)best.order, right = symbols[at].next;
        if (symbols[at].id != best.left || right == NONE || symbols[right].id != best.right) continue;
        symbols[at].id = best.merged;
        symbols[at].next = symbols[right].next;
        if (symbols[at].next != NONE) symbols[symbols[at].next].prev = at;
        symbols[right].id = -1;
        consider(bpe, scratch, at);
        if (symbols[at].prev != NONE) consider(bpe, scratch, symbols[at].prev);
    }
    for (uint32_t at = 0; at != NONE; at = symbols[at].next) oct_ids_append(ids, symbols[at].id);
    if (scratch->wants_places) add_places(scratch, count, start);
}

static void encode_part(const struct oct_bpe *bpe, struct oct_bpe_scratch *scratch, const char *word, size_t start, size_t end,
                        struct oct_ids *ids) {
    int32_t piece = oct_token_table_find(&bpe->pieces, word + start, end - start);
    if (piece >= 0 && (bpe->ignore_merges || atomic_load_explicit(&bpe->whole[piece], memory_order_relaxed))) {
        oct_ids_append(ids, piece);
        if (scratch->wants_places) oct_ranges_append(&scratch->places, (struct oct_range){start, end}, 1);
        return;
    }
    size_t before = ids->count;
    merge_word(bpe, scratch, word, start, end - start, ids);
    if (piece >= 0 && ids->count == before + 1 && ids->data[before] == piece) {
        atomic_store_explicit(&bpe->whole[piece], 1, memory_order_relaxed);
    }
}

void oct_bpe_encode(const struct oct_bpe *bpe, struct oct_bpe_scratch *scratch, const char *word, size_t length, struct oct_ids *ids) {
    size_t start = 0;
    for (size_t i = 1; bpe->breaks_before_space && i + 3 <= length; i++) {
        if (memcmp(word + i, SPACE_MARK, 3) != 0 || (i >= start + 3 && memcmp(word + i - 3, SPACE_MARK, 3) == 0)) continue;
        encode_part(bpe, scratch, word, start, i, ids);
        start = i;
    }
    if (start < length) encode_part(bpe, scratch, word, start, length, ids);
}
