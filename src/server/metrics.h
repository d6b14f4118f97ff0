// metrics.h: GET /metrics, Prometheus text with vLLM's names.
#pragma once

#include "server/serving.h"

void oct_serve_metrics(struct oct_serving *serving, struct oct_connection *connection);
