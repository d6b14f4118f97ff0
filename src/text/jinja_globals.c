// The built-in functions, and the methods of the small objects they make.
#include "text/jinja_value.h"

#define CALL(name) static struct jinja_value name(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments)

#define MAX_RANGE 100000 // as Jinja's sandbox has it

CALL(global_range) {
    (void)self;
    int64_t first = jinja_integer_or(j, arguments, 0, NULL, 0), stop = first, start = 0, step = jinja_integer_or(j, arguments, 2, NULL, 1);
    if (!arguments->count) jinja_fail(j, "range expected at least 1 argument");
    if (arguments->count > 1) start = first, stop = jinja_integer_or(j, arguments, 1, NULL, 0);
    if (step == 0) jinja_fail(j, "range() step must not be zero");
    double count = ((double)stop - (double)start) / (double)step;
    if (count > MAX_RANGE) jinja_fail(j, "a range of more than %d numbers", MAX_RANGE);
    struct jinja_value list = jinja_new_list(j, JINJA_LIST, 0);
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        jinja_append(j, list.list, jinja_int(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    jinja_charge(j, 8 * list.list->count);
    return jinja_new_view(j, "range", list.list);
}

static void fill_dict(struct jinja *j, struct jinja_dict *dict, const struct jinja_arguments *arguments) {
    if (arguments->count && arguments->positional[0].type == JINJA_DICT) {
        const struct jinja_dict *other = arguments->positional[0].dict;
        for (size_t i = 0; i < other->count; i++) jinja_set(j, dict, other->pairs[i].key, other->pairs[i].value);
    } else if (arguments->count) {
        const struct jinja_list *pairs = jinja_iterate(j, arguments->positional[0]);
        for (size_t i = 0; i < pairs->count; i++) {
            const struct jinja_list *pair = jinja_iterate(j, pairs->items[i]);
            if (pair->count != 2) jinja_fail(j, "a pair expected to make a dict of, %zu values found", pair->count);
            jinja_set(j, dict, pair->items[0], pair->items[1]);
        }
    }
    for (size_t i = 0; i < arguments->num_named; i++)
        jinja_set(j, dict, jinja_string(j, arguments->named[i].name), arguments->named[i].value);
}

CALL(global_dict) {
    (void)self;
    struct jinja_value dict = jinja_new_dict(j);
    fill_dict(j, dict.dict, arguments);
    return dict;
}

CALL(global_namespace) {
    (void)self;
    struct jinja_value space = jinja_new_dict(j);
    fill_dict(j, space.dict, arguments);
    for (size_t i = 0; i < space.dict->count; i++) {
        struct jinja_value key = space.dict->pairs[i].key;
        if (jinja_is_string(key) && key.string->length && key.string->text[0] == '_') {
            jinja_fail(j, "a namespace cannot have attributes that begin with an underscore");
        }
    }
    space.type = JINJA_NAMESPACE;
    return space;
}

CALL(global_raise) {
    (void)self;
    jinja_raise(j, *jinja_to_string(j, jinja_required(j, arguments, 0, "message")).string);
}

CALL(global_time) {
    (void)self;
    return jinja_format_time(j, jinja_required_string(j, arguments, 0, "format"));
}

CALL(global_cycler) {
    (void)self;
    if (!arguments->count) jinja_fail(j, "cycler needs at least one item");
    struct jinja_cycler *cycler = jinja_alloc(j, 1, sizeof *cycler);
    cycler->list = jinja_new_list(j, JINJA_LIST, arguments->count).list;
    for (size_t i = 0; i < arguments->count; i++) jinja_append(j, cycler->list, arguments->positional[i]);
    return (struct jinja_value){.type = JINJA_CYCLER, .cycler = cycler};
}

CALL(global_joiner) {
    (void)self;
    struct jinja_cycler *joiner = jinja_alloc(j, 1, sizeof *joiner);
    joiner->list = jinja_new_list(j, JINJA_LIST, 1).list;
    jinja_append(j, joiner->list, jinja_argument_or(arguments, 0, "sep", jinja_string_of(j, ", ")));
    return (struct jinja_value){.type = JINJA_JOINER, .cycler = joiner};
}

jinja_call jinja_find_global(struct oct_span name) {
    static const struct {
        const char *name;
        jinja_call call;
    } globals[] = {
        {"range", global_range},       {"dict", global_dict},     {"namespace", global_namespace}, {"raise_exception", global_raise},
        {"strftime_now", global_time}, {"cycler", global_cycler}, {"joiner", global_joiner},
    };
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (jinja_span_is(name, globals[i].name)) return globals[i].call;
    }
    return NULL;
}
