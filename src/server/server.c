// server.c: listening, signals, and the order in which things start and end.
#include "server/server.h"

#include "base/log.h"
#include "base/memory.h"
#include "server/generation.h"
#include "server/route.h"
#include "server/serving.h"

#include <errno.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ABORT_TIME = 2;     // seconds that clients get to read their last bytes after an abort
static const double ACCEPT_PAUSE = 0.1; // seconds without accepting after the system ran out of descriptors

struct server {
    struct oct_serving serving;
    struct evconnlistener *listener; // NULL once stopping
    struct event *signals[2];        // SIGINT, SIGTERM
    struct event *stop_timer;        // the end of the shutdown timeout, then of ABORT_TIME
    struct event *accept_timer;
    bool aborted;
};

static void arm(struct event *timer, double seconds) {
    struct timeval time = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    event_add(timer, &time);
}

// ---- Accepting.

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int length, void *context) {
    (void)length;
    struct server *server = context;
    oct_connections_accept(server->serving.connections, fd, address);
    if (oct_connections_are_full(server->serving.connections)) evconnlistener_disable(listener); // the others wait in the kernel's queue
}

static void on_accept_error(struct evconnlistener *listener, void *context) {
    struct server *server = context;
    oct_log(OCT_LOG_WARNING, "cannot accept a connection: %s", strerror(errno));
    evconnlistener_disable(listener);
    arm(server->accept_timer, ACCEPT_PAUSE);
}

static void resume_accepting(evutil_socket_t fd, short what, void *context) {
    (void)fd, (void)what;
    struct server *server = context;
    if (server->listener && !oct_connections_are_full(server->serving.connections)) evconnlistener_enable(server->listener);
}

// ---- Stopping.

static void leave_when_idle(struct server *server) {
    bool idle = TAILQ_EMPTY(&server->serving.generations) && oct_connections_count(server->serving.connections) == 0;
    if (server->serving.stopping && idle) event_base_loopexit(server->serving.base, NULL);
}

static void on_connection_closed(void *context) {
    struct server *server = context;
    resume_accepting(-1, 0, server);
    leave_when_idle(server);
}

static void on_generation_ended(struct oct_serving *serving) {
    leave_when_idle((struct server *)(void *)((char *)serving - offsetof(struct server, serving)));
}

static void abort_running(struct server *server) {
    server->aborted = true;
    oct_generations_abort(&server->serving);
    arm(server->stop_timer, ABORT_TIME);
}

static void on_stop_timer(evutil_socket_t fd, short what, void *context) {
    (void)fd, (void)what;
    struct server *server = context;
    if (server->aborted) {
        event_base_loopexit(server->serving.base, NULL);
        return;
    }
    oct_log(OCT_LOG_WARNING, "the shutdown timeout is over: running requests are aborted");
    abort_running(server);
}

static void on_signal(evutil_socket_t number, short what, void *context) {
    (void)what;
    struct server *server = context;
    if (server->serving.stopping) {
        oct_log(OCT_LOG_WARNING, "second signal: leaving at once");
        event_base_loopbreak(server->serving.base);
        return;
    }
    oct_log(OCT_LOG_INFO, "%s: shutting down", number == SIGINT ? "SIGINT" : "SIGTERM");
    server->serving.stopping = true;
    evconnlistener_free(server->listener);
    server->listener = NULL;
    if (server->serving.options.shutdown_timeout > 0)
        arm(server->stop_timer, server->serving.options.shutdown_timeout);
    else
        abort_running(server);
    oct_connections_drain(server->serving.connections);
    leave_when_idle(server);
}

// ---- Starting.

static void fill_defaults(struct oct_server_options *options) {
    if (!options->host) options->host = "127.0.0.1";
    if (options->port == 0) options->port = 8000;
    if (options->max_logprobs == 0) options->max_logprobs = 20;
    if (options->idle_timeout <= 0) options->idle_timeout = 5;
    if (options->head_timeout <= 0) options->head_timeout = 10;
    if (options->body_timeout <= 0) options->body_timeout = 60;
    if (options->write_timeout <= 0) options->write_timeout = 60;
    if (options->max_head_bytes == 0) options->max_head_bytes = 64 << 10;
    if (options->max_headers == 0) options->max_headers = 256;
    if (options->max_body_bytes == 0) options->max_body_bytes = 16 << 20;
    if (options->max_connections <= 0) options->max_connections = 1024;
    if (options->text_threads <= 0) options->text_threads = 2;
}

static oct_status listen_on(struct server *server, oct_error *err) {
    struct oct_server_options *options = &server->serving.options;
    char service[16];
    snprintf(service, sizeof service, "%d", options->port < 0 ? 0 : options->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    int problem = getaddrinfo(options->host, service, &hints, &found);
    if (problem) return oct_fail(err, OCT_INVALID_ARGUMENT, "host %s, port %d: %s", options->host, options->port, gai_strerror(problem));
    const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    for (struct addrinfo *at = found; at && !server->listener; at = at->ai_next)
        server->listener = evconnlistener_new_bind(server->serving.base, on_accept, server, flags, 1024, at->ai_addr, (int)at->ai_addrlen);
    freeaddrinfo(found);
    if (!server->listener) return oct_fail(err, OCT_IO, "cannot listen on %s port %d: %s", options->host, options->port, strerror(errno));
    evconnlistener_set_error_cb(server->listener, on_accept_error);

    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    OCT_CHECK(getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)(void *)&bound, &length) == 0);
    options->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                                      : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    return OCT_OK;
}

// Characters of the longest token. An engine that cannot say is given a generous one.
static int find_longest_token(oct_engine *engine, int vocab_size) {
    int longest = 0;
    for (int32_t id = 0; id < vocab_size; id++) {
        char *text;
        size_t length;
        oct_error err;
        if (oct_detokenize(engine, &id, 1, false, &text, &length, &err) != OCT_OK) continue;
        int characters = 0;
        for (size_t i = 0; i < length; i++) characters += ((unsigned char)text[i] & 0xc0) != 0x80;
        if (characters > longest) longest = characters;
        oct_free(text);
    }
    return longest > 0 ? longest : 256;
}

static uint32_t hash(const char *text) { // FNV-1a: the fingerprint only has to differ between configurations
    uint32_t h = 2166136261U;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 16777619U;
    return h;
}

static void describe_engine(struct oct_serving *serving) {
    oct_engine_get_info(serving->engine, &serving->engine_info);
    const struct oct_server_options *options = &serving->options;
    serving->model = options->num_served_model_names > 0 ? options->served_model_names[0] : serving->engine_info.model;
    serving->started = time(NULL);
    serving->longest_token = find_longest_token(serving->engine, serving->engine_info.vocab_size);
    const char *description = serving->engine_info.description ? serving->engine_info.description : "";
    snprintf(serving->fingerprint, sizeof serving->fingerprint, "octavo-%.16s-%08x", oct_version(), hash(description));
}

static void open_connections(struct oct_serving *serving) {
    const struct oct_server_options *options = &serving->options;
    struct oct_connection_limits limits = {
        .max_head_bytes = options->max_head_bytes,
        .max_headers = options->max_headers,
        .max_body_bytes = options->max_body_bytes,
        .max_total_bytes = options->max_body_bytes > (SIZE_MAX >> 4) ? SIZE_MAX : options->max_body_bytes * 16,
        .max_connections = options->max_connections,
        .idle_timeout = options->idle_timeout,
        .head_timeout = options->head_timeout,
        .body_timeout = options->body_timeout,
        .write_timeout = options->write_timeout,
        .log_requests = !options->disable_access_log,
    };
    struct oct_connection_handler handler = {.admit = oct_route_admit, .handle = oct_route_handle, .context = serving};
    serving->connections = oct_connections_new(serving->base, &limits, &handler);
}

static oct_status serve(struct server *server, oct_error *err) {
    struct oct_serving *serving = &server->serving;
    OCT_TRY(oct_mailbox_open(serving->base, &serving->mailbox, err));
    OCT_TRY(oct_text_pool_open(serving->options.text_threads, serving->mailbox, &serving->text_pool, err));
    describe_engine(serving);
    open_connections(serving);
    oct_connections_on_close(serving->connections, on_connection_closed, server);
    server->stop_timer = evtimer_new(serving->base, on_stop_timer, server);
    server->accept_timer = evtimer_new(serving->base, resume_accepting, server);
    const int numbers[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        server->signals[i] = evsignal_new(serving->base, numbers[i], on_signal, server);
        if (!server->signals[i] || event_add(server->signals[i], NULL) != 0) return oct_fail(err, OCT_IO, "cannot watch signals");
    }
    OCT_TRY(listen_on(server, err));
    const struct oct_server_options *options = &serving->options;
    oct_log(OCT_LOG_INFO, "serving %s on http://%s:%d", serving->model, options->host, options->port);
    if (options->listening) options->listening(options->listening_context, options->host, options->port);
    if (event_base_dispatch(serving->base) < 0) return oct_fail(err, OCT_IO, "the event loop failed: %s", strerror(errno));
    return OCT_OK;
}

oct_status oct_server_run(oct_engine *engine, const struct oct_server_options *options, oct_error *err) {
    struct server *server = oct_alloc(1, sizeof *server, "the server");
    struct oct_serving *serving = &server->serving;
    serving->engine = engine;
    serving->options = *options;
    serving->generation_ended = on_generation_ended;
    fill_defaults(&serving->options);
    TAILQ_INIT(&serving->generations);
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGPIPE, &ignore, &before); // a client that leaves while we write is an error of that write, not of the process
    serving->base = event_base_new();
    oct_status status = serving->base ? serve(server, err) : oct_fail(err, OCT_IO, "cannot start an event loop");

    if (server->listener) evconnlistener_free(server->listener);
    oct_text_pool_close(serving->text_pool);
    oct_generations_free(serving); // their connections are not told
    oct_connections_free(serving->connections);
    oct_mailbox_close(serving->mailbox);
    struct event *events[] = {server->signals[0], server->signals[1], server->stop_timer, server->accept_timer};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) event_free(events[i]);
    if (serving->base) event_base_free(serving->base);
    sigaction(SIGPIPE, &before, NULL);
    free(server);
    return status;
}
