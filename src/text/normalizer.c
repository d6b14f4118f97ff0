// normalizer.c: what tokenizer.json does to text before it is split.
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

#define MAX_STEPS  64
#define MAX_GROWTH 64 // a normalizer that makes gigabytes of a prompt is an attack

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
    size_t matched = literal && json_string_length(literal) ? json_string_length(literal) : 1;
    size_t growth = (json_string_length(content) + matched - 1) / matched;
    out->growth = (out->growth ? out->growth : 1) * (growth ? growth : 1);
    if (growth > MAX_GROWTH || out->growth > MAX_GROWTH)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: normalizer Replace: a text may become at most %d times as long", name, MAX_GROWTH);
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
        if (json_string_length(text) > MAX_GROWTH) { // it stands before each piece between added tokens
            return oct_fail(err, OCT_UNSUPPORTED, "%s: normalizer Prepend: at most %d bytes are supported", name, MAX_GROWTH);
        }
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

void oct_normal_memory_free(struct oct_normal_memory *memory) {
    oct_marked_free(&memory->text);
    free(memory->origins.data);
    memory->origins = (struct oct_ranges){0};
}

static bool is_marked(struct oct_normal_text text, size_t start, size_t end) {
    return oct_span_is_marked(oct_subspan(text.span, start, end));
}

// Appends bytes [start, end) of `text` as they are.
static void keep(struct oct_normal_memory *out, struct oct_normal_text text, size_t start, size_t end) {
    oct_marked_append(&out->text, oct_subspan(text.span, start, end));
    for (size_t i = start; text.origins && i < end; i++) oct_ranges_append(&out->origins, text.origins[i], 1);
}

// Appends bytes that come from where byte `at` of `text` does. Which byte that is follows the reference: of a text that is replaced the
// last, of characters that are composed the first.
static void put(struct oct_normal_memory *out, const char *bytes, size_t length, bool mark, struct oct_normal_text text, size_t at) {
    oct_marked_append_text(&out->text, bytes, length, mark);
    if (text.origins) oct_ranges_append(&out->origins, text.origins[at], length);
}

static void prepend(const struct oct_normalizer_step *step, struct oct_normal_text piece, struct oct_normal_memory *out) {
    put(out, step->text, step->length, false, piece, 0);
    keep(out, piece, 0, piece.span.length);
}

static void replace(const struct oct_normalizer_step *step, struct oct_normal_text piece, struct oct_normal_memory *out) {
    size_t at = 0, start, end;
    while (oct_pattern_find(step->pattern, piece.span.text, piece.span.length, at, &start, &end)) {
        keep(out, piece, at, start);
        put(out, step->text, step->length, is_marked(piece, start, end), piece, end - 1);
        at = end;
    }
    keep(out, piece, at, piece.span.length);
}

static struct oct_normal_text strip(const struct oct_normalizer_step *step, struct oct_normal_text piece) {
    const char *text = piece.span.text;
    uint32_t code;
    size_t start = 0, end = piece.span.length;
    for (size_t n; step->left && start < end; start += n) {
        n = oct_utf8_next(text + start, &code);
        if (!oct_is_space(code)) break;
    }
    for (size_t before; step->right && end > start; end = before) {
        before = oct_utf8_before(text, end);
        oct_utf8_next(text + before, &code);
        if (!oct_is_space(code)) break;
    }
    return oct_normal_part(piece, start, end);
}

static void lowercase(struct oct_normal_text piece, struct oct_normal_memory *out) {
    uint32_t code;
    char bytes[4];
    for (size_t i = 0, n; i < piece.span.length; i += n) {
        n = oct_utf8_next(piece.span.text + i, &code);
        bool mark = piece.span.marks && piece.span.marks[i];
        if (code == 0x130) { // the one letter whose lower case is two code points
            put(out, "i\xCC\x87", 3, mark, piece, i);
            continue;
        }
        size_t length = oct_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), bytes);
        put(out, bytes, length, mark, piece, i);
    }
}

// Canonical order: each run of combining characters is sorted by class, equal ones stay in order. By counting, because utf8proc exchanges
// neighbours: a prompt of nothing but accents would take it hours.
static void sort_combining(utf8proc_int32_t *codes, size_t count, utf8proc_int32_t *scratch) {
    size_t end;
    for (size_t start = 0; start < count; start = end + 1) {
        size_t places[257] = {0};
        bool sorted = true;
        int last = 0, class;
        for (end = start; end < count && (class = utf8proc_get_property(codes[end])->combining_class) > 0; end++) {
            places[class + 1]++;
            sorted = sorted && class >= last;
            last = class;
        }
        if (sorted) continue;
        for (int i = 1; i < 257; i++) places[i] += places[i - 1];
        for (size_t i = start; i < end; i++) scratch[places[utf8proc_get_property(codes[i])->combining_class]++] = codes[i];
        memcpy(codes + start, scratch, (end - start) * sizeof *codes);
    }
}

static size_t decompose(int options, const char *text, size_t length, utf8proc_int32_t *codes, size_t capacity) {
    size_t count = 0;
    int boundary = 0;
    uint32_t code;
    for (size_t i = 0; i < length; i += oct_utf8_next(text + i, &code)) {
        oct_utf8_next(text + i, &code);
        size_t room = count < capacity ? capacity - count : 0;
        count += (size_t)utf8proc_decompose_char((utf8proc_int32_t)code, room ? codes + count : NULL, (utf8proc_ssize_t)room,
                                                 (utf8proc_option_t)options, &boundary);
    }
    return count;
}

// Appends the Unicode form of `length` bytes to *form, which is empty.
static void find_form(int options, const char *text, size_t length, struct oct_buffer *form) {
    size_t count = decompose(options, text, length, NULL, 0);
    utf8proc_int32_t *codes = oct_alloc(count, sizeof *codes, "a normalized text"),
                     *scratch = oct_alloc(count, sizeof *scratch, "a normalized text");
    char bytes[4];
    decompose(options, text, length, codes, count);
    sort_combining(codes, count, scratch);
    count = (size_t)utf8proc_normalize_utf32(codes, (utf8proc_ssize_t)count, (utf8proc_option_t)options);
    for (size_t i = 0; i < count; i++) oct_buffer_append(form, bytes, oct_utf8_encode((uint32_t)codes[i], bytes));
    free(codes);
    free(scratch);
}

// The end of the grapheme cluster at text[at]: normalization crosses characters, but not clusters.
static size_t cluster_end(const char *text, size_t length, size_t at) {
    utf8proc_int32_t state = 0;
    uint32_t code, next;
    for (at += oct_utf8_next(text + at, &code); at < length; code = next) {
        size_t n = oct_utf8_next(text + at, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code, (utf8proc_int32_t)next, &state)) break;
        at += n;
    }
    return at;
}

// Appends what became of the cluster [at, end). What it begins with and kept comes from itself, the rest from its first character.
static void put_cluster(struct oct_normal_memory *out, const char *form, size_t length, bool mark, struct oct_normal_text piece, size_t at,
                        size_t end) {
    const char *text = piece.span.text + at;
    size_t common = 0, n;
    uint32_t code;
    while (at + common < end && (n = oct_utf8_next(text + common, &code)) <= length - common &&
           memcmp(text + common, form + common, n) == 0) {
        common += n;
    }
    oct_marked_append_text(&out->text, form, length, mark);
    for (size_t i = 0; i < common; i++) oct_ranges_append(&out->origins, piece.origins[at + i], 1);
    oct_ranges_append(&out->origins, piece.origins[at + common < end ? at + common : end - 1], length - common);
}

// Appends `form`, cluster by cluster, so that each is known to come from its own. false: the forms of the clusters are not the form.
static bool put_clusters(int options, struct oct_normal_text piece, const struct oct_buffer *form, bool mark,
                         struct oct_normal_memory *out) {
    struct oct_buffer part = {0};
    size_t done = 0, end;
    bool same = true;
    for (size_t at = 0; same && at < piece.span.length; at = end) {
        end = cluster_end(piece.span.text, piece.span.length, at);
        part.length = 0;
        find_form(options, piece.span.text + at, end - at, &part);
        same = part.length <= form->length - done && memcmp(form->data + done, part.data, part.length) == 0;
        if (same) put_cluster(out, part.data, part.length, mark, piece, at, end);
        done += part.length;
    }
    oct_buffer_free(&part);
    return same && done == form->length;
}

static bool is_ascii(struct oct_span span) {
    unsigned char all = 0;
    for (size_t i = 0; i < span.length; i++) all |= (unsigned char)span.text[i];
    return all < 0x80;
}

// The bytes of a changed text are all marked if one byte was. false: the text is its own form.
static bool to_unicode_form(const struct oct_normalizer_step *step, struct oct_normal_text piece, struct oct_normal_memory *out) {
    struct oct_buffer form = {0};
    if (is_ascii(piece.span)) return false;
    find_form(step->unicode_options, piece.span.text, piece.span.length, &form);
    bool changed = form.length != piece.span.length || memcmp(form.data, piece.span.text, form.length) != 0;
    bool mark = changed && is_marked(piece, 0, piece.span.length);
    if (changed && (!piece.origins || !put_clusters(step->unicode_options, piece, &form, mark, out))) {
        oct_marked_clear(&out->text);
        out->origins.count = 0;
        put(out, form.data, form.length, mark, piece, 0);
    }
    oct_buffer_free(&form);
    return changed;
}

struct oct_normal_text oct_normalize(const struct oct_normalizer *normalizer, struct oct_normal_text piece,
                                     struct oct_normal_memory memory[2]) {
    struct oct_normal_memory *out = &memory[0];
    for (size_t i = 0; i < normalizer->count && piece.span.length; i++) {
        const struct oct_normalizer_step *step = &normalizer->steps[i];
        out->text.has_marks = piece.span.marks != NULL;
        oct_marked_clear(&out->text);
        out->origins.count = 0;
        switch (step->kind) {
        case OCT_NORMALIZE_PREPEND:
            prepend(step, piece, out);
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
        piece = (struct oct_normal_text){oct_marked_span(&out->text), piece.origins ? out->origins.data : NULL};
        out = out == memory ? memory + 1 : memory; // the next step reads from what this one wrote
    }
    return piece;
}
