// A Llama model in a GGUF file: its keys as Hugging Face's config, its tensors under Hugging Face's names.
#include "model/gguf.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static oct_status fail_key(const struct oct_gguf *gguf, const char *key, const char *expected, oct_error *err) {
    return oct_fail(err, OCT_CORRUPT, "%s: key %s: %s expected, %s found", oct_gguf_path(gguf), key, expected,
                    oct_gguf_has(gguf, key) ? "another type" : "nothing");
}

enum { REQUIRED = INT_MIN };

static oct_status read_integer(const struct oct_gguf *gguf, const char *key, int absent, int *out, oct_error *err) {
    int64_t value;
    *out = absent;
    if (absent != REQUIRED && !oct_gguf_has(gguf, key)) return OCT_OK;
    if (!oct_gguf_integer(gguf, key, &value)) return fail_key(gguf, key, "an integer", err);
    if (value < -INT_MAX || value > INT_MAX)
        return oct_fail(err, OCT_CORRUPT, "%s: key %s: %lld is out of range", oct_gguf_path(gguf), key, (long long)value);
    *out = (int)value;
    return OCT_OK;
}

// absent = NAN: the key must be there.
static oct_status read_float(const struct oct_gguf *gguf, const char *key, double absent, double *out, oct_error *err) {
    *out = absent;
    if (!isnan(absent) && !oct_gguf_has(gguf, key)) return OCT_OK;
    return oct_gguf_float(gguf, key, out) ? OCT_OK : fail_key(gguf, key, "a float", err);
}

static oct_status read_architecture(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    struct oct_gguf_string architecture;
    if (!oct_gguf_string(gguf, "general.architecture", &architecture)) return fail_key(gguf, "general.architecture", "a string", err);
    if (architecture.length != 5 || memcmp(architecture.data, "llama", 5))
        return oct_fail(err, OCT_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported", oct_gguf_path(gguf),
                        (int)(architecture.length < 64 ? architecture.length : 64), architecture.data);
    strcpy(out->model_type, "llama");
    // What other models that call themselves llama are multiplied with, or routed by.
    static const struct {
        const char *key;
        double plain;
    } extras[] = {{"llama.expert_count", 0},    {"llama.logit_scale", 1},     {"llama.residual_scale", 1},
                  {"llama.embedding_scale", 1}, {"llama.attention.scale", 0}, {"llama.attention.causal", 1}};
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        int64_t integer;
        bool flag;
        double value;
        if (oct_gguf_integer(gguf, extras[i].key, &integer))
            value = (double)integer;
        else if (oct_gguf_bool(gguf, extras[i].key, &flag))
            value = flag;
        else if (!oct_gguf_float(gguf, extras[i].key, &value))
            continue;
        if (value != extras[i].plain)
            return oct_fail(err, OCT_UNSUPPORTED, "%s: %s = %g is not supported", oct_gguf_path(gguf), extras[i].key, value);
    }
    return OCT_OK;
}

static oct_status read_sizes(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    int values, rotary;
    double eps;
    OCT_TRY(read_integer(gguf, "llama.embedding_length", REQUIRED, &out->hidden_size, err));
    OCT_TRY(read_integer(gguf, "llama.feed_forward_length", REQUIRED, &out->intermediate_size, err));
    OCT_TRY(read_integer(gguf, "llama.block_count", REQUIRED, &out->num_hidden_layers, err));
    OCT_TRY(read_integer(gguf, "llama.attention.head_count", REQUIRED, &out->num_attention_heads, err));
    OCT_TRY(read_integer(gguf, "llama.attention.head_count_kv", out->num_attention_heads, &out->num_key_value_heads, err));
    OCT_TRY(read_integer(gguf, "llama.context_length", REQUIRED, &out->max_position_embeddings, err));
    OCT_TRY(read_float(gguf, "llama.attention.layer_norm_rms_epsilon", NAN, &eps, err));
    out->rms_norm_eps = (float)eps;

    int head_dim = out->num_attention_heads > 0 ? out->hidden_size / out->num_attention_heads : 0;
    OCT_TRY(read_integer(gguf, "llama.attention.key_length", head_dim, &out->head_dim, err));
    OCT_TRY(read_integer(gguf, "llama.attention.value_length", out->head_dim, &values, err));
    OCT_TRY(read_integer(gguf, "llama.rope.dimension_count", out->head_dim, &rotary, err));
    if (values != out->head_dim || rotary != out->head_dim)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: heads of %d keys, %d values and %d rotated dimensions are not supported",
                        oct_gguf_path(gguf), out->head_dim, values, rotary);

    const struct oct_gguf_tensor_info *embeddings = oct_gguf_find(gguf, "token_embd.weight");
    if (!embeddings || embeddings->num_dims != 2 || embeddings->ne[1] > INT_MAX)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor token_embd.weight of two dimensions expected", oct_gguf_path(gguf));
    out->vocab_size = (int)embeddings->ne[1];
    out->dtype = embeddings->known_type ? embeddings->dtype : OCT_F32;
    out->tie_word_embeddings = !oct_gguf_find(gguf, "output.weight");
    static const char *const attention[] = {"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias", "blk.0.attn_output.bias"};
    for (int i = 0; i < 4; i++) out->attention_bias |= oct_gguf_find(gguf, attention[i]) != NULL;
    static const char *const mlp[] = {"blk.0.ffn_gate.bias", "blk.0.ffn_up.bias", "blk.0.ffn_down.bias"};
    for (int i = 0; i < 3; i++) out->mlp_bias |= oct_gguf_find(gguf, mlp[i]) != NULL;
    return OCT_OK;
}

static bool is_string(struct oct_gguf_string string, const char *text) {
    return string.length == strlen(text) && !memcmp(string.data, text, string.length);
}

static oct_status read_rope(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    struct oct_rope_config *rope = &out->rope;
    OCT_TRY(read_float(gguf, "llama.rope.freq_base", 10000, &rope->theta, err));
    struct oct_gguf_string type = {"none", 4};
    if (oct_gguf_has(gguf, "llama.rope.scaling.type") && !oct_gguf_string(gguf, "llama.rope.scaling.type", &type))
        return fail_key(gguf, "llama.rope.scaling.type", "a string", err);
    double linear;
    OCT_TRY(read_float(gguf, "llama.rope.scale_linear", 1, &linear, err)); // the older spelling of linear scaling
    if (is_string(type, "none") && linear == 1) return OCT_OK;

    if (is_string(type, "none") || is_string(type, "linear"))
        rope->type = OCT_ROPE_LINEAR;
    else if (is_string(type, "yarn"))
        rope->type = OCT_ROPE_YARN;
    else
        return oct_fail(err, OCT_UNSUPPORTED, "%s: llama.rope.scaling.type \"%.*s\" is not supported", oct_gguf_path(gguf),
                        (int)(type.length < 64 ? type.length : 64), type.data);
    OCT_TRY(read_float(gguf, "llama.rope.scaling.factor", linear == 1 ? NAN : linear, &rope->factor, err));
    OCT_TRY(read_integer(gguf, "llama.rope.scaling.original_context_length", out->max_position_embeddings,
                         &rope->original_max_position_embeddings, err));
    if (rope->type == OCT_ROPE_LINEAR) return OCT_OK;
    double attention;
    OCT_TRY(read_float(gguf, "llama.rope.scaling.attn_factor", 1, &attention, err));
    OCT_TRY(read_float(gguf, "llama.rope.scaling.yarn_beta_fast", 32, &rope->beta_fast, err));
    OCT_TRY(read_float(gguf, "llama.rope.scaling.yarn_beta_slow", 1, &rope->beta_slow, err));
    rope->attention_factor = attention * (rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1);
    rope->truncate = true;
    return OCT_OK;
}

// Llama 3's scaling has no keys: the converter stores what it divides each frequency by. The published models differ in `factor` (the
// divisor of the lowest frequencies) alone, so the rest is known, and whether that is so shows in all the other divisors.
static oct_status read_rope_divisors(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    const struct oct_gguf_tensor_info *tensor = oct_gguf_find(gguf, "rope_freqs.weight");
    if (!tensor) return OCT_OK;
    if (tensor->type != 0 || tensor->num_dims != 1 || tensor->ne[0] != out->head_dim / 2)
        return oct_fail(err, OCT_CORRUPT, "%s: tensor rope_freqs.weight: %d f32 values expected", oct_gguf_path(gguf), out->head_dim / 2);
    float largest = 1, divisor;
    for (int i = 0; i < out->head_dim / 2; i++) {
        memcpy(&divisor, tensor->data + 4 * i, sizeof divisor);
        if (divisor > largest) largest = divisor;
    }
    const struct oct_rope_config llama3 = {.type = OCT_ROPE_LLAMA3,
                                           .theta = out->rope.theta,
                                           .factor = largest,
                                           .low_freq_factor = 1,
                                           .high_freq_factor = 4,
                                           .original_max_position_embeddings = 8192};
    for (int i = 0; i < out->head_dim / 2; i++) {
        double wavelength = 2 * M_PI * pow(llama3.theta, 2.0 * i / out->head_dim);
        double turns = llama3.original_max_position_embeddings / wavelength, expected = 1;
        if (turns < llama3.low_freq_factor) {
            expected = llama3.factor;
        } else if (turns <= llama3.high_freq_factor) {
            double smooth = (turns - llama3.low_freq_factor) / (llama3.high_freq_factor - llama3.low_freq_factor);
            expected = 1 / ((1 - smooth) / llama3.factor + smooth);
        }
        memcpy(&divisor, tensor->data + 4 * i, sizeof divisor);
        if (!(fabs(divisor - expected) <= 1e-4 * expected)) // the converter computes them in float32
            return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor rope_freqs.weight: frequency %d: divisor %g is not Llama 3's %g",
                            oct_gguf_path(gguf), i, divisor, expected);
    }
    if (out->rope.type != OCT_ROPE_DEFAULT)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: rope_freqs.weight together with llama.rope.scaling is not supported",
                        oct_gguf_path(gguf));
    out->rope = llama3;
    return OCT_OK;
}

static oct_status read_special_tokens(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    OCT_TRY(read_integer(gguf, "tokenizer.ggml.bos_token_id", -1, &out->bos_token_id, err));
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    for (int i = 0; i < 3; i++) {
        int id;
        OCT_TRY(read_integer(gguf, ends[i], -1, &id, err));
        bool known = id == -1;
        for (int j = 0; j < out->num_eos_tokens; j++) known |= out->eos_token_ids[j] == id;
        if (!known) out->eos_token_ids[out->num_eos_tokens++] = id;
    }
    return OCT_OK;
}

oct_status oct_gguf_model_config(const struct oct_gguf *gguf, struct oct_model_config *out, oct_error *err) {
    *out = (struct oct_model_config){.bos_token_id = -1};
    OCT_TRY(read_architecture(gguf, out, err));
    OCT_TRY(read_sizes(gguf, out, err));
    OCT_TRY(read_rope(gguf, out, err));
    OCT_TRY(read_special_tokens(gguf, out, err));
    OCT_TRY(oct_model_config_check(oct_gguf_path(gguf), out, err));
    OCT_TRY(read_rope_divisors(gguf, out, err));
    return oct_model_config_check(oct_gguf_path(gguf), out, err);
}

// Hugging Face's name of a tensor; false when a plain Llama has none like it.
static bool translate_name(const char *gguf_name, char *out, size_t size) {
    static const char *const whole[][2] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                           {"output_norm.weight", "model.norm.weight"},
                                           {"output.weight", "lm_head.weight"},
                                           {"rope_freqs.weight", "rope_freqs.weight"}};
    static const char *const leaves[][2] = {{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
                                            {"attn_q", "self_attn.q_proj"},   {"attn_k", "self_attn.k_proj"},
                                            {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
                                            {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
                                            {"ffn_down", "mlp.down_proj"}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(gguf_name, whole[i][0])) {
            snprintf(out, size, "%s", whole[i][1]);
            return true;
        }
    // blk.N.leaf.kind
    if (strncmp(gguf_name, "blk.", 4)) return false;
    const char *layer = gguf_name + 4, *leaf = layer + strspn(layer, "0123456789");
    int layer_digits = (int)(leaf - layer);
    if (layer_digits < 1 || layer_digits > 9 || *leaf++ != '.') return false;
    const char *kind = strchr(leaf, '.');
    if (!kind || (strcmp(kind, ".weight") && strcmp(kind, ".bias"))) return false;
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        if (strlen(leaves[i][0]) == (size_t)(kind - leaf) && !strncmp(leaf, leaves[i][0], (size_t)(kind - leaf))) {
            snprintf(out, size, "model.layers.%.*s.%s%s", layer_digits, layer, leaves[i][1], kind);
            return true;
        }
    return false;
}

static const char *type_name(uint32_t type) {
    static const char *const names[] = {
        [0] = "F32",      [1] = "F16",     [2] = "Q4_0",     [3] = "Q4_1",   [6] = "Q5_0",    [7] = "Q5_1",   [8] = "Q8_0",
        [9] = "Q8_1",     [10] = "Q2_K",   [11] = "Q3_K",    [12] = "Q4_K",  [13] = "Q5_K",   [14] = "Q6_K",  [15] = "Q8_K",
        [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S", [22] = "IQ2_S",
        [23] = "IQ4_XS",  [24] = "I8",     [25] = "I16",     [26] = "I32",   [27] = "I64",    [28] = "F64",   [29] = "IQ1_M",
        [30] = "BF16",    [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4"};
    return type < sizeof names / sizeof *names && names[type] ? names[type] : "unknown";
}

oct_status oct_gguf_tensor(const struct oct_gguf *gguf, const struct oct_model_config *config, size_t i, struct oct_tensor *out,
                           oct_error *err) {
    const struct oct_gguf_tensor_info *info = oct_gguf_tensor_info(gguf, i);
    if (!info->known_type)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s: type %s (%u) is not supported; F32, F16, BF16, Q8_0, Q4_0, Q4_1 and Q6_K are",
                        oct_gguf_path(gguf), info->name, type_name(info->type), info->type);
    *out = (struct oct_tensor){.dtype = info->dtype, .num_dims = info->num_dims, .data = info->data, .size = info->size};
    for (int k = 0; k < info->num_dims; k++) out->shape[k] = info->ne[info->num_dims - 1 - k];
    if (!translate_name(info->name, out->name, sizeof out->name))
        return oct_fail(err, OCT_UNSUPPORTED, "%s: tensor %s is no part of a plain Llama", oct_gguf_path(gguf), info->name);

    bool query = strstr(out->name, ".q_proj.") != NULL, key = strstr(out->name, ".k_proj.") != NULL;
    if (!query && !key) return OCT_OK;
    int64_t rows = (int64_t)config->head_dim * (query ? config->num_attention_heads : config->num_key_value_heads);
    if (out->shape[0] != rows || out->num_dims != (strstr(out->name, ".bias") ? 1 : 2))
        return oct_fail(err, OCT_CORRUPT, "%s: tensor %s: %lld rows expected, %lld found", oct_gguf_path(gguf), info->name, (long long)rows,
                        (long long)out->shape[0]);
    out->interleaved_head_dim = config->head_dim;
    return OCT_OK;
}
