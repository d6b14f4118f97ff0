// normalizer.c: a list of steps, each from one marked text to the next.
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#define MAX_STEPS 64

static struct oct_normalizer_step *add_step(struct oct_normalizer *normalizer, enum oct_normalizer_kind kind) {
    normalizer->steps = oct_resize(normalizer->steps, normalizer->count + 1, sizeof *normalizer->steps, "a normalizer");
    struct oct_normalizer_step *step = &normalizer->steps[normalizer->count++];
    *step = (struct oct_normalizer_step){.kind = kind};
    return step;
}

void oct_normalizer_add_prepend(struct oct_normalizer *normalizer, const char *text) {
    struct oct_normalizer_step *step = add_step(normalizer, OCT_NORMALIZE_PREPEND);
    step->text = oct_strdup(text);
    step->length = strlen(text);
}

void oct_normalizer_add_nfc(struct oct_normalizer *normalizer) {
    add_step(normalizer, OCT_NORMALIZE_UNICODE)->unicode_options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
}

oct_status oct_normalizer_add_replace(struct oct_normalizer *normalizer, const char *pattern, const char *text, oct_error *err) {
    struct oct_pattern *compiled;
    OCT_TRY(oct_pattern_compile("normalizer", pattern, strlen(pattern), true, &compiled, err));
    struct oct_normalizer_step *step = add_step(normalizer, OCT_NORMALIZE_REPLACE);
    step->pattern = compiled;
    step->text = oct_strdup(text);
    step->length = strlen(text);
    return OCT_OK;
}

static oct_status load_replace(const char *name, const json_t *json, struct oct_normalizer *out, oct_error *err) {
    const json_t *pattern = json_object_get(json, "pattern"), *content = json_object_get(json, "content");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *source = literal ? literal : regex;
    if (!json_is_string(source) || !json_is_string(content)) {
        return oct_fail(err, OCT_CORRUPT, "%s: normalizer Replace: a pattern {\"String\"} or {\"Regex\"} and a string content expected",
                        name);
    }
    struct oct_pattern *compiled;
    OCT_TRY(oct_pattern_compile(name, json_string_value(source), json_string_length(source), literal != NULL, &compiled, err));
    struct oct_normalizer_step *step = add_step(out, OCT_NORMALIZE_REPLACE);
    step->pattern = compiled;
    step->length = json_string_length(content);
    step->text = oct_strndup(json_string_value(content), step->length);
    return OCT_OK;
}

static bool flag(const json_t *json, const char *key, bool otherwise) {
    const json_t *value = json_object_get(json, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static oct_status load_step(const char *name, const json_t *json, int depth, struct oct_normalizer *out, oct_error *err) {
    static const struct {
        const char *type;
        int options;
    } forms[] = {
        {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
        {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
        {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
        {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    };
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return oct_fail(err, OCT_CORRUPT, "%s: normalizer: an object with a \"type\" expected, %s found", name, oct_json_kind(json));
    if (out->count >= MAX_STEPS || depth > 8) return oct_fail(err, OCT_UNSUPPORTED, "%s: normalizer: more than %d steps", name, MAX_STEPS);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "normalizers"), i, part) {
            OCT_TRY(load_step(name, part, depth + 1, out, err));
        }
        return OCT_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        const json_t *text = json_object_get(json, "prepend");
        if (!json_is_string(text)) return oct_fail(err, OCT_CORRUPT, "%s: normalizer Prepend: a string \"prepend\" expected", name);
        oct_normalizer_add_prepend(out, json_string_value(text));
        return OCT_OK;
    }
    if (strcmp(type, "Replace") == 0) return load_replace(name, json, out, err);
    if (strcmp(type, "Lowercase") == 0) {
        add_step(out, OCT_NORMALIZE_LOWERCASE);
        return OCT_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        struct oct_normalizer_step *step = add_step(out, OCT_NORMALIZE_STRIP);
        step->left = flag(json, "strip_left", true);
        step->right = flag(json, "strip_right", true);
        return OCT_OK;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].type) != 0) continue;
        add_step(out, OCT_NORMALIZE_UNICODE)->unicode_options = forms[i].options;
        return OCT_OK;
    }
    return oct_fail(err, OCT_UNSUPPORTED, "%s: normalizer %s is not supported", name, type);
}

oct_status oct_normalizer_load(const char *name, const json_t *json, struct oct_normalizer *out, oct_error *err) {
    if (!json || json_is_null(json)) return OCT_OK;
    return load_step(name, json, 0, out, err);
}

void oct_normalizer_free(struct oct_normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->count; i++) {
        oct_pattern_free(normalizer->steps[i].pattern);
        free(normalizer->steps[i].text);
    }
    free(normalizer->steps);
    *normalizer = (struct oct_normalizer){0};
}

static void replace(const struct oct_normalizer_step *step, struct oct_span piece, struct oct_marked_text *out) {
    size_t at = 0, start, end;
    while (oct_pattern_find(step->pattern, piece.text, piece.length, at, &start, &end)) {
        oct_marked_append(out, oct_subspan(piece, at, start));
        oct_marked_append_text(out, step->text, step->length, oct_span_is_marked(oct_subspan(piece, start, end)));
        at = end;
    }
    oct_marked_append(out, oct_subspan(piece, at, piece.length));
}

static struct oct_span strip(const struct oct_normalizer_step *step, struct oct_span piece) {
    uint32_t code;
    size_t start = 0, end = piece.length;
    for (size_t n; step->left && start < end; start += n) {
        n = oct_utf8_next(piece.text + start, &code);
        if (!oct_is_space(code)) break;
    }
    for (size_t before; step->right && end > start; end = before) {
        before = oct_utf8_before(piece.text, end);
        oct_utf8_next(piece.text + before, &code);
        if (!oct_is_space(code)) break;
    }
    return oct_subspan(piece, start, end);
}

static void lowercase(struct oct_span piece, struct oct_marked_text *out) {
    uint32_t code;
    char bytes[4];
    for (size_t i = 0, n; i < piece.length; i += n) {
        n = oct_utf8_next(piece.text + i, &code);
        bool mark = piece.marks && piece.marks[i];
        if (code == 0x130) { // the one letter whose lower case is two code points
            oct_marked_append_text(out, "i\xCC\x87", 3, mark);
            continue;
        }
        size_t length = oct_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), bytes);
        oct_marked_append_text(out, bytes, length, mark);
    }
}

// Composition crosses characters, so the bytes of a changed text are all marked if one byte was.
static bool to_unicode_form(const struct oct_normalizer_step *step, struct oct_span piece, struct oct_marked_text *out) {
    utf8proc_uint8_t *text = NULL;
    utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)piece.text, (utf8proc_ssize_t)piece.length, &text, (utf8proc_option_t)step->unicode_options);
    bool changed = length >= 0 && ((size_t)length != piece.length || memcmp(text, piece.text, piece.length) != 0);
    if (changed) oct_marked_append_text(out, (char *)text, (size_t)length, oct_span_is_marked(piece));
    free(text);
    return changed;
}

struct oct_span oct_normalize(const struct oct_normalizer *normalizer, struct oct_span piece, struct oct_marked_text *out,
                              struct oct_marked_text *scratch) {
    for (size_t i = 0; i < normalizer->count && piece.length; i++) {
        const struct oct_normalizer_step *step = &normalizer->steps[i];
        out->has_marks = piece.marks != NULL;
        oct_marked_clear(out);
        switch (step->kind) {
        case OCT_NORMALIZE_PREPEND:
            oct_marked_append_text(out, step->text, step->length, false);
            oct_marked_append(out, piece);
            break;
        case OCT_NORMALIZE_REPLACE:
            replace(step, piece, out);
            break;
        case OCT_NORMALIZE_LOWERCASE:
            lowercase(piece, out);
            break;
        case OCT_NORMALIZE_STRIP:
            piece = strip(step, piece);
            continue;
        case OCT_NORMALIZE_UNICODE:
            if (!to_unicode_form(step, piece, out)) continue;
            break;
        }
        piece = oct_marked_span(out);
        struct oct_marked_text *other = out; // the next step reads from what this one wrote
        out = scratch;
        scratch = other;
    }
    return piece;
}
