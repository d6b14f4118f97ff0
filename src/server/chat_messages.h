// chat_messages.h: the messages of a chat, checked.
#pragma once

#include "server/api_error.h"

#include <jansson.h>
#include <stdbool.h>

// body["messages"] is there and is a list; its members are not looked at.
bool oct_check_messages(const json_t *body, struct oct_api_error *error);
// Its members are messages with text in them. `model` is named in errors.
bool oct_check_message_list(const json_t *messages, const char *model, struct oct_api_error *error);
