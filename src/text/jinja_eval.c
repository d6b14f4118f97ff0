// Walks the tree: expressions give values, statements write text. A scope is a short list of variables with a parent; `if` has none of
// its own, each turn of a `for` and each call of a macro does.
#include "text/jinja_syntax.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <math.h>
#include <stdlib.h>

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_variable_slot {
        int32_t symbol;
        struct jinja_value value;
    } * slots; // (count)
    size_t count, capacity;
};

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; // where it was defined
    bool uses_rest;            // varargs, kwargs or caller may be read
};

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static struct jinja_value evaluate(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node);
static enum flow execute(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node);

static struct jinja_scope *new_scope(struct jinja *j, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_alloc(j, 1, sizeof *scope);
    scope->parent = parent;
    return scope;
}

static void set_variable(struct jinja *j, struct jinja_scope *scope, int32_t symbol, struct jinja_value value) {
    for (size_t i = 0; i < scope->count; i++) {
        if (scope->slots[i].symbol != symbol) continue;
        scope->slots[i].value = value;
        return;
    }
    if (scope->count == scope->capacity) {
        size_t capacity = 2 * scope->capacity + 4;
        struct jinja_variable_slot *slots = jinja_alloc(j, capacity, sizeof *slots);
        if (scope->count) memcpy(slots, scope->slots, scope->count * sizeof *slots);
        scope->slots = slots;
        scope->capacity = capacity;
    }
    scope->slots[scope->count++] = (struct jinja_variable_slot){symbol, value};
}

static void set_named(struct jinja *j, struct jinja_scope *scope, const char *name, struct jinja_value value) {
    int32_t symbol = oct_token_table_find(&j->template->symbols, name, strlen(name));
    if (symbol >= 0) set_variable(j, scope, symbol, value); // a name that the template never reads needs no variable
}

static struct jinja_value variable(struct jinja *j, struct jinja_scope *scope, int32_t symbol) {
    for (; scope; scope = scope->parent) {
        jinja_charge(j, 16 * scope->count);
        for (size_t i = 0; i < scope->count; i++) {
            if (scope->slots[i].symbol == symbol) return scope->slots[i].value;
        }
    }
    size_t length;
    const char *name = oct_token_table_text(&j->template->symbols, symbol, &length);
    struct jinja_value undefined = jinja_string(j, (struct oct_span){.text = name, .length = length});
    undefined.type = JINJA_UNDEFINED;
    return undefined;
}

static _Noreturn void fail_undefined(struct jinja *j, struct jinja_value value) {
    if (!value.string) jinja_fail(j, "a value is undefined");
    jinja_fail(j, "'%.*s' is undefined", (int)(value.string->length < 200 ? value.string->length : 200), value.string->text);
}

static struct jinja_value undefined_named(struct jinja_value name) {
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

static struct jinja_value bind_method(struct jinja *j, struct jinja_value object, struct oct_span name, bool *known) {
    bool unsafe = false;
    jinja_call call = jinja_find_method(object, name, &unsafe);
    *known = call || unsafe;
    if (!call) return undefined_named((struct jinja_value){.type = JINJA_STRING, .string = NULL});
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
    if (jinja_is_undefined(object)) fail_undefined(j, object);
    if (special_attribute(j, object, *name.string, &result)) return result;
    result = bind_method(j, object, *name.string, &known);
    if (known) return result;
    return find_item(j, object, name, &result) ? result : undefined_named(name);
}

struct jinja_value jinja_item(struct jinja *j, struct jinja_value object, struct jinja_value key) {
    struct jinja_value result;
    bool known;
    if (jinja_is_undefined(object)) fail_undefined(j, object);
    if (find_item(j, object, key, &result)) return result;
    if (!jinja_is_string(key)) return jinja_undefined();
    if (special_attribute(j, object, *key.string, &result)) return result;
    result = bind_method(j, object, *key.string, &known);
    return known ? result : undefined_named(key);
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

static struct jinja_value slice(struct jinja *j, struct jinja_value object, struct jinja_value first, struct jinja_value second,
                                struct jinja_value third) {
    if (jinja_is_undefined(object)) fail_undefined(j, object);
    bool is_text = jinja_is_string(object), is_view = object.type == JINJA_VIEW && strcmp(object.view->label, "range") == 0;
    if (!is_text && !is_view && object.type != JINJA_LIST && object.type != JINJA_TUPLE) return jinja_undefined();
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

static _Noreturn void fail_operands(struct jinja *j, const char *operator, struct jinja_value a, struct jinja_value b) {
    if (jinja_is_undefined(a)) fail_undefined(j, a);
    if (jinja_is_undefined(b)) fail_undefined(j, b);
    jinja_fail(j, "unsupported operand type(s) for %s: '%s' and '%s'", operator, jinja_type_name(a), jinja_type_name(b));
}

static _Noreturn void fail_overflow(struct jinja *j) {
    jinja_fail(j, "the result does not fit in 64 bits");
}

struct jinja_value jinja_add(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    if (jinja_is_integer(a) && jinja_is_integer(b)) {
        int64_t sum;
        if (__builtin_add_overflow(jinja_as_integer(a), jinja_as_integer(b), &sum)) fail_overflow(j);
        return jinja_int(sum);
    }
    if (jinja_is_number(a) && jinja_is_number(b)) return jinja_float(jinja_as_real(a) + jinja_as_real(b));
    if (jinja_is_string(a) && jinja_is_string(b)) {
        bool safe = a.safe || b.safe; // Markup escapes what is added to it
        if (safe && !a.safe) a = jinja_escape(j, a);
        if (safe && !b.safe) b = jinja_escape(j, b);
        struct jinja_text text = {0};
        jinja_text_add(j, &text, *a.string);
        jinja_text_add(j, &text, *b.string);
        struct jinja_value sum = jinja_text_value(j, &text);
        sum.safe = safe;
        return sum;
    }
    if (a.type == b.type && (a.type == JINJA_LIST || a.type == JINJA_TUPLE)) {
        struct jinja_value sum = jinja_new_list(j, a.type, a.list->count + b.list->count);
        jinja_charge(j, 8 * (a.list->count + b.list->count));
        for (size_t i = 0; i < a.list->count; i++) jinja_append(j, sum.list, a.list->items[i]);
        for (size_t i = 0; i < b.list->count; i++) jinja_append(j, sum.list, b.list->items[i]);
        return sum;
    }
    fail_operands(j, "+", a, b);
}

static struct jinja_value repeat(struct jinja *j, struct jinja_value value, int64_t times) {
    if (times < 0) times = 0;
    if (jinja_is_string(value)) {
        size_t total;
        struct jinja_text text = {0};
        if (__builtin_mul_overflow((size_t)times, value.string->length, &total) || total > JINJA_MAX_BYTES) {
            jinja_fail(j, "a string repeated %lld times is too long", (long long)times);
        }
        for (int64_t i = 0; i < times && value.string->length; i++) jinja_text_add(j, &text, *value.string);
        struct jinja_value result = jinja_text_value(j, &text);
        result.safe = value.safe;
        return result;
    }
    size_t total;
    if (__builtin_mul_overflow((size_t)times, value.list->count, &total) || total > JINJA_MAX_STEPS) {
        jinja_fail(j, "a list repeated %lld times is too long", (long long)times);
    }
    struct jinja_value result = jinja_new_list(j, value.type, total);
    jinja_charge(j, 64 * total);
    for (size_t i = 0; i < total; i++) jinja_append(j, result.list, value.list->items[i % value.list->count]);
    return result;
}

static bool is_sequence(struct jinja_value value) {
    return jinja_is_string(value) || value.type == JINJA_LIST || value.type == JINJA_TUPLE;
}

static struct jinja_value multiply(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    if (jinja_is_integer(a) && jinja_is_integer(b)) {
        int64_t product;
        if (__builtin_mul_overflow(jinja_as_integer(a), jinja_as_integer(b), &product)) fail_overflow(j);
        return jinja_int(product);
    }
    if (jinja_is_number(a) && jinja_is_number(b)) return jinja_float(jinja_as_real(a) * jinja_as_real(b));
    if (is_sequence(a) && jinja_is_integer(b)) return repeat(j, a, jinja_as_integer(b));
    if (jinja_is_integer(a) && is_sequence(b)) return repeat(j, b, jinja_as_integer(a));
    fail_operands(j, "*", a, b);
}

// /, // and %, which round down as Python's do.
static struct jinja_value divide(struct jinja *j, enum jinja_operator op, struct jinja_value a, struct jinja_value b) {
    if (!jinja_is_number(a) || !jinja_is_number(b)) fail_operands(j, op == OP_DIVIDE ? "/" : op == OP_FLOOR ? "//" : "%", a, b);
    if (jinja_as_real(b) == 0) jinja_fail(j, "division by zero");
    if (op == OP_DIVIDE) return jinja_float(jinja_as_real(a) / jinja_as_real(b));
    if (!jinja_is_integer(a) || !jinja_is_integer(b)) {
        double x = jinja_as_real(a), y = jinja_as_real(b), rest = fmod(x, y);
        if (rest != 0 && (rest < 0) != (y < 0)) rest += y;
        return jinja_float(op == OP_MODULO ? rest : floor((x - rest) / y + 0.5));
    }
    int64_t x = jinja_as_integer(a), y = jinja_as_integer(b);
    if (y == -1) { // INT64_MIN / -1 overflows
        if (op == OP_MODULO) return jinja_int(0);
        if (x == INT64_MIN) fail_overflow(j);
        return jinja_int(-x);
    }
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) quotient--, rest += y;
    return jinja_int(op == OP_MODULO ? rest : quotient);
}

static struct jinja_value power(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    if (!jinja_is_number(a) || !jinja_is_number(b)) fail_operands(j, "**", a, b);
    if (!jinja_is_integer(a) || !jinja_is_integer(b) || jinja_as_integer(b) < 0) {
        double result = pow(jinja_as_real(a), jinja_as_real(b));
        if (!isfinite(result)) jinja_fail(j, "the result of ** is not a finite number");
        return jinja_float(result);
    }
    int64_t result = 1, base = jinja_as_integer(a), exponent = jinja_as_integer(b);
    if (base == 0 || base == 1) return jinja_int(exponent ? base : 1);
    for (int64_t i = 0; i < exponent; i++) {
        if (base == -1 && i >= (exponent & 1)) break; // the rest cancels out
        if (__builtin_mul_overflow(result, base, &result)) fail_overflow(j);
    }
    return jinja_int(result);
}

static struct jinja_value concatenate(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    struct jinja_text text = {0};
    jinja_print(j, &text, a);
    jinja_print(j, &text, b);
    return jinja_text_value(j, &text);
}

static struct jinja_value binary(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value left = evaluate(j, scope, node->left);
    if (node->op == OP_AND) return jinja_truth(left) ? evaluate(j, scope, node->right) : left;
    if (node->op == OP_OR) return jinja_truth(left) ? left : evaluate(j, scope, node->right);
    struct jinja_value right = evaluate(j, scope, node->right);
    j->line = node->line;
    switch (node->op) {
    case OP_ADD:
        return jinja_add(j, left, right);
    case OP_SUBTRACT:
        if (!jinja_is_number(left) || !jinja_is_number(right)) fail_operands(j, "-", left, right);
        if (jinja_is_integer(left) && jinja_is_integer(right)) {
            int64_t difference;
            if (__builtin_sub_overflow(jinja_as_integer(left), jinja_as_integer(right), &difference)) fail_overflow(j);
            return jinja_int(difference);
        }
        return jinja_float(jinja_as_real(left) - jinja_as_real(right));
    case OP_MULTIPLY:
        return multiply(j, left, right);
    case OP_MODULO:
        if (jinja_is_string(left)) return jinja_format_percent(j, *left.string, right);
        return divide(j, node->op, left, right);
    case OP_DIVIDE:
    case OP_FLOOR:
        return divide(j, node->op, left, right);
    case OP_POWER:
        return power(j, left, right);
    default:
        return concatenate(j, left, right);
    }
}

static struct jinja_value unary(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value value = evaluate(j, scope, node->left);
    if (node->op == OP_NOT) return jinja_bool(!jinja_truth(value));
    if (jinja_is_undefined(value)) fail_undefined(j, value);
    if (!jinja_is_number(value))
        jinja_fail(j, "bad operand type for unary %c: '%s'", node->op == OP_PLUS ? '+' : '-', jinja_type_name(value));
    if (value.type == JINJA_FLOAT) return jinja_float(node->op == OP_PLUS ? value.real : -value.real);
    int64_t integer = jinja_as_integer(value);
    if (node->op == OP_PLUS) return jinja_int(integer);
    if (integer == INT64_MIN) fail_overflow(j);
    return jinja_int(-integer);
}

static bool compare_one(struct jinja *j, enum jinja_operator op, struct jinja_value a, struct jinja_value b) {
    if (op == OP_EQUAL) return jinja_equal(j, a, b);
    if (op == OP_UNEQUAL) return !jinja_equal(j, a, b);
    if (op == OP_IN) return jinja_contains(j, b, a);
    if (op == OP_NOT_IN) return !jinja_contains(j, b, a);
    if (jinja_is_undefined(a)) fail_undefined(j, a);
    if (jinja_is_undefined(b)) fail_undefined(j, b);
    static const char *const names[] = {"<", "<=", ">", ">="};
    int order = jinja_compare(j, a, b, names[op - OP_LESS]);
    return op == OP_LESS ? order < 0 : op == OP_LESS_EQUAL ? order <= 0 : op == OP_GREATER ? order > 0 : order >= 0;
}

static struct jinja_value compare(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value left = evaluate(j, scope, node->left);
    for (const struct jinja_node *operand = node->items; operand; operand = operand->next) {
        struct jinja_value right = evaluate(j, scope, operand->left);
        j->line = node->line;
        if (!compare_one(j, operand->op, left, right)) return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static void spread_dict(struct jinja *j, struct jinja_value value, struct jinja_arguments *out) {
    if (value.type != JINJA_DICT) jinja_fail(j, "argument after ** must be a mapping, not %s", jinja_type_name(value));
    struct jinja_argument *named = jinja_alloc(j, out->num_named + value.dict->count + 1, sizeof *named);
    if (out->num_named) memcpy(named, out->named, out->num_named * sizeof *named);
    for (size_t i = 0; i < value.dict->count; i++) {
        if (!jinja_is_string(value.dict->pairs[i].key)) jinja_fail(j, "keywords must be strings");
        named[out->num_named++] = (struct jinja_argument){*value.dict->pairs[i].key.string, value.dict->pairs[i].value};
    }
    out->named = named;
}

static struct jinja_arguments evaluate_arguments(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *nodes) {
    struct jinja_arguments out = {0};
    struct jinja_list positional = {0};
    size_t num_named = 0;
    for (const struct jinja_node *node = nodes; node; node = node->next) num_named += node->kind == NODE_KEYWORD;
    if (num_named) out.named = jinja_alloc(j, num_named, sizeof *out.named);
    for (const struct jinja_node *node = nodes; node; node = node->next) {
        if (node->kind == NODE_KEYWORD) {
            out.named[out.num_named++] = (struct jinja_argument){*node->constant.string, evaluate(j, scope, node->left)};
        } else if (node->kind == NODE_SPREAD) {
            const struct jinja_list *list = jinja_iterate(j, evaluate(j, scope, node->left));
            for (size_t i = 0; i < list->count; i++) jinja_append(j, &positional, list->items[i]);
        } else if (node->kind != NODE_SPREAD_DICT) {
            jinja_append(j, &positional, evaluate(j, scope, node));
        }
    }
    for (const struct jinja_node *node = nodes; node; node = node->next) {
        if (node->kind == NODE_SPREAD_DICT) spread_dict(j, evaluate(j, scope, node->left), &out);
    }
    out.positional = positional.items;
    out.count = positional.count;
    return out;
}

// Runs statements with their output going to *text.
static void capture(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *body, struct jinja_text *text) {
    struct jinja_text *before = j->out;
    j->out = text;
    execute(j, scope, body);
    j->out = before;
}

static struct jinja_value call_macro(struct jinja *j, const struct jinja_macro *macro, const struct jinja_arguments *arguments) {
    struct jinja_scope *scope = new_scope(j, macro->scope);
    size_t used = 0, position = 0;
    bool *taken = jinja_alloc(j, arguments->num_named + 1, sizeof *taken);
    for (const struct jinja_node *parameter = macro->node->items; parameter; parameter = parameter->next, position++) {
        size_t length;
        const char *name = oct_token_table_text(&j->template->symbols, parameter->symbol, &length);
        struct jinja_value value = jinja_undefined();
        bool given = position < arguments->count;
        if (given) value = arguments->positional[position], used++;
        for (size_t i = 0; i < arguments->num_named; i++) {
            const struct jinja_argument *named = &arguments->named[i];
            if (named->name.length != length || memcmp(named->name.text, name, length) != 0) continue;
            if (given) jinja_fail(j, "macro got multiple values for argument '%.*s'", (int)length, name);
            value = named->value, given = taken[i] = true;
        }
        if (!given && parameter->left) value = evaluate(j, scope, parameter->left);
        if (jinja_is_undefined(value) && !given && !parameter->left)
            value = undefined_named(jinja_string(j, (struct oct_span){name, NULL, length}));
        set_variable(j, scope, parameter->symbol, value);
    }
    struct jinja_value rest = jinja_new_list(j, JINJA_TUPLE, 0), named = jinja_new_dict(j);
    for (; used < arguments->count; used++) jinja_append(j, rest.list, arguments->positional[used]);
    for (size_t i = 0; i < arguments->num_named; i++) {
        if (taken[i]) continue;
        if (jinja_span_is(arguments->named[i].name, "caller")) {
            set_named(j, scope, "caller", arguments->named[i].value);
        } else {
            jinja_set(j, named.dict, jinja_string(j, arguments->named[i].name), arguments->named[i].value);
        }
    }
    const struct oct_span *name = macro->node->constant.string;
    if (!macro->uses_rest && (rest.list->count || named.dict->count)) {
        jinja_fail(j, "macro '%.*s' takes not more than %zu argument(s), or got an unknown keyword",
                   (int)(name->length < 80 ? name->length : 80), name->text, position);
    }
    set_named(j, scope, "varargs", rest);
    set_named(j, scope, "kwargs", named);
    struct jinja_text text = {0};
    capture(j, scope, macro->node->body, &text);
    return jinja_text_value(j, &text);
}

static enum flow run_loop(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node, struct jinja_value source,
                          size_t depth0);

struct jinja_value jinja_call_value(struct jinja *j, struct jinja_value callee, const struct jinja_arguments *arguments) {
    struct jinja_value result;
    jinja_enter(j);
    if (callee.type == JINJA_FUNCTION) {
        result = callee.function->call(j, callee.function->self, arguments);
    } else if (callee.type == JINJA_MACRO) {
        result = call_macro(j, callee.macro, arguments);
    } else if (callee.type == JINJA_LOOP && callee.loop->node) {
        struct jinja_text text = {0}, *before = j->out;
        j->out = &text;
        run_loop(j, callee.loop->scope, callee.loop->node, jinja_required(j, arguments, 0, "iterable"), callee.loop->depth0 + 1);
        j->out = before;
        result = jinja_text_value(j, &text);
    } else if (callee.type == JINJA_JOINER) {
        struct jinja_cycler *joiner = callee.cycler;
        result = joiner->at++ ? joiner->list->items[0] : jinja_string_of(j, "");
    } else if (jinja_is_undefined(callee)) {
        fail_undefined(j, callee);
    } else {
        jinja_fail(j, "'%s' object is not callable", jinja_type_name(callee));
    }
    jinja_leave(j);
    return result;
}

static struct jinja_value apply_filter(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node,
                                       struct jinja_value input) {
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->arguments);
    j->line = node->line;
    if (!node->filter) {
        struct oct_span name = *node->constant.string;
        jinja_fail(j, "no filter named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
    }
    return node->filter(j, input, &arguments);
}

// The filters of a set or filter block, innermost first.
static struct jinja_value apply_filters(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node,
                                        struct jinja_value input) {
    if (!node) return input;
    return apply_filter(j, scope, node, apply_filters(j, scope, node->left, input));
}

static struct jinja_value apply_test(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value value = evaluate(j, scope, node->left);
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->arguments);
    j->line = node->line;
    if (!node->test) {
        struct oct_span name = *node->constant.string;
        jinja_fail(j, "no test named '%.*s'", (int)(name.length < 80 ? name.length : 80), name.text);
    }
    return jinja_bool(node->test(j, value, &arguments));
}

static struct jinja_value evaluate_items(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value result = jinja_new_list(j, node->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE, 0);
    for (const struct jinja_node *item = node->items; item; item = item->next) jinja_append(j, result.list, evaluate(j, scope, item));
    return result;
}

static struct jinja_value evaluate_dict(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value result = jinja_new_dict(j);
    for (const struct jinja_node *item = node->items; item; item = item->next->next) {
        struct jinja_value key = evaluate(j, scope, item);
        jinja_set(j, result.dict, key, evaluate(j, scope, item->next));
    }
    return result;
}

static struct jinja_value evaluate_or_none(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    return node ? evaluate(j, scope, node) : jinja_none();
}

static struct jinja_value evaluate_kind(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value object, key;
    struct jinja_arguments arguments;
    switch (node->kind) {
    case NODE_CONSTANT:
        return node->constant;
    case NODE_NAME:
        return variable(j, scope, node->symbol);
    case NODE_LIST:
    case NODE_TUPLE:
        return evaluate_items(j, scope, node);
    case NODE_DICT:
        return evaluate_dict(j, scope, node);
    case NODE_ATTRIBUTE:
        object = evaluate(j, scope, node->left);
        j->line = node->line;
        return jinja_attribute(j, object, node->constant);
    case NODE_ITEM:
        object = evaluate(j, scope, node->left);
        key = evaluate(j, scope, node->right);
        j->line = node->line;
        return jinja_item(j, object, key);
    case NODE_SLICE:
        object = evaluate(j, scope, node->left);
        key = evaluate_or_none(j, scope, node->first);
        struct jinja_value second = evaluate_or_none(j, scope, node->second);
        return slice(j, object, key, second, evaluate_or_none(j, scope, node->third));
    case NODE_CALL:
        object = evaluate(j, scope, node->left);
        arguments = evaluate_arguments(j, scope, node->arguments);
        j->line = node->line;
        return jinja_call_value(j, object, &arguments);
    case NODE_FILTER:
        return apply_filter(j, scope, node, evaluate(j, scope, node->left));
    case NODE_TEST:
        return apply_test(j, scope, node);
    case NODE_UNARY:
        return unary(j, scope, node);
    case NODE_BINARY:
        return binary(j, scope, node);
    case NODE_COMPARE:
        return compare(j, scope, node);
    case NODE_CONDITION:
        if (jinja_truth(evaluate(j, scope, node->first))) return evaluate(j, scope, node->left);
        return node->second ? evaluate(j, scope, node->second) : jinja_undefined();
    default:
        OCT_CHECK(false);
        return jinja_undefined();
    }
}

static struct jinja_value evaluate(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    jinja_enter(j);
    struct jinja_value value = evaluate_kind(j, scope, node);
    jinja_leave(j);
    return value;
}

static void assign(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *target, struct jinja_value value) {
    if (target->kind == NODE_NAME) {
        set_variable(j, scope, target->symbol, value);
        return;
    }
    if (target->kind == NODE_ATTRIBUTE_TARGET) {
        struct jinja_value object = variable(j, scope, target->symbol);
        if (object.type != JINJA_NAMESPACE) jinja_fail(j, "cannot assign attribute on non-namespace object");
        if (target->constant.string->text[0] == '_') jinja_fail(j, "a namespace cannot have attributes that begin with an underscore");
        jinja_set(j, object.dict, target->constant, value);
        return;
    }
    size_t expected = 0, i = 0;
    for (const struct jinja_node *part = target->items; part; part = part->next) expected++;
    if (jinja_is_undefined(value)) fail_undefined(j, value);
    const struct jinja_list *list = jinja_iterate(j, value);
    if (list->count != expected) jinja_fail(j, "%zu values to unpack expected, %zu found", expected, list->count);
    jinja_enter(j);
    for (const struct jinja_node *part = target->items; part; part = part->next) assign(j, scope, part, list->items[i++]);
    jinja_leave(j);
}

static enum flow run_loop(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node, struct jinja_value source,
                          size_t depth0) {
    struct jinja_list *list = jinja_iterate(j, source);
    if (node->first) { // the filter comes before the loop's counters
        struct jinja_value kept = jinja_new_list(j, JINJA_LIST, 0);
        for (size_t i = 0; i < list->count; i++) {
            struct jinja_scope *inner = new_scope(j, scope);
            assign(j, inner, node->left, list->items[i]);
            if (jinja_truth(evaluate(j, inner, node->first))) jinja_append(j, kept.list, list->items[i]);
        }
        list = kept.list;
    }
    if (!list->count) return execute(j, new_scope(j, scope), node->orelse);
    struct jinja_loop *loop = jinja_alloc(j, 1, sizeof *loop);
    *loop = (struct jinja_loop){.list = list, .depth0 = depth0, .node = node->flag ? node : NULL, .scope = scope};
    for (size_t i = 0; i < list->count; i++) {
        struct jinja_scope *inner = new_scope(j, scope);
        loop->index0 = i;
        set_named(j, inner, "loop", (struct jinja_value){.type = JINJA_LOOP, .loop = loop});
        assign(j, inner, node->left, list->items[i]);
        if (execute(j, inner, node->body) == FLOW_BREAK) break;
    }
    return FLOW_NEXT;
}

// Whether the macro's body reads varargs, kwargs or caller is asked of the whole template: names are interned, so it is one look-up.
static struct jinja_value new_macro(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    const struct oct_token_table *symbols = &j->template->symbols;
    struct jinja_macro *macro = jinja_alloc(j, 1, sizeof *macro);
    *macro = (struct jinja_macro){node, scope, false};
    macro->uses_rest = oct_token_table_find(symbols, "varargs", 7) >= 0 || oct_token_table_find(symbols, "kwargs", 6) >= 0;
    return (struct jinja_value){.type = JINJA_MACRO, .macro = macro};
}

static void execute_call_block(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_value callee = evaluate(j, scope, node->left->left);
    struct jinja_arguments arguments = evaluate_arguments(j, scope, node->left->arguments);
    struct jinja_argument *named = jinja_alloc(j, arguments.num_named + 1, sizeof *named);
    if (arguments.num_named) memcpy(named, arguments.named, arguments.num_named * sizeof *named);
    named[arguments.num_named++] = (struct jinja_argument){{.text = "caller", .length = 6}, new_macro(j, scope, node->right)};
    arguments.named = named;
    jinja_print(j, j->out, jinja_call_value(j, callee, &arguments));
}

static enum flow execute_one(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    struct jinja_text text = {0};
    struct jinja_scope *inner;
    switch (node->kind) {
    case NODE_DATA:
        jinja_text_add(j, j->out, *node->constant.string);
        return FLOW_NEXT;
    case NODE_PRINT:
        jinja_print(j, j->out, evaluate(j, scope, node->left));
        return FLOW_NEXT;
    case NODE_IF:
        while (!jinja_truth(evaluate(j, scope, node->left))) {
            if (!node->flag) return execute(j, scope, node->orelse);
            node = node->orelse;
        }
        return execute(j, scope, node->body);
    case NODE_FOR:
        return run_loop(j, scope, node, evaluate(j, scope, node->right), 0);
    case NODE_SET:
        assign(j, scope, node->left, evaluate(j, scope, node->right));
        return FLOW_NEXT;
    case NODE_SET_BLOCK:
        capture(j, new_scope(j, scope), node->body, &text);
        assign(j, scope, node->left, apply_filters(j, scope, node->right, jinja_text_value(j, &text)));
        return FLOW_NEXT;
    case NODE_MACRO:
        set_variable(j, scope, node->symbol, new_macro(j, scope, node));
        return FLOW_NEXT;
    case NODE_CALL_BLOCK:
        execute_call_block(j, scope, node);
        return FLOW_NEXT;
    case NODE_FILTER_BLOCK:
        capture(j, new_scope(j, scope), node->body, &text);
        jinja_print(j, j->out, apply_filters(j, scope, node->right, jinja_text_value(j, &text)));
        return FLOW_NEXT;
    case NODE_WITH:
        inner = new_scope(j, scope);
        for (const struct jinja_node *item = node->items; item; item = item->next->next) {
            assign(j, inner, item, evaluate(j, scope, item->next));
        }
        return execute(j, inner, node->body);
    case NODE_SCOPE:
        return execute(j, new_scope(j, scope), node->body);
    case NODE_BREAK:
        return FLOW_BREAK;
    case NODE_CONTINUE:
        return FLOW_CONTINUE;
    default:
        OCT_CHECK(false);
        return FLOW_NEXT;
    }
}

static enum flow execute(struct jinja *j, struct jinja_scope *scope, const struct jinja_node *node) {
    enum flow flow = FLOW_NEXT;
    jinja_enter(j);
    for (; node && flow == FLOW_NEXT; node = node->next) {
        j->line = node->line;
        flow = execute_one(j, scope, node);
    }
    jinja_leave(j);
    return flow;
}

// The variables and built-in names that the template mentions.
static void fill_root(struct jinja *j, const struct jinja_variable *variables, size_t num_variables) {
    const struct oct_token_table *symbols = &j->template->symbols;
    for (int32_t symbol = 0; (size_t)symbol < symbols->size; symbol++) {
        struct oct_span name = {0};
        name.text = oct_token_table_text(symbols, symbol, &name.length);
        jinja_call call = jinja_find_global(name);
        if (!call) continue;
        struct jinja_function *function = jinja_alloc(j, 1, sizeof *function);
        *function = (struct jinja_function){"function", call, jinja_none()};
        set_variable(j, j->root, symbol, (struct jinja_value){.type = JINJA_FUNCTION, .function = function});
    }
    for (size_t i = 0; i < num_variables; i++) {
        int32_t symbol = oct_token_table_find(symbols, variables[i].name, strlen(variables[i].name));
        if (symbol >= 0) set_variable(j, j->root, symbol, jinja_from_json(j, variables[i].value, variables[i].marked));
    }
}

static void render(struct jinja *j, const struct jinja_variable *variables, size_t num_variables, struct oct_marked_text *out) {
    struct jinja_text text = {0};
    j->out = &text;
    j->root = new_scope(j, NULL);
    fill_root(j, variables, num_variables);
    execute(j, new_scope(j, j->root), j->template->body);
    oct_marked_append(out, jinja_text_span(&text));
}

// The context stands in allocated memory, whose contents setjmp and longjmp leave alone.
static struct jinja *new_context(const char *name, const struct jinja_template *template, oct_error *err) {
    struct jinja *j = oct_alloc(1, sizeof *j, "a template");
    j->err = err;
    j->name = name;
    j->line = 1;
    j->arena.limit = JINJA_MAX_BYTES;
    j->template = template;
    return j;
}

oct_status jinja_render(const struct jinja_template *template, const struct jinja_variable *variables, size_t num_variables,
                        const struct tm *now, struct oct_marked_text *out, oct_error *err) {
    struct jinja *j = new_context(template->name, template, err);
    j->now = *now;
    if (setjmp(j->escape) == 0) render(j, variables, num_variables, out);
    oct_status status = j->status;
    jinja_arena_free(&j->arena);
    free(j);
    return status;
}

static void compile(struct jinja *j, struct oct_span source, struct jinja_template *template) {
    size_t count;
    if (!oct_utf8_valid(source.text, source.length)) jinja_fail(j, "the template is not valid UTF-8");
    struct jinja_token *tokens = jinja_tokenize(j, source, &count);
    jinja_parse(j, tokens, template);
}

oct_status jinja_compile(const char *name, const char *source, size_t length, struct jinja_template **out, oct_error *err) {
    struct jinja_template *template = oct_alloc(1, sizeof *template, "a template");
    template->name = oct_strdup(name);
    struct jinja *j = new_context(template->name, template, err);
    if (setjmp(j->escape) == 0) compile(j, (struct oct_span){.text = source, .length = length}, template);
    oct_status status = j->status;
    template->arena = j->arena;
    free(j);
    if (status != OCT_OK) jinja_template_free(template);
    *out = status == OCT_OK ? template : NULL;
    return status;
}

void jinja_template_free(struct jinja_template *template) {
    if (!template) return;
    jinja_arena_free(&template->arena);
    oct_token_table_free(&template->symbols);
    free(template->name);
    free(template);
}
