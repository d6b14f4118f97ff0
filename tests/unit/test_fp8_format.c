// quantization_config as the tools that make FP8 checkpoints write it, and what of it is refused.
#include "model/fp8_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static oct_status parse(const char *text, struct oct_fp8_format *out, oct_error *err) {
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!value) fail_msg("not JSON: %s", text);
    oct_status status = oct_fp8_format_parse("config.json", value, out, err);
    json_decref(value);
    return status;
}

#define SCHEME(strategy, dynamic)                                                                                                          \
    "{\"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, \"strategy\": \"" strategy "\", \"dynamic\": " dynamic                    \
    ", \"observer\": \"minmax\"}"
#define GROUP(weights, activations)                                                                                                        \
    "{\"group_0\": {\"targets\": [\"Linear\"], \"weights\": " weights ", \"input_activations\": " activations "}}"
#define COMPRESSED(groups, rest)                                                                                                           \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"quantization_status\": \"compressed\", "                \
    "\"ignore\": [\"lm_head\"], \"config_groups\": " groups rest "}"
#define BLOCKS                                                                                                                             \
    "{\"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, \"strategy\": \"block\", \"dynamic\": false, "                            \
    "\"block_structure\": [128, 128]}"
#define GROUPS                                                                                                                             \
    "{\"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, \"strategy\": \"group\", \"dynamic\": true, \"group_size\": 128}"

static void the_usual_configurations_are_understood(void **state) {
    (void)state;
    static const struct {
        const char *text;
        struct oct_fp8_format expected;
    } cases[] = {
        {COMPRESSED(GROUP(SCHEME("channel", "false"), SCHEME("token", "true")), ", \"kv_cache_scheme\": null"),
         {OCT_FP8_COMPRESSED_TENSORS, OCT_ACTIVATION_TOKEN, 0, 0, false, 448}},
        {COMPRESSED(GROUP(SCHEME("tensor", "false"), SCHEME("tensor", "false")), ", \"kv_cache_scheme\": " SCHEME("tensor", "false")),
         {OCT_FP8_COMPRESSED_TENSORS, OCT_ACTIVATION_STATIC, 0, 0, true, 448}},
        {COMPRESSED(GROUP(SCHEME("channel", "false"), "null"), ", \"sparsity_config\": {}, \"global_compression_ratio\": 1.0"),
         {OCT_FP8_COMPRESSED_TENSORS, OCT_ACTIVATION_BF16, 0, 0, false, 448}},
        {COMPRESSED(GROUP(BLOCKS, GROUPS), ""), {OCT_FP8_COMPRESSED_TENSORS, OCT_ACTIVATION_GROUP, 128, 128, false, 448}},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\"}", {OCT_FP8_FP8, OCT_ACTIVATION_TOKEN, 0, 0, false, 448}},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"static\", \"kv_cache_scheme\": \"static\", \"ignored_layers\": "
         "[\"lm_head\"]}",
         {OCT_FP8_FP8, OCT_ACTIVATION_STATIC, 0, 0, true, 448}},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"weight_block_size\": [128, 64]}",
         {OCT_FP8_FP8, OCT_ACTIVATION_GROUP, 128, 64, false, 448}},
        {"{\"fp8_config\": \"E4M3\", \"mode\": \"LOAD\", \"world_size\": 0, \"scale_method\": \"maxabs_hw\", \"blocklist\": {\"types\": "
         "[]}}",
         {OCT_FP8_INC, OCT_ACTIVATION_STATIC, 0, 0, false, 448}},
        {"{\"fp8_config\": \"E4M3\", \"mode\": \"LOAD\", \"device_for_scales\": \"gaudi2\"}",
         {OCT_FP8_INC, OCT_ACTIVATION_STATIC, 0, 0, false, 240}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_fp8_format found;
        oct_error err;
        if (parse(cases[i].text, &found, &err) != OCT_OK) fail_msg("%s", err.message);
        const struct oct_fp8_format *expected = &cases[i].expected;
        if (found.method != expected->method || found.activation != expected->activation || found.block_out != expected->block_out ||
            found.block_in != expected->block_in || found.kv_cache != expected->kv_cache || found.full_scale != expected->full_scale)
            fail_msg("%s: %s, %s, %d x %d, %d, %g", cases[i].text, oct_fp8_method_name(found.method),
                     oct_fp8_activation_name(found.activation), found.block_out, found.block_in, found.kv_cache, found.full_scale);
    }
}

static void what_is_not_computed_is_refused_by_name(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"{\"quant_method\": \"awq\", \"bits\": 4}",
         "quant_method: \"compressed-tensors\", \"fp8\" or a configuration of INC expected, \"awq\" found"},
        {"{}", "quant_method: "},
        {"7", "quant_method: "},
        {"{\"quant_method\": [1]}", "quant_method: "},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}",
         "format: \"float-quantized\" (FP8) expected, \"pack-quantized\""},
        {"{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\"}", "config_groups: "},
        {COMPRESSED("{}", ""), "config_groups: "},
        {COMPRESSED("{\"group_0\": 5}", ""), "weights: an object expected"},
        {COMPRESSED(GROUP("{\"num_bits\": 4, \"type\": \"int\"}", "null"), ""),
         "weights: num_bits 8 and type \"float\" expected, 4 and \"int\" found"},
        {COMPRESSED(GROUP(SCHEME("group", "false"), "null"), ""), "weights: strategy: "},
        {COMPRESSED(GROUP(SCHEME("channel", "true"), "null"), ""), "weights: dynamic: "},
        {COMPRESSED(GROUP(SCHEME("channel", "false"), SCHEME("tensor", "true")), ""), "input_activations: strategy: "},
        {COMPRESSED(GROUP(BLOCKS, SCHEME("tensor", "false")), ""), "input_activations: strategy: "},
        {COMPRESSED(GROUP(SCHEME("channel", "false"), GROUPS), ""), "input_activations: group_size: "},
        {COMPRESSED(GROUP(SCHEME("channel", "false"), "null"), ", \"kv_cache_scheme\": " SCHEME("tensor", "true")),
         "kv_cache_scheme: dynamic: "},
        {COMPRESSED(GROUP(SCHEME("channel", "false"), "null"), ", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}"),
         "sparsity_config: "},
        {COMPRESSED("{\"a\": {\"weights\": " SCHEME("channel", "false") "}, \"b\": {\"weights\": " BLOCKS "}}", ""),
         "groups of one scheme"},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"sometimes\"}", "activation_scheme: "},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"static\", \"weight_block_size\": [128, 128]}",
         "activation_scheme: \"dynamic\""},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", "weight_block_size: "},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 0]}", "weight_block_size: "},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 2147483652]}", "weight_block_size: "},
        {"{\"quant_method\": \"fp8\", \"weight_block_size\": [-1, 126]}", "weight_block_size: "},
        {"{\"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\"}", "scale_fmt: "},
        {"{\"fp8_config\": \"E5M2\"}", "fp8_config: \"E4M3\" expected, \"E5M2\" found"},
        {"{\"fp8_config\": \"E4M3\", \"world_size\": 8}", "world_size: at most 1 (a model saved from one card) expected, 8 found"},
        {"{\"fp8_config\": \"E4M3\", \"mode\": \"QUANTIZE\"}", "mode: \"LOAD\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_fp8_format found;
        oct_error err = {OCT_OK, ""};
        assert_int_equal(parse(cases[i][0], &found, &err), OCT_UNSUPPORTED);
        assert_int_equal(strncmp(err.message, "config.json: quantization_config: ", 34), 0);
        if (!strstr(err.message, cases[i][1])) fail_msg("%s: \"%s\" does not say \"%s\"", cases[i][0], err.message, cases[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_configurations_are_understood),
        cmocka_unit_test(what_is_not_computed_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
