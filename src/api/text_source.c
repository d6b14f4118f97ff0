// text_source.c: where tokenizer and chat template come from: keys of a GGUF file, or files beside the weights. A model without a usable
// template still completes text, so that problem is kept until somebody wants to chat.
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

// --- the chat template ------------------------------------------------------------------------------------------------------------

struct template_text {
    char *name, *source; // owned; source NULL: none
    size_t length;
};

static oct_status template_from_file(const char *path, struct template_text *out, oct_error *err) {
    out->name = oct_strdup(path);
    return oct_file_read(path, MAX_TEMPLATE_BYTES, &out->source, &out->length, err);
}

// What the user gave: a text that can only be Jinja, else a path.
static oct_status template_from_option(const char *option, struct template_text *out, oct_error *err) {
    if (!strstr(option, "{{") && !strstr(option, "{%")) return template_from_file(option, out, err);
    *out = (struct template_text){oct_strdup("chat template"), oct_strdup(option), strlen(option)};
    return OCT_OK;
}

// tokenizer_config.json holds one template, or a list of named ones of which "default" is meant for chats.
static const json_t *default_template(const json_t *value) {
    size_t i;
    json_t *entry;
    if (json_is_string(value)) return value;
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && !strcmp(name, "default")) return json_object_get(entry, "template");
    }
    return NULL;
}

static oct_status template_from_tokenizer_config(const char *path, struct template_text *out, oct_error *err) {
    json_t *config;
    OCT_TRY(oct_json_load(path, MAX_CONFIG_BYTES, &config, err));
    const json_t *text = default_template(json_object_get(config, "chat_template"));
    if (json_is_string(text)) {
        out->name = oct_strdup(path);
        out->length = json_string_length(text);
        out->source = oct_strndup(json_string_value(text), out->length);
    }
    json_decref(config);
    return OCT_OK;
}

static oct_status template_from_directory(const char *directory, struct template_text *out, oct_error *err) {
    char *jinja = oct_path_join(directory, "chat_template.jinja"), *config = oct_path_join(directory, "tokenizer_config.json");
    oct_status status = OCT_OK;
    if (oct_path_exists(jinja))
        status = template_from_file(jinja, out, err);
    else if (oct_path_exists(config))
        status = template_from_tokenizer_config(config, out, err);
    free(jinja);
    free(config);
    return status;
}

static oct_status template_of_model(const struct oct_checkpoint *checkpoint, const char *path, struct template_text *out, oct_error *err) {
    const struct oct_gguf *gguf = oct_checkpoint_gguf(checkpoint);
    if (!gguf) return template_from_directory(oct_checkpoint_directory(checkpoint), out, err);
    struct oct_gguf_string text;
    if (!oct_gguf_string(gguf, "tokenizer.chat_template", &text)) return OCT_OK;
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s: tokenizer.chat_template", path);
    *out = (struct template_text){oct_buffer_take(&name), oct_strndup(text.data, text.length), text.length};
    return OCT_OK;
}

static oct_status open_chat(const struct oct_checkpoint *checkpoint, const char *path, const char *option, struct oct_text_source *source,
                            oct_error *err) {
    struct template_text text = {0};
    oct_status status = option ? template_from_option(option, &text, err) : template_of_model(checkpoint, path, &text, err);
    if (status == OCT_OK && text.source)
        status = oct_chat_template_compile(text.name, text.source, text.length, &source->chat, err);
    else if (status == OCT_OK)
        status = oct_fail(err, OCT_NOT_FOUND, "%s has no chat template: give one with the option chat_template", path);
    free(text.name);
    free(text.source);
    return status;
}

oct_status oct_text_source_open(const struct oct_checkpoint *checkpoint, const char *path, const char *chat_template,
                                struct oct_text_source *out, oct_error *err) {
    *out = (struct oct_text_source){0};
    const struct oct_gguf *gguf = oct_checkpoint_gguf(checkpoint);
    if (gguf)
        OCT_TRY(tokenizer_from_gguf(gguf, path, &out->tokenizer, err));
    else
        OCT_TRY(oct_tokenizer_from_directory(oct_checkpoint_directory(checkpoint), &out->tokenizer, err));
    oct_status status = open_chat(checkpoint, path, chat_template, out, &out->chat_problem);
    if (status == OCT_OK || !chat_template) return OCT_OK;
    if (err) *err = out->chat_problem;
    oct_text_source_close(out);
    return status;
}

void oct_text_source_close(struct oct_text_source *source) {
    oct_chat_template_free(source->chat);
    oct_tokenizer_free(source->tokenizer);
    *source = (struct oct_text_source){0};
}
