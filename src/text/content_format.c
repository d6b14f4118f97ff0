// content_format.c: whether a template loops over the parts of a message's content, decided by the shapes that vLLM looks for:
//   1. `messages`, and every name that is set to one of these: {% set loop_messages = messages[1:] %};
//   2. a message is what a loop over one of those binds: {% for message in loop_messages %};
//   3. parts are wanted where a loop goes over its content: {% for part in message['content'] %}, or message.content.
// Filters, tests and slices around a name or around `message.content` change nothing: {% for part in message.content | list %}. Scopes
// are not looked at. Where one of these statements binds anything but one plain name, as `for a, b in messages` does, vLLM gives up:
// the template gets strings.
#include "text/content_format.h"

#include "base/memory.h"
#include "text/jinja_syntax.h"

#include <stdlib.h>

enum { NO_SYMBOL = -1 };

// {% set target = source %}, or {% for target in source %}.
struct binding {
    int32_t source, target; // symbols; target NO_SYMBOL: not one plain name
};

struct bindings {
    struct binding *items; // (count) owned
    size_t count, capacity;
};

struct search {
    struct bindings sets, loops, content_loops; // content_loops go over the content of `source`
};

// The name, or with `key` the name whose attribute or item `key` it is, below any filters, tests and slices.
static int32_t accessed(const struct jinja_node *node, const char *key) {
    while (node && (node->kind == NODE_FILTER || node->kind == NODE_TEST || node->kind == NODE_SLICE)) node = node->left;
    if (!node) return NO_SYMBOL;
    if (!key) return node->kind == NODE_NAME ? node->symbol : NO_SYMBOL;
    const struct jinja_node *item = node->kind == NODE_ITEM ? node->right : node;
    if (node->kind != NODE_ATTRIBUTE && (node->kind != NODE_ITEM || item->kind != NODE_CONSTANT)) return NO_SYMBOL;
    bool is_key = jinja_is_string(item->constant) && jinja_span_is(*item->constant.string, key);
    return is_key && node->left->kind == NODE_NAME ? node->left->symbol : NO_SYMBOL;
}

static void note(struct bindings *bindings, int32_t source, const struct jinja_node *target) {
    if (source == NO_SYMBOL) return;
    if (bindings->count == bindings->capacity) {
        bindings->capacity = 2 * bindings->capacity + 8;
        bindings->items = oct_resize(bindings->items, bindings->capacity, sizeof *bindings->items, "a template's loops");
    }
    bindings->items[bindings->count++] = (struct binding){source, target->kind == NODE_NAME ? target->symbol : NO_SYMBOL};
}

// Recursion is as deep as the parser's, which is bounded; chains of elif are walked.
static void collect(struct search *search, const struct jinja_node *node) {
    for (; node; node = node->next) {
        if (node->kind == NODE_SET) note(&search->sets, accessed(node->right, NULL), node->left);
        if (node->kind == NODE_FOR) {
            note(&search->loops, accessed(node->right, NULL), node->left);
            note(&search->content_loops, accessed(node->right, "content"), node->left);
        }
        const struct jinja_node *branch = node;
        for (; branch->kind == NODE_IF && branch->flag; branch = branch->orelse) collect(search, branch->body);
        collect(search, branch->kind == NODE_CALL_BLOCK ? branch->right->body : branch->body);
        collect(search, branch->orelse);
    }
}

static int by_source(const void *a, const void *b) {
    int32_t left = ((const struct binding *)a)->source, right = ((const struct binding *)b)->source;
    return (left > right) - (left < right);
}

// Marks in `reached` (num_symbols) what is set to `first`, directly or not. False: one of these is not a plain name.
static bool spread(struct bindings *sets, int32_t first, bool *reached, size_t num_symbols) {
    int32_t *queue = oct_alloc(num_symbols, sizeof *queue, "a template's names");
    size_t *starts = oct_alloc(num_symbols + 1, sizeof *starts, "a template's names"); // of each symbol's bindings, once sorted
    size_t ahead = 0, count = 0;
    bool plain = true;
    if (sets->count) qsort(sets->items, sets->count, sizeof *sets->items, by_source);
    for (size_t i = 0; i < sets->count; i++) starts[sets->items[i].source + 1]++;
    for (size_t i = 0; i < num_symbols; i++) starts[i + 1] += starts[i];
    reached[first] = true;
    queue[count++] = first;
    while (ahead < count && plain) {
        int32_t source = queue[ahead++];
        for (size_t i = starts[source]; i < starts[source + 1]; i++) {
            int32_t target = sets->items[i].target;
            if (target == NO_SYMBOL) plain = false;
            if (target == NO_SYMBOL || reached[target]) continue;
            reached[target] = true;
            queue[count++] = target;
        }
    }
    free(queue);
    free(starts);
    return plain;
}

static bool loops_over_parts(struct search *search, int32_t messages, size_t num_symbols) {
    bool *lists = oct_alloc(2 * num_symbols, sizeof *lists, "a template's names"), *message = lists + num_symbols;
    bool plain = spread(&search->sets, messages, lists, num_symbols), found = false;
    for (size_t i = 0; plain && i < search->loops.count; i++) {
        const struct binding *loop = &search->loops.items[i];
        if (!lists[loop->source]) continue;
        plain = loop->target != NO_SYMBOL;
        if (plain) message[loop->target] = true;
    }
    for (size_t i = 0; plain && !found && i < search->content_loops.count; i++) {
        const struct binding *loop = &search->content_loops.items[i];
        if (!message[loop->source]) continue;
        plain = found = loop->target != NO_SYMBOL;
    }
    free(lists);
    return found;
}

enum oct_content_format oct_content_format_of(const struct jinja_template *template) {
    int32_t messages = oct_token_table_find(&template->symbols, "messages", strlen("messages"));
    if (messages < 0) return OCT_CONTENT_STRING;
    struct search search = {0};
    collect(&search, template->body);
    bool found = loops_over_parts(&search, messages, template->symbols.size);
    free(search.sets.items);
    free(search.loops.items);
    free(search.content_loops.items);
    return found ? OCT_CONTENT_OPENAI : OCT_CONTENT_STRING;
}
