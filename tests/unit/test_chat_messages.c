// test_chat_messages.c: messages on their way into a template: the forms they take, what is refused, and that nothing in them can stand
// for a special token, whatever the template does with it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/chat_input.h"
#include "base/memory.h"
#include "golden_json.h"

static struct oct_chat_template *compile(const char *text) {
    struct oct_chat_template *chat;
    oct_error err = {0};
    if (oct_chat_template_compile("test", text, strlen(text), &chat, &err) != OCT_OK) fail_msg("%s", err.message);
    return chat;
}

static json_t *json_of(const char *text) {
    json_t *json;
    oct_error err = {0};
    if (oct_json_parse("test", text, strlen(text), &json, &err) != OCT_OK) fail_msg("%s", err.message);
    return json;
}

// --- forms ------------------------------------------------------------------------------------------------------------------------

static void normalizes_to(const char *template, enum oct_content_format format, const char *messages, const char *expected) {
    struct oct_chat_template *chat = compile(template);
    json_t *given = json_of(messages), *before = json_deep_copy(given), *normalized, *wanted = json_of(expected);
    oct_error err = {0};
    if (oct_chat_normalize(chat, given, format, &normalized, &err) != OCT_OK) fail_msg("%s", err.message);
    char *found = json_dumps(normalized, JSON_COMPACT), *text = json_dumps(wanted, JSON_COMPACT);
    assert_string_equal(found, text);
    assert_true(json_equal(given, before)); // what the caller has stays as it is
    free(found);
    free(text);
    json_decref(given);
    json_decref(before);
    json_decref(normalized);
    json_decref(wanted);
    oct_chat_template_free(chat);
}

static void contents_take_the_form_that_is_asked_for(void **state) {
    (void)state;
    static const char parts[] =
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"refusal\",\"refusal\":\"b\"}]}]";
    normalizes_to("", OCT_CONTENT_STRING, parts, "[{\"role\":\"user\",\"content\":\"a\\nb\"}]");
    normalizes_to("", OCT_CONTENT_OPENAI, parts,
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]");
    static const char string[] = "[{\"role\":\"user\",\"content\":\"a\\u0000\"}]";
    normalizes_to("", OCT_CONTENT_STRING, string, string);
    normalizes_to("", OCT_CONTENT_OPENAI, string, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0000\"}]}]");
    static const char empty[] = "[{\"role\":\"assistant\",\"content\":null},{\"role\":\"user\"},{\"role\":\"user\",\"content\":[]}]";
    normalizes_to("", OCT_CONTENT_STRING, empty,
                  "[{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"\"}]");
    normalizes_to("", OCT_CONTENT_OPENAI, empty,
                  "[{\"role\":\"assistant\",\"content\":[]},{\"role\":\"user\",\"content\":[]},{\"role\":\"user\",\"content\":[]}]");
    normalizes_to("{% for m in messages %}{{ m.content }}{% endfor %}", OCT_CONTENT_AUTO, parts,
                  "[{\"role\":\"user\",\"content\":\"a\\nb\"}]");
    normalizes_to("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", OCT_CONTENT_AUTO, string,
                  "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0000\"}]}]");
}

static void past_tool_calls_have_values_for_arguments(void **state) {
    (void)state;
    normalizes_to(
        "", OCT_CONTENT_STRING,
        "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"id\":\"1\",\"function\":{\"arguments\":\"{\\\"b\\\": 1, \\\"a\\\": "
        "[true]}\","
        "\"name\":\"f\"}},{\"function\":{\"name\":\"g\",\"arguments\":\"\"}},{\"function\":{\"name\":\"h\"}},"
        "{\"function\":{\"name\":\"i\",\"arguments\":\"no JSON\"}},{\"function\":{\"name\":\"j\",\"arguments\":{\"c\":2}}},"
        "{\"function\":{\"name\":\"k\",\"arguments\":null}},{\"name\":\"bare\",\"arguments\":\"{}\"}]}]",
        "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"id\":\"1\",\"function\":{\"arguments\":{\"b\":1,\"a\":[true]},"
        "\"name\":\"f\"}},{\"function\":{\"name\":\"g\",\"arguments\":{}}},{\"function\":{\"name\":\"h\",\"arguments\":{}}},"
        "{\"function\":{\"name\":\"i\",\"arguments\":\"no JSON\"}},{\"function\":{\"name\":\"j\",\"arguments\":{\"c\":2}}},"
        "{\"function\":{\"name\":\"k\",\"arguments\":{}}},{\"name\":\"bare\",\"arguments\":\"{}\"}]}]");
    normalizes_to("", OCT_CONTENT_STRING, "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[]}]",
                  "[{\"role\":\"assistant\",\"content\":\"x\"}]");
    normalizes_to("", OCT_CONTENT_STRING, "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":null}]",
                  "[{\"role\":\"assistant\",\"content\":\"x\"}]");
    static const char rest[] =
        "[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"1\",\"name\":\"f\",\"reasoning\":\"r\",\"more\":{}}]";
    normalizes_to("", OCT_CONTENT_STRING, rest, rest);
}

static void developer_is_system_to_a_template_that_does_not_know_it(void **state) {
    (void)state;
    static const char developer[] = "[{\"role\":\"developer\",\"content\":\"x\"}]";
    normalizes_to("{{ messages[0].role }}", OCT_CONTENT_AUTO, developer, "[{\"role\":\"system\",\"content\":\"x\"}]");
    normalizes_to("{% if messages[0].role == 'developer' %}{% endif %}", OCT_CONTENT_AUTO, developer, developer);
}

static void the_content_format_is_read_off_the_template_s_loops(void **state) {
    (void)state;
    static const struct {
        const char *template;
        enum oct_content_format format;
    } cases[] = {
        {"{% for m in messages %}{{ m.content }}{% endfor %}", OCT_CONTENT_STRING},
        {"{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}", OCT_CONTENT_OPENAI},
        {"{% for m in messages %}{% for p in m['content'] %}{% endfor %}{% endfor %}", OCT_CONTENT_OPENAI},
        {"{% for m in messages %}{% for p in m.text %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% for m in messages %}{% for p in x.content %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% for m in messages[1:] %}{% for p in (m.content | selectattr('type', 'equalto', 'text') | list)[:5] %}{% endfor %}{% endfor %}",
         OCT_CONTENT_OPENAI},
        {"{% set a = messages %}{% set b = a[1:] | list %}{% for m in b %}{% if x %}{% elif y %}{% for p in m.content %}{% endfor %}{% "
         "endif %}"
         "{% endfor %}",
         OCT_CONTENT_OPENAI},
        {"{% set b = a %}{% set a = b %}{% for m in a %}{% for p in m.content %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% set b = a %}{% set a = b %}{% set a = messages %}{% for m in b %}{% for p in m.content %}{% endfor %}{% endfor %}",
         OCT_CONTENT_OPENAI},
        {"{% set a = messages if x else y %}{% for m in a %}{% for p in m.content %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% macro f() %}{% for m in messages %}{% else %}{% endfor %}{% for p in m.content %}{% endfor %}{% endmacro %}",
         OCT_CONTENT_OPENAI},
        {"{% call f() %}{% for m in messages %}{% filter upper %}{% for p in m.content %}{% endfor %}{% endfilter %}{% endfor %}{% endcall "
         "%}",
         OCT_CONTENT_OPENAI},
        {"{% set ns.x = messages %}{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% for a, b in messages %}{% endfor %}{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}",
         OCT_CONTENT_STRING},
        {"{% for m in messages %}{% set c = m.content %}{% for p in c %}{% endfor %}{% endfor %}", OCT_CONTENT_STRING},
        {"{% for m in messages %}{{ m.content | map(attribute='text') | join }}{% endfor %}", OCT_CONTENT_STRING},
        {"no messages", OCT_CONTENT_STRING},
        {"", OCT_CONTENT_STRING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_chat_template *chat = compile(cases[i].template);
        if (oct_chat_content_format(chat) != cases[i].format) fail_msg("%s", cases[i].template);
        oct_chat_template_free(chat);
    }
}

static void looking_for_the_content_format_takes_linear_time(void **state) {
    (void)state;
    struct oct_buffer text = {0};
    for (int i = 15000; i > 0; i--) oct_buffer_printf(&text, "{%%set a%d=a%d%%}", i, i - 1);
    oct_buffer_puts(&text, "{% set a0 = messages %}{% if x %}");
    for (int i = 0; i < 15000; i++) oct_buffer_puts(&text, "{%elif x%}");
    oct_buffer_puts(&text, "{% endif %}{% for m in a15000 %}{% for p in m.content %}{% endfor %}{% endfor %}");
    struct oct_chat_template *chat = compile(text.data);
    assert_int_equal(oct_chat_content_format(chat), OCT_CONTENT_OPENAI);
    oct_chat_template_free(chat);
    oct_buffer_free(&text);
}

// --- tokenizers -------------------------------------------------------------------------------------------------------------------

enum { MAX_SPECIALS = 64, FIRST_SPECIAL = 256 };

// What a template might mean as special tokens: <words> and [WORDS] in its text, and its bos and eos.
struct specials {
    char *texts[MAX_SPECIALS];
    size_t count;
};

static void add_special(struct specials *specials, const char *text, size_t length) {
    for (size_t i = 0; i < specials->count; i++)
        if (strlen(specials->texts[i]) == length && !memcmp(specials->texts[i], text, length)) return;
    if (length && specials->count < MAX_SPECIALS) specials->texts[specials->count++] = oct_strndup(text, length);
}

static struct specials find_specials(const json_t *template) {
    struct specials specials = {0};
    const char *text = json_string_value(json_object_get(template, "text"));
    static const char *const known[] = {"<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"}; // which templates build out of roles
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) add_special(&specials, known[i], strlen(known[i]));
    const char *const keys[] = {"bos_token", "eos_token"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *token = json_object_get(template, keys[i]);
        add_special(&specials, json_string_value(token), json_string_length(token));
    }
    for (const char *at = text; *at; at++) {
        size_t tag = *at == '<' ? strcspn(at + 1, "<> \n\t") : 0, word = *at == '[' ? strspn(at + 1, "/ABCDEFGHIJKLMNOPQRSTUVWXYZ_") : 0;
        if (tag > 1 && at[1 + tag] == '>') add_special(&specials, at, tag + 2);
        if (word > 1 && at[1 + word] == ']') add_special(&specials, at, word + 2);
    }
    return specials;
}

// A byte-level tokenizer whose tokens are the 256 bytes and the specials.
static struct oct_tokenizer *tokenizer_of(const struct specials *specials, const json_t *template) {
    enum { MAX_TOKENS = FIRST_SPECIAL + MAX_SPECIALS };
    static char bytes[256][3];
    const char *tokens[MAX_TOKENS];
    size_t lengths[MAX_TOKENS], count = FIRST_SPECIAL + specials->count;
    int32_t types[MAX_TOKENS], bos = -1, eos = -1;
    for (unsigned b = 0, spare = 256; b < 256; b++) { // GPT-2's spelling: bytes without a shape of their own are taken from U+0100 on
        bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        unsigned code = printable ? b : spare++;
        lengths[b] = code < 0x80 ? 1 : 2;
        bytes[b][0] = (char)(code < 0x80 ? code : 0xc0 | code >> 6);
        if (code >= 0x80) bytes[b][1] = (char)(0x80 | (code & 0x3f));
        tokens[b] = bytes[b];
        types[b] = 1;
    }
    for (size_t i = 0; i < specials->count; i++) {
        tokens[FIRST_SPECIAL + i] = specials->texts[i];
        lengths[FIRST_SPECIAL + i] = strlen(specials->texts[i]);
        types[FIRST_SPECIAL + i] = 3;
        const char *bos_text = json_string_value(json_object_get(template, "bos_token"));
        const char *eos_text = json_string_value(json_object_get(template, "eos_token"));
        if (bos_text && !strcmp(specials->texts[i], bos_text)) bos = (int32_t)(FIRST_SPECIAL + i);
        if (eos_text && !strcmp(specials->texts[i], eos_text)) eos = (int32_t)(FIRST_SPECIAL + i);
    }
    struct oct_vocabulary vocabulary = {.model = "gpt2",
                                        .pre = "llama-bpe",
                                        .num_tokens = count,
                                        .tokens = tokens,
                                        .lengths = lengths,
                                        .types = types,
                                        .bos_token_id = bos,
                                        .eos_token_id = eos,
                                        .unknown_token_id = -1,
                                        .add_bos_token = 0,
                                        .add_eos_token = 0,
                                        .add_space_prefix = 0};
    struct oct_tokenizer *tokenizer;
    oct_error err = {0};
    if (oct_tokenizer_from_vocabulary("test", &vocabulary, &tokenizer, &err) != OCT_OK) fail_msg("%s", err.message);
    return tokenizer;
}

static struct oct_tokenizer *byte_tokenizer(void) {
    const struct specials none = {.count = 0};
    return tokenizer_of(&none, NULL);
}

// --- what is refused --------------------------------------------------------------------------------------------------------------

static void is_refused(const json_t *messages, oct_status expected, const char *message) {
    struct oct_chat_template *chat = compile("{{ messages | tojson }}");
    struct oct_text_source source = {.tokenizer = byte_tokenizer(), .chat = chat};
    struct oct_chat_input input = {.messages = (json_t *)messages};
    struct oct_chat_prompt prompt = {0};
    oct_error err = {0};
    oct_status status = oct_chat_input_render(&source, &input, &prompt, &err);
    if (status != expected || !strstr(err.message, message)) fail_msg("\"%s\" expected, found: %s", message, err.message);
    oct_chat_prompt_free(&prompt);
    oct_text_source_close(&source);
}

static void what_is_wrong_with_messages_is_said_and_where(void **state) {
    (void)state;
    static const struct {
        const char *messages, *error;
    } cases[] = {
        {"{}", "messages: an array expected, object found"},
        {"[]", "messages: at least one message expected, none found"},
        {"[5]", "messages[0]: an object {\"role\", \"content\"} expected, integer found"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"content\":\"x\"}]", "messages[1]: a string \"role\" expected, nothing found"},
        {"[{\"role\":null}]", "messages[0]: a string \"role\" expected, null found"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content: a string or a list of parts expected, null found"},
        {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content: a string or a list of parts expected, object found"},
        {"[{\"role\":\"user\",\"content\":[\"x\"]}]",
         "messages[0].content[0]: a part {\"type\": \"text\", \"text\": ...} expected, string found"},
        {"[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]", "expected, an object without a type found"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0]: a string \"text\" expected, nothing found"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls: an array expected, object found"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls[0]: an object expected, integer found"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *messages = json_of(cases[i].messages);
        is_refused(messages, OCT_INVALID_ARGUMENT, cases[i].error);
        json_decref(messages);
    }
    json_t *image = json_of("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\"}]}]");
    is_refused(image, OCT_UNSUPPORTED, "messages[0].content[1]: a part of type \"text\" expected, \"image_url\" found");
    json_decref(image);
}

static void deep_huge_and_cyclic_json_is_an_error(void **state) {
    (void)state;
    struct oct_buffer text = {0};
    json_t *messages;
    oct_error err = {0};
    oct_buffer_puts(&text, "[{\"role\":\"user\",\"content\":\"x\",\"deep\":");
    for (int i = 0; i < 1000; i++) oct_buffer_puts(&text, "[");
    for (int i = 0; i < 1000; i++) oct_buffer_puts(&text, "]");
    oct_buffer_puts(&text, "}]");
    messages = json_of(text.data);
    is_refused(messages, OCT_INVALID_ARGUMENT, "nested more than 400 levels deep");
    json_decref(messages);
    text.length = 0;
    for (int i = 0; i < 100000; i++) oct_buffer_puts(&text, "[");
    assert_int_equal(oct_json_parse("messages", text.data, text.length, &messages, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "depth"));
    oct_buffer_free(&text);

    messages = json_array();
    for (int i = 0; i < 2000000; i++) json_array_append_new(messages, json_true());
    json_t *holder = json_pack("[{s:s, s:s, s:o}]", "role", "user", "content", "x", "huge", messages);
    is_refused(holder, OCT_INVALID_ARGUMENT, "the template ");
    json_decref(holder);

    json_t *cycle = json_pack("{s:{s:[]}}", "a", "b"), *inner = json_object_get(json_object_get(cycle, "a"), "b");
    json_array_append(inner, cycle);
    holder = json_pack("[{s:s, s:s, s:O}]", "role", "user", "content", "x", "cycle", cycle);
    is_refused(holder, OCT_INVALID_ARGUMENT, "nested more than 400 levels deep");
    json_array_clear(inner);
    json_decref(holder);
    json_decref(cycle);
}

static void options_are_checked(void **state) {
    (void)state;
    static const struct {
        const char *tools, *documents, *kwargs, *format, *template, *error;
    } cases[] = {
        {.tools = "{}", .error = "tools: an array expected, object found"},
        {.tools = "[{}, 5]", .error = "tools[1]: an object expected, integer found"},
        {.documents = "[\"x\"]", .error = "documents[0]: an object expected, string found"},
        {.kwargs = "[]", .error = "chat_template_kwargs: an object expected, array found"},
        {.kwargs = "{\"messages\": []}", .error = "got multiple values for keyword argument 'messages'"},
        {.kwargs = "{\"tools\": []}", .error = "got multiple values for keyword argument 'tools'"},
        {.format = "list", .error = "content_format: auto, string or openai expected, 'list' found"},
        {.template = "a\n{% if %}", .error = "chat_template, line 2: "},
        {.error = NULL},
    };
    struct oct_chat_template *chat = compile("fixed");
    struct oct_text_source source = {.tokenizer = byte_tokenizer(), .chat = chat};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_chat_options options = {
            .tools_json = cases[i].tools,
            .documents_json = cases[i].documents,
            .template_kwargs_json = cases[i].kwargs,
            .content_format = cases[i].format,
            .chat_template = cases[i].template,
        };
        struct oct_chat_input input;
        struct oct_chat_prompt prompt = {0};
        oct_error err = {0};
        assert_int_equal(oct_chat_input_parse("[{\"role\":\"user\"}]", &options, &input, &err), OCT_OK);
        oct_status status = oct_chat_input_render(&source, &input, &prompt, &err);
        assert_int_equal(status == OCT_OK, cases[i].error == NULL);
        if (cases[i].error && !strstr(err.message, cases[i].error)) fail_msg("\"%s\" expected, found: %s", cases[i].error, err.message);
        oct_chat_prompt_free(&prompt);
        oct_chat_input_free(&input);
    }
    oct_text_source_close(&source);
}

static void a_request_s_own_template_comes_before_the_model_s(void **state) {
    (void)state;
    struct oct_chat_template *chat = compile("the model's"), *tool_chat = compile("for tools");
    struct oct_text_source source = {.tokenizer = byte_tokenizer(), .chat = chat, .tool_chat = tool_chat};
    static const struct {
        const char *tools, *template, *text;
    } cases[] = {
        {NULL, NULL, "the model's"},
        {"[{\"type\":\"function\"}]", NULL, "for tools"},
        {"[]", NULL, "the model's"},
        {"[{\"type\":\"function\"}]", "{{ tools[0].type }} {{ n }}", "function 18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oct_chat_options options = {
            .tools_json = cases[i].tools, .chat_template = cases[i].template, .template_kwargs_json = "{\"n\": 18446744073709551615}"};
        struct oct_chat_input input;
        struct oct_chat_prompt prompt = {0};
        assert_int_equal(oct_chat_input_parse("[{\"role\":\"user\"}]", &options, &input, NULL), OCT_OK);
        assert_int_equal(oct_chat_input_render(&source, &input, &prompt, NULL), OCT_OK);
        assert_string_equal(prompt.text.data, cases[i].text);
        oct_chat_prompt_free(&prompt);
        oct_chat_input_free(&input);
    }
    oct_text_source_close(&source);
}

// --- injection --------------------------------------------------------------------------------------------------------------------

static json_t *framed(const char *text, size_t length, const char *frame) {
    struct oct_buffer out = {0};
    oct_buffer_puts(&out, frame);
    oct_buffer_append(&out, text, length);
    oct_buffer_puts(&out, frame);
    json_t *string = json_stringn(out.data, out.length);
    oct_buffer_free(&out);
    return string;
}

// A copy with `frame` around every string, and in the keys of arguments and properties. Roles and types are left, which say what a
// message is; arguments in the form of JSON stay JSON.
static json_t *frame_strings(const json_t *value, const char *key, const char *frame) {
    if (json_is_string(value)) {
        json_t *parsed = NULL;
        if (key && (!strcmp(key, "role") || !strcmp(key, "type"))) return json_incref((json_t *)value);
        if (key && !strcmp(key, "arguments"))
            oct_json_parse("arguments", json_string_value(value), json_string_length(value), &parsed, NULL);
        if (!parsed) return framed(json_string_value(value), json_string_length(value), frame);
        json_t *inside = frame_strings(parsed, key, frame);
        char *text = json_dumps(inside, JSON_ENCODE_ANY);
        json_t *result = json_string(text);
        free(text);
        json_decref(inside);
        json_decref(parsed);
        return result;
    }
    if (json_is_array(value)) {
        json_t *copy = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            json_array_append_new(copy, frame_strings(json_array_get(value, i), key, frame));
        return copy;
    }
    if (!json_is_object(value)) return json_incref((json_t *)value);
    json_t *copy = json_object(), *member;
    const char *name;
    bool free_names = key && (!strcmp(key, "arguments") || !strcmp(key, "properties"));
    json_object_foreach((json_t *)value, name, member) {
        json_t *text = framed(name, strlen(name), free_names ? frame : "");
        json_object_set_new(copy, json_string_value(text), frame_strings(member, name, frame));
        json_decref(text);
    }
    return copy;
}

// Whether a conversation holds special-token text of its own.
static bool holds_special(const json_t *conversation, const struct specials *specials) {
    char *text = json_dumps(conversation, JSON_COMPACT);
    bool found = false;
    for (size_t i = 0; i < specials->count; i++) found = found || strstr(text, specials->texts[i]);
    free(text);
    return found;
}

struct run {
    struct oct_chat_prompt prompt;
    struct oct_ids ids;
    size_t num_special;
};

static bool run(const struct oct_text_source *source, const json_t *conversation, const char *frame, bool trusted, struct run *out) {
    static const char *const own[] = {"messages", "tools", "documents", "add_generation_prompt"};
    json_t *framed_conversation = frame_strings(conversation, NULL, frame), *kwargs = json_copy(framed_conversation);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) json_object_del(kwargs, own[i]);
    struct oct_chat_input input = {
        .messages = json_object_get(framed_conversation, "messages"),
        .tools = json_object_get(framed_conversation, "tools"),
        .documents = json_object_get(framed_conversation, "documents"),
        .template_kwargs = kwargs,
        .add_generation_prompt = json_is_true(json_object_get(framed_conversation, "add_generation_prompt")),
        .allow_special_tokens_in_messages = trusted,
    };
    oct_error err;
    *out = (struct run){0};
    bool rendered = oct_chat_input_render(source, &input, &out->prompt, &err) == OCT_OK;
    if (rendered) oct_chat_encode(source->tokenizer, &out->prompt, 0, &out->ids);
    for (size_t i = 0; i < out->ids.count; i++) out->num_special += out->ids.data[i] >= FIRST_SPECIAL;
    json_decref(kwargs);
    json_decref(framed_conversation);
    return rendered;
}

static void run_free(struct run *run) {
    oct_chat_prompt_free(&run->prompt);
    free(run->ids.data);
}

static bool encodes_as_its_text(const struct oct_tokenizer *tokenizer, const struct run *run) {
    struct oct_ids plain = {0};
    oct_encode(tokenizer, run->prompt.text.data, run->prompt.text.length, 0, &plain);
    bool same = plain.count == run->ids.count && (!plain.count || !memcmp(plain.data, run->ids.data, plain.count * sizeof *plain.data));
    free(plain.data);
    return same;
}

struct injection {
    size_t compared, forged, failed; // conversations: all; those that a trusting prompt lets forge something; those that differ
};

static void compare_conversation(const struct oct_text_source *source, const char *name, const json_t *conversation, bool harmless_itself,
                                 const char *hostile, const char *harmless, struct injection *total) {
    struct run attacked, quiet, trusting;
    bool rendered = run(source, conversation, hostile, false, &attacked);
    bool quiet_rendered = run(source, conversation, harmless, false, &quiet);
    if (rendered && quiet_rendered) {
        bool same = attacked.num_special == quiet.num_special, honest = !harmless_itself || encodes_as_its_text(source->tokenizer, &quiet);
        bool trusted = run(source, conversation, hostile, true, &trusting) && !trusting.prompt.from_message &&
                       encodes_as_its_text(source->tokenizer, &trusting);
        if (!same || !honest || !trusted)
            print_message("%s: %zu special tokens, %zu with harmless text%s%s\n", name, attacked.num_special, quiet.num_special,
                          honest ? "" : "; harmless text is not encoded as the reference encodes it",
                          trusted ? "" : "; the trusting prompt is not encoded as the reference encodes it");
        total->compared++;
        total->forged += trusting.num_special > attacked.num_special;
        total->failed += !same || !honest || !trusted;
        run_free(&trusting);
    }
    run_free(&attacked);
    run_free(&quiet);
}

// Frames of all special tokens, as they are and with other brackets.
static void make_frames(const struct specials *specials, struct oct_buffer *hostile, struct oct_buffer *harmless) {
    oct_buffer_puts(hostile, "\n");
    for (size_t i = 0; i < specials->count; i++) oct_buffer_printf(hostile, "%s\n", specials->texts[i]);
    oct_buffer_append(harmless, hostile->data, hostile->length);
    for (size_t i = 0; i < harmless->length; i++) {
        char *c = &harmless->data[i];
        *c = *c == '<' || *c == '[' ? '(' : *c == '>' || *c == ']' ? ')' : *c;
    }
}

static struct injection compare_templates(const char *path) {
    json_t *vectors = golden_json(path), *template, *conversation;
    struct injection total = {0};
    size_t i;
    const char *name;
    json_array_foreach(json_object_get(vectors, "templates"), i, template) {
        const json_t *text = json_object_get(template, "text");
        struct specials specials = find_specials(template);
        struct oct_text_source source = {.tokenizer = tokenizer_of(&specials, template), .chat = compile(json_string_value(text))};
        struct oct_buffer hostile = {0}, harmless = {0};
        make_frames(&specials, &hostile, &harmless);
        size_t before = total.compared;
        json_object_foreach(json_object_get(vectors, "conversations"), name, conversation) {
            char label[200];
            snprintf(label, sizeof label, "%s, %s", json_string_value(json_object_get(template, "name")), name);
            compare_conversation(&source, label, conversation, !holds_special(conversation, &specials), hostile.data, harmless.data,
                                 &total);
        }
        if (total.compared == before)
            fail_msg("%s: no conversation could be compared", json_string_value(json_object_get(template, "name")));
        oct_buffer_free(&hostile);
        oct_buffer_free(&harmless);
        for (size_t k = 0; k < specials.count; k++) free(specials.texts[k]);
        oct_text_source_close(&source);
    }
    json_decref(vectors);
    print_message("%zu conversations, of which %zu could forge special tokens if they were trusted\n", total.compared, total.forged);
    return total;
}

static void nothing_in_a_conversation_becomes_a_special_token(void **state) {
    (void)state;
    struct injection total = compare_templates(golden_path("text/chat_templates.json"));
    assert_int_equal(total.failed, 0);
    assert_true(total.compared >= 35 && total.forged == total.compared);
}

static void nothing_in_a_conversation_becomes_a_special_token_with_known_templates(void **state) {
    (void)state;
    const char *path = reference_path("text/chat/chat_core.json.gz");
    if (!path) skip();
    struct injection total = compare_templates(path);
    assert_int_equal(total.failed, 0);
    assert_true(total.compared > 800 && total.forged > 800);
}

static void a_role_is_a_word_of_the_template_only_where_it_is_a_known_one(void **state) {
    (void)state;
    static const struct {
        const char *messages, *marks;
    } cases[] = {
        {"[{\"role\":\"user\"}]", "00000000"},
        {"[{\"role\":\"use\"}]", "0011100"},
        {"[{\"role\":\"user\\u0000x\"}]", "0011111100"}, // no shorter than it is
        {"[{\"role\":\"x\",\"name\":\"user\"}]", "00100"},
    };
    struct oct_chat_template *chat = compile("{{ '<|' ~ messages[0].role ~ '|>' }}");
    struct oct_text_source source = {.tokenizer = byte_tokenizer(), .chat = chat};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_chat_input input = {.messages = json_of(cases[i].messages)};
        struct oct_chat_prompt prompt = {0};
        assert_int_equal(oct_chat_input_render(&source, &input, &prompt, NULL), OCT_OK);
        assert_int_equal(prompt.text.length, strlen(cases[i].marks));
        for (size_t k = 0; k < prompt.text.length; k++) assert_int_equal(prompt.from_message[k], cases[i].marks[k] - '0');
        oct_chat_prompt_free(&prompt);
        oct_chat_input_free(&input);
    }
    oct_text_source_close(&source);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_take_the_form_that_is_asked_for),
        cmocka_unit_test(past_tool_calls_have_values_for_arguments),
        cmocka_unit_test(developer_is_system_to_a_template_that_does_not_know_it),
        cmocka_unit_test(the_content_format_is_read_off_the_template_s_loops),
        cmocka_unit_test(looking_for_the_content_format_takes_linear_time),
        cmocka_unit_test(what_is_wrong_with_messages_is_said_and_where),
        cmocka_unit_test(deep_huge_and_cyclic_json_is_an_error),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_request_s_own_template_comes_before_the_model_s),
        cmocka_unit_test(nothing_in_a_conversation_becomes_a_special_token),
        cmocka_unit_test(nothing_in_a_conversation_becomes_a_special_token_with_known_templates),
        cmocka_unit_test(a_role_is_a_word_of_the_template_only_where_it_is_a_known_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
