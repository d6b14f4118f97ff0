// '%s' % x, '{}'.format(x) and strftime.
#include "text/jinja_value.h"

#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_WIDTH 100000

struct field {
    struct oct_span fill; // one character, of the format where it names one: a message must not choose an unmarked one
    char align;           // '<', '>', '^', or 0
    bool zero, plus, space, alternate, comma;
    int width, precision; // precision -1: none
    char kind;            // conversion, 0: none
};

#define SPACE_FILL ((struct oct_span){.text = " ", .length = 1})
#define ZERO_FILL  ((struct oct_span){.text = "0", .length = 1})

// Reads digits at text[*at]; a number over MAX_WIDTH is an error.
static int read_width(struct jinja *j, struct oct_span text, size_t *at) {
    int width = 0;
    for (; *at < text.length && text.text[*at] >= '0' && text.text[*at] <= '9'; ++*at) {
        width = width * 10 + text.text[*at] - '0';
        if (width > MAX_WIDTH) jinja_fail(j, "a width of at most %d expected in a format", MAX_WIDTH);
    }
    return width;
}

static void pad(struct jinja *j, struct jinja_text *out, struct oct_span text, const struct field *field, char align) {
    size_t count = jinja_count_characters(text), width = (size_t)field->width;
    size_t room = width > count ? width - count : 0;
    size_t left = align == '>' ? room : align == '^' ? room / 2 : 0;
    for (size_t i = 0; i < left; i++) jinja_text_add(j, out, field->fill);
    jinja_text_add(j, out, text);
    for (size_t i = left; i < room; i++) jinja_text_add(j, out, field->fill);
}

static void format_number(struct jinja *j, struct jinja_text *out, struct jinja_value value, struct field *field) {
    char digits[512];
    char kind = field->kind;
    if (!jinja_is_number(value)) jinja_fail(j, "a number expected in a format, %s found", jinja_type_name(value));
    int precision = field->precision < 0 ? 6 : field->precision > 100 ? 100 : field->precision;
    if (kind == 'd' || kind == 'i' || kind == 'u' || kind == 'x' || kind == 'X' || kind == 'o') {
        if (value.type == JINJA_FLOAT && ((kind != 'd' && kind != 'i' && kind != 'u') || !(value.real > -9e18 && value.real < 9e18)))
            jinja_fail(j, "an integer expected in a format");
        int64_t number = value.type == JINJA_FLOAT ? (int64_t)value.real : jinja_as_integer(value);
        uint64_t size = number < 0 ? -(uint64_t)number : (uint64_t)number;
        const char *form = kind == 'x' ? "%s%llx" : kind == 'X' ? "%s%llX" : kind == 'o' ? "%s%llo" : "%s%llu";
        snprintf(digits, sizeof digits, form, number < 0 ? "-" : field->plus ? "+" : field->space ? " " : "", (unsigned long long)size);
    } else {
        char form[] = {'%', '.', '*', kind, '\0'};
        double real = jinja_as_real(value);
        if (kind == '%') form[3] = 'f', real *= 100;
        int n = snprintf(digits, sizeof digits, field->plus && real >= 0 ? "+" : "");
        n += snprintf(digits + n, sizeof digits - (size_t)n, form, precision, real);
        if (kind == '%' && n < 500) strcpy(digits + n, "%");
    }
    struct jinja_text text = {0};
    size_t sign = digits[0] == '-' || digits[0] == '+' || digits[0] == ' ', length = strlen(digits);
    size_t point = strcspn(digits, ".e%");
    jinja_text_add(j, &text, (struct oct_span){.text = digits, .length = sign});
    if (field->zero && (size_t)field->width > length) jinja_text_fill(j, &text, '0', (size_t)field->width - length);
    for (size_t i = sign; i < length; i++) {
        if (field->comma && i > sign && i < point && (point - i) % 3 == 0) jinja_text_puts(j, &text, ",");
        jinja_text_fill(j, &text, digits[i], 1);
    }
    pad(j, out, jinja_text_span(&text), field, field->align ? field->align : '>');
}

struct jinja_value jinja_format_percent(struct jinja *j, struct oct_span format, struct jinja_value arguments) {
    struct jinja_text out = {0};
    struct jinja_list one = {.items = &arguments, .count = 1, .capacity = 1};
    const struct jinja_list *list = arguments.type == JINJA_TUPLE ? arguments.list : &one;
    size_t used = 0;
    bool named = false;
    for (size_t i = 0; i < format.length;) {
        const char *percent = memchr(format.text + i, '%', format.length - i);
        size_t next = percent ? (size_t)(percent - format.text) : format.length;
        jinja_text_add(j, &out, oct_subspan(format, i, next));
        if (!percent) break;
        i = next + 1;
        struct field field = {.fill = SPACE_FILL, .precision = -1};
        struct jinja_value value = jinja_undefined();
        bool has_value = false;
        if (i < format.length && format.text[i] == '(') {
            const char *close = memchr(format.text + i, ')', format.length - i);
            if (!close || arguments.type != JINJA_DICT) jinja_fail(j, "a format with %%(name) needs a mapping");
            struct oct_span key = oct_subspan(format, i + 1, (size_t)(close - format.text));
            const struct jinja_value *found = jinja_get(j, arguments.dict, (struct jinja_value){.type = JINJA_STRING, .string = &key});
            if (!found) jinja_fail(j, "a name in the format is not in the mapping");
            value = *found, has_value = named = true;
            i = (size_t)(close - format.text) + 1;
        }
        for (; i < format.length && strchr("-+ #0", format.text[i]) && format.text[i]; i++) {
            if (format.text[i] == '-') field.align = '<';
            if (format.text[i] == '0') field.zero = true;
            if (format.text[i] == '+') field.plus = true;
            if (format.text[i] == ' ') field.space = true;
        }
        field.width = read_width(j, format, &i);
        if (i < format.length && format.text[i] == '.') i++, field.precision = read_width(j, format, &i);
        if (i >= format.length) jinja_fail(j, "incomplete format");
        field.kind = format.text[i++];
        if (field.kind == '%') {
            jinja_text_add(j, &out, oct_subspan(format, i - 1, i));
            continue;
        }
        if (!has_value) {
            if (used >= list->count) jinja_fail(j, "not enough arguments for format string");
            value = list->items[used++];
        }
        if (field.kind && strchr("diuxXoeEfFgG", field.kind)) { // NUL, too, would be found there
            format_number(j, &out, value, &field);
        } else if (field.kind == 's' || field.kind == 'r') {
            struct jinja_text text = {0};
            field.kind == 's' ? jinja_print(j, &text, value) : jinja_repr(j, &text, value);
            struct oct_span span = jinja_text_span(&text);
            if (field.precision >= 0) span = oct_subspan(span, 0, jinja_character_offset(span, (size_t)field.precision));
            pad(j, &out, span, &field, field.align ? '<' : '>');
        } else {
            jinja_fail(j, "unsupported format character '%c'", field.kind);
        }
    }
    // Python lets what has items by key pass, as it could be meant for %(name)s.
    bool scalar = arguments.type == JINJA_TUPLE || jinja_is_string(arguments) || jinja_is_number(arguments) || jinja_is_none(arguments);
    if (!named && used < list->count && scalar) jinja_fail(j, "not all arguments converted during string formatting");
    return jinja_text_value(j, &out);
}

// [[fill]align][sign][#][0][width][,][.precision][type]
static struct field parse_field(struct jinja *j, struct oct_span text) {
    struct field field = {.fill = SPACE_FILL, .precision = -1};
    size_t i = 0;
    uint32_t code;
    size_t n = text.length ? oct_utf8_next(text.text, &code) : 0;
    if (n && n < text.length && strchr("<>^", text.text[n])) {
        field.fill = oct_subspan(text, 0, n);
        field.align = text.text[n];
        i = n + 1;
    } else if (n && strchr("<>^", text.text[0])) {
        field.align = text.text[0];
        i = 1;
    }
    for (; i < text.length && strchr("+- #", text.text[i]); i++) {
        if (text.text[i] == '+') field.plus = true;
        if (text.text[i] == ' ') field.space = true;
    }
    if (i < text.length && text.text[i] == '0') field.zero = true, i++;
    field.width = read_width(j, text, &i);
    if (i < text.length && text.text[i] == ',') field.comma = true, i++;
    if (i < text.length && text.text[i] == '.') i++, field.precision = read_width(j, text, &i);
    if (i < text.length) field.kind = text.text[i++];
    if (i < text.length) jinja_fail(j, "invalid format specifier");
    return field;
}

// What stands before ':' in braces: a number or a name, then .attribute and [item].
static struct jinja_value field_value(struct jinja *j, struct oct_span name, const struct jinja_arguments *arguments, size_t *next) {
    size_t end = 0;
    while (end < name.length && name.text[end] != '.' && name.text[end] != '[') end++;
    struct oct_span first = oct_subspan(name, 0, end);
    struct jinja_value value;
    bool number = true;
    size_t index = 0;
    for (size_t i = 0; i < first.length; i++) {
        number = number && first.text[i] >= '0' && first.text[i] <= '9' && index < 100000;
        index = index * 10 + (size_t)(first.text[i] - '0');
    }
    if (number) {
        if (!first.length) index = (*next)++;
        if (index >= arguments->count) jinja_fail(j, "a format names argument %zu of %zu", index, arguments->count);
        value = arguments->positional[index];
    } else {
        const struct jinja_value *found = NULL;
        for (size_t i = 0; i < arguments->num_named; i++) {
            struct oct_span other = arguments->named[i].name;
            if (other.length == first.length && memcmp(other.text, first.text, first.length) == 0) found = &arguments->named[i].value;
        }
        if (!found) jinja_fail(j, "a format names an argument that is not given");
        value = *found;
    }
    while (end < name.length) {
        bool is_item = name.text[end++] == '[';
        size_t start = end;
        while (end < name.length && (is_item ? name.text[end] != ']' : name.text[end] != '.' && name.text[end] != '[')) end++;
        struct jinja_value key = jinja_string(j, oct_subspan(name, start, end));
        if (is_item && end > start && name.text[start] >= '0' && name.text[start] <= '9') key = jinja_int(atoi(name.text + start));
        value = is_item ? jinja_item(j, value, key) : jinja_attribute(j, value, key);
        if (jinja_is_undefined(value) && !is_item) jinja_fail(j, "a format names an attribute that is not there or not safe");
        end += is_item;
    }
    return value;
}

struct jinja_value jinja_format_braces(struct jinja *j, struct oct_span format, const struct jinja_arguments *arguments) {
    struct jinja_text out = {0};
    size_t next = 0;
    for (size_t i = 0; i < format.length;) {
        size_t start = i;
        while (i < format.length && format.text[i] != '{' && format.text[i] != '}') i++;
        jinja_text_add(j, &out, oct_subspan(format, start, i));
        if (i == format.length) break;
        if (i + 1 < format.length && format.text[i + 1] == format.text[i]) {
            jinja_text_add(j, &out, oct_subspan(format, i, i + 1));
            i += 2;
            continue;
        }
        const char *close = memchr(format.text + i, '}', format.length - i);
        if (format.text[i] == '}' || !close) jinja_fail(j, "a single brace in a format");
        struct oct_span inside = oct_subspan(format, i + 1, (size_t)(close - format.text));
        if (memchr(inside.text, '{', inside.length)) jinja_fail(j, "nested format fields are not supported");
        i = (size_t)(close - format.text) + 1;
        const char *colon = memchr(inside.text, ':', inside.length);
        struct oct_span name = oct_subspan(inside, 0, colon ? (size_t)(colon - inside.text) : inside.length);
        struct oct_span spec = colon ? oct_subspan(inside, name.length + 1, inside.length) : (struct oct_span){.text = ""};
        bool as_repr = name.length >= 2 && memcmp(name.text + name.length - 2, "!r", 2) == 0;
        bool as_text = name.length >= 2 && memcmp(name.text + name.length - 2, "!s", 2) == 0;
        if (as_repr || as_text) name.length -= 2;
        struct jinja_value value = field_value(j, name, arguments, &next);
        struct field field = parse_field(j, spec);
        struct jinja_text text = {0};
        if (jinja_is_number(value) && !as_repr && !as_text && spec.length) {
            if (!field.kind || field.kind == 'n') field.kind = value.type == JINJA_FLOAT ? 'g' : 'd';
            bool fits = strchr(value.type == JINJA_FLOAT ? "eEfFgG%" : "dxXoeEfFgG%", field.kind);
            if (!fits) jinja_fail(j, "unknown format code '%c' for object of type '%s'", field.kind, jinja_type_name(value));
            format_number(j, &out, value, &field);
            continue;
        }
        if (field.kind && field.kind != 's') jinja_fail(j, "unknown format code '%c'", field.kind);
        if (field.plus || field.space || field.comma) jinja_fail(j, "a sign or comma in the format of a text");
        if (spec.length && !as_repr && !as_text && !jinja_is_string(value) && !jinja_is_undefined(value)) {
            jinja_fail(j, "unsupported format string passed to %s.__format__", jinja_type_name(value));
        }
        if (field.zero && !field.align) field.fill = ZERO_FILL;
        as_repr ? jinja_repr(j, &text, value) : jinja_print(j, &text, value);
        struct oct_span span = jinja_text_span(&text);
        if (field.precision >= 0) span = oct_subspan(span, 0, jinja_character_offset(span, (size_t)field.precision));
        pad(j, &out, span, &field, field.align ? field.align : '<');
    }
    return jinja_text_value(j, &out);
}

// The decimal number of a directive with its least width; false: it has none.
static bool time_number(const struct tm *now, char directive, int *width, int *number) {
    const struct {
        char directive;
        int width, number;
    } numbers[] = {
        {'Y', 4, now->tm_year + 1900}, {'y', 2, now->tm_year % 100}, {'m', 2, now->tm_mon + 1},
        {'d', 2, now->tm_mday},        {'H', 2, now->tm_hour},       {'I', 2, now->tm_hour % 12 ? now->tm_hour % 12 : 12},
        {'M', 2, now->tm_min},         {'S', 2, now->tm_sec},        {'j', 3, now->tm_yday + 1},
        {'w', 1, now->tm_wday},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].directive != directive) continue;
        *width = numbers[i].width, *number = numbers[i].number;
        return true;
    }
    return false;
}

// The text of a directive, of which `length` bytes count; NULL: it has none. Not strftime's: the output must not depend on the locale.
static const char *time_text(const struct tm *now, char directive, int *length) {
    static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
    const char *day = days[now->tm_wday % 7], *month = months[now->tm_mon % 12];
    const struct {
        char directive;
        int length;
        const char *text;
    } texts[] = {
        {'A', 16, day},     {'a', 3, day}, {'B', 16, month}, {'b', 3, month}, {'h', 3, month}, {'p', 2, now->tm_hour < 12 ? "AM" : "PM"},
        {'f', 6, "000000"}, {'Z', 0, ""},  {'z', 0, ""},     {'n', 1, "\n"},  {'t', 1, "\t"},  {'%', 1, "%"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].directive == directive) return *length = texts[i].length, texts[i].text;
    return NULL;
}

// The format that a directive is short for; NULL: it is short for none.
static const char *time_format(char directive) {
    switch (directive) {
    case 'F':
        return "%Y-%m-%d";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    case 'R':
        return "%H:%M";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    default:
        return NULL;
    }
}

static void format_time(struct jinja *j, struct oct_span format, struct jinja_text *out) {
    for (size_t i = 0; i < format.length; i++) {
        if (format.text[i] != '%' || i + 1 == format.length) {
            jinja_text_add(j, out, oct_subspan(format, i, i + 1));
            continue;
        }
        bool bare = format.text[i + 1] == '-' && i + 2 < format.length; // %-d: without a leading zero
        i += 1 + bare;
        char directive = format.text[i], line[32];
        const char *longer = time_format(directive), *text;
        int length, number;
        if (longer) {
            format_time(j, (struct oct_span){.text = longer, .length = strlen(longer)}, out);
            continue;
        }
        if (directive == 'e')
            snprintf(line, sizeof line, "%2d", j->now.tm_mday);
        else if (time_number(&j->now, directive, &length, &number))
            snprintf(line, sizeof line, "%0*d", bare ? 1 : length, number);
        else if ((text = time_text(&j->now, directive, &length)))
            snprintf(line, sizeof line, "%.*s", length, text);
        else
            jinja_fail(j, "strftime_now: %%%c is not supported", directive);
        jinja_text_puts(j, out, line);
    }
}

struct jinja_value jinja_format_time(struct jinja *j, struct oct_span format) {
    struct jinja_text out = {0};
    format_time(j, format, &out);
    return jinja_text_value(j, &out);
}
