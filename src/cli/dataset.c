// dataset.c: one prompt a line; a bad line is an error that names its number.
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

static oct_status read_json_line(const char *name, const char *line, size_t length, struct oct_prompt *out, oct_error *err) {
    json_t *object;
    OCT_TRY(oct_json_parse(name, line, length, &object, err));
    const char *prompt = string_at(object, "prompt"), *system = string_at(object, "system_prompt"),
               *question = string_at(object, "question");
    json_t *messages = json_object_get(object, "messages");
    oct_status status = OCT_OK;
    if (prompt) {
        out->text = oct_strdup(prompt);
    } else if (json_is_array(messages) && json_array_size(messages)) {
        out->messages = json_incref(messages);
    } else if (question && system && *system) {
        out->messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", system, "role", "user", "content", question);
    } else if (question) {
        out->messages = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    } else {
        status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s: \"prompt\", \"messages\" or \"question\" expected, %s without them found", name,
                          oct_json_kind(object));
    }
    json_decref(object);
    return status;
}

static oct_status read_lines(const char *path, const char *text, size_t limit, struct oct_dataset *out, oct_error *err) {
    const char *ending = strrchr(path, '.');
    bool plain = ending && !strcasecmp(ending, ".txt");
    size_t number = 1, capacity = 0;
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
            if (out->count == capacity) {
                capacity = capacity ? 2 * capacity : 64;
                out->prompts = oct_resize(out->prompts, capacity, sizeof *out->prompts, "calibration prompts");
            }
            out->prompts[out->count++] = prompt;
        }
        line += length + (line[length] == '\n');
    }
    return out->count ? OCT_OK : oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a prompt a line expected, no line found", path);
}

oct_status oct_dataset_read(const char *path, size_t limit, struct oct_dataset *out, oct_error *err) {
    char *text;
    size_t length;
    *out = (struct oct_dataset){0};
    OCT_TRY(oct_file_read(path, MAX_FILE_BYTES, &text, &length, err));
    oct_status status = OCT_OK;
    if (strlen(text) != length) status = oct_fail(err, OCT_CORRUPT, "%s: text expected, a NUL byte found", path);
    if (status == OCT_OK) status = read_lines(path, text, limit, out, err);
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
