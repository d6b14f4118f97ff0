// chat_call.c: messages, tools, documents and template variables of a body, checked as vLLM checks them, as texts for the engine.
#include "server/chat_call.h"

#include "base/json.h"
#include "server/chat_messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dump(const json_t *value) {
    if (!value || json_is_null(value)) return NULL;
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    OCT_CHECK(text);
    return text;
}

// A template is a program; who may bring one is the server's choice. vLLM lets both of these carry it.
static bool check_template(struct oct_generation *generation) {
    const json_t *body = generation->request.body;
    const json_t *own = json_object_get(body, "chat_template"),
                 *hidden = json_object_get(json_object_get(body, "chat_template_kwargs"), "chat_template");
    bool brings_one = (own && !json_is_null(own)) || (hidden && !json_is_null(hidden));
    if (brings_one && !generation->serving->options.trust_request_chat_template)
        return oct_api_fail(
            &generation->error, NULL,
            "Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with untrusted "
            "chat template.");
    if (json_is_string(own) && strlen(json_string_value(own)) != json_string_length(own))
        return oct_api_fail(&generation->error, "chat_template", "A chat template cannot contain a NUL character");
    return true;
}

// The variables of the server, then those of the request, then reasoning_effort, which is a parameter of its own.
static char *template_kwargs(const struct oct_generation *generation) {
    const char *defaults = generation->serving->options.default_chat_template_kwargs;
    const json_t *body = generation->request.body, *given = json_object_get(body, "chat_template_kwargs"),
                 *effort = json_object_get(body, "reasoning_effort");
    json_t *all = NULL;
    if (defaults) oct_json_parse("chat_template_kwargs", defaults, strlen(defaults), &all, NULL);
    if (!json_is_object(all)) {
        json_decref(all);
        all = json_object();
    }
    json_object_update(all, (json_t *)given);
    if (json_is_string(effort)) json_object_set(all, "reasoning_effort", (json_t *)effort);
    char *text = json_object_size(all) ? dump(all) : NULL;
    json_decref(all);
    return text;
}

static bool check_documents(struct oct_generation *generation, const json_t *documents) {
    size_t i;
    const json_t *document;
    json_array_foreach(documents, i, document) {
        char param[64];
        if (json_is_object(document)) continue;
        snprintf(param, sizeof param, "body.documents.%zu", i);
        return oct_openai_invalid(&generation->error, param, "dict_type", "Input should be a valid dictionary", document);
    }
    return true;
}

bool oct_chat_call_make(struct oct_generation *generation, struct oct_chat_call *call) {
    const struct oct_openai_request *request = &generation->request;
    const struct oct_server_options *server = &generation->serving->options;
    const json_t *messages = json_object_get(request->body, "messages"), *documents = json_object_get(request->body, "documents");
    if (!check_documents(generation, documents) || !check_template(generation)) return false;
    if (!oct_check_message_list(messages, generation->serving->model, &generation->error)) return false;
    call->messages = dump(messages);
    call->tools = dump(json_object_get(request->body, "tools"));
    call->documents = dump(documents);
    call->template_kwargs = template_kwargs(generation);
    call->options = (oct_chat_options){
        .add_generation_prompt = request->add_generation_prompt,
        .continue_final_message = request->continue_final_message,
        .tools_json = call->tools,
        .documents_json = call->documents,
        .template_kwargs_json = call->template_kwargs,
        .chat_template = json_string_value(json_object_get(request->body, "chat_template")),
        .content_format = server->chat_template_content_format,
        .add_special_tokens = request->add_special_tokens,
        .allow_special_tokens_in_messages = server->allow_special_tokens_in_messages,
    };
    return true;
}

void oct_chat_call_free(struct oct_chat_call *call) {
    free(call->messages);
    free(call->tools);
    free(call->documents);
    free(call->template_kwargs);
    *call = (struct oct_chat_call){0};
}
