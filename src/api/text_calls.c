// text_calls.c: the functions of octavo.h that only turn text into token ids and back. Any thread, at any time.
#include "api/engine.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

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

static oct_status render(const oct_engine *engine, const char *messages_json, bool add_generation_prompt, struct oct_chat_prompt *out,
                         oct_error *err) {
    const struct oct_text_source *source = &engine->text;
    if (!source->chat) {
        if (err) *err = source->chat_problem;
        return source->chat_problem.code;
    }
    json_t *messages;
    OCT_TRY(oct_json_parse("messages", messages_json, strlen(messages_json), &messages, err));
    struct oct_chat_options options = {
        .add_generation_prompt = add_generation_prompt,
        .bos_token = oct_tokenizer_bos(source->tokenizer),
        .eos_token = oct_tokenizer_eos(source->tokenizer),
    };
    oct_status status = json_is_array(messages)
                            ? oct_chat_render(source->chat, messages, &options, out, err)
                            : oct_fail(err, OCT_INVALID_ARGUMENT, "messages: an array expected, %s found", oct_json_kind(messages));
    json_decref(messages);
    return status;
}

oct_status oct_chat_prompt(oct_engine *engine, const char *messages_json, bool add_generation_prompt, char **text, oct_error *err) {
    struct oct_chat_prompt prompt = {0};
    OCT_TRY(render(engine, messages_json, add_generation_prompt, &prompt, err));
    *text = oct_buffer_take(&prompt.text);
    oct_chat_prompt_free(&prompt);
    return OCT_OK;
}

oct_status oct_chat_tokens(oct_engine *engine, const char *messages_json, bool add_generation_prompt, int32_t **ids, size_t *count,
                           oct_error *err) {
    struct oct_chat_prompt prompt = {0};
    struct oct_ids encoded = {0};
    OCT_TRY(render(engine, messages_json, add_generation_prompt, &prompt, err));
    oct_chat_encode(engine->text.tokenizer, &prompt, &encoded);
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
