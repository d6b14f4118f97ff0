// Methods of strings, dicts, lists and loops. Those that change their object are known, and refused.
#include "text/jinja_value.h"

#include "text/unicode.h"

#include <utf8proc.h>

#define CALL(name) static struct jinja_value name(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments)

static struct jinja_value strip(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool left, bool right) {
    struct jinja_value characters = jinja_argument_or(arguments, 0, "chars", jinja_none());
    jinja_charge(j, self.string->length);
    if (jinja_is_none(characters)) return jinja_string(j, jinja_strip(*self.string, NULL, left, right));
    struct oct_span set = jinja_required_string(j, arguments, 0, "chars");
    return jinja_string(j, jinja_strip_set(j, *self.string, set, left, right));
}
CALL(string_strip) {
    return strip(j, self, arguments, true, true);
}
CALL(string_lstrip) {
    return strip(j, self, arguments, true, false);
}
CALL(string_rstrip) {
    return strip(j, self, arguments, false, true);
}

static size_t find_last(struct jinja *j, struct oct_span text, struct oct_span part) {
    size_t work = 0, at = jinja_find_last(text, part, text.length, &work);
    jinja_charge(j, work);
    return at;
}

static void split_at_space(struct jinja *j, struct oct_span text, int64_t limit, bool from_right, struct jinja_list *out) {
    while (true) {
        text = jinja_strip(text, NULL, !from_right, from_right);
        if (!text.length) return;
        if (limit-- == 0) break;
        uint32_t code;
        size_t start = 0, end = text.length;
        while (!from_right && start < text.length) {
            size_t n = oct_utf8_next(text.text + start, &code);
            if (jinja_is_space(code)) break;
            start += n;
        }
        while (from_right && end > 0) {
            size_t before = oct_utf8_before(text.text, end);
            oct_utf8_next(text.text + before, &code);
            if (jinja_is_space(code)) break;
            end = before;
        }
        jinja_charge(j, 0);
        jinja_append(j, out, jinja_string(j, from_right ? oct_subspan(text, end, text.length) : oct_subspan(text, 0, start)));
        text = from_right ? oct_subspan(text, 0, end) : oct_subspan(text, start, text.length);
    }
    jinja_append(j, out, jinja_string(j, jinja_strip(text, NULL, true, true)));
}

static void split_at(struct jinja *j, struct oct_span text, struct oct_span separator, int64_t limit, bool from_right,
                     struct jinja_list *out) {
    if (!separator.length) jinja_fail(j, "empty separator");
    while (limit-- != 0) {
        size_t at = from_right ? find_last(j, text, separator) : jinja_find(text, separator, 0);
        if (at == SIZE_MAX) break;
        jinja_charge(j, 0);
        struct oct_span before = oct_subspan(text, 0, at), after = oct_subspan(text, at + separator.length, text.length);
        jinja_append(j, out, jinja_string(j, from_right ? after : before));
        text = from_right ? before : after;
    }
    jinja_append(j, out, jinja_string(j, text));
}

static void reverse(struct jinja_list *list) {
    for (size_t i = 0; i < list->count / 2; i++) {
        struct jinja_value other = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = other;
    }
}

static struct jinja_value split(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool from_right) {
    struct jinja_value out = jinja_new_list(j, JINJA_LIST, 0);
    struct jinja_value separator = jinja_argument_or(arguments, 0, "sep", jinja_none());
    int64_t limit = jinja_integer_or(j, arguments, 1, "maxsplit", -1);
    if (limit < 0) limit = -1; // all
    jinja_charge(j, self.string->length);
    if (jinja_is_none(separator)) {
        split_at_space(j, *self.string, limit, from_right, out.list);
    } else {
        split_at(j, *self.string, jinja_required_string(j, arguments, 0, "sep"), limit, from_right, out.list);
    }
    if (from_right) reverse(out.list);
    return out;
}
CALL(string_split) {
    return split(j, self, arguments, false);
}
CALL(string_rsplit) {
    return split(j, self, arguments, true);
}

CALL(string_splitlines) {
    struct jinja_value out = jinja_new_list(j, JINJA_LIST, 0);
    struct oct_span text = *self.string;
    bool keep = jinja_truth(jinja_argument_or(arguments, 0, "keepends", jinja_bool(false)));
    size_t start = 0;
    for (size_t i = 0, n; i < text.length; i += n) {
        uint32_t code;
        n = oct_utf8_next(text.text + i, &code);
        if (!((code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 || code == 0x2029))
            continue;
        size_t end = i + n;
        if (code == '\r' && end < text.length && text.text[end] == '\n') end++;
        jinja_append(j, out.list, jinja_string(j, oct_subspan(text, start, keep ? end : i)));
        n = end - i;
        start = end;
    }
    if (start < text.length) jinja_append(j, out.list, jinja_string(j, oct_subspan(text, start, text.length)));
    return out;
}

static bool has_affix(struct oct_span text, struct oct_span affix, bool at_end) {
    return affix.length <= text.length && memcmp(text.text + (at_end ? text.length - affix.length : 0), affix.text, affix.length) == 0;
}

static struct jinja_value check_affix(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool at_end) {
    struct jinja_value affix = jinja_required(j, arguments, 0, "prefix");
    struct oct_span text = *self.string;
    int64_t from = jinja_integer_or(j, arguments, 1, "start", 0);
    if (from < 0) from += (int64_t)jinja_length(j, self);
    if (from > 0) text = oct_subspan(text, jinja_character_offset(text, (size_t)from), text.length);
    if (affix.type != JINJA_TUPLE) return jinja_bool(has_affix(text, jinja_required_string(j, arguments, 0, "prefix"), at_end));
    for (size_t i = 0; i < affix.list->count; i++) {
        if (!jinja_is_string(affix.list->items[i])) jinja_fail(j, "a tuple of str expected");
        if (has_affix(text, *affix.list->items[i].string, at_end)) return jinja_bool(true);
    }
    return jinja_bool(false);
}
CALL(string_startswith) {
    return check_affix(j, self, arguments, false);
}
CALL(string_endswith) {
    return check_affix(j, self, arguments, true);
}
CALL(string_removeprefix) {
    struct oct_span affix = jinja_required_string(j, arguments, 0, "prefix"), text = *self.string;
    return has_affix(text, affix, false) ? jinja_string(j, oct_subspan(text, affix.length, text.length)) : self;
}
CALL(string_removesuffix) {
    struct oct_span affix = jinja_required_string(j, arguments, 0, "suffix"), text = *self.string;
    return has_affix(text, affix, true) ? jinja_string(j, oct_subspan(text, 0, text.length - affix.length)) : self;
}

#define CASE_METHOD(name, how)                                                                                                             \
    CALL(name) {                                                                                                                           \
        (void)arguments;                                                                                                                   \
        return jinja_change_case(j, *self.string, how);                                                                                    \
    }
CASE_METHOD(string_upper, JINJA_UPPER)
CASE_METHOD(string_lower, JINJA_LOWER)
CASE_METHOD(string_title, JINJA_TITLE)
CASE_METHOD(string_capitalize, JINJA_CAPITALIZE)
CASE_METHOD(string_swapcase, JINJA_SWAP)

CALL(string_replace) {
    struct oct_span old = jinja_required_string(j, arguments, 0, "old"), new = jinja_required_string(j, arguments, 1, "new");
    return jinja_replace(j, *self.string, old, new, jinja_integer_or(j, arguments, 2, "count", -1));
}

CALL(string_join) {
    struct jinja_text out = {0};
    const struct jinja_list *list = jinja_iterate(j, jinja_required(j, arguments, 0, "iterable"));
    for (size_t i = 0; i < list->count; i++) {
        if (!jinja_is_string(list->items[i]))
            jinja_fail(j, "sequence item %zu: expected str instance, %s found", i, jinja_type_name(list->items[i]));
        if (i) jinja_text_add(j, &out, *self.string);
        jinja_text_add(j, &out, *list->items[i].string);
    }
    return jinja_text_value(j, &out);
}

// The character index of a part, -1 where it is not there.
static int64_t find(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool last) {
    struct oct_span part = jinja_required_string(j, arguments, 0, "sub"), text = *self.string;
    int64_t from = jinja_integer_or(j, arguments, 1, "start", 0);
    jinja_charge(j, text.length);
    if (from < 0) from += (int64_t)jinja_count_characters(text);
    size_t offset = from > 0 ? jinja_character_offset(text, (size_t)from) : 0;
    size_t at = last ? find_last(j, text, part) : jinja_find(text, part, offset);
    if (at == SIZE_MAX || at < offset) return -1;
    return (int64_t)jinja_count_characters(oct_subspan(text, 0, at));
}
CALL(string_find) {
    return jinja_int(find(j, self, arguments, false));
}
CALL(string_rfind) {
    return jinja_int(find(j, self, arguments, true));
}
CALL(string_index) {
    int64_t at = find(j, self, arguments, false);
    if (at < 0) jinja_fail(j, "substring not found");
    return jinja_int(at);
}
CALL(string_rindex) {
    int64_t at = find(j, self, arguments, true);
    if (at < 0) jinja_fail(j, "substring not found");
    return jinja_int(at);
}
CALL(string_count) {
    struct oct_span part = jinja_required_string(j, arguments, 0, "sub"), text = *self.string;
    jinja_charge(j, text.length);
    if (!part.length) return jinja_int((int64_t)jinja_count_characters(text) + 1);
    int64_t count = 0;
    for (size_t at = 0; (at = jinja_find(text, part, at)) != SIZE_MAX; at += part.length) count++;
    return jinja_int(count);
}

static struct jinja_value partition(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool last) {
    struct oct_span part = jinja_required_string(j, arguments, 0, "sep"), text = *self.string;
    struct jinja_value out = jinja_new_list(j, JINJA_TUPLE, 3);
    if (!part.length) jinja_fail(j, "empty separator");
    jinja_charge(j, text.length);
    size_t at = last ? find_last(j, text, part) : jinja_find(text, part, 0);
    bool found = at != SIZE_MAX;
    struct jinja_value empty = jinja_string_of(j, "");
    jinja_append(j, out.list, found ? jinja_string(j, oct_subspan(text, 0, at)) : last ? empty : self);
    jinja_append(j, out.list, found ? jinja_string(j, part) : empty);
    jinja_append(j, out.list, found ? jinja_string(j, oct_subspan(text, at + part.length, text.length)) : last ? self : empty);
    return out;
}
CALL(string_partition) {
    return partition(j, self, arguments, false);
}
CALL(string_rpartition) {
    return partition(j, self, arguments, true);
}

static struct jinja_value pad(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool left, bool right) {
    int64_t width = jinja_integer_or(j, arguments, 0, "width", 0), count = (int64_t)jinja_length(j, self);
    struct oct_span fill = {.text = " ", .length = 1};
    if (jinja_argument(arguments, 1, "fillchar")) fill = jinja_required_string(j, arguments, 1, "fillchar");
    if (jinja_count_characters(fill) != 1) jinja_fail(j, "the fill character must be exactly one character long");
    if (width > JINJA_MAX_STEPS) jinja_fail(j, "a width of %lld is too large", (long long)width);
    int64_t room = width > count ? width - count : 0;
    int64_t before = left && right ? room / 2 + (room & width & 1) : left ? room : 0; // str.center puts the odd one where CPython does
    struct jinja_text out = {0};
    for (int64_t i = 0; i < before; i++) jinja_text_add(j, &out, fill);
    jinja_text_add(j, &out, *self.string);
    for (int64_t i = before; i < room; i++) jinja_text_add(j, &out, fill);
    return jinja_text_value(j, &out);
}
CALL(string_center) {
    return pad(j, self, arguments, true, true);
}
CALL(string_ljust) {
    return pad(j, self, arguments, false, true);
}
CALL(string_rjust) {
    return pad(j, self, arguments, true, false);
}
CALL(string_zfill) {
    int64_t width = jinja_integer_or(j, arguments, 0, "width", 0), count = (int64_t)jinja_length(j, self);
    struct oct_span text = *self.string;
    if (width > JINJA_MAX_STEPS) jinja_fail(j, "a width of %lld is too large", (long long)width);
    size_t sign = text.length && (text.text[0] == '-' || text.text[0] == '+');
    struct jinja_text out = {0};
    jinja_text_add(j, &out, oct_subspan(text, 0, sign));
    if (width > count) jinja_text_fill(j, &out, '0', (size_t)(width - count));
    jinja_text_add(j, &out, oct_subspan(text, sign, text.length));
    return jinja_text_value(j, &out);
}

CALL(string_format) {
    return jinja_format_braces(j, *self.string, arguments);
}

// Whether there are characters, and all have one of `classes`.
static struct jinja_value all_have(struct jinja *j, struct jinja_value self, unsigned classes) {
    uint32_t code;
    jinja_charge(j, self.string->length);
    for (size_t i = 0; i < self.string->length;) {
        i += oct_utf8_next(self.string->text + i, &code);
        if (!(oct_classes()[code] & classes)) return jinja_bool(false);
    }
    return jinja_bool(self.string->length > 0);
}
CALL(string_isdigit) {
    (void)arguments;
    return all_have(j, self, OCT_NUMBER);
}
CALL(string_isalpha) {
    (void)arguments;
    return all_have(j, self, OCT_LETTER);
}
CALL(string_isalnum) {
    (void)arguments;
    return all_have(j, self, OCT_LETTER | OCT_NUMBER);
}
CALL(string_isascii) {
    (void)arguments;
    jinja_charge(j, self.string->length);
    for (size_t i = 0; i < self.string->length; i++) {
        if ((unsigned char)self.string->text[i] >= 0x80) return jinja_bool(false);
    }
    return jinja_bool(true);
}
CALL(string_isspace) {
    (void)arguments;
    return all_have(j, self, OCT_SPACE);
}
CALL(string_isupper) {
    return jinja_bool(jinja_find_test((struct oct_span){.text = "upper", .length = 5})(j, self, arguments));
}
CALL(string_islower) {
    return jinja_bool(jinja_find_test((struct oct_span){.text = "lower", .length = 5})(j, self, arguments));
}

static struct jinja_value dict_parts(struct jinja *j, const struct jinja_dict *dict, const char *label, bool keys, bool values) {
    struct jinja_value list = jinja_new_list(j, JINJA_LIST, dict->count);
    jinja_charge(j, 16 * dict->count);
    for (size_t i = 0; i < dict->count; i++) {
        struct jinja_value item = keys ? dict->pairs[i].key : dict->pairs[i].value;
        if (keys && values) {
            item = jinja_new_list(j, JINJA_TUPLE, 2);
            jinja_append(j, item.list, dict->pairs[i].key);
            jinja_append(j, item.list, dict->pairs[i].value);
        }
        jinja_append(j, list.list, item);
    }
    return jinja_new_view(j, label, list.list);
}
CALL(dict_items) {
    (void)arguments;
    return dict_parts(j, self.dict, "dict_items", true, true);
}
CALL(dict_keys) {
    (void)arguments;
    return dict_parts(j, self.dict, "dict_keys", true, false);
}
CALL(dict_values) {
    (void)arguments;
    return dict_parts(j, self.dict, "dict_values", false, true);
}
CALL(dict_get) {
    const struct jinja_value *value = jinja_get(j, self.dict, jinja_required(j, arguments, 0, "key"));
    return value ? *value : jinja_argument_or(arguments, 1, "default", jinja_none());
}
CALL(dict_copy) {
    (void)arguments;
    struct jinja_value copy = jinja_new_dict(j);
    for (size_t i = 0; i < self.dict->count; i++) jinja_set(j, copy.dict, self.dict->pairs[i].key, self.dict->pairs[i].value);
    return copy;
}

CALL(dict_fromkeys) {
    struct jinja_value value = jinja_argument_or(arguments, 1, "value", jinja_none()), out = jinja_new_dict(j);
    const struct jinja_list *keys = jinja_iterate(j, jinja_required(j, arguments, 0, "iterable"));
    (void)self;
    for (size_t i = 0; i < keys->count; i++) jinja_set(j, out.dict, keys->items[i], value);
    return out;
}

CALL(list_count) {
    struct jinja_value wanted = jinja_required(j, arguments, 0, "value");
    int64_t count = 0;
    for (size_t i = 0; i < self.list->count; i++) count += jinja_equal(j, self.list->items[i], wanted);
    return jinja_int(count);
}
CALL(list_index) {
    struct jinja_value wanted = jinja_required(j, arguments, 0, "value");
    for (size_t i = 0; i < self.list->count; i++) {
        if (jinja_equal(j, self.list->items[i], wanted)) return jinja_int((int64_t)i);
    }
    jinja_fail(j, "the value is not in the list");
}
CALL(list_copy) {
    (void)arguments;
    struct jinja_value copy = jinja_new_list(j, self.type, self.list->count);
    jinja_charge(j, 16 * self.list->count);
    for (size_t i = 0; i < self.list->count; i++) jinja_append(j, copy.list, self.list->items[i]);
    return copy;
}

CALL(loop_cycle) {
    if (!arguments->count) jinja_fail(j, "no items for cycling given");
    return arguments->positional[self.loop->index0 % arguments->count];
}
CALL(loop_changed) {
    struct jinja_value now = jinja_new_list(j, JINJA_TUPLE, arguments->count);
    for (size_t i = 0; i < arguments->count; i++) jinja_append(j, now.list, arguments->positional[i]);
    bool changed = !self.loop->has_changed || !jinja_equal(j, self.loop->changed, now);
    self.loop->changed = now;
    self.loop->has_changed = true;
    return jinja_bool(changed);
}

CALL(cycler_next) {
    (void)j, (void)arguments;
    struct jinja_value item = self.cycler->list->items[self.cycler->at];
    self.cycler->at = (self.cycler->at + 1) % self.cycler->list->count;
    return item;
}
CALL(cycler_reset) {
    (void)j, (void)arguments;
    self.cycler->at = 0;
    return jinja_none();
}

struct method {
    const char *name;
    jinja_call call; // NULL: it would change the object
};

static const struct method string_methods[] = {
    {"strip", string_strip},
    {"lstrip", string_lstrip},
    {"rstrip", string_rstrip},
    {"split", string_split},
    {"rsplit", string_rsplit},
    {"splitlines", string_splitlines},
    {"startswith", string_startswith},
    {"endswith", string_endswith},
    {"removeprefix", string_removeprefix},
    {"removesuffix", string_removesuffix},
    {"upper", string_upper},
    {"lower", string_lower},
    {"casefold", string_lower},
    {"title", string_title},
    {"capitalize", string_capitalize},
    {"swapcase", string_swapcase},
    {"replace", string_replace},
    {"join", string_join},
    {"find", string_find},
    {"rfind", string_rfind},
    {"index", string_index},
    {"rindex", string_rindex},
    {"count", string_count},
    {"partition", string_partition},
    {"rpartition", string_rpartition},
    {"center", string_center},
    {"ljust", string_ljust},
    {"rjust", string_rjust},
    {"zfill", string_zfill},
    {"format", string_format},
    {"isdigit", string_isdigit},
    {"isnumeric", string_isdigit},
    {"isdecimal", string_isdigit},
    {"isalpha", string_isalpha},
    {"isalnum", string_isalnum},
    {"isspace", string_isspace},
    {"isascii", string_isascii},
    {"isupper", string_isupper},
    {"islower", string_islower},
    {0},
};
static const struct method dict_methods[] = {
    {"items", dict_items}, {"keys", dict_keys},         {"values", dict_values}, {"get", dict_get},
    {"copy", dict_copy},   {"fromkeys", dict_fromkeys}, {"pop", NULL},           {"popitem", NULL},
    {"update", NULL},      {"setdefault", NULL},        {"clear", NULL},         {0},
};
static const struct method list_methods[] = {
    {"count", list_count}, {"index", list_index}, {"copy", list_copy}, {"append", NULL}, {"extend", NULL}, {"insert", NULL},
    {"pop", NULL},         {"remove", NULL},      {"reverse", NULL},   {"sort", NULL},   {"clear", NULL},  {0},
};
static const struct method tuple_methods[] = {{"count", list_count}, {"index", list_index}, {0}};
static const struct method dict_type_methods[] = {{"fromkeys", dict_fromkeys}, {0}}; // of the built-in name `dict`
static const struct method loop_methods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}, {0}};
static const struct method cycler_methods[] = {{"next", cycler_next}, {"reset", cycler_reset}, {0}};

jinja_call jinja_find_method(struct jinja_value object, struct oct_span name, bool *unsafe) {
    const struct method *method = NULL;
    switch (object.type) {
    case JINJA_STRING:
        method = string_methods;
        break;
    case JINJA_DICT:
        method = dict_methods;
        break;
    case JINJA_LIST:
        method = list_methods;
        break;
    case JINJA_TUPLE:
        method = tuple_methods;
        break;
    case JINJA_LOOP:
        method = loop_methods;
        break;
    case JINJA_CYCLER:
        method = cycler_methods;
        break;
    case JINJA_FUNCTION:
        if (object.function->call != jinja_find_global((struct oct_span){.text = "dict", .length = 4})) return NULL;
        method = dict_type_methods;
        break;
    default:
        return NULL;
    }
    for (; method->name; method++) {
        if (!jinja_span_is(name, method->name)) continue;
        *unsafe = !method->call;
        return method->call;
    }
    return NULL;
}
