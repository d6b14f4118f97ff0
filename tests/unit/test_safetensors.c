// Safetensors files: what is read, and every way a header can lie.
#include "base/memory.h"
#include "model/safetensors.h"
#include "model_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

// Writes the header and `data_size` bytes 0, 1, 2 ... after it, and opens the file.
static oct_status open_with(const char *header, uint64_t announced, size_t data_size, struct oct_safetensors **out, oct_error *err) {
    struct oct_buffer bytes = {0};
    oct_buffer_append(&bytes, &announced, sizeof announced);
    oct_buffer_puts(&bytes, header);
    for (size_t i = 0; i < data_size; i++) oct_buffer_append(&bytes, &(uint8_t){(uint8_t)i}, 1);
    char *folder = new_folder(), *path = oct_path_join(folder, "made.safetensors");
    put_file(folder, "made.safetensors", bytes.data, bytes.length);
    oct_status status = oct_safetensors_open(path, out, err);
    free(path);
    remove_folder(folder, (const char *const[]){"made.safetensors", NULL});
    oct_buffer_free(&bytes);
    return status;
}

static void tensors_are_found_with_dtype_shape_and_bytes(void **state) {
    (void)state;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                         "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[8,8]}}  ";
    struct oct_safetensors *file;
    oct_error err = {0};
    if (open_with(header, strlen(header), 20, &file, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_int_equal(file->num_entries, 3);
    const struct oct_safetensors_entry *b = oct_safetensors_find(file, "b");
    assert_string_equal(b->dtype, "BF16");
    assert_int_equal(b->num_dims, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->size, 12);
    assert_int_equal(b->data[0], 8);
    const struct oct_safetensors_entry *a = oct_safetensors_find(file, "a");
    assert_int_equal(a->num_dims, 0);
    assert_int_equal(a->size, 8);
    assert_int_equal(oct_safetensors_find(file, "none")->size, 0);
    assert_null(oct_safetensors_find(file, "c"));
    assert_null(oct_safetensors_find(file, "__metadata__"));
    oct_safetensors_close(file);
}

static void a_header_that_lies_is_an_error_that_names_the_tensor(void **state) {
    (void)state;
    // Each is the description of tensor "t" in a file of 16 data bytes.
    static const struct {
        const char *fields;
        oct_status status;
        const char *named;
    } cases[] = {
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}", OCT_CORRUPT, "data_offsets within 16 bytes expected, [0, 17] found"},
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,16]}", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16.0]}", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}", OCT_CORRUPT, "12 bytes expected (shape x F32), data_offsets span 16"},
        {"{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}", OCT_CORRUPT, "shape"},
        {"{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}", OCT_CORRUPT, "shape"},
        {"{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}", OCT_CORRUPT, "shape"},
        // 4 x 2^62 + 16 bytes is 16 modulo 2^64
        {"{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}", OCT_CORRUPT, "too large"},
        {"{\"dtype\":\"F32\",\"shape\":[2147483648,2147483648,4],\"data_offsets\":[0,16]}", OCT_CORRUPT, "too large"},
        {"{\"dtype\":\"F4\",\"shape\":[32],\"data_offsets\":[0,16]}", OCT_UNSUPPORTED, "dtype F4"},
        {"{\"shape\":[4],\"data_offsets\":[0,16]}", OCT_CORRUPT, "dtype"},
        {"[0,16]", OCT_CORRUPT, "tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}", OCT_CORRUPT, "8 bytes before tensor t"},
        {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", OCT_CORRUPT, "8 bytes after the last tensor"},
        {"{\"dtype\":\"U8\",\"shape\":[12],\"data_offsets\":[0,12]},\"u\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}",
         OCT_CORRUPT, "tensors t and u overlap"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_buffer header = {0};
        oct_buffer_printf(&header, "{\"t\":%s}", cases[i].fields);
        struct oct_safetensors *file;
        oct_error err = {0};
        assert_int_equal(open_with(header.data, header.length, 16, &file, &err), cases[i].status);
        if (!strstr(err.message, cases[i].named) || !strstr(err.message, "made.safetensors"))
            fail_msg("\"%s\" does not name \"%s\"", err.message, cases[i].named);
        oct_buffer_free(&header);
    }
}

static void a_header_length_past_the_file_is_an_error(void **state) {
    (void)state;
    struct oct_safetensors *file;
    oct_error err = {0};
    assert_int_equal(open_with("{}", 3, 0, &file, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "truncated"));
    assert_int_equal(open_with("{}", 100000001, 0, &file, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "at most 100000000 bytes"));
    assert_int_equal(open_with("{}", UINT64_MAX, 0, &file, &err), OCT_CORRUPT);
    assert_int_equal(open_with("[]", 2, 0, &file, &err), OCT_CORRUPT);
    assert_int_equal(open_with("{]", 2, 0, &file, &err), OCT_CORRUPT);
    assert_int_equal(open_with("", 0, 0, &file, &err), OCT_CORRUPT);
    assert_int_equal(oct_safetensors_open("/nowhere/model.safetensors", &file, &err), OCT_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_with_dtype_shape_and_bytes),
        cmocka_unit_test(a_header_that_lies_is_an_error_that_names_the_tensor),
        cmocka_unit_test(a_header_length_past_the_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
