// memory.h: allocation. Small blocks never fail (the process ends with a message naming size and purpose); large device
// buffers (weights, KV blocks) can fail and say so.
#pragma once

#include "base/error.h"

#include <stddef.h>

// n * size bytes, zeroed; n * size is checked for overflow. Free with free(). `what` names the purpose in the fatal message.
void *oct_alloc(size_t n, size_t size, const char *what);
// Resizes to n * size bytes; new bytes are not initialised.
void *oct_resize(void *block, size_t n, size_t size, const char *what);
char *oct_strdup(const char *text);
char *oct_strndup(const char *text, size_t length);

// Page-aligned, zeroed memory on 2 MiB boundaries with huge pages asked for. size > 0. *out is freed with oct_pages_free.
oct_status oct_pages_alloc(size_t size, const char *what, void **out, oct_error *err);
void oct_pages_free(void *pages, size_t size);

// Resident memory of this process in bytes, at its highest. 0 when the system does not tell.
size_t oct_peak_resident_bytes(void);
// Memory that this process could still take without swapping: what the system has, and what its control group leaves. SIZE_MAX when
// neither tells.
size_t oct_available_bytes(void);
