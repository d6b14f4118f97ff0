// render.c: `octavo render`: the prompt that a chat template makes of messages.
#include "api/chat_input.h"
#include "base/memory.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/prompt_input.h"
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct render_options {
    const char *model, *messages, *tools, *documents, *chat_template;
    bool add_generation_prompt, continue_final_message, ids;
    struct oct_chat_flags chat;
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
    {.name = "documents", .type = OCT_FLAG_STRING, .offset = FIELD(documents), .metavar = "FILE", .help = "a JSON array of documents"},
    {.name = "add-generation-prompt",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(add_generation_prompt),
     .initial = "true",
     .help = "end with what opens the assistant's answer"},
    {.name = "continue-final-message",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(continue_final_message),
     .help = "end inside the last message, for the model to go on with it"},
    {.name = "ids", .type = OCT_FLAG_BOOL, .offset = FIELD(ids), .help = "print the prompt's token ids, as a JSON array"},
    {0},
};

static const struct oct_flag template_flags[] = {
    {.name = "chat-template",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(chat_template),
     .metavar = "FILE",
     .help = "a file with a Jinja template, or Jinja itself, instead of the model's own template"},
    {0},
};

static oct_status read_json(const char *file, const char *flag, json_t **out, oct_error *err) {
    struct oct_buffer text = {0};
    if (!file) return OCT_OK;
    oct_status status = oct_prompt_input_read(flag, NULL, file, &text, err);
    const char *name = strcmp(file, "-") == 0 ? "standard input" : file;
    if (status == OCT_OK) status = oct_json_parse(name, text.data ? text.data : "", text.length, out, err);
    oct_buffer_free(&text);
    return status;
}

static oct_status read_input(const struct render_options *options, struct oct_chat_input *input, oct_error *err) {
    const char *kwargs = options->chat.template_kwargs;
    *input = (struct oct_chat_input){
        .add_generation_prompt = options->add_generation_prompt && !options->continue_final_message,
        .continue_final_message = options->continue_final_message,
        .allow_special_tokens_in_messages = options->chat.allow_special_tokens_in_messages,
        .content_format = options->chat.content_format,
    };
    if (!options->messages) return oct_fail(err, OCT_INVALID_ARGUMENT, "--messages FILE is missing");
    OCT_TRY(oct_chat_flags_check(&options->chat, err));
    OCT_TRY(read_json(options->messages, "messages", &input->messages, err));
    OCT_TRY(read_json(options->tools, "tools", &input->tools, err));
    OCT_TRY(read_json(options->documents, "documents", &input->documents, err));
    return kwargs ? oct_json_parse("--chat-template-kwargs", kwargs, strlen(kwargs), &input->template_kwargs, err) : OCT_OK;
}

static void print_prompt(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, bool as_ids) {
    if (!as_ids) {
        fwrite(prompt->text.data, 1, prompt->text.length, stdout);
        return;
    }
    struct oct_ids ids = {0};
    oct_chat_encode(tokenizer, prompt, 0, &ids);
    for (size_t i = 0; i < ids.count; i++) printf("%s%d", i ? ", " : "[", (int)ids.data[i]);
    puts(ids.count ? "]" : "[]");
    free(ids.data);
}

static oct_status run(const void *given, oct_error *err) {
    const struct render_options *options = given;
    struct oct_chat_input input = {0};
    struct oct_session session = {0};
    struct oct_chat_prompt prompt = {0};
    oct_status status = read_input(options, &input, err);
    if (status == OCT_OK) status = oct_session_open_files(options->model, options->chat_template, &session, err);
    if (status == OCT_OK) status = oct_chat_input_render(&session.text, &input, &prompt, err);
    if (status == OCT_OK) print_prompt(session.text.tokenizer, &prompt, options->ids);
    oct_chat_prompt_free(&prompt);
    oct_session_close(&session);
    oct_chat_input_free(&input);
    return status;
}

const struct oct_command oct_command_render = {
    .name = "render",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "show the prompt that the chat template makes of messages",
    .details = "The text goes to standard output as it is, without a newline of its own.\n"
               "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | octavo render smollm2 --messages - --ids\n",
    .options_size = sizeof(struct render_options),
    .groups = {{"Chat", flags, 0}, {"Template", template_flags, 0}, {"Template, as a server has it", oct_chat_flag_table, FIELD(chat)}},
    .run = run,
};
