// jinja_filter.h: what the two files of filters share.
#pragma once

#include "text/jinja_value.h"

// A filter is called with what stands left of '|' as self.
#define FILTER(name) static struct jinja_value name(struct jinja *j, struct jinja_value self, const struct jinja_arguments *arguments)

struct jinja_filter {
    const char *name;
    jinja_call call;
};

jinja_call jinja_find_sequence_filter(struct oct_span name); // NULL: no such filter
