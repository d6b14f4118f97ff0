// prompt_input.h: a text that a command takes from a flag, a file or standard input.
#pragma once

#include "base/buffer.h"
#include "base/error.h"

// Appends the text to *out: `text`, the value of the flag --`flag`, where it is not NULL, else what `file` ("-": standard input) holds,
// else standard input, unless that is a terminal.
oct_status oct_prompt_input_read(const char *flag, const char *text, const char *file, struct oct_buffer *out, oct_error *err);
