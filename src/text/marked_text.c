// marked_text.c: text that remembers of each byte whether it came out of a message.
#include "text/marked_text.h"

#include "base/memory.h"

void oct_ranges_append(struct oct_ranges *ranges, struct oct_range range, size_t count) {
    if (count > ranges->capacity - ranges->count) {
        ranges->capacity = 2 * ranges->capacity + count + 64;
        ranges->data = oct_resize(ranges->data, ranges->capacity, sizeof *ranges->data, "offsets of tokens");
    }
    while (count--) ranges->data[ranges->count++] = range;
}

void oct_marked_append(struct oct_marked_text *marked, struct oct_span span) {
    if (!span.marks) {
        oct_marked_append_text(marked, span.text, span.length, false);
        return;
    }
    oct_buffer_append(&marked->text, span.text, span.length);
    if (marked->has_marks) oct_buffer_append(&marked->marks, span.marks, span.length);
}

void oct_marked_append_text(struct oct_marked_text *marked, const char *text, size_t length, bool mark) {
    static const char marks[2][64] = {{0},
                                      {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                       1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
    oct_buffer_append(&marked->text, text, length);
    for (size_t n; marked->has_marks && length; length -= n) {
        n = length < 64 ? length : 64;
        oct_buffer_append(&marked->marks, marks[mark], n);
    }
}

void oct_marked_clear(struct oct_marked_text *marked) {
    marked->text.length = marked->marks.length = 0;
}

void oct_marked_free(struct oct_marked_text *marked) {
    oct_buffer_free(&marked->text);
    oct_buffer_free(&marked->marks);
}
