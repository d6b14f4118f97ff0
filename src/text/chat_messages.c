// chat_messages.c: the messages of a chat, checked and brought into the form that its template expects, as vLLM does it before a
// template sees them. Nothing given is changed: a message that needs another form is copied.
#include "text/chat.h"

#include <string.h>

// Where a message or a part of it stands, for errors.
struct place {
    size_t message;
    oct_error *err;
};

// --- content ----------------------------------------------------------------------------------------------------------------------

// *text: that of part `index`, which stays the part's.
static oct_status part_text(const struct place *at, const json_t *part, size_t index, const json_t **text) {
    const json_t *type = json_object_get(part, "type");
    if (!json_is_string(type))
        return oct_fail(at->err, OCT_INVALID_ARGUMENT,
                        "messages[%zu].content[%zu]: a part {\"type\": \"text\", \"text\": ...} expected, %s found", at->message, index,
                        json_is_object(part) ? "an object without a type" : oct_json_kind(part));
    const char *name = json_string_value(type);
    if (strcmp(name, "text") && strcmp(name, "refusal"))
        return oct_fail(at->err, OCT_UNSUPPORTED, "messages[%zu].content[%zu]: a part of type \"text\" expected, \"%.80s\" found",
                        at->message, index, name);
    *text = json_object_get(part, name);
    if (json_is_string(*text)) return OCT_OK;
    return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu].content[%zu]: a string \"%s\" expected, %s found", at->message, index,
                    name, oct_json_kind(*text));
}

static oct_status join_parts(const struct place *at, const json_t *parts, json_t **out) {
    struct oct_buffer joined = {0};
    oct_status status = OCT_OK;
    const json_t *text;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        status = part_text(at, json_array_get(parts, i), i, &text);
        if (status != OCT_OK) break;
        if (i) oct_buffer_puts(&joined, "\n");
        oct_buffer_append(&joined, json_string_value(text), json_string_length(text));
    }
    if (status == OCT_OK) *out = json_stringn(joined.data ? joined.data : "", joined.length);
    oct_buffer_free(&joined);
    return status;
}

static oct_status list_parts(const struct place *at, const json_t *parts, json_t **out) {
    json_t *list = json_array();
    oct_status status = OCT_OK;
    const json_t *text;
    for (size_t i = 0; i < json_array_size(parts) && status == OCT_OK; i++) {
        status = part_text(at, json_array_get(parts, i), i, &text);
        if (status == OCT_OK) json_array_append_new(list, json_pack("{s:s, s:O}", "type", "text", "text", text));
    }
    if (status == OCT_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}

// *out: a new reference to the content in the form that `format` names.
static oct_status convert_content(const struct place *at, json_t *content, enum oct_content_format format, json_t **out) {
    const bool as_list = format == OCT_CONTENT_OPENAI;
    if (json_is_array(content)) return as_list ? list_parts(at, content, out) : join_parts(at, content, out);
    if (!content || json_is_null(content))
        *out = as_list ? json_array() : json_string("");
    else
        *out = as_list ? json_pack("[{s:s, s:O}]", "type", "text", "text", content) : json_incref(content);
    return OCT_OK;
}

// --- tool calls -------------------------------------------------------------------------------------------------------------------

// {"function": {"arguments": text}} with the text's value; nothing at all is an empty object, and what is not JSON stays text.
static json_t *with_parsed_arguments(const json_t *call) {
    const json_t *function = json_object_get(call, "function"), *arguments = json_object_get(function, "arguments");
    json_t *value = NULL;
    if (!json_is_object(function)) return json_incref((json_t *)call);
    if (!arguments || json_is_null(arguments) || (json_is_string(arguments) && !json_string_length(arguments)))
        value = json_object();
    else if (json_is_string(arguments))
        oct_json_parse("arguments", json_string_value(arguments), json_string_length(arguments), &value, NULL);
    if (!value) return json_incref((json_t *)call);
    json_t *copy = json_copy((json_t *)call), *changed = json_copy((json_t *)function);
    json_object_set_new(changed, "arguments", value);
    json_object_set_new(copy, "function", changed);
    return copy;
}

static oct_status convert_tool_calls(const struct place *at, json_t *message) {
    const json_t *calls = json_object_get(message, "tool_calls");
    if (!calls) return OCT_OK;
    if (!json_is_null(calls) && !json_is_array(calls))
        return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu].tool_calls: an array expected, %s found", at->message,
                        oct_json_kind(calls));
    if (json_array_size(calls) == 0) { // to a template, an empty list is not the same as none
        json_object_del(message, "tool_calls");
        return OCT_OK;
    }
    json_t *converted = json_array();
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        if (!json_is_object(call)) {
            json_decref(converted);
            return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu].tool_calls[%zu]: an object expected, %s found", at->message, i,
                            oct_json_kind(call));
        }
        json_array_append_new(converted, with_parsed_arguments(call));
    }
    json_object_set_new(message, "tool_calls", converted);
    return OCT_OK;
}

// --- messages ---------------------------------------------------------------------------------------------------------------------

static oct_status check(const struct place *at, const json_t *message) {
    const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
    if (!json_is_object(message))
        return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu]: an object {\"role\", \"content\"} expected, %s found", at->message,
                        oct_json_kind(message));
    if (!json_is_string(role))
        return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu]: a string \"role\" expected, %s found", at->message,
                        oct_json_kind(role));
    bool may_be_null = strcmp(json_string_value(role), "assistant") == 0; // whose tool calls may be all it says
    if (content && !json_is_string(content) && !json_is_array(content) && !(json_is_null(content) && may_be_null))
        return oct_fail(at->err, OCT_INVALID_ARGUMENT, "messages[%zu].content: a string or a list of parts expected, %s found", at->message,
                        oct_json_kind(content));
    return OCT_OK;
}

static oct_status normalize(const struct oct_chat_template *chat, const struct place *at, json_t *message, enum oct_content_format format) {
    const char *role = json_string_value(json_object_get(message, "role"));
    json_t *content;
    if (strcmp(role, "assistant") == 0) OCT_TRY(convert_tool_calls(at, message));
    if (strcmp(role, "developer") == 0 && !oct_chat_knows_developer(chat)) json_object_set_new(message, "role", json_string("system"));
    OCT_TRY(convert_content(at, json_object_get(message, "content"), format, &content));
    json_object_set_new(message, "content", content);
    return OCT_OK;
}

oct_status oct_chat_normalize(const struct oct_chat_template *chat, const json_t *messages, enum oct_content_format format, json_t **out,
                              oct_error *err) {
    *out = NULL;
    if (!json_is_array(messages))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "messages: an array expected, %s found", oct_json_kind(messages));
    if (json_array_size(messages) == 0) return oct_fail(err, OCT_INVALID_ARGUMENT, "messages: at least one message expected, none found");
    if (format == OCT_CONTENT_AUTO) format = oct_chat_content_format(chat);
    json_t *normalized = json_array();
    oct_status status = OCT_OK;
    for (size_t i = 0; status == OCT_OK && i < json_array_size(messages); i++) {
        const struct place at = {i, err};
        const json_t *given = json_array_get(messages, i);
        status = check(&at, given);
        if (status != OCT_OK) break;
        json_t *message = json_copy((json_t *)given);
        json_array_append_new(normalized, message);
        status = normalize(chat, &at, message, format);
    }
    if (status == OCT_OK)
        *out = normalized;
    else
        json_decref(normalized);
    return status;
}
