// A chat is rendered by the template engine, which marks each byte that came out of the request; tokenizing then recognises special
// tokens only where none of their bytes is marked.
#include "text/chat.h"

#include "base/memory.h"
#include "text/jinja_value.h"

#include <stdlib.h>

#define MAX_TEMPLATE_BYTES (4u << 20)
#define MAX_VARIABLES      64

struct oct_chat_template {
    struct jinja_template *template; // owned
    enum oct_content_format content_format;
    bool knows_developer;
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
    (*out)->content_format = oct_content_format_of(template);
    (*out)->knows_developer = length && memmem(source, length, "developer", strlen("developer"));
    return OCT_OK;
}

enum oct_content_format oct_chat_content_format(const struct oct_chat_template *chat) {
    return chat->content_format;
}

bool oct_chat_knows_developer(const struct oct_chat_template *chat) {
    return chat->knows_developer;
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

// Put behind the last message when it is to be continued: where it comes out, the prompt is cut. The space tells whether the template
// trims messages.
#define END_MARK       "CONTINUE_FINAL_MESSAGE_TAG"
#define END_MARK_SPACE END_MARK " "

static json_t *with_end_mark(const json_t *text) {
    struct oct_buffer marked = {0};
    oct_buffer_append(&marked, json_string_value(text), json_string_length(text));
    oct_buffer_puts(&marked, END_MARK_SPACE);
    json_t *result = json_stringn(marked.data, marked.length);
    oct_buffer_free(&marked);
    return result;
}

// Marks the end of a message's content: a string, or the last text among its parts. *text: what the content was.
static oct_status mark_end(json_t *message, const json_t **text, oct_error *err) {
    json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        *text = content;
        json_object_set_new(message, "content", with_end_mark(content));
        return OCT_OK;
    }
    json_t *parts = json_copy(content);
    for (size_t i = json_array_size(parts); i-- > 0;) {
        const json_t *part = json_array_get(parts, i);
        *text = json_object_get(part, "text");
        if (!json_is_string(*text)) continue;
        json_t *marked = json_copy((json_t *)part);
        json_object_set_new(marked, "text", with_end_mark(*text));
        json_array_set_new(parts, i, marked);
        json_object_set_new(message, "content", parts);
        return OCT_OK;
    }
    json_decref(parts);
    return oct_fail(err, OCT_INVALID_ARGUMENT, "continue_final_message: the last message has no text to continue");
}

static void unify_reasoning(json_t *message) {
    static const char *const names[] = {"reasoning_content", "reasoning", "thinking"};
    json_t *text = NULL;
    for (size_t i = 0; i < 3 && !json_string_length(text); i++) text = json_object_get(message, names[i]);
    if (!json_string_length(text)) return;
    if (!json_object_get(message, "reasoning_content")) json_object_set(message, "reasoning_content", text);
    if (!json_object_get(message, "thinking")) json_object_set(message, "thinking", text);
}

// What the template sees of the messages: a copy that shares what is not changed.
static json_t *prepare_messages(const json_t *messages) {
    json_t *prepared = json_array();
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_copy(json_array_get(messages, i));
        unify_reasoning(message);
        json_array_append_new(prepared, message);
    }
    return prepared;
}

// Cuts the prompt where the mark came out last.
static oct_status cut_at_end_mark(struct oct_marked_text *text, const json_t *last, oct_error *err) {
    struct oct_span span = oct_marked_span(text), mark = {.text = END_MARK, .length = strlen(END_MARK)};
    struct oct_span said =
        jinja_strip((struct oct_span){.text = json_string_value(last), .length = json_string_length(last)}, NULL, true, true);
    size_t work = 0, at = jinja_find_last(span, mark, span.length, &work);
    if (at == SIZE_MAX || jinja_find(span, said, 0) == SIZE_MAX) {
        return oct_fail(err, OCT_INVALID_ARGUMENT, "continue_final_message: the template does not show the last message as it is");
    }
    bool trimmed = at + mark.length >= span.length || span.text[at + mark.length] != ' ';
    text->text.length = trimmed ? jinja_strip(oct_subspan(span, 0, at), NULL, false, true).length : at;
    text->text.data[text->text.length] = '\0';
    if (text->has_marks) text->marks.length = text->text.length;
    return OCT_OK;
}

// Templates build tokens out of roles, as in '<|' + message.role + '|>'; these words cannot forge anything.
static bool is_known_role(const char *key, const char *word) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
    if (strcmp(key, "role") != 0) return false;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(word, roles[i]) == 0) return true;
    }
    return false;
}

// A further variable must not stand in for the conversation or its tools.
static oct_status check_variable(const char *name, oct_error *err) {
    static const char *const taken[] = {"messages", "conversation", "tools", "chat_template"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        if (strcmp(name, taken[i]) == 0) return oct_fail(err, OCT_INVALID_ARGUMENT, "got multiple values for keyword argument '%s'", name);
    }
    return OCT_OK;
}

// The order matters: of two variables with one name the later one counts. bos and eos: JSON strings.
static oct_status render_variables(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_context *context,
                                   const json_t *bos, const json_t *eos, struct oct_marked_text *text, oct_error *err) {
    struct jinja_variable variables[MAX_VARIABLES] = {
        {"bos_token", bos, false, NULL},
        {"eos_token", eos, false, NULL},
        {"documents", NULL, true, NULL},
    };
    size_t count = 3;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)context->extra, name, value) {
        OCT_TRY(check_variable(name, err));
        if (count == MAX_VARIABLES - 4)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "at most %d further template variables expected, %zu found", MAX_VARIABLES - 7,
                            json_object_size(context->extra));
        variables[count++] = (struct jinja_variable){name, value, true, NULL};
    }
    variables[count++] = (struct jinja_variable){"messages", messages, true, is_known_role};
    variables[count++] = (struct jinja_variable){"tools", context->tools, true, NULL};
    variables[count++] =
        (struct jinja_variable){"add_generation_prompt", context->add_generation_prompt ? json_true() : json_false(), false, NULL};
    if (context->documents) variables[count++] = (struct jinja_variable){"documents", context->documents, true, NULL};
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    return jinja_render(chat->template, variables, count, &local, text, err);
}

static oct_status render(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_context *context,
                         struct oct_marked_text *text, oct_error *err) {
    json_t *bos = json_string(context->bos_token ? context->bos_token : ""),
           *eos = json_string(context->eos_token ? context->eos_token : "");
    oct_status status = render_variables(chat, messages, context, bos, eos, text, err);
    json_decref(bos);
    json_decref(eos);
    return status;
}

oct_status oct_chat_render(const struct oct_chat_template *chat, const json_t *messages, const struct oct_chat_context *context,
                           struct oct_chat_prompt *out, oct_error *err) {
    if (context->continue_final_message && context->add_generation_prompt) {
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want "
                        "the model to continue the final message, and add_generation_prompt when you want to add a header that will "
                        "prompt it to start a new assistant message instead.");
    }
    json_t *prepared = prepare_messages(messages);
    const size_t count = json_array_size(prepared);
    const json_t *said = NULL; // by the last message; lives in `messages`
    struct oct_marked_text text = {.has_marks = !context->trust_messages};
    oct_status status = OCT_OK;
    if (context->continue_final_message) status = mark_end(json_array_get(prepared, count - 1), &said, err);
    if (status == OCT_OK) status = render(chat, prepared, context, &text, err);
    if (status == OCT_OK && context->continue_final_message) status = cut_at_end_mark(&text, said, err);
    if (status == OCT_OK) {
        out->from_message = text.has_marks ? (unsigned char *)oct_buffer_take(&text.marks) : NULL;
        out->text = text.text;
        text.text = (struct oct_buffer){0};
    }
    oct_marked_free(&text);
    json_decref(prepared);
    return status;
}

void oct_chat_encode(const struct oct_tokenizer *tokenizer, const struct oct_chat_prompt *prompt, int flags, struct oct_ids *ids) {
    const char *text = prompt->text.data ? prompt->text.data : "";
    oct_encode_marked(tokenizer, (struct oct_span){text, prompt->from_message, prompt->text.length}, flags, ids);
}
