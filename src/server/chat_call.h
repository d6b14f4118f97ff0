// chat_call.h: a chat request as the engine's calls take it.
#pragma once

#include "server/generation.h"

// Zero-initialise. Owned, but for what `options` takes from the server's options.
struct oct_chat_call {
    char *messages, *tools, *documents, *template_kwargs; // JSON, or NULL; options points at all but the first
    oct_chat_options options;
};

// From a body whose parameters have been read. The call is to be freed whatever the outcome.
bool oct_chat_call_make(struct oct_generation *generation, struct oct_chat_call *call);
void oct_chat_call_free(struct oct_chat_call *call);
