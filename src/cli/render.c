// render.c: `octavo render`: the prompt that a chat template makes of messages.
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/prompt_input.h"
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>

struct render_options {
    const char *model, *messages, *tools, *chat_template;
    bool generation_prompt, ids;
};

#define FIELD(name) offsetof(struct render_options, name)

static const struct oct_flag flags[] = {
    {.name = "messages",
     .short_name = "m",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(messages),
     .metavar = "FILE",
     .help = "a JSON array of {\"role\", \"content\"}; - is standard input"},
    {.name = "tools", .type = OCT_FLAG_STRING, .offset = FIELD(tools), .metavar = "FILE", .help = "a JSON array of tools"},
    {.name = "chat-template",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(chat_template),
     .metavar = "FILE",
     .help = "a Jinja template instead of the model's own"},
    {.name = "generation-prompt",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(generation_prompt),
     .initial = "true",
     .help = "end with what opens the assistant's answer"},
    {.name = "ids", .type = OCT_FLAG_BOOL, .offset = FIELD(ids), .help = "print the prompt's token ids, as a JSON array"},
    {0},
};

static oct_status read_json(const char *file, const char *flag, json_t **out, oct_error *err) {
    struct oct_buffer text = {0};
    oct_status status = oct_prompt_input_read(flag, NULL, file, &text, err);
    if (status == OCT_OK) status = oct_json_parse(file, text.data ? text.data : "", text.length, out, err);
    oct_buffer_free(&text);
    return status;
}

static void print_prompt(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, bool as_ids) {
    if (!as_ids) {
        fwrite(prompt->text.data, 1, prompt->text.length, stdout);
        return;
    }
    struct oct_ids ids = {0};
    oct_chat_encode(tokenizer, prompt, &ids);
    for (size_t i = 0; i < ids.count; i++) printf("%s%d", i ? ", " : "[", (int)ids.data[i]);
    puts(ids.count ? "]" : "[]");
    free(ids.data);
}

static oct_status render(const struct render_options *options, struct oct_session *session, const json_t *messages, const json_t *tools,
                         oct_error *err) {
    OCT_TRY(oct_session_open_files(options->model, options->chat_template, session, err));
    if (!session->text.chat) {
        *err = session->text.chat_problem;
        return err->code;
    }
    struct oct_chat_options chat = {
        .add_generation_prompt = options->generation_prompt,
        .bos_token = oct_tokenizer_bos(session->text.tokenizer),
        .eos_token = oct_tokenizer_eos(session->text.tokenizer),
        .tools = tools,
    };
    struct oct_chat_prompt prompt = {0};
    OCT_TRY(oct_chat_render(session->text.chat, messages, &chat, &prompt, err));
    print_prompt(session->text.tokenizer, &prompt, options->ids);
    oct_chat_prompt_free(&prompt);
    return OCT_OK;
}

static oct_status run(const void *given, oct_error *err) {
    const struct render_options *options = given;
    json_t *messages = NULL, *tools = NULL;
    struct oct_session session = {0};
    oct_status status = options->messages ? OCT_OK : oct_fail(err, OCT_INVALID_ARGUMENT, "--messages FILE is missing");
    if (status == OCT_OK) status = read_json(options->messages, "messages", &messages, err);
    if (status == OCT_OK && options->tools) status = read_json(options->tools, "tools", &tools, err);
    if (status == OCT_OK) status = render(options, &session, messages, tools, err);
    oct_session_close(&session);
    json_decref(messages);
    json_decref(tools);
    return status;
}

const struct oct_command oct_command_render = {
    .name = "render",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "show the prompt that the chat template makes of messages",
    .details = "The text goes to standard output as it is, without a newline of its own.",
    .options_size = sizeof(struct render_options),
    .groups = {{"Options", flags, 0}},
    .run = run,
};
