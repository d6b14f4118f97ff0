// sse.c: events as chunks of a streaming reply.
#include "server/sse.h"

void oct_sse_open(struct oct_connection *connection) {
    oct_reply_stream(connection, 200, "text/event-stream; charset=utf-8");
}

void oct_sse_event(struct oct_connection *connection, struct oct_json_writer *event) {
    struct oct_buffer line = {0};
    oct_buffer_puts(&line, "data: ");
    oct_buffer_append(&line, event->out.data, event->out.length);
    oct_buffer_puts(&line, "\n\n");
    oct_reply_chunk(connection, line.data, line.length);
    oct_buffer_free(&line);
    oct_buffer_free(&event->out);
    event->comma = false;
}

void oct_sse_comment(struct oct_connection *connection, const char *text) {
    struct oct_buffer line = {0};
    oct_buffer_printf(&line, ": %s\n\n", text);
    oct_reply_chunk(connection, line.data, line.length);
    oct_buffer_free(&line);
}

void oct_sse_close(struct oct_connection *connection) {
    static const char done[] = "data: [DONE]\n\n";
    oct_reply_chunk(connection, done, sizeof done - 1);
    oct_reply_end(connection);
}
