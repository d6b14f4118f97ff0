// request_sampling.h: from octavo.h's parameters, in text, to the engine's, in token ids.
#pragma once

#include "api/engine.h"

// Everything that *out points to is its own, and freed by oct_request_sampling_close.
oct_status oct_request_sampling_open(const struct oct_engine *engine, const oct_sampling_params *params, struct oct_sampling *out,
                                     oct_error *err);
void oct_request_sampling_close(struct oct_sampling *sampling);
