// pattern.h: the regular expressions of tokenizer.json, run by PCRE2 with the meaning they have in the reference: Unicode 16 classes
// and \s as White_Space.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct oct_pattern; // compiled, immutable, may be used by many threads at once

// `where` names the place in messages. A literal pattern is matched as plain text.
oct_status oct_pattern_compile(const char *where, const char *source, size_t length, bool literal, struct oct_pattern **out,
                               oct_error *err);
void oct_pattern_free(struct oct_pattern *pattern);
// The first match that is not empty in text[from..length), valid UTF-8. A pattern that needs absurdly many steps matches nothing.
bool oct_pattern_find(const struct oct_pattern *pattern, const char *text, size_t length, size_t from, size_t *start, size_t *end);
