// jinja.h: the template language of chat templates, with the settings that transformers uses (spec templates): trim_blocks, lstrip_blocks,
// loop controls, an immutable sandbox, transformers' tojson, raise_exception and strftime_now.
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "text/marked_text.h"

#include <time.h>

struct jinja_template; // immutable, may be used by many threads at once

// `name` stands in messages for the source; copied, as the source is.
oct_status jinja_compile(const char *name, const char *source, size_t length, struct jinja_template **out, oct_error *err);
void jinja_template_free(struct jinja_template *template);

struct jinja_variable {
    const char *name;
    const json_t *value; // NULL: none
    bool marked;         // strings in it come out of a message
    // Whether a string, the value of `key` in some object, is a word that needs no mark. NULL: none is.
    bool (*is_plain_word)(const char *key, const char *word);
};

// What a hostile template may use at most. Steps are evaluated nodes and, for work on long strings, blocks of bytes.
#define JINJA_MAX_STEPS 4000000
#define JINJA_MAX_BYTES (96u << 20)
#define JINJA_MAX_DEPTH 400

// Appends the rendered text, with the marks of its bytes where out->has_marks. `now` is what strftime_now prints. A message given to
// raise_exception comes back unchanged.
oct_status jinja_render(const struct jinja_template *template, const struct jinja_variable *variables, size_t num_variables,
                        const struct tm *now, struct oct_marked_text *out, oct_error *err);
