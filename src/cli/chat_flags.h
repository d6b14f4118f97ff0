// chat_flags.h: the flags of every subcommand that puts messages through a chat template.
#pragma once

#include "base/error.h"
#include "cli/flags.h"

struct oct_chat_flags {
    const char *content_format, *template_kwargs; // as in oct_chat_options
    bool allow_special_tokens_in_messages;
};

extern const struct oct_flag oct_chat_flag_table[];

// Refuses template_kwargs that are no JSON object.
oct_status oct_chat_flags_check(const struct oct_chat_flags *flags, oct_error *err);
