// stop_strings.c: text is held back only as long as its end may be the beginning of a stop string.
#include "api/stop_strings.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void oct_stop_strings_open(struct oct_stop_strings *stops, const char *const *strings, size_t count) {
    *stops = (struct oct_stop_strings){.strings = oct_alloc(count, sizeof *stops->strings, "stop strings"), .count = count};
    for (size_t i = 0; i < count; i++) stops->strings[i] = oct_strdup(strings[i]);
}

void oct_stop_strings_close(struct oct_stop_strings *stops) {
    for (size_t i = 0; i < stops->count; i++) free(stops->strings[i]);
    free(stops->strings);
    oct_buffer_free(&stops->held);
    *stops = (struct oct_stop_strings){0};
}

static const char *find_first(const struct oct_stop_strings *stops, size_t *at) {
    const struct oct_buffer *held = &stops->held;
    const char *found = NULL;
    for (size_t i = 0; i < stops->count; i++) {
        const char *match = held->data ? memmem(held->data, held->length, stops->strings[i], strlen(stops->strings[i])) : NULL;
        if (!match || (found && (size_t)(match - held->data) >= *at)) continue;
        found = stops->strings[i];
        *at = (size_t)(match - held->data);
    }
    return found;
}

// Where the longest end of the text begins that is the beginning of a stop string; the text's length when there is none.
static size_t begin_of_possible_stop(const struct oct_stop_strings *stops) {
    const struct oct_buffer *held = &stops->held;
    for (size_t at = 0; at < held->length; at++)
        for (size_t i = 0; i < stops->count; i++)
            if (!strncmp(held->data + at, stops->strings[i], held->length - at)) return at;
    return held->length;
}

static void give_out(struct oct_buffer *held, size_t length, struct oct_buffer *out) {
    if (length == 0) return;
    oct_buffer_append(out, held->data, length);
    memmove(held->data, held->data + length, held->length - length + 1); // with the NUL
    held->length -= length;
}

const char *oct_stop_strings_push(struct oct_stop_strings *stops, const char *text, size_t length, struct oct_buffer *out) {
    oct_buffer_append(&stops->held, text, length);
    size_t at = 0;
    const char *found = find_first(stops, &at);
    give_out(&stops->held, found ? at : begin_of_possible_stop(stops), out);
    return found;
}

void oct_stop_strings_flush(struct oct_stop_strings *stops, struct oct_buffer *out) {
    give_out(&stops->held, stops->held.length, out);
}
