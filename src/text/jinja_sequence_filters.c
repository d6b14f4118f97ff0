// Filters on sequences.
#include "text/jinja_filter.h"

#include "text/unicode.h"

#include <stdlib.h>

// What stands at a dotted path inside `item`: attribute='a.b.0'. An integer is one step.
static struct jinja_value follow(struct jinja *j, struct jinja_value item, struct jinja_value path) {
    if (!jinja_is_string(path)) return jinja_item(j, item, path);
    struct oct_span rest = *path.string;
    while (true) {
        size_t dot = jinja_find(rest, (struct oct_span){.text = ".", .length = 1}, 0);
        struct oct_span part = oct_subspan(rest, 0, dot == SIZE_MAX ? rest.length : dot);
        bool number = part.length > 0 && part.length < 10;
        for (size_t i = 0; i < part.length; i++) number = number && part.text[i] >= '0' && part.text[i] <= '9';
        item = jinja_item(j, item, number ? jinja_int(atoi(part.text)) : jinja_string(j, part));
        if (dot == SIZE_MAX) return item;
        rest = oct_subspan(rest, dot + 1, rest.length);
    }
}

// What map, select and their like go over: a false value counts as nothing, even one that is not iterable.
static const struct jinja_list *iterate_true(struct jinja *j, struct jinja_value value) {
    return jinja_iterate(j, jinja_truth(value) ? value : jinja_undefined());
}

static struct jinja_value fold_case(struct jinja *j, struct jinja_value value, bool case_sensitive) {
    if (case_sensitive || !jinja_is_string(value)) return value;
    return jinja_change_case(j, *value.string, JINJA_LOWER);
}

FILTER(filter_length) {
    (void)arguments;
    return jinja_int((int64_t)jinja_length(j, self));
}

FILTER(filter_list) {
    (void)arguments;
    const struct jinja_list *list = jinja_iterate(j, self);
    struct jinja_value copy = jinja_new_list(j, JINJA_LIST, list->count);
    jinja_charge(j, 16 * list->count);
    for (size_t i = 0; i < list->count; i++) jinja_append(j, copy.list, list->items[i]);
    return copy;
}

FILTER(filter_first) {
    (void)arguments;
    const struct jinja_list *list = jinja_iterate(j, self);
    return list->count ? list->items[0] : jinja_undefined();
}

FILTER(filter_last) {
    (void)arguments;
    if (self.type == JINJA_ITERATOR) jinja_fail(j, "'generator' object is not reversible");
    const struct jinja_list *list = jinja_iterate(j, self);
    return list->count ? list->items[list->count - 1] : jinja_undefined();
}

FILTER(filter_reverse) {
    (void)arguments;
    struct jinja_value copy = jinja_new_list(j, JINJA_LIST, 0);
    const struct jinja_list *list = jinja_iterate(j, self);
    for (size_t i = list->count; i-- > 0;) jinja_append(j, copy.list, list->items[i]);
    if (!jinja_is_string(self)) return jinja_new_iterator(j, copy.list);
    struct jinja_text out = {0};
    for (size_t i = 0; i < copy.list->count; i++) jinja_text_add(j, &out, *copy.list->items[i].string);
    return jinja_text_value(j, &out);
}

FILTER(filter_items) {
    (void)arguments;
    struct jinja_value pairs = jinja_new_list(j, JINJA_LIST, 0);
    if (jinja_is_undefined(self)) return jinja_new_iterator(j, pairs.list);
    if (self.type != JINJA_DICT) jinja_fail(j, "items: a mapping expected, %s found", jinja_type_name(self));
    for (size_t i = 0; i < self.dict->count; i++) {
        struct jinja_value pair = jinja_new_list(j, JINJA_TUPLE, 2);
        jinja_append(j, pair.list, self.dict->pairs[i].key);
        jinja_append(j, pair.list, self.dict->pairs[i].value);
        jinja_append(j, pairs.list, pair);
    }
    return jinja_new_iterator(j, pairs.list);
}

FILTER(filter_join) {
    struct jinja_value separator = jinja_to_string(j, jinja_argument_or(arguments, 0, "d", jinja_string_of(j, "")));
    struct jinja_value attribute = jinja_argument_or(arguments, 1, "attribute", jinja_none());
    const struct jinja_list *list = jinja_iterate(j, self);
    struct jinja_text out = {0};
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_text_add(j, &out, *separator.string);
        jinja_print(j, &out, jinja_is_none(attribute) ? list->items[i] : follow(j, list->items[i], attribute));
    }
    return jinja_text_value(j, &out);
}

// What a filter or test named inside map, select and their like is called with: the arguments from `skip` on.
static struct jinja_arguments rest_of(const struct jinja_arguments *arguments, size_t skip) {
    struct jinja_arguments rest = *arguments;
    size_t skipped = skip < rest.count ? skip : rest.count;
    if (skipped) rest.positional += skipped;
    rest.count -= skipped;
    return rest;
}

FILTER(filter_map) {
    struct jinja_value out = jinja_new_list(j, JINJA_LIST, 0);
    const struct jinja_list *list = iterate_true(j, self);
    const struct jinja_value *attribute = arguments->count ? NULL : jinja_argument(arguments, 0, "attribute");
    const struct jinja_value *otherwise = jinja_argument(arguments, SIZE_MAX, "default");
    if (attribute) {
        for (size_t i = 0; i < list->count; i++) {
            struct jinja_value value = follow(j, list->items[i], *attribute);
            jinja_append(j, out.list, jinja_is_undefined(value) && otherwise ? *otherwise : value);
        }
        return jinja_new_iterator(j, out.list);
    }
    struct oct_span name = jinja_required_string(j, arguments, 0, "filter");
    jinja_call call = jinja_find_filter(name);
    if (!call) jinja_fail(j, "no filter named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
    struct jinja_arguments rest = rest_of(arguments, 1);
    jinja_enter(j);
    for (size_t i = 0; i < list->count; i++) jinja_append(j, out.list, call(j, list->items[i], &rest));
    jinja_leave(j);
    return jinja_new_iterator(j, out.list);
}

// select, reject, selectattr and rejectattr.
static struct jinja_value choose(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, bool wanted,
                                 bool by_attribute) {
    struct jinja_value out = jinja_new_list(j, JINJA_LIST, 0), attribute = jinja_none();
    const struct jinja_list *list = iterate_true(j, self);
    struct jinja_arguments rest = rest_of(arguments, by_attribute);
    jinja_test test = NULL;
    if (by_attribute) attribute = jinja_required(j, arguments, 0, "attr");
    if (rest.count) {
        struct oct_span name = jinja_required_string(j, &rest, 0, "test");
        test = jinja_find_test(name);
        if (!test) jinja_fail(j, "no test named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
        rest = rest_of(&rest, 1);
    }
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value value = by_attribute ? follow(j, list->items[i], attribute) : list->items[i];
        jinja_charge(j, 0);
        if ((test ? test(j, value, &rest) : jinja_truth(value)) == wanted) jinja_append(j, out.list, list->items[i]);
    }
    return jinja_new_iterator(j, out.list);
}
FILTER(filter_select) {
    return choose(j, self, arguments, true, false);
}
FILTER(filter_reject) {
    return choose(j, self, arguments, false, false);
}
FILTER(filter_selectattr) {
    return choose(j, self, arguments, true, true);
}
FILTER(filter_rejectattr) {
    return choose(j, self, arguments, false, true);
}

// A list and the keys that order it, sorted by merging: stable, and an odd pair fails where it is met.
struct sort {
    struct jinja_value *keys, *items, *other_keys, *other_items; // (count)
    bool reverse;
};

static void sort_range(struct jinja *j, struct sort *sort, size_t start, size_t end) {
    if (end - start < 2) return;
    size_t middle = start + (end - start) / 2, left = start, right = middle;
    sort_range(j, sort, start, middle);
    sort_range(j, sort, middle, end);
    for (size_t i = start; i < end; i++) {
        bool take_right = left == middle;
        if (left < middle && right < end) {
            int order = jinja_compare(j, sort->keys[right], sort->keys[left], "<");
            take_right = sort->reverse ? order > 0 : order < 0;
        }
        size_t from = take_right ? right++ : left++;
        sort->other_keys[i] = sort->keys[from];
        sort->other_items[i] = sort->items[from];
    }
    memcpy(sort->keys + start, sort->other_keys + start, (end - start) * sizeof *sort->keys);
    memcpy(sort->items + start, sort->other_items + start, (end - start) * sizeof *sort->items);
}

// A new list of the items in order of `keys`, which is used up.
static struct jinja_value sorted(struct jinja *j, const struct jinja_list *items, struct jinja_value *keys, bool reverse) {
    struct jinja_value out = jinja_new_list(j, JINJA_LIST, items->count);
    for (size_t i = 0; i < items->count; i++) jinja_append(j, out.list, items->items[i]);
    if (!items->count) return out;
    struct sort sort = {keys, out.list->items, jinja_alloc(j, items->count, sizeof *keys), jinja_alloc(j, items->count, sizeof *keys),
                        reverse};
    sort_range(j, &sort, 0, items->count);
    return out;
}

// The key of an item for min, max and unique: itself, or what stands at the path `attribute`.
static struct jinja_value order_key(struct jinja *j, struct jinja_value item, struct jinja_value attribute, bool case_sensitive) {
    return fold_case(j, jinja_is_none(attribute) ? item : follow(j, item, attribute), case_sensitive);
}

// The key for sort, where `attribute` may be several paths with commas: then it is a tuple, whose equal parts are passed over.
static struct jinja_value sort_key(struct jinja *j, struct jinja_value item, struct jinja_value attribute, bool case_sensitive) {
    if (jinja_is_none(attribute)) return fold_case(j, item, case_sensitive);
    struct jinja_value key = jinja_new_list(j, JINJA_TUPLE, 1);
    struct oct_span rest = jinja_is_string(attribute) ? *attribute.string : (struct oct_span){.text = ""};
    size_t comma;
    while ((comma = jinja_find(rest, (struct oct_span){.text = ",", .length = 1}, 0)) != SIZE_MAX) {
        jinja_append(j, key.list, order_key(j, item, jinja_string(j, oct_subspan(rest, 0, comma)), case_sensitive));
        rest = oct_subspan(rest, comma + 1, rest.length);
    }
    jinja_append(j, key.list, order_key(j, item, jinja_is_string(attribute) ? jinja_string(j, rest) : attribute, case_sensitive));
    return key;
}

FILTER(filter_sort) {
    bool reverse = jinja_truth(jinja_argument_or(arguments, 0, "reverse", jinja_bool(false)));
    bool case_sensitive = jinja_truth(jinja_argument_or(arguments, 1, "case_sensitive", jinja_bool(false)));
    struct jinja_value attribute = jinja_argument_or(arguments, 2, "attribute", jinja_none());
    const struct jinja_list *list = jinja_iterate(j, self);
    struct jinja_value *keys = jinja_alloc(j, list->count + 1, sizeof *keys);
    for (size_t i = 0; i < list->count; i++) keys[i] = sort_key(j, list->items[i], attribute, case_sensitive);
    return sorted(j, list, keys, reverse);
}

FILTER(filter_dictsort) {
    bool case_sensitive = jinja_truth(jinja_argument_or(arguments, 0, "case_sensitive", jinja_bool(false)));
    struct jinja_value by = jinja_argument_or(arguments, 1, "by", jinja_string_of(j, "key"));
    bool reverse = jinja_truth(jinja_argument_or(arguments, 2, "reverse", jinja_bool(false)));
    if (self.type != JINJA_DICT) jinja_fail(j, "dictsort: a mapping expected, %s found", jinja_type_name(self));
    bool by_value = jinja_is_string(by) && jinja_span_is(*by.string, "value");
    if (!by_value && !(jinja_is_string(by) && jinja_span_is(*by.string, "key"))) jinja_fail(j, "dictsort: by 'key' or 'value' expected");
    const struct jinja_list *pairs = filter_items(j, self, &(struct jinja_arguments){0}).iterator->list;
    struct jinja_value *keys = jinja_alloc(j, pairs->count + 1, sizeof *keys);
    for (size_t i = 0; i < pairs->count; i++) keys[i] = fold_case(j, pairs->items[i].list->items[by_value], case_sensitive);
    return sorted(j, pairs, keys, reverse);
}

static struct jinja_value extreme(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments, int sign) {
    bool case_sensitive = jinja_truth(jinja_argument_or(arguments, 0, "case_sensitive", jinja_bool(false)));
    struct jinja_value attribute = jinja_argument_or(arguments, 1, "attribute", jinja_none()), best = jinja_undefined(), best_key = best;
    const struct jinja_list *list = jinja_iterate(j, self);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key = order_key(j, list->items[i], attribute, case_sensitive);
        if (i && jinja_compare(j, key, best_key, sign < 0 ? "<" : ">") * sign <= 0) continue;
        best = list->items[i], best_key = key;
    }
    return best;
}
FILTER(filter_min) {
    return extreme(j, self, arguments, -1);
}
FILTER(filter_max) {
    return extreme(j, self, arguments, 1);
}

FILTER(filter_sum) {
    struct jinja_value attribute = jinja_argument_or(arguments, 0, "attribute", jinja_none());
    struct jinja_value total = jinja_argument_or(arguments, 1, "start", jinja_int(0));
    const struct jinja_list *list = jinja_iterate(j, self);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value item = jinja_is_none(attribute) ? list->items[i] : follow(j, list->items[i], attribute);
        if (jinja_is_string(total) || jinja_is_string(item)) jinja_fail(j, "sum() can't sum strings");
        total = jinja_add(j, total, item);
    }
    return total;
}

FILTER(filter_unique) {
    bool case_sensitive = jinja_truth(jinja_argument_or(arguments, 0, "case_sensitive", jinja_bool(false)));
    struct jinja_value attribute = jinja_argument_or(arguments, 1, "attribute", jinja_none());
    struct jinja_value seen = jinja_new_dict(j), out = jinja_new_list(j, JINJA_LIST, 0);
    const struct jinja_list *list = jinja_iterate(j, self);
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_value key = order_key(j, list->items[i], attribute, case_sensitive);
        if (jinja_get(j, seen.dict, key)) continue;
        jinja_set(j, seen.dict, key, jinja_none());
        jinja_append(j, out.list, list->items[i]);
    }
    return jinja_new_iterator(j, out.list);
}

// What stands at `path` inside `item`; `otherwise` where that is undefined, unless it is none.
static struct jinja_value follow_or(struct jinja *j, struct jinja_value item, struct jinja_value path, struct jinja_value otherwise) {
    struct jinja_value value = follow(j, item, path);
    return jinja_is_undefined(value) && !jinja_is_none(otherwise) ? otherwise : value;
}

FILTER(filter_groupby) {
    struct jinja_value attribute = jinja_required(j, arguments, 0, "attribute"), out = jinja_new_list(j, JINJA_LIST, 0);
    struct jinja_value otherwise = jinja_argument_or(arguments, 1, "default", jinja_none());
    bool case_sensitive = jinja_truth(jinja_argument_or(arguments, 2, "case_sensitive", jinja_bool(false)));
    const struct jinja_list *list = jinja_iterate(j, self);
    struct jinja_value *keys = jinja_alloc(j, list->count + 1, sizeof *keys);
    for (size_t i = 0; i < list->count; i++) keys[i] = fold_case(j, follow_or(j, list->items[i], attribute, otherwise), case_sensitive);
    const struct jinja_list *ordered = sorted(j, list, keys, false).list;
    struct jinja_list *group = NULL;
    for (size_t i = 0; i < ordered->count; i++) { // keys are in order too
        if (!group || !jinja_equal(j, keys[i], keys[i - 1])) {
            struct jinja_value pair = jinja_new_list(j, JINJA_TUPLE, 2), items = jinja_new_list(j, JINJA_LIST, 0);
            jinja_append(j, pair.list, follow_or(j, ordered->items[i], attribute, otherwise));
            jinja_append(j, pair.list, items);
            jinja_append(j, out.list, pair);
            pair.list->is_group = true;
            group = items.list;
        }
        jinja_append(j, group, ordered->items[i]);
    }
    return out;
}

FILTER(filter_batch) {
    int64_t size = jinja_integer_or(j, arguments, 0, "linecount", 0);
    struct jinja_value fill = jinja_argument_or(arguments, 1, "fill_with", jinja_none()), out = jinja_new_list(j, JINJA_LIST, 0);
    struct jinja_value row = jinja_new_list(j, JINJA_LIST, 0);
    const struct jinja_list *list = jinja_iterate(j, self);
    if (size > JINJA_MAX_STEPS) jinja_fail(j, "batch: a size of %lld is too large", (long long)size);
    for (size_t i = 0; i < list->count; i++) {
        if ((int64_t)row.list->count == size) {
            jinja_append(j, out.list, row);
            row = jinja_new_list(j, JINJA_LIST, 0);
        }
        jinja_append(j, row.list, list->items[i]);
    }
    while (!jinja_is_none(fill) && row.list->count && (int64_t)row.list->count < size) {
        jinja_charge(j, 0);
        jinja_append(j, row.list, fill);
    }
    if (row.list->count) jinja_append(j, out.list, row);
    return jinja_new_iterator(j, out.list);
}

FILTER(filter_slice) {
    int64_t slices = jinja_integer_or(j, arguments, 0, "slices", 0);
    struct jinja_value fill = jinja_argument_or(arguments, 1, "fill_with", jinja_none()), out = jinja_new_list(j, JINJA_LIST, 0);
    const struct jinja_list *list = jinja_iterate(j, self);
    if (slices < 1 || slices > JINJA_MAX_STEPS) jinja_fail(j, "slice: a number of slices from 1 to %d expected", JINJA_MAX_STEPS);
    size_t count = (size_t)slices, each = list->count / count, longer = list->count % count, at = 0;
    for (size_t i = 0; i < count; i++) {
        struct jinja_value row = jinja_new_list(j, JINJA_LIST, 0);
        jinja_charge(j, 0);
        for (size_t k = 0; k < each + (i < longer); k++) jinja_append(j, row.list, list->items[at++]);
        if (!jinja_is_none(fill) && i >= longer) jinja_append(j, row.list, fill);
        jinja_append(j, out.list, row);
    }
    return jinja_new_iterator(j, out.list);
}

static const struct jinja_filter filters[] = {
    {"length", filter_length},
    {"count", filter_length},
    {"list", filter_list},
    {"first", filter_first},
    {"last", filter_last},
    {"reverse", filter_reverse},
    {"items", filter_items},
    {"join", filter_join},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"unique", filter_unique},
    {"groupby", filter_groupby},
    {"batch", filter_batch},
    {"slice", filter_slice},
};

jinja_call jinja_find_sequence_filter(struct oct_span name) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (jinja_span_is(name, filters[i].name)) return filters[i].call;
    }
    return NULL;
}
