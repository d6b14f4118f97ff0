// dataset.c: calibration prompts from .jsonl, .json and .txt files, with errors that name the line.
#include "cli/dataset.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const size_t MAX_FILE_BYTES = 1u << 30;

static const char *string_at(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

// `name` stands for the object in messages.
static oct_status read_object(const char *name, const json_t *object, struct oct_prompt *out, oct_error *err) {
    const char *prompt = string_at(object, "prompt"), *system = string_at(object, "system_prompt"),
               *question = string_at(object, "question");
    json_t *messages = json_object_get(object, "messages");
    if (prompt) {
        out->text = oct_strdup(prompt);
    } else if (json_is_array(messages) && json_array_size(messages)) {
        out->messages = json_incref(messages);
    } else if (question && system && *system) {
        out->messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", system, "role", "user", "content", question);
    } else if (question) {
        out->messages = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    } else {
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: \"prompt\", \"messages\" or \"question\" expected, %s without them found", name,
                        oct_json_kind(object));
    }
    return OCT_OK;
}

static void add(struct oct_dataset *dataset, struct oct_prompt prompt) {
    enum { MORE = 64 };
    if (dataset->count % MORE == 0)
        dataset->prompts = oct_resize(dataset->prompts, dataset->count + MORE, sizeof *dataset->prompts, "calibration prompts");
    dataset->prompts[dataset->count++] = prompt;
}

static oct_status read_json_line(const char *name, const char *line, size_t length, struct oct_prompt *out, oct_error *err) {
    json_t *object;
    OCT_TRY(oct_json_parse(name, line, length, &object, err));
    oct_status status = read_object(name, object, out, err);
    json_decref(object);
    return status;
}

// One JSON value: an array of what the lines of a .jsonl hold, or of strings; or one such object alone.
static oct_status read_whole(const char *path, const char *text, size_t length, size_t limit, struct oct_dataset *out, oct_error *err) {
    json_t *root;
    OCT_TRY(oct_json_parse(path, text, length, &root, err));
    json_t *items = json_is_array(root) ? json_incref(root) : json_pack("[O]", root);
    oct_status status = OCT_OK;
    for (size_t i = 0; i < json_array_size(items) && status == OCT_OK && (!limit || i < limit); i++) {
        const json_t *item = json_array_get(items, i);
        struct oct_prompt prompt = {0};
        char name[512];
        snprintf(name, sizeof name, "%s: [%zu]", path, i);
        if (json_is_string(item))
            prompt.text = oct_strdup(json_string_value(item));
        else
            status = read_object(name, item, &prompt, err);
        if (status == OCT_OK) add(out, prompt);
    }
    json_decref(items);
    json_decref(root);
    OCT_TRY(status);
    return out->count ? OCT_OK : oct_fail(err, OCT_INVALID_ARGUMENT, "%s: an array of prompts expected, an empty one found", path);
}

static bool has_ending(const char *path, const char *ending) {
    const char *found = strrchr(path, '.');
    return found && !strcasecmp(found, ending);
}

static oct_status read_lines(const char *path, const char *text, size_t limit, struct oct_dataset *out, oct_error *err) {
    bool plain = has_ending(path, ".txt");
    size_t number = 1;
    for (const char *line = text; *line && (!limit || out->count < limit); number++) {
        size_t length = strcspn(line, "\n"), kept = length;
        while (kept && strchr(" \t\r", line[kept - 1])) kept--;
        if (kept) {
            struct oct_prompt prompt = {0};
            char name[512];
            snprintf(name, sizeof name, "%s: line %zu", path, number);
            if (plain)
                prompt.text = oct_strndup(line, kept);
            else
                OCT_TRY(read_json_line(name, line, kept, &prompt, err));
            add(out, prompt);
        }
        line += length + (line[length] == '\n');
    }
    return out->count ? OCT_OK : oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a prompt a line expected, no line found", path);
}

oct_status oct_dataset_read(const char *path, size_t limit, struct oct_dataset *out, oct_error *err) {
    char *text;
    size_t length;
    *out = (struct oct_dataset){0};
    if (has_ending(path, ".pkl"))
        return oct_fail(
            err, OCT_UNSUPPORTED,
            "%s: .jsonl, .json or .txt expected, a pickle found, which can run anything when it is read; to convert one that you "
            "trust: python3 -c \"import pandas; pandas.read_pickle('x.pkl').to_json('x.jsonl', orient='records', lines=True)\"",
            path);
    OCT_TRY(oct_file_read(path, MAX_FILE_BYTES, &text, &length, err));
    oct_status status = OCT_OK;
    if (strlen(text) != length) status = oct_fail(err, OCT_CORRUPT, "%s: text expected, a NUL byte found", path);
    if (status == OCT_OK)
        status = has_ending(path, ".json") ? read_whole(path, text, length, limit, out, err) : read_lines(path, text, limit, out, err);
    free(text);
    if (status != OCT_OK) oct_dataset_free(out);
    return status;
}

void oct_dataset_free(struct oct_dataset *dataset) {
    for (size_t i = 0; i < dataset->count; i++) {
        free(dataset->prompts[i].text);
        json_decref(dataset->prompts[i].messages);
    }
    free(dataset->prompts);
    *dataset = (struct oct_dataset){0};
}
