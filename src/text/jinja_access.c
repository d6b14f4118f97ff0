// Attributes, items and slices of values. A dotted name is a method first, then an item; in brackets it is the other way round. What is
// not there is undefined; only what is undefined has no attributes at all.
#include "text/jinja_syntax.h"

_Noreturn void jinja_fail_undefined(struct jinja *j, struct jinja_value value) {
    if (!value.string) jinja_fail(j, "a value is undefined");
    jinja_fail(j, "'%.*s' is undefined", (int)(value.string->length < 200 ? value.string->length : 200), value.string->text);
}

struct jinja_value jinja_undefined_named(struct jinja_value name) {
    struct jinja_value undefined = jinja_undefined();
    if (jinja_is_string(name)) undefined.string = name.string;
    return undefined;
}

// Attributes of objects that are not data.
static bool special_attribute(struct jinja *j, struct jinja_value object, struct oct_span name, struct jinja_value *out) {
    if (object.type == JINJA_NAMESPACE) {
        const struct jinja_value *value = jinja_get(j, object.dict, (struct jinja_value){.type = JINJA_STRING, .string = &name});
        if (value) *out = *value;
        return value != NULL;
    }
    if (object.type == JINJA_LOOP) {
        struct jinja_loop *loop = object.loop;
        size_t count = loop->list->count, at = loop->index0;
        const struct {
            const char *name;
            struct jinja_value value;
        } attributes[] = {
            {"index", jinja_int((int64_t)at + 1)},
            {"index0", jinja_int((int64_t)at)},
            {"revindex", jinja_int((int64_t)(count - at))},
            {"revindex0", jinja_int((int64_t)(count - at) - 1)},
            {"first", jinja_bool(at == 0)},
            {"last", jinja_bool(at + 1 == count)},
            {"length", jinja_int((int64_t)count)},
            {"depth", jinja_int((int64_t)loop->depth0 + 1)},
            {"depth0", jinja_int((int64_t)loop->depth0)},
            {"previtem", at ? loop->list->items[at - 1] : jinja_undefined()},
            {"nextitem", at + 1 < count ? loop->list->items[at + 1] : jinja_undefined()},
        };
        for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
            if (jinja_span_is(name, attributes[i].name)) return *out = attributes[i].value, true;
        }
    }
    if (object.type == JINJA_TUPLE && object.list->is_group) {
        if (jinja_span_is(name, "grouper")) return *out = object.list->items[0], true;
        if (jinja_span_is(name, "list")) return *out = object.list->items[1], true;
    }
    if (object.type == JINJA_MACRO && jinja_span_is(name, "name")) return *out = object.macro->node->constant, true;
    if (object.type == JINJA_MACRO && jinja_span_is(name, "arguments")) {
        *out = jinja_new_list(j, JINJA_TUPLE, 0);
        for (const struct jinja_node *parameter = object.macro->node->items; parameter; parameter = parameter->next) {
            struct oct_span text = {0};
            text.text = oct_token_table_text(&j->template->symbols, parameter->symbol, &text.length);
            jinja_append(j, out->list, jinja_string(j, text));
        }
        return true;
    }
    return false;
}

static struct jinja_value bind_method(struct jinja *j, struct jinja_value object, struct jinja_value name, bool *known) {
    bool unsafe = false;
    jinja_call call = jinja_find_method(object, *name.string, &unsafe);
    *known = call || unsafe;
    if (!call) return jinja_undefined_named(name);
    struct jinja_function *function = jinja_alloc(j, 1, sizeof *function);
    *function = (struct jinja_function){"method", call, object};
    return (struct jinja_value){.type = JINJA_FUNCTION, .function = function};
}

static bool find_item(struct jinja *j, struct jinja_value object, struct jinja_value key, struct jinja_value *out) {
    if (object.type == JINJA_DICT) {
        if (key.type == JINJA_LIST || key.type == JINJA_DICT || key.type == JINJA_NAMESPACE) return false; // unhashable
        const struct jinja_value *value = jinja_get(j, object.dict, key);
        if (value) *out = *value;
        return value != NULL;
    }
    if (!jinja_is_integer(key)) return false;
    int64_t index = jinja_as_integer(key);
    const struct jinja_list *list = NULL;
    if (object.type == JINJA_LIST || object.type == JINJA_TUPLE) list = object.list;
    if (object.type == JINJA_VIEW && strcmp(object.view->label, "range") == 0) list = object.view->list;
    if (list) {
        if (index < 0) index += (int64_t)list->count;
        if (index < 0 || index >= (int64_t)list->count) return false;
        return *out = list->items[index], true;
    }
    if (!jinja_is_string(object)) return false;
    struct oct_span text = *object.string;
    int64_t count = (int64_t)jinja_length(j, object);
    if (index < 0) index += count;
    if (index < 0 || index >= count) return false;
    size_t start = jinja_character_offset(text, (size_t)index),
           end = jinja_character_offset(oct_subspan(text, start, text.length), 1) + start;
    return *out = jinja_string(j, oct_subspan(text, start, end)), true;
}

struct jinja_value jinja_attribute(struct jinja *j, struct jinja_value object, struct jinja_value name) {
    struct jinja_value result;
    bool known;
    if (jinja_is_undefined(object)) jinja_fail_undefined(j, object);
    if (special_attribute(j, object, *name.string, &result)) return result;
    result = bind_method(j, object, name, &known);
    if (known) return result;
    return find_item(j, object, name, &result) ? result : jinja_undefined_named(name);
}

struct jinja_value jinja_item(struct jinja *j, struct jinja_value object, struct jinja_value key) {
    struct jinja_value result;
    bool known;
    if (jinja_is_undefined(object)) jinja_fail_undefined(j, object);
    if (find_item(j, object, key, &result)) return result;
    if (!jinja_is_string(key)) return jinja_undefined();
    if (special_attribute(j, object, *key.string, &result)) return result;
    result = bind_method(j, object, key, &known);
    return known ? result : jinja_undefined_named(key);
}

// A bound of a slice, as Python clips it.
static int64_t slice_bound(struct jinja *j, struct jinja_value value, int64_t count, int64_t step, int64_t otherwise) {
    if (jinja_is_none(value)) return otherwise;
    if (!jinja_is_integer(value)) jinja_fail(j, "slice indices must be integers or None, not %s", jinja_type_name(value));
    int64_t index = jinja_as_integer(value);
    if (index < 0) index += count;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    return index < low ? low : index > high ? high : index;
}

struct jinja_value jinja_slice(struct jinja *j, struct jinja_value object, struct jinja_value first, struct jinja_value second,
                               struct jinja_value third) {
    if (jinja_is_undefined(object)) jinja_fail_undefined(j, object);
    bool is_text = jinja_is_string(object), is_view = object.type == JINJA_VIEW && strcmp(object.view->label, "range") == 0;
    if (object.type == JINJA_DICT) jinja_fail(j, "a dict has no slices");
    if (!is_text && !is_view && object.type != JINJA_LIST && object.type != JINJA_TUPLE)
        jinja_fail(j, "'%s' object is not subscriptable", jinja_type_name(object));
    if (!jinja_is_none(third) && !jinja_is_integer(third)) jinja_fail(j, "slice step must be an integer or None");
    int64_t step = jinja_is_none(third) ? 1 : jinja_as_integer(third);
    if (step == 0) jinja_fail(j, "slice step cannot be zero");
    if (step < -INT64_MAX) step = -INT64_MAX;
    int64_t count = (int64_t)jinja_length(j, object);
    int64_t start = slice_bound(j, first, count, step, step < 0 ? count - 1 : 0);
    int64_t stop = slice_bound(j, second, count, step, step < 0 ? -1 : count);
    if (is_text && step == 1) {
        size_t from = jinja_character_offset(*object.string, (size_t)start);
        size_t to = stop > start ? jinja_character_offset(*object.string, (size_t)stop) : from;
        jinja_charge(j, to);
        return jinja_string(j, oct_subspan(*object.string, from, to));
    }
    const struct jinja_list *list = jinja_iterate(j, object);
    struct jinja_value result = jinja_new_list(j, object.type == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST, 0);
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        jinja_charge(j, 0);
        jinja_append(j, result.list, list->items[i]);
        if (step > 0 ? step > count - i : -step > i + 1) break; // the next step leaves the list, and could overflow
    }
    if (!is_text) return result;
    struct jinja_text text = {0};
    for (size_t i = 0; i < result.list->count; i++) jinja_text_add(j, &text, *result.list->items[i].string);
    return jinja_text_value(j, &text);
}
