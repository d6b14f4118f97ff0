// models.c: what a server says of itself: health, version, load, and the names it serves.
#include "server/models.h"

#include "server/json_writer.h"
#include "server/openai_response.h"

#include <string.h>

static void reply_json(struct oct_connection *connection, struct oct_json_writer *writer) {
    oct_reply(connection, 200, "application/json", writer->out.data, writer->out.length);
    oct_buffer_free(&writer->out);
}

void oct_serve_health(struct oct_serving *serving, struct oct_connection *connection) {
    oct_reply(connection, oct_engine_is_healthy(serving->engine) ? 200 : 503, NULL, NULL, 0);
}

void oct_serve_version(struct oct_serving *serving, struct oct_connection *connection) {
    (void)serving;
    struct oct_json_writer writer = {0};
    oct_json_open(&writer, '{');
    oct_json_key(&writer, "version");
    oct_json_text(&writer, oct_version());
    oct_json_close(&writer, '}');
    reply_json(connection, &writer);
}

void oct_serve_load(struct oct_serving *serving, struct oct_connection *connection) {
    oct_engine_stats stats;
    oct_engine_get_stats(serving->engine, &stats);
    struct oct_json_writer writer = {0};
    oct_json_open(&writer, '{');
    oct_json_key(&writer, "server_load");
    oct_json_integer(&writer, stats.running + stats.waiting);
    oct_json_close(&writer, '}');
    reply_json(connection, &writer);
}

static void write_permission(struct oct_json_writer *writer, time_t created) {
    char id[OCT_ID_SIZE];
    oct_new_id("modelperm-", id);
    oct_json_open(writer, '{');
    oct_json_key(writer, "id");
    oct_json_text(writer, id);
    oct_json_key(writer, "object");
    oct_json_text(writer, "model_permission");
    oct_json_key(writer, "created");
    oct_json_integer(writer, created);
    static const struct {
        const char *name;
        bool value;
    } rights[] = {{"allow_create_engine", false},  {"allow_sampling", true}, {"allow_logprobs", true},
                  {"allow_search_indices", false}, {"allow_view", true},     {"allow_fine_tuning", false}};
    for (size_t i = 0; i < sizeof rights / sizeof *rights; i++) {
        oct_json_key(writer, rights[i].name);
        oct_json_bool(writer, rights[i].value);
    }
    oct_json_key(writer, "organization");
    oct_json_text(writer, "*");
    oct_json_key(writer, "group");
    oct_json_null(writer);
    oct_json_key(writer, "is_blocking");
    oct_json_bool(writer, false);
    oct_json_close(writer, '}');
}

void oct_serve_models(struct oct_serving *serving, struct oct_connection *connection) {
    struct oct_json_writer writer = {0};
    oct_json_open(&writer, '{');
    oct_json_key(&writer, "object");
    oct_json_text(&writer, "list");
    oct_json_key(&writer, "data");
    oct_json_open(&writer, '[');
    size_t names = serving->options.num_served_model_names;
    for (size_t i = 0; i < (names ? names : 1); i++) {
        oct_json_open(&writer, '{');
        oct_json_key(&writer, "id");
        oct_json_text(&writer, names ? serving->options.served_model_names[i] : serving->model);
        oct_json_key(&writer, "object");
        oct_json_text(&writer, "model");
        oct_json_key(&writer, "created");
        oct_json_integer(&writer, serving->started);
        oct_json_key(&writer, "owned_by");
        oct_json_text(&writer, "octavo");
        oct_json_key(&writer, "root");
        oct_json_text(&writer, serving->engine_info.model);
        oct_json_key(&writer, "parent");
        oct_json_null(&writer);
        oct_json_key(&writer, "max_model_len");
        oct_json_integer(&writer, serving->engine_info.max_model_len);
        oct_json_key(&writer, "permission");
        oct_json_open(&writer, '[');
        write_permission(&writer, serving->started);
        oct_json_close(&writer, ']');
        oct_json_close(&writer, '}');
    }
    oct_json_close(&writer, ']');
    oct_json_close(&writer, '}');
    reply_json(connection, &writer);
}

bool oct_serves_model(const struct oct_serving *serving, const char *model) {
    if (!model || !*model) return true;
    for (size_t i = 0; i < serving->options.num_served_model_names; i++)
        if (!strcmp(serving->options.served_model_names[i], model)) return true;
    return serving->options.num_served_model_names == 0 && !strcmp(serving->model, model);
}
