// config.json to facts. Absent and null are the same; what is absent takes the default that Hugging Face's LlamaConfig gives it. A field
// that would make the model something else than a plain Llama is refused by name rather than ignored.
#include "model/config.h"

#include "base/log.h"

#include <limits.h>
#include <math.h>
#include <string.h>

enum { REQUIRED = INT_MIN };

// An object being read, and how to speak of it.
struct reader {
    const char *name; // of the file
    const char *path; // of the object in the file: "" or "rope_parameters."
    const json_t *object;
    oct_error *err;
};

static const json_t *field(const struct reader *r, const char *key) {
    const json_t *value = json_object_get(r->object, key);
    return json_is_null(value) ? NULL : value;
}

static oct_status fail_kind(const struct reader *r, const char *key, const char *expected) {
    return oct_fail(r->err, OCT_CORRUPT, "%s: %s%s: %s expected, %s found", r->name, r->path, key, expected,
                    oct_json_kind(json_object_get(r->object, key)));
}

static oct_status read_integer(const struct reader *r, const char *key, int absent, int *out) {
    const json_t *value = field(r, key);
    *out = absent;
    if (value ? !json_is_integer(value) : absent == REQUIRED) return fail_kind(r, key, "an integer");
    if (!value) return OCT_OK;
    json_int_t integer = json_integer_value(value);
    if (integer < -INT_MAX || integer > INT_MAX)
        return oct_fail(r->err, OCT_CORRUPT, "%s: %s%s: %" JSON_INTEGER_FORMAT " is out of range", r->name, r->path, key, integer);
    *out = (int)integer;
    return OCT_OK;
}

// absent = NAN: the field must be there.
static oct_status read_number(const struct reader *r, const char *key, double absent, double *out) {
    const json_t *value = field(r, key);
    *out = absent;
    if (value ? !json_is_number(value) : isnan(absent)) return fail_kind(r, key, "a number");
    if (value) *out = json_number_value(value);
    return OCT_OK;
}

static oct_status read_bool(const struct reader *r, const char *key, bool absent, bool *out) {
    const json_t *value = field(r, key);
    *out = value ? json_is_true(value) : absent;
    return !value || json_is_boolean(value) ? OCT_OK : fail_kind(r, key, "true or false");
}

// *out has the lifetime of the object.
static oct_status read_string(const struct reader *r, const char *key, const char *absent, const char **out) {
    const json_t *value = field(r, key);
    *out = value ? json_string_value(value) : absent;
    return *out ? OCT_OK : fail_kind(r, key, "a string");
}

static oct_status fail_unsupported(const struct reader *r, const char *key, const char *value) {
    return oct_fail(r->err, OCT_UNSUPPORTED, "%s: %s%s \"%.100s\" is not supported", r->name, r->path, key, value);
}

// What the forward pass computes is LlamaForCausalLM; Mistral's is the same as long as every position sees all earlier ones.
static oct_status read_architecture(const struct reader *r, struct oct_model_config *out) {
    const char *model_type, *activation;
    OCT_TRY(read_string(r, "model_type", NULL, &model_type));
    if (strcmp(model_type, "llama") && strcmp(model_type, "mistral")) return fail_unsupported(r, "model_type", model_type);
    strcpy(out->model_type, model_type);

    OCT_TRY(read_string(r, "hidden_act", "silu", &activation));
    if (strcmp(activation, "silu") && strcmp(activation, "swish")) return fail_unsupported(r, "hidden_act", activation);

    const json_t *quantization = field(r, "quantization_config");
    if (quantization) OCT_TRY(oct_fp8_format_parse(r->name, quantization, &out->fp8, r->err));
    double rotary;
    OCT_TRY(read_number(r, "partial_rotary_factor", 1, &rotary));
    if (rotary != 1) return oct_fail(r->err, OCT_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", r->name, rotary);
    return OCT_OK;
}

static oct_status read_sizes(const struct reader *r, struct oct_model_config *out) {
    OCT_TRY(read_integer(r, "hidden_size", REQUIRED, &out->hidden_size));
    OCT_TRY(read_integer(r, "intermediate_size", REQUIRED, &out->intermediate_size));
    OCT_TRY(read_integer(r, "num_hidden_layers", REQUIRED, &out->num_hidden_layers));
    OCT_TRY(read_integer(r, "num_attention_heads", REQUIRED, &out->num_attention_heads));
    bool mistral = !strcmp(out->model_type, "mistral"); // whose own default is another one
    OCT_TRY(read_integer(r, "num_key_value_heads", mistral ? REQUIRED : out->num_attention_heads, &out->num_key_value_heads));
    OCT_TRY(read_integer(r, "head_dim", 0, &out->head_dim));
    if (!field(r, "head_dim")) {
        if (out->num_attention_heads < 1 || out->hidden_size % out->num_attention_heads)
            return oct_fail(r->err, OCT_CORRUPT, "%s: no head_dim, and hidden_size %d is not a multiple of num_attention_heads %d", r->name,
                            out->hidden_size, out->num_attention_heads);
        out->head_dim = out->hidden_size / out->num_attention_heads;
    }
    OCT_TRY(read_integer(r, "vocab_size", REQUIRED, &out->vocab_size));
    OCT_TRY(read_integer(r, "max_position_embeddings", 2048, &out->max_position_embeddings));
    double eps;
    OCT_TRY(read_number(r, "rms_norm_eps", 1e-6, &eps));
    out->rms_norm_eps = (float)eps;
    OCT_TRY(read_bool(r, "tie_word_embeddings", false, &out->tie_word_embeddings));
    OCT_TRY(read_bool(r, "attention_bias", false, &out->attention_bias));
    return read_bool(r, "mlp_bias", false, &out->mlp_bias);
}

static oct_status read_dtype(const struct reader *r, struct oct_model_config *out) {
    const char *key = field(r, "dtype") ? "dtype" : "torch_dtype", *name;
    OCT_TRY(read_string(r, key, "float32", &name));
    const char *plain = !strncmp(name, "torch.", 6) ? name + 6 : name;
    if (!strcmp(plain, "bfloat16"))
        out->dtype = OCT_BF16;
    else if (!strcmp(plain, "float16"))
        out->dtype = OCT_F16;
    else if (!strcmp(plain, "float32"))
        out->dtype = OCT_F32;
    else
        return fail_unsupported(r, key, name);
    return OCT_OK;
}

static oct_status read_rope_type(const struct reader *r, enum oct_rope_type *type) {
    static const char *const names[] = {[OCT_ROPE_DEFAULT] = "default",
                                        [OCT_ROPE_LINEAR] = "linear",
                                        [OCT_ROPE_DYNAMIC] = "dynamic",
                                        [OCT_ROPE_LLAMA3] = "llama3",
                                        [OCT_ROPE_YARN] = "yarn"};
    const char *key = field(r, "rope_type") ? "rope_type" : "type", *name;
    OCT_TRY(read_string(r, key, "default", &name));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *type = (enum oct_rope_type)i;
            return OCT_OK;
        }
    return fail_unsupported(r, key, name);
}

static double yarn_mscale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

// The factor of cos and sin: as given, or from mscale and mscale_all_dim when both are there and not 0, or from the factor alone.
static oct_status read_attention_factor(const struct reader *r, double factor, double *out) {
    double mscale, mscale_all_dim;
    OCT_TRY(read_number(r, "mscale", 0, &mscale));
    OCT_TRY(read_number(r, "mscale_all_dim", 0, &mscale_all_dim));
    double absent = yarn_mscale(factor, 1);
    if (mscale != 0 && mscale_all_dim != 0) absent = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
    if (isnan(absent)) absent = 0; // out of range: refused with the other ranges
    return read_number(r, "attention_factor", absent, out);
}

static oct_status read_rope(const struct reader *r, struct oct_model_config *out) {
    struct oct_rope_config *rope = &out->rope;
    const char *key = field(r, "rope_parameters") ? "rope_parameters" : "rope_scaling";
    const json_t *object = field(r, key);
    if (object && !json_is_object(object)) return fail_kind(r, key, "an object");
    struct reader inner = {r->name, key[5] == 'p' ? "rope_parameters." : "rope_scaling.", object, r->err};

    OCT_TRY(read_number(r, "rope_theta", 10000, &rope->theta));
    if (!object) return OCT_OK;
    OCT_TRY(read_number(&inner, "rope_theta", rope->theta, &rope->theta));
    OCT_TRY(read_rope_type(&inner, &rope->type));
    double rotary;
    OCT_TRY(read_number(&inner, "partial_rotary_factor", 1, &rotary));
    if (rotary != 1)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: %spartial_rotary_factor %g is not supported", r->name, inner.path, rotary);
    if (rope->type == OCT_ROPE_DEFAULT) return OCT_OK;

    OCT_TRY(read_integer(r, "original_max_position_embeddings", out->max_position_embeddings, &rope->original_max_position_embeddings));
    OCT_TRY(read_integer(&inner, "original_max_position_embeddings", rope->original_max_position_embeddings,
                         &rope->original_max_position_embeddings));
    // Yarn alone may leave the factor to the ratio of the two lengths.
    double ratio = (double)out->max_position_embeddings / rope->original_max_position_embeddings;
    OCT_TRY(read_number(&inner, "factor", rope->type == OCT_ROPE_YARN && ratio > 1 ? ratio : NAN, &rope->factor));
    if (rope->type == OCT_ROPE_LLAMA3) {
        OCT_TRY(read_number(&inner, "low_freq_factor", NAN, &rope->low_freq_factor));
        OCT_TRY(read_number(&inner, "high_freq_factor", NAN, &rope->high_freq_factor));
    }
    if (rope->type == OCT_ROPE_YARN) {
        OCT_TRY(read_number(&inner, "beta_fast", 32, &rope->beta_fast));
        OCT_TRY(read_number(&inner, "beta_slow", 1, &rope->beta_slow));
        OCT_TRY(read_bool(&inner, "truncate", true, &rope->truncate));
        OCT_TRY(read_attention_factor(&inner, rope->factor, &rope->attention_factor));
    }
    return OCT_OK;
}

// Positions past the window would not see the first ones; up to there the model is a plain Llama.
static oct_status apply_sliding_window(const struct reader *r, struct oct_model_config *out) {
    if (strcmp(out->model_type, "mistral")) return OCT_OK;
    int window = 4096; // MistralConfig's default; null means that there is no window
    if (json_object_get(r->object, "sliding_window")) OCT_TRY(read_integer(r, "sliding_window", INT_MAX, &window));
    if (window >= out->max_position_embeddings) return OCT_OK;
    if (window < 1) return oct_fail(r->err, OCT_CORRUPT, "%s: sliding_window: at least 1 expected, %d found", r->name, window);
    if (out->rope.type != OCT_ROPE_DEFAULT && out->rope.type != OCT_ROPE_LINEAR)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: sliding_window %d together with rope scaling is not supported", r->name, window);
    oct_log(OCT_LOG_INFO, "%s: sequences are limited to the sliding window of %d tokens", r->name, window);
    out->max_position_embeddings = window;
    return OCT_OK;
}

static oct_status add_eos_token(const struct reader *r, const json_t *id, struct oct_model_config *out) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT_MAX)
        return oct_fail(r->err, OCT_CORRUPT, "%s: eos_token_id: token ids expected", r->name);
    for (int i = 0; i < out->num_eos_tokens; i++)
        if (out->eos_token_ids[i] == json_integer_value(id)) return OCT_OK;
    if (out->num_eos_tokens == OCT_MAX_EOS_TOKENS)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: eos_token_id: more than %d tokens", r->name, OCT_MAX_EOS_TOKENS);
    out->eos_token_ids[out->num_eos_tokens++] = (int)json_integer_value(id);
    return OCT_OK;
}

static oct_status read_eos_tokens(const struct reader *r, struct oct_model_config *out) {
    const json_t *ids = field(r, "eos_token_id");
    if (!ids) return OCT_OK;
    if (!json_is_array(ids)) return add_eos_token(r, ids, out);
    for (size_t i = 0; i < json_array_size(ids); i++) OCT_TRY(add_eos_token(r, json_array_get(ids, i), out));
    return OCT_OK;
}

oct_status oct_model_config_parse(const char *name, const json_t *config, const json_t *generation, struct oct_model_config *out,
                                  oct_error *err) {
    *out = (struct oct_model_config){.bos_token_id = -1};
    struct reader reader = {name, "", config, err}, *r = &reader;
    if (!json_is_object(config)) return oct_fail(err, OCT_CORRUPT, "%s: an object expected, %s found", name, oct_json_kind(config));
    OCT_TRY(read_architecture(r, out));
    OCT_TRY(read_sizes(r, out));
    OCT_TRY(read_dtype(r, out));
    OCT_TRY(read_rope(r, out));
    OCT_TRY(apply_sliding_window(r, out));
    OCT_TRY(read_integer(r, "bos_token_id", -1, &out->bos_token_id));
    OCT_TRY(read_eos_tokens(r, out));
    if (json_is_object(generation)) {
        struct reader more = {name, "generation_config: ", generation, err};
        OCT_TRY(read_eos_tokens(&more, out));
    }
    return oct_model_config_check(name, out, err);
}

static oct_status check_integers(const char *name, const struct oct_model_config *c, oct_error *err) {
    const struct {
        const char *field;
        int value, least, most;
    } ranges[] = {
        {"hidden_size", c->hidden_size, 1, 1 << 20},
        {"intermediate_size", c->intermediate_size, 1, 1 << 22},
        {"num_hidden_layers", c->num_hidden_layers, 1, 4096},
        {"num_attention_heads", c->num_attention_heads, 1, 4096},
        {"num_key_value_heads", c->num_key_value_heads, 1, 4096},
        {"head_dim", c->head_dim, 2, 4096},
        {"vocab_size", c->vocab_size, 1, 1 << 24},
        {"max_position_embeddings", c->max_position_embeddings, 1, 1 << 28},
        {"bos_token_id", c->bos_token_id, -1, c->vocab_size - 1},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].value < ranges[i].least || ranges[i].value > ranges[i].most)
            return oct_fail(err, OCT_CORRUPT, "%s: %s: %d to %d expected, %d found", name, ranges[i].field, ranges[i].least, ranges[i].most,
                            ranges[i].value);
    for (int i = 0; i < c->num_eos_tokens; i++)
        if (c->eos_token_ids[i] < 0 || c->eos_token_ids[i] >= c->vocab_size)
            return oct_fail(err, OCT_CORRUPT, "%s: eos_token_id: 0 to %d expected, %d found", name, c->vocab_size - 1, c->eos_token_ids[i]);
    if (c->num_attention_heads % c->num_key_value_heads)
        return oct_fail(err, OCT_CORRUPT, "%s: num_attention_heads %d is not a multiple of num_key_value_heads %d", name,
                        c->num_attention_heads, c->num_key_value_heads);
    if (c->head_dim % 2) return oct_fail(err, OCT_CORRUPT, "%s: head_dim: an even number expected, %d found", name, c->head_dim);
    return OCT_OK;
}

static oct_status check_numbers(const char *name, const struct oct_model_config *c, oct_error *err) {
    const struct oct_rope_config *rope = &c->rope;
    bool scaled = rope->type != OCT_ROPE_DEFAULT, llama3 = rope->type == OCT_ROPE_LLAMA3, yarn = rope->type == OCT_ROPE_YARN;
    const struct {
        const char *field;
        bool used;
        double value, least, most;
    } ranges[] = {
        {"rms_norm_eps", true, c->rms_norm_eps, 0, 1},
        {"rope_theta", true, rope->theta, 1.0009765625, 1e15}, // logarithms to this base: 1 has none
        {"rope factor", scaled, rope->factor, 1, 1e6},
        {"rope original_max_position_embeddings", llama3 || yarn, rope->original_max_position_embeddings, 1, 1 << 28},
        {"rope low_freq_factor", llama3, rope->low_freq_factor, 1e-6, 1e6},
        {"rope high_freq_factor", llama3, rope->high_freq_factor, rope->low_freq_factor, 1e6},
        {"rope beta_fast", yarn, rope->beta_fast, 1e-6, 1e6},
        {"rope beta_slow", yarn, rope->beta_slow, 1e-6, 1e6},
        {"rope attention_factor", yarn, rope->attention_factor, 1e-6, 1e6},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].used && !(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return oct_fail(err, OCT_CORRUPT, "%s: %s: %g to %g expected, %g found", name, ranges[i].field, ranges[i].least, ranges[i].most,
                            ranges[i].value);
    if (llama3 && rope->high_freq_factor == rope->low_freq_factor)
        return oct_fail(err, OCT_CORRUPT, "%s: rope high_freq_factor: more than low_freq_factor (%g) expected", name,
                        rope->low_freq_factor);
    return OCT_OK;
}

oct_status oct_model_config_check(const char *name, const struct oct_model_config *config, oct_error *err) {
    OCT_TRY(check_integers(name, config, err));
    return check_numbers(name, config, err);
}
