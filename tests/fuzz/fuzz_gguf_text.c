// The bytes are a GGUF file. A tokenizer that loads from it must encode and decode without harm.
#include "target.h"

#include "api/text_source.h"

#include <stdlib.h>

static void use(const struct oct_tokenizer *tokenizer) {
    static const char text[] = " The <s>cat's\t12 caf\xC3\xA9 </s>\n\n  <unk> \xF0\x9F\x94\xA5 aaaaabab  ";
    struct oct_ids ids = {0};
    struct oct_buffer out = {0};
    oct_encode(tokenizer, text, sizeof text - 1, OCT_ENCODE_ADD_SPECIAL, &ids);
    oct_encode(tokenizer, text, sizeof text - 1, OCT_ENCODE_PLAIN, &ids);
    oct_decode(tokenizer, ids.data, ids.count, 0, &out);
    oct_buffer_free(&out);
    free(ids.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    struct oct_checkpoint *checkpoint;
    struct oct_text_source source = {0};
    oct_error err;
    if (oct_checkpoint_open(path, &checkpoint, &err) != OCT_OK) return 0;
    if (oct_text_source_open(checkpoint, path, NULL, &source, &err) == OCT_OK) use(source.tokenizer);
    oct_text_source_close(&source);
    oct_checkpoint_close(checkpoint);
    return 0;
}
