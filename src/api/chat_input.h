// chat_input.h: one chat as it was asked for, and the prompt that a checkpoint's template makes of it.
#pragma once

#include "api/text_source.h"
#include "octavo.h"

// Zero-initialise. The JSON is owned; the strings live as long as the options they came from.
struct oct_chat_input {
    json_t *messages, *tools, *documents, *template_kwargs; // NULL but for messages: none
    bool add_generation_prompt, continue_final_message, allow_special_tokens_in_messages;
    const char *chat_template, *content_format; // as in oct_chat_options
};

// Parses the JSON texts of the options. *out is to be freed whatever the outcome.
oct_status oct_chat_input_parse(const char *messages_json, const oct_chat_options *options, struct oct_chat_input *out, oct_error *err);
void oct_chat_input_free(struct oct_chat_input *input);

// The template is the input's own, else the source's; where that has one for chats with tools, tools decide. Everything is checked here.
oct_status oct_chat_input_render(const struct oct_text_source *source, const struct oct_chat_input *input, struct oct_chat_prompt *out,
                                 oct_error *err);
