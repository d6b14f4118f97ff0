// jinja_value.h: the values of the template language, the memory they live in, and what every part of the engine does with them.
// All memory of a compilation or a rendering belongs to one arena; so an error may leave by longjmp and nothing is lost.
#pragma once

#include "text/jinja.h"

#include <setjmp.h>
#include <stdint.h>

struct jinja_arena {
    struct jinja_block *blocks; // newest first
    size_t used, limit;         // bytes
};

// One compilation or one rendering.
struct jinja {
    jmp_buf escape; // where jinja_fail goes
    oct_error *err;
    oct_status status;
    const char *name; // of the template
    uint32_t line;    // being compiled or rendered
    struct jinja_arena arena;
    size_t steps; // taken so far
    int depth;    // of nested evaluation
    struct tm now;
    const struct jinja_template *template;
    struct jinja_scope *root; // variables given to the template, and the built-in names
    struct jinja_text *out;   // where output goes
};

_Noreturn void jinja_fail(struct jinja *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Leaves with `message` unchanged.
_Noreturn void jinja_raise(struct jinja *j, struct oct_span message);
void *jinja_alloc(struct jinja *j, size_t count, size_t size); // zeroed; fails over the arena's limit
void jinja_arena_free(struct jinja_arena *arena);
void jinja_charge(struct jinja *j, size_t bytes); // counts work on `bytes` bytes as steps
void jinja_enter(struct jinja *j);                // one level deeper; fails over JINJA_MAX_DEPTH
void jinja_leave(struct jinja *j);

enum jinja_type {
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_BIG, // an integer outside 64 bits: it can be printed and compared for equality, not computed with
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_VIEW,     // dict.items() and its like, and range(): a list that is not a list
    JINJA_ITERATOR, // what map, select and reverse give: read once, no length
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_CYCLER,
    JINJA_JOINER,
};

struct jinja_value {
    enum jinja_type type;
    bool safe; // STRING: Markup
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct oct_span *string; // BIG: its digits; UNDEFINED: its name for messages, or NULL
        struct jinja_list *list;       // LIST, TUPLE
        struct jinja_dict *dict;       // DICT, NAMESPACE
        struct jinja_view *view;
        struct jinja_iterator *iterator;
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        struct jinja_function *function;
        struct jinja_cycler *cycler;
    };
};

struct jinja_list {
    struct jinja_value *items; // (count)
    size_t count, capacity;
    bool is_group; // a tuple of groupby, whose items have the names grouper and list
};

struct jinja_pair {
    struct jinja_value key, value;
};

struct jinja_dict {
    struct jinja_pair *pairs; // (count) in order of insertion
    size_t count, capacity;
    uint32_t *slots; // (num_slots) hash table of index + 1; NULL while count is small
    size_t num_slots;
};

struct jinja_view {
    const char *label; // "dict_items", "range", ...
    struct jinja_list *list;
};

struct jinja_iterator {
    struct jinja_list *list;
    size_t at;
};

struct jinja_loop {
    struct jinja_list *list;
    size_t index0, depth0;
    struct jinja_value changed; // last value given to loop.changed
    bool has_changed;
    const struct jinja_node *node; // of a recursive loop, else NULL
    struct jinja_scope *scope;     // around it
};

struct jinja_cycler {
    struct jinja_list *list;
    size_t at;
};

struct jinja_argument {
    struct oct_span name;
    struct jinja_value value;
};

struct jinja_arguments {
    struct jinja_value *positional; // (count)
    size_t count;
    struct jinja_argument *named; // (num_named)
    size_t num_named;
};

typedef struct jinja_value (*jinja_call)(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments);

struct jinja_function {
    const char *name;
    jinja_call call;
    struct jinja_value self; // of a method
};

// A growing string in the arena.
struct jinja_text {
    char *bytes;          // (length)
    unsigned char *marks; // (length), or NULL while nothing is marked
    size_t length, capacity;
};

static inline struct jinja_value jinja_undefined(void) {
    return (struct jinja_value){.type = JINJA_UNDEFINED};
}
static inline struct jinja_value jinja_none(void) {
    return (struct jinja_value){.type = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool value) {
    return (struct jinja_value){.type = JINJA_BOOL, .boolean = value};
}
static inline struct jinja_value jinja_int(int64_t value) {
    return (struct jinja_value){.type = JINJA_INT, .integer = value};
}
static inline struct jinja_value jinja_float(double value) {
    return (struct jinja_value){.type = JINJA_FLOAT, .real = value};
}
static inline bool jinja_is_string(struct jinja_value value) {
    return value.type == JINJA_STRING;
}
static inline bool jinja_is_integer(struct jinja_value value) { // as in Python, a bool is one
    return value.type == JINJA_INT || value.type == JINJA_BOOL;
}
static inline bool jinja_is_number(struct jinja_value value) {
    return jinja_is_integer(value) || value.type == JINJA_FLOAT;
}
static inline int64_t jinja_as_integer(struct jinja_value value) {
    return value.type == JINJA_BOOL ? value.boolean : value.integer;
}
static inline double jinja_as_real(struct jinja_value value) {
    return value.type == JINJA_FLOAT ? value.real : (double)jinja_as_integer(value);
}
static inline bool jinja_is_undefined(struct jinja_value value) {
    return value.type == JINJA_UNDEFINED;
}
static inline bool jinja_is_none(struct jinja_value value) {
    return value.type == JINJA_NONE;
}

const char *jinja_type_name(struct jinja_value value);                  // Python's, for messages
struct jinja_value jinja_string(struct jinja *j, struct oct_span span); // of bytes that live as long as the arena
struct jinja_value jinja_string_of(struct jinja *j, const char *text);  // of static text
bool jinja_span_is(struct oct_span span, const char *text);
struct jinja_value jinja_new_list(struct jinja *j, enum jinja_type type, size_t capacity); // LIST or TUPLE
void jinja_append(struct jinja *j, struct jinja_list *list, struct jinja_value item);
struct jinja_value jinja_new_dict(struct jinja *j);
void jinja_set(struct jinja *j, struct jinja_dict *dict, struct jinja_value key, struct jinja_value value);
const struct jinja_value *jinja_get(struct jinja *j, const struct jinja_dict *dict, struct jinja_value key); // NULL: not there
const struct jinja_value *jinja_get_named(struct jinja *j, const struct jinja_dict *dict, const char *name);
struct jinja_value jinja_new_view(struct jinja *j, const char *label, struct jinja_list *list);
struct jinja_value jinja_new_iterator(struct jinja *j, struct jinja_list *list);
struct jinja_value jinja_from_json(struct jinja *j, const json_t *json, const struct jinja_variable *variable); // whose marks it gets

bool jinja_truth(struct jinja_value value);
bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b);
int jinja_compare(struct jinja *j, struct jinja_value a, struct jinja_value b, const char *operator); // <0, 0, >0; fails for odd pairs
bool jinja_contains(struct jinja *j, struct jinja_value container, struct jinja_value item);
bool jinja_is_iterable(struct jinja_value value);
struct jinja_list *jinja_iterate(struct jinja *j, struct jinja_value value); // all items; not to be changed
size_t jinja_length(struct jinja *j, struct jinja_value value);

void jinja_text_add(struct jinja *j, struct jinja_text *text, struct oct_span span);
void jinja_text_puts(struct jinja *j, struct jinja_text *text, const char *bytes);
void jinja_text_fill(struct jinja *j, struct jinja_text *text, char byte, size_t count);
struct oct_span jinja_text_span(const struct jinja_text *text);
struct jinja_value jinja_text_value(struct jinja *j, const struct jinja_text *text);

// jinja_print.c
void jinja_print(struct jinja *j, struct jinja_text *text, struct jinja_value value); // Python's str()
void jinja_repr(struct jinja *j, struct jinja_text *text, struct jinja_value value);
struct jinja_value jinja_to_string(struct jinja *j, struct jinja_value value);
void jinja_print_float(char out[32], double value); // Python's repr
struct jinja_json_style {
    bool ensure_ascii, sort_keys, has_indent;
    struct oct_span indent, item_separator, key_separator;
};
void jinja_print_json(struct jinja *j, struct jinja_text *text, struct jinja_value value, const struct jinja_json_style *style);

// jinja_string.c: code points
size_t jinja_count_characters(struct oct_span span);
size_t jinja_character_offset(struct oct_span span, size_t index); // in bytes; index at most the count
bool jinja_is_space(uint32_t code);                                // Python's str.isspace
struct oct_span jinja_strip(struct oct_span span, const struct oct_span *characters, bool left, bool right); // NULL: white space
struct oct_span jinja_strip_set(struct jinja *j, struct oct_span span, struct oct_span characters, bool left, bool right);
size_t jinja_find(struct oct_span text, struct oct_span part, size_t from); // byte offset, SIZE_MAX: not there
// The last that begins and ends before `end`. Adds to *work what jinja_charge is to be told.
size_t jinja_find_last(struct oct_span text, struct oct_span part, size_t end, size_t *work);
struct jinja_value jinja_replace(struct jinja *j, struct oct_span text, struct oct_span old, struct oct_span new, int64_t count);
struct jinja_value jinja_escape(struct jinja *j, struct jinja_value value); // HTML; the result is safe
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_SWAP };
struct jinja_value jinja_change_case(struct jinja *j, struct oct_span span, enum jinja_case how);

// jinja_format.c
struct jinja_value jinja_format_percent(struct jinja *j, struct oct_span format, struct jinja_value arguments);
struct jinja_value jinja_format_braces(struct jinja *j, struct oct_span format, const struct jinja_arguments *arguments);
struct jinja_value jinja_format_time(struct jinja *j, struct oct_span format);

// jinja_wrap.c. The arguments are those of the filter wordwrap.
struct jinja_value jinja_wrap_words(struct jinja *j, struct jinja_value text, const struct jinja_arguments *arguments);

struct jinja_value jinja_call_value(struct jinja *j, struct jinja_value callee, const struct jinja_arguments *arguments); // jinja_eval.c
// jinja_access.c
_Noreturn void jinja_fail_undefined(struct jinja *j, struct jinja_value value);
struct jinja_value jinja_undefined_named(struct jinja_value name);                                       // `name` is what messages call it
struct jinja_value jinja_attribute(struct jinja *j, struct jinja_value object, struct jinja_value name); // object.name
struct jinja_value jinja_item(struct jinja *j, struct jinja_value object, struct jinja_value key);       // object[key]
struct jinja_value jinja_add(struct jinja *j, struct jinja_value a, struct jinja_value b);               // jinja_operators.c

// Arguments of a call by position or name.
const struct jinja_value *jinja_argument(const struct jinja_arguments *arguments, size_t position, const char *name); // NULL: not given
struct jinja_value jinja_argument_or(const struct jinja_arguments *arguments, size_t position, const char *name,
                                     struct jinja_value otherwise);
struct jinja_value jinja_required(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name);
struct oct_span jinja_required_string(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name);
int64_t jinja_integer_or(struct jinja *j, const struct jinja_arguments *arguments, size_t position, const char *name, int64_t otherwise);

// jinja_filters.c, jinja_tests.c, jinja_methods.c, jinja_globals.c: NULL: no such name.
jinja_call jinja_find_filter(struct oct_span name);
typedef bool (*jinja_test)(struct jinja *j, struct jinja_value value, const struct jinja_arguments *arguments);
jinja_test jinja_find_test(struct oct_span name);
// *unsafe: the type has such a method, but the sandbox refuses it.
jinja_call jinja_find_method(struct jinja_value object, struct oct_span name, bool *unsafe);
jinja_call jinja_find_global(struct oct_span name);
