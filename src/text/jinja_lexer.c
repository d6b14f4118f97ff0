// Cuts a template's source into tokens. Between tags everything is data, trimmed as the signs in the neighbouring tags and the settings
// trim_blocks and lstrip_blocks say.
#include "text/jinja_syntax.h"

#include "text/unicode.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_BRACKETS 400

struct lexer {
    struct jinja *j;
    const char *text;
    size_t length, at;
    struct jinja_token *tokens;
    size_t count, capacity;
    bool line_starting; // the last thing read ended with a newline
    char brackets[MAX_BRACKETS];
    int depth;
};

static struct jinja_token *add_token(struct lexer *lexer, enum jinja_token_type type, size_t start, size_t end) {
    if (lexer->count == lexer->capacity) {
        size_t capacity = 2 * lexer->capacity + 64;
        struct jinja_token *tokens = jinja_alloc(lexer->j, capacity, sizeof *tokens);
        if (lexer->count) memcpy(tokens, lexer->tokens, lexer->count * sizeof *tokens);
        lexer->tokens = tokens;
        lexer->capacity = capacity;
    }
    struct jinja_token *token = &lexer->tokens[lexer->count++];
    *token = (struct jinja_token){.type = type, .line = lexer->j->line, .text = {.text = lexer->text + start, .length = end - start}};
    return token;
}

// Moves to `to`, counting lines.
static void advance(struct lexer *lexer, size_t to) {
    for (size_t i = lexer->at; i < to; i++) lexer->j->line += lexer->text[i] == '\n';
    if (to > lexer->at) lexer->line_starting = lexer->text[to - 1] == '\n';
    lexer->at = to;
}

static bool at(const struct lexer *lexer, size_t position, const char *what) {
    size_t length = strlen(what);
    return position <= lexer->length && lexer->length - position >= length && memcmp(lexer->text + position, what, length) == 0;
}

static size_t skip_space(const struct lexer *lexer, size_t position) {
    uint32_t code;
    while (position < lexer->length) {
        size_t n = oct_utf8_next(lexer->text + position, &code);
        if (!jinja_is_space(code)) break;
        position += n;
    }
    return position;
}

static size_t space_before(const struct lexer *lexer, size_t start, size_t end) {
    uint32_t code;
    while (end > start) {
        size_t before = oct_utf8_before(lexer->text, end);
        oct_utf8_next(lexer->text + before, &code);
        if (!jinja_is_space(code)) break;
        end = before;
    }
    return end;
}

// Where data that began at `start` ends, when a tag with `sign` begins at `end`.
static size_t trim_data(const struct lexer *lexer, size_t start, size_t end, char sign, bool is_print) {
    if (sign == '-') return space_before(lexer, start, end);
    if (sign == '+' || is_print) return end;
    size_t line = end;
    while (line > start && lexer->text[line - 1] != '\n') line--;
    if (line == start && !lexer->line_starting) return end;
    return space_before(lexer, line, end) == line ? line : end;
}

static char sign_at(const struct lexer *lexer, size_t position) {
    char c = position < lexer->length ? lexer->text[position] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

// The end of a closing tag sign at `position` ("%}", "-%}", "+%}"), with the white space it swallows; 0: none there.
static size_t closing(const struct lexer *lexer, size_t position, const char *end) {
    char sign = sign_at(lexer, position);
    size_t close = position + (sign != '\0');
    if (!at(lexer, close, end)) return 0;
    close += 2;
    if (sign == '-') return skip_space(lexer, close);
    if (strcmp(end, "}}") == 0) return sign == '+' ? 0 : close;
    return close + (sign != '+' && at(lexer, close, "\n"));
}

static bool is_name_character(uint32_t code, bool first) {
    if (code < 0x80)
        return code == '_' || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || (!first && code >= '0' && code <= '9');
    return oct_classes()[code] & (first ? OCT_LETTER : OCT_LETTER | OCT_NUMBER | OCT_MARK);
}

static size_t name_end(const struct lexer *lexer, size_t position) {
    uint32_t code;
    size_t start = position;
    while (position < lexer->length) {
        size_t n = oct_utf8_next(lexer->text + position, &code);
        if (!is_name_character(code, position == start)) break;
        position += n;
    }
    return position;
}

static void read_comment(struct lexer *lexer) {
    size_t start = lexer->at + 2;
    const char *found = memmem(lexer->text + start, lexer->length - start, "#}", 2);
    if (!found) jinja_fail(lexer->j, "missing end of comment tag");
    size_t end = (size_t)(found - lexer->text);
    char sign = end > start ? sign_at(lexer, end - 1) : '\0';
    advance(lexer, closing(lexer, end - (sign != '\0'), "#}"));
}

// "raw" or "endraw" in a block tag at `position`: the end of the tag, 0: it is another. *sign: of the opening.
static size_t raw_tag(const struct lexer *lexer, size_t position, const char *word, char *sign) {
    *sign = sign_at(lexer, position + 2);
    size_t start = skip_space(lexer, position + 2 + (*sign != '\0'));
    if (!at(lexer, start, word) || name_end(lexer, start) != start + strlen(word)) return 0;
    size_t end = skip_space(lexer, start + strlen(word)), close = closing(lexer, end, "%}");
    if (strcmp(word, "raw") == 0 && close && sign_at(lexer, end) == '\0') return end + 2; // a newline after {% raw %} stays
    return close;
}

static void read_raw(struct lexer *lexer, size_t start) {
    advance(lexer, start);
    size_t position = start;
    char sign;
    while (true) {
        const char *found = memmem(lexer->text + position, lexer->length - position, "{%", 2);
        if (!found) jinja_fail(lexer->j, "missing end of raw directive");
        position = (size_t)(found - lexer->text);
        size_t close = raw_tag(lexer, position, "endraw", &sign);
        if (!close) {
            position += 2;
            continue;
        }
        size_t end = trim_data(lexer, start, position, sign, false);
        if (end > start) add_token(lexer, TOKEN_DATA, start, end);
        advance(lexer, close);
        return;
    }
}

static int digit_value(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

// The end of digits with single underscores between them.
static size_t digits_end(const struct lexer *lexer, size_t position, int base) {
    size_t end = position;
    while (position < lexer->length && digit_value(lexer->text[position]) < base) {
        end = ++position;
        if (at(lexer, position, "_")) position++;
    }
    return end;
}

static void read_number(struct lexer *lexer) {
    size_t start = lexer->at, end = digits_end(lexer, start, 10);
    bool is_float = false, after_dot = start && lexer->text[start - 1] == '.';
    int base = 10;
    char copy[512];
    if (lexer->text[start] == '0' && start + 2 < lexer->length) {
        char kind = (char)(lexer->text[start + 1] | 0x20);
        int other = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        size_t skip = start + 2 + at(lexer, start + 2, "_");
        if (other && digits_end(lexer, skip, other) > skip) base = other, end = digits_end(lexer, skip, other);
    }
    if (base == 10 && !after_dot) {
        if (at(lexer, end, ".") && digits_end(lexer, end + 1, 10) > end + 1) is_float = true, end = digits_end(lexer, end + 1, 10);
        if (at(lexer, end, "e") || at(lexer, end, "E")) {
            size_t exponent = end + 1 + (sign_at(lexer, end + 1) != '\0');
            if (digits_end(lexer, exponent, 10) > exponent) is_float = true, end = digits_end(lexer, exponent, 10);
        }
    }
    size_t length = 0;
    for (size_t i = start + (base == 10 ? 0 : 2); i < end; i++) {
        if (lexer->text[i] == '_') continue;
        if (length == sizeof copy - 1) jinja_fail(lexer->j, "a number of more than %zu digits", sizeof copy - 1);
        copy[length++] = lexer->text[i];
    }
    copy[length] = '\0';
    struct jinja_token *token = add_token(lexer, is_float ? TOKEN_FLOAT : TOKEN_INTEGER, start, end);
    errno = 0;
    if (is_float) {
        token->real = strtod(copy, NULL);
        if (token->real > 1.7976931348623157e308) jinja_fail(lexer->j, "the number %s is too large", copy);
    } else {
        token->integer = strtoll(copy, NULL, base);
        if (errno) jinja_fail(lexer->j, "the integer %.80s does not fit in 64 bits", copy);
    }
    advance(lexer, end);
}

static size_t read_escape(struct lexer *lexer, size_t position, struct jinja_text *out) {
    static const char simple[] = "n\nt\tr\ra\ab\bf\fv\v\\\\'\'\"\"";
    char kind = lexer->text[position];
    for (size_t i = 0; i + 1 < sizeof simple; i += 2) {
        if (kind != simple[i]) continue;
        jinja_text_add(lexer->j, out, (struct oct_span){.text = &simple[i + 1], .length = 1});
        return position + 1;
    }
    if (kind == '\n') return position + 1;
    int digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0, base = 16;
    size_t at_digit = position + 1;
    if (kind >= '0' && kind <= '7') digits = 3, base = 8, at_digit = position;
    if (!digits || kind == 'N') { // not an escape: the backslash stays
        if (kind == 'N') jinja_fail(lexer->j, "\\N escapes are not supported");
        jinja_text_puts(lexer->j, out, "\\");
        uint32_t character;
        size_t n = oct_utf8_next(lexer->text + position, &character);
        jinja_text_add(lexer->j, out, (struct oct_span){.text = lexer->text + position, .length = n});
        return position + n;
    }
    uint32_t code = 0;
    int n = 0;
    for (; n < digits && at_digit < lexer->length && digit_value(lexer->text[at_digit]) < base; n++) {
        code = code * (uint32_t)base + (uint32_t)digit_value(lexer->text[at_digit++]);
    }
    if ((base == 16 && n < digits) || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        jinja_fail(lexer->j, "a string has an escape that is not a character");
    }
    char bytes[4];
    jinja_text_add(lexer->j, out, (struct oct_span){.text = bytes, .length = oct_utf8_encode(code, bytes)});
    return at_digit;
}

static void read_string(struct lexer *lexer) {
    char quote = lexer->text[lexer->at];
    size_t position = lexer->at + 1;
    struct jinja_text out = {0};
    while (position < lexer->length && lexer->text[position] != quote) {
        size_t start = position;
        while (position < lexer->length && lexer->text[position] != quote && lexer->text[position] != '\\') position++;
        jinja_text_add(lexer->j, &out, (struct oct_span){.text = lexer->text + start, .length = position - start});
        if (position + 1 < lexer->length && lexer->text[position] == '\\') {
            position = read_escape(lexer, position + 1, &out);
        } else if (position < lexer->length && lexer->text[position] == '\\') {
            position++;
        }
    }
    if (position >= lexer->length) jinja_fail(lexer->j, "a string has no end");
    struct jinja_token *token = add_token(lexer, TOKEN_STRING, lexer->at, position + 1);
    token->text = jinja_text_span(&out);
    advance(lexer, position + 1);
}

static void read_operator(struct lexer *lexer) {
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!at(lexer, lexer->at, operators[i])) continue;
        char c = operators[i][0];
        if (c == '(' || c == '[' || c == '{') {
            if (lexer->depth == MAX_BRACKETS) jinja_fail(lexer->j, "brackets are nested more than %d deep", MAX_BRACKETS);
            lexer->brackets[lexer->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!lexer->depth) jinja_fail(lexer->j, "unexpected '%c'", c);
            char expected = lexer->brackets[--lexer->depth];
            if (c != expected) jinja_fail(lexer->j, "unexpected '%c', expected '%c'", c, expected);
        }
        size_t end = lexer->at + strlen(operators[i]);
        add_token(lexer, TOKEN_OPERATOR, lexer->at, end);
        advance(lexer, end);
        return;
    }
    jinja_fail(lexer->j, "unexpected character '%.*s'", (int)(lexer->length - lexer->at < 1 ? 0 : 1), lexer->text + lexer->at);
}

// From behind "{{" or "{%" to behind the end of the tag.
static void read_tag(struct lexer *lexer, const char *end, enum jinja_token_type end_type) {
    lexer->depth = 0;
    while (true) {
        advance(lexer, skip_space(lexer, lexer->at));
        if (lexer->at >= lexer->length) {
            return; // the parser says what it misses
        }
        size_t close = lexer->depth ? 0 : closing(lexer, lexer->at, end);
        if (close) {
            add_token(lexer, end_type, lexer->at, lexer->at);
            advance(lexer, close);
            return;
        }
        char c = lexer->text[lexer->at];
        size_t name = name_end(lexer, lexer->at);
        if (name > lexer->at) {
            add_token(lexer, TOKEN_NAME, lexer->at, name);
            advance(lexer, name);
        } else if (c >= '0' && c <= '9') {
            read_number(lexer);
        } else if (c == '\'' || c == '"') {
            read_string(lexer);
        } else {
            read_operator(lexer);
        }
    }
}

// The next "{{", "{%" or "{#" from `position` on; the length where there is none.
static size_t next_opening(const struct lexer *lexer, size_t position) {
    while (position + 1 < lexer->length) {
        const char *brace = memchr(lexer->text + position, '{', lexer->length - position - 1);
        if (!brace) break;
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') return (size_t)(brace - lexer->text);
        position = (size_t)(brace - lexer->text) + 1;
    }
    return lexer->length;
}

static void read_data(struct lexer *lexer) {
    size_t start = lexer->at, open = next_opening(lexer, start);
    if (open == lexer->length) {
        if (open > start) add_token(lexer, TOKEN_DATA, start, open);
        advance(lexer, open);
        return;
    }
    char sign = sign_at(lexer, open + 2), kind = lexer->text[open + 1], raw_sign;
    size_t end = trim_data(lexer, start, open, sign, kind == '{');
    if (end > start) add_token(lexer, TOKEN_DATA, start, end);
    advance(lexer, open);
    size_t raw = kind == '%' ? raw_tag(lexer, open, "raw", &raw_sign) : 0;
    if (kind == '#') {
        read_comment(lexer);
    } else if (raw) {
        read_raw(lexer, raw);
    } else {
        add_token(lexer, kind == '{' ? TOKEN_PRINT : TOKEN_BLOCK, open, open);
        advance(lexer, open + 2 + (sign == '-' || (sign == '+' && kind == '%')));
        read_tag(lexer, kind == '{' ? "}}" : "%}", kind == '{' ? TOKEN_PRINT_END : TOKEN_BLOCK_END);
    }
}

// \r\n and \r become \n, and one newline at the end is dropped.
static struct oct_span normalize_newlines(struct jinja *j, struct oct_span source) {
    char *text = jinja_alloc(j, source.length + 1, 1);
    size_t length = 0;
    for (size_t i = 0; i < source.length; i++) {
        if (source.text[i] == '\r' && i + 1 < source.length && source.text[i + 1] == '\n') continue;
        text[length++] = source.text[i] == '\r' ? '\n' : source.text[i];
    }
    if (length && text[length - 1] == '\n') length--;
    return (struct oct_span){.text = text, .length = length};
}

struct jinja_token *jinja_tokenize(struct jinja *j, struct oct_span source, size_t *count) {
    source = normalize_newlines(j, source);
    struct lexer lexer = {.j = j, .text = source.text, .length = source.length, .line_starting = true};
    j->line = 1;
    while (lexer.at < lexer.length) read_data(&lexer);
    add_token(&lexer, TOKEN_END, lexer.length, lexer.length);
    *count = lexer.count;
    return lexer.tokens;
}
