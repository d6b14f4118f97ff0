// chat_messages.h: the messages of a chat, checked and brought into the form that templates expect.
#pragma once

#include "server/api_error.h"

#include <jansson.h>
#include <stdbool.h>

// body["messages"] is there and is a list; its members are not looked at.
bool oct_check_messages(const json_t *body, struct oct_api_error *error);
// Every message gets a string for content: parts are joined, an absent content is "". `model` is named in messages.
bool oct_normalize_messages(json_t *messages, const char *model, struct oct_api_error *error);
// Bytes of all contents of normalized messages.
size_t oct_messages_length(const json_t *messages);
