// jinja_value.c: the values of the template language, Python's, in blocks that are freed together and counted against a budget.
#include "text/jinja_value.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 65536

struct jinja_block {
    struct jinja_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

_Noreturn void jinja_fail(struct jinja *j, const char *format, ...) {
    char message[800];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    j->status = oct_fail(j->err, OCT_INVALID_ARGUMENT, "%.200s, line %u: %s", j->name, (unsigned)j->line, message);
    longjmp(j->escape, 1);
}

_Noreturn void jinja_raise(struct jinja *j, struct oct_span message) {
    int length = message.length < 1023 ? (int)message.length : 1023;
    j->status = oct_fail(j->err, OCT_INVALID_ARGUMENT, "%.*s", length, message.text);
    longjmp(j->escape, 1);
}

void *jinja_alloc(struct jinja *j, size_t count, size_t size) {
    struct jinja_arena *arena = &j->arena;
    if (count > arena->limit / size || arena->used + count * size + 16 > arena->limit) {
        jinja_fail(j, "the template needs more than %zu MB", arena->limit >> 20);
    }
    size_t bytes = (count * size + 15) & ~(size_t)15;
    if (!arena->blocks || arena->blocks->size - arena->blocks->used < bytes) {
        size_t room = bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES;
        struct jinja_block *block = oct_alloc(1, sizeof *block + room, "a template");
        block->size = room;
        if (arena->blocks && room == bytes) { // a large one: keep filling the block before it
            block->next = arena->blocks->next;
            arena->blocks->next = block;
            arena->used += bytes;
            block->used = bytes;
            return block->bytes;
        }
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *result = arena->blocks->bytes + arena->blocks->used;
    arena->blocks->used += bytes;
    arena->used += bytes;
    return result;
}

void jinja_arena_free(struct jinja_arena *arena) {
    for (struct jinja_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    arena->blocks = NULL;
}

void jinja_charge(struct jinja *j, size_t bytes) {
    j->steps += 1 + bytes / 64;
    if (j->steps > JINJA_MAX_STEPS) jinja_fail(j, "the template takes more than %d steps", JINJA_MAX_STEPS);
}

void jinja_enter(struct jinja *j) {
    jinja_charge(j, 0);
    if (++j->depth > JINJA_MAX_DEPTH) jinja_fail(j, "nested more than %d levels deep", JINJA_MAX_DEPTH);
}

void jinja_leave(struct jinja *j) {
    j->depth--;
}

const char *jinja_type_name(struct jinja_value value) {
    static const char *const names[] = {"Undefined", "NoneType",    "bool",  "int",      "int",    "float",
                                        "str",       "list",        "tuple", "dict",     "view",   "generator",
                                        "Namespace", "LoopContext", "Macro", "function", "Cycler", "Joiner"};
    if (value.type == JINJA_VIEW) return value.view->label;
    return names[value.type];
}

struct jinja_value jinja_string(struct jinja *j, struct oct_span span) {
    struct oct_span *string = jinja_alloc(j, 1, sizeof *string);
    *string = span;
    return (struct jinja_value){.type = JINJA_STRING, .string = string};
}

struct jinja_value jinja_string_of(struct jinja *j, const char *text) {
    return jinja_string(j, (struct oct_span){.text = text, .length = strlen(text)});
}

bool jinja_span_is(struct oct_span span, const char *text) {
    return span.length == strlen(text) && memcmp(span.text, text, span.length) == 0;
}

struct jinja_value jinja_new_list(struct jinja *j, enum jinja_type type, size_t capacity) {
    struct jinja_list *list = jinja_alloc(j, 1, sizeof *list);
    if (capacity) list->items = jinja_alloc(j, capacity, sizeof *list->items);
    list->capacity = capacity;
    return (struct jinja_value){.type = type, .list = list};
}

void jinja_append(struct jinja *j, struct jinja_list *list, struct jinja_value item) {
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 4;
        struct jinja_value *items = jinja_alloc(j, capacity, sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
}

struct jinja_value jinja_new_dict(struct jinja *j) {
    return (struct jinja_value){.type = JINJA_DICT, .dict = jinja_alloc(j, 1, sizeof(struct jinja_dict))};
}

struct jinja_value jinja_new_view(struct jinja *j, const char *label, struct jinja_list *list) {
    struct jinja_view *view = jinja_alloc(j, 1, sizeof *view);
    *view = (struct jinja_view){label, list};
    return (struct jinja_value){.type = JINJA_VIEW, .view = view};
}

struct jinja_value jinja_new_iterator(struct jinja *j, struct jinja_list *list) {
    struct jinja_iterator *iterator = jinja_alloc(j, 1, sizeof *iterator);
    iterator->list = list;
    return (struct jinja_value){.type = JINJA_ITERATOR, .iterator = iterator};
}

// Equal values hash alike: 1, 1.0 and true are one key, as in Python.
static uint64_t hash_value(struct jinja *j, struct jinja_value key) {
    uint64_t hash = 0xCBF29CE484222325u;
    switch (key.type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return 0x9E3779B97F4A7C15u;
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT: {
        double real = jinja_as_real(key);
        if (real == 0) real = 0;
        memcpy(&hash, &real, sizeof hash);
        return hash * 0x9E3779B97F4A7C15u >> 7;
    }
    case JINJA_STRING:
    case JINJA_BIG:
        for (size_t i = 0; i < key.string->length; i++) hash = (hash ^ (unsigned char)key.string->text[i]) * 0x100000001B3u;
        return hash;
    case JINJA_TUPLE:
        jinja_enter(j);
        for (size_t i = 0; i < key.list->count; i++) hash = (hash ^ hash_value(j, key.list->items[i])) * 0x100000001B3u;
        jinja_leave(j);
        return hash;
    default:
        jinja_fail(j, "unhashable type: '%s'", jinja_type_name(key));
    }
}

// The slot of `key`, or the free one where it belongs.
static size_t find_slot(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key) {
    size_t mask = dict->num_slots - 1, slot = (size_t)hash_value(j, key) & mask;
    for (; dict->slots[slot]; slot = (slot + 1) & mask) {
        jinja_charge(j, 0);
        if (jinja_equal(j, dict->pairs[dict->slots[slot] - 1].key, key)) break;
    }
    return slot;
}

static struct jinja_value *find(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key) {
    if (dict->slots) {
        uint32_t index = dict->slots[find_slot(j, dict, key)];
        return index ? &dict->pairs[index - 1].value : NULL;
    }
    hash_value(j, key); // an unhashable key is an error
    for (size_t i = 0; i < dict->count; i++) {
        if (jinja_equal(j, dict->pairs[i].key, key)) return &dict->pairs[i].value;
    }
    return NULL;
}

static void grow(struct jinja *j, struct jinja_dict *dict) {
    size_t capacity = 2 * dict->capacity + 4;
    struct jinja_pair *pairs = jinja_alloc(j, capacity, sizeof *pairs);
    if (dict->count) memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
    dict->pairs = pairs;
    dict->capacity = capacity;
    if (capacity <= 12) return;
    dict->num_slots = 16;
    while (dict->num_slots < 2 * capacity) dict->num_slots *= 2;
    dict->slots = jinja_alloc(j, dict->num_slots, sizeof *dict->slots);
    for (size_t i = 0; i < dict->count; i++) dict->slots[find_slot(j, dict, dict->pairs[i].key)] = (uint32_t)i + 1;
}

void jinja_set(struct jinja *j, struct jinja_dict *dict, struct jinja_value key, struct jinja_value value) {
    struct jinja_value *old = find(j, dict, key);
    if (old) {
        *old = value;
        return;
    }
    if (dict->count == dict->capacity) grow(j, dict);
    dict->pairs[dict->count++] = (struct jinja_pair){key, value};
    if (dict->slots) dict->slots[find_slot(j, dict, key)] = (uint32_t)dict->count;
}

const struct jinja_value *jinja_get(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key) {
    return find(j, dict, key);
}

const struct jinja_value *jinja_get_named(struct jinja *j, const struct jinja_dict *dict, const char *name) {
    struct oct_span span = {.text = name, .length = strlen(name)};
    return find(j, dict, (struct jinja_value){.type = JINJA_STRING, .string = &span});
}

// A big integer as oct_json_parse gives it.
static bool is_big_integer(const char *text, size_t length) {
    if (length < 20 || text[0] != '\0') return false;
    for (size_t i = 1 + (text[1] == '-'); i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
    }
    return true;
}

static struct jinja_value string_from_json(struct jinja *j, const char *text, size_t length, bool marked) {
    struct oct_span span = {.text = text, .length = length};
    if (marked) {
        unsigned char *marks = jinja_alloc(j, length + 1, 1);
        memset(marks, 1, length);
        span.marks = marks;
    }
    if (!is_big_integer(text, length)) return jinja_string(j, span);
    struct jinja_value big = jinja_string(j, oct_subspan(span, 1, length));
    big.type = JINJA_BIG;
    return big;
}

struct jinja_value jinja_from_json(struct jinja *j, const json_t *json, const struct jinja_variable *variable) {
    struct jinja_value result = jinja_none();
    jinja_enter(j);
    switch (json ? json_typeof(json) : JSON_NULL) {
    case JSON_NULL:
        break;
    case JSON_TRUE:
        result = jinja_bool(true);
        break;
    case JSON_FALSE:
        result = jinja_bool(false);
        break;
    case JSON_INTEGER:
        result = jinja_int(json_integer_value(json));
        break;
    case JSON_REAL:
        result = jinja_float(json_real_value(json));
        break;
    case JSON_STRING:
        result = string_from_json(j, json_string_value(json), json_string_length(json), variable->marked);
        break;
    case JSON_ARRAY:
        result = jinja_new_list(j, JINJA_LIST, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++) {
            jinja_append(j, result.list, jinja_from_json(j, json_array_get(json, i), variable));
        }
        break;
    case JSON_OBJECT: {
        const char *key;
        size_t length;
        json_t *value;
        result = jinja_new_dict(j);
        json_object_keylen_foreach((json_t *)json, key, length, value) {
            const char *word = json_string_value(value);
            bool plain = word && strlen(word) == json_string_length(value) && variable->is_plain_word && variable->is_plain_word(key, word);
            jinja_set(j, result.dict, string_from_json(j, key, length, variable->marked),
                      jinja_from_json(j, value, plain ? &(struct jinja_variable){0} : variable));
        }
        break;
    }
    }
    jinja_leave(j);
    return result;
}

bool jinja_truth(struct jinja_value value) {
    switch (value.type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return value.boolean;
    case JINJA_INT:
        return value.integer != 0;
    case JINJA_FLOAT:
        return value.real != 0;
    case JINJA_STRING:
        return value.string->length > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list->count > 0;
    case JINJA_DICT:
        return value.dict->count > 0;
    case JINJA_VIEW:
        return value.view->list->count > 0;
    default:
        return true;
    }
}

static bool equal_lists(struct jinja *j, const struct jinja_list *a, const struct jinja_list *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!jinja_equal(j, a->items[i], b->items[i])) return false;
    }
    return true;
}

static bool equal_dicts(struct jinja *j, const struct jinja_dict *a, const struct jinja_dict *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct jinja_value *other = find(j, b, a->pairs[i].key);
        if (!other || !jinja_equal(j, a->pairs[i].value, *other)) return false;
    }
    return true;
}

bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    jinja_charge(j, 0);
    if (jinja_is_integer(a) && jinja_is_integer(b)) return jinja_as_integer(a) == jinja_as_integer(b);
    if (jinja_is_number(a) && jinja_is_number(b)) return jinja_as_real(a) == jinja_as_real(b);
    if (a.type != b.type) return false;
    bool result = false;
    jinja_enter(j);
    switch (a.type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        result = true;
        break;
    case JINJA_STRING:
    case JINJA_BIG:
        jinja_charge(j, a.string->length);
        result = a.string->length == b.string->length && memcmp(a.string->text, b.string->text, a.string->length) == 0;
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        result = equal_lists(j, a.list, b.list);
        break;
    case JINJA_DICT:
        result = equal_dicts(j, a.dict, b.dict);
        break;
    case JINJA_VIEW:
        result = equal_lists(j, a.view->list, b.view->list);
        break;
    default:
        result = a.dict == b.dict;
        break; // the same object
    }
    jinja_leave(j);
    return result;
}

static int compare_spans(struct oct_span a, struct oct_span b) { // UTF-8 sorts as its code points do
    int order = memcmp(a.text, b.text, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

int jinja_compare(struct jinja *j, struct jinja_value a, struct jinja_value b, const char *operator) {
    jinja_charge(j, 0);
    if (jinja_is_integer(a) && jinja_is_integer(b)) {
        int64_t x = jinja_as_integer(a), y = jinja_as_integer(b);
        return (x > y) - (x < y);
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        double x = jinja_as_real(a), y = jinja_as_real(b);
        return (x > y) - (x < y);
    }
    if (jinja_is_string(a) && jinja_is_string(b)) return compare_spans(*a.string, *b.string);
    if (a.type == b.type && (a.type == JINJA_LIST || a.type == JINJA_TUPLE)) {
        jinja_enter(j);
        int order = 0;
        size_t both = a.list->count < b.list->count ? a.list->count : b.list->count, i = 0;
        while (i < both && jinja_equal(j, a.list->items[i], b.list->items[i])) i++;
        if (i < both) {
            order = jinja_compare(j, a.list->items[i], b.list->items[i], operator);
        } else {
            order = (a.list->count > b.list->count) - (a.list->count < b.list->count);
        }
        jinja_leave(j);
        return order;
    }
    jinja_fail(j, "'%s' not supported between instances of '%s' and '%s'", operator, jinja_type_name(a), jinja_type_name(b));
}

bool jinja_contains(struct jinja *j, struct jinja_value container, struct jinja_value item) {
    if (jinja_is_string(container)) {
        if (!jinja_is_string(item)) jinja_fail(j, "'in <string>' requires string as left operand, not %s", jinja_type_name(item));
        jinja_charge(j, container.string->length);
        return jinja_find(*container.string, *item.string, 0) != SIZE_MAX;
    }
    if (container.type == JINJA_DICT) return find(j, container.dict, item) != NULL;
    const struct jinja_list *list = jinja_iterate(j, container);
    for (size_t i = 0; i < list->count; i++) {
        if (jinja_equal(j, list->items[i], item)) return true;
    }
    return false;
}

bool jinja_is_iterable(struct jinja_value value) {
    switch (value.type) {
    case JINJA_UNDEFINED:
    case JINJA_STRING:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_VIEW:
    case JINJA_ITERATOR:
        return true;
    default:
        return false;
    }
}

struct jinja_list *jinja_iterate(struct jinja *j, struct jinja_value value) {
    struct jinja_list *list;
    uint32_t code;
    switch (value.type) {
    case JINJA_UNDEFINED:
        return jinja_new_list(j, JINJA_LIST, 0).list;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list;
    case JINJA_VIEW:
        return value.view->list;
    case JINJA_STRING:
        list = jinja_new_list(j, JINJA_LIST, value.string->length).list;
        for (size_t i = 0, n; i < value.string->length; i += n) {
            n = oct_utf8_next(value.string->text + i, &code);
            jinja_append(j, list, jinja_string(j, oct_subspan(*value.string, i, i + n)));
        }
        return list;
    case JINJA_DICT:
        list = jinja_new_list(j, JINJA_LIST, value.dict->count).list;
        for (size_t i = 0; i < value.dict->count; i++) jinja_append(j, list, value.dict->pairs[i].key);
        return list;
    case JINJA_ITERATOR:
        list = jinja_alloc(j, 1, sizeof *list);
        list->count = list->capacity = value.iterator->list->count - value.iterator->at;
        list->items = list->count ? value.iterator->list->items + value.iterator->at : NULL;
        value.iterator->at = value.iterator->list->count;
        return list;
    default:
        jinja_fail(j, "'%s' object is not iterable", jinja_type_name(value));
    }
}

size_t jinja_length(struct jinja *j, struct jinja_value value) {
    switch (value.type) {
    case JINJA_UNDEFINED:
        return 0;
    case JINJA_STRING:
        jinja_charge(j, value.string->length);
        return jinja_count_characters(*value.string);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list->count;
    case JINJA_DICT:
        return value.dict->count;
    case JINJA_VIEW:
        return value.view->list->count;
    default:
        jinja_fail(j, "object of type '%s' has no len()", jinja_type_name(value));
    }
}

static void reserve(struct jinja *j, struct jinja_text *text, size_t more) {
    if (text->length + more <= text->capacity) return;
    size_t capacity = 2 * text->capacity > text->length + more ? 2 * text->capacity : text->length + more + 32;
    char *bytes = jinja_alloc(j, capacity, 1);
    if (text->length) memcpy(bytes, text->bytes, text->length);
    text->bytes = bytes;
    if (text->marks) {
        unsigned char *marks = jinja_alloc(j, capacity, 1);
        memcpy(marks, text->marks, text->length);
        text->marks = marks;
    }
    text->capacity = capacity;
}

void jinja_text_add(struct jinja *j, struct jinja_text *text, struct oct_span span) {
    if (!span.length) return;
    jinja_charge(j, span.length);
    reserve(j, text, span.length);
    memcpy(text->bytes + text->length, span.text, span.length);
    if (span.marks && !text->marks) text->marks = jinja_alloc(j, text->capacity, 1);
    if (text->marks && span.marks) memcpy(text->marks + text->length, span.marks, span.length);
    if (text->marks && !span.marks) memset(text->marks + text->length, 0, span.length);
    text->length += span.length;
}

void jinja_text_puts(struct jinja *j, struct jinja_text *text, const char *bytes) {
    jinja_text_add(j, text, (struct oct_span){.text = bytes, .length = strlen(bytes)});
}

void jinja_text_fill(struct jinja *j, struct jinja_text *text, char byte, size_t count) {
    if (!count) return;
    if (count > j->arena.limit) jinja_fail(j, "a string of %zu bytes is too long", count);
    jinja_charge(j, count);
    reserve(j, text, count);
    memset(text->bytes + text->length, byte, count);
    if (text->marks) memset(text->marks + text->length, 0, count);
    text->length += count;
}

struct oct_span jinja_text_span(const struct jinja_text *text) {
    return (struct oct_span){text->bytes ? text->bytes : "", text->marks, text->length};
}

struct jinja_value jinja_text_value(struct jinja *j, const struct jinja_text *text) {
    return jinja_string(j, jinja_text_span(text));
}

const struct jinja_value *jinja_argument(const struct jinja_arguments *arguments, size_t position, const char *name) {
    if (position < arguments->count) return &arguments->positional[position];
    for (size_t i = 0; name && i < arguments->num_named; i++) {
        if (jinja_span_is(arguments->named[i].name, name)) return &arguments->named[i].value;
    }
    return NULL;
}

struct jinja_value jinja_argument_or(const struct jinja_arguments *arguments, size_t position, const char *name,
                                     struct jinja_value otherwise) {
    const struct jinja_value *value = jinja_argument(arguments, position, name);
    return value ? *value : otherwise;
}

struct jinja_value jinja_required(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name) {
    const struct jinja_value *value = jinja_argument(arguments, position, name);
    if (!value) jinja_fail(j, "missing argument '%s'", name);
    return *value;
}

struct oct_span jinja_required_string(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name) {
    struct jinja_value value = jinja_required(j, arguments, position, name);
    if (!jinja_is_string(value)) jinja_fail(j, "argument '%s' must be str, not %s", name, jinja_type_name(value));
    return *value.string;
}

int64_t jinja_integer_or(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name, int64_t otherwise) {
    const struct jinja_value *value = jinja_argument(arguments, position, name);
    if (!value) return otherwise;
    if (!jinja_is_integer(*value))
        jinja_fail(j, "argument '%s': '%s' object cannot be interpreted as an integer", name, jinja_type_name(*value));
    return jinja_as_integer(*value);
}
