// connection.c: one client: bytes in and out, keep-alive, deadlines, limits and back pressure around llhttp.
#include "server/connection.h"

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <time.h>

enum {
    READ_WATERMARK = 64 << 10,  // bytes kept unparsed while a request is being answered
    FULL_WATERMARK = 256 << 10, // bytes of unsent reply from which oct_connection_is_full holds
    DRAINED_WATERMARK = 32 << 10,
    DISCARDED_BODY = 64 << 10, // a refused request keeps its connection only when its body is at most this long
    MAX_HEADERS = 256,
};
static const double LINGER_TIMEOUT = 2; // seconds to let the client read a reply that came before all of its request was read

enum phase {
    READING,   // waiting for, or in the middle of, a request
    ANSWERING, // a whole request is there and its reply has not ended
    FLUSHING,  // the last reply has ended; its bytes are on their way
    LINGERING  // nothing more will be sent; what still comes in is thrown away
};

struct header {
    size_t name, value; // offsets of NUL-terminated strings in `head`
};

struct oct_connection {
    TAILQ_ENTRY(oct_connection) link;
    struct oct_connections *all;
    struct bufferevent *events;
    struct event *deadline;
    char peer[INET6_ADDRSTRLEN + 8];

    llhttp_t parser;
    enum phase phase;
    bool parsing;  // llhttp is on the stack
    bool finished; // the client will send no more
    bool overrun;  // it sent so much ahead that some was thrown away: the present reply is the last
    // The request.
    struct oct_buffer head, target; // header strings; the request target, cut at '?' when complete
    size_t head_bytes;              // as they came
    struct header headers[MAX_HEADERS];
    int num_headers;
    bool in_value, head_done, message_done;
    struct oct_buffer body;
    // The reply.
    struct oct_buffer fields; // header fields set by oct_reply_header
    bool replied, reply_ended, chunked, keep_alive, is_head;
    int refusal; // status of an error found while parsing, 0: none
    struct oct_answerer answerer;
};

struct oct_connections {
    TAILQ_HEAD(, oct_connection) list;
    size_t count;
    size_t body_bytes; // of all bodies
    struct event_base *base;
    struct oct_connection_limits limits;
    struct oct_connection_handler handler;
    llhttp_settings_t settings;
    bool draining;
    void (*on_close)(void *context);
    void *on_close_context;
};

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

static void set_deadline(struct oct_connection *connection, double seconds) {
    struct timeval time = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    event_add(connection->deadline, &time);
}

static void forget_body(struct oct_connection *connection) {
    connection->all->body_bytes -= connection->body.length;
    oct_buffer_free(&connection->body);
}

static void forget_request(struct oct_connection *connection) {
    forget_body(connection);
    oct_buffer_free(&connection->head);
    oct_buffer_free(&connection->target);
    oct_buffer_free(&connection->fields);
    connection->head_bytes = 0;
    connection->num_headers = 0;
    connection->in_value = connection->head_done = connection->message_done = false;
    connection->replied = connection->reply_ended = connection->chunked = connection->keep_alive = connection->is_head = false;
    connection->refusal = 0;
    connection->answerer = (struct oct_answerer){0};
}

static void connection_free(struct oct_connection *connection) {
    OCT_CHECK(!connection->parsing);
    struct oct_connections *all = connection->all;
    TAILQ_REMOVE(&all->list, connection, link);
    all->count--;
    forget_request(connection);
    event_free(connection->deadline);
    bufferevent_free(connection->events); // closes the socket
    free(connection);
    if (all->on_close) all->on_close(all->on_close_context);
}

// The client is gone: tells whoever is answering, then frees.
static void lose(struct oct_connection *connection) {
    struct oct_answerer answerer = connection->answerer;
    connection->answerer = (struct oct_answerer){0};
    if (answerer.gone) answerer.gone(answerer.context);
    connection_free(connection);
}

// Closing a socket that holds unread bytes makes the kernel send a reset, which can overtake the reply: so the write side is closed
// first, and what the client still sends is read and thrown away for a while.
static void linger(struct oct_connection *connection) {
    if (connection->finished) return connection_free(connection);
    connection->phase = LINGERING;
    shutdown(bufferevent_getfd(connection->events), SHUT_WR);
    evbuffer_drain(bufferevent_get_input(connection->events), SIZE_MAX);
    set_deadline(connection, LINGER_TIMEOUT);
}

// ---- Replies.

static void write_text(struct oct_connection *connection, const char *text, size_t length) {
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
    write_text(connection, head.data, head.length);
    oct_buffer_free(&head);
}

void oct_reply_header(struct oct_connection *connection, const char *name, const char *value) {
    oct_buffer_printf(&connection->fields, "%s: %s\r\n", name, value);
}

void oct_reply(struct oct_connection *connection, int status, const char *content_type, const char *body, size_t length) {
    write_head(connection, status, content_type, (long long)length);
    if (!connection->is_head && length > 0) write_text(connection, body, length);
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
    if (connection->chunked) write_text(connection, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", length));
    write_text(connection, bytes, length);
    if (connection->chunked) write_text(connection, "\r\n", 2);
}

static void read_requests(struct oct_connection *connection);
static void finish(struct oct_connection *connection);

static void await_request(struct oct_connection *connection) {
    forget_request(connection);
    connection->phase = READING;
    set_deadline(connection, connection->all->limits.idle_timeout);
}

void oct_reply_end(struct oct_connection *connection) {
    OCT_CHECK(connection->replied && !connection->reply_ended);
    if (connection->chunked && !connection->is_head) write_text(connection, "0\r\n\r\n", 5);
    connection->reply_ended = true;
    connection->answerer = (struct oct_answerer){0};
    if (!connection->keep_alive || connection->overrun) {
        finish(connection); // output is never empty here: it goes on in on_writable, and the write timeout bounds it
    } else if (connection->message_done) {
        await_request(connection);
        if (!connection->parsing) read_requests(connection);
    }
}

void oct_connection_set_answerer(struct oct_connection *connection, const struct oct_answerer *answerer) {
    connection->answerer = *answerer;
}

bool oct_connection_is_full(const struct oct_connection *connection) {
    return evbuffer_get_length(bufferevent_get_output(connection->events)) > FULL_WATERMARK;
}

// The connection ends once what has been written is on its way.
static void finish(struct oct_connection *connection) {
    connection->keep_alive = false;
    connection->phase = FLUSHING;
    event_del(connection->deadline);
    if (evbuffer_get_length(bufferevent_get_output(connection->events)) == 0) linger(connection);
}

// A reply the connection makes itself, for a request that never became whole. May free the connection when the client has shut its side.
static void refuse(struct oct_connection *connection, int status) {
    evbuffer_drain(bufferevent_get_input(connection->events), SIZE_MAX);
    forget_body(connection);                            // its client may be slow to go, and others wait for the room
    if (connection->replied) return finish(connection); // refused at its head, and then the body was wrong too
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
        oct_buffer_printf(&message, "The header is too large: at most %zu bytes are accepted", limits->max_head_bytes);
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

// ---- Requests.

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
    forget_request(connection);
    set_deadline(connection, connection->all->limits.head_timeout);
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
        if (connection->num_headers == MAX_HEADERS) return fail(connection, 431);
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
    for (int i = 0; i < connection->num_headers; i++)
        if (!strcasecmp(connection->head.data + connection->headers[i].name, name))
            return connection->head.data + connection->headers[i].value;
    return NULL;
}

static int count_headers(const struct oct_connection *connection, const char *name) {
    int count = 0;
    for (int i = 0; i < connection->num_headers; i++) count += !strcasecmp(connection->head.data + connection->headers[i].name, name);
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
        set_deadline(connection, all->limits.body_timeout);
        return connection->keep_alive ? 0 : -1;
    }
    connection->keep_alive = keep_alive;
    if (expects) write_text(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    set_deadline(connection, all->limits.body_timeout);
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
    if (connection->phase == READING) refuse(connection, connection->refusal ? connection->refusal : 400);
    return false;
}

// Turns input into requests and has them answered, until one takes its time, input runs out, or the client does not read its replies.
static void read_requests(struct oct_connection *connection) {
    while (connection->phase == READING && !oct_connection_is_full(connection) && parse_some(connection)) {
        if (connection->phase != READING || !connection->message_done) continue;
        if (connection->replied) { // refused at its head; the body has been thrown away
            await_request(connection);
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

void oct_connections_release(struct oct_connections *connections, size_t body_bytes) {
    connections->body_bytes -= body_bytes;
}

const char *oct_connection_peer(const struct oct_connection *connection) {
    return connection->peer;
}

// ---- Events.

static void on_readable(struct bufferevent *events, void *context) {
    struct oct_connection *connection = context;
    struct evbuffer *input = bufferevent_get_input(events);
    // While a request is answered, reading goes on, for only reading tells that the client has left; a client that sends too much
    // meanwhile loses it.
    bool too_much = connection->phase == ANSWERING && evbuffer_get_length(input) >= READ_WATERMARK;
    connection->overrun |= too_much;
    if (connection->phase >= FLUSHING || too_much)
        evbuffer_drain(input, SIZE_MAX);
    else
        read_requests(connection);
}

static void on_writable(struct bufferevent *events, void *context) {
    struct oct_connection *connection = context;
    bool empty = evbuffer_get_length(bufferevent_get_output(events)) == 0;
    if (connection->phase == FLUSHING) {
        if (empty) linger(connection);
    } else if (connection->finished) {
        if (empty) lose(connection);
    } else if (connection->phase == ANSWERING) {
        if (connection->answerer.drained) connection->answerer.drained(connection->answerer.context);
    } else if (connection->phase == READING) {
        read_requests(connection);
    }
}

static void on_event(struct bufferevent *events, short what, void *context) {
    struct oct_connection *connection = context;
    bool only_finished = (what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING);
    connection->finished = true;
    // A client that has shut its side may still read what is on its way to it; one whose request is being worked on counts as gone.
    bool unsent = evbuffer_get_length(bufferevent_get_output(events)) > 0;
    if (only_finished && unsent && connection->phase != ANSWERING) return;
    lose(connection);
}

static void on_deadline(evutil_socket_t fd, short what, void *context) {
    (void)fd, (void)what;
    struct oct_connection *connection = context;
    bool in_request = connection->phase == READING && connection->target.length > 0;
    bool unsent = evbuffer_get_length(bufferevent_get_output(connection->events)) > 0;
    if (!in_request && unsent) return set_deadline(connection, connection->all->limits.idle_timeout); // not idle: it reads the last reply
    if (!in_request) return connection_free(connection);                                              // idle, or lingering
    refuse(connection, 408);
}

void oct_connections_accept(struct oct_connections *connections, evutil_socket_t fd, const struct sockaddr *address) {
    struct oct_connection *connection = oct_alloc(1, sizeof *connection, "a connection");
    connection->all = connections;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        port = ntohs(v6->sin6_port);
    }
    snprintf(connection->peer, sizeof connection->peer, "%s:%u", host, port & 0xffff);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->events = bufferevent_socket_new(connections->base, fd, BEV_OPT_CLOSE_ON_FREE);
    connection->deadline = evtimer_new(connections->base, on_deadline, connection);
    OCT_CHECK(connection->events && connection->deadline);
    llhttp_init(&connection->parser, HTTP_REQUEST, &connections->settings);
    connection->parser.data = connection;
    bufferevent_setcb(connection->events, on_readable, on_writable, on_event, connection);
    bufferevent_setwatermark(connection->events, EV_READ, 0, READ_WATERMARK);
    bufferevent_setwatermark(connection->events, EV_WRITE, DRAINED_WATERMARK, 0);
    struct timeval write_timeout = {
        .tv_sec = (time_t)connections->limits.write_timeout,
        .tv_usec = (suseconds_t)((connections->limits.write_timeout - (double)(time_t)connections->limits.write_timeout) * 1e6)};
    bufferevent_set_timeouts(connection->events, NULL, &write_timeout);
    TAILQ_INSERT_TAIL(&connections->list, connection, link);
    connections->count++;
    set_deadline(connection, connections->limits.head_timeout);
    bufferevent_enable(connection->events, EV_READ | EV_WRITE);
}

struct oct_connections *oct_connections_new(struct event_base *base, const struct oct_connection_limits *limits,
                                            const struct oct_connection_handler *handler) {
    struct oct_connections *connections = oct_alloc(1, sizeof *connections, "the connections");
    TAILQ_INIT(&connections->list);
    connections->base = base;
    connections->limits = *limits;
    connections->handler = *handler;
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
    return connections;
}

void oct_connections_free(struct oct_connections *connections) {
    if (!connections) return;
    connections->on_close = NULL;
    while (!TAILQ_EMPTY(&connections->list)) connection_free(TAILQ_FIRST(&connections->list));
    free(connections);
}

bool oct_connections_are_full(const struct oct_connections *connections) {
    return connections->count >= (size_t)connections->limits.max_connections;
}

size_t oct_connections_count(const struct oct_connections *connections) {
    return connections->count;
}

void oct_connections_on_close(struct oct_connections *connections, void (*closed)(void *context), void *context) {
    connections->on_close = closed;
    connections->on_close_context = context;
}

void oct_connections_drain(struct oct_connections *connections) {
    connections->draining = true;
    struct oct_connection *connection, *next;
    for (connection = TAILQ_FIRST(&connections->list); connection; connection = next) {
        next = TAILQ_NEXT(connection, link);
        bool between = connection->phase == READING && connection->target.length == 0;
        if (!between) continue;
        if (evbuffer_get_length(bufferevent_get_output(connection->events)) > 0)
            connection->phase = FLUSHING;
        else
            connection_free(connection);
    }
}
