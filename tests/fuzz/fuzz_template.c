// The bytes are a chat template, rendered over a chat with a tool call.
#include "target.h"

#include "text/chat.h"
#include "text/unicode.h"

static json_t *parse(const char *text) {
    json_t *json;
    oct_error err;
    OCT_CHECK(oct_json_parse("fuzz", text, strlen(text), &json, &err) == OCT_OK);
    return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_t *messages, *tools;
    struct oct_chat_template *chat;
    struct oct_chat_prompt prompt = {0};
    oct_error err;
    if (!messages) {
        messages = parse("[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi \\u00e9\\ud83d\\ude00 <s>\\n\"},"
                         "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1,"
                         "\"y\":[1.5,true]}}}]}]");
        tools =
            parse("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"x\":{\"type\":\"integer\"}}}}}]");
    }
    struct oct_chat_context options = {.add_generation_prompt = true, .bos_token = "<s>", .eos_token = "</s>", .tools = tools};
    if (oct_chat_template_compile("fuzz", (const char *)data, size, &chat, &err) != OCT_OK) return 0;
    if (oct_chat_render(chat, messages, &options, &prompt, &err) == OCT_OK) {
        OCT_CHECK(oct_utf8_valid(prompt.text.data ? prompt.text.data : "", prompt.text.length));
        for (size_t i = 0; i < prompt.text.length; i++) OCT_CHECK(prompt.from_message[i] <= 1);
    }
    oct_chat_prompt_free(&prompt);
    oct_chat_template_free(chat);
    return 0;
}
