// Checkpoints that are FP8 already, made here out of a small bf16 model: each format must run as its scales say, and hostile scales must
// be errors. Files of the same kind are read in tests/cli.
#include "golden_data.h"
#include "llama_harness.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "model/stored_fp8.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TENSORS = 512, ROWS = 20 };

static struct oct_checkpoint *base; // bf16: 3 layers, hidden 128, intermediate 352, untied

// A checkpoint in memory, and what its tensors point to.
struct made {
    struct oct_model_config config;
    struct oct_tensor tensors[MAX_TENSORS];
    void *owned[MAX_TENSORS];
    size_t count;
};

static void add(struct made *made, const char *name, enum oct_dtype dtype, int num_dims, int64_t shape0, int64_t shape1, void *data) {
    assert_true(made->count < MAX_TENSORS);
    struct oct_tensor *tensor = &made->tensors[made->count];
    // Of size 0: pages of memory that no file is behind would be lost when they are dropped.
    *tensor = (struct oct_tensor){.dtype = dtype, .num_dims = num_dims, .shape = {shape0, shape1}, .data = data};
    assert_true(strlen(name) < sizeof tensor->name);
    strcpy(tensor->name, name);
    made->owned[made->count++] = data;
}

static void add_scales(struct made *made, const char *module, const char *suffix, int num_dims, int64_t shape0, int64_t shape1,
                       const float *values) {
    struct oct_buffer name = {0};
    size_t count = (size_t)(num_dims > 0 ? shape0 : 1) * (size_t)(num_dims > 1 ? shape1 : 1);
    float *copy = oct_alloc(count, sizeof *copy, "scales");
    memcpy(copy, values, count * sizeof *copy);
    oct_buffer_printf(&name, "%s.%s", module, suffix);
    add(made, name.data, OCT_F32, num_dims, shape0, shape1, copy);
    oct_buffer_free(&name);
}

static void made_free(struct made *made) {
    for (size_t i = 0; i < made->count; i++) free(made->owned[i]);
}

static struct oct_checkpoint *checkpoint_of(const struct made *made) {
    return oct_checkpoint_from_tensors("made", &made->config, made->tensors, made->count);
}

static struct oct_tensor *find(struct made *made, const char *name) {
    for (size_t i = 0; i < made->count; i++)
        if (!strcmp(made->tensors[i].name, name)) return &made->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

// How the weights of a made checkpoint are scaled.
struct kind {
    int block_out, block_in; // 0: the whole tensor, 1 x 0: a channel
    enum oct_fp8_activation activation;
    float (*scale)(float amax);
    enum oct_fp8_method method;
    float input_scale;
};

static float llm_compressors(float amax) {
    return oct_bf16_round(amax / 448);
}

static float power_of_two(float amax) {
    return exp2f(ceilf(log2f(amax / 224)));
}

static bool is_linear(const char *name) {
    return strstr(name, "_proj.weight") != NULL;
}

static void quantize(struct made *made, const struct oct_tensor *weight, const struct kind *kind) {
    int64_t outs = oct_tensor_rows(weight), ins = oct_tensor_columns(weight);
    int64_t block_out = kind->block_out ? kind->block_out : outs, block_in = kind->block_in ? kind->block_in : ins;
    int64_t rows = (outs + block_out - 1) / block_out, columns = (ins + block_in - 1) / block_in;
    float *values = oct_alloc((size_t)(outs * ins), sizeof *values, "weights");
    float *scales = oct_alloc((size_t)(rows * columns), sizeof *scales, "scales");
    uint8_t *codes = oct_alloc((size_t)(outs * ins), 1, "codes");
    oct_tensor_rows_f32(weight, 0, outs, values);
    for (int64_t i = 0; i < outs * ins; i++) {
        float *scale = &scales[i / ins / block_out * columns + i % ins / block_in];
        *scale = fmaxf(*scale, fabsf(values[i]));
    }
    for (int64_t i = 0; i < rows * columns; i++) scales[i] = kind->scale(scales[i]);
    bool inc = kind->method == OCT_FP8_INC;
    for (int64_t i = 0; i < outs * ins; i++) {
        float scale = scales[i / ins / block_out * columns + i % ins / block_in];
        codes[inc ? i % ins * outs + i / ins : i] = oct_e4m3_from_f32(values[i] * (1 / scale), 448);
    }
    char module[200];
    snprintf(module, sizeof module, "%.*s", (int)(strlen(weight->name) - strlen(".weight")), weight->name);
    add(made, weight->name, OCT_E4M3, 2, outs, ins, codes);
    made->tensors[made->count - 1].transposed = inc;
    bool block = kind->block_in != 0;
    add_scales(made, module,
               inc     ? "scale_weight"
               : block ? "weight_scale_inv"
                       : "weight_scale",
               rows * columns == 1 ? 0 : 2, rows, columns, scales);
    if (kind->activation == OCT_ACTIVATION_STATIC)
        add_scales(made, module, inc ? "scale_input" : "input_scale", 1, 1, 0, &kind->input_scale);
    free(values);
    free(scales);
}

static void make(struct made *made, struct kind kind) {
    *made = (struct made){.config = *oct_checkpoint_config(base)};
    made->config.fp8 = (struct oct_fp8_format){.method = kind.method ? kind.method : OCT_FP8_COMPRESSED_TENSORS,
                                               .activation = kind.activation,
                                               .block_out = kind.block_in ? kind.block_out : 0,
                                               .block_in = kind.block_in,
                                               .full_scale = 448};
    for (size_t i = 0; i < oct_checkpoint_num_tensors(base); i++) {
        const struct oct_tensor *tensor = oct_checkpoint_tensor(base, i);
        if (is_linear(tensor->name)) {
            quantize(made, tensor, &kind);
            continue;
        }
        void *copy = oct_alloc(tensor->size, 1, "a tensor");
        memcpy(copy, tensor->data, tensor->size);
        add(made, tensor->name, tensor->dtype, tensor->num_dims, tensor->shape[0], tensor->shape[1], copy);
    }
}

// --- running ----------------------------------------------------------------------------------------------------------------------

static struct oct_plan *stored_plan(const struct oct_checkpoint *checkpoint, bool fp8_kv) {
    struct oct_plan *plan;
    oct_error err;
    if (oct_stored_plan(checkpoint, fp8_kv, &plan, &err) != OCT_OK) fail_msg("%s", err.message);
    return plan;
}

// Logits (ROWS, vocab) of a fixed text. Frees the plan.
static float *run(const struct oct_checkpoint *checkpoint, struct oct_plan *plan, int at_once) {
    struct harness harness = harness_open_checkpoint(checkpoint, OCT_BF16, ROWS, plan);
    int32_t ids[ROWS];
    float *logits = oct_alloc((size_t)(ROWS * harness.vocab), sizeof *logits, "logits");
    for (int i = 0; i < ROWS; i++) ids[i] = (i * 37 + 5) % harness.vocab;
    for (int from = 0; from < ROWS; from += at_once) {
        harness_forward(&harness, ids, from, from + at_once, NULL);
        memcpy(logits + (size_t)(from * harness.vocab), harness.logits, (size_t)(at_once * harness.vocab) * sizeof *logits);
    }
    harness_close(&harness);
    oct_plan_free(plan);
    return logits;
}

static float *run_made(const struct made *made) {
    struct oct_checkpoint *checkpoint = checkpoint_of(made);
    float *logits = run(checkpoint, stored_plan(checkpoint, false), ROWS), *alone = run(checkpoint, stored_plan(checkpoint, false), 1);
    assert_memory_equal(logits, alone, (size_t)(ROWS * made->config.vocab_size) * sizeof *logits); // a row's own
    free(alone);
    oct_checkpoint_close(checkpoint);
    return logits;
}

static float *run_kind(struct kind kind) {
    static struct made made;
    make(&made, kind);
    float *logits = run_made(&made);
    made_free(&made);
    return logits;
}

static void assert_same_logits(float *found, float *expected) {
    size_t vocab = (size_t)oct_checkpoint_config(base)->vocab_size;
    assert_memory_equal(found, expected, ROWS * vocab * sizeof *found);
    free(found);
    free(expected);
}

static double mean_kl(const float *reference, const float *found) {
    int vocab = oct_checkpoint_config(base)->vocab_size;
    double sum = 0;
    for (int i = 0; i < ROWS; i++) sum += kl_divergence(reference + i * vocab, found + i * vocab, vocab);
    return sum / ROWS;
}

static const struct kind channels = {.block_out = 1, .activation = OCT_ACTIVATION_BF16, .scale = llm_compressors};

static void stored_weights_by_channel_are_what_quantization_fp8_makes(void **state) {
    (void)state;
    assert_same_logits(run_kind(channels), run(base, oct_plan_fp8_weights(oct_checkpoint_config(base)->num_hidden_layers), ROWS));
}

static void parts_of_a_fused_module_keep_scales_of_their_own(void **state) {
    (void)state;
    struct kind kind = channels;
    kind.block_out = 0;
    static struct made spread;
    make(&spread, kind);
    for (size_t i = 0; i < spread.count; i++) { // the same scales, written for each channel
        struct oct_tensor *scale = &spread.tensors[i];
        if (!strstr(scale->name, ".weight_scale")) continue;
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)(strlen(scale->name) - strlen("_scale")), scale->name);
        int64_t outs = find(&spread, name)->shape[0];
        float one = *(const float *)scale->data, *all = oct_alloc((size_t)outs, sizeof *all, "scales");
        for (int64_t row = 0; row < outs; row++) all[row] = one;
        free(spread.owned[i]);
        spread.owned[i] = all;
        scale->data = (const uint8_t *)all;
        scale->num_dims = 2;
        scale->shape[0] = outs;
        scale->shape[1] = 1;
    }
    assert_same_logits(run_kind(kind), run_made(&spread));
    made_free(&spread);
}

static void static_activations_are_rounded_with_the_stored_scale(void **state) {
    (void)state;
    struct kind kind = channels;
    kind.activation = OCT_ACTIVATION_STATIC;
    kind.input_scale = 0.013f;
    struct oct_plan *plan = oct_plan_fp8_weights(oct_checkpoint_config(base)->num_hidden_layers);
    for (int i = 0; i < plan->num_layers; i++)
        for (enum oct_module module = 0; module < OCT_LM_HEAD; module++)
            if (oct_module_is_linear(module)) oct_plan_linear(plan, module, i)->input_scale = kind.input_scale;
    assert_same_logits(run_kind(kind), run(base, plan, ROWS));
}

static void of_the_input_scales_of_a_fused_module_the_largest_counts(void **state) {
    (void)state;
    static struct made made;
    struct kind kind = channels;
    kind.activation = OCT_ACTIVATION_STATIC;
    kind.input_scale = 0.01f;
    make(&made, kind);
    *(float *)find(&made, "model.layers.1.self_attn.k_proj.input_scale")->data = 0.5f;
    struct oct_checkpoint *checkpoint = checkpoint_of(&made);
    struct oct_plan *plan = stored_plan(checkpoint, false);
    assert_true(plan->layers[1].qkv_proj.input_scale == 0.5f && plan->layers[0].qkv_proj.input_scale == 0.01f);
    assert_true(plan->layers[1].qkv_proj.stored && !plan->lm_head.fp8);
    oct_plan_free(plan);
    oct_checkpoint_close(checkpoint);
    made_free(&made);
}

static void incs_saved_models_lie_the_other_way_round(void **state) {
    (void)state;
    struct kind ours = {.activation = OCT_ACTIVATION_STATIC, .scale = power_of_two, .input_scale = 0x1p-6f}, incs = ours;
    incs.method = OCT_FP8_INC;
    assert_same_logits(run_kind(ours), run_kind(incs));
}

// What vLLM computes with those scales differs from the weights alone by the activations' rounding, a few per cent of each number.
static void dynamic_activations_and_blocks_stay_close_to_the_weights_alone(void **state) {
    (void)state;
    float *bf16 = run(base, NULL, ROWS), *weights = run_kind(channels);
    struct kind kind = channels;
    kind.activation = OCT_ACTIVATION_TOKEN;
    float *token = run_kind(kind);
    kind = (struct kind){.block_out = 48, .block_in = 64, .activation = OCT_ACTIVATION_BF16, .scale = llm_compressors};
    float *blocks = run_kind(kind);
    kind.activation = OCT_ACTIVATION_GROUP;
    float *groups = run_kind(kind);
    double error = mean_kl(bf16, weights);
    print_message("# KL to bf16: weights %.2e, per token %.2e, blocks %.2e, blocks and groups %.2e\n", error, mean_kl(bf16, token),
                  mean_kl(bf16, blocks), mean_kl(bf16, groups));
    assert_true(error > 0);
    assert_true(mean_kl(weights, token) > 0 && mean_kl(bf16, token) < 4 * error);
    assert_true(mean_kl(bf16, blocks) < 2 * error);
    assert_true(mean_kl(blocks, groups) > 0 && mean_kl(bf16, groups) < 4 * error);
    free(bf16);
    free(weights);
    free(token);
    free(blocks);
    free(groups);
}

// A plan that says nothing of FP8 (a reference, a calibration) gets the weights' values.
static void without_a_plan_the_values_are_computed_with(void **state) {
    (void)state;
    static struct made made, values;
    static const struct kind kinds[] = {{.block_out = 1, .scale = power_of_two}, {.block_out = 48, .block_in = 64, .scale = power_of_two}};
    for (int i = 0; i < 2; i++) {
        make(&made, kinds[i]);
        values = (struct made){.config = *oct_checkpoint_config(base)};
        for (size_t t = 0; t < made.count; t++) {
            const struct oct_tensor *tensor = &made.tensors[t];
            if (strstr(tensor->name, "scale")) continue;
            size_t n = (size_t)(oct_tensor_rows(tensor) * oct_tensor_columns(tensor));
            float *decoded = oct_alloc(n, sizeof *decoded, "values");
            oct_tensor_rows_f32(tensor, 0, oct_tensor_rows(tensor), decoded);
            if (tensor->dtype == OCT_E4M3) {
                char name[160];
                snprintf(name, sizeof name, i ? "%s_scale_inv" : "%s_scale", tensor->name);
                const struct oct_tensor *scale = find(&made, name);
                size_t ins = (size_t)tensor->shape[1];
                for (size_t e = 0; e < n; e++)
                    decoded[e] *= ((const float *)scale->data)[i ? e / ins / 48 * (size_t)scale->shape[1] + e % ins / 64 : e / ins];
            }
            add(&values, tensor->name, OCT_F32, tensor->num_dims, tensor->shape[0], tensor->shape[1], decoded);
        }
        struct oct_checkpoint *stored = checkpoint_of(&made), *plain = checkpoint_of(&values);
        assert_same_logits(run(stored, NULL, ROWS), run(plain, NULL, ROWS));
        oct_checkpoint_close(stored);
        oct_checkpoint_close(plain);
        made_free(&made);
        made_free(&values);
    }
}

// --- K and V ----------------------------------------------------------------------------------------------------------------------

static void k_and_v_take_the_stored_scales(void **state) {
    (void)state;
    static const struct {
        const char *k, *v;
        enum oct_fp8_method method;
    } cases[] = {{"k_scale", "v_scale", OCT_FP8_COMPRESSED_TENSORS},
                 {"attn.k_scale", "attn.v_scale", OCT_FP8_FP8},
                 {"k_proj.k_scale", "v_proj.v_scale", OCT_FP8_FP8},
                 {"k_proj.output_scale", "v_proj.output_scale", OCT_FP8_COMPRESSED_TENSORS},
                 {"k_cache.dequant_output.scale", "v_cache.dequant_output.scale", OCT_FP8_INC}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static struct made made;
        struct kind kind = {.activation = OCT_ACTIVATION_BF16, .scale = power_of_two, .method = cases[i].method};
        make(&made, kind);
        add_scales(&made, "model.layers.0.self_attn", cases[i].k, 1, 1, 0, (const float[]){0.25f});
        add_scales(&made, "model.layers.0.self_attn", cases[i].v, 0, 0, 0, (const float[]){0.5f});
        struct oct_checkpoint *checkpoint = checkpoint_of(&made);
        struct oct_plan *plan = stored_plan(checkpoint, true);
        const struct oct_attention_plan *first = &plan->layers[0].attention, *second = &plan->layers[1].attention;
        assert_true(first->k_cache && first->v_cache && !first->matmul_qk);
        assert_true(first->k_cache_scale == 0.25f && first->v_cache_scale == 0.5f);
        assert_true(second->k_cache && second->k_cache_scale == 1 && second->v_cache_scale == 1); // as vLLM, where there is none
        assert_int_equal(oct_stored_has_fp8_kv(checkpoint), cases[i].method == OCT_FP8_INC);      // others say it in config.json
        free(run(checkpoint, plan, ROWS));
        oct_checkpoint_close(checkpoint);
        made_free(&made);
    }
}

static void one_scale_for_both_is_taken_for_both(void **state) {
    (void)state;
    static struct made made;
    make(&made, channels);
    add_scales(&made, "model.layers.2.self_attn", "kv_scale", 0, 0, 0, (const float[]){2});
    struct oct_checkpoint *checkpoint = checkpoint_of(&made);
    struct oct_plan *plan = stored_plan(checkpoint, true);
    assert_true(plan->layers[2].attention.k_cache_scale == 2 && plan->layers[2].attention.v_cache_scale == 2);
    oct_plan_free(plan);
    oct_checkpoint_close(checkpoint);
    made_free(&made);
}

// --- damage -----------------------------------------------------------------------------------------------------------------------

// Planning or loading the checkpoint fails with a message that has `named` in it.
static void assert_refused(const struct made *made, oct_status status, const char *named) {
    struct oct_checkpoint *checkpoint = checkpoint_of(made);
    struct oct_plan *plan = NULL;
    struct oct_llama *llama = NULL;
    struct oct_device *device;
    oct_error err = {OCT_OK, ""};
    assert_int_equal(oct_device_open_cpu(1, &device, &err), OCT_OK);
    oct_status found = oct_stored_plan(checkpoint, true, &plan, &err);
    struct oct_llama_options options = {.compute = OCT_BF16, .plan = plan, .max_positions = 8, .max_rows = 8, .max_logit_rows = 8};
    if (found == OCT_OK) found = oct_llama_open(checkpoint, device, &options, &llama, &err);
    if (found != status || !strstr(err.message, named))
        fail_msg("status %d expected, %d found; \"%s\" names %s?", status, found, err.message, named);
    oct_plan_free(plan);
    oct_device_close(device);
    oct_checkpoint_close(checkpoint);
}

static void hostile_scales_are_errors_that_name_the_tensor(void **state) {
    (void)state;
    static const float values[] = {NAN, 0, -1, INFINITY, -0.0f, 1e-45f};
    static const char *const names[] = {"model.layers.1.self_attn.v_proj.weight_scale", "model.layers.2.mlp.down_proj.input_scale",
                                        "model.layers.0.self_attn.k_scale"};
    static struct made made;
    struct kind kind = channels;
    kind.activation = OCT_ACTIVATION_STATIC;
    kind.input_scale = 0.01f;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            make(&made, kind);
            add_scales(&made, "model.layers.0.self_attn", "k_scale", 0, 0, 0, (const float[]){1});
            *(float *)find(&made, names[n])->data = values[i];
            assert_refused(&made, OCT_CORRUPT, names[n]);
            made_free(&made);
        }
}

static void scales_of_a_wrong_shape_are_errors_that_name_the_tensor(void **state) {
    (void)state;
    static struct made made;
    make(&made, channels);
    find(&made, "model.layers.0.mlp.up_proj.weight_scale")->shape[0] = 351;
    assert_refused(&made, OCT_CORRUPT, "made: tensor model.layers.0.mlp.up_proj.weight_scale: 1 scale, or 352");
    made_free(&made);

    make(&made, (struct kind){.block_out = 48, .block_in = 64, .scale = power_of_two});
    struct oct_tensor *scale = find(&made, "model.layers.0.mlp.up_proj.weight_scale_inv");
    int64_t rows = scale->shape[0];
    scale->shape[0] = scale->shape[1];
    scale->shape[1] = rows;
    assert_refused(&made, OCT_CORRUPT, "tensor model.layers.0.mlp.up_proj.weight_scale_inv: shape [8, 2] expected");
    made_free(&made);

    struct kind kind = channels;
    kind.activation = OCT_ACTIVATION_STATIC;
    kind.input_scale = 1;
    make(&made, kind);
    strcpy(find(&made, "model.layers.0.self_attn.o_proj.input_scale")->name, "gone");
    assert_refused(&made, OCT_NOT_FOUND, "a tensor model.layers.0.self_attn.o_proj.input_scale expected");
    made_free(&made);
    make(&made, channels);
    strcpy(find(&made, "model.layers.0.self_attn.o_proj.weight_scale")->name, "gone");
    assert_refused(&made, OCT_NOT_FOUND, "a tensor model.layers.0.self_attn.o_proj.weight_scale expected");
    made_free(&made);
}

static void half_a_module_in_fp8_is_an_error_that_names_it(void **state) {
    (void)state;
    static struct made made;
    make(&made, channels);
    struct oct_tensor *up = find(&made, "model.layers.0.mlp.up_proj.weight");
    const struct oct_tensor *original = oct_checkpoint_find(base, up->name);
    up->dtype = original->dtype;
    up->data = original->data;
    assert_refused(&made, OCT_UNSUPPORTED, "model.layers.0.mlp.gate_up_proj: all of its weights in FP8 expected, or none, 1 of 2 found");
    made_free(&made);
}

static void a_code_that_is_nan_is_an_error_that_names_the_module(void **state) {
    (void)state;
    static struct made made;
    make(&made, channels);
    ((uint8_t *)find(&made, "model.layers.1.mlp.gate_proj.weight")->data)[77] = 0xff;
    assert_refused(&made, OCT_CORRUPT, "model.layers.1.mlp.gate_up_proj: finite weights expected");
    made_free(&made);
}

static int open_base(void **state) {
    (void)state;
    oct_error err;
    if (oct_checkpoint_open(golden_path("model/models/llama3_gqa"), &base, &err) != OCT_OK) fail_msg("%s", err.message);
    return 0;
}

static int close_base(void **state) {
    (void)state;
    oct_checkpoint_close(base);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_weights_by_channel_are_what_quantization_fp8_makes),
        cmocka_unit_test(parts_of_a_fused_module_keep_scales_of_their_own),
        cmocka_unit_test(static_activations_are_rounded_with_the_stored_scale),
        cmocka_unit_test(of_the_input_scales_of_a_fused_module_the_largest_counts),
        cmocka_unit_test(incs_saved_models_lie_the_other_way_round),
        cmocka_unit_test(dynamic_activations_and_blocks_stay_close_to_the_weights_alone),
        cmocka_unit_test(without_a_plan_the_values_are_computed_with),
        cmocka_unit_test(k_and_v_take_the_stored_scales),
        cmocka_unit_test(one_scale_for_both_is_taken_for_both),
        cmocka_unit_test(hostile_scales_are_errors_that_name_the_tensor),
        cmocka_unit_test(scales_of_a_wrong_shape_are_errors_that_name_the_tensor),
        cmocka_unit_test(half_a_module_in_fp8_is_an_error_that_names_it),
        cmocka_unit_test(a_code_that_is_nan_is_an_error_that_names_the_module),
    };
    return cmocka_run_group_tests(tests, open_base, close_base);
}
