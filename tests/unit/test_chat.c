// test_chat.c: the template engine against vectors of Jinja2 with transformers' settings, and the marks of what came out of messages.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden_json.h"
#include "text/chat.h"
#include "text/jinja.h"

#include <time.h>

static struct tm now; // 2025-03-05T14:07:09, the clock of the vectors

// Renders with the variables of two objects (the second may be NULL).
static oct_status render(const json_t *source, const json_t *context, const json_t *more, struct oct_marked_text *out, oct_error *err) {
    struct jinja_variable variables[64];
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)context, name, value) variables[count++] = (struct jinja_variable){name, value, false, NULL};
    json_object_foreach((json_t *)more, name, value) variables[count++] = (struct jinja_variable){name, value, true, NULL};
    struct jinja_template *template;
    OCT_TRY(jinja_compile("test", json_string_value(source), json_string_length(source), &template, err));
    out->has_marks = true;
    oct_status status = jinja_render(template, variables, count, &now, out, err);
    jinja_template_free(template);
    return status;
}

static bool same_text(const struct oct_marked_text *text, const json_t *expected) {
    return text->text.length == json_string_length(expected) && text->marks.length == text->text.length &&
           (!text->text.length || memcmp(text->text.data, json_string_value(expected), text->text.length) == 0);
}

// Whether a rendering is what a vector expects ("output" or "error"); prints the difference.
static bool as_expected(const char *name, const json_t *vector, oct_status status, const struct oct_marked_text *text,
                        const oct_error *err) {
    const json_t *output = json_object_get(vector, "output"), *error = json_object_get(vector, "error");
    if (json_is_true(json_object_get(vector, "lenient"))) return true;
    bool good = status == OCT_OK ? output && same_text(text, output) : error || json_is_true(json_object_get(vector, "or_error"));
    if (good && status != OCT_OK && json_is_true(json_object_get(error, "from_template"))) {
        good = strcmp(err->message, json_string_value(json_object_get(error, "message"))) == 0;
    }
    if (!good) {
        print_message("%s: %.300s\n  expected: %.300s\n", name, status == OCT_OK ? text->text.data ? text->text.data : "" : err->message,
                      output ? json_string_value(output) : "an error");
    }
    return good;
}

static void snippets_give_what_jinja_gives(void **state) {
    (void)state;
    json_t *vectors = golden_json(golden_path("text/jinja_snippets.json")), *entry;
    size_t i;
    int failed = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        struct oct_marked_text text = {0};
        oct_error err = {0};
        oct_status status = render(json_object_get(entry, "template"), json_object_get(vectors, "context"), NULL, &text, &err);
        bool good = as_expected(json_string_value(json_object_get(entry, "id")), entry, status, &text, &err);
        failed += !good;
        oct_marked_free(&text);
    }
    json_decref(vectors);
    assert_int_equal(failed, 0);
}

static bool accepted(const json_t *entry, const char *outcome) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(entry, "accept"), i, one) {
        if (strcmp(json_string_value(one), outcome) == 0) return true;
    }
    return false;
}

static bool is_expected_output(const json_t *entry, const struct oct_marked_text *text) {
    const json_t *expected = json_object_get(entry, "expected_output");
    if (json_is_true(json_object_get(entry, "expected_output_any"))) return true;
    if (json_is_string(expected)) return same_text(text, expected);
    const json_t *repeat = json_object_get(expected, "repeat");
    const char *unit = json_string_value(json_array_get(repeat, 0));
    size_t times = (size_t)json_integer_value(json_array_get(repeat, 1)), length = json_string_length(json_array_get(repeat, 0));
    if (!unit || text->text.length != times * length) return false;
    for (size_t i = 0; i < times; i++) {
        if (memcmp(text->text.data + i * length, unit, length) != 0) return false;
    }
    return true;
}

static void hostile_templates_end_soon_with_an_accepted_outcome(void **state) {
    (void)state;
    json_t *vectors = golden_json(golden_path("text/jinja_hostile.json.gz")), *entry;
    size_t i;
    int failed = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        struct oct_marked_text text = {0};
        oct_error err = {0};
        clock_t start = clock();
        oct_status status = render(json_object_get(entry, "template"), json_object_get(vectors, "context"), NULL, &text, &err);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        bool good = status == OCT_OK ? accepted(entry, "output") && is_expected_output(entry, &text) : accepted(entry, "error");
        if (seconds > 2 && !getenv("OCTAVO_SLOW")) good = false;
        if (!good) {
            print_message("%s (%s): %.2f s: %.200s\n", json_string_value(json_object_get(entry, "id")),
                          json_string_value(json_object_get(entry, "note")), seconds, status == OCT_OK ? text.text.data : err.message);
        }
        failed += !good;
        oct_marked_free(&text);
    }
    json_decref(vectors);
    assert_int_equal(failed, 0);
}

static void extreme_arguments_cost_no_more_than_the_budget(void **state) {
    (void)state;
    static const struct {
        const char *template, *output; // NULL: an error
    } cases[] = {
        {"{{ ('a' * 3000000).rfind('a' * 1000000 ~ 'b') }}", NULL},
        {"{{ ('a' * 3000000).rsplit('b' ~ 'a' * 1000000) | length }}", "1"},
        {"{{ ('a' * 1000000).strip('b' * 1000 ~ 'a') }}", NULL},
        {"{{ 'a'.strip('b' * 1000000) }}", NULL},
        {"{{ ('a' * 1000000) | wordwrap(1) | length }}", "1999999"},
        {"{{ ('a-' * 1000000) | wordwrap(79) | length > 2000000 }}", "True"},
        {"{{ ('a ' * 1000000) | wordwrap(9223372036854775807) | length }}", "1999999"},
        {"{{ 5[1:] }}", NULL},
        {"{{ none[:2] }}", NULL},
        {"{{ 'a b c'.split(none, -9223372036854775807 - 1) }}", "['a', 'b', 'c']"},
        {"{{ 'a b c' | truncate(9223372036854775807, false, '', 9223372036854775807) }}", "a b c"},
        {"{{ 'abc' | truncate(-9223372036854775807 - 1) }}", NULL},
        {"{{ 1e300 is odd }} {{ (-9223372036854775807 - 1) is divisibleby(-1) }}", "False True"},
        {"{{ 'ab'[-9223372036854775807 - 1:9223372036854775807:9223372036854775807] }}", "a"},
        {"{{ 'ab'[::-9223372036854775807 - 1] }}", "b"},
        {"{{ range(9223372036854775800, 9223372036854775807, 5) | list }}", "[9223372036854775800, 9223372036854775805]"},
        {"{{ 'x'.center(-9223372036854775807 - 1) }}{{ 'x' | center(9223372036854775807) }}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_marked_text text = {0};
        oct_error err = {0};
        json_t *template = json_string(cases[i].template);
        oct_status status = render(template, NULL, NULL, &text, &err);
        if ((status == OCT_OK) != (cases[i].output != NULL))
            fail_msg("%s: %s", cases[i].template, status == OCT_OK ? text.text.data : err.message);
        if (cases[i].output) assert_string_equal(text.text.data, cases[i].output);
        json_decref(template);
        oct_marked_free(&text);
    }
}

static void filters_that_the_vectors_lack_follow_jinja(void **state) {
    (void)state;
    static const struct {
        const char *template, *output;
    } cases[] = {
        // checked against Jinja2 3.1.6
        {"{{ 1 | filesizeformat }} {{ 300 | filesizeformat }} {{ 3000 | filesizeformat }} {{ 3000000 | filesizeformat(true) }}",
         "1 Byte 300 Bytes 3.0 kB 2.9 MiB"},
        {"{{ {'a': 1, 'b': none, 'c': '<'} | xmlattr }}", " a=\"1\" c=\"&lt;\""},
        {"{{ 'foo bar baz qux' | truncate(9) }}|{{ 'foo bar baz qux' | truncate(9, true) }}|{{ 'foo bar baz qux' | truncate(9, leeway=0) "
         "}}",
         "foo...|foo ba...|foo..."},
        {"{{ 'a b&c/d' | urlencode }}", "a%20b%26c/d"},
        {"{% for g in [{'k': 'b', 'v': 1}, {'k': 'a', 'v': 2}, {'k': 'b', 'v': 3}] | groupby('k') %}{{ g[0] }}:{{ g[1] | "
         "map(attribute='v') | join(',') }};{% endfor %}",
         "a:2;b:1,3;"},
        {"{% for x in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{{ loop.revindex }}{% endfor %}", "a3b2a1"},
        {"{% set j = joiner('|') %}{% for x in [1, 2] %}{{ j() }}{{ x }}{% endfor %}", "1|2"},
        {"{{ ('<' | safe) + '>' }} {{ ('<' | safe) ~ '>' }}", "<&gt; <>"},
        {"{{ 'banana'.rindex('a') }} {{ [3, 1] | min }} {{ 'x' | list | first }} {{ 2.675 | round(2) }}", "5 1 x 2.67"},
        {"{{ dict.fromkeys('ab', 1) }} {{ {}.fromkeys([2]) }}", "{'a': 1, 'b': 1} {2: None}"},
        {"{% for g in [{'k': 'B'}, {'k': 'a'}, {'k': 'b'}, {}] | groupby('k', default='none') %}{{ g.grouper }}{{ g.list | length }}"
         "{{ g['list'] == g[1] }};{% endfor %}",
         "a1True;B2True;none1True;"},
        {"{{ [{'k': 'B'}, {'k': 'b'}] | groupby('k', case_sensitive=true) | map(attribute='grouper') | join }}", "Bb"},
        {"{{ {'a b': 'c/d', 'n': none, '\xC3\xA9': 1} | urlencode }} {{ [('x', 2.5)] | urlencode }} {{ 5 | urlencode }}",
         "a+b=c%2Fd&n=None&%C3%A9=1 x=2.5 5"},
        {"{{ 25 | round(-1) }} {{ -35 | round(-1) }} {{ 4611686018427387904 | round(-1) }} {{ -0.5 | round(0, 'ceil') }}",
         "20 -40 4611686018427387900 0.0"},
        {"{{ [1, 2] | slice(2, 0) | list }} {{ [] | slice(2, 0) | list }} {{ range(4) | truncate(9) }}",
         "[[1, 0], [2, 0]] [[0], [0]] range(0, 4)"},
        {"{{ [{'a': 1}, {'b': 2}] | sort(attribute='c') | length }} {{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 1}] | sort(attribute='b,a') }}",
         "2 [{'a': 1, 'b': 1}, {'a': 2, 'b': 1}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_marked_text text = {0};
        oct_error err = {0};
        json_t *template = json_string(cases[i].template);
        if (render(template, NULL, NULL, &text, &err) != OCT_OK) fail_msg("%s: %s", cases[i].template, err.message);
        assert_string_equal(text.text.data, cases[i].output);
        json_decref(template);
        oct_marked_free(&text);
    }
}

static void words_wrap_as_python_wraps_them(void **state) {
    (void)state;
    json_t *vectors = golden_json(golden_path("text/wordwrap.json")), *entry, *text;
    size_t i, k, compared = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        json_array_foreach(json_object_get(vectors, "texts"), k, text) {
            json_t *context = json_pack("{s:O}", "text", text);
            struct oct_marked_text out = {0};
            oct_error err = {0};
            oct_status status = render(json_object_get(entry, "template"), context, NULL, &out, &err);
            if (status != OCT_OK) fail_msg("%s", err.message);
            if (!same_text(&out, json_array_get(json_object_get(entry, "outputs"), k)))
                fail_msg("%s of \"%s\": %s", json_string_value(json_object_get(entry, "template")), json_string_value(text), out.text.data);
            oct_marked_free(&out);
            json_decref(context);
            compared++;
        }
    }
    assert_int_equal(compared, 480);
    json_decref(vectors);
}

// The number of cases of one file that differ.
static int compare_chats(const char *path, size_t *total) {
    json_t *vectors = golden_json(path), *template, *entry;
    size_t i, k;
    int failed = 0;
    json_array_foreach(json_object_get(vectors, "templates"), i, template) {
        json_t *context = json_pack("{s:O?, s:O?}", "bos_token", json_object_get(template, "bos_token"), "eos_token",
                                    json_object_get(template, "eos_token"));
        json_array_foreach(json_object_get(template, "cases"), k, entry) {
            const char *conversation = json_string_value(json_object_get(entry, "conv"));
            char name[200];
            snprintf(name, sizeof name, "%s, %s", json_string_value(json_object_get(template, "name")), conversation);
            struct oct_marked_text text = {0};
            oct_error err = {0};
            oct_status status = render(json_object_get(template, "text"), context,
                                       json_object_get(json_object_get(vectors, "conversations"), conversation), &text, &err);
            failed += !as_expected(name, entry, status, &text, &err);
            oct_marked_free(&text);
            ++*total;
        }
        json_decref(context);
    }
    json_decref(vectors);
    return failed;
}

static void known_chat_templates_render_as_transformers_renders_them(void **state) {
    (void)state;
    const char *path = reference_path("text/chat/chat_core.json.gz");
    size_t total = 0;
    if (!path) skip();
    assert_int_equal(compare_chats(path, &total), 0);
    assert_int_equal(total, 1134);
}

static void nearly_all_collected_templates_render_as_transformers_renders_them(void **state) {
    (void)state;
    const char *path = reference_path("text/chat/chat_bulk.json.gz");
    size_t total = 0;
    if (!path) skip();
    int failed = compare_chats(path, &total);
    print_message("%d of %zu differ\n", failed, total);
    assert_true((size_t)failed * 100 <= total * 2); // the reference set asks for 98 %
}

// Renders a template over one user message and gives the marks as a string of '0' and '1'.
static void marks_are(const char *template, const char *content, const char *text, const char *marks) {
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    oct_error err = {0};
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", content);
    if (oct_chat_template_compile("test", template, strlen(template), &chat, &err) != OCT_OK) fail_msg("%s", err.message);
    struct oct_chat_context options = {.bos_token = "<s>"};
    if (oct_chat_render(chat, messages, &options, &prompt, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_string_equal(prompt.text.data, text);
    assert_int_equal(strlen(marks), prompt.text.length);
    for (size_t i = 0; i < prompt.text.length; i++) {
        if (prompt.from_message[i] != marks[i] - '0') fail_msg("%s: byte %zu of %s is not marked as %s says", template, i, text, marks);
    }
    json_decref(messages);
    oct_chat_prompt_free(&prompt);
    oct_chat_template_free(chat);
}

static void what_came_out_of_a_message_is_marked_byte_by_byte(void **state) {
    (void)state;
    marks_are("{{ bos_token }}[{{ messages[0].content }}]", "hi", "<s>[hi]", "0000110");
    marks_are("{% set c = messages[0]['content'] %}{{ 'a' + c + 'b' ~ c }}", "XY", "aXYbXY", "011011");
    marks_are("{{ messages[0].content[1:3] }}-{{ messages[0].content[::-1] }}", "abcd", "bc-dcba", "1101111");
    marks_are("{{ ('<' ~ messages[0].content ~ '>') | upper }}", "\xC3\xA4", "<\xC3\x84>", "0110");
    marks_are("{{ ('< ' ~ messages[0].content) | replace(' ', '__') }}", "a b", "<__a__b", "0001001");
    marks_are("{{ 'a-b' | replace('-', messages[0].content) }}", "xy", "axyb", "0110");
    marks_are("{{ ('A' ~ messages[0].content ~ ' ') | trim }}", " x ", "A x", "011");
    marks_are("{{ messages[0].content.split(',') | join('|') }}", "a,b", "a|b", "101");
    marks_are("{{ '%s=%s' % ('k', messages[0].content) }}", "v", "k=v", "001");
    marks_are("{{ '{}={:>3}'.format('k', messages[0].content) }}", "v", "k=  v", "00001");
    marks_are("{{ messages[0].content.format('v') }}", "{:<>3}", "<<v", "110"); // a message as the format
    marks_are("{{ messages[0].content % 'v' }}", "%%<%s", "%<v", "110");
    marks_are("{{ messages[0].content | tojson }}", "a\"\n", "\"a\\\"\\n\"", "0111110");
    marks_are("{{ [messages[0].content] }}", "a'", "[\"a'\"]", "001100");
    marks_are("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(messages[0].content) }}", "q", "<q>", "010");
    marks_are("{% set x %}<{{ messages[0].content }}>{% endset %}{{ x | indent(1, true) }}", "q\nr", " <q\n r>", "0011010");
    marks_are("{% for c in messages[0].content %}{{ c }}.{% endfor %}", "ab", "a.b.", "1010");
    marks_are("{% for k in messages[0] %}{{ k }}{% endfor %}", "x", "rolecontent", "11111111111");
    marks_are("{{ '<|' + messages[0].role + '|>' + messages[0]['content'] }}", "x", "<|user|>x", "000000001");
    marks_are("{{ 'yes' if messages[0].content == 'x' else 'no' }}{{ messages[0].content | length }}", "x", "yes1", "0000");
    marks_are("{{ '<b>' ~ messages[0].content | e }}", "<", "<b>&lt;", "0001111");
}

// Renders an expression over a message whose brackets occur nowhere else. False: it fails. Every byte of a bracket that comes out must
// be marked.
static bool keeps_marks(const char *expression, json_t *messages) {
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    struct oct_chat_context context = {.bos_token = "<s>"};
    oct_error err = {0};
    char template[300];
    snprintf(template, sizeof template, "{%% set c = messages[0].content %%}{{ %s }}", expression);
    if (oct_chat_template_compile("test", template, strlen(template), &chat, &err) != OCT_OK) fail_msg("%s: %s", template, err.message);
    bool rendered = oct_chat_render(chat, messages, &context, &prompt, &err) == OCT_OK;
    for (size_t i = 0; rendered && i + 2 < prompt.text.length; i++) {
        if (memcmp(prompt.text.data + i, "\xE2\x9F", 2) != 0) continue;
        for (size_t k = 0; k < 3; k++)
            if (!prompt.from_message[i + k]) fail_msg("%s: byte %zu of %s is not marked", template, i + k, prompt.text.data);
    }
    oct_chat_prompt_free(&prompt);
    oct_chat_template_free(chat);
    return rendered;
}

static void no_filter_method_or_operator_loses_a_mark(void **state) {
    (void)state;
    static const char *const sources[] = {
        "c", "('a <' ~ c ~ '> b')", "[c, 'x', c]", "{c: c, 'k': [c]}", "messages[0]", "messages", "(c, 1)", "c[1:]"};
    static const char *const filters[] = {"| capitalize",
                                          "| center(60)",
                                          "| string",
                                          "| default('')",
                                          "| dictsort",
                                          "| e",
                                          "| first",
                                          "| format(1)",
                                          "| forceescape",
                                          "| indent(2)",
                                          "| indent('\t', true, true)",
                                          "| items | list",
                                          "| join",
                                          "| join('-')",
                                          "| last",
                                          "| list",
                                          "| lower",
                                          "| map('upper') | list",
                                          "| map('replace', 'a', 'b') | join",
                                          "| max",
                                          "| min",
                                          "| replace('q', '--')",
                                          "| replace('', '.')",
                                          "| reverse | list",
                                          "| reverse",
                                          "| safe",
                                          "| select | list",
                                          "| slice(2) | list",
                                          "| batch(2) | list",
                                          "| sort",
                                          "| striptags",
                                          "| title",
                                          "| tojson",
                                          "| tojson(indent=2)",
                                          "| trim",
                                          "| trim('<>a')",
                                          "| truncate(7)",
                                          "| truncate(12, true)",
                                          "| unique | list",
                                          "| upper",
                                          "| wordwrap(4)",
                                          "| xmlattr",
                                          "| groupby(0)",
                                          "| groupby(0) | map(attribute='list') | list",
                                          ".upper()",
                                          ".lower()",
                                          ".title()",
                                          ".capitalize()",
                                          ".swapcase()",
                                          ".strip()",
                                          ".lstrip('<')",
                                          ".split()",
                                          ".split('q')",
                                          ".rsplit(none, 1)",
                                          ".splitlines()",
                                          ".splitlines(true)",
                                          ".replace('q', 'w', 1)",
                                          ".partition('q')",
                                          ".rpartition('q')",
                                          ".center(50, '*')",
                                          ".ljust(50)",
                                          ".rjust(50)",
                                          ".zfill(50)",
                                          ".join(['1', '2'])",
                                          ".removeprefix('a')",
                                          ".removesuffix('b')",
                                          ".format(1)",
                                          ".items() | list",
                                          ".keys() | list",
                                          ".values() | list",
                                          ".get(c)",
                                          ".copy()",
                                          "+ 'x'",
                                          "~ 'x'",
                                          "~ [c]",
                                          "* 3",
                                          "% ()",
                                          "[::-1]",
                                          "[:3]",
                                          "[-4:]",
                                          "[0]",
                                          "or 'x'",
                                          "and c",
                                          "if c else 'x'"};
    static const char *const alone[] = {"'%s and %10s and %r' % (c, c, c)",
                                        "'{} {:>40} {!r} {x}'.format(c, c, c, x=c)",
                                        "'a-b' | replace('-', c)",
                                        "', '.join([c, c])",
                                        "'%s' | format(c)",
                                        "namespace(x=c).x",
                                        "dict(x=c)",
                                        "dict.fromkeys(c)",
                                        "cycler(c).next()",
                                        "['a', 'b'] | join(c)",
                                        "'a b c d' | wordwrap(1, wrapstring=c)",
                                        "'a\nb' | indent(c)",
                                        "'abcdefghijklmnopqrstuvwxyz' | truncate(20, true, c, 0)",
                                        "{'a': c} | tojson(separators=(c, c))",
                                        "[1, 2] | tojson(indent=c)",
                                        "'x'.center(9, c[0])",
                                        "[1, 2, 3] | batch(2, c) | list",
                                        "[{}] | map(attribute='x', default=c) | list",
                                        "[{}] | groupby('x', default=c)",
                                        "joiner(c)() ~ c",
                                        "c.split(c[2])",
                                        "[c, [c], {c: c}] | string"};
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "\xE2\x9F\xA8q\xE2\x9F\xA9 z\xE2\x9F\xA8w q\n<\xE2\x9F\xA9>");
    size_t rendered = 0;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        for (size_t k = 0; k < sizeof filters / sizeof *filters; k++) {
            char expression[200];
            snprintf(expression, sizeof expression, "%s %s", sources[i], filters[k]);
            rendered += keeps_marks(expression, messages);
        }
    }
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        if (!keeps_marks(alone[i], messages)) fail_msg("%s", alone[i]);
    assert_true(rendered > 300); // the rest are errors, such as a method that the value does not have
    json_decref(messages);
}

static void rendering_fails_with_the_line_and_the_template_s_own_message(void **state) {
    (void)state;
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    oct_error err = {0};
    json_t *messages = json_pack("[{s:s}]", "role", "user");
    struct oct_chat_context options = {0};
    static const char raising[] = "\n{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}";
    assert_int_equal(oct_chat_template_compile("test", raising, strlen(raising), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "Roles must alternate: user");
    oct_chat_template_free(chat);
    static const char undefined[] = "a\nb\n{{ messages[0].content.x }}";
    assert_int_equal(oct_chat_template_compile("test", undefined, strlen(undefined), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "test, line 3: 'content' is undefined");
    oct_chat_template_free(chat);
    static const char broken[] = "a\n{% if x %}\n";
    assert_int_equal(oct_chat_template_compile("test", broken, strlen(broken), &chat, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "test, line 2: unexpected end of template, 'endif' expected");
    assert_null(chat);
    static const char changing[] = "{{ messages.append(1) }}"; // the sandbox has no methods that change a value
    assert_int_equal(oct_chat_template_compile("test", changing, strlen(changing), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "test, line 1: 'append' is undefined");
    oct_chat_template_free(chat);
    static const char misspelt[] = "{{ {} | dictsort(by='vaule') }}";
    assert_int_equal(oct_chat_template_compile("test", misspelt, strlen(misspelt), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_INVALID_ARGUMENT);
    assert_string_equal(err.message, "test, line 1: dictsort: by 'key' or 'value' expected");
    oct_chat_template_free(chat);
    json_decref(messages);
}

static void extra_variables_and_tools_reach_the_template(void **state) {
    (void)state;
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    oct_error err = {0};
    json_t *messages = json_array(), *tools = json_pack("[{s:s}]", "name", "f"), *extra = json_pack("{s:b}", "enable_thinking", 0);
    struct oct_chat_context options = {.add_generation_prompt = true, .tools = tools, .extra = extra};
    static const char source[] = "{{ tools[0].name }} {{ enable_thinking }} {{ add_generation_prompt }} {{ documents }}";
    assert_int_equal(oct_chat_template_compile("test", source, strlen(source), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_OK);
    assert_string_equal(prompt.text.data, "f False True None");
    assert_int_equal(prompt.from_message[0], 1);
    oct_chat_prompt_free(&prompt);
    oct_chat_template_free(chat);
    json_decref(messages);
    json_decref(tools);
    json_decref(extra);
}

static void integers_outside_64_bits_keep_their_digits(void **state) {
    (void)state;
    json_t *messages, *content;
    oct_error err = {0};
    static const char text[] =
        "[{\"content\":[12345678901234567890,-12345678901234567890,9223372036854775807,\"1234567890123456789012\",1e30]}]";
    assert_int_equal(oct_json_parse("test", text, strlen(text), &messages, &err), OCT_OK);
    content = json_object_get(json_array_get(messages, 0), "content");
    assert_int_equal(json_integer_value(json_array_get(content, 2)), INT64_MAX);
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    struct oct_chat_context options = {0};
    static const char source[] = "{{ messages[0].content | tojson }} {{ messages[0].content[0] is number }}";
    assert_int_equal(oct_chat_template_compile("test", source, strlen(source), &chat, &err), OCT_OK);
    assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_OK);
    assert_string_equal(prompt.text.data,
                        "[12345678901234567890, -12345678901234567890, 9223372036854775807, \"1234567890123456789012\", 1e+30] True");
    oct_chat_prompt_free(&prompt);
    oct_chat_template_free(chat);
    json_decref(messages);
}

static const json_t *template_named(const json_t *vectors, const char *name) {
    size_t i;
    json_t *template;
    json_array_foreach(json_object_get(vectors, "templates"), i, template) {
        if (strcmp(json_string_value(json_object_get(template, "name")), name) == 0) return json_object_get(template, "text");
    }
    return NULL;
}

static void the_last_message_can_be_continued_and_reasoning_has_all_its_names(void **state) {
    (void)state;
    const char *path = reference_path("text/chat/chat_apply.json.gz");
    if (!path) skip();
    json_t *vectors = golden_json(path), *templates = golden_json(reference_path("text/chat/chat_core.json.gz")), *entry;
    size_t i;
    int failed = 0, compared = 0;
    json_array_foreach(json_object_get(vectors, "cases"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "template"));
        const json_t *text = template_named(templates, name);
        const json_t *asked = json_object_get(entry, "kwargs"), *bos = json_object_get(entry, "bos_token"),
                     *eos = json_object_get(entry, "eos_token");
        assert_non_null(text);
        struct oct_chat_context options = {
            .add_generation_prompt = json_is_true(json_object_get(asked, "add_generation_prompt")),
            .continue_final_message = json_is_true(json_object_get(asked, "continue_final_message")),
            .bos_token = json_string_value(bos),
            .eos_token = json_string_value(eos),
        };
        struct oct_chat_template *chat;
        struct oct_chat_prompt prompt = {0};
        oct_error err = {0};
        assert_int_equal(oct_chat_template_compile(name, json_string_value(text), json_string_length(text), &chat, &err), OCT_OK);
        oct_status status = oct_chat_render(chat, json_object_get(entry, "messages"), &options, &prompt, &err);
        struct oct_marked_text rendered = {.text = prompt.text, .marks.length = prompt.text.length};
        failed += !as_expected(json_string_value(json_object_get(entry, "case")), entry, status, &rendered, &err);
        compared++;
        oct_chat_prompt_free(&prompt);
        oct_chat_template_free(chat);
    }
    json_decref(vectors);
    json_decref(templates);
    assert_int_equal(failed, 0);
    assert_int_equal(compared, 60);
}

static void a_message_without_text_cannot_be_continued(void **state) {
    (void)state;
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    oct_error err = {0};
    static const char *const chats[] = {"[]", "[{\"role\":\"user\"}]", "[{\"content\":[{\"type\":\"image\"}]}]", "[1]",
                                        "[{\"content\":\"x\"}]"};
    struct oct_chat_context options = {.continue_final_message = true};
    assert_int_equal(oct_chat_template_compile("test", "fixed", 5, &chat, &err), OCT_OK);
    for (size_t i = 0; i < sizeof chats / sizeof *chats; i++) {
        json_t *messages;
        assert_int_equal(oct_json_parse("test", chats[i], strlen(chats[i]), &messages, &err), OCT_OK);
        assert_int_equal(oct_chat_render(chat, messages, &options, &prompt, &err), OCT_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, "continue_final_message"));
        json_decref(messages);
    }
    oct_chat_template_free(chat);
}

static void a_nul_is_no_conversion_of_a_format(void **state) {
    (void)state;
    json_t *source = json_stringn("{{ '%\0' % 1 }}", 14), *context = json_object();
    struct oct_marked_text text = {0};
    oct_error err;
    assert_int_equal(render(source, context, NULL, &text, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "unsupported format character"));
    oct_marked_free(&text);
    json_decref(source);
    json_decref(context);
}

int main(void) {
    strptime("2025-03-05T14:07:09", "%Y-%m-%dT%H:%M:%S", &now);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nul_is_no_conversion_of_a_format),
        cmocka_unit_test(snippets_give_what_jinja_gives),
        cmocka_unit_test(hostile_templates_end_soon_with_an_accepted_outcome),
        cmocka_unit_test(filters_that_the_vectors_lack_follow_jinja),
        cmocka_unit_test(words_wrap_as_python_wraps_them),
        cmocka_unit_test(extreme_arguments_cost_no_more_than_the_budget),
        cmocka_unit_test(known_chat_templates_render_as_transformers_renders_them),
        cmocka_unit_test(nearly_all_collected_templates_render_as_transformers_renders_them),
        cmocka_unit_test(what_came_out_of_a_message_is_marked_byte_by_byte),
        cmocka_unit_test(no_filter_method_or_operator_loses_a_mark),
        cmocka_unit_test(rendering_fails_with_the_line_and_the_template_s_own_message),
        cmocka_unit_test(extra_variables_and_tools_reach_the_template),
        cmocka_unit_test(integers_outside_64_bits_keep_their_digits),
        cmocka_unit_test(the_last_message_can_be_continued_and_reasoning_has_all_its_names),
        cmocka_unit_test(a_message_without_text_cannot_be_continued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
