// chat_messages.c: checks of form first, on the body; then content parts are joined and tool arguments parsed, in place.
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

// Text parts joined by newlines, as vLLM joins them. *out is a new string.
static bool join_parts(struct oct_api_error *error, const char *model, const json_t *parts, json_t **out) {
    struct oct_buffer text = {0};
    oct_buffer_puts(&text, "");
    bool fits = true;
    for (size_t i = 0; fits && i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *content = type ? json_object_get(part, !strcmp(type, "refusal") ? "refusal" : "text") : NULL;
        if (type && (!strcmp(type, "text") || !strcmp(type, "refusal")) && json_is_string(content)) {
            if (i > 0) oct_buffer_puts(&text, "\n");
            oct_buffer_append(&text, json_string_value(content), json_string_length(content));
        } else if (type && (strstr(type, "image") || strstr(type, "audio") || strstr(type, "video") || !strcmp(type, "file"))) {
            fits = oct_api_fail(error, NULL, "%.200s is not a multimodal model", model);
        } else {
            fits = oct_api_fail(error, NULL, "Content part %zu of a message: an object {\"type\": \"text\", \"text\": ...} expected", i);
        }
    }
    *out = fits ? json_stringn_nocheck(text.data, text.length) : NULL;
    oct_buffer_free(&text);
    return fits;
}

// vLLM hands templates the arguments of past calls as objects, not as the JSON text in which they come.
static bool parse_arguments(struct oct_api_error *error, size_t index, json_t *calls) {
    if (!json_is_array(calls)) return invalid_message(error, index, "tool_calls", "list_type", "Input should be a valid list", calls);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        if (!json_is_object(call))
            return invalid_message(error, index, "tool_calls", "dict_type", "Input should be a valid dictionary", call);
        const json_t *arguments = json_object_get(function, "arguments");
        if (!json_is_string(arguments)) continue;
        json_t *parsed = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, NULL);
        if (parsed) json_object_set_new(function, "arguments", parsed);
    }
    return true;
}

// Checks one message and brings its content into the form of a string.
static bool normalize(struct oct_api_error *error, const char *model, size_t index, json_t *message) {
    if (!json_is_object(message)) return invalid_message(error, index, NULL, "dict_type", "Input should be a valid dictionary", message);
    const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
    json_t *calls = json_object_get(message, "tool_calls");
    if (!role) return invalid_message(error, index, "role", "missing", "Field required", message);
    if (!json_is_string(role)) return invalid_message(error, index, "role", "string_type", "Input should be a valid string", role);
    if (calls && !json_is_null(calls) && !parse_arguments(error, index, calls)) return false;
    // The newer name of the same role. Templates know the older one.
    if (!strcmp(json_string_value(role), "developer")) json_object_set_new(message, "role", json_string("system"));
    role = json_object_get(message, "role");
    bool may_be_null = !strcmp(json_string_value(role), "assistant");
    json_t *text = NULL;
    if (json_is_string(content)) return true;
    if (json_is_array(content)) {
        if (!join_parts(error, model, content, &text)) return false;
    } else if (!content || (json_is_null(content) && may_be_null)) {
        text = json_string("");
    } else if (json_is_object(content)) {
        return oct_api_fail(error, NULL, "The content of message %zu is an object; a string or a list of parts is expected", index);
    } else {
        return invalid_message(error, index, "content", "string_type", "Input should be a valid string", content);
    }
    json_object_set_new(message, "content", text);
    return true;
}

bool oct_normalize_messages(json_t *messages, const char *model, struct oct_api_error *error) {
    size_t count = json_array_size(messages);
    if (count == 0) return oct_api_fail(error, NULL, "Cannot apply chat template to an empty conversation. Provide at least one message.");
    for (size_t i = 0; i < count; i++)
        if (!normalize(error, model, i, json_array_get(messages, i))) return false;
    return true;
}

size_t oct_messages_length(const json_t *messages) {
    size_t total = 0;
    for (size_t i = 0; i < json_array_size(messages); i++)
        total += json_string_length(json_object_get(json_array_get(messages, i), "content"));
    return total;
}
