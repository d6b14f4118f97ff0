// reply.c: replies as bytes: heads, bodies, chunks, and those that a connection makes itself for requests that never became whole.
#include "base/error.h"
#include "base/log.h"
#include "server/connection_state.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const char *oct_http_phrase(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 307:
        return "Temporary Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 413:
        return "Request Entity Too Large";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

void oct_connection_write(struct oct_connection *connection, const char *text, size_t length) {
    bufferevent_write(connection->events, text, length);
}

// As uvicorn's access log. Bytes that do not print are shown as %XX: a log line stays one line.
static void log_request(const struct oct_connection *connection, int status) {
    struct oct_buffer target = {0};
    for (const unsigned char *c = (const unsigned char *)connection->target.data; *c && target.length < 512; c++)
        oct_buffer_printf(&target, *c > ' ' && *c < 127 ? "%c" : "%%%02X", *c);
    oct_log(OCT_LOG_INFO, "%s - \"%s %s HTTP/1.%d\" %d %s", connection->peer, oct_request_method(connection),
            target.data ? target.data : "", connection->parser.http_minor, status, oct_http_phrase(status));
    oct_buffer_free(&target);
}

static void write_head(struct oct_connection *connection, int status, const char *content_type, long long content_length) {
    OCT_CHECK(!connection->replied);
    connection->replied = true;
    if (connection->all->draining) connection->keep_alive = false;
    if (connection->all->limits.log_requests && connection->head_done) log_request(connection, status);
    char date[40];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    struct oct_buffer head = {0};
    oct_buffer_printf(&head, "HTTP/1.1 %d %s\r\ndate: %s\r\nserver: octavo\r\n", status, oct_http_phrase(status), date);
    if (content_length >= 0) oct_buffer_printf(&head, "content-length: %lld\r\n", content_length);
    if (content_type) oct_buffer_printf(&head, "content-type: %s\r\n", content_type);
    oct_buffer_append(&head, connection->fields.data, connection->fields.length);
    if (connection->chunked) oct_buffer_puts(&head, "transfer-encoding: chunked\r\n");
    if (!connection->keep_alive) oct_buffer_puts(&head, "connection: close\r\n");
    oct_buffer_puts(&head, "\r\n");
    oct_connection_write(connection, head.data, head.length);
    oct_buffer_free(&head);
}

void oct_reply_header(struct oct_connection *connection, const char *name, const char *value) {
    oct_buffer_printf(&connection->fields, "%s: %s\r\n", name, value);
}

void oct_reply(struct oct_connection *connection, int status, const char *content_type, const char *body, size_t length) {
    write_head(connection, status, content_type, (long long)length);
    if (!connection->is_head && length > 0) oct_connection_write(connection, body, length);
    oct_reply_end(connection);
}

void oct_reply_stream(struct oct_connection *connection, int status, const char *content_type) {
    connection->chunked = llhttp_get_http_minor(&connection->parser) >= 1;
    if (!connection->chunked) connection->keep_alive = false; // an HTTP/1.0 stream ends with the connection
    write_head(connection, status, content_type, -1);
}

void oct_reply_chunk(struct oct_connection *connection, const char *bytes, size_t length) {
    if (length == 0 || connection->is_head) return;
    char size[24];
    if (connection->chunked) oct_connection_write(connection, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", length));
    oct_connection_write(connection, bytes, length);
    if (connection->chunked) oct_connection_write(connection, "\r\n", 2);
}

void oct_reply_end(struct oct_connection *connection) {
    OCT_CHECK(connection->replied && !connection->reply_ended);
    if (connection->chunked && !connection->is_head) oct_connection_write(connection, "0\r\n\r\n", 5);
    connection->reply_ended = true;
    connection->answerer = (struct oct_answerer){0};
    if (!connection->keep_alive || connection->overrun) {
        oct_connection_finish(connection); // output is never empty here: it goes on in on_writable, and the write timeout bounds it
    } else if (connection->message_done) {
        oct_connection_await_request(connection);
        if (!connection->parsing) oct_connection_read_requests(connection);
    }
}

void oct_connection_refuse(struct oct_connection *connection, int status) {
    evbuffer_drain(bufferevent_get_input(connection->events), SIZE_MAX);
    oct_connection_forget_body(connection);                            // its client may be slow to go, and others wait for the room
    if (connection->replied) return oct_connection_finish(connection); // refused at its head, and then the body was wrong too
    connection->keep_alive = false;
    const struct oct_connection_limits *limits = &connection->all->limits;
    struct oct_buffer message = {0};
    switch (status) {
    case 408:
        oct_buffer_puts(&message, "The request took too long to arrive");
        break;
    case 413:
        oct_buffer_printf(&message, "The body is too large: at most %zu bytes are accepted", limits->max_body_bytes);
        break;
    case 431:
        oct_buffer_printf(&message, "The header is too large: at most %zu bytes in %zu fields are accepted", limits->max_head_bytes,
                          limits->max_headers);
        break;
    case 503:
        oct_buffer_puts(&message, "Too many request bodies are arriving at once; try again later");
        break;
    default: { // malformed HTTP: plain text, as uvicorn answers it
        const char *text = status == 400 ? "Invalid HTTP request received." : oct_http_phrase(status);
        oct_log(OCT_LOG_INFO, "%s - invalid HTTP request", connection->peer);
        return oct_reply(connection, status, "text/plain; charset=utf-8", text, strlen(text));
    }
    }
    struct oct_buffer body = {0};
    oct_buffer_printf(&body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", message.data,
                      oct_http_phrase(status), status);
    oct_reply(connection, status, "application/json", body.data, body.length);
    oct_buffer_free(&message);
    oct_buffer_free(&body);
}
