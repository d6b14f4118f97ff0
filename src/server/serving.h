// serving.h: the one object behind a running server, which handlers find everything through.
#pragma once

#include "octavo.h"
#include "server/connection.h"
#include "server/mailbox.h"
#include "server/server.h"
#include "server/text_pool.h"

#include <event2/event.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

struct oct_generation;

struct oct_serving {
    oct_engine *engine;                // the caller's
    struct oct_server_options options; // defaults filled in
    oct_engine_info engine_info;
    const char *model;    // the name printed in answers
    char fingerprint[64]; // system_fingerprint
    time_t started;
    int longest_token; // characters of the longest token of the vocabulary: bounds the tokens of a text from below
    struct event_base *base;
    struct oct_mailbox *mailbox;
    struct oct_text_pool *text_pool;
    struct oct_connections *connections;
    TAILQ_HEAD(, oct_generation) generations;              // being prepared, running, or waiting for the engine to let go
    bool stopping;                                         // a signal has come
    void (*generation_ended)(struct oct_serving *serving); // one has left the list
    uint64_t finished[OCT_FINISH_REPETITION + 1];          // sequences by oct_finish
};
