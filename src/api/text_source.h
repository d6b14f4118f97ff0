// text_source.h: the tokenizer and the chat template of a checkpoint, from a GGUF file's keys or from the files of a directory.
#pragma once

#include "model/checkpoint.h"
#include "text/chat.h"
#include "text/tokenizer.h"

struct oct_text_source {
    struct oct_tokenizer *tokenizer;
    struct oct_chat_template *chat; // NULL: there is none, for the reason that chat_problem holds
    oct_error chat_problem;
    struct oct_chat_template *tool_chat; // for chats with tools. NULL: the model has none but `chat`, or tool_chat_problem holds an error
    oct_error tool_chat_problem;
};

// `path` names the checkpoint in messages. chat_template: the path of a file, or Jinja text, instead of the model's own; NULL: the
// model's own, of which there may be several with names: "default", and "tool_use" for chats with tools. A template of the model that
// does not compile is a problem only of those who chat.
oct_status oct_text_source_open(const struct oct_checkpoint *checkpoint, const char *path, const char *chat_template,
                                struct oct_text_source *out, oct_error *err);
void oct_text_source_close(struct oct_text_source *source);
