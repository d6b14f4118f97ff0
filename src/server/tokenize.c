// tokenize.c: POST /tokenize (a text or a chat to token ids) and POST /detokenize (back).

#include "server/chat_call.h"
#include "server/chat_messages.h"
#include "server/generation.h"
#include "server/openai_response.h"

#include <stdio.h>
#include <stdlib.h>

static bool tokenize_messages(struct oct_generation *generation, int32_t **ids, size_t *count) {
    struct oct_chat_call call = {0};
    oct_error err;
    bool good = oct_chat_call_make(generation, &call);
    if (good && oct_chat_tokens(generation->serving->engine, call.messages, &call.options, ids, count, &err) != OCT_OK)
        good = oct_api_fail_engine(&generation->error, &err);
    oct_chat_call_free(&call);
    return good;
}

static bool answer_tokenize(struct oct_generation *generation, struct oct_json_writer *writer) {
    struct oct_openai_request *request = &generation->request;
    struct oct_api_error *error = &generation->error;
    const json_t *prompt = json_object_get(request->body, "prompt"), *messages = json_object_get(request->body, "messages");
    if (!messages && !prompt) return oct_openai_invalid(error, "body.prompt", "missing", "Field required", request->body);
    if (messages && !oct_check_messages(request->body, error)) return false;
    if (!messages && !json_is_string(prompt))
        return oct_openai_invalid(error, "body.prompt", "string_type", "Input should be a valid string", prompt);
    if (!oct_openai_read(request, OCT_TOKENIZE, error) || !oct_check_model(generation)) return false;

    int32_t *ids;
    size_t count;
    oct_error err;
    if (messages) {
        if (!tokenize_messages(generation, &ids, &count)) return false;
    } else if (oct_tokenize(generation->serving->engine, json_string_value(prompt), json_string_length(prompt), request->add_special_tokens,
                            &ids, &count, &err) != OCT_OK) {
        return oct_api_fail_engine(error, &err);
    }
    oct_json_open(writer, '{');
    oct_json_key(writer, "count");
    oct_json_integer(writer, (int64_t)count);
    oct_json_key(writer, "max_model_len");
    oct_json_integer(writer, generation->serving->engine_info.max_model_len);
    oct_json_key(writer, "tokens");
    oct_write_ids(writer, ids, count);
    oct_json_key(writer, "token_strs");
    oct_json_null(writer);
    oct_json_close(writer, '}');
    oct_free(ids);
    return true;
}

// An id that is not at least an integer of the right sign is worded as pydantic does; one past the vocabulary is the engine's to refuse.
static bool refuse_id(struct oct_generation *generation, const json_t *item, size_t index) {
    char param[64];
    snprintf(param, sizeof param, "body.tokens.%zu", index);
    if (json_is_integer(item) && json_integer_value(item) < 0)
        return oct_openai_invalid(&generation->error, param, "greater_than_equal", "Input should be greater than or equal to 0", item);
    if (json_is_integer(item))
        return oct_api_fail(&generation->error, NULL, "Token id %" JSON_INTEGER_FORMAT " is out of vocabulary", json_integer_value(item));
    return oct_openai_invalid(&generation->error, param, "int_type", "Input should be a valid integer", item);
}

static bool answer_detokenize(struct oct_generation *generation, struct oct_json_writer *writer) {
    struct oct_openai_request *request = &generation->request;
    struct oct_api_error *error = &generation->error;
    const json_t *tokens = json_object_get(request->body, "tokens");
    if (!tokens) return oct_openai_invalid(error, "body.tokens", "missing", "Field required", request->body);
    if (!json_is_array(tokens)) return oct_openai_invalid(error, "body.tokens", "list_type", "Input should be a valid list", tokens);
    if (!oct_openai_read(request, OCT_TOKENIZE, error)) return false;
    int32_t *ids;
    size_t count, bad;
    bool fits = oct_openai_token_ids(tokens, &ids, &count, &bad);
    for (size_t i = 0; fits && i < count; i++)
        if (ids[i] < 0 || ids[i] >= generation->serving->engine_info.vocab_size) fits = false, bad = i;
    if (!fits) {
        free(ids);
        return refuse_id(generation, json_array_get(tokens, bad), bad);
    }
    char *text;
    size_t length;
    oct_error err;
    if (!oct_check_model(generation) || (oct_detokenize(generation->serving->engine, ids, count, false, &text, &length, &err) != OCT_OK &&
                                         !oct_api_fail_engine(error, &err))) {
        free(ids);
        return false;
    }
    free(ids);
    oct_json_open(writer, '{');
    oct_json_key(writer, "prompt");
    oct_json_string(writer, text, length);
    oct_json_close(writer, '}');
    oct_free(text);
    return true;
}

const struct oct_endpoint oct_tokenize_endpoint = {.set = OCT_TOKENIZE, .answer = answer_tokenize};
const struct oct_endpoint oct_detokenize_endpoint = {.set = OCT_TOKENIZE, .answer = answer_detokenize};
