// pretokenizer.c: splitting text into the words that BPE works on, stage by stage.
#include "text/pretokenizer.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "text/scanner.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STAGES 32

#define LLAMA3(digits)                                                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define TEKKEN                                                                                                                             \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"                                           \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}|"                                    \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static oct_status add_stage(const char *name, struct oct_pretokenizer *out, struct oct_split stage, oct_error *err) {
    if (out->count >= MAX_STAGES) {
        oct_pattern_free(stage.pattern);
        return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer: more than %d stages", name, MAX_STAGES);
    }
    out->stages = oct_resize(out->stages, out->count + 1, sizeof *out->stages, "a pre-tokenizer");
    out->stages[out->count++] = stage;
    return OCT_OK;
}

static oct_status add_regex(const char *name, struct oct_pretokenizer *out, const char *source, size_t length, struct oct_split stage,
                            oct_error *err) {
    static const struct {
        const char *source;
        enum oct_split_kind kind;
        int max_digits;
    } known[] = {{LLAMA3("\\p{N}{1,3}"), OCT_SPLIT_LLAMA3, 3}, {LLAMA3("\\p{N}"), OCT_SPLIT_LLAMA3, 1}, {GPT2, OCT_SPLIT_GPT2, 0}};
    for (size_t i = 0; i < sizeof known / sizeof *known && stage.behavior == OCT_ISOLATED; i++) {
        if (strlen(known[i].source) != length || memcmp(known[i].source, source, length) != 0) continue;
        stage.kind = known[i].kind;
        stage.max_digits = known[i].max_digits;
        return add_stage(name, out, stage, err);
    }
    stage.kind = OCT_SPLIT_PATTERN;
    OCT_TRY(oct_pattern_compile(name, source, length, false, &stage.pattern, err));
    return add_stage(name, out, stage, err);
}

static oct_status add_isolated(const char *name, struct oct_pretokenizer *out, const char *source, oct_error *err) {
    return add_regex(name, out, source, strlen(source), (struct oct_split){.behavior = OCT_ISOLATED}, err);
}

static oct_status behavior_of(const char *name, const json_t *json, enum oct_split_behavior *out, oct_error *err) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *behavior = json_string_value(json_object_get(json, "behavior"));
    for (size_t i = 0; behavior && i < sizeof names / sizeof *names; i++) {
        if (strcmp(behavior, names[i]) == 0) return *out = (enum oct_split_behavior)i, OCT_OK;
    }
    return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer: split behavior %s is not supported", name, behavior ? behavior : "(none)");
}

static bool flag(const json_t *json, const char *key, bool otherwise) {
    const json_t *value = json_object_get(json, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static oct_status load_split(const char *name, const json_t *json, struct oct_pretokenizer *out, oct_error *err) {
    struct oct_split stage = {.kind = OCT_SPLIT_PATTERN, .invert = flag(json, "invert", false)};
    OCT_TRY(behavior_of(name, json, &stage.behavior, err));
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    if (json_is_string(regex)) return add_regex(name, out, json_string_value(regex), json_string_length(regex), stage, err);
    if (!json_is_string(literal)) {
        return oct_fail(err, OCT_CORRUPT, "%s: pre_tokenizer Split: a pattern {\"String\"} or {\"Regex\"} expected", name);
    }
    OCT_TRY(oct_pattern_compile(name, json_string_value(literal), json_string_length(literal), true, &stage.pattern, err));
    return add_stage(name, out, stage, err);
}

static oct_status load_metaspace(const char *name, const json_t *json, struct oct_pretokenizer *out, oct_error *err) {
    struct oct_split stage = {.kind = OCT_SPLIT_METASPACE, .split = flag(json, "split", true)};
    const json_t *replacement = json_object_get(json, "replacement");
    size_t length = json_string_length(replacement);
    uint32_t code;
    if (!length || length > 4 || oct_utf8_next(json_string_value(replacement), &code) != length) {
        return oct_fail(err, OCT_CORRUPT, "%s: pre_tokenizer Metaspace: a replacement of one character expected", name);
    }
    memcpy(stage.replacement, json_string_value(replacement), length);
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
    if (!scheme) scheme = flag(json, "add_prefix_space", true) ? "always" : "never";
    if (strcmp(scheme, "always") == 0) {
        stage.prepend_scheme = OCT_PREPEND_ALWAYS;
    } else if (strcmp(scheme, "first") == 0) {
        stage.prepend_scheme = OCT_PREPEND_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        stage.prepend_scheme = OCT_PREPEND_NEVER;
    } else {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer Metaspace: prepend_scheme %s is not supported", name, scheme);
    }
    return add_stage(name, out, stage, err);
}

static oct_status load_byte_level(const char *name, const json_t *json, struct oct_pretokenizer *out, oct_error *err) {
    if (flag(json, "add_prefix_space", true)) OCT_TRY(add_stage(name, out, (struct oct_split){.kind = OCT_SPLIT_PREFIX_SPACE}, err));
    if (flag(json, "use_regex", true)) OCT_TRY(add_stage(name, out, (struct oct_split){.kind = OCT_SPLIT_GPT2}, err));
    out->byte_level = true;
    return OCT_OK;
}

static oct_status load_stage(const char *name, const json_t *json, int depth, struct oct_pretokenizer *out, oct_error *err) {
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type)
        return oct_fail(err, OCT_CORRUPT, "%s: pre_tokenizer: an object with a \"type\" expected, %s found", name, oct_json_kind(json));
    if (depth > 8) return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer: Sequences are nested too deeply", name);
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "pretokenizers"), i, part) {
            OCT_TRY(load_stage(name, part, depth + 1, out, err));
        }
        return OCT_OK;
    }
    if (out->byte_level) return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer %s after ByteLevel is not supported", name, type);
    if (strcmp(type, "ByteLevel") == 0) return load_byte_level(name, json, out, err);
    if (strcmp(type, "Split") == 0) return load_split(name, json, out, err);
    if (strcmp(type, "Metaspace") == 0) return load_metaspace(name, json, out, err);
    struct oct_split stage = {.kind = OCT_SPLIT_DIGITS};
    if (strcmp(type, "Digits") == 0) {
        stage.behavior = flag(json, "individual_digits", false) ? OCT_ISOLATED : OCT_CONTIGUOUS;
    } else if (strcmp(type, "WhitespaceSplit") == 0) {
        stage.kind = OCT_SPLIT_SPACE;
        stage.behavior = OCT_REMOVED;
    } else if (strcmp(type, "Punctuation") == 0) {
        stage.kind = OCT_SPLIT_PUNCTUATION;
        if (json_object_get(json, "behavior")) OCT_TRY(behavior_of(name, json, &stage.behavior, err));
    } else {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: pre_tokenizer %s is not supported", name, type);
    }
    return add_stage(name, out, stage, err);
}

oct_status oct_pretokenizer_load(const char *name, const json_t *json, struct oct_pretokenizer *out, oct_error *err) {
    if (!json || json_is_null(json)) return OCT_OK;
    return load_stage(name, json, 0, out, err);
}

oct_status oct_pretokenizer_named(const char *name, const char *pre, struct oct_pretokenizer *out, oct_error *err) {
    static const struct {
        const char *pre;
        const char *patterns[4]; // applied in turn; NULL ends
        bool digits;             // then each digit alone
    } known[] = {
        {"gpt-2", {GPT2}, false},
        {"llama-bpe", {LLAMA3("\\p{N}{1,3}")}, false},
        {"llama3", {LLAMA3("\\p{N}{1,3}")}, false},
        {"llama-v3", {LLAMA3("\\p{N}{1,3}")}, false},
        {"qwen2", {LLAMA3("\\p{N}")}, false},
        {"tekken", {TEKKEN}, false},
        {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\xED\x9F\xBF]+"}, true},
        {"deepseek-llm", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\xED\x9F\xBF]+"}, true},
        {"deepseek-v3",
         {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
          "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"
          "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
         false},
    };
    out->byte_level = true;
    if (strcmp(pre, "smollm") == 0) {
        OCT_TRY(add_stage(name, out, (struct oct_split){.kind = OCT_SPLIT_DIGITS, .behavior = OCT_ISOLATED}, err));
        return add_stage(name, out, (struct oct_split){.kind = OCT_SPLIT_GPT2}, err);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(pre, known[i].pre) != 0) continue;
        for (size_t k = 0; k < 4 && known[i].patterns[k]; k++) OCT_TRY(add_isolated(name, out, known[i].patterns[k], err));
        if (!known[i].digits) return OCT_OK;
        return add_stage(name, out, (struct oct_split){.kind = OCT_SPLIT_DIGITS, .behavior = OCT_ISOLATED}, err);
    }
    return oct_fail(err, OCT_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not supported", name, pre);
}

void oct_pretokenizer_free(struct oct_pretokenizer *pretokenizer) {
    for (size_t i = 0; i < pretokenizer->count; i++) oct_pattern_free(pretokenizer->stages[i].pattern);
    free(pretokenizer->stages);
    *pretokenizer = (struct oct_pretokenizer){0};
}

struct walk {
    const struct oct_pretokenizer *pretokenizer;
    oct_word_function word;
    void *context;
    const char *text;                // what the pieces are parts of: the caller's text, or what a stage made of a piece of it
    const struct oct_range *origins; // of the bytes of `text`; NULL: nobody asks
    bool at_start;                   // `text` begins the whole text: "first" asks
};

static void run_stage(const struct walk *walk, size_t stage, const char *text, size_t length);

static bool is_ascii_punctuation(uint32_t code) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
}

static bool matches(enum oct_split_kind kind, uint32_t code) {
    unsigned classes = oct_classes()[code];
    if (kind == OCT_SPLIT_DIGITS) return classes & OCT_NUMERIC;
    if (kind == OCT_SPLIT_SPACE) return classes & OCT_SPACE;
    return (classes & OCT_PUNCTUATION) || is_ascii_punctuation(code);
}

static bool find_match(const struct oct_split *split, const char *text, size_t length, size_t from, size_t *start, size_t *end) {
    if (split->kind == OCT_SPLIT_PATTERN) return oct_pattern_find(split->pattern, text, length, from, start, end);
    uint32_t code;
    for (size_t n; from < length; from += n) {
        n = oct_utf8_next(text + from, &code);
        if (!matches(split->kind, code)) continue;
        *start = from, *end = from + n;
        return true;
    }
    return false;
}

// Matches and gaps come in order through add_segment; a piece is held back until it is known whether the next one joins it.
struct splitter {
    const struct walk *walk;
    size_t stage;
    const char *text;
    enum oct_split_behavior behavior;
    size_t start, end; // the piece held back; empty: none
    bool is_match;     // its last segment was a match
};

static void release(struct splitter *splitter) {
    if (splitter->end > splitter->start) {
        run_stage(splitter->walk, splitter->stage + 1, splitter->text + splitter->start, splitter->end - splitter->start);
    }
    splitter->start = splitter->end;
}

static void add_segment(struct splitter *splitter, size_t start, size_t end, bool is_match) {
    if (start == end) return;
    bool held = splitter->end > splitter->start, was_match = splitter->is_match, joins = false;
    splitter->is_match = is_match;
    switch (splitter->behavior) {
    case OCT_ISOLATED:
        break;
    case OCT_REMOVED:
        if (is_match) return;
        break;
    case OCT_MERGED_WITH_PREVIOUS:
        joins = is_match && !was_match;
        break;
    case OCT_MERGED_WITH_NEXT:
        joins = !is_match && was_match;
        break;
    case OCT_CONTIGUOUS:
        joins = is_match == was_match;
        break;
    }
    if (!held || !joins) {
        release(splitter);
        splitter->start = start;
    }
    splitter->end = end;
}

static void run_split(const struct walk *walk, size_t stage, const char *text, size_t length) {
    const struct oct_split *split = &walk->pretokenizer->stages[stage];
    struct splitter splitter = {.walk = walk, .stage = stage, .text = text, .behavior = split->behavior};
    size_t at = 0, start, end;
    while (at < length && find_match(split, text, length, at, &start, &end)) {
        add_segment(&splitter, at, start, split->invert);
        add_segment(&splitter, start, end, !split->invert);
        at = end;
    }
    add_segment(&splitter, at, length, split->invert);
    release(&splitter);
}

// A piece as a stage rewrites it, and the origins of its bytes where they are asked for.
struct rewritten {
    struct oct_buffer text;
    struct oct_ranges origins;
};

static void rewritten_free(struct rewritten *rewritten) {
    oct_buffer_free(&rewritten->text);
    free(rewritten->origins.data);
}

// Appends bytes which all come from *origin; NULL: nobody asks.
static void rewrite(struct rewritten *out, const char *bytes, size_t length, const struct oct_range *origin) {
    oct_buffer_append(&out->text, bytes, length);
    if (origin) oct_ranges_append(&out->origins, *origin, length);
}

static void copy(struct rewritten *out, const char *text, const struct oct_range *origins, size_t start, size_t end) {
    oct_buffer_append(&out->text, text + start, end - start);
    for (size_t i = start; origins && i < end; i++) oct_ranges_append(&out->origins, origins[i], 1);
}

static struct walk walk_over(const struct walk *walk, const struct rewritten *rewritten) {
    return (struct walk){walk->pretokenizer, walk->word, walk->context, rewritten->text.data, rewritten->origins.data, false};
}

static const struct oct_range *origins_of(const struct walk *walk, const char *text) {
    return walk->origins ? walk->origins + (text - walk->text) : NULL;
}

static void run_metaspace(const struct walk *walk, size_t stage, const char *text, size_t length) {
    const struct oct_split *split = &walk->pretokenizer->stages[stage];
    size_t mark = strlen(split->replacement);
    bool begins_with_mark = (length >= mark && memcmp(text, split->replacement, mark) == 0) || text[0] == ' ';
    bool first = walk->at_start && text == walk->text;
    const struct oct_range *origins = origins_of(walk, text);
    struct rewritten out = {0};
    if (!begins_with_mark && (split->prepend_scheme == OCT_PREPEND_ALWAYS || (split->prepend_scheme == OCT_PREPEND_FIRST && first))) {
        rewrite(&out, split->replacement, mark, origins);
    }
    for (size_t at = 0; at < length;) {
        const char *space = memchr(text + at, ' ', length - at);
        size_t end = space ? (size_t)(space - text) : length;
        copy(&out, text, origins, at, end);
        if (space) rewrite(&out, split->replacement, mark, origins ? origins + end : NULL);
        at = end + (space != NULL);
    }
    const struct walk inner = walk_over(walk, &out);
    size_t start = 0;
    for (size_t i = 1; split->split && i + mark <= out.text.length; i++) {
        if (memcmp(out.text.data + i, split->replacement, mark) != 0) continue;
        run_stage(&inner, stage + 1, out.text.data + start, i - start);
        start = i;
    }
    run_stage(&inner, stage + 1, out.text.data + start, out.text.length - start);
    rewritten_free(&out);
}

static void run_prefix_space(const struct walk *walk, size_t stage, const char *text, size_t length) {
    if (text[0] == ' ') {
        run_stage(walk, stage + 1, text, length);
        return;
    }
    const struct oct_range *origins = origins_of(walk, text);
    struct rewritten out = {0};
    rewrite(&out, " ", 1, origins);
    copy(&out, text, origins, 0, length);
    const struct walk inner = walk_over(walk, &out);
    run_stage(&inner, stage + 1, out.text.data, out.text.length);
    rewritten_free(&out);
}

static void run_stage(const struct walk *walk, size_t stage, const char *text, size_t length) {
    if (!length) return;
    if (stage == walk->pretokenizer->count) {
        walk->word(walk->context, text, length, origins_of(walk, text));
        return;
    }
    const struct oct_split *split = &walk->pretokenizer->stages[stage];
    switch (split->kind) {
    case OCT_SPLIT_GPT2:
        for (size_t at = 0, end; at < length; at = end) {
            end = oct_scan_gpt2(text, length, at);
            run_stage(walk, stage + 1, text + at, end - at);
        }
        return;
    case OCT_SPLIT_LLAMA3:
        for (size_t at = 0, end; at < length; at = end) {
            end = oct_scan_llama3(text, length, at, split->max_digits);
            run_stage(walk, stage + 1, text + at, end - at);
        }
        return;
    case OCT_SPLIT_METASPACE:
        run_metaspace(walk, stage, text, length);
        return;
    case OCT_SPLIT_PREFIX_SPACE:
        run_prefix_space(walk, stage, text, length);
        return;
    case OCT_SPLIT_PATTERN:
    case OCT_SPLIT_DIGITS:
    case OCT_SPLIT_SPACE:
    case OCT_SPLIT_PUNCTUATION:
        run_split(walk, stage, text, length);
        return;
    }
}

void oct_pretokenize(const struct oct_pretokenizer *pretokenizer, const char *text, size_t length, const struct oct_range *origins,
                     bool at_start, oct_word_function word, void *context) {
    struct walk walk = {pretokenizer, word, context, text, origins, at_start};
    run_stage(&walk, 0, text, length);
}
