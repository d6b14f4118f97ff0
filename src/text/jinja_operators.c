// The operators, as Python has them, but for integers: they have 64 bits, and what does not fit is an error.
#include "text/jinja_syntax.h"

#include <math.h>

static _Noreturn void fail_operands(struct jinja *j, const char *operator, struct jinja_value a, struct jinja_value b) {
    if (jinja_is_undefined(a)) jinja_fail_undefined(j, a);
    if (jinja_is_undefined(b)) jinja_fail_undefined(j, b);
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
        if (total) jinja_text_add(j, &text, *value.string);
        while (text.length < total) { // doubles what is there
            size_t more = total - text.length < text.length ? total - text.length : text.length;
            jinja_text_add(j, &text, oct_subspan(jinja_text_span(&text), 0, more));
        }
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
        if (rest == 0) rest = copysign(0, y);
        if (op == OP_MODULO) return jinja_float(rest);
        double quotient = (x - rest) / y; // whole but for rounding
        return jinja_float(quotient == 0 ? copysign(0, x / y) : floor(quotient + 0.5));
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

static struct jinja_value subtract(struct jinja *j, struct jinja_value a, struct jinja_value b) {
    if (!jinja_is_number(a) || !jinja_is_number(b)) fail_operands(j, "-", a, b);
    if (!jinja_is_integer(a) || !jinja_is_integer(b)) return jinja_float(jinja_as_real(a) - jinja_as_real(b));
    int64_t difference;
    if (__builtin_sub_overflow(jinja_as_integer(a), jinja_as_integer(b), &difference)) fail_overflow(j);
    return jinja_int(difference);
}

struct jinja_value jinja_binary(struct jinja *j, enum jinja_operator op, struct jinja_value left, struct jinja_value right) {
    switch (op) {
    case OP_ADD:
        return jinja_add(j, left, right);
    case OP_SUBTRACT:
        return subtract(j, left, right);
    case OP_MULTIPLY:
        return multiply(j, left, right);
    case OP_POWER:
        return power(j, left, right);
    case OP_CONCAT:
        return concatenate(j, left, right);
    default:
        if (op == OP_MODULO && jinja_is_string(left)) return jinja_format_percent(j, *left.string, right);
        return divide(j, op, left, right);
    }
}

struct jinja_value jinja_unary(struct jinja *j, enum jinja_operator op, struct jinja_value value) {
    if (op == OP_NOT) return jinja_bool(!jinja_truth(value));
    if (jinja_is_undefined(value)) jinja_fail_undefined(j, value);
    if (!jinja_is_number(value)) jinja_fail(j, "bad operand type for unary %c: '%s'", op == OP_PLUS ? '+' : '-', jinja_type_name(value));
    if (value.type == JINJA_FLOAT) return jinja_float(op == OP_PLUS ? value.real : -value.real);
    int64_t integer = jinja_as_integer(value);
    if (op == OP_PLUS) return jinja_int(integer);
    if (integer == INT64_MIN) fail_overflow(j);
    return jinja_int(-integer);
}

bool jinja_compare_by(struct jinja *j, enum jinja_operator op, struct jinja_value a, struct jinja_value b) {
    if (op == OP_EQUAL) return jinja_equal(j, a, b);
    if (op == OP_UNEQUAL) return !jinja_equal(j, a, b);
    if (op == OP_IN) return jinja_contains(j, b, a);
    if (op == OP_NOT_IN) return !jinja_contains(j, b, a);
    if (jinja_is_undefined(a)) jinja_fail_undefined(j, a);
    if (jinja_is_undefined(b)) jinja_fail_undefined(j, b);
    static const char *const names[] = {"<", "<=", ">", ">="};
    int order = jinja_compare(j, a, b, names[op - OP_LESS]);
    return op == OP_LESS ? order < 0 : op == OP_LESS_EQUAL ? order <= 0 : op == OP_GREATER ? order > 0 : order >= 0;
}
