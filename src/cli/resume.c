// resume.c: the number of prompts done stands in the measurement itself (NumSamples), so that both change at once.
#include "cli/resume.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "quant/file_name.h"
#include "quant/node_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const double SAVE_SECONDS = 10;
enum { MAX_DESCRIPTION_BYTES = 1 << 16 };

// FNV-1a, which is enough to tell one dataset from another.
static uint64_t hash_of(const struct oct_prompts *prompts) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < prompts->count; i++) {
        const struct oct_ids *ids = &prompts->items[i];
        hash = (hash ^ ids->count) * 0x100000001b3;
        for (size_t j = 0; j < ids->count; j++) hash = (hash ^ (uint32_t)ids->data[j]) * 0x100000001b3;
    }
    return hash;
}

static char *describe(const char *model_path, const struct oct_prompts *prompts) {
    struct stat info = {0};
    char hash[32], *absolute = realpath(model_path, NULL);
    if (stat(model_path, &info) != 0) info.st_size = 0;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_of(prompts));
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:s}", "model", absolute ? absolute : model_path, "bytes", (json_int_t)info.st_size, "changed",
                  (json_int_t)info.st_mtime, "prompts", (json_int_t)prompts->count, "tokens", (json_int_t)prompts->tokens, "hash", hash);
    char *text = json_dumps(object, JSON_INDENT(4));
    json_decref(object);
    free(absolute);
    return text;
}

void oct_resume_open(const char *folder, const char *model_path, const struct oct_prompts *prompts, struct oct_resume *out) {
    *out = (struct oct_resume){.folder = oct_strdup(folder), .description = describe(model_path, prompts), .saved = oct_seconds()};
}

void oct_resume_close(struct oct_resume *resume) {
    free(resume->folder);
    free(resume->description);
    *resume = (struct oct_resume){0};
}

// Of the files of the run: everything is kept, whatever the result will leave out. `path`: their prefix.
static struct oct_quant_config config_at(char *path) {
    return (struct oct_quant_config){
        .mode = OCT_QUANT_MEASURE, .observer = "maxabs", .dump_stats_path = path, .world_size = 1, .separate_measure_files = true};
}

static bool is_same_run(const struct oct_resume *resume) {
    char *path = oct_path_join(resume->folder, "run.json"), *text = NULL;
    size_t length;
    bool same = oct_path_exists(path) && oct_file_read(path, MAX_DESCRIPTION_BYTES, &text, &length, NULL) == OCT_OK &&
                !strcmp(text, resume->description);
    free(text);
    free(path);
    return same;
}

// NumSamples of the file; 0 where there is none.
static size_t samples_in(const char *path) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    size_t samples = 0;
    if (oct_node_file_read_any(path, &tree, &root, NULL) == OCT_OK) {
        const struct oct_value *count = oct_dict_get(root, "NumSamples");
        if (count && count->kind == OCT_VALUE_INT && count->integer > 0) samples = (size_t)count->integer;
    }
    oct_tree_free(&tree);
    return samples;
}

void oct_resume_load(const struct oct_resume *resume, struct oct_measurement **measurement, size_t *prompts_done) {
    if (!is_same_run(resume)) return;
    char *prefix = oct_path_join(resume->folder, "so_far");
    struct oct_quant_config config = config_at(prefix);
    char *path = oct_quant_config_file(&config, "", 0, 1, ".npz");
    struct oct_measurement *so_far;
    size_t samples = oct_path_exists(path) ? samples_in(path) : 0;
    if (samples && oct_measurement_read(&config, (*measurement)->num_layers, &so_far, NULL) == OCT_OK) {
        oct_measurement_free(*measurement);
        *measurement = so_far;
        *prompts_done = samples;
    }
    free(path);
    free(prefix);
}

static oct_status write_description(const struct oct_resume *resume, oct_error *err) {
    if (is_same_run(resume)) return OCT_OK;
    oct_resume_remove(resume); // of another run: its numbers must not pass for this one's
    OCT_TRY(oct_make_directories(resume->folder, err));
    char *path = oct_path_join(resume->folder, "run.json");
    oct_status status = oct_file_write(path, resume->description, strlen(resume->description), err);
    free(path);
    return status;
}

oct_status oct_resume_save(struct oct_resume *resume, const struct oct_measurement *measurement, size_t prompts_done, oct_error *err) {
    OCT_TRY(write_description(resume, err));
    char *prefix = oct_path_join(resume->folder, "so_far");
    struct oct_quant_config config = config_at(prefix);
    oct_status status = oct_measurement_write(measurement, &config, (int)prompts_done, err);
    free(prefix);
    resume->saved = oct_seconds();
    return status;
}

bool oct_resume_is_due(const struct oct_resume *resume) {
    return oct_seconds() - resume->saved >= SAVE_SECONDS;
}

void oct_resume_remove(const struct oct_resume *resume) {
    struct oct_file_list files;
    oct_file_list_gather(resume->folder, 0, &files);
    for (size_t i = 0; i < files.count; i++) unlink(files.paths[i]);
    oct_file_list_free(&files);
    char *path = oct_path_join(resume->folder, "run.json");
    unlink(path);
    free(path);
    rmdir(resume->folder);
}
