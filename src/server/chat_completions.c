// chat_completions.c: POST /v1/chat/completions. The messages are brought into the form that templates expect, and become one prompt.

#include "base/memory.h"
#include "server/generation.h"
#include "server/openai_response.h"
#include "server/sse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 8192 };
enum { CONTENT }; // the one list of choice->logprobs

// ---- The messages.

static bool check(struct oct_generation *generation) {
    const json_t *messages = json_object_get(generation->request.body, "messages");
    struct oct_api_error *error = &generation->error;
    if (!messages) return oct_openai_invalid(error, "body.messages", "missing", "Field required", generation->request.body);
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

static bool invalid_message(struct oct_generation *generation, size_t index, const char *key, const char *type, const char *text,
                            const json_t *input) {
    char param[96];
    snprintf(param, sizeof param, "body.messages.%zu%s%s", index, key ? "." : "", key ? key : "");
    return oct_openai_invalid(&generation->error, param, type, text, input);
}

// Text parts joined by newlines, as vLLM joins them. *out is a new string.
static bool join_parts(struct oct_generation *generation, const json_t *parts, json_t **out) {
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
            fits = oct_api_fail(&generation->error, NULL, "%.200s is not a multimodal model", generation->serving->model);
        } else {
            fits = oct_api_fail(&generation->error, NULL,
                                "Content part %zu of a message: an object {\"type\": \"text\", \"text\": ...} expected", i);
        }
    }
    *out = fits ? json_stringn_nocheck(text.data, text.length) : NULL;
    oct_buffer_free(&text);
    return fits;
}

// vLLM hands templates the arguments of past calls as objects, not as the JSON text in which they come.
static bool parse_arguments(struct oct_generation *generation, size_t index, json_t *calls) {
    if (!json_is_array(calls)) return invalid_message(generation, index, "tool_calls", "list_type", "Input should be a valid list", calls);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_array_get(calls, i), *function = json_object_get(call, "function");
        if (!json_is_object(call))
            return invalid_message(generation, index, "tool_calls", "dict_type", "Input should be a valid dictionary", call);
        const json_t *arguments = json_object_get(function, "arguments");
        if (!json_is_string(arguments)) continue;
        json_t *parsed = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, NULL);
        if (parsed) json_object_set_new(function, "arguments", parsed);
    }
    return true;
}

// Checks one message and brings its content into the form of a string.
static bool normalize(struct oct_generation *generation, size_t index, json_t *message) {
    if (!json_is_object(message))
        return invalid_message(generation, index, NULL, "dict_type", "Input should be a valid dictionary", message);
    const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
    json_t *calls = json_object_get(message, "tool_calls");
    if (!role) return invalid_message(generation, index, "role", "missing", "Field required", message);
    if (!json_is_string(role)) return invalid_message(generation, index, "role", "string_type", "Input should be a valid string", role);
    if (calls && !json_is_null(calls) && !parse_arguments(generation, index, calls)) return false;
    bool may_be_null = !strcmp(json_string_value(role), "assistant");
    json_t *text = NULL;
    if (json_is_string(content)) return true;
    if (json_is_array(content)) {
        if (!join_parts(generation, content, &text)) return false;
    } else if (!content || (json_is_null(content) && may_be_null)) {
        text = json_string("");
    } else if (json_is_object(content)) {
        return oct_api_fail(&generation->error, NULL, "The content of message %zu is an object; a string or a list of parts is expected",
                            index);
    } else {
        return invalid_message(generation, index, "content", "string_type", "Input should be a valid string", content);
    }
    json_object_set_new(message, "content", text);
    return true;
}

static size_t total_length(const json_t *messages) {
    size_t total = 0;
    for (size_t i = 0; i < json_array_size(messages); i++)
        total += json_string_length(json_object_get(json_array_get(messages, i), "content"));
    return total;
}

// Tokenizing a text that cannot fit would only cost time; rendering it tells the exact length that the message names.
static bool check_length(struct oct_generation *generation, const char *messages_json, size_t content_length) {
    const struct oct_serving *serving = generation->serving;
    if (content_length <= (size_t)serving->engine_info.max_model_len * (size_t)serving->longest_token) return true;
    char *text;
    oct_error err;
    if (oct_chat_prompt(serving->engine, messages_json, generation->request.add_generation_prompt, &text, &err) != OCT_OK)
        return oct_api_fail_engine(&generation->error, &err);
    bool fits = oct_prompt_check_length(generation, text, strlen(text));
    oct_free(text);
    return fits;
}

static bool tokenize(struct oct_generation *generation) {
    json_t *messages = json_object_get(generation->request.body, "messages");
    size_t count = json_array_size(messages);
    if (count == 0)
        return oct_api_fail(&generation->error, NULL, "Cannot apply chat template to an empty conversation. Provide at least one message.");
    for (size_t i = 0; i < count; i++)
        if (!normalize(generation, i, json_array_get(messages, i))) return false;
    if (!generation->request.add_generation_prompt)
        generation->role = oct_strdup(json_string_value(json_object_get(json_array_get(messages, count - 1), "role")));

    generation->num_prompts = 1;
    generation->prompts = oct_alloc(1, sizeof *generation->prompts, "prompts");
    struct oct_prompt *prompt = &generation->prompts[0];
    char *text = json_dumps(messages, JSON_COMPACT);
    OCT_CHECK(text);
    oct_error err;
    int32_t *ids = NULL;
    bool fits = check_length(generation, text, total_length(messages));
    if (fits && oct_chat_tokens(generation->serving->engine, text, generation->request.add_generation_prompt, &ids, &prompt->num_ids,
                                &err) != OCT_OK)
        fits = oct_api_fail_engine(&generation->error, &err);
    free(text);
    if (!fits) return false;
    prompt->ids = oct_alloc(prompt->num_ids ? prompt->num_ids : 1, sizeof *prompt->ids, "a prompt");
    memcpy(prompt->ids, ids, prompt->num_ids * sizeof *ids);
    oct_free(ids);
    return oct_prompt_finish(generation, 0);
}

// ---- The answer.

static void write_token(struct oct_json_writer *writer, const struct oct_buffer *text, float logprob) {
    oct_json_open(writer, '{');
    oct_json_key(writer, "token");
    oct_json_string(writer, text->data, text->length);
    oct_json_key(writer, "logprob");
    oct_json_real(writer, oct_printed_logprob(logprob));
    oct_json_key(writer, "bytes");
    oct_json_open(writer, '[');
    for (size_t i = 0; i < text->length; i++) oct_json_integer(writer, (unsigned char)text->data[i]);
    oct_json_close(writer, ']');
}

// top_logprobs: the sampled token, then the best others, top_logprobs of them in all.
static void add_logprob(struct oct_choice *choice, const oct_token_logprob *row, size_t count) {
    struct oct_json_writer *list = &choice->logprobs[CONTENT], top = {0};
    struct oct_buffer text = {0};
    int64_t wanted = choice->generation->request.top_logprobs, written = 0;
    if (wanted == -1) wanted = (int64_t)count;
    for (size_t i = 0; i < count && written < wanted; i++) {
        if (i > 0 && row[i].id == row[0].id) continue;
        oct_token_text(choice, row[i].id, false, &text);
        write_token(&top, &text, row[i].logprob);
        oct_json_close(&top, '}');
        written++;
    }
    oct_token_text(choice, row[0].id, true, &text);
    write_token(list, &text, row[0].logprob);
    oct_json_key(list, "top_logprobs");
    oct_json_open(list, '[');
    if (top.out.length > 0) oct_json_raw(list, top.out.data, top.out.length);
    oct_json_close(list, ']');
    oct_json_close(list, '}');
    oct_buffer_free(&top.out);
    oct_buffer_free(&text);
}

static void write_logprobs(const struct oct_choice *choice, struct oct_json_writer *writer) {
    oct_json_key(writer, "logprobs");
    if (!choice->generation->request.wants_logprobs) return oct_json_null(writer);
    oct_json_open(writer, '{');
    oct_json_key(writer, "content");
    oct_json_open(writer, '[');
    const struct oct_buffer *list = &choice->logprobs[CONTENT].out;
    if (list->length > 0) oct_json_raw(writer, list->data, list->length);
    oct_json_close(writer, ']');
    oct_json_close(writer, '}');
}

static const char *role_of(const struct oct_generation *generation) {
    return generation->role ? generation->role : "assistant";
}

static void write_prompt_ids(const struct oct_generation *generation, struct oct_json_writer *writer) {
    oct_json_key(writer, "prompt_token_ids");
    if (generation->request.return_token_ids)
        oct_write_ids(writer, generation->prompts[0].ids, generation->prompts[0].num_ids);
    else
        oct_json_null(writer);
    oct_json_key(writer, "prompt_text");
    oct_json_null(writer);
}

static void open_chunk(const struct oct_choice *choice, struct oct_json_writer *event) {
    oct_write_answer_head(choice->generation, event, choice->generation->endpoint->chunk_object);
    oct_json_open(event, '[');
    oct_json_open(event, '{');
    oct_json_key(event, "index");
    oct_json_integer(event, choice->index);
    oct_json_key(event, "delta");
    oct_json_open(event, '{');
}

// The first chunk of a choice tells the role. It goes out with the first token, not before.
static void send_role(struct oct_choice *choice) {
    const struct oct_generation *generation = choice->generation;
    struct oct_json_writer event = {0};
    open_chunk(choice, &event);
    oct_json_key(&event, "role");
    oct_json_text(&event, role_of(generation));
    oct_json_key(&event, "content");
    oct_json_text(&event, "");
    oct_json_close(&event, '}');
    oct_json_key(&event, "logprobs");
    oct_json_null(&event);
    oct_json_key(&event, "finish_reason");
    oct_json_null(&event);
    oct_json_close(&event, '}');
    oct_json_close(&event, ']');
    if (generation->request.continuous_usage) oct_write_usage(&event, OCT_USAGE_CHAT_CHUNK, (int)generation->prompts[0].num_ids, 0, -1);
    write_prompt_ids(generation, &event);
    oct_json_close(&event, '}');
    oct_sse_event(generation->connection, &event);
}

static void send_chunk(struct oct_choice *choice) {
    const struct oct_generation *generation = choice->generation;
    bool finished = choice->finish != OCT_RUNNING;
    if (!choice->opened) send_role(choice);
    struct oct_json_writer event = {0};
    open_chunk(choice, &event);
    oct_json_key(&event, "content");
    oct_json_string(&event, choice->text.data ? choice->text.data : "", choice->text.length);
    oct_json_close(&event, '}');
    write_logprobs(choice, &event);
    oct_json_key(&event, "finish_reason");
    oct_json_text(&event, oct_finish_reason(choice->finish));
    if (finished) {
        oct_json_key(&event, "stop_reason");
        oct_write_stop_reason(choice, &event);
    }
    oct_json_key(&event, "token_ids");
    oct_write_token_ids(choice, &event);
    oct_json_close(&event, '}');
    oct_json_close(&event, ']');
    oct_write_continuous_usage(choice, &event, OCT_USAGE_CHAT_CHUNK);
    if (finished && !generation->request.include_usage) {
        oct_json_key(&event, "system_fingerprint");
        oct_json_text(&event, generation->serving->fingerprint);
    }
    oct_json_close(&event, '}');
    oct_sse_event(generation->connection, &event);
}

static void write_message(const struct oct_choice *choice, struct oct_json_writer *writer) {
    static const char *const absent[] = {"refusal", "annotations", "audio", "function_call", "reasoning"};
    oct_json_key(writer, "message");
    oct_json_open(writer, '{');
    oct_json_key(writer, "role");
    oct_json_text(writer, role_of(choice->generation));
    oct_json_key(writer, "content");
    oct_json_string(writer, choice->text.data ? choice->text.data : "", choice->text.length);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        oct_json_key(writer, absent[i]);
        oct_json_null(writer);
    }
    oct_json_close(writer, '}');
}

static void write_choices(struct oct_generation *generation, struct oct_json_writer *writer) {
    for (size_t i = 0; i < generation->num_choices; i++) {
        const struct oct_choice *choice = &generation->choices[i];
        oct_json_open(writer, '{');
        oct_json_key(writer, "index");
        oct_json_integer(writer, choice->index);
        write_message(choice, writer);
        write_logprobs(choice, writer);
        oct_json_key(writer, "finish_reason");
        oct_json_text(writer, oct_finish_reason(choice->finish));
        oct_json_key(writer, "stop_reason");
        oct_write_stop_reason(choice, writer);
        oct_json_key(writer, "token_ids");
        oct_write_token_ids(choice, writer);
        oct_json_key(writer, "routed_experts");
        oct_json_null(writer);
        oct_json_close(writer, '}');
    }
}

static void write_tail(struct oct_generation *generation, struct oct_json_writer *writer) {
    static const char *const absent[] = {"kv_transfer_params", "ec_transfer_params", "metrics"};
    oct_json_key(writer, "prompt_logprobs");
    oct_json_null(writer);
    write_prompt_ids(generation, writer);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        oct_json_key(writer, absent[i]);
        oct_json_null(writer);
    }
}

const struct oct_endpoint oct_chat_endpoint = {
    .set = OCT_CHAT,
    .id_prefix = "chatcmpl-",
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .check = check,
    .tokenize = tokenize,
    .add_logprob = add_logprob,
    .send_chunk = send_chunk,
    .write_choices = write_choices,
    .write_tail = write_tail,
};
