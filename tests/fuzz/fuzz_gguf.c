#include "target.h"

#include "model/gguf.h"

#include <stdlib.h>

static void read_keys(const struct oct_gguf *gguf) {
    static const char *const keys[] = {"tokenizer.ggml.tokens",
                                       "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.scores",
                                       "tokenizer.ggml.bos_token_id",
                                       "llama.rope.freq_base",
                                       "general.architecture",
                                       "tokenizer.ggml.add_bos_token",
                                       "test.u64",
                                       "test.i8",
                                       "test.f64"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct oct_gguf_string string, *strings = NULL;
        int64_t integer;
        double number;
        bool flag;
        int32_t *integers = NULL;
        float *floats = NULL;
        oct_gguf_string(gguf, keys[i], &string);
        oct_gguf_integer(gguf, keys[i], &integer);
        oct_gguf_float(gguf, keys[i], &number);
        oct_gguf_bool(gguf, keys[i], &flag);
        oct_gguf_strings(gguf, keys[i], &strings);
        oct_gguf_integers(gguf, keys[i], &integers);
        oct_gguf_floats(gguf, keys[i], &floats);
        free(strings);
        free(integers);
        free(floats);
    }
}

static void read_tensors(const struct oct_gguf *gguf, const struct oct_model_config *config) {
    struct oct_tensor tensor;
    oct_error err;
    for (size_t i = 0; i < oct_gguf_num_tensors(gguf); i++) {
        if (oct_gguf_tensor(gguf, config, i, &tensor, &err) != OCT_OK) continue;
        float *row = malloc((size_t)oct_tensor_columns(&tensor) * sizeof *row);
        oct_tensor_rows_f32(&tensor, 0, 1, row);
        oct_tensor_rows_f32(&tensor, oct_tensor_rows(&tensor) - 1, 1, row);
        free(row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_gguf *gguf;
    struct oct_model_config config;
    oct_error err;
    if (oct_gguf_open(fuzz_file(data, size), &gguf, &err) != OCT_OK) return 0;
    read_keys(gguf);
    if (oct_gguf_model_config(gguf, &config, &err) == OCT_OK) read_tensors(gguf, &config);
    oct_gguf_close(gguf);
    return 0;
}
