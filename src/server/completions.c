// completions.c: POST /v1/completions. The prompt is a text, a list of texts, a list of token ids, or a list of such lists.

#include "base/memory.h"
#include "server/generation.h"
#include "server/openai_response.h"
#include "server/prompt_logprobs.h"
#include "server/sse.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PROMPTS = 1024 };
enum { TEXT_OFFSET, TOKEN_LOGPROBS, TOKENS, TOP_LOGPROBS }; // lists of choice->logprobs

// ---- The prompt.

static bool check(struct oct_generation *generation) {
    const json_t *prompt = json_object_get(generation->request.body, "prompt"),
                 *embeds = json_object_get(generation->request.body, "prompt_embeds");
    bool missing = !prompt || json_is_null(prompt) || (json_is_string(prompt) && json_string_length(prompt) == 0);
    if (missing && (!embeds || json_is_null(embeds)))
        return oct_api_fail(&generation->error, "prompt",
                            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)");
    if (json_is_array(prompt) && json_array_size(prompt) > MAX_PROMPTS && !json_is_number(json_array_get(prompt, 0)))
        return oct_api_fail(&generation->error, "prompt",
                            "prompt list length %zu exceeds the maximum allowed count of %d. (parameter=prompt)", json_array_size(prompt),
                            MAX_PROMPTS);
    return true;
}

static bool take_ids(struct oct_generation *generation, size_t index, const json_t *array) {
    struct oct_prompt *prompt = &generation->prompts[index];
    size_t bad;
    if (!oct_openai_token_ids(array, &prompt->ids, &prompt->num_ids, &bad)) {
        const json_t *item = json_array_get(array, bad);
        if (json_is_integer(item))
            return oct_api_fail(&generation->error, NULL, "Token id %" JSON_INTEGER_FORMAT " is out of vocabulary",
                                json_integer_value(item));
        char param[64];
        snprintf(param, sizeof param, "body.prompt.%zu", bad);
        return oct_openai_invalid(&generation->error, param, json_is_real(item) ? "int_from_float" : "int_type",
                                  "Input should be a valid integer", item);
    }
    if (!oct_prompt_finish(generation, index)) return false;
    if (!generation->request.echo) return true;
    char *text;
    size_t length;
    oct_error err;
    if (oct_detokenize(generation->serving->engine, prompt->ids, prompt->num_ids, false, &text, &length, &err) != OCT_OK)
        return oct_api_fail_engine(&generation->error, &err);
    oct_buffer_append(&prompt->echo, text, length);
    oct_free(text);
    return true;
}

static bool take_prompt(struct oct_generation *generation, size_t index, const json_t *item) {
    if (json_is_string(item)) return oct_prompt_from_text(generation, index, json_string_value(item), json_string_length(item));
    return take_ids(generation, index, item);
}

// A list holds texts or lists of ids, of one kind.
static bool check_list(struct oct_generation *generation, const json_t *prompt) {
    const json_type kind = json_typeof(json_array_get(prompt, 0));
    for (size_t i = 0; i < json_array_size(prompt); i++) {
        const json_t *item = json_array_get(prompt, i);
        if (json_typeof(item) == kind && (kind == JSON_STRING || kind == JSON_ARRAY)) continue;
        size_t first = 0; // the first that is no token id: pydantic tries a list of integers first
        while (json_is_integer(json_array_get(prompt, first))) first++;
        char param[64];
        snprintf(param, sizeof param, "body.prompt.%zu", first);
        return oct_openai_invalid(&generation->error, param, "list_type", "Input should be a string, a token id or a list of token ids",
                                  item);
    }
    return true;
}

static bool tokenize(struct oct_generation *generation) {
    const json_t *prompt = json_object_get(generation->request.body, "prompt");
    if (!json_is_string(prompt) && !json_is_array(prompt))
        return oct_openai_invalid(&generation->error, "body.prompt", "list_type", "Input should be a valid string or list", prompt);
    if (json_is_array(prompt) && json_array_size(prompt) == 0)
        return oct_api_fail(&generation->error, NULL, "You must pass at least one prompt");
    bool single = json_is_string(prompt) || json_is_number(json_array_get(prompt, 0));
    generation->num_prompts = single ? 1 : json_array_size(prompt);
    generation->prompts = oct_alloc(generation->num_prompts, sizeof *generation->prompts, "prompts");
    if (single) return take_prompt(generation, 0, prompt);
    if (!check_list(generation, prompt)) return false;
    for (size_t i = 0; i < generation->num_prompts; i++)
        if (!take_prompt(generation, i, json_array_get(prompt, i))) return false;
    return true;
}

// ---- The answer.

static void add_logprob(struct oct_choice *choice, const oct_token_logprob *row, size_t count) {
    struct oct_buffer text = {0}, other = {0};
    struct oct_json_writer *lists = choice->logprobs, *top = &lists[TOP_LOGPROBS];
    // The alternatives first: sampling the token changes what an unfinished character goes on with.
    struct oct_json_writer best = {0};
    oct_token_name(choice, row[0].id, false, &text);
    for (size_t i = 1; i < count; i++) {
        oct_token_name(choice, row[i].id, false, &other);
        bool same_key = other.length == text.length && !memcmp(other.data, text.data, text.length);
        if (row[i].id == row[0].id || same_key) continue; // the sampled token's number must be the one that survives
        oct_json_key(&best, other.data);
        oct_json_real(&best, oct_printed_logprob(row[i].logprob));
    }
    oct_token_name(choice, row[0].id, true, &text);
    oct_json_integer(&lists[TEXT_OFFSET], (int64_t)choice->printed_characters);
    oct_json_real(&lists[TOKEN_LOGPROBS], oct_printed_logprob(row[0].logprob));
    oct_json_string(&lists[TOKENS], text.data, text.length);
    oct_json_open(top, '{');
    oct_json_key(top, text.data);
    oct_json_real(top, oct_printed_logprob(row[0].logprob));
    if (best.out.length > 0) oct_json_raw(top, best.out.data, best.out.length);
    oct_json_close(top, '}');
    for (size_t i = 0; i < text.length; i++) choice->printed_characters += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    oct_buffer_free(&best.out);
    oct_buffer_free(&text);
    oct_buffer_free(&other);
}

static void add_echoed_token(struct oct_choice *choice, int32_t id) {
    struct oct_buffer text = {0};
    struct oct_json_writer *lists = choice->logprobs;
    if (choice->generation->request.logprobs == OCT_ABSENT) return;
    oct_token_name(choice, id, true, &text);
    oct_json_integer(&lists[TEXT_OFFSET], 0);
    oct_json_null(&lists[TOKEN_LOGPROBS]);
    oct_json_string(&lists[TOKENS], text.data, text.length);
    oct_json_null(&lists[TOP_LOGPROBS]);
    for (size_t i = 0; i < text.length; i++) choice->printed_characters += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    oct_buffer_free(&text);
}

static void write_logprobs(const struct oct_choice *choice, struct oct_json_writer *writer) {
    static const char *const names[] = {"text_offset", "token_logprobs", "tokens", "top_logprobs"};
    oct_json_key(writer, "logprobs");
    if (choice->generation->request.logprobs == OCT_ABSENT) return oct_json_null(writer);
    oct_json_open(writer, '{');
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        oct_json_key(writer, names[k]);
        oct_json_open(writer, '[');
        const struct oct_buffer *list = &choice->logprobs[k].out;
        if (list->length > 0) oct_json_raw(writer, list->data, list->length);
        oct_json_close(writer, ']');
    }
    oct_json_close(writer, '}');
}

// The keys that chunks and whole answers share.
static void open_choice(const struct oct_choice *choice, struct oct_json_writer *writer) {
    oct_json_open(writer, '{');
    oct_json_key(writer, "index");
    oct_json_integer(writer, choice->index);
    oct_json_key(writer, "text");
    oct_json_string(writer, choice->text.data ? choice->text.data : "", choice->text.length);
    write_logprobs(choice, writer);
    oct_json_key(writer, "finish_reason");
    oct_json_text(writer, oct_finish_reason(choice->finish));
    oct_json_key(writer, "stop_reason");
    oct_write_stop_reason(choice, writer);
}

static void write_prompt_ids(const struct oct_choice *choice, bool wanted, struct oct_json_writer *writer) {
    const struct oct_prompt *prompt = &choice->generation->prompts[choice->prompt];
    oct_json_key(writer, "prompt_token_ids");
    if (wanted)
        oct_write_ids(writer, prompt->ids, prompt->num_ids);
    else
        oct_json_null(writer);
}

static void send_chunk(struct oct_choice *choice) {
    const struct oct_generation *generation = choice->generation;
    const struct oct_openai_request *request = &generation->request;
    struct oct_json_writer event = {0};
    oct_write_answer_head(generation, &event, generation->endpoint->chunk_object);
    oct_json_open(&event, '[');
    open_choice(choice, &event);
    write_prompt_ids(choice, !choice->opened && (request->echo || request->return_token_ids), &event);
    oct_json_key(&event, "token_ids");
    oct_write_token_ids(choice, &event);
    oct_json_close(&event, '}');
    oct_json_close(&event, ']');
    oct_write_continuous_usage(choice, &event, OCT_USAGE_CHUNK);
    if (choice->finish != OCT_RUNNING && !request->include_usage) {
        oct_json_key(&event, "system_fingerprint");
        oct_json_text(&event, generation->serving->fingerprint);
    }
    oct_json_close(&event, '}');
    oct_sse_event(generation->connection, &event);
}

static void write_choices(struct oct_generation *generation, struct oct_json_writer *writer) {
    for (size_t i = 0; i < generation->num_choices; i++) {
        const struct oct_choice *choice = &generation->choices[i];
        open_choice(choice, writer);
        oct_json_key(writer, "token_ids");
        oct_write_token_ids(choice, writer);
        oct_json_key(writer, "prompt_logprobs");
        oct_write_prompt_logprobs(choice, writer);
        write_prompt_ids(choice, generation->request.return_token_ids, writer);
        oct_json_key(writer, "routed_experts");
        oct_json_null(writer);
        oct_json_close(writer, '}');
    }
}

static void write_tail(struct oct_generation *generation, struct oct_json_writer *writer) {
    (void)generation;
    oct_write_absent_tail(writer);
}

const struct oct_endpoint oct_completions_endpoint = {
    .set = OCT_COMPLETIONS,
    .id_prefix = "cmpl-",
    .object = "text_completion",
    .chunk_object = "text_completion",
    .check = check,
    .tokenize = tokenize,
    .add_logprob = add_logprob,
    .add_echoed_token = add_echoed_token,
    .send_chunk = send_chunk,
    .write_choices = write_choices,
    .write_tail = write_tail,
};
