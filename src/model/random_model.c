// random_model.c: one stretch of random bf16 numbers, as long as the largest matrix, that all matrices of the model show. It lies in a
// file in memory and not in anonymous pages, because loading gives pages back that it has read.
#include "model/random_model.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
    const char *name;
    struct oct_model_config config;
} shapes[] = {
    {"135m",
     {.hidden_size = 576,
      .intermediate_size = 1536,
      .num_hidden_layers = 30,
      .num_attention_heads = 9,
      .num_key_value_heads = 3,
      .head_dim = 64,
      .vocab_size = 49152,
      .tie_word_embeddings = true}},
    {"1b",
     {.hidden_size = 2048,
      .intermediate_size = 8192,
      .num_hidden_layers = 16,
      .num_attention_heads = 32,
      .num_key_value_heads = 8,
      .head_dim = 64,
      .vocab_size = 128256,
      .tie_word_embeddings = true}},
    {"8b",
     {.hidden_size = 4096,
      .intermediate_size = 14336,
      .num_hidden_layers = 32,
      .num_attention_heads = 32,
      .num_key_value_heads = 8,
      .head_dim = 128,
      .vocab_size = 128256,
      .tie_word_embeddings = false}},
};

static oct_status find_shape(const char *name, struct oct_model_config *config, oct_error *err) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(name, shapes[i].name)) continue;
        *config = shapes[i].config;
        strcpy(config->model_type, "llama");
        config->max_position_embeddings = 131072;
        config->rms_norm_eps = 1e-5f;
        config->dtype = OCT_BF16;
        config->rope = (struct oct_rope_config){.type = OCT_ROPE_DEFAULT, .theta = 500000};
        config->bos_token_id = -1;
        return OCT_OK;
    }
    return oct_fail(err, OCT_INVALID_ARGUMENT, "shape 135m, 1b or 8b expected, %s found", name);
}

// +-1/32 at most, one random sign and mantissa each: bf16 with the exponents of 2^-6 to 2^-9.
static void fill(uint16_t *weights, size_t count) {
    uint64_t state = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        weights[i] = (uint16_t)((state & 0x8000) | (118 + (state >> 20 & 3)) << 7 | (state & 0x7f));
    }
}

static oct_status map_weights(size_t size, void **out, oct_error *err) {
    int file = memfd_create("octavo-random-weights", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)size) != 0) {
        int reason = errno;
        if (file >= 0) close(file);
        return oct_fail(err, OCT_OUT_OF_MEMORY, "%zu bytes of random weights: %s", size, strerror(reason));
    }
    *out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file); // the mapping keeps it
    return *out == MAP_FAILED ? oct_fail(err, OCT_OUT_OF_MEMORY, "%zu bytes of random weights: cannot be mapped", size) : OCT_OK;
}

struct tensor_list {
    struct oct_tensor *items; // (count)
    size_t count, largest;    // bytes of the largest one
};

static void add(struct tensor_list *list, int layer, const char *name, int rows, int columns) {
    struct oct_tensor *tensor = &list->items[list->count++];
    *tensor = (struct oct_tensor){.dtype = OCT_BF16, .num_dims = columns ? 2 : 1, .shape = {rows, columns}};
    if (layer < 0)
        snprintf(tensor->name, sizeof tensor->name, "%s.weight", name);
    else
        snprintf(tensor->name, sizeof tensor->name, "model.layers.%d.%s.weight", layer, name);
    tensor->size = (size_t)rows * (size_t)(columns ? columns : 1) * sizeof(uint16_t);
    if (tensor->size > list->largest) list->largest = tensor->size;
}

// Norms show random numbers too, all smaller than one: the residual stream stays small.
static void add_all(struct tensor_list *list, const struct oct_model_config *config) {
    int hidden = config->hidden_size, intermediate = config->intermediate_size;
    int q = config->num_attention_heads * config->head_dim, kv = config->num_key_value_heads * config->head_dim;
    add(list, -1, "model.embed_tokens", config->vocab_size, hidden);
    if (!config->tie_word_embeddings) add(list, -1, "lm_head", config->vocab_size, hidden);
    add(list, -1, "model.norm", hidden, 0);
    for (int layer = 0; layer < config->num_hidden_layers; layer++) {
        add(list, layer, "input_layernorm", hidden, 0);
        add(list, layer, "self_attn.q_proj", q, hidden);
        add(list, layer, "self_attn.k_proj", kv, hidden);
        add(list, layer, "self_attn.v_proj", kv, hidden);
        add(list, layer, "self_attn.o_proj", hidden, q);
        add(list, layer, "post_attention_layernorm", hidden, 0);
        add(list, layer, "mlp.gate_proj", intermediate, hidden);
        add(list, layer, "mlp.up_proj", intermediate, hidden);
        add(list, layer, "mlp.down_proj", hidden, intermediate);
    }
}

oct_status oct_random_model_open(const char *shape, struct oct_random_model *out, oct_error *err) {
    *out = (struct oct_random_model){0};
    struct oct_model_config config;
    OCT_TRY(find_shape(shape, &config, err));
    struct tensor_list list = {0};
    list.items = oct_alloc(3 + 9 * (size_t)config.num_hidden_layers, sizeof *list.items, "the list of tensors");
    add_all(&list, &config);
    oct_status status = map_weights(list.largest, &out->weights, err);
    if (status == OCT_OK) {
        out->size = list.largest;
        fill(out->weights, list.largest / sizeof(uint16_t));
        for (size_t i = 0; i < list.count; i++) list.items[i].data = out->weights;
        out->checkpoint = oct_checkpoint_from_tensors(shape, &config, list.items, list.count);
    }
    free(list.items);
    return status;
}

void oct_random_model_close(struct oct_random_model *model) {
    oct_checkpoint_close(model->checkpoint);
    if (model->size) munmap(model->weights, model->size);
    *model = (struct oct_random_model){0};
}
