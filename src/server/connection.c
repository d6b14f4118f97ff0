// connection.c: one client's socket: keep-alive, deadlines, limits and back pressure; it lives until the client leaves or is given up.
#include "base/error.h"
#include "base/memory.h"
#include "server/connection_state.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    READ_WATERMARK = 64 << 10,  // bytes kept unparsed while a request is being answered
    FULL_WATERMARK = 256 << 10, // bytes of unsent reply from which oct_connection_is_full holds
    DRAINED_WATERMARK = 32 << 10,
};
static const double LINGER_TIMEOUT = 2; // seconds to let the client read a reply that came before all of its request was read

void oct_connection_set_deadline(struct oct_connection *connection, double seconds) {
    struct timeval time = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    event_add(connection->deadline, &time);
}

void oct_connection_forget_body(struct oct_connection *connection) {
    connection->all->body_bytes -= connection->body.length;
    oct_buffer_free(&connection->body);
}

void oct_connection_forget_request(struct oct_connection *connection) {
    oct_connection_forget_body(connection);
    oct_buffer_free(&connection->head);
    oct_buffer_free(&connection->target);
    oct_buffer_free(&connection->fields);
    connection->head_bytes = 0;
    free(connection->headers);
    connection->headers = NULL;
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
    oct_connection_forget_request(connection);
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
    oct_connection_set_deadline(connection, LINGER_TIMEOUT);
}

void oct_connection_await_request(struct oct_connection *connection) {
    oct_connection_forget_request(connection);
    connection->phase = READING;
    oct_connection_set_deadline(connection, connection->all->limits.idle_timeout);
}

void oct_connection_set_answerer(struct oct_connection *connection, const struct oct_answerer *answerer) {
    connection->answerer = *answerer;
}

bool oct_connection_is_full(const struct oct_connection *connection) {
    return evbuffer_get_length(bufferevent_get_output(connection->events)) > FULL_WATERMARK;
}

void oct_connection_finish(struct oct_connection *connection) {
    connection->keep_alive = false;
    connection->phase = FLUSHING;
    event_del(connection->deadline);
    if (evbuffer_get_length(bufferevent_get_output(connection->events)) == 0) linger(connection);
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
        oct_connection_read_requests(connection);
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
        oct_connection_read_requests(connection);
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
    if (!in_request && unsent)
        return oct_connection_set_deadline(connection, connection->all->limits.idle_timeout); // not idle: it reads the last reply
    if (!in_request) return connection_free(connection);                                      // idle, or lingering
    oct_connection_refuse(connection, 408);
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
    oct_connection_set_deadline(connection, connections->limits.head_timeout);
    bufferevent_enable(connection->events, EV_READ | EV_WRITE);
}

struct oct_connections *oct_connections_new(struct event_base *base, const struct oct_connection_limits *limits,
                                            const struct oct_connection_handler *handler) {
    struct oct_connections *connections = oct_alloc(1, sizeof *connections, "the connections");
    TAILQ_INIT(&connections->list);
    connections->base = base;
    connections->limits = *limits;
    connections->handler = *handler;
    oct_connection_init_parser(connections);
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
