// route.c: a table of paths. Who may not come in is refused at the head of a request, before its body is read.
#include "server/route.h"

#include "server/api_error.h"
#include "server/generation.h"
#include "server/metrics.h"
#include "server/models.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum { GET = 1, POST = 2 };

struct route {
    const char *path;
    int methods; // GET, POST or both
    void (*handle)(struct oct_serving *serving, struct oct_connection *connection);
};

static const struct route routes[] = {
    {"/health", GET, oct_serve_health},
    {"/ping", GET | POST, oct_serve_health},
    {"/version", GET, oct_serve_version},
    {"/load", GET, oct_serve_load},
    {"/metrics", GET | POST, oct_serve_metrics},
    {"/v1/models", GET, oct_serve_models},
    {"/tokenize", POST, oct_serve_tokenize},
    {"/detokenize", POST, oct_serve_detokenize},
    {"/v1/completions", POST, oct_serve_completions},
    {"/v1/chat/completions", POST, oct_serve_chat_completions},
};

static const struct route *find_route(const char *path, size_t length) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strlen(routes[i].path) == length && !memcmp(routes[i].path, path, length)) return &routes[i];
    return NULL;
}

// Takes the same time wherever the first difference is.
static bool equal_in_constant_time(const char *secret, const char *given) {
    size_t secret_length = strlen(secret), given_length = strlen(given);
    volatile unsigned char difference = secret_length != given_length;
    for (size_t i = 0; i < given_length; i++)
        difference |= (unsigned char)given[i] ^ (unsigned char)(secret_length ? secret[i % secret_length] : 0);
    return difference == 0;
}

static bool is_authorized(const struct oct_serving *serving, const struct oct_connection *connection) {
    const char *given = oct_request_header(connection, "authorization");
    if (!given || strncasecmp(given, "Bearer ", 7) != 0) return false;
    bool found = false;
    for (size_t i = 0; i < serving->options.num_api_keys; i++) found |= equal_in_constant_time(serving->options.api_keys[i], given + 7);
    return found;
}

static void reply_detail(struct oct_connection *connection, int status, const char *text) {
    struct oct_api_error error = {0};
    oct_api_fail_detail(&error, status, text);
    oct_api_error_reply(&error, connection);
    oct_api_error_free(&error);
}

// vLLM's --enable-request-id-headers: the client's id comes back, or a new one.
static void add_request_id(struct oct_connection *connection) {
    const char *given = oct_request_header(connection, "x-request-id");
    if (given) return oct_reply_header(connection, "x-request-id", given);
    unsigned char bytes[16];
    char text[33];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return;
    for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    oct_reply_header(connection, "x-request-id", text);
}

void oct_route_admit(struct oct_connection *connection, void *context) {
    struct oct_serving *serving = context;
    const char *path = oct_request_path(connection), *method = oct_request_method(connection);
    size_t length = strlen(path);
    if (serving->options.enable_request_id_headers) add_request_id(connection);
    if (serving->options.num_api_keys > 0 && !strncmp(path, "/v1", 3) && !is_authorized(serving, connection)) {
        static const char text[] = "{\"error\":\"Unauthorized\"}";
        return oct_reply(connection, 401, "application/json", text, sizeof text - 1);
    }
    const struct route *route = find_route(path, length);
    if (!route && length > 1 && path[length - 1] == '/' && (route = find_route(path, length - 1))) {
        oct_reply_header(connection, "location", route->path);
        return oct_reply(connection, 307, NULL, NULL, 0);
    }
    if (!route) return reply_detail(connection, 404, "Not Found");
    int asked = !strcmp(method, "GET") ? GET : !strcmp(method, "POST") ? POST : 0;
    if (route->methods & asked) return;
    oct_reply_header(connection, "allow", route->methods == GET ? "GET" : route->methods == POST ? "POST" : "GET, POST");
    reply_detail(connection, 405, "Method Not Allowed");
}

void oct_route_handle(struct oct_connection *connection, void *context) {
    const char *path = oct_request_path(connection);
    find_route(path, strlen(path))->handle(context, connection);
}
