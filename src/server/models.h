// models.h: the endpoints that describe the server: /health, /ping, /version, /load, /v1/models.
#pragma once

#include "server/serving.h"

void oct_serve_health(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_version(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_load(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_models(struct oct_serving *serving, struct oct_connection *connection);
// Is `model` one of the served names? NULL and "" mean the first.
bool oct_serves_model(const struct oct_serving *serving, const char *model);
