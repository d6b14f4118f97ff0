// How values are printed: Python's str() and repr(), and json.dumps().
#include "text/jinja_value.h"

#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void jinja_print_float(char out[32], double value) {
    if (isnan(value) || isinf(value)) {
        strcpy(out, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    char digits[32];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, value);
    while (strtod(digits, NULL) != value && ++precision < 17);
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - exponent;
        snprintf(out, 32, "%.*f", decimals > 0 ? decimals : 1, value);
        return;
    }
    snprintf(out, 32, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+', abs(exponent));
}

static bool is_printable(uint32_t code) {
    if (code < 0x7F) return code >= 0x20;
    if (code == ' ') return true;
    uint8_t classes = oct_classes()[code];
    return !(classes & OCT_SPACE) && (classes & (OCT_LETTER | OCT_MARK | OCT_NUMBER | OCT_PUNCTUATION | OCT_SYMBOL));
}

static void repr_string(struct jinja *j, struct jinja_text *text, struct oct_span span) {
    char quote = span.length && memchr(span.text, '\'', span.length) && !memchr(span.text, '"', span.length) ? '"' : '\'';
    jinja_text_fill(j, text, quote, 1);
    for (size_t i = 0, n; i < span.length; i += n) {
        uint32_t code;
        n = oct_utf8_next(span.text + i, &code);
        char escape[12] = "";
        if (code == '\\' || code == (unsigned char)quote) {
            snprintf(escape, sizeof escape, "\\%c", (int)code);
        } else if (code == '\n' || code == '\r' || code == '\t') {
            snprintf(escape, sizeof escape, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        } else if (!is_printable(code)) {
            snprintf(escape, sizeof escape, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
        }
        unsigned char marks[12];
        memset(marks, span.marks ? span.marks[i] : 0, sizeof marks);
        jinja_text_add(j, text, *escape ? (struct oct_span){escape, marks, strlen(escape)} : oct_subspan(span, i, i + n));
    }
    jinja_text_fill(j, text, quote, 1);
}

static void repr_list(struct jinja *j, struct jinja_text *text, const struct jinja_list *list, const char *open, const char *close) {
    jinja_text_puts(j, text, open);
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_text_puts(j, text, ", ");
        jinja_repr(j, text, list->items[i]);
    }
    if (list->count == 1 && *open == '(') jinja_text_puts(j, text, ",");
    jinja_text_puts(j, text, close);
}

static void repr_dict(struct jinja *j, struct jinja_text *text, const struct jinja_dict *dict) {
    jinja_text_puts(j, text, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) jinja_text_puts(j, text, ", ");
        jinja_repr(j, text, dict->pairs[i].key);
        jinja_text_puts(j, text, ": ");
        jinja_repr(j, text, dict->pairs[i].value);
    }
    jinja_text_puts(j, text, "}");
}

static void repr_range(struct jinja *j, struct jinja_text *text, const struct jinja_list *list) {
    char line[80];
    int64_t first = list->count ? list->items[0].integer : 0;
    int64_t step = list->count > 1 ? list->items[1].integer - first : 1;
    int64_t end = list->count ? list->items[list->count - 1].integer + step : 0;
    int n = snprintf(line, sizeof line, step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", (long long)first, (long long)end,
                     (long long)step);
    jinja_text_add(j, text, (struct oct_span){.text = line, .length = (size_t)n});
}

void jinja_repr(struct jinja *j, struct jinja_text *text, struct jinja_value value) {
    char line[96];
    jinja_enter(j);
    switch (value.type) {
    case JINJA_UNDEFINED:
        jinja_text_puts(j, text, "Undefined");
        break;
    case JINJA_NONE:
        jinja_text_puts(j, text, "None");
        break;
    case JINJA_BOOL:
        jinja_text_puts(j, text, value.boolean ? "True" : "False");
        break;
    case JINJA_INT:
        snprintf(line, sizeof line, "%lld", (long long)value.integer);
        jinja_text_puts(j, text, line);
        break;
    case JINJA_BIG:
        jinja_text_add(j, text, *value.string);
        break;
    case JINJA_FLOAT:
        jinja_print_float(line, value.real);
        jinja_text_puts(j, text, line);
        break;
    case JINJA_STRING:
        if (value.safe) jinja_text_puts(j, text, "Markup(");
        repr_string(j, text, *value.string);
        if (value.safe) jinja_text_puts(j, text, ")");
        break;
    case JINJA_LIST:
        repr_list(j, text, value.list, "[", "]");
        break;
    case JINJA_TUPLE:
        repr_list(j, text, value.list, "(", ")");
        break;
    case JINJA_DICT:
        repr_dict(j, text, value.dict);
        break;
    case JINJA_VIEW:
        if (strcmp(value.view->label, "range") == 0) {
            repr_range(j, text, value.view->list);
        } else {
            jinja_text_puts(j, text, value.view->label);
            repr_list(j, text, value.view->list, "([", "])");
        }
        break;
    case JINJA_NAMESPACE:
        jinja_text_puts(j, text, "<Namespace ");
        repr_dict(j, text, value.dict);
        jinja_text_puts(j, text, ">");
        break;
    default:
        snprintf(line, sizeof line, "<%s object>", jinja_type_name(value));
        jinja_text_puts(j, text, line);
    }
    jinja_leave(j);
}

void jinja_print(struct jinja *j, struct jinja_text *text, struct jinja_value value) {
    if (value.type == JINJA_STRING) {
        jinja_text_add(j, text, *value.string);
    } else if (value.type != JINJA_UNDEFINED) {
        jinja_repr(j, text, value);
    }
}

struct jinja_value jinja_to_string(struct jinja *j, struct jinja_value value) {
    if (jinja_is_string(value)) return value;
    struct jinja_text text = {0};
    jinja_print(j, &text, value);
    return jinja_text_value(j, &text);
}

static void write_json_string(struct jinja *j, struct jinja_text *text, struct oct_span span, bool ensure_ascii) {
    jinja_text_fill(j, text, '"', 1);
    size_t plain = 0;
    for (size_t i = 0, n; i < span.length; i += n) {
        uint32_t code;
        n = oct_utf8_next(span.text + i, &code);
        char escape[16] = "";
        static const char simple[] = "\"\"\\\\\bb\ff\nn\rr\tt";
        const char *found = code < 0x80 && code ? strchr(simple, (int)code) : NULL;
        while (found && (found - simple) % 2) found = strchr(found + 1, (int)code); // the first of a pair is the character
        if (found) {
            snprintf(escape, sizeof escape, "\\%c", found[1]);
        } else if (code < 0x20 || (code >= 0x7F && ensure_ascii && code < 0x10000)) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code);
        } else if (code >= 0x10000 && ensure_ascii) {
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((code - 0x10000) >> 10)),
                     (unsigned)(0xDC00 + (code & 0x3FF)));
        }
        if (!*escape) continue;
        unsigned char marks[16];
        memset(marks, span.marks ? span.marks[i] : 0, sizeof marks);
        jinja_text_add(j, text, oct_subspan(span, plain, i));
        jinja_text_add(j, text, (struct oct_span){escape, marks, strlen(escape)});
        plain = i + n;
    }
    jinja_text_add(j, text, oct_subspan(span, plain, span.length));
    jinja_text_fill(j, text, '"', 1);
}

static void json_break(struct jinja *j, struct jinja_text *text, const struct jinja_json_style *style, int level) {
    if (!style->has_indent) return;
    jinja_text_puts(j, text, "\n");
    for (int i = 0; i < level; i++) jinja_text_add(j, text, style->indent);
}

static void json_value(struct jinja *j, struct jinja_text *text, struct jinja_value value, const struct jinja_json_style *style, int level);

static void json_key(struct jinja *j, struct jinja_text *text, struct jinja_value key, const struct jinja_json_style *style) {
    if (jinja_is_string(key)) {
        write_json_string(j, text, *key.string, style->ensure_ascii);
        return;
    }
    if (!jinja_is_number(key) && !jinja_is_none(key))
        jinja_fail(j, "keys must be str, int, float, bool or None, not %s", jinja_type_name(key));
    jinja_text_puts(j, text, "\"");
    json_value(j, text, key, style, 0);
    jinja_text_puts(j, text, "\"");
}

static int by_key(const void *a, const void *b) {
    const struct jinja_pair *x = *(const struct jinja_pair *const *)a, *y = *(const struct jinja_pair *const *)b;
    size_t both = x->key.string->length < y->key.string->length ? x->key.string->length : y->key.string->length;
    int order = memcmp(x->key.string->text, y->key.string->text, both);
    return order ? order : (x->key.string->length > y->key.string->length) - (x->key.string->length < y->key.string->length);
}

static void json_dict(struct jinja *j, struct jinja_text *text, const struct jinja_dict *dict, const struct jinja_json_style *style,
                      int level) {
    const struct jinja_pair **order = jinja_alloc(j, dict->count + 1, sizeof *order);
    for (size_t i = 0; i < dict->count; i++) {
        order[i] = &dict->pairs[i];
        if (style->sort_keys && !jinja_is_string(order[i]->key)) jinja_fail(j, "sort_keys needs keys that are all str");
    }
    if (style->sort_keys) qsort(order, dict->count, sizeof *order, by_key);
    jinja_text_puts(j, text, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i) jinja_text_add(j, text, style->item_separator);
        json_break(j, text, style, level + 1);
        json_key(j, text, order[i]->key, style);
        jinja_text_add(j, text, style->key_separator);
        json_value(j, text, order[i]->value, style, level + 1);
    }
    if (dict->count) json_break(j, text, style, level);
    jinja_text_puts(j, text, "}");
}

static void json_list(struct jinja *j, struct jinja_text *text, const struct jinja_list *list, const struct jinja_json_style *style,
                      int level) {
    jinja_text_puts(j, text, "[");
    for (size_t i = 0; i < list->count; i++) {
        if (i) jinja_text_add(j, text, style->item_separator);
        json_break(j, text, style, level + 1);
        json_value(j, text, list->items[i], style, level + 1);
    }
    if (list->count) json_break(j, text, style, level);
    jinja_text_puts(j, text, "]");
}

static void json_value(struct jinja *j, struct jinja_text *text, struct jinja_value value, const struct jinja_json_style *style,
                       int level) {
    char line[32];
    jinja_enter(j);
    switch (value.type) {
    case JINJA_NONE:
        jinja_text_puts(j, text, "null");
        break;
    case JINJA_BOOL:
        jinja_text_puts(j, text, value.boolean ? "true" : "false");
        break;
    case JINJA_BIG:
    case JINJA_INT:
        jinja_repr(j, text, value);
        break;
    case JINJA_FLOAT:
        jinja_print_float(line, value.real);
        if (isnan(value.real)) strcpy(line, "NaN");
        if (isinf(value.real)) strcpy(line, value.real > 0 ? "Infinity" : "-Infinity");
        jinja_text_puts(j, text, line);
        break;
    case JINJA_STRING:
        write_json_string(j, text, *value.string, style->ensure_ascii);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        json_list(j, text, value.list, style, level);
        break;
    case JINJA_DICT:
        json_dict(j, text, value.dict, style, level);
        break;
    default:
        jinja_fail(j, "Object of type %s is not JSON serializable", jinja_type_name(value));
    }
    jinja_leave(j);
}

void jinja_print_json(struct jinja *j, struct jinja_text *text, struct jinja_value value, const struct jinja_json_style *style) {
    json_value(j, text, value, style, 0);
}
