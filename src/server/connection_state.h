// connection_state.h: what connection.c (the socket and its dangers), request.c (bytes to requests) and reply.c (replies to bytes) share
// of one connection. Nobody else looks inside.
#pragma once

#include "server/connection.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <llhttp.h>
#include <sys/queue.h>

enum oct_phase {
    READING,   // waiting for, or in the middle of, a request
    ANSWERING, // a whole request is there and its reply has not ended
    FLUSHING,  // the last reply has ended; its bytes are on their way
    LINGERING  // nothing more will be sent; what still comes in is thrown away
};

struct oct_header {
    size_t name, value; // offsets of NUL-terminated strings in `head`
};

struct oct_connection {
    TAILQ_ENTRY(oct_connection) link;
    struct oct_connections *all;
    struct bufferevent *events;
    struct event *deadline;
    char peer[INET6_ADDRSTRLEN + 8];

    llhttp_t parser;
    enum oct_phase phase;
    bool parsing;  // llhttp is on the stack
    bool finished; // the client will send no more
    bool overrun;  // it sent so much ahead that some was thrown away: the present reply is the last
    // The request.
    struct oct_buffer head, target; // header strings; the request target, cut at '?' when complete
    size_t head_bytes;              // as they came
    struct oct_header *headers;     // (num_headers) owned
    size_t num_headers;
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

// connection.c
void oct_connection_set_deadline(struct oct_connection *connection, double seconds);
void oct_connection_forget_body(struct oct_connection *connection);
void oct_connection_forget_request(struct oct_connection *connection);
// Keep-alive: the reply has ended, and the next request may come.
void oct_connection_await_request(struct oct_connection *connection);
// The connection ends once what has been written is on its way. May free it.
void oct_connection_finish(struct oct_connection *connection);

// request.c
void oct_connection_init_parser(struct oct_connections *connections);
// Turns input into requests and has them answered, until one takes its time, input runs out, or the client does not read its replies.
void oct_connection_read_requests(struct oct_connection *connection);

// reply.c
void oct_connection_write(struct oct_connection *connection, const char *bytes, size_t length);
// A reply the connection makes itself, for a request that never became whole. May free the connection when the client has shut its side.
void oct_connection_refuse(struct oct_connection *connection, int status);
