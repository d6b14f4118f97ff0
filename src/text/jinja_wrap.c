// jinja_wrap.c: the filter wordwrap: lines broken as Python's textwrap breaks them. A line is cut into chunks, words and the white space
// between them; lines are filled with whole chunks, and a line's last chunk is dropped where it is white space.
#include "text/jinja_value.h"

#include "text/unicode.h"

struct wrap {
    struct jinja *j;
    struct jinja_text *out;
    struct oct_span line_break;
    size_t width; // in code points, at least 1
    bool break_long_words, break_on_hyphens;
    size_t num_lines; // of the paragraph so far
};

static uint32_t code_at(struct oct_span text, size_t at) { // 0: outside of the text
    uint32_t code = 0;
    if (at < text.length) oct_utf8_next(text.text + at, &code);
    return code;
}

static uint32_t code_before(struct oct_span text, size_t at) {
    return at ? code_at(text, oct_utf8_before(text.text, at)) : 0;
}

static bool is_blank(uint32_t code) {
    return code == ' ' || (code >= '\t' && code <= '\r');
}

static bool is_letter(uint32_t code) {
    return code == '_' || (oct_classes()[code] & OCT_LETTER);
}

static bool is_word(uint32_t code) {
    return is_letter(code) || (oct_classes()[code] & OCT_NUMBER);
}

static bool is_word_or_mark(uint32_t code) {
    return is_word(code) || (code && code < 0x80 && strchr("!\"'&.,?", (int)code));
}

// The end of a dash of at least two hyphens between words that starts at `at`; `at`: there is none.
static size_t dash_end(struct oct_span text, size_t at) {
    size_t end = at;
    while (code_at(text, end) == '-') end++;
    return end - at >= 2 && is_word_or_mark(code_before(text, at)) && is_word(code_at(text, end)) ? end : at;
}

// Whether a word may end behind the hyphen at `at`: two letters before it, or a letter and one more hyphenated character; and behind it
// two letters, or two with a hyphen between them.
static bool breaks_behind(struct oct_span text, size_t at) {
    if (text.text[at] != '-' || !at) return false;
    size_t one = oct_utf8_before(text.text, at), two = one ? oct_utf8_before(text.text, one) : 0;
    bool letters = one && is_letter(code_at(text, one)) && is_letter(code_at(text, two));
    bool hyphenated = two && is_word_or_mark(code_at(text, one)) && code_at(text, two) == '-' && is_letter(code_before(text, two));
    if (!letters && !hyphenated) return false;
    size_t next = at + 1;
    uint32_t code;
    if (!is_letter(code_at(text, next))) return false;
    next += oct_utf8_next(text.text + next, &code);
    if (code_at(text, next) == '-') next++;
    return is_letter(code_at(text, next));
}

static size_t chunk_end(const struct wrap *wrap, struct oct_span text, size_t start) {
    uint32_t code;
    size_t end = start;
    if (is_blank(code_at(text, start))) {
        while (is_blank(code_at(text, end))) end++;
        return end;
    }
    if (wrap->break_on_hyphens && (end = dash_end(text, start)) > start) return end;
    while (end < text.length) {
        end += oct_utf8_next(text.text + end, &code);
        if (is_blank(code_at(text, end))) break;
        if (!wrap->break_on_hyphens || end == text.length) continue;
        if (breaks_behind(text, end)) return end + 1;
        if (dash_end(text, end) > end) break;
    }
    return end;
}

// Where a word that is longer than a line is cut so that at most `room` of its characters are left: behind a hyphen if one is there,
// unless all before it are hyphens too.
static size_t cut(const struct wrap *wrap, struct oct_span word, size_t room) {
    size_t end = jinja_character_offset(word, room), hyphen = SIZE_MAX;
    bool other = false, other_before = false; // than hyphens
    for (size_t i = 0; wrap->break_on_hyphens && i < end; i++) {
        if (word.text[i] == '-') hyphen = i, other_before = other;
        other = other || word.text[i] != '-';
    }
    return hyphen != SIZE_MAX && hyphen > 0 && other_before ? hyphen + 1 : end;
}

static void add_line(struct wrap *wrap, struct oct_span line) {
    if (!line.length) return;
    if (wrap->num_lines++) jinja_text_add(wrap->j, wrap->out, wrap->line_break);
    jinja_text_add(wrap->j, wrap->out, line);
}

static void wrap_paragraph(struct wrap *wrap, struct oct_span text) {
    size_t at = 0, end = chunk_end(wrap, text, 0), count = jinja_count_characters(oct_subspan(text, 0, end)); // the chunk that comes next
    wrap->num_lines = 0;
    while (at < text.length) {
        size_t start = at, last = at, used = 0;
        jinja_charge(wrap->j, wrap->width < text.length ? wrap->width : text.length);
        bool skipped = wrap->num_lines && !jinja_strip(oct_subspan(text, at, end), NULL, true, true).length;
        while (at < text.length && (skipped || used + count <= wrap->width)) {
            if (skipped)
                start = end;
            else
                used += count;
            last = skipped ? end : at;
            skipped = false;
            at = end;
            end = chunk_end(wrap, text, at);
            count = jinja_count_characters(oct_subspan(text, at, end));
        }
        if (at < text.length && count > wrap->width && (wrap->break_long_words || at == start)) {
            size_t length = wrap->break_long_words ? cut(wrap, oct_subspan(text, at, end), wrap->width - used) : end - at;
            last = at;
            count -= jinja_count_characters(oct_subspan(text, at, at + length));
            at += length;
            if (at == end) {
                end = chunk_end(wrap, text, at);
                count = jinja_count_characters(oct_subspan(text, at, end));
            }
        }
        bool blank = !jinja_strip(oct_subspan(text, last, at), NULL, true, true).length;
        add_line(wrap, oct_subspan(text, start, blank ? last : at));
    }
}

struct jinja_value jinja_wrap_words(struct jinja *j, struct jinja_value text, const struct jinja_arguments *arguments) {
    struct jinja_text out = {0};
    int64_t width = jinja_integer_or(j, arguments, 0, "width", 79);
    struct jinja_value line_break = jinja_argument_or(arguments, 2, "wrapstring", jinja_none());
    if (width < 1) jinja_fail(j, "wordwrap: a width of at least 1 expected, %lld found", (long long)width);
    struct wrap wrap = {
        .j = j,
        .out = &out,
        .line_break = jinja_is_none(line_break) ? (struct oct_span){.text = "\n", .length = 1} : *jinja_to_string(j, line_break).string,
        .width = (size_t)width,
        .break_long_words = jinja_truth(jinja_argument_or(arguments, 1, "break_long_words", jinja_bool(true))),
        .break_on_hyphens = jinja_truth(jinja_argument_or(arguments, 3, "break_on_hyphens", jinja_bool(true))),
    };
    struct jinja_value paragraphs =
        jinja_call_value(j, jinja_attribute(j, text, jinja_string_of(j, "splitlines")), &(struct jinja_arguments){0});
    for (size_t i = 0; i < paragraphs.list->count; i++) {
        if (i) jinja_text_add(j, &out, wrap.line_break);
        wrap_paragraph(&wrap, *paragraphs.list->items[i].string);
    }
    return jinja_text_value(j, &out);
}
