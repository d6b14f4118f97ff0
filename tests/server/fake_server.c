// fake_server.c: the server over the fake engine, for the tests of this folder. Flags: --name value, as in struct oct_server_options.
// Prints "listening PORT" to standard output when clients can connect.

#include "base/log.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_listening(void *context, const char *host, int port) {
    (void)context, (void)host;
    printf("listening %d\n", port);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const char *names[8], *keys[8];
    struct oct_server_options options = {.port = -1, .listening = on_listening, .served_model_names = names, .api_keys = keys};
    oct_log_set_level(OCT_LOG_INFO);
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--name")) names[options.num_served_model_names++] = value;
        if (!strcmp(name, "--api-key")) keys[options.num_api_keys++] = value;
        if (!strcmp(name, "--host")) options.host = value;
        if (!strcmp(name, "--shutdown-timeout")) options.shutdown_timeout = atof(value);
        if (!strcmp(name, "--idle-timeout")) options.idle_timeout = atof(value);
        if (!strcmp(name, "--head-timeout")) options.head_timeout = atof(value);
        if (!strcmp(name, "--body-timeout")) options.body_timeout = atof(value);
        if (!strcmp(name, "--write-timeout")) options.write_timeout = atof(value);
        if (!strcmp(name, "--max-body")) options.max_body_bytes = strtoul(value, NULL, 10);
        if (!strcmp(name, "--max-connections")) options.max_connections = atoi(value);
        if (!strcmp(name, "--sse-keep-alive")) options.sse_keep_alive_interval = atof(value);
        if (!strcmp(name, "--request-id-headers")) options.enable_request_id_headers = true;
        if (!strcmp(name, "--trust-request-chat-template")) options.trust_request_chat_template = true;
        if (!strcmp(name, "--allow-special-tokens-in-messages")) options.allow_special_tokens_in_messages = true;
        if (!strcmp(name, "--content-format")) options.chat_template_content_format = value;
        if (!strcmp(name, "--default-chat-template-kwargs")) options.default_chat_template_kwargs = value;
        if (!strcmp(name, "--prompt-tokens-details")) options.enable_prompt_tokens_details = true;
    }
    oct_engine *engine;
    oct_error err;
    if (oct_engine_open(&(oct_engine_options){0}, &engine, &err) != OCT_OK) return 2;
    oct_status status = oct_server_run(engine, &options, &err);
    if (status != OCT_OK) fprintf(stderr, "%s\n", err.message);
    if (oct_engine_close(engine, &err) != OCT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 3;
    }
    return status == OCT_OK ? 0 : 1;
}
