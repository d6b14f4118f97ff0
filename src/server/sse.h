// sse.h: server-sent events, as vLLM frames them: "data: " JSON, one event a line, "data: [DONE]" at the end.
#pragma once

#include "server/connection.h"
#include "server/json_writer.h"

void oct_sse_open(struct oct_connection *connection);
void oct_sse_event(struct oct_connection *connection, struct oct_json_writer *event); // sends and empties *event
void oct_sse_comment(struct oct_connection *connection, const char *text);
void oct_sse_close(struct oct_connection *connection); // [DONE], and the end of the reply
