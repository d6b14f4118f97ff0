// server.h: serves an engine over HTTP/1.1 with vLLM's OpenAI-compatible endpoints.
#pragma once

#include "octavo.h"

#include <stdbool.h>
#include <stddef.h>

// Zero-initialise: zero means the default in each field. Strings must live as long as oct_server_run.
struct oct_server_options {
    const char *host;                      // address or name to bind; NULL: 127.0.0.1
    int port;                              // 0: 8000; -1: a free one
    const char *const *served_model_names; // (num_served_model_names) the first is the one printed in answers; none: the engine's model
    size_t num_served_model_names;
    const char *const *api_keys; // (num_api_keys) none: no key is asked for
    size_t num_api_keys;
    int max_logprobs;        // 0: 20; -1: as many as the vocabulary has
    double shutdown_timeout; // seconds that running requests get after SIGINT or SIGTERM; 0: they are aborted at once
    bool enable_request_id_headers, enable_prompt_tokens_details, enable_force_include_usage, return_tokens_as_token_ids; // as vLLM's flags
    bool disable_access_log;
    bool trust_request_chat_template;                             // a request may bring a template of its own
    bool allow_special_tokens_in_messages;                        // as in oct_chat_options
    const char *chat_template_content_format;                     // as in oct_chat_options
    const char *default_chat_template_kwargs;                     // JSON object; what a request names itself comes before. NULL: none
    double sse_keep_alive_interval;                               // seconds between comments in a stream that has nothing to say; 0: none
    double idle_timeout;                                          // seconds a connection may wait for its next request; 0: 5
    double head_timeout;                                          // seconds in which the head of a request must arrive; 0: 10
    double body_timeout;                                          // seconds in which its body must arrive; 0: 60
    double write_timeout;                                         // seconds after which a client that reads nothing is given up; 0: 60
    size_t max_head_bytes;                                        // 0: 64 KiB
    size_t max_headers;                                           // header fields of a request; 0: 256
    size_t max_body_bytes;                                        // 0: 16 MiB
    int max_connections;                                          // 0: 1024; more wait in the listen queue
    int text_threads;                                             // threads that parse bodies, render templates and tokenize; 0: 2
    void (*listening)(void *context, const char *host, int port); // called when clients can connect. May be NULL
    void *listening_context;
};

// Listens and serves until SIGINT or SIGTERM: then no new connection is accepted, running requests get shutdown_timeout seconds to end,
// and the function returns; a second signal returns at once. The engine stays open; it is the caller's to close.
oct_status oct_server_run(oct_engine *engine, const struct oct_server_options *options, oct_error *err);
