// config.h: the facts of a model that config.json (or a GGUF file's keys) states. Hugging Face's names.
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "model/fp8_format.h"
#include "numeric/dtype.h"

#include <stdbool.h>

enum oct_rope_type { OCT_ROPE_DEFAULT, OCT_ROPE_LINEAR, OCT_ROPE_DYNAMIC, OCT_ROPE_LLAMA3, OCT_ROPE_YARN };

struct oct_rope_config {
    enum oct_rope_type type;
    double theta;
    double factor;                            // linear, dynamic, llama3, yarn
    int original_max_position_embeddings;     // llama3, yarn; max_position_embeddings when absent
    double low_freq_factor, high_freq_factor; // llama3
    double beta_fast, beta_slow;              // yarn; 32 and 1 when absent
    double attention_factor;                  // yarn; resolved from mscale/mscale_all_dim/factor when absent
    bool truncate;                            // yarn: whole correction dimensions; true when absent
};

enum { OCT_MAX_EOS_TOKENS = 16 };

struct oct_model_config {
    char model_type[32]; // "llama"
    int hidden_size, intermediate_size, num_hidden_layers;
    int num_attention_heads, num_key_value_heads, head_dim;
    int vocab_size, max_position_embeddings;
    float rms_norm_eps;
    bool tie_word_embeddings, attention_bias, mlp_bias;
    enum oct_dtype dtype;      // of the stored weights; what it says, not what a tensor holds
    struct oct_fp8_format fp8; // of the stored weights
    struct oct_rope_config rope;
    int bos_token_id; // -1: none
    int eos_token_ids[OCT_MAX_EOS_TOKENS];
    int num_eos_tokens;
};

// Reads config.json in both spellings (rope_theta + rope_scaling, or rope_parameters) and generation_config.json's eos list, if
// `generation` is not NULL. `name` stands in messages for the file. Every number is checked for range and every relation
// (num_attention_heads divisible by num_key_value_heads, even head_dim, ...) before it is returned.
oct_status oct_model_config_parse(const char *name, const json_t *config, const json_t *generation, struct oct_model_config *out,
                                  oct_error *err);
// The ranges and relations alone; readers of other formats call it when all fields are set.
oct_status oct_model_config_check(const char *name, const struct oct_model_config *config, oct_error *err);
