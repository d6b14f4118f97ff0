// A chat is rendered by the template engine, which marks each byte that came out of the request; tokenizing then recognises special
// tokens only where none of their bytes is marked.
#include "text/chat.h"

#include "base/memory.h"
#include "text/jinja.h"

#include <stdlib.h>

#define MAX_TEMPLATE_BYTES (4u << 20)
#define MAX_VARIABLES      64

struct oct_chat_template {
    struct jinja_template *template; // owned
};

oct_status oct_chat_template_compile(const char *name, const char *source, size_t length, struct oct_chat_template **out, oct_error *err) {
    *out = NULL;
    if (length > MAX_TEMPLATE_BYTES) {
        return oct_fail(err, OCT_UNSUPPORTED, "%s: a template of at most %u bytes expected, %zu found", name, MAX_TEMPLATE_BYTES, length);
    }
    struct jinja_template *template;
    OCT_TRY(jinja_compile(name, source, length, &template, err));
    *out = oct_alloc(1, sizeof **out, "a chat template");
    (*out)->template = template;
    return OCT_OK;
}

void oct_chat_template_free(struct oct_chat_template *chat) {
    if (!chat) return;
    jinja_template_free(chat->template);
    free(chat);
}

void oct_chat_prompt_free(struct oct_chat_prompt *prompt) {
    oct_buffer_free(&prompt->text);
    free(prompt->from_message);
    prompt->from_message = NULL;
}

oct_status oct_chat_render(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_options *options,
                           struct oct_chat_prompt *out, oct_error *err) {
    json_t *bos = json_string(options->bos_token ? options->bos_token : ""),
           *eos = json_string(options->eos_token ? options->eos_token : "");
    struct jinja_variable variables[MAX_VARIABLES] = {
        {"messages", messages, true}, {"tools", options->tools, true},
        {"documents", NULL, true},    {"add_generation_prompt", options->add_generation_prompt ? json_true() : json_false(), false},
        {"bos_token", bos, false},    {"eos_token", eos, false},
    };
    size_t count = 6;
    const char *name;
    json_t *value;
    oct_status status = OCT_OK;
    struct oct_marked_text text = {.has_marks = true};
    json_object_foreach((json_t *)options->extra, name, value) {
        if (count == MAX_VARIABLES) {
            status = oct_fail(err, OCT_INVALID_ARGUMENT, "at most %d template variables expected, %zu found", MAX_VARIABLES - 6,
                              json_object_size(options->extra));
            goto out;
        }
        variables[count++] = (struct jinja_variable){name, value, true};
    }
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    status = jinja_render(chat->template, variables, count, &local, &text, err);
    if (status != OCT_OK) goto out;
    out->text = text.text;
    out->from_message = (unsigned char *)oct_buffer_take(&text.marks);
    text.text = (struct oct_buffer){0};
out:
    oct_marked_free(&text);
    json_decref(bos);
    json_decref(eos);
    return status;
}

void oct_chat_encode(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, struct oct_ids *ids) {
    const char *text = prompt->text.data ? prompt->text.data : "";
    oct_encode_marked(tokenizer, (struct oct_span){text, prompt->from_message, prompt->text.length}, 0, ids);
}
