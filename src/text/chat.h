// chat.h: from messages to the prompt text of a model, through its chat template (spec templates).
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "text/content_format.h"
#include "text/tokenizer.h"

#include <stdbool.h>

struct oct_chat_template; // a compiled template; immutable, may be used by many threads at once

// Compiles `length` bytes of Jinja. `name` stands in messages for the source.
oct_status oct_chat_template_compile(const char *name, const char *source, size_t length, struct oct_chat_template **out, oct_error *err);
void oct_chat_template_free(struct oct_chat_template *chat);
enum oct_content_format oct_chat_content_format(const struct oct_chat_template *chat); // never AUTO
bool oct_chat_knows_developer(const struct oct_chat_template *chat);                   // its text names that role

// Checks messages and brings them into the form that templates expect, as vLLM does: contents as `format` says (AUTO: as the template
// wants them; an absent one is empty), the arguments of past tool calls as values rather than as JSON text, and "developer", which is a
// newer name of the same role, as "system" where the template does not know it. Whatever else a message holds stays in it. *out is a new
// array that shares what is not changed. Errors name the message and what is wrong with it.
oct_status oct_chat_normalize(const struct oct_chat_template *chat, const json_t *messages, enum oct_content_format format, json_t **out,
                              oct_error *err);

// What a template sees beside the messages, and how the prompt ends.
struct oct_chat_context {
    bool add_generation_prompt;
    bool continue_final_message; // the prompt ends inside the last message, for the model to go on with; not with add_generation_prompt
    bool trust_messages;         // special-token text in messages means special tokens, as in the reference libraries
    const char *bos_token, *eos_token; // NULL: empty
    const json_t *tools, *documents;   // arrays or NULL
    const json_t *extra;               // object of further variables, or NULL
};

// A rendered prompt. `from_message[i]` tells for each byte whether it came out of the request, be it a message, a tool, a document or a
// further variable: special-token text there must be encoded as ordinary text, so that a message cannot forge a turn.
struct oct_chat_prompt {
    struct oct_buffer text;
    unsigned char *from_message; // (text.length) 0 or 1; owned. NULL: nothing is marked, as trust_messages asks
};
void oct_chat_prompt_free(struct oct_chat_prompt *prompt);

// What transformers' apply_chat_template does: `messages` (an array) reaches the template as it is, but for a reasoning text, which is
// given under each of its usual names ("reasoning", "reasoning_content", "thinking"). A template's raise_exception message comes through
// unchanged.
oct_status oct_chat_render(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_context *context,
                           struct oct_chat_prompt *out, oct_error *err);
// The ids of a rendered prompt: template text with its special tokens, message text without. flags: OCT_ENCODE_ADD_SPECIAL or 0.
void oct_chat_encode(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, int flags, struct oct_ids *ids);
