// chat_completions.c: POST /v1/chat/completions. The messages become one prompt.

#include "base/memory.h"
#include "server/chat_call.h"
#include "server/chat_messages.h"
#include "server/generation.h"
#include "server/openai_response.h"
#include "server/prompt_logprobs.h"
#include "server/sse.h"

#include <stdlib.h>
#include <string.h>

enum { CONTENT }; // the one list of choice->logprobs

// ---- The messages.

static bool check(struct oct_generation *generation) {
    return oct_check_messages(generation->request.body, &generation->error);
}

// Tokenizing a text that cannot fit would only cost time; rendering it tells the exact length that the message names.
static bool check_length(struct oct_generation *generation, const struct oct_chat_call *call) {
    const struct oct_serving *serving = generation->serving;
    const char *const parts[] = {call->messages, call->tools, call->documents, call->template_kwargs};
    size_t given = 0, length;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) given += parts[i] ? strlen(parts[i]) : 0;
    if (given <= (size_t)serving->engine_info.max_model_len * (size_t)serving->longest_token) return true;
    char *text;
    oct_error err;
    if (oct_chat_prompt(serving->engine, call->messages, &call->options, &text, &length, &err) != OCT_OK)
        return oct_api_fail_engine(&generation->error, &err);
    bool fits = oct_prompt_check_length(generation, text, length);
    oct_free(text);
    return fits;
}

static bool tokenize_call(struct oct_generation *generation, const struct oct_chat_call *call, struct oct_prompt *prompt) {
    oct_error err;
    int32_t *ids;
    if (!check_length(generation, call)) return false;
    if (oct_chat_tokens(generation->serving->engine, call->messages, &call->options, &ids, &prompt->num_ids, &err) != OCT_OK)
        return oct_api_fail_engine(&generation->error, &err);
    prompt->ids = oct_alloc(prompt->num_ids ? prompt->num_ids : 1, sizeof *prompt->ids, "a prompt");
    if (prompt->num_ids) memcpy(prompt->ids, ids, prompt->num_ids * sizeof *ids); // no tokens: ids may be NULL
    oct_free(ids);
    return true;
}

static bool tokenize(struct oct_generation *generation) {
    const json_t *messages = json_object_get(generation->request.body, "messages");
    struct oct_chat_call call = {0};
    bool fits = oct_chat_call_make(generation, &call);
    if (fits) {
        const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
        if (!generation->request.add_generation_prompt) generation->role = oct_strdup(json_string_value(json_object_get(last, "role")));
        generation->num_prompts = 1;
        generation->prompts = oct_alloc(1, sizeof *generation->prompts, "prompts");
        fits = tokenize_call(generation, &call, &generation->prompts[0]);
    }
    oct_chat_call_free(&call);
    return fits && oct_prompt_finish(generation, 0);
}

// ---- The answer.

// Opens the object of one token; a piece of a character has no bytes. The bytes are the text's even where the token goes by its id.
static void write_token(struct oct_choice *choice, struct oct_json_writer *writer, const oct_token_logprob *token, bool sampled) {
    struct oct_buffer name = {0}, text = {0};
    oct_token_name(choice, token->id, false, &name);
    oct_token_text(choice, token->id, sampled, &text);
    oct_json_open(writer, '{');
    oct_json_key(writer, "token");
    oct_json_string(writer, name.data, name.length);
    oct_json_key(writer, "logprob");
    oct_json_real(writer, oct_printed_logprob(token->logprob));
    oct_json_key(writer, "bytes");
    oct_json_open(writer, '[');
    for (size_t i = 0; i < text.length; i++) oct_json_integer(writer, (unsigned char)text.data[i]);
    oct_json_close(writer, ']');
    oct_buffer_free(&name);
    oct_buffer_free(&text);
}

// top_logprobs: the sampled token, then the best others, top_logprobs of them in all.
static void add_logprob(struct oct_choice *choice, const oct_token_logprob *row, size_t count) {
    struct oct_json_writer *list = &choice->logprobs[CONTENT], top = {0};
    int64_t wanted = choice->generation->request.top_logprobs, written = 0;
    if (wanted == -1) wanted = (int64_t)count;
    for (size_t i = 0; i < count && written < wanted; i++) {
        if (i > 0 && row[i].id == row[0].id) continue;
        write_token(choice, &top, &row[i], false);
        oct_json_close(&top, '}');
        written++;
    }
    write_token(choice, list, &row[0], true);
    oct_json_key(list, "top_logprobs");
    oct_json_open(list, '[');
    if (top.out.length > 0) oct_json_raw(list, top.out.data, top.out.length);
    oct_json_close(list, ']');
    oct_json_close(list, '}');
    oct_buffer_free(&top.out);
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
    oct_json_key(writer, "prompt_logprobs");
    oct_write_prompt_logprobs(&generation->choices[0], writer);
    write_prompt_ids(generation, writer);
    oct_write_absent_tail(writer);
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
