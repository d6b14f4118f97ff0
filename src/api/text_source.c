// text_source.c: glue between the files of a checkpoint and the text layer, which knows neither GGUF nor folders.
#include "api/text_source.h"

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE_BYTES = 1 << 20, MAX_CONFIG_BYTES = 64 << 20 };

// --- the tokenizer ----------------------------------------------------------------------------------------------------------------

// Arrays of a vocabulary as oct_vocabulary wants them: pointers and lengths apart.
struct string_list {
    const char **data; // (count) into the file
    size_t *lengths;   // (count)
    size_t count;
};

static void string_list_free(struct string_list *list) {
    free(list->data);
    free(list->lengths);
}

static bool read_strings(const struct oct_gguf *gguf, const char *key, struct string_list *out) {
    struct oct_gguf_string *strings;
    int64_t count = oct_gguf_strings(gguf, key, &strings);
    if (count < 0) return false;
    *out = (struct string_list){
        .data = oct_alloc((size_t)count, sizeof *out->data, key),
        .lengths = oct_alloc((size_t)count, sizeof *out->lengths, key),
        .count = (size_t)count,
    };
    for (int64_t i = 0; i < count; i++) {
        out->data[i] = strings[i].data;
        out->lengths[i] = strings[i].length;
    }
    free(strings);
    return true;
}

static int32_t read_token_id(const struct oct_gguf *gguf, const char *key) {
    int64_t id;
    return oct_gguf_integer(gguf, key, &id) && id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

static int read_flag(const struct oct_gguf *gguf, const char *key) {
    bool flag;
    return oct_gguf_bool(gguf, key, &flag) ? flag : -1;
}

static char *read_string(const struct oct_gguf *gguf, const char *key) { // NULL: no such key
    struct oct_gguf_string string;
    return oct_gguf_string(gguf, key, &string) ? oct_strndup(string.data, string.length) : NULL;
}

static oct_status tokenizer_from_gguf(const struct oct_gguf *gguf, const char *path, struct oct_tokenizer **out, oct_error *err) {
    struct string_list tokens = {0}, merges = {0};
    int32_t *types = NULL;
    float *scores = NULL;
    char *model = read_string(gguf, "tokenizer.ggml.model"), *pre = read_string(gguf, "tokenizer.ggml.pre");
    oct_status status;
    if (!model || !read_strings(gguf, "tokenizer.ggml.tokens", &tokens)) {
        status = oct_fail(err, OCT_NOT_FOUND, "%s: a tokenizer (keys tokenizer.ggml.model and tokenizer.ggml.tokens) expected, none found",
                          path);
        goto out;
    }
    read_strings(gguf, "tokenizer.ggml.merges", &merges);
    int64_t num_types = oct_gguf_integers(gguf, "tokenizer.ggml.token_type", &types);
    int64_t num_scores = oct_gguf_floats(gguf, "tokenizer.ggml.scores", &scores);
    if ((num_types >= 0 && num_types != (int64_t)tokens.count) || (num_scores >= 0 && num_scores != (int64_t)tokens.count)) {
        status = oct_fail(err, OCT_CORRUPT, "%s: a token_type and a score for each of %zu tokens expected, %lld and %lld found", path,
                          tokens.count, (long long)num_types, (long long)num_scores);
        goto out;
    }
    struct oct_vocabulary vocabulary = {
        .model = model,
        .pre = pre ? pre : "",
        .num_tokens = tokens.count,
        .tokens = tokens.data,
        .lengths = tokens.lengths,
        .types = types,
        .scores = scores,
        .num_merges = merges.count,
        .merges = merges.data,
        .merge_lengths = merges.lengths,
        .bos_token_id = read_token_id(gguf, "tokenizer.ggml.bos_token_id"),
        .eos_token_id = read_token_id(gguf, "tokenizer.ggml.eos_token_id"),
        .unknown_token_id = read_token_id(gguf, "tokenizer.ggml.unknown_token_id"),
        .add_bos_token = read_flag(gguf, "tokenizer.ggml.add_bos_token"),
        .add_eos_token = read_flag(gguf, "tokenizer.ggml.add_eos_token"),
        .add_space_prefix = read_flag(gguf, "tokenizer.ggml.add_space_prefix"),
    };
    status = oct_tokenizer_from_vocabulary(path, &vocabulary, out, err);
out:
    string_list_free(&tokens);
    string_list_free(&merges);
    free(types);
    free(scores);
    free(model);
    free(pre);
    return status;
}

// --- the chat templates -----------------------------------------------------------------------------------------------------------

struct template_text {
    char *name, *source; // owned; source NULL: none
    size_t length;
};

// What a checkpoint has.
struct template_texts {
    struct template_text chat, tool_chat;
    struct oct_buffer other_names; // of templates that no chat would choose: "rag, agent"
};

static void template_texts_free(struct template_texts *texts) {
    free(texts->chat.name);
    free(texts->chat.source);
    free(texts->tool_chat.name);
    free(texts->tool_chat.source);
    oct_buffer_free(&texts->other_names);
}

static struct template_text copy_text(const char *name, const char *text, size_t length) {
    return (struct template_text){oct_strdup(name), oct_strndup(text, length), length};
}

static oct_status template_from_file(const char *path, struct template_text *out, oct_error *err) {
    out->name = oct_strdup(path);
    return oct_file_read(path, MAX_TEMPLATE_BYTES, &out->source, &out->length, err);
}

// What the user gave: a file where there is one of that name, else Jinja, which a name without braces and newlines cannot be.
static oct_status template_from_option(const char *option, struct template_text *out, oct_error *err) {
    if (!oct_path_exists(option) && strpbrk(option, "{}\n")) {
        *out = copy_text("chat template", option, strlen(option));
        return OCT_OK;
    }
    return template_from_file(option, out, err);
}

static void take_named(struct template_texts *texts, const char *path, const char *name, const json_t *text) {
    struct template_text *out = !strcmp(name, "default") ? &texts->chat : !strcmp(name, "tool_use") ? &texts->tool_chat : NULL;
    if (!out) oct_buffer_printf(&texts->other_names, "%s%.80s", texts->other_names.length ? ", " : "", name);
    if (!out || out->source) return;
    *out = copy_text(path, json_string_value(text), json_string_length(text));
}

// tokenizer_config.json holds one template, or a list of named ones.
static oct_status templates_from_tokenizer_config(const char *path, struct template_texts *texts, oct_error *err) {
    json_t *config, *entry;
    size_t i;
    OCT_TRY(oct_json_load(path, MAX_CONFIG_BYTES, &config, err));
    const json_t *given = json_object_get(config, "chat_template");
    if (json_is_string(given)) take_named(texts, path, "default", given);
    json_array_foreach(given, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *text = json_object_get(entry, "template");
        if (name && json_is_string(text)) take_named(texts, path, name, text);
    }
    json_decref(config);
    return OCT_OK;
}

static oct_status templates_from_directory(const char *directory, struct template_texts *texts, oct_error *err) {
    char *jinja = oct_path_join(directory, "chat_template.jinja"), *config = oct_path_join(directory, "tokenizer_config.json");
    char *tools = oct_path_join(directory, "additional_chat_templates/tool_use.jinja");
    oct_status status = OCT_OK;
    if (oct_path_exists(jinja)) {
        status = template_from_file(jinja, &texts->chat, err);
        if (status == OCT_OK && oct_path_exists(tools)) status = template_from_file(tools, &texts->tool_chat, err);
    } else if (oct_path_exists(config)) {
        status = templates_from_tokenizer_config(config, texts, err);
    }
    free(jinja);
    free(config);
    free(tools);
    return status;
}

static void template_from_key(const struct oct_gguf *gguf, const char *path, const char *key, struct template_text *out) {
    struct oct_gguf_string text;
    if (!oct_gguf_string(gguf, key, &text)) return;
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s: %s", path, key);
    *out = copy_text(name.data, text.data, text.length);
    oct_buffer_free(&name);
}

static oct_status templates_of_model(const struct oct_checkpoint *checkpoint, const char *path, struct template_texts *texts,
                                     oct_error *err) {
    const struct oct_gguf *gguf = oct_checkpoint_gguf(checkpoint);
    if (!gguf) return templates_from_directory(oct_checkpoint_directory(checkpoint), texts, err);
    template_from_key(gguf, path, "tokenizer.chat_template", &texts->chat);
    template_from_key(gguf, path, "tokenizer.chat_template.tool_use", &texts->tool_chat);
    return OCT_OK;
}

static oct_status compile(const struct template_text *text, struct oct_chat_template **out, oct_error *err) {
    return oct_chat_template_compile(text->name, text->source, text->length, out, err);
}

static oct_status fail_without_template(const struct template_texts *texts, const char *path, oct_error *err) {
    static const char remedy[] =
        "give one with --chat-template, the path of a file or Jinja itself (in the C API: the option chat_template)";
    if (texts->other_names.length || texts->tool_chat.source)
        return oct_fail(err, OCT_NOT_FOUND, "%s has no chat template called \"default\", only %s%s%s: %s", path,
                        texts->other_names.length ? texts->other_names.data : "",
                        texts->other_names.length && texts->tool_chat.source ? ", " : "", texts->tool_chat.source ? "tool_use" : "",
                        remedy);
    return oct_fail(err, OCT_NOT_FOUND, "%s has no chat template: %s", path, remedy);
}

static void open_chats(const struct oct_checkpoint *checkpoint, const char *path, const char *option, struct oct_text_source *source) {
    struct template_texts texts = {0};
    oct_error *err = &source->chat_problem;
    oct_status status = option ? template_from_option(option, &texts.chat, err) : templates_of_model(checkpoint, path, &texts, err);
    if (status == OCT_OK && texts.chat.source)
        compile(&texts.chat, &source->chat, err);
    else if (status == OCT_OK)
        fail_without_template(&texts, path, err);
    if (texts.tool_chat.source) compile(&texts.tool_chat, &source->tool_chat, &source->tool_chat_problem);
    template_texts_free(&texts);
}

oct_status oct_text_source_open(const struct oct_checkpoint *checkpoint, const char *path, const char *chat_template,
                                struct oct_text_source *out, oct_error *err) {
    *out = (struct oct_text_source){0};
    const struct oct_gguf *gguf = oct_checkpoint_gguf(checkpoint);
    if (gguf)
        OCT_TRY(tokenizer_from_gguf(gguf, path, &out->tokenizer, err));
    else
        OCT_TRY(oct_tokenizer_from_directory(oct_checkpoint_directory(checkpoint), &out->tokenizer, err));
    open_chats(checkpoint, path, chat_template, out);
    if (out->chat || !chat_template) return OCT_OK;
    oct_status status = out->chat_problem.code;
    if (err) *err = out->chat_problem;
    oct_text_source_close(out);
    return status;
}

void oct_text_source_close(struct oct_text_source *source) {
    oct_chat_template_free(source->chat);
    oct_chat_template_free(source->tool_chat);
    oct_tokenizer_free(source->tokenizer);
    *source = (struct oct_text_source){0};
}
