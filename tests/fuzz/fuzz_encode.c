// The first byte chooses a tokenizer and flags, the second where marks begin, the rest is text. Streams must join to the whole decode, a
// byte-level tokenizer that has all 256 symbols must give valid text back unchanged, and offsets must go through the text from end to end.
#include "target.h"
#include "toy_tokenizers.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

static void check_decoding(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, int flags, const char *expected,
                           size_t length) {
    struct oct_buffer whole = {0}, joined = {0};
    struct oct_decode_stream stream = {
        .skip_special_tokens = flags & OCT_DECODE_SKIP_SPECIAL,
        .join_special_tokens = flags & OCT_DECODE_JOIN_SPECIAL,
    };
    oct_decode(tokenizer, ids->data, ids->count, flags, &whole);
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

static void check_offsets(const struct oct_tokenizer *tokenizer, struct oct_span text, int flags, const struct oct_ids *expected) {
    struct oct_ids ids = {0};
    struct oct_ranges offsets = {0};
    size_t end = 0;
    oct_encode_with_offsets(tokenizer, text, flags, &ids, &offsets);
    OCT_CHECK(ids.count == expected->count && offsets.count == ids.count);
    OCT_CHECK(!ids.count || memcmp(ids.data, expected->data, ids.count * sizeof *ids.data) == 0);
    for (size_t i = 0; i < ids.count; i++) {
        struct oct_range range = offsets.data[i];
        OCT_CHECK(range.start <= end && end <= range.end && range.end <= text.length);
        end = range.end;
    }
    OCT_CHECK(end == text.length); // neither tokenizer drops or trims anything
    free(ids.data);
    free(offsets.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct oct_tokenizer *tokenizers[2];
    if (!tokenizers[0]) tokenizers[0] = toy_byte_level_tokenizer(), tokenizers[1] = toy_sentencepiece_tokenizer();
    if (size < 2) return 0;
    bool byte_level = !(data[0] & 1);
    const struct oct_tokenizer *tokenizer = tokenizers[!byte_level];
    int encode_flags = data[0] & 2 ? OCT_ENCODE_PLAIN : 0;
    int decode_flags = (data[0] & 4 ? OCT_DECODE_SKIP_SPECIAL : 0) | (data[0] & 8 ? OCT_DECODE_JOIN_SPECIAL : 0);
    size_t length = size - 2, start = data[1] % (length + 1);
    unsigned char *marks = oct_alloc(length + 1, 1, "marks");
    memset(marks + start, 1, length - start);
    struct oct_span text = {(const char *)data + 2, marks, length};
    struct oct_ids ids = {0};
    oct_encode_marked(tokenizer, text, encode_flags, &ids);
    bool comes_back = byte_level && !(decode_flags & OCT_DECODE_SKIP_SPECIAL) && oct_utf8_valid(text.text, length);
    check_decoding(tokenizer, &ids, decode_flags, comes_back ? text.text : NULL, length);
    check_offsets(tokenizer, text, encode_flags, &ids);
    free(ids.data);
    free(marks);
    return 0;
}
