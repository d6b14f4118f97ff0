#include "quant/npz.h"
#include "quant/pickle.h"
#include "quant/python_json.h"
#include "quant_golden.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const files[] = {
    "big_1000nodes",
    "odd_names",
    "exclude_none__inc_output_hooks_maxabs",
    "tp1__inc_output_hooks_maxabs_0_1",
    "tp1_interval1__inc_output_hooks_maxabs_0_1",
    "tp1__inc_output_hooks_maxabs_MAXABS_HW_0_1",
    "tp1__inc_output_hooks_maxabs_MAXABS_HW_OPT_WEIGHT_0_1",
    "tp1__inc_output_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_0_1",
    "vllm_step3_gaudi2__inc_output_hooks_maxabs_0_1",
    "vllm_step5_gaudi2__inc_output_hooks_maxabs_0_1",
    "big_1205nodes", // numpy 1 only
};

static struct oct_value *read_npz(const char *path, struct oct_tree *tree) {
    struct oct_value *root = NULL;
    oct_error err = {0};
    if (oct_npz_read(path, tree, &root, &err) != OCT_OK) fail_msg("%s", err.message);
    return root;
}

static void assert_same_file(const char *found, const char *expected) {
    size_t found_length, expected_length;
    char *a = golden_text(found, &found_length), *b = golden_text(expected, &expected_length);
    assert_int_equal(found_length, expected_length);
    assert_memory_equal(a, b, found_length);
    free(a);
    free(b);
}

// Reads numpy's file `from`, writes it again, and compares with what numpy 1 wrote of the same dict.
static void rewrite(const char *folder, const char *version, const char *name) {
    char from[256], expected[256], written[256];
    snprintf(from, sizeof from, "%s/%s.npz", version, name);
    snprintf(expected, sizeof expected, "numpy1/%s.npz", name);
    snprintf(written, sizeof written, "%s/out.npz", folder);
    struct oct_tree tree = {0};
    oct_error err;
    assert_int_equal(oct_npz_write(written, read_npz(golden(from), &tree), &err), OCT_OK);
    assert_same_file(written, golden(expected));
    oct_tree_free(&tree);
}

static void what_numpy_1_wrote_is_written_byte_for_byte(void **state) {
    (void)state;
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) rewrite(folder, "numpy1", files[i]);
    remove_folder(folder);
}

static void what_numpy_2_wrote_means_the_same(void **state) {
    (void)state;
    const char *folder = new_folder();
    for (size_t i = 0; i < sizeof files / sizeof *files - 1; i++) rewrite(folder, "numpy2", files[i]);
    remove_folder(folder);
}

static void the_json_beside_an_npz_is_what_python_dumps(void **state) {
    (void)state;
    static const char *const pairs[] = {
        "hpu_gaudi3/tp1/inc_output_hooks_maxabs_0_1",
        "hpu_gaudi3/tp1/inc_output_hooks_maxabs_MAXABS_HW_0_1",
        "hpu_gaudi3/tp1/inc_output_hooks_maxabs_MAXABS_ARBITRARY_0_1",
        "hpu_gaudi3/tp1/inc_output_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_0_1",
        "hpu_gaudi2/nan/inc_output_hooks_maxabs_0_1",
        "hpu_gaudi2/tp1_exclude_none/inc_output_hooks_maxabs_0_1",
        "hpu_gaudi2/tp1_interval1/inc_output_hooks_maxabs_0_1",
        "smollm2/inc_output_hooks_maxabs_0_1",
        "smollm2/gaudi3/inc_output_hooks_maxabs_MAXABS_HW_0_1",
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char name[256];
        struct oct_tree tree = {0};
        struct oct_buffer json = {0};
        snprintf(name, sizeof name, "%s.npz", pairs[i]);
        oct_python_json(read_npz(golden(name), &tree), &json);
        snprintf(name, sizeof name, "%s.json", pairs[i]);
        size_t length;
        char *expected = golden_text(golden(name), &length);
        if (strcmp(json.data, expected) != 0) fail_msg("%s differs", name);
        free(expected);
        oct_buffer_free(&json);
        oct_tree_free(&tree);
    }
}

// Every file that INC, numpy or the calibration scripts wrote, where the larger reference folder is.
static void every_npz_of_the_reference_folder_is_read(void **state) {
    (void)state;
    const char *root = getenv("OCTAVO_REFERENCE");
    char command[1100], path[1024];
    int num_files = 0, num_pairs = 0;
    snprintf(command, sizeof command, "find '%s/inc' -name '*.npz' 2>/dev/null", root ? root : "");
    FILE *list = popen(command, "r");
    while (fgets(path, sizeof path, list)) {
        struct oct_tree tree = {0};
        struct oct_buffer json = {0};
        size_t length;
        path[strcspn(path, "\n")] = '\0';
        struct oct_value *value = read_npz(path, &tree);
        num_files++;
        memcpy(strrchr(path, '.'), ".json", 6);
        char *expected = oct_path_exists(path) ? golden_text(path, &length) : NULL;
        if (expected && !strstr(path, "/vllm_step")) { // the scripts lay JSON out their own way
            oct_python_json(value, &json);
            if (strcmp(json.data, expected) != 0) fail_msg("%s differs", path);
            num_pairs++;
        }
        free(expected);
        oct_buffer_free(&json);
        oct_tree_free(&tree);
    }
    pclose(list);
    print_message("# %d files, %d of them with JSON\n", num_files, num_pairs);
    if (!num_files) skip();
}

static void a_hand_made_pickle_without_memo_is_read(void **state) {
    (void)state;
    struct oct_tree tree = {0};
    struct oct_buffer tiny = {0}, full = {0};
    oct_python_json(read_npz(golden("tiny.npz"), &tree), &tiny);
    oct_python_json(read_npz(golden("numpy2/tp1__inc_output_hooks_maxabs_0_1.npz"), &tree), &full);
    assert_string_equal(tiny.data, full.data);
    oct_buffer_free(&tiny);
    oct_buffer_free(&full);
    oct_tree_free(&tree);
}

static void numbers_are_written_as_python_does(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *expected;
    } cases[] = {
        {0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {482, "482.0"},
        {0.1, "0.1"},
        {0x1p-11, "0.00048828125"},
        {0x1p-13, "0.0001220703125"},
        {0x1p-14, "6.103515625e-05"},
        {1e-5, "1e-05"},
        {0x1p-44, "5.684341886080802e-14"},
        {0x1p-55, "2.7755575615628914e-17"},
        {123456789012345.6, "123456789012345.6"},
        {1e15, "1000000000000000.0"},
        {9007199254740993.0, "9007199254740992.0"},
        {1e16, "1e+16"},
        {1.5e16, "1.5e+16"},
        {1.3136511052093114e+36, "1.3136511052093114e+36"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {0.3, "0.3"},
        {0.1 + 0.2, "0.30000000000000004"},
        {-2.5, "-2.5"},
        {100, "100.0"},
        {0x1p-133, "9.183549615799121e-41"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct oct_buffer text = {0};
        oct_python_repr(cases[i].value, &text);
        assert_string_equal(text.data, cases[i].expected);
        oct_buffer_free(&text);
    }
}

static void numpy_reads_what_is_written(void **state) {
    (void)state;
    if (system("python3 -c 'import numpy' 2>/dev/null") != 0) {
        print_message("# skipped: python3 with numpy is not installed\n");
        skip();
    }
    const char *folder = new_folder();
    struct oct_tree tree = {0};
    struct oct_buffer command = {0};
    oct_error err;
    oct_buffer_puts(&command, "python3 -c 'import numpy as np, sys\n"
                              "read = lambda path: np.load(path, allow_pickle=True)[\"arr_0\"].item()\n"
                              "def plain(x):\n"
                              "    if isinstance(x, dict): return {k: plain(v) for k, v in x.items()}\n"
                              "    if isinstance(x, (list, tuple)): return type(x)(plain(v) for v in x)\n"
                              "    return (x.dtype.str, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else x\n"
                              "for a, b in zip(sys.argv[1::2], sys.argv[2::2]): assert plain(read(a)) == plain(read(b)), b'");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[256], written[256];
        snprintf(name, sizeof name, "numpy1/%s.npz", files[i]);
        snprintf(written, sizeof written, "%s/%zu.npz", folder, i);
        assert_int_equal(oct_npz_write(written, read_npz(golden(name), &tree), &err), OCT_OK);
        oct_buffer_printf(&command, " '%s' '%s'", written, golden(name));
    }
    assert_int_equal(system(command.data), 0);
    oct_buffer_free(&command);
    oct_tree_free(&tree);
    remove_folder(folder);
}

static void a_truncated_file_is_an_error(void **state) {
    (void)state;
    size_t length;
    char *bytes = golden_text(golden("numpy2/tp1_interval1__inc_output_hooks_maxabs_0_1.npz"), &length);
    for (size_t n = 0; n < length; n += n < 600 ? 1 : 7) {
        struct oct_tree tree = {0};
        struct oct_value *root;
        oct_error err;
        char *part = oct_alloc(n, 1, "a test"); // so that a sanitizer sees reads past the end
        memcpy(part, bytes, n);
        assert_int_equal(oct_npz_parse("cut.npz", part, n, &tree, &root, &err), OCT_CORRUPT);
        free(part);
        oct_tree_free(&tree);
    }
    free(bytes);
}

static void a_changed_byte_is_told_by_the_checksum(void **state) {
    (void)state;
    size_t length;
    char *bytes = golden_text(golden("tiny.npz"), &length);
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    char *number = memmem(bytes, length, "\x00\x00\x82\x40", 4); // 4.0625
    assert_non_null(number);
    number[2]++;
    assert_int_equal(oct_npz_parse("changed.npz", bytes, length, &tree, &root, &err), OCT_CORRUPT);
    assert_string_equal(err.message, "changed.npz: arr_0.npy: damaged (its checksum does not match)");
    oct_tree_free(&tree);
    free(bytes);
}

// The pickle inside the member, which follows the 128 bytes of numpy's header.
static const char *pickle_of(const char *file, size_t length, size_t *pickle_length) {
    const char *start = memmem(file, length, "\x93NUMPY", 6);
    const char *end = memmem(file, length, "PK\1\2", 4);
    assert_true(start && end);
    *pickle_length = (size_t)(end - start) - 128;
    return start + 128;
}

// xorshift64*
static uint64_t random_bits(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

static void a_damaged_pickle_is_read_or_refused_but_never_crashes(void **state) {
    (void)state;
    static const char *const sources[] = {"numpy1/tp1_interval1__inc_output_hooks_maxabs_0_1.npz",
                                          "numpy2/exclude_none__inc_output_hooks_maxabs.npz", "tiny.npz"};
    uint64_t random = 20240607;
    int refused = 0, total = 0;
    for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
        size_t length, pickle_length;
        char *file = golden_text(golden(sources[s]), &length);
        const char *pickle = pickle_of(file, length, &pickle_length);
        for (int round = 0; round < 3000; round++, total++) {
            char *copy = oct_alloc(pickle_length, 1, "a test");
            memcpy(copy, pickle, pickle_length);
            for (uint64_t n = 1 + random_bits(&random) % 4; n > 0; n--)
                copy[random_bits(&random) % pickle_length] = (char)random_bits(&random);
            size_t kept = random_bits(&random) % 8 ? pickle_length : random_bits(&random) % pickle_length;
            struct oct_tree tree = {0};
            struct oct_value *root;
            oct_error err;
            if (oct_pickle_read("damaged", copy, kept, &tree, &root, &err) != OCT_OK) refused++;
            free(copy);
            oct_tree_free(&tree);
        }
        free(file);
    }
    print_message("# %d of %d refused\n", refused, total);
    assert_true(refused > total / 4);
}

static void assert_refused(const char *pickle, size_t length, const char *message) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    assert_int_equal(oct_pickle_read("x.npz", pickle, length, &tree, &root, &err), OCT_CORRUPT);
    if (!strstr(err.message, message)) fail_msg("\"%s\" expected in \"%s\"", message, err.message);
    oct_tree_free(&tree);
}

#define REFUSED(pickle, message) assert_refused(pickle, sizeof(pickle) - 1, message)

static void a_pickle_can_execute_nothing(void **state) {
    (void)state;
    REFUSED("\x80\x03"
            "cos\nsystem\nX\x04\0\0\0true\x85R.",
            "only numpy arrays expected, \"os.system\" found");
    REFUSED("\x80\x04\x8c\x08"
            "builtins\x8c\x04"
            "eval\x93.",
            "\"builtins.eval\" found");
    REFUSED("\x80\x03"
            "cnumpy\nload\n.",
            "\"numpy.load\" found");
    REFUSED("\x80\x02i__main__\nX\n.", "opcode 0x69");
}

static void a_small_pickle_cannot_stand_for_a_huge_tree(void **state) {
    (void)state;
    REFUSED("\x80\x03]q\0h\0h\0e.", "second reference to a container");
    REFUSED("\x80\x03"
            "cnumpy\nndarray\n((K\x10K\x10K\x10K\x10tX\x03\0\0\0<f4C\0tR.",
            "does not fit the shape");
    REFUSED("\x80\x03r\xff\xff\xff\xff.", "too few values");
    REFUSED("\x80\x03Nr\xff\xff\xff\xff.", "memo index out of range");
    char nested[300];
    memset(nested, ']', sizeof nested);
    memset(nested + 150, 'a', 150);
    assert_refused(nested, sizeof nested, "nested too deeply");
}

// Reads the pickle of numpy.array(value), and asks whether the writers would take the value.
static bool storable(const char *value, size_t length) {
    struct oct_buffer pickle = {0};
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err;
    oct_buffer_puts(&pickle, "\x80\x03"
                             "cnumpy\narray\n(");
    oct_buffer_append(&pickle, value, length);
    oct_buffer_puts(&pickle, "tR.");
    if (oct_pickle_read("x.npz", pickle.data, pickle.length, &tree, &root, &err) != OCT_OK) fail_msg("%s", err.message);
    bool answer = oct_value_is_storable(root);
    oct_tree_free(&tree);
    oct_buffer_free(&pickle);
    return answer;
}

#define STORABLE(value) storable(value, sizeof(value) - 1)

static void what_no_writer_takes_is_told_beforehand(void **state) {
    (void)state;
    assert_true(STORABLE("}X\x01\0\0\0aNs"));
    assert_false(STORABLE("}X\x01\0\0\0aC\x01xs"));    // bytes
    assert_false(STORABLE("]G\x3f\xf0\0\0\0\0\0\0a")); // a Python float
    assert_false(STORABLE("]\x8a\x05\0\0\0\0\x01"
                          "a"));                                                        // an integer of 33 bits
    assert_false(STORABLE("]cnumpy\nndarray\na"));                                      // a class
    assert_false(STORABLE("]cnumpy\narray\n(NtRa"));                                    // an array of objects
    assert_false(STORABLE("]cnumpy\nndarray\n(K\x20K\x20K\0\x87X\x03\0\0\0<f4C\0tRa")); // 1,024 empty rows
    struct oct_tree tree = {0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[256];
        snprintf(path, sizeof path, "numpy1/%s.npz", files[i]);
        assert_true(oct_value_is_storable(read_npz(golden(path), &tree)));
    }
    oct_tree_free(&tree);
}

// A writer that is killed at any moment leaves the file as it was before or as it is after, never half.
static void a_killed_writer_leaves_a_whole_file(void **state) {
    (void)state;
    const char *folder = new_folder();
    char path[256];
    snprintf(path, sizeof path, "%s/out.npz", folder);
    struct oct_tree tree = {0};
    oct_error err;
    struct oct_value *old = read_npz(golden("numpy1/odd_names.npz"), &tree), *new = read_npz(golden("numpy1/big_1205nodes.npz"), &tree);
    assert_int_equal(oct_npz_write(path, old, &err), OCT_OK);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        if (child == 0)
            for (;;) oct_npz_write(path, new, &err);
        usleep((useconds_t)(500 * round));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        size_t length, old_length, new_length;
        char *found = golden_text(path, &length);
        char *before = golden_text(golden("numpy1/odd_names.npz"), &old_length);
        char *after = golden_text(golden("numpy1/big_1205nodes.npz"), &new_length);
        bool is_old = length == old_length && !memcmp(found, before, length);
        bool is_new = length == new_length && !memcmp(found, after, length);
        free(found);
        free(before);
        free(after);
        assert_true(is_old || is_new);
    }
    oct_tree_free(&tree);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_numpy_1_wrote_is_written_byte_for_byte),
        cmocka_unit_test(what_numpy_2_wrote_means_the_same),
        cmocka_unit_test(the_json_beside_an_npz_is_what_python_dumps),
        cmocka_unit_test(every_npz_of_the_reference_folder_is_read),
        cmocka_unit_test(a_hand_made_pickle_without_memo_is_read),
        cmocka_unit_test(numbers_are_written_as_python_does),
        cmocka_unit_test(numpy_reads_what_is_written),
        cmocka_unit_test(a_truncated_file_is_an_error),
        cmocka_unit_test(a_changed_byte_is_told_by_the_checksum),
        cmocka_unit_test(a_damaged_pickle_is_read_or_refused_but_never_crashes),
        cmocka_unit_test(a_pickle_can_execute_nothing),
        cmocka_unit_test(what_no_writer_takes_is_told_beforehand),
        cmocka_unit_test(a_small_pickle_cannot_stand_for_a_huge_tree),
        cmocka_unit_test(a_killed_writer_leaves_a_whole_file),
    };
    return cmocka_run_group_tests_name("npz", tests, NULL, NULL);
}
