// FP8 module by module on equal inputs: linears against Intel Neural Compressor's (weight bytes and outputs), attention against a plain
// double-precision reading of the numerics contract.
#include "golden_data.h"

#include "base/memory.h"
#include "device/device.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"
#include "quant/scale_method.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct oct_device *device;

static int open_device(void **state) {
    (void)state;
    oct_error err;
    if (oct_device_open_cpu(2, &device, &err) != OCT_OK) fail_msg("%s", err.message);
    return 0;
}

static int close_device(void **state) {
    (void)state;
    oct_device_close(device);
    return 0;
}

static float *widened(const struct golden_file *golden, const char *module, const char *what, size_t *count) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", module, what);
    const uint16_t *bits = golden_tensor(golden, name, count);
    assert_non_null(bits);
    float *values = oct_alloc(*count, sizeof *values, "a tensor");
    for (size_t i = 0; i < *count; i++) values[i] = oct_bf16_to_f32(bits[i]);
    return values;
}

// One linear of a converted model. INC on a CPU saturates at 448 whatever the profile of the scales, and divides by the scale where the
// cards multiply by its bf16 inverse: the same for powers of two, which all scales here are.
static void assert_linear_equals(const struct golden_file *golden, const char *module, const json_t *scales) {
    size_t x_count, w_count, y_count;
    float *x = widened(golden, module, "x", &x_count), *w = widened(golden, module, "w_bf16", &w_count);
    char name[128];
    snprintf(name, sizeof name, "%s.w_fp8_in_out", module);
    const uint8_t *bytes = golden_tensor(golden, name, &w_count);
    snprintf(name, sizeof name, "%s.y_nobias_f64", module);
    const double *y = golden_tensor(golden, name, &y_count);
    assert_non_null(bytes);
    assert_non_null(y);
    int rows = 9, in = (int)x_count / rows, out = (int)w_count / in;
    assert_int_equal(y_count, rows * out);

    const json_t *weight_scales = json_object_get(scales, "w_scale_dq");
    float input_scale = (float)json_number_value(json_array_get(json_object_get(scales, "in_scale_used"), 0));
    struct oct_linear linear;
    oct_error err;
    assert_int_equal(oct_linear_alloc(device, OCT_E4M3, out, in, false, &linear, &err), OCT_OK);
    linear.input_scale = input_scale;
    linear.input_inv_scale = oct_inv_scale(input_scale);
    linear.full_scale = OCT_E4M3_MAX;
    float *inv_scales = oct_alloc((size_t)out, sizeof *inv_scales, "scales");
    for (int i = 0; i < out; i++) {
        float scale = (float)json_number_value(json_array_get(weight_scales, json_array_size(weight_scales) == 1 ? 0 : (size_t)i));
        linear.scales[i] = input_scale * scale;
        inv_scales[i] = oct_inv_scale(scale);
    }
    oct_linear_pack(device, &linear, 0, out, w, inv_scales);
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++) {
            float found = oct_linear_weight(&linear, o, i), expected = oct_e4m3_to_f32(bytes[i * out + o]);
            if (memcmp(&found, &expected, sizeof found))
                fail_msg("%s: weight [%d][%d]: %g expected, %g found", module, o, i, expected, found);
        }
    float *found = oct_alloc((size_t)(rows * out), sizeof *found, "y");
    oct_linear_forward(device, &linear, x, rows, found, false);
    for (int row = 0; row < rows; row++) {
        double largest = 0;
        for (int o = 0; o < out; o++) largest = fmax(largest, fabs(y[row * out + o]));
        for (int o = 0; o < out; o++) {
            double expected = y[row * out + o], difference = fabs(found[row * out + o] - expected);
            // Relative to the row: float32 sums of terms that cancel keep the terms' precision, not the sum's.
            if (!(difference <= 1e-5 * largest))
                fail_msg("%s: y[%d][%d]: %.9g expected, %.9g found", module, row, o, expected, found[row * out + o]);
        }
    }
    oct_linear_free(device, &linear);
    free(x);
    free(w);
    free(found);
    free(inv_scales);
}

static void linears_have_incs_bytes_and_outputs(void **state) {
    (void)state;
    static const char *const files[] = {
        "GAUDI2_MAXABS_HW", "GAUDI2_MAXABS_POW2", "GAUDI3_MAXABS_HW", "GAUDI3_MAXABS_POW2", "GAUDI3_ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2",
        "GAUDI3_UNIT_SCALE"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char relative[128];
        snprintf(relative, sizeof relative, "inc/qdq_linear/%s.safetensors", files[i]);
        struct golden_file golden = golden_open(golden_path(relative));
        const char *text = json_string_value(json_object_get(json_object_get(golden.header, "__metadata__"), "scales"));
        json_t *modules = json_loads(text, 0, NULL), *scales;
        assert_int_equal(json_object_size(modules), 10);
        const char *module;
        json_object_foreach(modules, module, scales) assert_linear_equals(&golden, module, scales);
        json_decref(modules);
        golden_close(&golden);
    }
}

// --- scales made at run time
// -----------------------------------------------------------------------------------------------------------------

// A rule of the test's own: the power of two at or above max |x| / *rule.
static void power_of_two(const void *rule, float amax, float *scale, float *inv_scale) {
    *scale = exp2f(ceilf(log2f(amax / *(const float *)rule)));
    *inv_scale = 1 / *scale;
}

static void a_row_with_a_scale_of_its_own_is_what_a_linear_of_that_scale_makes_of_it(void **state) {
    (void)state;
    enum { ROWS = 70, IN = 200, OUT = 45 };
    static float x[ROWS * IN], w[OUT * IN], found[ROWS * OUT], alone[OUT], expected[OUT];
    uint32_t random = 3;
    for (int i = 0; i < ROWS * IN; i++) {
        random = random * 1664525 + 1013904223;
        x[i] = ldexpf((float)(int32_t)random, -31 + (i / IN) % 12); // rows of very different sizes
    }
    for (int i = 0; i < OUT * IN; i++) {
        random = random * 1664525 + 1013904223;
        w[i] = (float)(int32_t)random * 0x1p-31f;
    }
    struct oct_linear fixed, by_row;
    float inv_scales[OUT];
    oct_error err;
    assert_int_equal(oct_linear_alloc(device, OCT_E4M3, OUT, IN, false, &fixed, &err), OCT_OK);
    assert_int_equal(oct_linear_alloc(device, OCT_E4M3, OUT, IN, false, &by_row, &err), OCT_OK);
    fixed.full_scale = by_row.full_scale = OCT_E4M3_MAX;
    for (int i = 0; i < OUT; i++) inv_scales[i] = 256;
    for (int i = 0; i < OUT; i++) by_row.scales[i] = 1 / inv_scales[i];
    oct_linear_pack(device, &fixed, 0, OUT, w, inv_scales);
    oct_linear_pack(device, &by_row, 0, OUT, w, inv_scales);
    by_row.row_scale = power_of_two;
    by_row.row_scale_rule = oct_alloc(1, sizeof(float), "a rule");
    *(float *)by_row.row_scale_rule = 224;
    oct_linear_forward(device, &by_row, x, ROWS, found, false);
    for (int row = 0; row < ROWS; row++) {
        float amax = oct_amax(device, x + row * IN, 1, IN, IN);
        power_of_two(by_row.row_scale_rule, amax, &fixed.input_scale, &fixed.input_inv_scale);
        for (int i = 0; i < OUT; i++) fixed.scales[i] = fixed.input_scale / inv_scales[i];
        oct_linear_forward(device, &fixed, x + row * IN, 1, expected, false);
        oct_linear_forward(device, &by_row, x + row * IN, 1, alone, false);
        assert_memory_equal(found + row * OUT, expected, sizeof expected); // powers of two: no product rounds differently
        assert_memory_equal(found + row * OUT, alone, sizeof alone);
    }
    oct_linear_free(device, &fixed);
    oct_linear_free(device, &by_row);
}

// --- attention
// ------------------------------------------------------------------------------------------------------------------------------

enum { HEADS = 6, KV_HEADS = 2, HEAD_DIM = 40, TOKENS = 77, BLOCK = 32, BLOCKS = 4 };

static double rounded(const struct oct_rounding *rounding, double x) {
    return rounding->fp8 ? (double)oct_e4m3_round((float)x * rounding->inv_scale, OCT_E4M3_MAX) * rounding->scale
                         : (double)oct_bf16_round((float)x);
}

// K and V as attention sees them: through the cache's rounding, then the matmul's.
static double stored(const struct oct_rounding *cache, const struct oct_rounding *matmul, double x) {
    if (cache->fp8) x = rounded(cache, x);
    return matmul->fp8 || !cache->fp8 ? rounded(matmul, x) : x;
}

static void attend_in_double(const struct oct_kv_layer *layer, const float *qkv, int row, int head, double *out) {
    const int stride = (HEADS + 2 * KV_HEADS) * HEAD_DIM, kv_head = head / (HEADS / KV_HEADS);
    double scores[TOKENS], largest = -INFINITY, sum = 0;
    for (int t = 0; t <= row; t++) {
        scores[t] = 0;
        for (int i = 0; i < HEAD_DIM; i++) {
            double q = rounded(&layer->matmul_q, qkv[row * stride + head * HEAD_DIM + i] * (1 / sqrtf(HEAD_DIM)));
            scores[t] += q * stored(&layer->k_cache, &layer->matmul_k, qkv[t * stride + (HEADS + kv_head) * HEAD_DIM + i]);
        }
        largest = fmax(largest, scores[t]);
    }
    for (int t = 0; t <= row; t++) sum += scores[t] = exp(scores[t] - largest);
    for (int i = 0; i < HEAD_DIM; i++) out[i] = 0;
    for (int t = 0; t <= row; t++) {
        double p = scores[t] / sum;
        if (layer->softmax.fp8) p = rounded(&layer->softmax, p);
        p = rounded(&layer->matmul_p, p);
        for (int i = 0; i < HEAD_DIM; i++)
            out[i] += p * stored(&layer->v_cache, &layer->matmul_v, qkv[t * stride + (HEADS + KV_HEADS + kv_head) * HEAD_DIM + i]);
    }
}

static struct oct_rounding rounding_of(bool fp8, float scale) {
    return (struct oct_rounding){fp8, fp8 ? scale : 1, fp8 ? 1 / scale : 1};
}

static void assert_attention(bool cache, bool matmuls, bool softmax, float matmul_scale) {
    struct oct_kv_shape shape = {KV_HEADS, HEAD_DIM, BLOCK, BLOCKS};
    bool fp8 = cache || matmuls;
    struct oct_kv_layer layer = {.dtype_k = fp8 ? OCT_E4M3 : OCT_BF16,
                                 .dtype_v = fp8 ? OCT_E4M3 : OCT_BF16,
                                 .full_scale = OCT_E4M3_MAX,
                                 .k_cache = rounding_of(cache, 0x1p-5f),
                                 .v_cache = rounding_of(cache, 0x1p-6f),
                                 .matmul_k = rounding_of(matmuls, matmul_scale),
                                 .matmul_v = rounding_of(matmuls, 2 * matmul_scale),
                                 .matmul_q = rounding_of(matmuls, 0x1p-6f),
                                 .softmax = rounding_of(softmax, 0x1p-8f),
                                 .matmul_p = rounding_of(matmuls, 0x1p-8f)};
    layer.scale_k = matmuls ? layer.matmul_k.scale : cache ? layer.k_cache.scale : 1;
    layer.scale_v = matmuls ? layer.matmul_v.scale : cache ? layer.v_cache.scale : 1;
    oct_error err;
    size_t k_bytes = oct_kv_bytes(&shape, layer.dtype_k), v_bytes = oct_kv_bytes(&shape, layer.dtype_v);
    assert_int_equal(oct_device_alloc(device, k_bytes, "K", &layer.k, &err), OCT_OK);
    assert_int_equal(oct_device_alloc(device, v_bytes, "V", &layer.v, &err), OCT_OK);
    memset(layer.v, 0x7f, v_bytes); // NaN codes, as an earlier sequence may leave them

    enum { STRIDE = (HEADS + 2 * KV_HEADS) * HEAD_DIM };
    static float qkv[TOKENS * STRIDE], out[TOKENS * HEADS * HEAD_DIM];
    uint32_t random = 7;
    for (int i = 0; i < TOKENS * STRIDE; i++) {
        random = random * 1664525 + 1013904223;
        qkv[i] = oct_bf16_round((float)(int32_t)random * 0x1p-30f);
    }
    int32_t positions[TOKENS], row_starts[2] = {0, TOKENS}, blocks[BLOCKS] = {2, 0, 3, 1};
    for (int i = 0; i < TOKENS; i++) positions[i] = i;
    struct oct_batch batch = {
        .num_rows = TOKENS, .positions = positions, .num_seqs = 1, .row_starts = row_starts, .block_tables = blocks, .max_blocks = BLOCKS};
    oct_kv_write(device, &shape, &layer, &batch, qkv, HEADS);
    struct oct_attention_range range;
    oct_attention(device, &shape, &layer, &batch, qkv, HEADS, out, &range);
    assert_true(range.largest_peak == 1); // the first token sees only itself

    // A probability on the edge between two codes may fall to either side in float32; at most a few in a thousand do.
    int flips = 0;
    for (int row = 0; row < TOKENS; row++)
        for (int head = 0; head < HEADS; head++) {
            double expected[HEAD_DIM], largest = 0, difference = 0;
            attend_in_double(&layer, qkv, row, head, expected);
            for (int i = 0; i < HEAD_DIM; i++) {
                largest = fmax(largest, fabs(expected[i]));
                difference = fmax(difference, fabs(out[(row * HEADS + head) * HEAD_DIM + i] - expected[i]));
            }
            if (!(difference <= 1e-5 * largest)) flips++;
            if (!(difference <= 0.02 * largest)) fail_msg("row %d, head %d: off by %g of %g", row, head, difference, largest);
        }
    printf("# cache %d, matmuls %d, softmax %d: %d of %d rows differ by a flipped rounding\n", cache, matmuls, softmax, flips,
           TOKENS * HEADS);
    assert_true(flips <= TOKENS * HEADS / 50);
    oct_device_free(device, layer.k);
    oct_device_free(device, layer.v);
}

static void attention_follows_the_numerics_contract_in_every_mix_of_modules(void **state) {
    (void)state;
    assert_attention(false, false, false, 1);
    assert_attention(true, false, false, 1);
    assert_attention(false, true, false, 0x1p-5f);
    assert_attention(true, true, true, 0x1p-5f);
    assert_attention(true, true, true, 0.0234375f); // other scales in cache and matmul: two roundings
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_have_incs_bytes_and_outputs),
        cmocka_unit_test(a_row_with_a_scale_of_its_own_is_what_a_linear_of_that_scale_makes_of_it),
        cmocka_unit_test(attention_follows_the_numerics_contract_in_every_mix_of_modules),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
