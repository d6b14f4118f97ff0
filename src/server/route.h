// route.h: which handler answers a method and a path, who may ask, and the errors for the rest.
#pragma once

#include "server/serving.h"

// Both are an oct_connection_handler's functions; `serving` is a struct oct_serving.
void oct_route_admit(struct oct_connection *connection, void *serving);
void oct_route_handle(struct oct_connection *connection, void *serving);
