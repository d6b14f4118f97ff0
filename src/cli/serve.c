// serve.c: `octavo serve`: opens an engine and serves it over HTTP until it is told to stop.
#include "base/log.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/interrupt.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct serve_options {
    const char *model, *host;
    int port, max_logprobs;
    double shutdown_timeout;
    struct oct_flag_list served_model_names, api_keys;
    bool enable_request_id_headers, enable_prompt_tokens_details, enable_force_include_usage, return_tokens_as_token_ids;
    bool disable_access_log, trust_request_chat_template;
    struct oct_chat_flags chat;
    struct oct_engine_flags engine;
    struct oct_ignored_flags ignored;
};

#define FIELD(name) offsetof(struct serve_options, name)

static const struct oct_flag flags[] = {
    {.name = "host",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(host),
     .metavar = "ADDRESS",
     .initial = "127.0.0.1",
     .help = "where to listen; 0.0.0.0 is every network"},
    {.name = "port", .type = OCT_FLAG_INT, .offset = FIELD(port), .min = 0, .max = 65535, .initial = "8000", .help = "0: any free one"},
    {.name = "served-model-name",
     .type = OCT_FLAG_LIST,
     .offset = FIELD(served_model_names),
     .metavar = "NAME",
     .help = "names that requests may use; the first one stands in answers (default: MODEL)"},
    {.name = "api-key",
     .type = OCT_FLAG_LIST,
     .offset = FIELD(api_keys),
     .metavar = "KEY",
     .help = "ask clients for one of these keys; the environment variable VLLM_API_KEY sets one otherwise"},
    {.name = "max-logprobs",
     .type = OCT_FLAG_INT,
     .offset = FIELD(max_logprobs),
     .min = -1,
     .max = 1 << 20,
     .initial = "20",
     .help = "most log-probabilities a request may ask for; -1: no limit"},
    {.name = "shutdown-timeout",
     .type = OCT_FLAG_REAL,
     .offset = FIELD(shutdown_timeout),
     .min = 0,
     .max = 86400,
     .metavar = "SECONDS",
     .initial = "0",
     .help = "time that running requests get to end after Ctrl-C or SIGTERM"},
    {.name = "enable-request-id-headers",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(enable_request_id_headers),
     .help = "answer with X-Request-Id"},
    {.name = "enable-prompt-tokens-details",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(enable_prompt_tokens_details),
     .help = "tell cached prompt tokens in usage"},
    {.name = "enable-force-include-usage",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(enable_force_include_usage),
     .help = "end every stream with usage"},
    {.name = "return-tokens-as-token-ids",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(return_tokens_as_token_ids),
     .help = "write tokens as token_id:N in log-probabilities"},
    {.name = "disable-uvicorn-access-log",
     .alias = "disable-access-log",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(disable_access_log),
     .help = "no log line for each request"},
    {.name = "trust-request-chat-template",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(trust_request_chat_template),
     .help = "let a request bring a chat template of its own"},
    {.name = "model", .type = OCT_FLAG_STRING, .offset = FIELD(model), .help = "another way to give MODEL"},
    {0},
};

static void print_engine(oct_engine *engine) {
    oct_engine_info info;
    oct_engine_get_info(engine, &info);
    fprintf(stderr, "octavo %s\n", oct_version());
    fprintf(stderr, "Model    %s: %s\n", info.model, info.description);
    fprintf(stderr, "Context  %d tokens; KV blocks hold %d tokens\n", info.max_model_len, info.num_blocks * info.block_size);
    fprintf(stderr, "Memory   weights %.1f MiB, KV blocks %.1f MiB\n", (double)info.weight_bytes / 0x1p20,
            (double)info.kv_cache_bytes / 0x1p20);
}

static oct_status serve(const struct serve_options *options, oct_engine *engine, oct_error *err) {
    const char *environment_key = getenv("VLLM_API_KEY");
    struct oct_server_options server = {
        .host = options->host,
        .port = options->port ? options->port : -1,
        .served_model_names = options->served_model_names.items,
        .num_served_model_names = options->served_model_names.count,
        .api_keys = options->api_keys.items,
        .num_api_keys = options->api_keys.count,
        .max_logprobs = options->max_logprobs,
        .shutdown_timeout = options->shutdown_timeout,
        .enable_request_id_headers = options->enable_request_id_headers,
        .enable_prompt_tokens_details = options->enable_prompt_tokens_details,
        .enable_force_include_usage = options->enable_force_include_usage,
        .return_tokens_as_token_ids = options->return_tokens_as_token_ids,
        .disable_access_log = options->disable_access_log,
        .trust_request_chat_template = options->trust_request_chat_template,
        .allow_special_tokens_in_messages = options->chat.allow_special_tokens_in_messages,
        .chat_template_content_format = options->chat.content_format,
        .default_chat_template_kwargs = options->chat.template_kwargs,
    };
    if (!server.num_api_keys && environment_key && *environment_key) {
        server.api_keys = &environment_key;
        server.num_api_keys = 1;
    }
    return oct_server_run(engine, &server, err);
}

static oct_status run(const void *given, oct_error *err) {
    const struct serve_options *options = given;
    OCT_TRY(oct_chat_flags_check(&options->chat, err));
    oct_log_set_level(OCT_LOG_INFO);
    oct_interrupt_catch(); // until the server takes the signals over
    oct_engine *engine;
    struct oct_engine_flags engine_flags = options->engine;
    engine_flags.warm_up = true;
    OCT_TRY(oct_engine_flags_open(&engine_flags, options->model, &engine, err));
    print_engine(engine);
    oct_status status = oct_interrupted() ? oct_fail(err, OCT_CANCELLED, "interrupted") : serve(options, engine, err);
    return oct_engine_flags_close(&options->engine, engine, status, err);
}

const struct oct_command oct_command_serve = {
    .name = "serve",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "serve a model over HTTP, as the OpenAI API does",
    .details = "  octavo serve smollm2\n"
               "  QUANT_CONFIG=out/llama/maxabs_quant_g3.json octavo serve ./llama --quantization inc --kv-cache-dtype fp8_inc\n"
               "\n"
               "  VLLM_SKIP_WARMUP=true                  serve at once: the first requests then wait for memory\n"
               "  VLLM_ENGINE_ITERATION_TIMEOUT_S=60     a step that takes longer fails its requests; /health then answers 503\n",
    .options_size = sizeof(struct serve_options),
    .groups = {{"Server", flags, 0},
               {"Chat template", oct_chat_flag_table, FIELD(chat)},
               {"Model", oct_model_flag_table, FIELD(engine)},
               {"Engine", oct_engine_flag_table, FIELD(engine)},
               {"Accepted without effect", oct_ignored_flag_table, FIELD(ignored)}},
    .run = run,
};
