// request.c: bytes as requests: llhttp parses; here its pieces are gathered, counted against the limits, and checked for what a proxy in
// front of us could read differently.
#include "base/memory.h"
#include "server/connection_state.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { DISCARDED_BODY = 64 << 10 }; // a refused request keeps its connection only when its body is at most this long

static struct oct_connection *connection_of(llhttp_t *parser) {
    return parser->data;
}

static int fail(struct oct_connection *connection, int status) {
    connection->refusal = status;
    return -1;
}

static int count_head(struct oct_connection *connection, size_t length) {
    connection->head_bytes += length;
    return connection->head_bytes > connection->all->limits.max_head_bytes ? fail(connection, 431) : 0;
}

static int on_message_begin(llhttp_t *parser) {
    struct oct_connection *connection = connection_of(parser);
    oct_connection_forget_request(connection);
    oct_connection_set_deadline(connection, connection->all->limits.head_timeout);
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t length) {
    struct oct_connection *connection = connection_of(parser);
    oct_buffer_append(&connection->target, at, length);
    return count_head(connection, length);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t length) {
    struct oct_connection *connection = connection_of(parser);
    if (connection->head_done) return count_head(connection, length); // a trailer: counted and dropped
    if (connection->in_value || connection->num_headers == 0) {
        if (connection->num_headers == connection->all->limits.max_headers) return fail(connection, 431);
        connection->headers = oct_resize(connection->headers, connection->num_headers + 1, sizeof *connection->headers, "header fields");
        connection->headers[connection->num_headers++].name = connection->head.length;
        connection->in_value = false;
    }
    oct_buffer_append(&connection->head, at, length);
    return count_head(connection, length);
}

// llhttp ends each name and each value, so that an empty value is seen too.
static int on_header_field_complete(llhttp_t *parser) {
    struct oct_connection *connection = connection_of(parser);
    if (!connection->head_done) {
        oct_buffer_append(&connection->head, "", 1);
        connection->headers[connection->num_headers - 1].value = connection->head.length;
    }
    return count_head(connection, 4); // ": " and the end of the line
}

static int on_header_value(llhttp_t *parser, const char *at, size_t length) {
    struct oct_connection *connection = connection_of(parser);
    if (!connection->head_done) oct_buffer_append(&connection->head, at, length);
    return count_head(connection, length);
}

static int on_header_value_complete(llhttp_t *parser) {
    struct oct_connection *connection = connection_of(parser);
    if (!connection->head_done) oct_buffer_append(&connection->head, "", 1);
    connection->in_value = true;
    return 0;
}

const char *oct_request_header(const struct oct_connection *connection, const char *name) {
    for (size_t i = 0; i < connection->num_headers; i++)
        if (!strcasecmp(connection->head.data + connection->headers[i].name, name))
            return connection->head.data + connection->headers[i].value;
    return NULL;
}

static int count_headers(const struct oct_connection *connection, const char *name) {
    int count = 0;
    for (size_t i = 0; i < connection->num_headers; i++) count += !strcasecmp(connection->head.data + connection->headers[i].name, name);
    return count;
}

// What llhttp lets through and a proxy in front of us could read differently. 0, or the status to refuse with.
static int find_fault(const struct oct_connection *connection) {
    const llhttp_t *parser = &connection->parser;
    if (parser->http_major != 1 || parser->http_minor > 1) return 505;
    int hosts = count_headers(connection, "host");
    if (hosts > 1 || (hosts == 0 && parser->http_minor == 1)) return 400;
    const char *coding = oct_request_header(connection, "transfer-encoding");
    if (coding && (count_headers(connection, "transfer-encoding") > 1 || strcasecmp(coding, "chunked") != 0)) return 501;
    if (coding && parser->http_minor == 0) return 400;
    const char *expect = oct_request_header(connection, "expect");
    if (expect && strcasecmp(expect, "100-continue") != 0) return 417;
    return 0;
}

static int on_headers_complete(llhttp_t *parser) {
    struct oct_connection *connection = connection_of(parser);
    struct oct_connections *all = connection->all;
    connection->head_done = true;
    parser->upgrade = 0; // no other protocol is spoken here: an Upgrade field is ignored
    connection->is_head = parser->method == HTTP_HEAD;
    connection->target.data[strcspn(connection->target.data, "?#")] = '\0';
    int fault = find_fault(connection);
    if (fault) return fail(connection, fault);

    bool chunked = parser->flags & F_CHUNKED, has_body = chunked || parser->content_length > 0;
    if (has_body && !chunked && parser->content_length > all->limits.max_body_bytes) return fail(connection, 413);
    bool expects = oct_request_header(connection, "expect") && parser->http_minor >= 1 && has_body;
    bool keep_alive = llhttp_should_keep_alive(parser) && parser->http_minor == 1;

    // A refusal before the body closes the connection, unless so little follows that reading past it is cheaper.
    connection->keep_alive = keep_alive && (!has_body || (!chunked && !expects && parser->content_length <= DISCARDED_BODY));
    all->handler.admit(connection, all->handler.context);
    if (connection->replied) {
        oct_connection_set_deadline(connection, all->limits.body_timeout);
        return connection->keep_alive ? 0 : -1;
    }
    connection->keep_alive = keep_alive;
    if (expects) oct_connection_write(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    oct_connection_set_deadline(connection, all->limits.body_timeout);
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length) {
    struct oct_connection *connection = connection_of(parser);
    struct oct_connections *all = connection->all;
    if (connection->replied) return 0;
    if (connection->body.length + length > all->limits.max_body_bytes) return fail(connection, 413);
    if (all->body_bytes + length > all->limits.max_total_bytes) return fail(connection, 503);
    oct_buffer_append(&connection->body, at, length);
    all->body_bytes += length;
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    connection_of(parser)->message_done = true;
    return HPE_PAUSED; // the next request waits until this one is answered
}

// Feeds llhttp once. False: there is nothing more to feed now.
static bool parse_some(struct oct_connection *connection) {
    struct evbuffer *input = bufferevent_get_input(connection->events);
    size_t length = evbuffer_get_contiguous_space(input);
    if (length == 0) return false;
    const char *bytes = (const char *)evbuffer_pullup(input, (ev_ssize_t)length);
    connection->parsing = true;
    llhttp_errno_t result = llhttp_execute(&connection->parser, bytes, length);
    connection->parsing = false;
    if (result == HPE_OK) {
        evbuffer_drain(input, length);
        return true;
    }
    if (result == HPE_PAUSED) {
        evbuffer_drain(input, (size_t)(llhttp_get_error_pos(&connection->parser) - bytes));
        llhttp_resume(&connection->parser);
        return true;
    }
    if (connection->phase == READING) oct_connection_refuse(connection, connection->refusal ? connection->refusal : 400);
    return false;
}

void oct_connection_read_requests(struct oct_connection *connection) {
    while (connection->phase == READING && !oct_connection_is_full(connection) && parse_some(connection)) {
        if (connection->phase != READING || !connection->message_done) continue;
        if (connection->replied) { // refused at its head; the body has been thrown away
            oct_connection_await_request(connection);
            continue;
        }
        connection->phase = ANSWERING;
        event_del(connection->deadline);
        connection->parsing = true; // a reply that ends at once comes back here by this loop, not by recursion
        connection->all->handler.handle(connection, connection->all->handler.context);
        connection->parsing = false;
    }
    if (connection->phase == FLUSHING) evbuffer_drain(bufferevent_get_input(connection->events), SIZE_MAX);
}

const char *oct_request_method(const struct oct_connection *connection) {
    return llhttp_method_name(connection->parser.method);
}

const char *oct_request_path(const struct oct_connection *connection) {
    const char *target = connection->target.data;
    if (strncasecmp(target, "http://", 7) != 0) return target;
    const char *path = strchr(target + 7, '/'); // the absolute form, which proxies send
    return path ? path : "/";
}

struct oct_buffer oct_request_take_body(struct oct_connection *connection) {
    struct oct_buffer body = connection->body;
    connection->body = (struct oct_buffer){0};
    return body;
}

void oct_connection_init_parser(struct oct_connections *connections) {
    llhttp_settings_init(&connections->settings);
    connections->settings = (llhttp_settings_t){
        .on_message_begin = on_message_begin,
        .on_url = on_url,
        .on_header_field = on_header_field,
        .on_header_field_complete = on_header_field_complete,
        .on_header_value = on_header_value,
        .on_header_value_complete = on_header_value_complete,
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
    };
}
