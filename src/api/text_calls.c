// text_calls.c: the functions of octavo.h that only turn text into token ids and back. Any thread, at any time.
#include "api/chat_input.h"
#include "api/engine.h"

#include <stdlib.h>

oct_status oct_tokenize(oct_engine *engine, const char *text, size_t length, bool add_special_tokens, int32_t **ids, size_t *count,
                        oct_error *err) {
    (void)err;
    struct oct_ids encoded = {0};
    oct_encode(engine->text.tokenizer, text, length, add_special_tokens ? OCT_ENCODE_ADD_SPECIAL : 0, &encoded);
    *ids = encoded.data;
    *count = encoded.count;
    return OCT_OK;
}

oct_status oct_detokenize(oct_engine *engine, const int32_t *ids, size_t count, bool skip_special_tokens, char **text, size_t *length,
                          oct_error *err) {
    (void)err;
    struct oct_buffer decoded = {0};
    oct_decode(engine->text.tokenizer, ids, count, skip_special_tokens, &decoded);
    *length = decoded.length;
    *text = oct_buffer_take(&decoded);
    return OCT_OK;
}

static oct_status render(const oct_engine *engine, const char *messages_json, const oct_chat_options *options, struct oct_chat_prompt *out,
                         oct_error *err) {
    struct oct_chat_input input = {0};
    oct_status status = oct_chat_input_parse(messages_json, options, &input, err);
    if (status == OCT_OK) status = oct_chat_input_render(&engine->text, &input, out, err);
    oct_chat_input_free(&input);
    return status;
}

oct_status oct_chat_prompt(oct_engine *engine, const char *messages_json, const oct_chat_options *options, char **text, size_t *length,
                           oct_error *err) {
    struct oct_chat_prompt prompt = {0};
    OCT_TRY(render(engine, messages_json, options, &prompt, err));
    *length = prompt.text.length;
    *text = oct_buffer_take(&prompt.text);
    oct_chat_prompt_free(&prompt);
    return OCT_OK;
}

oct_status oct_chat_tokens(oct_engine *engine, const char *messages_json, const oct_chat_options *options, int32_t **ids, size_t *count,
                           oct_error *err) {
    struct oct_chat_prompt prompt = {0};
    struct oct_ids encoded = {0};
    OCT_TRY(render(engine, messages_json, options, &prompt, err));
    oct_chat_encode(engine->text.tokenizer, &prompt, options->add_special_tokens ? OCT_ENCODE_ADD_SPECIAL : 0, &encoded);
    oct_chat_prompt_free(&prompt);
    *ids = encoded.data;
    *count = encoded.count;
    return OCT_OK;
}

void oct_free(void *pointer) {
    free(pointer);
}

const char *oct_version(void) {
    return OCTAVO_VERSION;
}
