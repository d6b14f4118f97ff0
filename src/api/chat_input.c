// chat_input.c: checks one chat and everything that came with it, picks its template, and renders.
#include "api/chat_input.h"

#include "base/json.h"

#include <string.h>

static oct_status parse(const char *name, const char *text, json_t **out, oct_error *err) {
    return text ? oct_json_parse(name, text, strlen(text), out, err) : OCT_OK;
}

oct_status oct_chat_input_parse(const char *messages_json, const oct_chat_options *options, struct oct_chat_input *out, oct_error *err) {
    *out = (struct oct_chat_input){
        .add_generation_prompt = options->add_generation_prompt,
        .continue_final_message = options->continue_final_message,
        .allow_special_tokens_in_messages = options->allow_special_tokens_in_messages,
        .chat_template = options->chat_template,
        .content_format = options->content_format,
    };
    OCT_TRY(parse("messages", messages_json, &out->messages, err));
    OCT_TRY(parse("tools", options->tools_json, &out->tools, err));
    OCT_TRY(parse("documents", options->documents_json, &out->documents, err));
    return parse("chat_template_kwargs", options->template_kwargs_json, &out->template_kwargs, err);
}

void oct_chat_input_free(struct oct_chat_input *input) {
    json_decref(input->messages);
    json_decref(input->tools);
    json_decref(input->documents);
    json_decref(input->template_kwargs);
    *input = (struct oct_chat_input){0};
}

static oct_status check_objects(const char *name, const json_t *array, oct_error *err) {
    if (!array || json_is_null(array)) return OCT_OK;
    if (!json_is_array(array)) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: an array expected, %s found", name, oct_json_kind(array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_object(item))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s[%zu]: an object expected, %s found", name, i, oct_json_kind(item));
    }
    return OCT_OK;
}

static oct_status read_format(const char *name, enum oct_content_format *out, oct_error *err) {
    static const char *const names[] = {[OCT_CONTENT_AUTO] = "auto", [OCT_CONTENT_STRING] = "string", [OCT_CONTENT_OPENAI] = "openai"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name ? name : "auto", names[i]) != 0) continue;
        *out = (enum oct_content_format)i;
        return OCT_OK;
    }
    return oct_fail(err, OCT_INVALID_ARGUMENT, "content_format: auto, string or openai expected, '%.80s' found", name);
}

static oct_status find_template(const struct oct_text_source *source, bool with_tools, const struct oct_chat_template **out,
                                oct_error *err) {
    const bool own = with_tools && (source->tool_chat || source->tool_chat_problem.code != OCT_OK);
    const oct_error *problem = own ? &source->tool_chat_problem : &source->chat_problem;
    *out = own ? source->tool_chat : source->chat;
    if (*out) return OCT_OK;
    if (err) *err = *problem;
    return problem->code;
}

static oct_status render_with(const struct oct_text_source *source, const struct oct_chat_template *chat,
                              const struct oct_chat_input *input, struct oct_chat_prompt *out, oct_error *err) {
    enum oct_content_format format = OCT_CONTENT_AUTO;
    json_t *messages;
    OCT_TRY(read_format(input->content_format, &format, err));
    OCT_TRY(oct_chat_normalize(chat, input->messages, format, &messages, err));
    struct oct_chat_context context = {
        .add_generation_prompt = input->add_generation_prompt,
        .continue_final_message = input->continue_final_message,
        .trust_messages = input->allow_special_tokens_in_messages,
        .bos_token = oct_tokenizer_bos(source->tokenizer),
        .eos_token = oct_tokenizer_eos(source->tokenizer),
        .tools = json_array_size(input->tools) ? input->tools : NULL,
        .documents = input->documents,
        .extra = input->template_kwargs,
    };
    oct_status status = oct_chat_render(chat, messages, &context, out, err);
    json_decref(messages);
    return status;
}

oct_status oct_chat_input_render(const struct oct_text_source *source, const struct oct_chat_input *input, struct oct_chat_prompt *out,
                                 oct_error *err) {
    const json_t *kwargs = input->template_kwargs;
    const struct oct_chat_template *chat;
    OCT_TRY(check_objects("tools", input->tools, err));
    OCT_TRY(check_objects("documents", input->documents, err));
    if (kwargs && !json_is_object(kwargs) && !json_is_null(kwargs))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "chat_template_kwargs: an object expected, %s found", oct_json_kind(kwargs));
    if (!input->chat_template) {
        OCT_TRY(find_template(source, json_array_size(input->tools) > 0, &chat, err));
        return render_with(source, chat, input, out, err);
    }
    struct oct_chat_template *own;
    OCT_TRY(oct_chat_template_compile("chat_template", input->chat_template, strlen(input->chat_template), &own, err));
    oct_status status = render_with(source, own, input, out, err);
    oct_chat_template_free(own);
    return status;
}
