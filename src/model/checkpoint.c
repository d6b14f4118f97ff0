// One sorted list of tensors over however many mapped files there are.
#include "model/checkpoint.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/gguf.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 64 << 20, MAX_SHARDS = 4096 };

struct oct_checkpoint {
    char *path;
    bool is_directory;
    struct oct_model_config config;
    struct oct_gguf *gguf;           // of a .gguf file
    struct oct_safetensors **shards; // (num_shards), of a directory
    size_t num_shards;
    struct oct_tensor *tensors; // (num_tensors), sorted by name
    size_t num_tensors;
};

static int compare_tensors(const void *a, const void *b) {
    const struct oct_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static oct_status sort_tensors(struct oct_checkpoint *checkpoint, oct_error *err) {
    qsort(checkpoint->tensors, checkpoint->num_tensors, sizeof *checkpoint->tensors, compare_tensors);
    for (size_t i = 1; i < checkpoint->num_tensors; i++)
        if (!compare_tensors(checkpoint->tensors + i - 1, checkpoint->tensors + i))
            return oct_fail(err, OCT_CORRUPT, "%s: tensor %s stands in two shards", checkpoint->path, checkpoint->tensors[i].name);
    return OCT_OK;
}

// Buffers that old checkpoints carry, such as rotary_emb.inv_freq, are neither weights, biases nor scales and are left out.
static bool is_parameter(const struct oct_checkpoint *checkpoint, const struct oct_safetensors_entry *entry) {
    static const char *const scales[] = {".weight_scale", ".weight_scale_inv", ".input_scale", ".scale_weight", ".scale_input",
                                         ".k_scale",      ".v_scale",          ".kv_scale",    ".output_scale", ".dequant_output.scale"};
    if (strlen(entry->name) >= sizeof((struct oct_tensor *)NULL)->name) return false;
    if (oct_ends_with(entry->name, ".weight") || oct_ends_with(entry->name, ".bias")) return true;
    for (size_t i = 0; i < sizeof scales / sizeof *scales && checkpoint->config.fp8.method; i++)
        if (oct_ends_with(entry->name, scales[i])) return true;
    return false;
}

static oct_status add_fp8_weight(struct oct_checkpoint *checkpoint, const char *path, struct oct_tensor *tensor, oct_error *err) {
    if (!checkpoint->config.fp8.method)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: FP8, but config.json has no quantization_config that says how it is scaled",
                        path, tensor->name);
    if (tensor->num_dims != 2 || !oct_ends_with(tensor->name, ".weight"))
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: only weight matrices in FP8 expected", path, tensor->name);
    tensor->dtype = OCT_E4M3;
    if (checkpoint->config.fp8.method == OCT_FP8_INC) {
        int64_t ins = tensor->shape[0];
        tensor->transposed = true;
        tensor->shape[0] = tensor->shape[1];
        tensor->shape[1] = ins;
    }
    return OCT_OK;
}

static oct_status add_tensor(struct oct_checkpoint *checkpoint, const char *path, const struct oct_safetensors_entry *entry,
                             oct_error *err) {
    static const enum oct_dtype dtypes[] = {OCT_F32, OCT_F16, OCT_BF16};
    static const char *const names[] = {"F32", "F16", "BF16"};
    struct oct_tensor *tensor = checkpoint->tensors + checkpoint->num_tensors;
    bool fp8 = !strcmp(entry->dtype, "F8_E4M3");
    int i = 0;
    while (i < 3 && strcmp(names[i], entry->dtype)) i++;
    if (i == 3 && !fp8)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: dtype F32, F16, BF16 or F8_E4M3 expected, %s found", path, entry->name,
                        entry->dtype);
    if (entry->num_dims > 4)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: at most 4 dimensions expected, %d found", path, entry->name, entry->num_dims);
    *tensor = (struct oct_tensor){.dtype = dtypes[fp8 ? 0 : i], .num_dims = entry->num_dims, .data = entry->data, .size = entry->size};
    strcpy(tensor->name, entry->name);
    memcpy(tensor->shape, entry->shape, (size_t)entry->num_dims * sizeof *entry->shape);
    if (fp8) OCT_TRY(add_fp8_weight(checkpoint, path, tensor, err));
    checkpoint->num_tensors++;
    return OCT_OK;
}

static oct_status open_shard(struct oct_checkpoint *checkpoint, const char *file_name, oct_error *err) {
    char *path = oct_path_join(checkpoint->path, file_name);
    struct oct_safetensors *shard = NULL;
    oct_status status = oct_safetensors_open(path, &shard, err);
    if (status == OCT_OK) {
        checkpoint->shards = oct_resize(checkpoint->shards, checkpoint->num_shards + 1, sizeof *checkpoint->shards, "shards");
        checkpoint->shards[checkpoint->num_shards++] = shard;
        checkpoint->tensors = oct_resize(checkpoint->tensors, checkpoint->num_tensors + shard->num_entries, sizeof *checkpoint->tensors,
                                         "the list of tensors");
        for (size_t i = 0; i < shard->num_entries && status == OCT_OK; i++)
            if (is_parameter(checkpoint, shard->entries + i)) status = add_tensor(checkpoint, path, shard->entries + i, err);
    }
    free(path);
    return status;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Opens each file that weight_map names, once. A name is one in the same folder: it must not lead out of it.
static oct_status open_shards(struct oct_checkpoint *checkpoint, const char *index_path, const json_t *index, oct_error *err) {
    json_t *map = json_object_get(index, "weight_map"), *value;
    if (!json_is_object(map))
        return oct_fail(err, OCT_CORRUPT, "%s: weight_map: an object expected, %s found", index_path, oct_json_kind(map));
    const char **names = oct_alloc(json_object_size(map), sizeof *names, "shard names"), *key;
    size_t count = 0;
    oct_status status = OCT_OK;
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        if (!name || json_string_length(value) != strlen(name) || strchr(name, '/') || !oct_ends_with(name, ".safetensors")) {
            status = oct_fail(err, OCT_CORRUPT, "%s: tensor %s: the name of a .safetensors file in the same folder expected, \"%s\" found",
                              index_path, key, name ? name : oct_json_kind(value));
            goto out;
        }
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        if (i > 0 && !strcmp(names[i - 1], names[i])) continue;
        status = checkpoint->num_shards < MAX_SHARDS ? open_shard(checkpoint, names[i], err)
                                                     : oct_fail(err, OCT_CORRUPT, "%s: more than %d shards", index_path, MAX_SHARDS);
    }
out:
    free(names);
    return status;
}

static oct_status open_weights(struct oct_checkpoint *checkpoint, oct_error *err) {
    char *whole = oct_path_join(checkpoint->path, "model.safetensors");
    char *index_path = oct_path_join(checkpoint->path, "model.safetensors.index.json");
    json_t *index = NULL;
    oct_status status;
    if (oct_path_exists(whole)) {
        status = open_shard(checkpoint, "model.safetensors", err);
    } else if (oct_path_exists(index_path)) {
        status = oct_json_load(index_path, MAX_JSON_BYTES, &index, err);
        if (status == OCT_OK) status = open_shards(checkpoint, index_path, index, err);
    } else {
        status = oct_fail(err, OCT_NOT_FOUND, "%s: neither model.safetensors nor model.safetensors.index.json found", checkpoint->path);
    }
    json_decref(index);
    free(index_path);
    free(whole);
    return status == OCT_OK ? sort_tensors(checkpoint, err) : status;
}

static oct_status read_config(struct oct_checkpoint *checkpoint, oct_error *err) {
    char *path = oct_path_join(checkpoint->path, "config.json");
    char *generation_path = oct_path_join(checkpoint->path, "generation_config.json");
    json_t *config = NULL, *generation = NULL;
    oct_status status = oct_json_load(path, MAX_JSON_BYTES, &config, err);
    if (status == OCT_OK && oct_path_exists(generation_path)) status = oct_json_load(generation_path, MAX_JSON_BYTES, &generation, err);
    if (status == OCT_OK) status = oct_model_config_parse(path, config, generation, &checkpoint->config, err);
    json_decref(generation);
    json_decref(config);
    free(generation_path);
    free(path);
    return status;
}

static oct_status open_directory(struct oct_checkpoint *checkpoint, oct_error *err) {
    OCT_TRY(read_config(checkpoint, err));
    return open_weights(checkpoint, err);
}

static oct_status open_gguf(struct oct_checkpoint *checkpoint, oct_error *err) {
    OCT_TRY(oct_gguf_open(checkpoint->path, &checkpoint->gguf, err));
    OCT_TRY(oct_gguf_model_config(checkpoint->gguf, &checkpoint->config, err));
    size_t count = oct_gguf_num_tensors(checkpoint->gguf);
    checkpoint->tensors = oct_alloc(count, sizeof *checkpoint->tensors, "the list of tensors");
    for (size_t i = 0; i < count; i++) {
        OCT_TRY(oct_gguf_tensor(checkpoint->gguf, &checkpoint->config, i, checkpoint->tensors + i, err));
        checkpoint->num_tensors++;
    }
    return sort_tensors(checkpoint, err);
}

oct_status oct_checkpoint_open(const char *path, struct oct_checkpoint **out, oct_error *err) {
    struct oct_checkpoint *checkpoint = oct_alloc(1, sizeof *checkpoint, "a checkpoint");
    checkpoint->path = oct_strdup(path);
    checkpoint->is_directory = oct_path_is_directory(path);
    oct_status status = checkpoint->is_directory ? open_directory(checkpoint, err) : open_gguf(checkpoint, err);
    if (status != OCT_OK) {
        oct_checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return OCT_OK;
}

struct oct_checkpoint *oct_checkpoint_from_tensors(const char *name, const struct oct_model_config *config,
                                                   const struct oct_tensor *tensors, size_t num_tensors) {
    struct oct_checkpoint *checkpoint = oct_alloc(1, sizeof *checkpoint, "a checkpoint");
    checkpoint->path = oct_strdup(name);
    checkpoint->config = *config;
    checkpoint->tensors = oct_alloc(num_tensors, sizeof *tensors, "the list of tensors");
    memcpy(checkpoint->tensors, tensors, num_tensors * sizeof *tensors);
    checkpoint->num_tensors = num_tensors;
    qsort(checkpoint->tensors, num_tensors, sizeof *tensors, compare_tensors);
    return checkpoint;
}

void oct_checkpoint_close(struct oct_checkpoint *checkpoint) {
    if (!checkpoint) return;
    for (size_t i = 0; i < checkpoint->num_shards; i++) oct_safetensors_close(checkpoint->shards[i]);
    free(checkpoint->shards);
    oct_gguf_close(checkpoint->gguf);
    free(checkpoint->tensors);
    free(checkpoint->path);
    free(checkpoint);
}

const struct oct_model_config *oct_checkpoint_config(const struct oct_checkpoint *checkpoint) {
    return &checkpoint->config;
}

const struct oct_tensor *oct_checkpoint_find(const struct oct_checkpoint *checkpoint, const char *name) {
    struct oct_tensor wanted;
    if (strlen(name) >= sizeof wanted.name) return NULL;
    strcpy(wanted.name, name);
    return bsearch(&wanted, checkpoint->tensors, checkpoint->num_tensors, sizeof wanted, compare_tensors);
}

// "[576, 1536]"
static void print_shape(const int64_t *shape, int num_dims, char *out, size_t size) {
    size_t length = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < num_dims && length < size; i++)
        length += (size_t)snprintf(out + length, size - length, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (length < size) snprintf(out + length, size - length, "]");
}

oct_status oct_checkpoint_require(const struct oct_checkpoint *checkpoint, const char *name, int64_t shape0, int64_t shape1,
                                  const struct oct_tensor **out, oct_error *err) {
    int64_t shape[] = {shape0, shape1};
    int num_dims = shape1 ? 2 : 1;
    *out = oct_checkpoint_find(checkpoint, name);
    if (*out && (*out)->num_dims == num_dims && !memcmp((*out)->shape, shape, (size_t)num_dims * sizeof *shape)) return OCT_OK;
    char expected[96], found[96];
    print_shape(shape, num_dims, expected, sizeof expected);
    if (!*out)
        return oct_fail(err, OCT_NOT_FOUND, "%s: tensor %s: shape %s expected, no such tensor found", checkpoint->path, name, expected);
    print_shape((*out)->shape, (*out)->num_dims, found, sizeof found);
    return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: shape %s expected, %s found", checkpoint->path, name, expected, found);
}

const struct oct_gguf *oct_checkpoint_gguf(const struct oct_checkpoint *checkpoint) {
    return checkpoint->gguf;
}

const char *oct_checkpoint_path(const struct oct_checkpoint *checkpoint) {
    return checkpoint->path;
}

size_t oct_checkpoint_num_tensors(const struct oct_checkpoint *checkpoint) {
    return checkpoint->num_tensors;
}

const struct oct_tensor *oct_checkpoint_tensor(const struct oct_checkpoint *checkpoint, size_t i) {
    return checkpoint->tensors + i;
}

const char *oct_checkpoint_directory(const struct oct_checkpoint *checkpoint) {
    return checkpoint->is_directory ? checkpoint->path : NULL;
}
