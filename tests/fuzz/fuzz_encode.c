// The first byte chooses a tokenizer and flags, the second where marks begin, the rest is text. Streams must join to the whole decode, and
// a byte-level tokenizer that has all 256 symbols must give valid text back unchanged.
#include "target.h"
#include "toy_tokenizers.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static void check(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, const char *expected, size_t length) {
    struct oct_buffer whole = {0}, joined = {0};
    struct oct_decode_stream stream = {0};
    oct_decode(tokenizer, ids->data, ids->count, 0, &whole);
    for (size_t i = 0; i < ids->count; i++) {
        oct_decode_stream_push(tokenizer, &stream, ids->data[i], &joined);
        OCT_CHECK(oct_utf8_valid(joined.data ? joined.data : "", joined.length));
    }
    oct_decode_stream_flush(tokenizer, &stream, &joined);
    OCT_CHECK(whole.length == joined.length && (!whole.length || memcmp(whole.data, joined.data, whole.length) == 0));
    if (expected) OCT_CHECK(whole.length == length && (!length || memcmp(whole.data, expected, length) == 0));
    oct_decode_stream_free(&stream);
    oct_buffer_free(&whole);
    oct_buffer_free(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct oct_tokenizer *tokenizers[2];
    if (!tokenizers[0]) tokenizers[0] = toy_byte_level_tokenizer(), tokenizers[1] = toy_sentencepiece_tokenizer();
    if (size < 2) return 0;
    const struct oct_tokenizer *tokenizer = tokenizers[data[0] & 1];
    size_t length = size - 2, start = data[1] % (length + 1);
    unsigned char *marks = oct_alloc(length + 1, 1, "marks");
    memset(marks + start, 1, length - start);
    struct oct_ids ids = {0};
    const char *text = (const char *)data + 2;
    oct_encode_marked(tokenizer, (struct oct_span){text, marks, length}, data[0] & 2 ? OCT_ENCODE_PLAIN : 0, &ids);
    check(tokenizer, &ids, !(data[0] & 1) && oct_utf8_valid(text, length) ? text : NULL, length);
    free(ids.data);
    free(marks);
    return 0;
}
