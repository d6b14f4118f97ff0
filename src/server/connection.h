// connection.h: one client's socket. Bytes become requests (llhttp parses), replies become bytes. Knows HTTP and its dangers (limits,
// deadlines, slow readers, clients that leave), nothing of models. Requests of one connection are answered one after another.
// Everything here runs on the loop thread.
#pragma once

#include "base/buffer.h"

#include <event2/event.h>
#include <event2/util.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct oct_connection;

// Where the reply to a request comes from. Both functions run before the reply has ended.
struct oct_answerer {
    void (*drained)(void *context); // the client has read enough: oct_connection_is_full no longer holds. May be NULL
    void (*gone)(void *context);    // the client left; the connection must not be used any more. May be NULL
    void *context;
};

struct oct_connection_limits {
    size_t max_head_bytes;  // request line and header fields
    size_t max_headers;     // header fields
    size_t max_body_bytes;  // of one request
    size_t max_total_bytes; // of the bodies of all connections
    int max_connections;
    double idle_timeout;  // seconds to wait for the next request
    double head_timeout;  // seconds from the first byte of a request (or the connection's start) to the end of its head
    double body_timeout;  // seconds from the end of the head to the end of the body
    double write_timeout; // seconds without a byte taken by the client
    bool log_requests;    // a line for each reply
};

struct oct_connection_handler {
    // The head is there, the body is not. May reply (then the body is thrown away).
    void (*admit)(struct oct_connection *connection, void *context);
    // The request is complete. Replies now, or sets an answerer and replies later.
    void (*handle)(struct oct_connection *connection, void *context);
    void *context;
};

struct oct_connections; // all of one server

struct oct_connections *oct_connections_new(struct event_base *base, const struct oct_connection_limits *limits,
                                            const struct oct_connection_handler *handler);
// Closes every connection; answerers are not told.
void oct_connections_free(struct oct_connections *connections);
void oct_connections_accept(struct oct_connections *connections, evutil_socket_t fd, const struct sockaddr *address);
bool oct_connections_are_full(const struct oct_connections *connections);
// From now on every reply closes its connection; connections between requests close at once.
void oct_connections_drain(struct oct_connections *connections);
void oct_connections_release(struct oct_connections *connections, size_t body_bytes);
size_t oct_connections_count(const struct oct_connections *connections);
// Called (on the loop thread) after a connection has closed. May be NULL.
void oct_connections_on_close(struct oct_connections *connections, void (*closed)(void *context), void *context);

// The request that is being answered. Strings live until its reply ends.
const char *oct_request_method(const struct oct_connection *connection);
const char *oct_request_path(const struct oct_connection *connection);                     // without the query
const char *oct_request_header(const struct oct_connection *connection, const char *name); // NULL when absent; any case
// The caller's now. Its length counts towards max_total_bytes until the caller gives that back with oct_connections_release.
struct oct_buffer oct_request_take_body(struct oct_connection *connection);
const char *oct_connection_peer(const struct oct_connection *connection); // "127.0.0.1:40404"

// The reply: header fields first, then either one body, or a stream of chunks and its end.
void oct_reply_header(struct oct_connection *connection, const char *name, const char *value);
void oct_reply(struct oct_connection *connection, int status, const char *content_type, const char *body, size_t length);
void oct_reply_stream(struct oct_connection *connection, int status, const char *content_type);
void oct_reply_chunk(struct oct_connection *connection, const char *bytes, size_t length);
void oct_reply_end(struct oct_connection *connection);
const char *oct_http_phrase(int status);

void oct_connection_set_answerer(struct oct_connection *connection, const struct oct_answerer *answerer);
// The client does not read as fast as the reply is written: write no more until `drained`.
bool oct_connection_is_full(const struct oct_connection *connection);
