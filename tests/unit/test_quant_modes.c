// A small model under the configurations that differ in how it runs: observers, dynamic scales, E5M2, and the modes that mean the same.
#include "golden_data.h"
#include "llama_harness.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/llama_observe.h"
#include "quant/measurement.h"
#include "quant/node_file.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TOKENS = 24 };
static const int32_t ids[TOKENS] = {1, 5, 9, 3, 7, 11, 2, 8, 6, 4, 10, 12, 5, 3, 9, 1, 7, 8, 2, 6, 11, 4, 12, 10};

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/octavo-modes-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *model_path(void) {
    return golden_path("model/models/tiny_gguf/model.gguf");
}

static char *in_folder(const char *name) {
    return oct_path_join(folder, name);
}

// A configuration with `keys` besides the place of its files.
static struct oct_quant_config *config_with(const char *keys) {
    char *path = in_folder("config.json");
    struct oct_buffer text = {0};
    oct_buffer_printf(&text, "{\"dump_stats_path\": \"%s/inc_output\", %s}", folder, keys);
    struct oct_quant_config *config;
    oct_error err;
    if (oct_file_write(path, text.data, text.length, &err) != OCT_OK) fail_msg("%s", err.message);
    if (oct_quant_config_load(path, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    oct_buffer_free(&text);
    free(path);
    return config;
}

static int layers_of_the_model(void) {
    struct oct_checkpoint *checkpoint;
    oct_error err;
    if (oct_checkpoint_open(model_path(), &checkpoint, &err) != OCT_OK) fail_msg("%s", err.message);
    int layers = oct_checkpoint_config(checkpoint)->num_hidden_layers;
    oct_checkpoint_close(checkpoint);
    return layers;
}

static struct oct_measurement *measured_with(const struct oct_quant_config *config) {
    struct oct_measurement *measurement = oct_measurement_new(layers_of_the_model());
    oct_error err;
    if (oct_measurement_observe(measurement, config, &err) != OCT_OK) fail_msg("%s", err.message);
    struct harness model = harness_open_measuring(model_path(), OCT_BF16, TOKENS, measurement);
    struct oct_observer observer = oct_measurement_observer(measurement);
    harness_forward(&model, ids, 0, TOKENS - 4, &observer);
    harness_forward(&model, ids, TOKENS - 4, TOKENS, &observer);
    harness_close(&model);
    assert_int_equal(measurement->error.code, OCT_OK);
    return measurement;
}

static struct oct_plan *plan_of(const struct oct_quant_config *config, const struct oct_measurement *measurement, int num_layers) {
    struct oct_plan *plan;
    oct_error err;
    if (oct_plan_build(config, measurement, num_layers, true, &plan, &err) != OCT_OK) fail_msg("%s", err.message);
    return plan;
}

// The logits (TOKENS, vocab) of a run under `keys` after measuring; the caller frees them.
static float *logits_with(const char *keys, int *vocab) {
    struct oct_quant_config *measure = config_with("\"mode\": \"MEASURE\""), *config = config_with(keys);
    struct oct_measurement *measurement = measured_with(measure);
    struct oct_plan *plan = plan_of(config, measurement, measurement->num_layers);
    struct harness model = harness_open(model_path(), OCT_BF16, TOKENS, plan);
    harness_forward(&model, ids, 0, TOKENS, NULL);
    *vocab = model.vocab;
    size_t n = (size_t)TOKENS * (size_t)model.vocab;
    float *logits = oct_alloc(n, sizeof *logits, "logits");
    memcpy(logits, model.logits, n * sizeof *logits);
    harness_close(&model);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
    oct_quant_config_free(measure);
    oct_quant_config_free(config);
    return logits;
}

static double mean_kl(const float *reference, const float *found, int vocab) {
    double sum = 0;
    for (int i = 0; i < TOKENS; i++) sum += kl_divergence(reference + (size_t)i * (size_t)vocab, found + (size_t)i * (size_t)vocab, vocab);
    return sum / TOKENS;
}

static void qdq_and_fake_quant_compute_what_fp8_computes(void **state) {
    (void)state;
    int vocab;
    float *fp8 = logits_with("\"mode\": \"QUANTIZE\"", &vocab),
          *bf16 = logits_with("\"mode\": \"QUANTIZE\", \"allowlist\": {\"names\": [\"^$\"]}", &vocab);
    size_t bytes = (size_t)TOKENS * (size_t)vocab * sizeof *fp8;
    assert_memory_not_equal(fp8, bf16, bytes);
    static const char *const keys[] = {"\"use_qdq\": true", "\"fake_quant\": true", "\"use_qdq\": \"True\", \"scale_format\": \"CONST\"",
                                       "\"scale_format\": \"scalar\""};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        float *found = logits_with(keys[i], &vocab);
        assert_memory_equal(found, fp8, bytes);
        free(found);
    }
    free(fp8);
    free(bf16);
}

// E5M2 has one mantissa bit less than E4M3: a larger distance, but the same model.
static void e5m2_runs_and_is_coarser_than_e4m3(void **state) {
    (void)state;
    int vocab;
    float *bf16 = logits_with("\"allowlist\": {\"names\": [\"^$\"]}", &vocab);
    float *e4m3 = logits_with("\"fp8_config\": \"E4M3\"", &vocab), *e5m2 = logits_with("\"fp8_config\": \"E5M2\"", &vocab);
    double fine = mean_kl(bf16, e4m3, vocab), coarse = mean_kl(bf16, e5m2, vocab);
    print_message("# KL: E4M3 %g, E5M2 %g\n", fine, coarse);
    assert_true(fine > 0 && coarse > 1.5 * fine && coarse < 20 * fine);
    free(bf16);
    free(e4m3);
    free(e5m2);
}

#define DYNAMIC                                                                                                                            \
    "\"dynamic_quantization\": true, \"scale_method\": \"maxabs_pcs_pow2\", \"blocklist\": {\"types\": [\"Matmul\", \"VLLMKVCache\"]}"

static void dynamic_scales_need_no_measurement_and_keep_rows_apart(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with(DYNAMIC);
    assert_false(oct_quant_config_uses_files(config));
    struct harness bf16 = harness_open(model_path(), OCT_BF16, TOKENS, NULL);
    struct oct_plan *plan = plan_of(config, NULL, bf16.llama->config.num_hidden_layers);
    struct harness model = harness_open(model_path(), OCT_BF16, TOKENS, plan);
    assert_true(plan->layers[0].qkv_proj.fp8 && plan->lm_head.fp8 && !plan->layers[0].attention.matmul_qk);
    assert_true(model.llama->layers[0].qkv_proj.row_scale == oct_scale_row);
    harness_forward(&bf16, ids, 0, TOKENS, NULL);
    harness_forward(&model, ids, 0, TOKENS, NULL);
    double kl = mean_kl(bf16.logits, model.logits, model.vocab);
    print_message("# KL with scales made at run time: %g\n", kl);
    assert_true(kl > 0 && kl < 0.2); // 0.1 with measured scales: a tiny model
    size_t row = (size_t)model.vocab;
    float *last = oct_alloc(row, sizeof *last, "logits");
    memcpy(last, model.logits + (TOKENS - 1) * row, row * sizeof *last);
    harness_forward(&model, ids, 0, TOKENS - 1, NULL);
    harness_forward(&model, ids, TOKENS - 1, TOKENS, NULL);
    assert_memory_equal(model.logits, last, row * sizeof *last); // alone as among others
    free(last);
    harness_close(&bf16);
    harness_close(&model);
    oct_plan_free(plan);
    oct_quant_config_free(config);
}

static void dynamic_scales_of_attention_are_refused(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"dynamic_quantization\": true, \"scale_method\": \"maxabs_pcs_pow2\"");
    struct oct_plan *plan;
    oct_error err;
    assert_int_equal(oct_plan_build(config, NULL, 2, true, &plan, &err), OCT_UNSUPPORTED);
    assert_non_null(strstr(err.message, "model.layers.0.self_attn.attn.impl.matmul_qk"));
    assert_non_null(strstr(err.message, "add \"Matmul\" to \"types\" of the blocklist"));
    oct_quant_config_free(config);
}

// --- observers --------------------------------------------------------------------------------------------------------------------

// Writes the measurement and reads its nodes back.
static const struct oct_value *written_nodes(const struct oct_measurement *measurement, const struct oct_quant_config *config,
                                             struct oct_tree *tree) {
    oct_error err;
    struct oct_value *nodes;
    if (oct_measurement_write(measurement, config, 0, &err) != OCT_OK) fail_msg("%s", err.message);
    char *path = oct_quant_config_file(config, "", 0, 1, ".npz");
    if (oct_node_file_read(path, tree, &nodes, &err) != OCT_OK) fail_msg("%s", err.message);
    free(path);
    return nodes;
}

static const struct oct_value *tensor_of(const struct oct_value *nodes, const char *module, const char *list, size_t index) {
    const struct oct_value *items = oct_dict_get(oct_dict_get(nodes, module), list);
    assert_non_null(items);
    assert_true(index < items->count);
    return items->items[index];
}

static void assert_array(const struct oct_value *array, const double *expected, size_t n) {
    assert_int_equal(oct_array_size(array), n);
    for (size_t i = 0; i < n; i++) assert_true(oct_array_at(array, i) == expected[i]);
}

#define LAYER "model.layers.0."
#define IMPL  LAYER "self_attn.attn.impl."

// Every node of a Gaudi's measurement, with as many inputs and outputs.
static void a_measurement_lists_what_a_gaudi_needs(void **state) {
    (void)state;
    static const char *const names[] = {"measured", "with all outputs"};
    for (int outputs = 0; outputs < 2; outputs++) {
        struct oct_quant_config *config =
            config_with(outputs ? "\"mode\": \"MEASURE\", \"measure_exclude\": \"NONE\"" : "\"mode\": \"MEASURE\"");
        struct oct_measurement *measurement = measured_with(config);
        struct oct_tree tree = {0};
        const struct oct_value *nodes = written_nodes(measurement, config, &tree);
        assert_int_equal(nodes->count / 2, (size_t)oct_module_count(measurement->num_layers));
        struct oct_tree golden_tree = {0};
        struct oct_value *golden_nodes;
        oct_error err;
        assert_int_equal(oct_node_file_read(golden_path(outputs ? "inc/hpu_gaudi2/tp1_exclude_none/inc_output_hooks_maxabs_0_1.npz"
                                                                : "inc/hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1.npz"),
                                            &golden_tree, &golden_nodes, &err),
                         OCT_OK);
        for (size_t i = 0; i < golden_nodes->count; i += 2) {
            const struct oct_value *found = oct_dict_get(nodes, golden_nodes->items[i]->bytes), *expected = golden_nodes->items[i + 1];
            if (!found) fail_msg("%s: %s is missing", names[outputs], golden_nodes->items[i]->bytes);
            static const char *const fields[] = {"inputs", "outputs", "params"};
            for (int f = 0; f < 3; f++) {
                const struct oct_value *a = oct_dict_get(found, fields[f]), *b = oct_dict_get(expected, fields[f]);
                if (!a != !b || (a && a->count != b->count))
                    fail_msg("%s: %s.%s", names[outputs], golden_nodes->items[i]->bytes, fields[f]);
            }
        }
        oct_tree_free(&golden_tree);
        oct_tree_free(&tree);
        oct_measurement_free(measurement);
        oct_quant_config_free(config);
    }
}

// What the modules of attention see is derived from the same few tensors.
static void the_modules_of_attention_agree_with_each_other(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"mode\": \"MEASURE\"");
    struct oct_measurement *m = measured_with(config);
    for (int layer = 0; layer < m->num_layers; layer++) {
        const struct oct_module_measurement *qk = oct_measurement_at(m, OCT_MATMUL_QK, layer),
                                            *av = oct_measurement_at(m, OCT_MATMUL_AV, layer);
        const struct oct_module_measurement *fused = oct_measurement_at(m, OCT_FUSED_SDPA, layer);
        const struct oct_module_measurement *spread = oct_measurement_at(m, OCT_BATCH2BLOCK, layer),
                                            *gathered = oct_measurement_at(m, OCT_BLOCK2BATCH, layer);
        assert_true(fused->inputs[1] == qk->inputs[1] && fused->inputs[2] == av->inputs[1] && fused->outputs[1] == av->inputs[0]);
        assert_true(fused->inputs[0] > qk->inputs[0]);
        assert_true(fused->outputs[0] == oct_measurement_at(m, OCT_O_PROJ, layer)->inputs[0]);
        assert_true(spread->inputs[0] == 1 && spread->outputs[0] == spread->inputs[1] && spread->inputs[1] >= qk->inputs[0]);
        assert_true(gathered->inputs[0] == 1 && gathered->inputs[1] >= fused->outputs[0]);
        assert_true(spread->inputs[1] > 1 && spread->inputs[1] <= TOKENS + 0.01f); // the softmax's sum: at most one for each token
    }
    oct_measurement_free(m);
    oct_quant_config_free(config);
}

// Attention over queries of 2 and values of 0.5, whose flattest row spreads over four tokens.
static void products_over_blocks_carry_the_sums_of_the_softmax(void **state) {
    (void)state;
    enum { ROWS = 3, HEADS = 2, HEAD_DIM = 4 };
    float qkv[ROWS * (HEADS + 2) * HEAD_DIM], out[ROWS * HEADS * HEAD_DIM];
    for (size_t i = 0; i < sizeof qkv / sizeof *qkv; i++) qkv[i] = 2;
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) out[i] = 0.5f;
    struct oct_model_config config = {.num_attention_heads = HEADS, .num_key_value_heads = 1, .head_dim = HEAD_DIM};
    struct oct_batch batch = {.num_rows = ROWS, .positions = (int32_t[]){4, 5, 6}};
    struct oct_attention_range range = {.scores = 3, .largest_peak = 1, .smallest_peak = 0.25f};
    struct oct_measurement *measurement = oct_measurement_new(1);
    struct oct_observer observer = oct_measurement_observer(measurement);
    struct oct_device *device;
    oct_error err;
    assert_int_equal(oct_device_open_cpu(1, &device, &err), OCT_OK);
    oct_watch_attention(&(struct oct_watch){&observer, device, &config, &batch}, 0, qkv, out, &range);
    const struct oct_module_measurement *spread = oct_measurement_at(measurement, OCT_BATCH2BLOCK, 0);
    const struct oct_module_measurement *gathered = oct_measurement_at(measurement, OCT_BLOCK2BATCH, 0);
    assert_true(oct_measurement_at(measurement, OCT_MATMUL_QK, 0)->inputs[0] == 1); // 2 / sqrt(4)
    assert_true(oct_measurement_at(measurement, OCT_FUSED_SDPA, 0)->inputs[0] == 2);
    assert_true(oct_measurement_at(measurement, OCT_SOFTMAX, 0)->inputs[0] == 3);
    assert_true(spread->inputs[0] == 1 && spread->inputs[1] == 4 && spread->outputs[0] == 4);
    assert_true(gathered->inputs[0] == 1 && gathered->inputs[1] == 4 && gathered->outputs[0] == 4);
    oct_device_close(device);
    oct_measurement_free(measurement);
}

static void the_shape_observer_writes_shapes(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"mode\": \"SHAPE\", \"observer\": \"shape\"");
    struct oct_measurement *measurement = measured_with(config);
    struct oct_tree tree = {0};
    const struct oct_value *nodes = written_nodes(measurement, config, &tree);
    struct harness model = harness_open(model_path(), OCT_BF16, TOKENS, NULL);
    const struct oct_model_config *c = &model.llama->config;
    int q = c->num_attention_heads * c->head_dim, kv = c->num_key_value_heads * c->head_dim;
    assert_array(tensor_of(nodes, LAYER "self_attn.qkv_proj", "inputs", 0), (double[]){4, c->hidden_size}, 2); // of the last step
    assert_array(oct_dict_get(oct_dict_get(oct_dict_get(nodes, LAYER "self_attn.qkv_proj"), "params"), "weight"),
                 (double[]){q + 2 * kv, c->hidden_size}, 2);
    assert_array(tensor_of(nodes, LAYER "mlp.down_proj", "outputs", 0), (double[]){4, c->hidden_size}, 2);
    assert_array(tensor_of(nodes, IMPL "k_cache", "inputs", 0), (double[]){4, c->num_key_value_heads, c->head_dim}, 3);
    assert_array(tensor_of(nodes, IMPL "matmul_av", "inputs", 0),
                 (double[]){1, c->num_key_value_heads, c->num_attention_heads / c->num_key_value_heads, 4, TOKENS}, 5);
    char *path = in_folder("inc_output_hooks_shape_0_1.json"), *text;
    size_t length;
    oct_error err;
    assert_int_equal(oct_file_read(path, 1 << 20, &text, &length, &err), OCT_OK);
    assert_non_null(strstr(text, "\"Mode\": \"Shape\""));
    free(text);
    free(path);
    harness_close(&model);
    oct_tree_free(&tree);
    oct_measurement_free(measurement);
    oct_quant_config_free(config);
}

static double largest(const struct oct_value *array) {
    double max = 0;
    for (size_t i = 0; i < oct_array_size(array); i++) max = fmax(max, oct_array_at(array, i));
    return max;
}

// As many numbers as channels, the largest of them what maxabs finds; and it can be quantized from.
static void the_per_channel_observer_refines_maxabs(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"mode\": \"MEASURE\", \"observer\": \"maxabs_per_channel\"");
    struct oct_measurement *measurement = measured_with(config), *again;
    struct oct_tree tree = {0};
    const struct oct_value *nodes = written_nodes(measurement, config, &tree);
    struct harness model = harness_open(model_path(), OCT_BF16, TOKENS, NULL);
    const struct oct_model_config *c = &model.llama->config;
    assert_int_equal(oct_array_size(tensor_of(nodes, LAYER "mlp.down_proj", "inputs", 0)), c->intermediate_size);
    assert_int_equal(oct_array_size(tensor_of(nodes, LAYER "mlp.down_proj", "outputs", 0)), c->hidden_size);
    assert_int_equal(oct_array_size(oct_dict_get(oct_dict_get(oct_dict_get(nodes, LAYER "mlp.down_proj"), "params"), "weight")),
                     c->hidden_size);
    assert_int_equal(oct_array_size(tensor_of(nodes, IMPL "k_cache", "inputs", 0)), c->head_dim);
    assert_int_equal(oct_array_size(tensor_of(nodes, IMPL "softmax", "outputs", 0)), 1); // probabilities have no channels
    oct_error err;
    assert_int_equal(oct_measurement_read(config, measurement->num_layers, &again, &err), OCT_OK);
    struct oct_quant_config *plain = config_with("\"mode\": \"MEASURE\"");
    struct oct_measurement *maxabs = measured_with(plain);
    written_nodes(maxabs, plain, &tree);
    for (int i = 0; i < oct_module_count(maxabs->num_layers); i++) {
        int layer;
        enum oct_module module = oct_module_at(maxabs->num_layers, i, &layer);
        const struct oct_module_measurement *a = oct_measurement_at(again, module, layer);
        struct oct_measurement *read;
        assert_int_equal(oct_measurement_read(plain, maxabs->num_layers, &read, &err), OCT_OK);
        const struct oct_module_measurement *b = oct_measurement_at(read, module, layer);
        assert_memory_equal(a->inputs, b->inputs, sizeof a->inputs);
        assert_true(a->weight == b->weight);
        oct_measurement_free(read);
    }
    assert_true(largest(tensor_of(nodes, "lm_head", "inputs", 0)) == oct_measurement_at(again, OCT_LM_HEAD, 0)->inputs[0]);
    harness_close(&model);
    oct_tree_free(&tree);
    oct_measurement_free(measurement);
    oct_measurement_free(maxabs);
    oct_measurement_free(again);
    oct_quant_config_free(plain);
    oct_quant_config_free(config);
}

static void the_save_observer_keeps_every_tensor(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"mode\": \"MEASURE\", \"observer\": \"save\", \"allowlist\": {\"names\": [\"x\"]}");
    struct oct_measurement *measurement = measured_with(config);
    char *name = in_folder("tensors/" LAYER "mlp.down_proj_input0_iter1.safetensors");
    struct golden_file saved = golden_open(name);
    size_t count;
    const float *values = golden_tensor(&saved, "tensor", &count);
    struct harness model = harness_open(model_path(), OCT_BF16, TOKENS, NULL);
    assert_int_equal(count, 4 * model.llama->config.intermediate_size); // of the second step
    float amax = 0;
    for (size_t i = 0; i < count; i++) amax = fmaxf(amax, fabsf(values[i]));
    assert_true(amax > 0 && amax <= oct_measurement_at(measurement, OCT_DOWN_PROJ, 0)->inputs[0]);
    struct oct_tree tree = {0};
    assert_true(oct_measurement_state(measurement, oct_measurement_at(measurement, OCT_DOWN_PROJ, 0), 0, &tree)->num_dims == 2);
    assert_true(oct_array_at(oct_measurement_state(measurement, oct_measurement_at(measurement, OCT_DOWN_PROJ, 0), 0, &tree), 0) == 0);
    golden_close(&saved);
    harness_close(&model);
    oct_tree_free(&tree);
    free(name);
    oct_measurement_free(measurement);
    oct_quant_config_free(config);
}

static void an_unknown_observer_is_refused_when_something_is_to_be_observed(void **state) {
    (void)state;
    struct oct_quant_config *config = config_with("\"mode\": \"MEASURE\", \"observer\": \"MAXABS\"");
    struct oct_measurement *measurement = oct_measurement_new(1);
    oct_error err;
    assert_int_equal(oct_measurement_observe(measurement, config, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, "\"MAXABS\" found"));
    oct_measurement_free(measurement);
    oct_quant_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qdq_and_fake_quant_compute_what_fp8_computes),
        cmocka_unit_test(e5m2_runs_and_is_coarser_than_e4m3),
        cmocka_unit_test(dynamic_scales_need_no_measurement_and_keep_rows_apart),
        cmocka_unit_test(dynamic_scales_of_attention_are_refused),
        cmocka_unit_test(a_measurement_lists_what_a_gaudi_needs),
        cmocka_unit_test(the_modules_of_attention_agree_with_each_other),
        cmocka_unit_test(products_over_blocks_carry_the_sums_of_the_softmax),
        cmocka_unit_test(the_shape_observer_writes_shapes),
        cmocka_unit_test(the_per_channel_observer_refines_maxabs),
        cmocka_unit_test(the_save_observer_keeps_every_tensor),
        cmocka_unit_test(an_unknown_observer_is_refused_when_something_is_to_be_observed),
    };
    return cmocka_run_group_tests_name("quant_modes", tests, make_folder, remove_folder);
}
