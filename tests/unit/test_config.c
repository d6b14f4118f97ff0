// config.json: both spellings, defaults, and what is refused.
#include "base/json.h"
#include "model/config.h"
#include "model_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PLAIN                                                                                                                              \
    "\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 176, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "   \
    "\"vocab_size\": 300"

static oct_status parse(const char *text, const char *generation_text, struct oct_model_config *config, oct_error *err) {
    json_t *json, *generation = NULL;
    assert_int_equal(oct_json_parse("test", text, strlen(text), &json, err), OCT_OK);
    if (generation_text) assert_int_equal(oct_json_parse("test", generation_text, strlen(generation_text), &generation, err), OCT_OK);
    oct_status status = oct_model_config_parse("config.json", json, generation, config, err);
    json_decref(generation);
    json_decref(json);
    return status;
}

static struct oct_model_config parse_plain_with(const char *more) {
    struct oct_buffer text = {0};
    oct_buffer_printf(&text, "{" PLAIN "%s%s}", *more ? ", " : "", more);
    struct oct_model_config config;
    oct_error err = {0};
    oct_status status = parse(text.data, NULL, &config, &err);
    if (status != OCT_OK) fail_msg("%s", err.message);
    oct_buffer_free(&text);
    return config;
}

// PLAIN with `more` (a later key wins) is refused with `status`, and the message names `named`.
static void assert_refused(const char *more, oct_status status, const char *named) {
    struct oct_buffer text = {0};
    oct_buffer_printf(&text, "{" PLAIN ", %s}", more);
    struct oct_model_config config;
    oct_error err = {0};
    assert_int_equal(parse(text.data, NULL, &config, &err), status);
    if (!strstr(err.message, named) || !strstr(err.message, "config.json")) fail_msg("\"%s\" does not name %s", err.message, named);
    oct_buffer_free(&text);
}

static void load(const char *model, const char *file, struct oct_model_config *config) {
    char name[128];
    snprintf(name, sizeof name, "models/%s/%s", model, file);
    char *path = model_golden(name);
    json_t *json;
    oct_error err = {0};
    if (oct_json_load(path, 1 << 20, &json, &err) != OCT_OK || oct_model_config_parse(path, json, NULL, config, &err) != OCT_OK)
        fail_msg("%s", err.message);
    json_decref(json);
    free(path);
}

static void assert_same_config(const struct oct_model_config *a, const struct oct_model_config *b) {
    assert_string_equal(a->model_type, b->model_type);
    assert_int_equal(a->hidden_size, b->hidden_size);
    assert_int_equal(a->intermediate_size, b->intermediate_size);
    assert_int_equal(a->num_hidden_layers, b->num_hidden_layers);
    assert_int_equal(a->num_attention_heads, b->num_attention_heads);
    assert_int_equal(a->num_key_value_heads, b->num_key_value_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->vocab_size, b->vocab_size);
    assert_int_equal(a->max_position_embeddings, b->max_position_embeddings);
    assert_true(a->rms_norm_eps == b->rms_norm_eps);
    assert_int_equal(a->tie_word_embeddings, b->tie_word_embeddings);
    assert_int_equal(a->attention_bias, b->attention_bias);
    assert_int_equal(a->mlp_bias, b->mlp_bias);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->rope.type, b->rope.type);
    assert_true(a->rope.theta == b->rope.theta && a->rope.factor == b->rope.factor);
    assert_int_equal(a->rope.original_max_position_embeddings, b->rope.original_max_position_embeddings);
    assert_true(a->rope.low_freq_factor == b->rope.low_freq_factor && a->rope.high_freq_factor == b->rope.high_freq_factor);
    assert_true(a->rope.beta_fast == b->rope.beta_fast && a->rope.beta_slow == b->rope.beta_slow);
    assert_true(a->rope.attention_factor == b->rope.attention_factor);
    assert_int_equal(a->rope.truncate, b->rope.truncate);
    assert_int_equal(a->bos_token_id, b->bos_token_id);
    assert_int_equal(a->num_eos_tokens, b->num_eos_tokens);
    assert_memory_equal(a->eos_token_ids, b->eos_token_ids, sizeof a->eos_token_ids);
}

static void both_spellings_of_every_model_say_the_same(void **state) {
    (void)state;
    static const char *const models[] = {"llama3_gqa",   "llama2_mha_odd", "headdim_bias", "rope_linear", "rope_yarn",  "rope_yarn_params",
                                         "rope_dynamic", "tied_mqa",       "sharded3",     "dtype_fp16",  "dtype_fp32", "mixed_norm_f32"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct oct_model_config one, other;
        load(models[i], "config.json", &one);
        load(models[i], "config.alt.json", &other);
        assert_same_config(&one, &other);
    }
}

static void absent_fields_take_hugging_faces_defaults(void **state) {
    (void)state;
    struct oct_model_config config = parse_plain_with("");
    assert_int_equal(config.num_key_value_heads, 4);
    assert_int_equal(config.head_dim, 16);
    assert_int_equal(config.max_position_embeddings, 2048);
    assert_true(config.rms_norm_eps == 1e-6f && config.rope.theta == 10000);
    assert_int_equal(config.rope.type, OCT_ROPE_DEFAULT);
    assert_false(config.tie_word_embeddings || config.attention_bias || config.mlp_bias);
    assert_int_equal(config.dtype, OCT_F32);
    assert_int_equal(config.bos_token_id, -1);
    assert_int_equal(config.num_eos_tokens, 0);
    struct oct_model_config with_nulls = parse_plain_with("\"head_dim\": null, \"num_key_value_heads\": null, \"rope_scaling\": null");
    assert_same_config(&config, &with_nulls);
}

static void given_fields_are_taken(void **state) {
    (void)state;
    struct oct_model_config config;
    load("headdim_bias", "config.json", &config);
    assert_int_equal(config.head_dim, 40);
    assert_int_equal(config.hidden_size, 96);
    assert_true(config.attention_bias && config.mlp_bias);
    load("tied_mqa", "config.json", &config);
    assert_true(config.tie_word_embeddings);
    assert_int_equal(config.num_key_value_heads, 1);
    load("dtype_fp16", "config.json", &config);
    assert_int_equal(config.dtype, OCT_F16);
    load("llama3_gqa", "config.json", &config);
    assert_int_equal(config.dtype, OCT_BF16);
    assert_int_equal(config.rope.type, OCT_ROPE_LLAMA3);
    assert_true(config.rope.theta == 500000 && config.rope.factor == 8);
    assert_true(config.rope.low_freq_factor == 1 && config.rope.high_freq_factor == 4);
    assert_int_equal(config.rope.original_max_position_embeddings, 64);
    assert_int_equal(config.bos_token_id, 1);
    assert_int_equal(config.num_eos_tokens, 3);
    assert_int_equal(config.eos_token_ids[2], 302);
}

static void yarn_resolves_the_attention_factor(void **state) {
    (void)state;
    struct oct_model_config config;
    load("rope_yarn", "config.json", &config);
    assert_true(config.rope.attention_factor == 0.1 * log(4) + 1);
    assert_true(config.rope.beta_fast == 32 && config.rope.beta_slow == 1 && config.rope.truncate);
    load("rope_yarn_params", "config.json", &config);
    assert_true(config.rope.attention_factor == (0.1 * log(8) + 1) / (0.1 * 0.5 * log(8) + 1));
    assert_true(config.rope.beta_fast == 4 && config.rope.beta_slow == 0.5 && !config.rope.truncate);
    assert_int_equal(config.rope.original_max_position_embeddings, 64);

    config = parse_plain_with("\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 0.75, \"mscale\": 1, "
                              "\"mscale_all_dim\": 0.5}");
    assert_true(config.rope.attention_factor == 0.75);
    assert_int_equal(config.rope.original_max_position_embeddings, 2048);
    config = parse_plain_with("\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"mscale\": 0.7}"); // both or neither
    assert_true(config.rope.attention_factor == 0.1 * log(4) + 1);
    config = parse_plain_with("\"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": 1024}");
    assert_true(config.rope.factor == 2);
}

static void end_tokens_of_both_files_are_merged(void **state) {
    (void)state;
    struct oct_model_config config;
    oct_error err;
    assert_int_equal(parse("{" PLAIN ", \"eos_token_id\": 2}", "{\"eos_token_id\": [7, 2, 9]}", &config, &err), OCT_OK);
    assert_int_equal(config.num_eos_tokens, 3);
    assert_int_equal(config.eos_token_ids[0], 2);
    assert_int_equal(config.eos_token_ids[1], 7);
    assert_int_equal(config.eos_token_ids[2], 9);
    assert_int_equal(parse("{" PLAIN "}", "{\"eos_token_id\": 5}", &config, &err), OCT_OK);
    assert_int_equal(config.num_eos_tokens, 1);
}

static void what_is_no_plain_llama_is_refused_by_name(void **state) {
    (void)state;
    assert_refused("\"model_type\": \"qwen3\"", OCT_UNSUPPORTED, "qwen3");
    assert_refused("\"hidden_act\": \"gelu\"", OCT_UNSUPPORTED, "gelu");
    assert_refused("\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}", OCT_UNSUPPORTED, "longrope");
    assert_refused("\"rope_parameters\": {\"rope_type\": \"mrope\", \"factor\": 2}", OCT_UNSUPPORTED, "mrope");
    assert_refused("\"quantization_config\": {\"quant_method\": \"gptq\"}", OCT_UNSUPPORTED, "gptq");
    assert_refused("\"partial_rotary_factor\": 0.5", OCT_UNSUPPORTED, "partial_rotary_factor");
    assert_refused("\"torch_dtype\": \"float8_e4m3fn\"", OCT_UNSUPPORTED, "float8_e4m3fn");
    assert_refused("\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", OCT_UNSUPPORTED, "eos_token_id");
}

static void fields_out_of_range_are_named(void **state) {
    (void)state;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {"\"hidden_size\": \"64\"", "hidden_size: an integer expected, string found"},
        {"\"hidden_size\": null", "hidden_size"},
        {"\"hidden_size\": 0", "hidden_size"},
        {"\"hidden_size\": -64", "hidden_size"},
        {"\"num_hidden_layers\": 99999999999", "num_hidden_layers"},
        {"\"num_attention_heads\": 0", "num_attention_heads"},
        {"\"num_attention_heads\": 5", "head_dim"},
        {"\"num_key_value_heads\": 3", "num_key_value_heads 3"},
        {"\"num_key_value_heads\": 0", "num_key_value_heads"},
        {"\"head_dim\": 15", "head_dim"},
        {"\"head_dim\": -2", "head_dim"},
        {"\"vocab_size\": 20000000", "vocab_size"},
        {"\"rms_norm_eps\": -1", "rms_norm_eps"},
        {"\"rope_theta\": 0", "rope_theta"},
        {"\"bos_token_id\": 300", "bos_token_id"},
        {"\"eos_token_id\": 300", "eos_token_id"},
        {"\"eos_token_id\": \"</s>\"", "eos_token_id"},
        {"\"tie_word_embeddings\": 1", "tie_word_embeddings: true or false expected, integer found"},
        {"\"rope_scaling\": [1]", "rope_scaling: an object expected, array found"},
        {"\"rope_scaling\": {\"type\": \"linear\"}", "rope_scaling.factor: a number expected"},
        {"\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0.5}", "factor"},
        {"\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1}", "high_freq"},
        {"\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 1}", "high_freq"},
        {"\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 8, \"mscale\": -50, \"mscale_all_dim\": 1}", "attention_factor"},
        {"\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 0}", "original_max"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_refused(cases[i].json, OCT_CORRUPT, cases[i].named);
}

static void a_sliding_window_limits_the_length(void **state) {
    (void)state;
    struct oct_model_config config = parse_plain_with("\"model_type\": \"mistral\", \"max_position_embeddings\": 32768, "
                                                      "\"num_key_value_heads\": 2, \"sliding_window\": 4096");
    assert_int_equal(config.max_position_embeddings, 4096);
    config = parse_plain_with("\"model_type\": \"mistral\", \"max_position_embeddings\": 32768, \"num_key_value_heads\": 2, "
                              "\"sliding_window\": null");
    assert_int_equal(config.max_position_embeddings, 32768);
    config = parse_plain_with("\"model_type\": \"mistral\", \"max_position_embeddings\": 32768, \"num_key_value_heads\": 2");
    assert_int_equal(config.max_position_embeddings, 4096);                            // Mistral's default
    assert_refused("\"model_type\": \"mistral\"", OCT_CORRUPT, "num_key_value_heads"); // whose default is not Llama's
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_every_model_say_the_same),
        cmocka_unit_test(absent_fields_take_hugging_faces_defaults),
        cmocka_unit_test(given_fields_are_taken),
        cmocka_unit_test(yarn_resolves_the_attention_factor),
        cmocka_unit_test(end_tokens_of_both_files_are_merged),
        cmocka_unit_test(what_is_no_plain_llama_is_refused_by_name),
        cmocka_unit_test(fields_out_of_range_are_named),
        cmocka_unit_test(a_sliding_window_limits_the_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
