// chat_flags.c: the flags about chat templates, by vLLM's names.
#include "cli/chat_flags.h"

#include "base/json.h"

#include <stddef.h>
#include <string.h>

#define FIELD(name) offsetof(struct oct_chat_flags, name)

const struct oct_flag oct_chat_flag_table[] = {
    {.name = "chat-template-content-format",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(content_format),
     .choices = "auto|string|openai",
     .initial = "auto",
     .help = "how templates see a message's content: a string, or openai's list of parts; auto: as the template is made for"},
    {.name = "chat-template-kwargs",
     .alias = "default-chat-template-kwargs",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(template_kwargs),
     .metavar = "JSON",
     .help = "an object of further template variables, such as {\"enable_thinking\": false}; those of a request come before"},
    {.name = "allow-special-tokens-in-messages",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(allow_special_tokens_in_messages),
     .help = "let special-token text in messages be special tokens, as vLLM does: messages can then forge turns"},
    {0},
};

oct_status oct_chat_flags_check(const struct oct_chat_flags *flags, oct_error *err) {
    json_t *kwargs;
    if (!flags->template_kwargs) return OCT_OK;
    OCT_TRY(oct_json_parse("--chat-template-kwargs", flags->template_kwargs, strlen(flags->template_kwargs), &kwargs, err));
    oct_status status = json_is_object(kwargs) ? OCT_OK
                                               : oct_fail(err, OCT_INVALID_ARGUMENT, "--chat-template-kwargs: an object expected, %s found",
                                                          oct_json_kind(kwargs));
    json_decref(kwargs);
    return status;
}
