// chat.h: from messages to the prompt text of a model, through its chat template (spec templates).
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"

#include <stdbool.h>

struct oct_chat_template; // a compiled template; immutable, may be used by many threads at once

// Compiles `length` bytes of Jinja. `name` stands in messages for the source.
oct_status oct_chat_template_compile(const char *name, const char *source, size_t length, struct oct_chat_template **out, oct_error *err);
void oct_chat_template_free(struct oct_chat_template *chat);

struct oct_chat_options {
    bool add_generation_prompt;
    bool continue_final_message; // the prompt ends inside the last message, for the model to go on with; not with add_generation_prompt
    const char *bos_token, *eos_token; // NULL: empty
    const json_t *tools;               // array or NULL
    const json_t *extra;               // object of further variables, or NULL
};

// A rendered prompt. `from_message[i]` tells for each byte whether it came out of a message string: special-token text there must be
// encoded as ordinary text, so that a message cannot forge a turn.
struct oct_chat_prompt {
    struct oct_buffer text;
    unsigned char *from_message; // (text.length) 0 or 1; owned
};
void oct_chat_prompt_free(struct oct_chat_prompt *prompt);

// `messages` is a JSON array of {"role", "content", ...}; a reasoning text is given to the template under each of its usual names
// ("reasoning", "reasoning_content", "thinking"). A template's raise_exception message comes through unchanged.
oct_status oct_chat_render(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_options *options,
                           struct oct_chat_prompt *out, oct_error *err);
// The ids of a rendered prompt: template text with its special tokens, message text without.
void oct_chat_encode(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, struct oct_ids *ids);
