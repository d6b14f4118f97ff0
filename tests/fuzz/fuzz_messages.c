// The first byte chooses a template, the second options, the rest is JSON: messages, or an object of messages, tools, documents and further
// variables. Whatever a message says, no special token of the prompt's ids covers a byte that came out of it.
#include "target.h"
#include "toy_tokenizers.h"

#include "text/chat.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static const char *const templates[] = {
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    // tools and tool calls
    "{% if tools %}<|start|>tools\n{% for t in tools %}{{ t | tojson(indent=1) }}{% endfor %}<|end|>{% endif %}{% for m in messages %}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool>{{ c.function.name }}({{ c.function.arguments | tojson }})<tool>{% endfor %}"
    "{% elif m.role == 'tool' %}<|start|>{{ m.content }}<|end|>{% else %}{{ m.role + ': ' + m.content + eos_token }}{% endif %}{% endfor "
    "%}",
    // parts of a content, and strings taken apart and put together
    "{% for m in messages %}{% if m.content is string %}{{ m.content[::-1] }}{{ m.content.split('<') | join('<|') }}{% else %}"
    "{% for p in m.content %}{% if p.type == 'text' %}{{ '<' ~ p.text ~ '>' }}{% else %}{{ raise_exception('no ' ~ p.type) }}{% endif %}"
    "{% endfor %}{% endif %}{{ m.content | string | replace('a', '|end|') | upper }}<|end|>{% endfor %}",
    // the last message is said to be continued; reasoning under its names
    "{% for m in messages %}{% if m.reasoning_content is defined %}<s>{{ m.reasoning_content }}<s>{% endif %}{{ '%s<|%s|>' % (m.role, "
    "m.content) }}{% if loop.last and not add_generation_prompt %}{{ m.content }}{% endif %}{% endfor %}{{ extra | tojson }}"
    "{% for d in documents or [] %}{{ d.title | default('<s>') }}{% endfor %}",
};
enum { NUM_TEMPLATES = sizeof templates / sizeof *templates };

// Each byte of a prompt is a byte of one token, in order: the tokenizer has no normalizer.
static void check(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt) {
    struct oct_ids ids = {0};
    size_t at = 0;
    oct_chat_encode(tokenizer, prompt, 0, &ids);
    for (size_t i = 0; i < ids.count; i++) {
        size_t length, bytes = 0;
        const char *token = oct_tokenizer_token(tokenizer, ids.data[i], &length);
        bool special = oct_tokenizer_is_special(tokenizer, ids.data[i]);
        OCT_CHECK(token);
        for (size_t k = 0; k < length; k++) bytes += (token[k] & 0xC0) != 0x80; // a symbol spells a byte
        OCT_CHECK(at + bytes <= prompt->text.length);
        for (size_t k = 0; k < bytes && special && prompt->from_message; k++) OCT_CHECK(!prompt->from_message[at + k]);
        at += bytes;
    }
    OCT_CHECK(at == prompt->text.length);
    free(ids.data);
}

static const json_t *array_of(const json_t *json, const char *key) {
    const json_t *value = json_object_get(json, key);
    return json_is_array(value) ? value : NULL;
}

static void render(const struct oct_chat_template *chat, const struct oct_tokenizer *tokenizer, const json_t *json, int how) {
    const json_t *messages = json_is_array(json) ? json : array_of(json, "messages"), *extra = json_object_get(json, "extra");
    struct oct_chat_context context = {
        .add_generation_prompt = how & 1,
        .continue_final_message = how & 2,
        .trust_messages = how & 8,
        .bos_token = how & 4 ? "<s>" : NULL,
        .eos_token = "<|end|>",
        .tools = array_of(json, "tools"),
        .documents = array_of(json, "documents"),
        .extra = json_is_object(extra) ? extra : NULL,
    };
    struct oct_chat_prompt prompt = {0};
    json_t *normalized = NULL;
    oct_error err;
    if (!messages) return;
    bool fits = how & 16 || oct_chat_normalize(chat, messages, OCT_CONTENT_AUTO, &normalized, &err) == OCT_OK;
    if (fits && oct_chat_render(chat, normalized ? normalized : messages, &context, &prompt, &err) == OCT_OK) {
        OCT_CHECK(oct_utf8_valid(prompt.text.data ? prompt.text.data : "", prompt.text.length));
        OCT_CHECK(!prompt.text.length || !prompt.from_message == context.trust_messages);
        check(tokenizer, &prompt);
    }
    oct_chat_prompt_free(&prompt);
    json_decref(normalized);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct oct_chat_template *chats[NUM_TEMPLATES];
    static struct oct_tokenizer *tokenizer;
    oct_error err;
    json_t *json;
    if (!tokenizer) {
        tokenizer = toy_byte_level_tokenizer();
        for (int i = 0; i < NUM_TEMPLATES; i++)
            OCT_CHECK(oct_chat_template_compile("fuzz", templates[i], strlen(templates[i]), chats + i, &err) == OCT_OK);
    }
    if (size < 2 || oct_json_parse("fuzz", (const char *)data + 2, size - 2, &json, &err) != OCT_OK) return 0;
    render(chats[data[0] % NUM_TEMPLATES], tokenizer, json, data[1]);
    json_decref(json);
    return 0;
}
