// What may stand behind `is`.
#include "text/jinja_value.h"

#include "text/unicode.h"

#include <utf8proc.h>

#define TEST(name) static bool name(struct jinja *j, struct jinja_value value, const struct jinja_arguments *arguments)
#define UNUSED     (void)j, (void)value, (void)arguments

TEST(test_defined) {
    UNUSED;
    return !jinja_is_undefined(value);
}
TEST(test_undefined) {
    UNUSED;
    return jinja_is_undefined(value);
}
TEST(test_none) {
    UNUSED;
    return jinja_is_none(value);
}
TEST(test_boolean) {
    UNUSED;
    return value.type == JINJA_BOOL;
}
TEST(test_true) {
    UNUSED;
    return value.type == JINJA_BOOL && value.boolean;
}
TEST(test_false) {
    UNUSED;
    return value.type == JINJA_BOOL && !value.boolean;
}
TEST(test_integer) {
    UNUSED;
    return value.type == JINJA_INT || value.type == JINJA_BIG;
}
TEST(test_float) {
    UNUSED;
    return value.type == JINJA_FLOAT;
}
TEST(test_number) {
    UNUSED;
    return jinja_is_number(value) || value.type == JINJA_BIG;
}
TEST(test_string) {
    UNUSED;
    return jinja_is_string(value);
}
TEST(test_mapping) {
    UNUSED;
    return value.type == JINJA_DICT;
}
TEST(test_iterable) {
    UNUSED;
    return jinja_is_iterable(value);
}
TEST(test_sequence) { // Python: it has a length and items by key
    UNUSED;
    return jinja_is_iterable(value) && value.type != JINJA_ITERATOR &&
           (value.type != JINJA_VIEW || strcmp(value.view->label, "range") == 0);
}
TEST(test_callable) {
    UNUSED;
    return value.type == JINJA_FUNCTION || value.type == JINJA_MACRO || value.type == JINJA_JOINER || value.type == JINJA_UNDEFINED ||
           (value.type == JINJA_LOOP && value.loop->node);
}
TEST(test_escaped) {
    UNUSED;
    return jinja_is_string(value) && value.safe;
}

static int64_t modulo(struct jinja *j, struct jinja_value value, int64_t by) {
    if (!jinja_is_number(value)) jinja_fail(j, "a number expected, %s found", jinja_type_name(value));
    if (value.type == JINJA_FLOAT) {
        double rest = value.real - (double)by * (double)(int64_t)(value.real / (double)by);
        return rest == 0 ? 0 : 1;
    }
    return by == -1 ? 0 : jinja_as_integer(value) % by;
}
TEST(test_odd) {
    UNUSED;
    return modulo(j, value, 2) != 0;
}
TEST(test_even) {
    UNUSED;
    return modulo(j, value, 2) == 0;
}
TEST(test_divisible) {
    int64_t by = jinja_integer_or(j, arguments, 0, "num", 0);
    if (!by) jinja_fail(j, "division by zero");
    return modulo(j, value, by) == 0;
}

static bool has_case(struct jinja *j, struct jinja_value value, utf8proc_category_t wanted, utf8proc_category_t other) {
    const struct oct_span *text = jinja_to_string(j, value).string;
    bool found = false;
    uint32_t code;
    for (size_t i = 0; i < text->length;) {
        i += oct_utf8_next(text->text + i, &code);
        utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
        if (category == other || category == UTF8PROC_CATEGORY_LT) return false;
        found = found || category == wanted;
    }
    return found;
}
TEST(test_lower) {
    UNUSED;
    return has_case(j, value, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LU);
}
TEST(test_upper) {
    UNUSED;
    return has_case(j, value, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL);
}

TEST(test_equal) {
    return jinja_equal(j, value, jinja_required(j, arguments, 0, "other"));
}
TEST(test_unequal) {
    return !jinja_equal(j, value, jinja_required(j, arguments, 0, "other"));
}
TEST(test_less) {
    return jinja_compare(j, value, jinja_required(j, arguments, 0, "other"), "<") < 0;
}
TEST(test_less_equal) {
    return jinja_compare(j, value, jinja_required(j, arguments, 0, "other"), "<=") <= 0;
}
TEST(test_greater) {
    return jinja_compare(j, value, jinja_required(j, arguments, 0, "other"), ">") > 0;
}
TEST(test_greater_equal) {
    return jinja_compare(j, value, jinja_required(j, arguments, 0, "other"), ">=") >= 0;
}
TEST(test_in) {
    return jinja_contains(j, jinja_required(j, arguments, 0, "seq"), value);
}
TEST(test_same) {
    struct jinja_value other = jinja_required(j, arguments, 0, "other");
    if (value.type != other.type) return false;
    if (value.type == JINJA_LIST || value.type == JINJA_TUPLE || value.type == JINJA_DICT) return value.list == other.list;
    return jinja_equal(j, value, other);
}
TEST(test_filter) {
    UNUSED;
    return jinja_is_string(value) && jinja_find_filter(*value.string);
}
TEST(test_test) {
    UNUSED;
    return jinja_is_string(value) && jinja_find_test(*value.string);
}

jinja_test jinja_find_test(struct oct_span name) {
    static const struct {
        const char *name;
        jinja_test test;
    } tests[] = {
        {"defined", test_defined},
        {"undefined", test_undefined},
        {"none", test_none},
        {"boolean", test_boolean},
        {"true", test_true},
        {"false", test_false},
        {"integer", test_integer},
        {"float", test_float},
        {"number", test_number},
        {"string", test_string},
        {"mapping", test_mapping},
        {"iterable", test_iterable},
        {"sequence", test_sequence},
        {"callable", test_callable},
        {"escaped", test_escaped},
        {"odd", test_odd},
        {"even", test_even},
        {"divisibleby", test_divisible},
        {"lower", test_lower},
        {"upper", test_upper},
        {"==", test_equal},
        {"eq", test_equal},
        {"equalto", test_equal},
        {"!=", test_unequal},
        {"ne", test_unequal},
        {"<", test_less},
        {"lt", test_less},
        {"lessthan", test_less},
        {"<=", test_less_equal},
        {"le", test_less_equal},
        {">", test_greater},
        {"gt", test_greater},
        {"greaterthan", test_greater},
        {">=", test_greater_equal},
        {"ge", test_greater_equal},
        {"in", test_in},
        {"sameas", test_same},
        {"filter", test_filter},
        {"test", test_test},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (jinja_span_is(name, tests[i].name)) return tests[i].test;
    }
    return NULL;
}
