// prompt_input.c: a text from a flag, a file or standard input, whichever the user gave.
#include "cli/prompt_input.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BYTES = 64 << 20 };

static oct_status read_standard_input(struct oct_buffer *out, oct_error *err) {
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, stdin)) > 0;) {
        if (out->length + n > MAX_BYTES) return oct_fail(err, OCT_INVALID_ARGUMENT, "standard input: at most %d bytes expected", MAX_BYTES);
        oct_buffer_append(out, chunk, n);
    }
    return ferror(stdin) ? oct_fail(err, OCT_IO, "standard input cannot be read") : OCT_OK;
}

oct_status oct_prompt_input_read(const char *flag, const char *text, const char *file, struct oct_buffer *out, oct_error *err) {
    if (text && file) return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s and --file: one of them expected, both found", flag);
    if (text) {
        oct_buffer_puts(out, text);
        return OCT_OK;
    }
    if (file && strcmp(file, "-") != 0) {
        char *bytes;
        size_t length;
        OCT_TRY(oct_file_read(file, MAX_BYTES, &bytes, &length, err));
        oct_buffer_append(out, bytes, length);
        free(bytes);
        return OCT_OK;
    }
    if (!file && isatty(STDIN_FILENO))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "a %s is missing: give it with --%s, --file FILE or on standard input", flag, flag);
    return read_standard_input(out, err);
}
