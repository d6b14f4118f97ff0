// The body of a request to the server: the first byte picks the endpoint. Whatever comes in, the error that goes out is JSON, and sampling
// parameters that pass the checks are in range.
#include "target.h"

#include "server/chat_messages.h"
#include "server/openai_request.h"

#include <stdlib.h>

static bool read_request(struct oct_openai_request *request, enum oct_endpoint_set set, const char *text, size_t length,
                         struct oct_api_error *error) {
    if (!oct_openai_parse(request, text, length, error)) return false;
    if (set != OCT_COMPLETIONS) {
        json_t *messages = json_object_get(request->body, "messages");
        if (!oct_check_messages(request->body, error) || !oct_check_message_list(messages, "m", error)) return false;
        char *dumped = json_dumps(messages, JSON_COMPACT); // what the template engine is given
        OCT_CHECK(dumped);
        free(dumped);
    }
    if (!oct_openai_read(request, set, error) || set == OCT_TOKENIZE) return !error->status;
    oct_sampling_params params;
    const struct oct_openai_limits limits = {.max_logprobs = 20, .vocab_size = 300, .max_model_len = 2048};
    if (!oct_openai_sampling(request, set, &limits, 10, &params, error)) return false;
    OCT_CHECK(params.max_tokens >= 1 && params.max_tokens <= 2038 && params.logprobs <= 21);
    OCT_CHECK(params.temperature >= 0 && params.temperature <= 2 && params.top_p > 0 && params.top_p <= 1);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum oct_endpoint_set sets[] = {OCT_COMPLETIONS, OCT_CHAT, OCT_TOKENIZE};
    if (size == 0) return 0;
    struct oct_openai_request request = {0};
    struct oct_api_error error = {0};
    bool fits = read_request(&request, sets[data[0] % 3], (const char *)data + 1, size - 1, &error);
    OCT_CHECK(fits == (error.status == 0));
    if (!fits) {
        struct oct_json_writer writer = {0};
        oct_api_error_write(&error, &writer);
        json_t *back = json_loadb(writer.out.data, writer.out.length, JSON_ALLOW_NUL, NULL);
        OCT_CHECK(back);
        json_decref(back);
        oct_buffer_free(&writer.out);
    }
    oct_api_error_free(&error);
    oct_openai_request_free(&request);
    return 0;
}
