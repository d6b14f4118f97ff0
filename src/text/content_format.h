// content_format.h: in which of two forms a template takes the content of messages.
#pragma once

#include "text/jinja.h"

enum oct_content_format {
    OCT_CONTENT_AUTO,   // what the template looks made for
    OCT_CONTENT_STRING, // a string; text parts are joined by newlines
    OCT_CONTENT_OPENAI, // a list of {"type": "text", "text": ...}
};

// Whether the template loops over the parts of a message's content: OPENAI, else STRING.
enum oct_content_format oct_content_format_of(const struct jinja_template *template);
