// Filters on single values: text, numbers, JSON. Those on sequences are in jinja_sequence_filters.c.
#include "text/jinja_filter.h"

#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct oct_span text_of(struct jinja *j, struct jinja_value value) {
    return *jinja_to_string(j, value).string;
}

// text.name(), for a method without arguments.
static struct jinja_value call_method(struct jinja *j, struct jinja_value text, const char *name) {
    return jinja_call_value(j, jinja_attribute(j, text, jinja_string_of(j, name)), &(struct jinja_arguments){0});
}

FILTER(filter_string) {
    (void)arguments;
    return jinja_to_string(j, self);
}
FILTER(filter_safe) {
    (void)arguments;
    struct jinja_value text = jinja_to_string(j, self);
    text.safe = true;
    return text;
}
FILTER(filter_escape) {
    (void)arguments;
    return jinja_escape(j, self);
}
FILTER(filter_forceescape) {
    (void)arguments;
    self = jinja_to_string(j, self);
    self.safe = false;
    return jinja_escape(j, self);
}
FILTER(filter_upper) {
    (void)arguments;
    return jinja_change_case(j, text_of(j, self), JINJA_UPPER);
}
FILTER(filter_lower) {
    (void)arguments;
    return jinja_change_case(j, text_of(j, self), JINJA_LOWER);
}
FILTER(filter_capitalize) {
    (void)arguments;
    return jinja_change_case(j, text_of(j, self), JINJA_CAPITALIZE);
}

FILTER(filter_title) { // words begin behind white space and -([{<, unlike those of the method
    (void)arguments;
    struct oct_span text = text_of(j, self);
    struct jinja_text out = {0};
    size_t start = 0;
    for (size_t i = 0, n; i <= text.length; i += n) {
        uint32_t code = ' ';
        n = i < text.length ? oct_utf8_next(text.text + i, &code) : 1;
        if (i < text.length && !jinja_is_space(code) && !(code < 0x80 && strchr("-([{<", (int)code))) continue;
        size_t head = start + jinja_character_offset(oct_subspan(text, start, i), 1);
        jinja_text_add(j, &out, *jinja_change_case(j, oct_subspan(text, start, head), JINJA_UPPER).string);
        jinja_text_add(j, &out, *jinja_change_case(j, oct_subspan(text, head, i), JINJA_LOWER).string);
        if (i < text.length) jinja_text_add(j, &out, oct_subspan(text, i, i + n));
        start = i + n;
    }
    return jinja_text_value(j, &out);
}

FILTER(filter_trim) {
    struct oct_span text = text_of(j, self);
    jinja_charge(j, text.length);
    if (jinja_is_none(jinja_argument_or(arguments, 0, "chars", jinja_none()))) return jinja_string(j, jinja_strip(text, NULL, true, true));
    struct oct_span characters = jinja_required_string(j, arguments, 0, "chars");
    return jinja_string(j, jinja_strip_set(j, text, characters, true, true));
}

FILTER(filter_replace) {
    struct oct_span old = text_of(j, jinja_required(j, arguments, 0, "old")), new = text_of(j, jinja_required(j, arguments, 1, "new"));
    struct jinja_value count = jinja_argument_or(arguments, 2, "count", jinja_none());
    return jinja_replace(j, text_of(j, self), old, new, jinja_is_none(count) ? -1 : jinja_integer_or(j, arguments, 2, "count", -1));
}

FILTER(filter_indent) {
    struct jinja_value width = jinja_argument_or(arguments, 0, "width", jinja_int(4));
    bool first = jinja_truth(jinja_argument_or(arguments, 1, "first", jinja_bool(false)));
    bool blank = jinja_truth(jinja_argument_or(arguments, 2, "blank", jinja_bool(false)));
    if (!jinja_is_string(self)) jinja_fail(j, "indent: str expected, %s found", jinja_type_name(self));
    struct oct_span text = *self.string;
    struct jinja_text indent = {0}, out = {0};
    if (jinja_is_string(width)) {
        jinja_text_add(j, &indent, *width.string);
    } else {
        int64_t count = jinja_integer_or(j, arguments, 0, "width", 4);
        if (count > 0) jinja_text_fill(j, &indent, ' ', (size_t)count);
    }
    struct jinja_text lines = {0};
    jinja_text_add(j, &lines, text);
    jinja_text_puts(j, &lines, "\n"); // so that a newline at the end makes a line of its own
    const struct jinja_list *list = call_method(j, jinja_text_value(j, &lines), "splitlines").list;
    for (size_t i = 0; i < list->count; i++) {
        struct oct_span line = *list->items[i].string;
        if (i) { // the line break stands behind the line before, and has its mark
            struct oct_span before = *list->items[i - 1].string;
            jinja_text_add(j, &out, (struct oct_span){"\n", before.marks ? before.marks + before.length : NULL, 1});
        }
        if (i ? blank || line.length : first) jinja_text_add(j, &out, jinja_text_span(&indent));
        jinja_text_add(j, &out, line);
    }
    return jinja_text_value(j, &out);
}

FILTER(filter_center) {
    struct jinja_value text = jinja_to_string(j, self);
    int64_t width = jinja_integer_or(j, arguments, 0, "width", 80), count = (int64_t)jinja_length(j, text);
    int64_t room = width > count ? width - count : 0, before = room / 2 + (room & width & 1);
    struct jinja_text out = {0};
    jinja_text_fill(j, &out, ' ', (size_t)before);
    jinja_text_add(j, &out, *text.string);
    jinja_text_fill(j, &out, ' ', (size_t)(room - before));
    return jinja_text_value(j, &out);
}

FILTER(filter_truncate) {
    struct jinja_value text = self;
    int64_t length = jinja_integer_or(j, arguments, 0, "length", 255), leeway = jinja_integer_or(j, arguments, 3, "leeway", 5);
    if (length > JINJA_MAX_BYTES || leeway > JINJA_MAX_BYTES) return text; // longer than any text
    if (length < 0 || leeway < 0) jinja_fail(j, "truncate: a length and a leeway of at least 0 expected");
    bool kill = jinja_truth(jinja_argument_or(arguments, 1, "killwords", jinja_bool(false)));
    struct jinja_value end = jinja_to_string(j, jinja_argument_or(arguments, 2, "end", jinja_string_of(j, "...")));
    int64_t count = (int64_t)jinja_length(j, text), kept = length - (int64_t)jinja_length(j, end);
    if (kept < 0) jinja_fail(j, "truncate: expected length >= %lld", (long long)(length - kept));
    if (count <= length + leeway) return text;
    if (!jinja_is_string(text)) jinja_fail(j, "truncate: str expected, %s found", jinja_type_name(text));
    struct oct_span head = oct_subspan(*text.string, 0, jinja_character_offset(*text.string, (size_t)kept));
    size_t work = 0, space = kill ? SIZE_MAX : jinja_find_last(head, (struct oct_span){.text = " ", .length = 1}, head.length, &work);
    if (space != SIZE_MAX) head = oct_subspan(head, 0, space);
    struct jinja_text out = {0};
    jinja_text_add(j, &out, head);
    jinja_text_add(j, &out, *end.string);
    return jinja_text_value(j, &out);
}

static bool is_word(uint32_t code) {
    return code == '_' || (oct_classes()[code] & (OCT_LETTER | OCT_NUMBER));
}

FILTER(filter_wordcount) {
    (void)arguments;
    struct oct_span text = text_of(j, self);
    int64_t count = 0;
    bool inside = false;
    uint32_t code;
    jinja_charge(j, text.length);
    for (size_t i = 0; i < text.length;) {
        i += oct_utf8_next(text.text + i, &code);
        count += is_word(code) && !inside;
        inside = is_word(code);
    }
    return jinja_int(count);
}

FILTER(filter_wordwrap) {
    if (!jinja_is_string(self)) jinja_fail(j, "wordwrap: str expected, %s found", jinja_type_name(self));
    return jinja_wrap_words(j, self, arguments);
}

FILTER(filter_striptags) {
    (void)arguments;
    struct oct_span text = text_of(j, self);
    struct jinja_text out = {0};
    for (size_t i = 0; i < text.length;) {
        size_t open = jinja_find(text, (struct oct_span){.text = "<", .length = 1}, i);
        size_t close = open == SIZE_MAX ? SIZE_MAX : jinja_find(text, (struct oct_span){.text = ">", .length = 1}, open);
        if (close == SIZE_MAX) open = text.length;
        jinja_text_add(j, &out, oct_subspan(text, i, open));
        i = close == SIZE_MAX ? text.length : close + 1;
    }
    const struct jinja_list *words = call_method(j, jinja_text_value(j, &out), "split").list;
    struct jinja_text joined = {0};
    for (size_t i = 0; i < words->count; i++) {
        if (i) jinja_text_puts(j, &joined, " ");
        jinja_text_add(j, &joined, *words->items[i].string);
    }
    return jinja_text_value(j, &joined);
}

// Percent-encodes text; in the parts of a query a slash is encoded too, and a space is a plus.
static void quote_url(struct jinja *j, struct jinja_text *out, struct oct_span text, bool in_query) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.text[i];
        char escape[4] = "+";
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_.-~", c)) ||
                     (c == '/' && !in_query);
        if (c != ' ' || !in_query) snprintf(escape, sizeof escape, "%%%02X", c);
        unsigned char marks[3];
        memset(marks, text.marks ? text.marks[i] : 0, sizeof marks);
        jinja_text_add(j, out, plain ? oct_subspan(text, i, i + 1) : (struct oct_span){escape, marks, strlen(escape)});
    }
}

FILTER(filter_urlencode) {
    struct jinja_text out = {0};
    if (jinja_is_string(self) || !jinja_is_iterable(self)) {
        quote_url(j, &out, text_of(j, self), false);
        return jinja_text_value(j, &out);
    }
    if (self.type == JINJA_DICT) self = jinja_call_value(j, jinja_attribute(j, self, jinja_string_of(j, "items")), arguments);
    const struct jinja_list *pairs = jinja_iterate(j, self);
    for (size_t i = 0; i < pairs->count; i++) {
        const struct jinja_list *pair = jinja_iterate(j, pairs->items[i]);
        if (pair->count != 2) jinja_fail(j, "urlencode: pairs expected, %zu values found", pair->count);
        if (i) jinja_text_puts(j, &out, "&");
        quote_url(j, &out, text_of(j, pair->items[0]), true);
        jinja_text_puts(j, &out, "=");
        quote_url(j, &out, text_of(j, pair->items[1]), true);
    }
    return jinja_text_value(j, &out);
}

FILTER(filter_xmlattr) {
    struct jinja_text out = {0};
    bool space = jinja_truth(jinja_argument_or(arguments, 0, "autospace", jinja_bool(true)));
    if (self.type != JINJA_DICT) jinja_fail(j, "xmlattr: a mapping expected, %s found", jinja_type_name(self));
    for (size_t i = 0; i < self.dict->count; i++) {
        struct jinja_value key = self.dict->pairs[i].key, value = self.dict->pairs[i].value;
        if (jinja_is_none(value) || jinja_is_undefined(value)) continue;
        struct oct_span name = text_of(j, key);
        for (size_t k = 0; k < name.length; k++) {
            if (strchr(" \t\n\f\r/>=", name.text[k])) jinja_fail(j, "xmlattr: a key has a character that ends a name");
        }
        if (out.length || space) jinja_text_puts(j, &out, " ");
        jinja_text_add(j, &out, *jinja_escape(j, key).string);
        jinja_text_puts(j, &out, "=\"");
        jinja_text_add(j, &out, *jinja_escape(j, value).string);
        jinja_text_puts(j, &out, "\"");
    }
    return jinja_text_value(j, &out);
}

FILTER(filter_format) {
    struct jinja_value list = jinja_new_list(j, JINJA_TUPLE, arguments->count), dict = jinja_new_dict(j);
    for (size_t i = 0; i < arguments->count; i++) jinja_append(j, list.list, arguments->positional[i]);
    for (size_t i = 0; i < arguments->num_named; i++)
        jinja_set(j, dict.dict, jinja_string(j, arguments->named[i].name), arguments->named[i].value);
    return jinja_format_percent(j, text_of(j, self), arguments->num_named ? dict : list);
}

FILTER(filter_default) {
    bool any_false = jinja_truth(jinja_argument_or(arguments, 1, "boolean", jinja_bool(false)));
    if (!jinja_is_undefined(self) && !(any_false && !jinja_truth(self))) return self;
    return jinja_argument_or(arguments, 0, "default_value", jinja_string_of(j, ""));
}

FILTER(filter_attr) { // attributes only: data has none but its methods
    struct jinja_value name = jinja_required(j, arguments, 0, "name");
    if (jinja_is_undefined(self)) jinja_fail_undefined(j, self);
    if (!jinja_is_string(name)) return jinja_undefined();
    if (self.type == JINJA_DICT) {
        bool unsafe = false;
        if (!jinja_find_method(self, *name.string, &unsafe)) return jinja_undefined();
    }
    return jinja_attribute(j, self, name);
}

// Python's int(text, base): spaces around, a sign, underscores between digits. false: it is not a number.
static bool parse_integer(struct jinja *j, struct oct_span text, int base, int64_t *out) {
    text = jinja_strip(text, NULL, true, true);
    char copy[80];
    size_t length = 0;
    if (base != 10 && (base < 2 || base > 36)) return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.text[i] == '_' && i && i + 1 < text.length && text.text[i - 1] != '_') continue;
        if (length == sizeof copy - 1) {
            for (size_t k = 0; k < text.length; k++) {
                if (text.text[k] < '0' || text.text[k] > '9') return false;
            }
            jinja_fail(j, "an integer of %zu digits does not fit in 64 bits", text.length);
        }
        copy[length++] = text.text[i];
    }
    copy[length] = '\0';
    char *end;
    if (!length || copy[0] == ' ') return false;
    char *digits = copy + (copy[0] == '-' || copy[0] == '+');
    if (digits[0] == '0' && digits[1] && ((base == 8 && (digits[1] | 32) == 'o') || (base == 2 && (digits[1] | 32) == 'b'))) {
        memmove(digits, digits + 2, strlen(digits + 2) + 1);
    }
    if (!((*digits >= '0' && *digits <= '9') || (*digits | 32) >= 'a')) return false;
    long long value = strtoll(copy, &end, base);
    if (*end || end == copy) return false;
    if (value == INT64_MAX || value == INT64_MIN) jinja_fail(j, "the integer %s does not fit in 64 bits", copy);
    return *out = value, true;
}

static bool parse_float(struct oct_span text, double *out) {
    text = jinja_strip(text, NULL, true, true);
    char copy[512], *end;
    if (!text.length || text.length >= sizeof copy || memchr(text.text, 'x', text.length) || memchr(text.text, 'X', text.length))
        return false;
    memcpy(copy, text.text, text.length);
    copy[text.length] = '\0';
    *out = strtod(copy, &end);
    return *end == '\0' && end != copy;
}

static struct jinja_value integer_of(struct jinja *j, double real) {
    if (!(real > -9.2e18 && real < 9.2e18)) jinja_fail(j, "the number does not fit in 64 bits");
    return jinja_int((int64_t)real);
}

FILTER(filter_int) {
    struct jinja_value otherwise = jinja_argument_or(arguments, 0, "default", jinja_int(0));
    int64_t base = jinja_integer_or(j, arguments, 1, "base", 10), integer;
    double real;
    if (jinja_is_integer(self)) return jinja_int(jinja_as_integer(self));
    if (self.type == JINJA_FLOAT) return isnan(self.real) ? otherwise : integer_of(j, self.real);
    if (jinja_is_undefined(self)) jinja_fail_undefined(j, self);
    if (!jinja_is_string(self)) return otherwise;
    if (parse_integer(j, *self.string, (int)(base > 36 ? 36 : base), &integer)) return jinja_int(integer);
    return parse_float(*self.string, &real) && !isnan(real) ? integer_of(j, real) : otherwise;
}

FILTER(filter_float) {
    struct jinja_value otherwise = jinja_argument_or(arguments, 0, "default", jinja_float(0));
    double real;
    if (jinja_is_number(self)) return jinja_float(jinja_as_real(self));
    if (jinja_is_undefined(self)) jinja_fail_undefined(j, self);
    return jinja_is_string(self) && parse_float(*self.string, &real) ? jinja_float(real) : otherwise;
}

FILTER(filter_filesizeformat) {
    static const char *const units[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary = jinja_truth(jinja_argument_or(arguments, 0, "binary", jinja_bool(false)));
    double bytes = jinja_is_number(self) ? jinja_as_real(self) : 0, base = binary ? 1024 : 1000, unit = base;
    if (!jinja_is_number(self) && !(jinja_is_string(self) && parse_float(*self.string, &bytes)))
        jinja_fail(j, "filesizeformat: a number expected, %s found", jinja_type_name(self));
    char line[64];
    size_t i = 0;
    if (bytes == 1) return jinja_string_of(j, "1 Byte");
    for (; i < 7 && bytes >= unit * base; i++) unit *= base;
    if (bytes < base) {
        snprintf(line, sizeof line, "%.0f Bytes", bytes);
    } else {
        snprintf(line, sizeof line, "%.1f %s", bytes / unit, units[binary][i]);
    }
    struct jinja_text out = {0};
    jinja_text_puts(j, &out, line);
    return jinja_text_value(j, &out);
}

FILTER(filter_abs) {
    (void)arguments;
    if (self.type == JINJA_FLOAT) return jinja_float(fabs(self.real));
    if (!jinja_is_integer(self)) jinja_fail(j, "bad operand type for abs(): '%s'", jinja_type_name(self));
    int64_t integer = jinja_as_integer(self);
    if (integer == INT64_MIN) jinja_fail(j, "the result does not fit in 64 bits");
    return jinja_int(integer < 0 ? -integer : integer);
}

// To a multiple of 10^zeros, ties to an even one. zeros: 1 to 18.
static struct jinja_value round_integer(struct jinja *j, int64_t integer, int zeros) {
    int64_t unit = 1, rounded;
    for (int i = 0; i < zeros; i++) unit *= 10;
    int64_t rest = integer % unit, down = integer / unit;                                      // towards zero
    int64_t away = rest < 0 ? -1 : 1, twice = rest < 0 ? -(rest + unit / 2) : rest - unit / 2; // > 0: past the middle
    if (twice > 0 || (twice == 0 && down % 2)) down += away;
    if (__builtin_mul_overflow(down, unit, &rounded)) jinja_fail(j, "the result does not fit in 64 bits");
    return jinja_int(rounded);
}

FILTER(filter_round) {
    int64_t precision = jinja_integer_or(j, arguments, 0, "precision", 0);
    struct jinja_value method = jinja_argument_or(arguments, 1, "method", jinja_string_of(j, "common"));
    if (!jinja_is_number(self)) jinja_fail(j, "type %s doesn't define __round__ method", jinja_type_name(self));
    double value = jinja_as_real(self), scale = pow(10, (double)precision);
    if (jinja_is_string(method) && jinja_span_is(*method.string, "ceil")) return jinja_float(ceil(value * scale) / scale + 0.0); // no -0
    if (jinja_is_string(method) && jinja_span_is(*method.string, "floor")) return jinja_float(floor(value * scale) / scale + 0.0);
    if (!jinja_is_string(method) || !jinja_span_is(*method.string, "common")) jinja_fail(j, "method must be common, ceil or floor");
    if (jinja_is_integer(self)) {
        if (precision >= 0 || precision < -18) return precision >= 0 ? jinja_int(jinja_as_integer(self)) : jinja_int(0);
        return round_integer(j, jinja_as_integer(self), (int)-precision);
    }
    if (precision > 300 || precision < -300 || !isfinite(value)) return jinja_float(precision > 0 ? value : 0);
    if (precision <= 0) return jinja_float(nearbyint(value * scale) / scale);
    char digits[700]; // decimal rounding of the exact value, as Python does it
    snprintf(digits, sizeof digits, "%.*f", (int)precision, value);
    return jinja_float(strtod(digits, NULL));
}

FILTER(filter_tojson) {
    struct jinja_json_style style = {
        .ensure_ascii = jinja_truth(jinja_argument_or(arguments, 0, "ensure_ascii", jinja_bool(false))),
        .sort_keys = jinja_truth(jinja_argument_or(arguments, 3, "sort_keys", jinja_bool(false))),
    };
    struct jinja_value indent = jinja_argument_or(arguments, 1, "indent", jinja_none());
    struct jinja_value separators = jinja_argument_or(arguments, 2, "separators", jinja_none());
    static const char *const known[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
    for (size_t i = 0; i < arguments->num_named; i++) {
        bool found = false;
        for (size_t k = 0; k < 4; k++) found = found || jinja_span_is(arguments->named[i].name, known[k]);
        if (!found) jinja_fail(j, "tojson got an unexpected keyword argument");
    }
    style.has_indent = !jinja_is_none(indent);
    if (jinja_is_string(indent)) {
        style.indent = *indent.string;
    } else if (style.has_indent) {
        int64_t width = jinja_integer_or(j, arguments, 1, "indent", 0);
        struct jinja_text spaces = {0};
        if (width > 0) jinja_text_fill(j, &spaces, ' ', (size_t)width);
        style.indent = jinja_text_span(&spaces);
    }
    style.item_separator = (struct oct_span){.text = style.has_indent ? "," : ", ", .length = style.has_indent ? 1 : 2};
    style.key_separator = (struct oct_span){.text = ": ", .length = 2};
    if (!jinja_is_none(separators)) {
        const struct jinja_list *pair = jinja_iterate(j, separators);
        if (pair->count != 2 || !jinja_is_string(pair->items[0]) || !jinja_is_string(pair->items[1]))
            jinja_fail(j, "tojson: separators must be two strings");
        style.item_separator = *pair->items[0].string;
        style.key_separator = *pair->items[1].string;
    }
    struct jinja_text out = {0};
    jinja_print_json(j, &out, self, &style);
    return jinja_text_value(j, &out);
}

static const struct jinja_filter filters[] = {
    {"string", filter_string},
    {"safe", filter_safe},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"forceescape", filter_forceescape},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"trim", filter_trim},
    {"replace", filter_replace},
    {"indent", filter_indent},
    {"center", filter_center},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"wordwrap", filter_wordwrap},
    {"striptags", filter_striptags},
    {"urlencode", filter_urlencode},
    {"xmlattr", filter_xmlattr},
    {"filesizeformat", filter_filesizeformat},
    {"format", filter_format},
    {"default", filter_default},
    {"d", filter_default},
    {"attr", filter_attr},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"tojson", filter_tojson},
};

jinja_call jinja_find_filter(struct oct_span name) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (jinja_span_is(name, filters[i].name)) return filters[i].call;
    }
    return jinja_find_sequence_filter(name);
}
