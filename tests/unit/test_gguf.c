// The GGUF container and the model in it. Files are made here byte by byte, so that each can be wrong in one place.
#include "base/memory.h"
#include "model/gguf.h"
#include "model_golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void put32(struct oct_buffer *b, uint32_t value) {
    oct_buffer_append(b, &value, sizeof value);
}

static void put64(struct oct_buffer *b, uint64_t value) {
    oct_buffer_append(b, &value, sizeof value);
}

static void put_string(struct oct_buffer *b, const char *text) {
    put64(b, strlen(text));
    oct_buffer_puts(b, text);
}

static void put_header(struct oct_buffer *b, uint64_t num_tensors, uint64_t num_keys) {
    oct_buffer_puts(b, "GGUF");
    put32(b, 3);
    put64(b, num_tensors);
    put64(b, num_keys);
}

static void put_u32(struct oct_buffer *b, const char *key, uint32_t value) {
    put_string(b, key);
    put32(b, 4);
    put32(b, value);
}

static void put_f32(struct oct_buffer *b, const char *key, float value) {
    put_string(b, key);
    put32(b, 6);
    oct_buffer_append(b, &value, sizeof value);
}

static void put_text(struct oct_buffer *b, const char *key, const char *value) {
    put_string(b, key);
    put32(b, 8);
    put_string(b, value);
}

static void put_tensor(struct oct_buffer *b, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type, uint64_t offset) {
    put_string(b, name);
    put32(b, ne1 ? 2 : 1);
    put64(b, ne0);
    if (ne1) put64(b, ne1);
    put32(b, type);
    put64(b, offset);
}

// Pads to the data section and appends `size` bytes 0, 1, 2 ...
static void put_data(struct oct_buffer *b, size_t size) {
    while (b->length % 32) oct_buffer_append(b, "", 1);
    for (size_t i = 0; i < size; i++) oct_buffer_append(b, &(uint8_t){(uint8_t)i}, 1);
}

// Opens the bytes as a file, and frees them.
static oct_status open_bytes(struct oct_buffer *bytes, struct oct_gguf **out, oct_error *err) {
    char *folder = new_folder(), *path = oct_path_join(folder, "made.gguf");
    put_file(folder, "made.gguf", bytes->data, bytes->length);
    oct_status status = oct_gguf_open(path, out, err);
    free(path);
    remove_folder(folder, (const char *const[]){"made.gguf", NULL});
    oct_buffer_free(bytes);
    return status;
}

static void assert_refused(struct oct_buffer *bytes, oct_status status, const char *named) {
    struct oct_gguf *gguf;
    oct_error err = {0};
    assert_int_equal(open_bytes(bytes, &gguf, &err), status);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not name \"%s\"", err.message, named);
}

static void keys_are_read_by_type(void **state) {
    (void)state;
    struct oct_buffer b = {0};
    put_header(&b, 0, 9);
    put_u32(&b, "u32", 4000000000u);
    put_f32(&b, "f32", 0.25f);
    put_text(&b, "text", "abc");
    put_string(&b, "u64"), put32(&b, 10), put64(&b, UINT64_MAX);
    put_string(&b, "i8"), put32(&b, 1), oct_buffer_append(&b, "\xff", 1);
    put_string(&b, "bool"), put32(&b, 7), oct_buffer_append(&b, "\x01", 1);
    put_string(&b, "strings"), put32(&b, 9), put32(&b, 8), put64(&b, 2), put_string(&b, "x"), put_string(&b, "yz");
    put_string(&b, "integers"), put32(&b, 9), put32(&b, 5), put64(&b, 2), put32(&b, 7), put32(&b, (uint32_t)-1);
    put_string(&b, "f64"), put32(&b, 12), oct_buffer_append(&b, &(double){0.1}, 8);
    struct oct_gguf *gguf;
    oct_error err = {0};
    if (open_bytes(&b, &gguf, &err) != OCT_OK) fail_msg("%s", err.message);

    int64_t integer;
    assert_true(oct_gguf_integer(gguf, "u32", &integer) && integer == 4000000000);
    assert_true(oct_gguf_integer(gguf, "i8", &integer) && integer == -1);
    assert_false(oct_gguf_integer(gguf, "u64", &integer)); // does not fit
    assert_false(oct_gguf_integer(gguf, "f32", &integer));
    double number;
    assert_true(oct_gguf_float(gguf, "f32", &number) && number == 0.25);
    assert_true(oct_gguf_float(gguf, "f64", &number) && number == 0.1);
    assert_false(oct_gguf_float(gguf, "u32", &number));
    bool flag;
    assert_true(oct_gguf_bool(gguf, "bool", &flag) && flag);
    struct oct_gguf_string text, *strings;
    assert_true(oct_gguf_string(gguf, "text", &text) && text.length == 3 && !memcmp(text.data, "abc", 3));
    assert_false(oct_gguf_string(gguf, "missing", &text));
    assert_int_equal(oct_gguf_strings(gguf, "strings", &strings), 2);
    assert_true(strings[1].length == 2 && !memcmp(strings[1].data, "yz", 2));
    free(strings);
    int32_t *integers;
    assert_int_equal(oct_gguf_integers(gguf, "integers", &integers), 2);
    assert_true(integers[0] == 7 && integers[1] == -1);
    free(integers);
    float *floats;
    assert_int_equal(oct_gguf_floats(gguf, "integers", &floats), -1);
    assert_int_equal(oct_gguf_strings(gguf, "text", &strings), -1);
    oct_gguf_close(gguf);
}

static void a_container_that_lies_is_an_error(void **state) {
    (void)state;
    struct oct_buffer b = {0};
    assert_refused(&b, OCT_CORRUPT, "empty");
    oct_buffer_puts(&b, "GGML....");
    assert_refused(&b, OCT_CORRUPT, "not a GGUF file");
    oct_buffer_puts(&b, "GGUF"), put32(&b, 2), put64(&b, 0), put64(&b, 0);
    assert_refused(&b, OCT_UNSUPPORTED, "version 3");
    put_header(&b, 0, UINT64_MAX);
    assert_refused(&b, OCT_CORRUPT, "keys announced");
    put_header(&b, UINT64_MAX / 2, 0);
    assert_refused(&b, OCT_CORRUPT, "tensors announced");
    put_header(&b, 0, 1), put64(&b, UINT64_MAX), oct_buffer_puts(&b, "a long enough key");
    assert_refused(&b, OCT_CORRUPT, "truncated");
    put_header(&b, 0, 1), put_u32(&b, "a b", 1);
    assert_refused(&b, OCT_CORRUPT, "printable");
    put_header(&b, 0, 2), put_u32(&b, "same", 1), put_u32(&b, "same", 2);
    assert_refused(&b, OCT_CORRUPT, "key same stands twice");
    put_header(&b, 0, 1), put_string(&b, "odd"), put32(&b, 13), put64(&b, 0);
    assert_refused(&b, OCT_CORRUPT, "key odd: unknown type 13");
    put_header(&b, 0, 1), put_string(&b, "nested"), put32(&b, 9), put32(&b, 9), put64(&b, 1), put64(&b, 0);
    assert_refused(&b, OCT_UNSUPPORTED, "nested");
    put_header(&b, 0, 1), put_string(&b, "long"), put32(&b, 9), put32(&b, 4), put64(&b, 1ull << 62), put64(&b, 0); // x 4 wraps to 0
    assert_refused(&b, OCT_CORRUPT, "truncated");
    for (uint32_t alignment = 0; alignment < 50; alignment += 24) {
        put_header(&b, 0, 1), put_u32(&b, "general.alignment", alignment);
        assert_refused(&b, OCT_CORRUPT, "general.alignment");
    }
}

static void a_tensor_outside_the_file_is_an_error_that_names_it(void **state) {
    (void)state;
    static const struct {
        uint64_t ne0, ne1;
        uint32_t type;
        uint64_t offset;
        const char *named;
    } cases[] = {
        {8, 5, 0, 0, "tensor t needs 160 bytes at 0, the file has 128"},
        {8, 4, 0, 32, "tensor t needs 128 bytes at 32"},
        {8, 1, 0, UINT64_MAX - 31, "tensor t needs"},
        {8, 4, 0, 16, "not a multiple of the alignment 32"},
        {0, 4, 0, 0, "dimension 0 is 0"},
        {1ull << 63, 1, 0, 0, "dimension 0"},
        {1ull << 62, 4, 0, 0, "too large"},
        {1ull << 61, 1ull << 61, 0, 0, "too large"},
        {16, 4, 3, 0, "rows of a multiple of 32 elements expected (Q4_1), 16 found"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_buffer b = {0};
        put_header(&b, 1, 0);
        put_tensor(&b, "t", cases[i].ne0, cases[i].ne1, cases[i].type, cases[i].offset);
        put_data(&b, 128);
        assert_refused(&b, OCT_CORRUPT, cases[i].named);
    }
    struct oct_buffer b = {0};
    put_header(&b, 2, 0), put_tensor(&b, "t", 8, 0, 0, 0), put_tensor(&b, "t", 8, 0, 0, 32), put_data(&b, 64);
    assert_refused(&b, OCT_CORRUPT, "tensor t stands twice");
    put_header(&b, 1, 0), put_string(&b, "t"), put32(&b, 5), put_data(&b, 64);
    assert_refused(&b, OCT_CORRUPT, "tensor t: 1 to 4 dimensions expected, 5 found");
}

// Keys of a model with hidden 32, 4 heads of 8, 2 of keys, one layer; `more_keys` and `more_tensors` are put after them.
struct made_model {
    struct oct_buffer keys, tensors;
    uint64_t num_keys, num_tensors;
};

static struct made_model make_model(void) {
    struct made_model m = {0};
    put_text(&m.keys, "general.architecture", "llama");
    put_u32(&m.keys, "llama.block_count", 1);
    put_u32(&m.keys, "llama.context_length", 8192);
    put_u32(&m.keys, "llama.embedding_length", 32);
    put_u32(&m.keys, "llama.feed_forward_length", 64);
    put_u32(&m.keys, "llama.attention.head_count", 4);
    put_u32(&m.keys, "llama.attention.head_count_kv", 2);
    put_f32(&m.keys, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    m.num_keys = 8;
    put_tensor(&m.tensors, "token_embd.weight", 32, 4, 0, 0);
    m.num_tensors = 1;
    return m;
}

static struct oct_gguf *open_model(struct made_model *m, const void *data, size_t size) {
    struct oct_buffer b = {0};
    put_header(&b, m->num_tensors, m->num_keys);
    oct_buffer_append(&b, m->keys.data, m->keys.length);
    oct_buffer_append(&b, m->tensors.data, m->tensors.length);
    put_data(&b, 0);
    oct_buffer_append(&b, data, size);
    oct_buffer_free(&m->keys);
    oct_buffer_free(&m->tensors);
    struct oct_gguf *gguf;
    oct_error err = {0};
    if (open_bytes(&b, &gguf, &err) != OCT_OK) fail_msg("%s", err.message);
    return gguf;
}

static void assert_model_refused(struct made_model *m, oct_status status, const char *named) {
    static const float data[1024];
    struct oct_gguf *gguf = open_model(m, data, sizeof data);
    struct oct_model_config config;
    oct_error err = {0};
    oct_status found = oct_gguf_model_config(gguf, &config, &err);
    for (size_t i = 0; found == OCT_OK && i < oct_gguf_num_tensors(gguf); i++) {
        struct oct_tensor tensor;
        found = oct_gguf_tensor(gguf, &config, i, &tensor, &err);
    }
    assert_int_equal(found, status);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not name \"%s\"", err.message, named);
    oct_gguf_close(gguf);
}

static void what_is_no_plain_llama_is_refused_by_name(void **state) {
    (void)state;
    struct made_model m = make_model();
    put_u32(&m.keys, "llama.expert_count", 8), m.num_keys++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "llama.expert_count = 8");
    m = make_model(), put_f32(&m.keys, "llama.logit_scale", 0.5f), m.num_keys++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "llama.logit_scale");
    m = make_model(), put_u32(&m.keys, "llama.rope.dimension_count", 4), m.num_keys++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "4 rotated dimensions");
    m = make_model(), put_text(&m.keys, "llama.rope.scaling.type", "longrope"), m.num_keys++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "longrope");
    m = make_model(), put_tensor(&m.tensors, "blk.0.attn_q_norm.weight", 8, 0, 0, 0), m.num_tensors++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "blk.0.attn_q_norm.weight is no part of a plain Llama");
    m = make_model(), put_tensor(&m.tensors, "blk.0.ffn_up.weight", 256, 1, 12, 0), m.num_tensors++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "tensor blk.0.ffn_up.weight: type Q4_K (12) is not supported");
    m = make_model(), put_tensor(&m.tensors, "blk.0.ffn_up.weight", 256, 1, 4000, 0), m.num_tensors++;
    assert_model_refused(&m, OCT_UNSUPPORTED, "type unknown (4000)");
    m = make_model(), put_tensor(&m.tensors, "blk.0.attn_k.weight", 32, 8, 0, 0), m.num_tensors++;
    assert_model_refused(&m, OCT_CORRUPT, "blk.0.attn_k.weight: 16 rows expected, 8 found");
}

static void rope_scaling_keys_become_the_config(void **state) {
    (void)state;
    static const float data[128];
    struct oct_model_config config;
    oct_error err = {0};
    struct made_model m = make_model();
    put_text(&m.keys, "llama.rope.scaling.type", "yarn"), put_f32(&m.keys, "llama.rope.scaling.factor", 4);
    put_u32(&m.keys, "llama.rope.scaling.original_context_length", 2048), put_f32(&m.keys, "llama.rope.freq_base", 500000), m.num_keys += 4;
    struct oct_gguf *gguf = open_model(&m, data, sizeof data);
    if (oct_gguf_model_config(gguf, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_int_equal(config.rope.type, OCT_ROPE_YARN);
    assert_true(config.rope.factor == 4 && config.rope.theta == 500000 && config.rope.attention_factor == 0.1 * log(4) + 1);
    assert_int_equal(config.rope.original_max_position_embeddings, 2048);
    oct_gguf_close(gguf);

    m = make_model(), put_f32(&m.keys, "llama.rope.scale_linear", 2), m.num_keys++;
    gguf = open_model(&m, data, sizeof data);
    if (oct_gguf_model_config(gguf, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_int_equal(config.rope.type, OCT_ROPE_LINEAR);
    assert_true(config.rope.factor == 2);
    oct_gguf_close(gguf);
}

// The divisors as llama.cpp's converter computes them for Llama 3.1: head_dim 64, theta 500000, factor 8, low 1, high 4, original 8192.
static void llama3_divisors_become_the_config(void **state) {
    (void)state;
    for (int spoilt = 0; spoilt < 2; spoilt++) {
        float data[128 + 32];
        for (int i = 0; i < 32; i++) {
            float wavelength = 2 * (float)M_PI * powf(500000, 2.0f * (float)i / 64);
            float smooth = (8192 / wavelength - 1) / 3;
            data[128 + i] = wavelength < 2048 ? 1 : wavelength > 8192 ? 8 : 1 / ((1 - smooth) / 8 + smooth);
        }
        if (spoilt) data[128 + 16] *= 1.01f;
        struct made_model m = make_model();
        put_u32(&m.keys, "llama.attention.key_length", 64), put_u32(&m.keys, "llama.attention.value_length", 64);
        put_f32(&m.keys, "llama.rope.freq_base", 500000), m.num_keys += 3;
        put_tensor(&m.tensors, "rope_freqs.weight", 32, 0, 0, 512), m.num_tensors++;
        struct oct_gguf *gguf = open_model(&m, data, sizeof data);
        struct oct_model_config config;
        oct_error err = {0};
        assert_int_equal(oct_gguf_model_config(gguf, &config, &err), spoilt ? OCT_UNSUPPORTED : OCT_OK);
        if (spoilt) {
            assert_non_null(strstr(err.message, "rope_freqs.weight: frequency 16"));
        } else {
            assert_int_equal(config.rope.type, OCT_ROPE_LLAMA3);
            assert_true(config.rope.factor == 8 && config.rope.low_freq_factor == 1 && config.rope.high_freq_factor == 4);
            assert_int_equal(config.rope.original_max_position_embeddings, 8192);
        }
        oct_gguf_close(gguf);
    }
}

static void rows_and_biases_of_q_and_k_come_in_hugging_faces_order(void **state) {
    (void)state;
    // blk.0.attn_q.weight (32, 32): every element of stored row r is r; the bias likewise.
    enum { HEADS = 4, DIM = 8 };
    float data[128 + 32 * 32 + 32] = {0};
    for (int row = 0; row < 32; row++) {
        for (int column = 0; column < 32; column++) data[128 + 32 * row + column] = (float)row;
        data[128 + 1024 + row] = (float)row;
    }
    struct made_model m = make_model();
    put_tensor(&m.tensors, "blk.0.attn_q.weight", 32, 32, 0, 512);
    put_tensor(&m.tensors, "blk.0.attn_q.bias", 32, 0, 0, 512 + 4096), m.num_tensors += 2;
    struct oct_gguf *gguf = open_model(&m, data, sizeof data);
    struct oct_model_config config;
    oct_error err = {0};
    if (oct_gguf_model_config(gguf, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_true(config.attention_bias && !config.mlp_bias && config.tie_word_embeddings);

    struct oct_tensor bias, weight;
    assert_int_equal(oct_gguf_tensor(gguf, &config, 0, &bias, &err), OCT_OK);
    assert_int_equal(oct_gguf_tensor(gguf, &config, 1, &weight, &err), OCT_OK);
    assert_string_equal(bias.name, "model.layers.0.self_attn.q_proj.bias");
    assert_string_equal(weight.name, "model.layers.0.self_attn.q_proj.weight");
    float biases[32], row[32];
    oct_tensor_rows_f32(&bias, 0, 1, biases);
    // spec gguf: gguf row (h d + 2 j + s) = hf row (h d + s d/2 + j)
    for (int h = 0; h < HEADS; h++)
        for (int j = 0; j < DIM / 2; j++)
            for (int s = 0; s < 2; s++) {
                int hf = h * DIM + s * DIM / 2 + j, stored = h * DIM + 2 * j + s;
                oct_tensor_rows_f32(&weight, hf, 1, row);
                assert_true(row[0] == (float)stored && row[31] == (float)stored && biases[hf] == (float)stored);
            }
    oct_gguf_close(gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_read_by_type),
        cmocka_unit_test(a_container_that_lies_is_an_error),
        cmocka_unit_test(a_tensor_outside_the_file_is_an_error_that_names_it),
        cmocka_unit_test(what_is_no_plain_llama_is_refused_by_name),
        cmocka_unit_test(rope_scaling_keys_become_the_config),
        cmocka_unit_test(llama3_divisors_become_the_config),
        cmocka_unit_test(rows_and_biases_of_q_and_k_come_in_hugging_faces_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
