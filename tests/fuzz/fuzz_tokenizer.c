// The bytes are a tokenizer.json. One that loads must encode and decode without harm.
#include "target.h"

#include "text/tokenizer_parts.h"

#include <stdlib.h>

static void use(const struct oct_tokenizer *tokenizer) {
    static const char text[] = " The <s>cat's\t12 caf\xC3\xA9 </s>\n\n  <unk> \xF0\x9F\x94\xA5 aaaaabab  ";
    struct oct_ids ids = {0};
    struct oct_buffer out = {0};
    struct oct_decode_stream stream = {0};
    struct oct_ranges offsets = {0};
    oct_encode_with_offsets(tokenizer, (struct oct_span){.text = text, .length = sizeof text - 1}, OCT_ENCODE_ADD_SPECIAL, &ids, &offsets);
    OCT_CHECK(offsets.count == ids.count);
    for (size_t i = 0; i < ids.count; i++)
        OCT_CHECK(offsets.data[i].start <= offsets.data[i].end && offsets.data[i].end <= sizeof text - 1);
    oct_encode(tokenizer, text, sizeof text - 1, OCT_ENCODE_PLAIN, &ids);
    oct_decode(tokenizer, ids.data, ids.count, OCT_DECODE_SKIP_SPECIAL, &out);
    for (size_t i = 0; i < ids.count; i++) oct_decode_stream_push(tokenizer, &stream, ids.data[i], &out);
    oct_decode_stream_flush(tokenizer, &stream, &out);
    oct_decode_stream_free(&stream);
    oct_buffer_free(&out);
    free(offsets.data);
    free(ids.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_tokenizer *tokenizer;
    oct_error err;
    if (oct_tokenizer_from_json("fuzz", (const char *)data, size, &tokenizer, &err) == OCT_OK) use(tokenizer);
    oct_tokenizer_free(tokenizer);
    return 0;
}
