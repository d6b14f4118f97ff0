// Decoding of stored rows, against values that the gguf package made and against the scalar definitions.
#include "base/memory.h"
#include "model/block_format.h"
#include "model/safetensors.h"
#include "model_golden.h"
#include "numeric/bf16.h"
#include "numeric/fp16.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void block_formats_decode_to_the_reference_bits(void **state) {
    (void)state;
    char *path = model_golden("blocks.safetensors");
    struct oct_safetensors *file;
    oct_error err = {0};
    if (oct_safetensors_open(path, &file, &err) != OCT_OK) fail_msg("%s", err.message);
    const enum oct_dtype formats[] = {OCT_Q8_0, OCT_Q4_0, OCT_Q4_1, OCT_Q6_K};
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.blocks", oct_dtype_name(formats[i]));
        const struct oct_safetensors_entry *blocks = oct_safetensors_find(file, name);
        snprintf(name, sizeof name, "%s.f32", oct_dtype_name(formats[i]));
        const struct oct_safetensors_entry *expected = oct_safetensors_find(file, name);
        assert_true(blocks && expected && expected->size >= 24 * 32 * 4);
        float *decoded = oct_alloc(expected->size, 1, "decoded rows");
        oct_decode_row(formats[i], blocks->data, expected->size / sizeof *decoded, decoded);
        assert_memory_equal(decoded, expected->data, expected->size);
        free(decoded);
    }
    oct_safetensors_close(file);
    free(path);
}

static void half_precision_rows_decode_like_their_scalar_definitions(void **state) {
    (void)state;
    enum { COUNT = 65536 };
    uint8_t *stored = oct_alloc(2 * COUNT + 1, 1, "stored row") /* odd address */;
    float *decoded = oct_alloc(COUNT, sizeof *decoded, "decoded row");
    for (int bits = 0; bits < COUNT; bits++) memcpy(stored + 1 + 2 * bits, &(uint16_t){(uint16_t)bits}, 2);
    oct_decode_row(OCT_F16, stored + 1, COUNT, decoded);
    for (int bits = 0; bits < COUNT; bits++) assert_memory_equal(decoded + bits, &(float){oct_fp16_to_f32((uint16_t)bits)}, 4);
    oct_decode_row(OCT_BF16, stored + 1, COUNT, decoded);
    for (int bits = 0; bits < COUNT; bits++) assert_memory_equal(decoded + bits, &(float){oct_bf16_to_f32((uint16_t)bits)}, 4);
    free(decoded);
    free(stored);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_formats_decode_to_the_reference_bits),
        cmocka_unit_test(half_precision_rows_decode_like_their_scalar_definitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
