// chat_messages.c: checks of a chat request's messages, in vLLM's words. What else templates need of them is the engine's business.
#include "server/chat_messages.h"

#include "server/openai_request.h"

#include <stdio.h>
#include <string.h>

enum { MAX_MESSAGES = 8192 };

bool oct_check_messages(const json_t *body, struct oct_api_error *error) {
    const json_t *messages = json_object_get(body, "messages");
    if (!messages) return oct_openai_invalid(error, "body.messages", "missing", "Field required", body);
    if (json_is_null(messages) || json_is_number(messages) || json_is_boolean(messages)) {
        static const char *const types[] = {
            [JSON_INTEGER] = "int", [JSON_REAL] = "float", [JSON_TRUE] = "bool", [JSON_FALSE] = "bool", [JSON_NULL] = "NoneType"};
        return oct_api_fail(error, NULL, "'%s' object is not iterable", types[json_typeof(messages)]);
    }
    if (!json_is_array(messages)) return oct_openai_invalid(error, "body.messages", "list_type", "Input should be a valid list", messages);
    if (json_array_size(messages) > MAX_MESSAGES)
        return oct_api_fail(error, "messages", "%zu messages are more than the %d that are accepted. (parameter=messages)",
                            json_array_size(messages), MAX_MESSAGES);
    return true;
}

static bool invalid_message(struct oct_api_error *error, size_t index, const char *key, const char *type, const char *text,
                            const json_t *input) {
    char param[96];
    snprintf(param, sizeof param, "body.messages.%zu%s%s", index, key ? "." : "", key ? key : "");
    return oct_openai_invalid(error, param, type, text, input);
}

static bool check_parts(struct oct_api_error *error, const char *model, const json_t *parts) {
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        bool is_text = type && (!strcmp(type, "text") || !strcmp(type, "refusal"));
        if (is_text && json_is_string(json_object_get(part, type))) continue;
        if (type && (strstr(type, "image") || strstr(type, "audio") || strstr(type, "video") || !strcmp(type, "file")))
            return oct_api_fail(error, NULL, "%.200s is not a multimodal model", model);
        if (type && !is_text)
            return oct_api_fail(error, NULL, "Content part %zu of a message: type \"text\" expected, \"%.80s\" found", i, type);
        return oct_api_fail(error, NULL, "Content part %zu of a message: an object {\"type\": \"text\", \"text\": ...} expected", i);
    }
    return true;
}

static bool check_tool_calls(struct oct_api_error *error, size_t index, const json_t *calls) {
    if (!json_is_array(calls)) return invalid_message(error, index, "tool_calls", "list_type", "Input should be a valid list", calls);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        if (!json_is_object(call))
            return invalid_message(error, index, "tool_calls", "dict_type", "Input should be a valid dictionary", call);
    }
    return true;
}

static bool check_message(struct oct_api_error *error, const char *model, size_t index, const json_t *message) {
    if (!json_is_object(message)) return invalid_message(error, index, NULL, "dict_type", "Input should be a valid dictionary", message);
    const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    if (!role) return invalid_message(error, index, "role", "missing", "Field required", message);
    if (!json_is_string(role)) return invalid_message(error, index, "role", "string_type", "Input should be a valid string", role);
    if (calls && !json_is_null(calls) && !check_tool_calls(error, index, calls)) return false;
    bool may_be_null = !strcmp(json_string_value(role), "assistant");
    if (!content || json_is_string(content) || (json_is_null(content) && may_be_null)) return true;
    if (json_is_array(content)) return check_parts(error, model, content);
    if (json_is_object(content))
        return oct_api_fail(error, NULL, "The content of message %zu is an object; a string or a list of parts is expected", index);
    return invalid_message(error, index, "content", "string_type", "Input should be a valid string", content);
}

bool oct_check_message_list(const json_t *messages, const char *model, struct oct_api_error *error) {
    size_t count = json_array_size(messages);
    if (count == 0) return oct_api_fail(error, NULL, "Cannot apply chat template to an empty conversation. Provide at least one message.");
    for (size_t i = 0; i < count; i++)
        if (!check_message(error, model, i, json_array_get(messages, i))) return false;
    return true;
}
