// generation.c: one request on its way: tokenize on another thread, submit, deltas to chunks or to one answer, cancel.
#include "server/generation.h"

#include "base/log.h"
#include "base/memory.h"
#include "server/models.h"
#include "server/openai_response.h"
#include "server/prompt_logprobs.h"
#include "server/sse.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_CHOICES = 1024 }; // of one HTTP request

// ---- On a text thread: from the body to prompts and parameters.

static size_t count_characters(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

bool oct_prompt_check_length(struct oct_generation *generation, const char *text, size_t length) {
    const struct oct_serving *serving = generation->serving;
    size_t limit = (size_t)serving->engine_info.max_model_len * (size_t)serving->longest_token;
    size_t characters = count_characters(text, length);
    if (characters <= limit || generation->request.truncate_prompt_tokens != OCT_ABSENT) return true;
    return oct_api_fail(
        &generation->error, "input_text",
        "This model's maximum context length is %d tokens. However, your prompt contains %zu characters (more than %zu characters, "
        "which is the upper bound for %d input tokens). Please reduce the length of the input prompt. (parameter=input_text, "
        "value=%zu)",
        serving->engine_info.max_model_len, characters, limit, serving->engine_info.max_model_len, characters);
}

bool oct_prompt_from_text(struct oct_generation *generation, size_t index, const char *text, size_t length) {
    struct oct_prompt *prompt = &generation->prompts[index];
    oct_error err;
    if (!oct_prompt_check_length(generation, text, length)) return false;
    int32_t *ids;
    if (oct_tokenize(generation->serving->engine, text, length, generation->request.add_special_tokens, &ids, &prompt->num_ids, &err) !=
        OCT_OK)
        return oct_api_fail_engine(&generation->error, &err);
    prompt->ids = oct_alloc(prompt->num_ids ? prompt->num_ids : 1, sizeof *prompt->ids, "a prompt");
    if (prompt->num_ids) memcpy(prompt->ids, ids, prompt->num_ids * sizeof *ids); // no tokens: ids may be NULL
    oct_free(ids);
    if (generation->request.echo) oct_buffer_append(&prompt->echo, text, length);
    return oct_prompt_finish(generation, index);
}

static bool truncate_prompt(struct oct_generation *generation, struct oct_prompt *prompt) {
    const struct oct_openai_request *request = &generation->request;
    int max_model_len = generation->serving->engine_info.max_model_len;
    if (request->truncate_prompt_tokens == OCT_ABSENT) return true;
    if (request->truncate_prompt_tokens > max_model_len)
        return oct_api_fail(&generation->error, "truncate_prompt_tokens",
                            "truncate_prompt_tokens=%" PRId64
                            " cannot be greater than max_model_len = %d. Please request a smaller truncation size. "
                            "(parameter=truncate_prompt_tokens, value=%" PRId64 ")",
                            request->truncate_prompt_tokens, max_model_len, request->truncate_prompt_tokens);
    size_t keep = request->truncate_prompt_tokens == -1 ? (size_t)max_model_len - 1 : (size_t)request->truncate_prompt_tokens;
    if (prompt->num_ids <= keep) return true;
    bool keeps_start = request->truncation_side && !strcmp(request->truncation_side, "right");
    if (!keeps_start) memmove(prompt->ids, prompt->ids + (prompt->num_ids - keep), keep * sizeof *prompt->ids);
    prompt->num_ids = keep;
    return true;
}

bool oct_prompt_finish(struct oct_generation *generation, size_t index) {
    struct oct_prompt *prompt = &generation->prompts[index];
    const oct_engine_info *info = &generation->serving->engine_info;
    for (size_t i = 0; i < prompt->num_ids; i++)
        if (prompt->ids[i] < 0 || prompt->ids[i] >= info->vocab_size)
            return oct_api_fail(&generation->error, NULL, "Token id %d is out of vocabulary", prompt->ids[i]);
    if (!truncate_prompt(generation, prompt)) return false;
    if (prompt->num_ids == 0) return oct_api_fail(&generation->error, NULL, "The decoder prompt cannot be empty");
    if (prompt->num_ids > (size_t)info->max_model_len)
        return oct_api_fail(
            &generation->error, "input_tokens",
            "This model's maximum context length is %d tokens. However, your prompt contains at least %d input tokens, which exceeds "
            "this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, "
            "value=%d)",
            info->max_model_len, info->max_model_len + 1, info->max_model_len + 1);
    struct oct_openai_limits limits = {
        .max_logprobs = generation->serving->options.max_logprobs, .vocab_size = info->vocab_size, .max_model_len = info->max_model_len};
    return oct_openai_sampling(&generation->request, generation->endpoint->set, &limits, prompt->num_ids, &prompt->params,
                               &generation->error);
}

bool oct_check_model(struct oct_generation *generation) {
    const struct oct_serving *serving = generation->serving;
    if (oct_serves_model(serving, generation->request.model)) return true;
    struct oct_buffer names = {0};
    size_t count = serving->options.num_served_model_names;
    for (size_t i = 0; i < (count ? count : 1); i++) {
        const char *name = count ? serving->options.served_model_names[i] : serving->model;
        oct_buffer_printf(&names, "%s%s", i > 0 ? ", " : "", *name == '/' ? "<path>" : name); // no paths of this machine in answers
    }
    oct_api_fail_status(&generation->error, 404, "model", "The model `%.500s` does not exist. Valid aliases: %.500s.",
                        generation->request.model, names.data);
    oct_buffer_free(&names);
    return false;
}

static bool read_generation(struct oct_generation *generation) {
    struct oct_openai_request *request = &generation->request;
    const struct oct_endpoint *endpoint = generation->endpoint;
    if (!oct_openai_parse(request, generation->body.data ? generation->body.data : "", generation->body.length, &generation->error))
        return false;
    oct_buffer_free(&generation->body);
    if (endpoint->answer) {
        struct oct_json_writer writer = {0};
        bool answered = endpoint->answer(generation, &writer);
        generation->body = writer.out;
        return answered;
    }
    if (!endpoint->check(generation) || !oct_openai_read(request, endpoint->set, &generation->error) || !oct_check_model(generation))
        return false;
    const struct oct_server_options *options = &generation->serving->options;
    if (!request->has_return_tokens_as_token_ids) request->return_tokens_as_token_ids = options->return_tokens_as_token_ids;
    if (request->stream) request->include_usage |= options->enable_force_include_usage;
    generation->score_only = request->echo && request->max_tokens == 0;
    if (generation->id.length == 0) { // no X-Request-Id: the body's id, or a new one
        char id[OCT_ID_SIZE];
        oct_new_id("", id);
        oct_buffer_printf(&generation->id, "%s%s", endpoint->id_prefix, request->request_id ? request->request_id : id);
    }
    if (!endpoint->tokenize(generation)) return false;
    if ((uint64_t)request->n * generation->num_prompts > MAX_CHOICES)
        return oct_api_fail(&generation->error, "n",
                            "%zu prompts times n=%" PRId64 " is more than the %d choices that one request may ask for. (parameter=n)",
                            generation->num_prompts, request->n, MAX_CHOICES);
    return true;
}

static void prepare(struct oct_text_job *job) {
    struct oct_generation *generation = (struct oct_generation *)(void *)((char *)job - offsetof(struct oct_generation, job));
    read_generation(generation);
    oct_openai_drop_body(&generation->request);
}

// ---- On the loop thread.

static void release_body(struct oct_generation *generation) {
    oct_connections_release(generation->serving->connections, generation->counted_bytes);
    generation->counted_bytes = 0;
}

static void generation_free(struct oct_generation *generation) {
    release_body(generation);
    TAILQ_REMOVE(&generation->serving->generations, generation, link);
    for (size_t i = 0; i < generation->num_choices; i++) {
        struct oct_choice *choice = &generation->choices[i];
        oct_request_free(choice->request);
        oct_mailbox_retract(generation->serving->mailbox, &choice->ready);
        free(choice->stop_string);
        oct_buffer_free(&choice->text);
        oct_buffer_free(&choice->ids);
        oct_buffer_free(&choice->prompt_logprobs.out);
        for (size_t k = 0; k < sizeof choice->logprobs / sizeof *choice->logprobs; k++) oct_buffer_free(&choice->logprobs[k].out);
    }
    for (size_t i = 0; i < generation->num_prompts; i++) {
        free(generation->prompts[i].ids);
        oct_buffer_free(&generation->prompts[i].echo);
    }
    free(generation->choices);
    free(generation->prompts);
    free(generation->role);
    oct_mailbox_retract(generation->serving->mailbox, &generation->job.done);
    oct_buffer_free(&generation->body);
    oct_buffer_free(&generation->id);
    oct_openai_request_free(&generation->request);
    oct_api_error_free(&generation->error);
    if (generation->keep_alive) event_free(generation->keep_alive);
    free(generation);
}

// The last step of every callback: frees a generation that nobody needs any more.
static void settle(struct oct_generation *generation) {
    if (generation->connection || generation->preparing || generation->num_live > 0) return;
    struct oct_serving *serving = generation->serving;
    generation_free(generation);
    serving->generation_ended(serving);
}

static void cancel_all(struct oct_generation *generation) {
    for (size_t i = 0; i < generation->num_choices; i++)
        if (generation->choices[i].request) oct_request_cancel(generation->choices[i].request);
}

// The connection is given back before the reply ends, since the next request of it may be handled inside oct_reply_end.
static struct oct_connection *release_connection(struct oct_generation *generation) {
    struct oct_connection *connection = generation->connection;
    generation->connection = NULL;
    if (generation->keep_alive) event_del(generation->keep_alive);
    return connection;
}

static void answer_error(struct oct_generation *generation) {
    struct oct_connection *connection = release_connection(generation);
    if (!generation->streaming) {
        oct_api_error_reply(&generation->error, connection);
    } else { // the 200 is out: the error becomes an event
        struct oct_json_writer event = {0};
        oct_api_error_write(&generation->error, &event);
        oct_sse_event(connection, &event);
        oct_sse_close(connection);
    }
    cancel_all(generation);
}

static void write_total_usage(const struct oct_generation *generation, struct oct_json_writer *writer, enum oct_usage_style style) {
    int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    for (size_t i = 0; i < generation->num_prompts; i++) prompt_tokens += (int)generation->prompts[i].num_ids;
    for (size_t i = 0; i < generation->num_choices; i++) {
        completion_tokens += generation->choices[i].completion_tokens;
        if (i == 0 || generation->choices[i].prompt != generation->choices[i - 1].prompt)
            cached_tokens += generation->choices[i].cached_tokens;
    }
    bool details = generation->serving->options.enable_prompt_tokens_details;
    oct_write_usage(writer, style, prompt_tokens, completion_tokens, details ? cached_tokens : -1);
}

static void answer_stream_end(struct oct_generation *generation) {
    if (generation->request.include_usage) {
        struct oct_json_writer event = {0};
        oct_write_answer_head(generation, &event, generation->endpoint->chunk_object);
        oct_json_open(&event, '[');
        oct_json_close(&event, ']');
        write_total_usage(generation, &event, OCT_USAGE_CHUNK);
        oct_json_key(&event, "system_fingerprint");
        oct_json_text(&event, generation->serving->fingerprint);
        oct_json_close(&event, '}');
        oct_sse_event(generation->connection, &event);
    }
    oct_sse_close(release_connection(generation));
}

static void answer_whole(struct oct_generation *generation) {
    struct oct_json_writer answer = {0};
    oct_write_answer_head(generation, &answer, generation->endpoint->object);
    oct_json_open(&answer, '[');
    generation->endpoint->write_choices(generation, &answer);
    oct_json_close(&answer, ']');
    oct_json_key(&answer, "service_tier");
    oct_json_null(&answer);
    oct_json_key(&answer, "system_fingerprint");
    oct_json_text(&answer, generation->serving->fingerprint);
    write_total_usage(generation, &answer, OCT_USAGE_FULL);
    generation->endpoint->write_tail(generation, &answer);
    oct_json_close(&answer, '}');
    oct_reply(release_connection(generation), 200, "application/json", answer.out.data, answer.out.length);
    oct_buffer_free(&answer.out);
}

static void append_stop_token(struct oct_choice *choice) {
    const struct oct_generation *generation = choice->generation;
    char *text;
    size_t length;
    oct_error err;
    bool skip_special = generation->request.skip_special_tokens;
    if (oct_detokenize(generation->serving->engine, &choice->stop_token, 1, skip_special, &text, &length, &err) != OCT_OK) return;
    oct_buffer_append(&choice->text, text, length);
    oct_free(text);
}

static void note_finish(struct oct_choice *choice, const oct_delta *delta) {
    struct oct_generation *generation = choice->generation;
    const struct oct_openai_request *request = &generation->request;
    choice->finish = delta->finish;
    generation->num_unfinished--;
    if (delta->stop_string) {
        choice->stop_string = oct_strdup(delta->stop_string);
        if (request->include_stop_str_in_output) oct_buffer_puts(&choice->text, delta->stop_string);
    }
    for (size_t i = 0; i < request->num_stop_token_ids; i++) // an EOS that nobody named is no stop_reason
        if (request->stop_token_ids[i] == delta->stop_token) choice->stop_token = delta->stop_token;
    if (choice->stop_token >= 0 && request->include_stop_str_in_output) append_stop_token(choice);
    if (generation->score_only) choice->finish = OCT_FINISH_LENGTH;
}

static void take_delta(struct oct_choice *choice, const oct_delta *delta) {
    struct oct_generation *generation = choice->generation;
    if (!generation->score_only) {
        oct_buffer_append(&choice->text, delta->text, delta->text_length);
        oct_buffer_append(&choice->ids, delta->token_ids, delta->num_tokens * sizeof(int32_t));
    }
    oct_take_prompt_logprobs(choice, delta);
    choice->num_tokens += delta->num_tokens;
    choice->completion_tokens = delta->completion_tokens;
    choice->cached_tokens = delta->cached_tokens;
    for (size_t i = 0; delta->logprobs && !generation->score_only && i < delta->num_tokens; i++)
        generation->endpoint->add_logprob(choice, delta->logprobs + i * delta->num_logprobs, delta->num_logprobs);
    if (delta->finish != OCT_RUNNING) note_finish(choice, delta);
}

static void restart_keep_alive(struct oct_generation *generation) {
    double seconds = generation->serving->options.sse_keep_alive_interval;
    struct timeval time = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    if (generation->keep_alive) event_add(generation->keep_alive, &time);
}

static void open_stream(struct oct_generation *generation) {
    if (generation->streaming) return;
    generation->streaming = true;
    oct_sse_open(generation->connection);
}

static void send_chunk(struct oct_choice *choice) {
    struct oct_generation *generation = choice->generation;
    bool due = !choice->opened || choice->finish != OCT_RUNNING || choice->num_tokens >= (size_t)generation->request.stream_interval;
    if (!due || (choice->num_tokens == 0 && choice->finish == OCT_RUNNING)) return;
    open_stream(generation);
    generation->endpoint->send_chunk(choice);
    choice->opened = true;
    choice->num_tokens = 0;
    oct_buffer_free(&choice->text);
    oct_buffer_free(&choice->ids);
    for (size_t k = 0; k < sizeof choice->logprobs / sizeof *choice->logprobs; k++) {
        oct_buffer_free(&choice->logprobs[k].out);
        choice->logprobs[k].comma = false;
    }
    restart_keep_alive(generation);
}

static void fail_choice(struct oct_choice *choice, const oct_delta *delta) {
    struct oct_generation *generation = choice->generation;
    choice->finish = delta->finish;
    if (!generation->connection) return;
    static const oct_error aborted = {.code = OCT_CANCELLED, .message = "The request was aborted because the server is shutting down"};
    static const oct_error unknown = {.code = OCT_INTERNAL, .message = "The engine failed"};
    const oct_error *cause = delta->finish == OCT_FINISH_ABORT ? &aborted : delta->error ? delta->error : &unknown;
    oct_log(OCT_LOG_WARNING, "%s: %s", generation->id.data, cause->message);
    oct_api_fail_engine(&generation->error, cause);
    answer_error(generation);
}

// Takes what the engine has for one choice, as far as the client keeps up. Does not free the generation.
static void pump(struct oct_choice *choice) {
    struct oct_generation *generation = choice->generation;
    oct_delta delta;
    while (choice->request) {
        bool stream = generation->request.stream;
        if (generation->connection && stream && oct_connection_is_full(generation->connection)) return;
        if (!oct_request_next(choice->request, 0, &delta)) return;
        bool failed = delta.finish == OCT_FINISH_ERROR || (delta.finish == OCT_FINISH_ABORT && !generation->streaming);
        if (failed)
            fail_choice(choice, &delta);
        else if (generation->connection)
            take_delta(choice, &delta);
        oct_finish finish = delta.finish;
        if (finish != OCT_RUNNING) {
            oct_request_free(choice->request); // the delta's pointers end here
            choice->request = NULL;
            oct_mailbox_retract(generation->serving->mailbox, &choice->ready);
            generation->num_live--;
            generation->serving->finished[finish]++;
        }
        if (!generation->connection) continue;
        if (stream) send_chunk(choice);
        if (generation->num_unfinished == 0) {
            if (stream)
                answer_stream_end(generation);
            else
                answer_whole(generation);
        }
    }
}

static void pump_all(struct oct_generation *generation) {
    for (size_t i = 0; i < generation->num_choices; i++) pump(&generation->choices[i]);
}

static void on_ready(struct oct_mail *mail) {
    struct oct_choice *choice = (struct oct_choice *)(void *)((char *)mail - offsetof(struct oct_choice, ready));
    struct oct_generation *generation = choice->generation;
    pump(choice);
    settle(generation);
}

static void notify(void *context) { // on the engine's thread
    struct oct_choice *choice = context;
    oct_mailbox_post(choice->generation->serving->mailbox, &choice->ready);
}

static void on_drained(void *context) {
    struct oct_generation *generation = context;
    pump_all(generation);
    settle(generation);
}

static void on_gone(void *context) {
    struct oct_generation *generation = context;
    release_connection(generation);
    cancel_all(generation);
    pump_all(generation);
    settle(generation);
}

static void on_keep_alive(evutil_socket_t fd, short what, void *context) {
    (void)fd, (void)what;
    struct oct_generation *generation = context;
    open_stream(generation);
    if (!oct_connection_is_full(generation->connection)) oct_sse_comment(generation->connection, "keep-alive");
    restart_keep_alive(generation);
}

static bool submit(struct oct_generation *generation) {
    size_t n = (size_t)generation->request.n;
    generation->num_choices = generation->num_unfinished = n * generation->num_prompts;
    generation->choices = oct_alloc(generation->num_choices, sizeof *generation->choices, "choices");
    for (size_t i = 0; i < generation->num_choices; i++) {
        struct oct_choice *choice = &generation->choices[i];
        choice->generation = generation;
        choice->ready.deliver = on_ready;
        choice->index = (int)i;
        choice->prompt = i / n;
        choice->stop_token = -1;
        const struct oct_buffer *echo = &generation->prompts[choice->prompt].echo;
        if (!generation->request.return_token_ids || generation->score_only) oct_buffer_append(&choice->text, echo->data, echo->length);
    }
    for (size_t i = 0; i < generation->num_choices; i++) {
        struct oct_choice *choice = &generation->choices[i];
        const struct oct_prompt *prompt = &generation->prompts[choice->prompt];
        oct_sampling_params params = prompt->params;
        params.seed += i % n; // the choices of one seeded prompt differ, and come out the same each time
        oct_error err;
        if (oct_request_submit(generation->serving->engine, prompt->ids, prompt->num_ids, &params, notify, choice, &choice->request,
                               &err) != OCT_OK) {
            choice->request = NULL;
            return oct_api_fail_engine(&generation->error, &err);
        }
        generation->num_live++;
    }
    return true;
}

static void on_prepared(struct oct_mail *mail) {
    struct oct_generation *generation = (struct oct_generation *)(void *)((char *)mail - offsetof(struct oct_generation, job.done));
    generation->preparing = false;
    release_body(generation);
    if (generation->connection && generation->serving->stopping)
        oct_api_fail_status(&generation->error, 503, NULL, "The server is shutting down");
    if (generation->connection && generation->endpoint->answer && !generation->error.status)
        oct_reply(release_connection(generation), 200, "application/json", generation->body.data, generation->body.length);
    else if (generation->connection && (generation->error.status || !submit(generation)))
        answer_error(generation);
    else if (generation->connection && generation->request.stream && generation->serving->options.sse_keep_alive_interval > 0) {
        generation->keep_alive = evtimer_new(generation->serving->base, on_keep_alive, generation);
        restart_keep_alive(generation);
    }
    settle(generation);
}

static bool is_json(const char *content_type) {
    static const char json[] = "application/json";
    if (!content_type || strncasecmp(content_type, json, sizeof json - 1) != 0) return false;
    const char *rest = content_type + sizeof json - 1;
    return rest[strspn(rest, " \t")] == '\0' || rest[strspn(rest, " \t")] == ';';
}

static void serve(struct oct_serving *serving, struct oct_connection *connection, const struct oct_endpoint *endpoint) {
    struct oct_api_error error = {0};
    if (!is_json(oct_request_header(connection, "content-type"))) {
        oct_api_fail(&error, NULL, "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed");
        error.type = "Bad Request";
    } else if (serving->stopping) {
        oct_api_fail_status(&error, 503, NULL, "The server is shutting down");
    }
    if (error.status) {
        oct_api_error_reply(&error, connection);
        oct_api_error_free(&error);
        return;
    }
    struct oct_generation *generation = oct_alloc(1, sizeof *generation, "a generation");
    generation->serving = serving;
    generation->endpoint = endpoint;
    generation->connection = connection;
    generation->created = time(NULL);
    generation->body = oct_request_take_body(connection);
    generation->counted_bytes = generation->body.length;
    generation->preparing = true;
    generation->job.work = prepare;
    generation->job.done.deliver = on_prepared;
    const char *id = oct_request_header(connection, "x-request-id");
    if (id && endpoint->id_prefix) oct_buffer_printf(&generation->id, "%s%s", endpoint->id_prefix, id);
    TAILQ_INSERT_TAIL(&serving->generations, generation, link);
    struct oct_answerer answerer = {.drained = on_drained, .gone = on_gone, .context = generation};
    oct_connection_set_answerer(connection, &answerer);
    oct_text_pool_submit(serving->text_pool, &generation->job);
}

void oct_serve_completions(struct oct_serving *serving, struct oct_connection *connection) {
    serve(serving, connection, &oct_completions_endpoint);
}

void oct_serve_chat_completions(struct oct_serving *serving, struct oct_connection *connection) {
    serve(serving, connection, &oct_chat_endpoint);
}

void oct_serve_tokenize(struct oct_serving *serving, struct oct_connection *connection) {
    serve(serving, connection, &oct_tokenize_endpoint);
}

void oct_serve_detokenize(struct oct_serving *serving, struct oct_connection *connection) {
    serve(serving, connection, &oct_detokenize_endpoint);
}

void oct_generations_abort(struct oct_serving *serving) {
    struct oct_generation *generation;
    TAILQ_FOREACH(generation, &serving->generations, link) cancel_all(generation);
}

void oct_generations_free(struct oct_serving *serving) {
    while (!TAILQ_EMPTY(&serving->generations)) generation_free(TAILQ_FIRST(&serving->generations));
}
