// Files of many ranks as those of fewer, against what vllm-gaudi's own scripts make of them (tests/golden/inc/unify).
#include "quant/file_name.h"
#include "quant/node_file.h"
#include "quant/npz.h"
#include "quant/python_json.h"
#include "quant/unify.h"
#include "quant_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", new_folder());
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static const char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static json_t *json_at(const char *path) {
    size_t length;
    char *text = golden_text(path, &length);
    if (!text) fail_msg("%s", path);
    // Infinity is no JSON; a string in its place compares as well.
    struct oct_buffer quoted = {0};
    for (const char *at = text, *found; at; at = found ? found + 8 : NULL) {
        found = strstr(at, "Infinity");
        oct_buffer_append(&quoted, at, found ? (size_t)(found - at) : strlen(at));
        if (found) oct_buffer_puts(&quoted, "\"Infinity\"");
    }
    json_t *root = json_loads(quoted.data, 0, NULL);
    oct_buffer_free(&quoted);
    free(text);
    assert_non_null(root);
    return root;
}

// The same but for the order of keys, which is no part of a dict.
static void assert_same_json(const char *found, const char *expected) {
    json_t *a = json_at(found), *b = json_at(expected);
    if (!json_equal(a, b)) fail_msg("%s differs from %s", found, expected);
    json_decref(a);
    json_decref(b);
}

// The NPZ that INC reads says what the JSON beside it says.
static void assert_npz_says_the_same(const char *json) {
    struct oct_tree tree = {0};
    struct oct_value *root;
    oct_error err = {0};
    struct oct_buffer text = {0};
    char npz[160], copy[160];
    snprintf(npz, sizeof npz, "%.*snpz", (int)strlen(json) - 4, json);
    snprintf(copy, sizeof copy, "%s", in_folder("copy.json"));
    if (oct_npz_read(npz, &tree, &root, &err) != OCT_OK) fail_msg("%s", err.message);
    oct_python_json(root, &text);
    assert_int_equal(oct_file_write(copy, text.data, text.length, &err), OCT_OK);
    assert_same_json(copy, json);
    oct_buffer_free(&text);
    oct_tree_free(&tree);
}

static struct oct_unify_report unify(const char *from, const char *to, int ranks, bool experts) {
    struct oct_unify_options options = {.from = from, .to = to, .ranks = ranks, .expert_parallel = experts};
    struct oct_unify_report report;
    oct_error err = {0};
    if (oct_unify(&options, &report, &err) != OCT_OK) fail_msg("%s", err.message);
    return report;
}

static oct_error unify_fails(oct_status status, const char *from, int ranks) {
    struct oct_unify_options options = {.from = from, .to = in_folder("out"), .ranks = ranks};
    struct oct_unify_report report;
    oct_error err = {0};
    assert_int_equal(oct_unify(&options, &report, &err), status);
    assert_false(oct_path_exists(options.to));
    return err;
}

static void copy_to(const char *from, const char *to) {
    char command[512];
    snprintf(command, sizeof command, "cp -r '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static void two_ranks_become_one_as_the_script_makes_them(void **state) {
    (void)state;
    struct oct_unify_report report = unify(golden("unify/tp2"), in_folder("one"), 1, false);
    assert_int_equal(report.ranks, 2);
    assert_int_equal(report.measurements, 1);
    assert_int_equal(report.scales, 1);
    static const char *const names[] = {"inc_output_hooks_maxabs_0_1.json", "inc_output_hooks_maxabs_MAXABS_HW_0_1.json"};
    for (int i = 0; i < 2; i++) {
        char found[160], expected[160];
        snprintf(found, sizeof found, "one/%s", names[i]);
        snprintf(expected, sizeof expected, "unify/tp2_to_1/%s", names[i]);
        assert_same_json(in_folder(found), golden(expected));
        assert_npz_says_the_same(in_folder(found));
    }
    assert_same_json(in_folder("one/inc_output_hooks_maxabs_0_1_mod_list.json"),
                     golden("unify/tp2/inc_output_hooks_maxabs_0_2_mod_list.json"));
}

static void experts_of_several_ranks_are_numbered_through(void **state) {
    (void)state;
    for (int ranks = 1; ranks <= 2; ranks++) {
        char to[16];
        snprintf(to, sizeof to, "ep%d", ranks);
        unify(golden("unify/ep4"), in_folder(to), ranks, true);
        for (int rank = 0; rank < ranks; rank++)
            for (int scales = 0; scales < 2; scales++) {
                char found[160], expected[160];
                const char *method = scales ? "MAXABS_ARBITRARY_" : "";
                snprintf(found, sizeof found, "ep%d/inc_output_hooks_maxabs_%s%d_%d.json", ranks, method, rank, ranks);
                snprintf(expected, sizeof expected, "unify/ep4_to_%d/inc_output_hooks_maxabs_%s%d_%d.json", ranks, method, rank, ranks);
                assert_same_json(in_folder(found), golden(expected));
                assert_npz_says_the_same(in_folder(found));
            }
    }
}

static void one_rank_expands_as_the_script_expands_it(void **state) {
    (void)state;
    struct oct_unify_report report;
    oct_error err = {0};
    if (oct_expand(golden("unify/ep4_to_1"), in_folder("four"), 4, &report, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_int_equal(report.measurements, 4);
    for (int rank = 0; rank < 4; rank++) {
        char found[160], expected[160];
        snprintf(found, sizeof found, "four/inc_output_hooks_maxabs_%d_4.json", rank);
        snprintf(expected, sizeof expected, "unify/ep4_to_1_to_4/inc_output_hooks_maxabs_%d_4.json", rank);
        assert_same_json(in_folder(found), golden(expected));
        assert_npz_says_the_same(in_folder(found));
    }
}

static void experts_that_ranks_cannot_share_evenly_are_refused(void **state) {
    (void)state;
    struct oct_unify_report report;
    oct_error err = {0};
    assert_int_equal(oct_expand(golden("unify/ep4_to_1"), in_folder("three"), 3, &report, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "8 experts' ranges expected, to be shared by 3 ranks, 8 found"));
    assert_false(oct_path_exists(in_folder("three")));
}

// Four ranks to two to one in one folder: the script counts its own output and stops there; here the largest number of ranks counts.
static void unifying_can_be_repeated_in_one_folder(void **state) {
    (void)state;
    copy_to(golden("unify/ep4"), in_folder("all"));
    assert_int_equal(unify(in_folder("all"), in_folder("all"), 2, true).ranks, 4);
    assert_int_equal(unify(in_folder("all"), in_folder("all"), 1, true).ranks, 4);
    assert_int_equal(unify(in_folder("all"), in_folder("all"), 1, true).ranks, 4);
    assert_same_json(in_folder("all/inc_output_hooks_maxabs_0_1.json"), golden("unify/ep4_to_1/inc_output_hooks_maxabs_0_1.json"));
    // Its own output, where nothing else lies, is as good a start.
    unify(golden("unify/ep4"), in_folder("two"), 2, true);
    unify(in_folder("two"), in_folder("two_to_one"), 1, true);
    assert_same_json(in_folder("two_to_one/inc_output_hooks_maxabs_0_1.json"), golden("unify/ep4_to_1/inc_output_hooks_maxabs_0_1.json"));
}

static void ranks_are_compared_whole(void **state) {
    (void)state;
    struct oct_file_name name;
    assert_true(oct_file_name_parse("x/inc_output_hooks_maxabs_MAXABS_HW_0_16.json", &name));
    assert_string_equal(name.prefix, "inc_output");
    assert_string_equal(name.observer, "maxabs");
    assert_string_equal(name.method, "MAXABS_HW");
    assert_true(name.rank == 0 && name.world == 16 && name.json && !name.mod_list);
    char *other = oct_file_name_path(&name, "y", 0, 1, ".npz");
    assert_string_equal(other, "y/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz");
    free(other);
    oct_file_name_free(&name);
    assert_true(oct_file_name_parse("a_hooks_b_hooks_maxabs_per_channel_mod_list.json", &name));
    assert_string_equal(name.prefix, "a_hooks_b");
    assert_string_equal(name.observer, "maxabs_per_channel");
    assert_true(name.rank == -1 && name.world == -1 && name.mod_list);
    oct_file_name_free(&name);
    assert_true(oct_file_name_parse("x_hooks_maxabs_ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_2_1.npz", &name)); // no rank 2 of 1
    assert_string_equal(name.method, "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2_2_1");
    oct_file_name_free(&name);
    static const char *const others[] = {"maxabs_quant_g3.json", "_hooks_maxabs_0_1.json", "x_hooks_.json", "x_hooks_maxabs.txt"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(oct_file_name_parse(others[i], &name));
        oct_file_name_free(&name);
    }
}

static void a_missing_rank_is_named_and_nothing_is_written(void **state) {
    (void)state;
    copy_to(golden("unify/ep4"), in_folder("some"));
    assert_int_equal(remove(in_folder("some/inc_output_hooks_maxabs_2_4.json")), 0);
    assert_non_null(strstr(unify_fails(OCT_NOT_FOUND, in_folder("some"), 1).message, "inc_output_hooks_maxabs_2_4.json: not found"));
}

static void ranks_that_do_not_divide_are_refused_in_the_scripts_words(void **state) {
    (void)state;
    assert_non_null(strstr(unify_fails(OCT_INVALID_ARGUMENT, golden("unify/ep4"), 3).message,
                           "Original total_rank 4 should be larger than your target rank 3 and be divisible by it"));
    unify_fails(OCT_INVALID_ARGUMENT, golden("unify/ep4"), 4);
    assert_non_null(strstr(unify_fails(OCT_NOT_FOUND, golden("unify"), 1).message, "expected, none found"));
    unify_fails(OCT_NOT_FOUND, in_folder("nowhere"), 1);
}

static void a_damaged_file_is_an_error_and_nothing_is_written(void **state) {
    (void)state;
    copy_to(golden("unify/tp2"), in_folder("damaged"));
    oct_error err;
    const char *path = in_folder("damaged/inc_output_hooks_maxabs_1_2.json");
    size_t length;
    char *text = golden_text(path, &length);
    assert_int_equal(oct_file_write(path, text, length / 2, &err), OCT_OK);
    assert_non_null(strstr(unify_fails(OCT_CORRUPT, in_folder("damaged"), 1).message, "inc_output_hooks_maxabs_1_2.json: line "));
    static const char other[] = "{\"Nodes\": {\"lm_head\": {\"inputs\": [[[1.0, 2.0]]]}}}";
    assert_int_equal(oct_file_write(path, other, strlen(other), &err), OCT_OK);
    assert_non_null(strstr(unify_fails(OCT_CORRUPT, in_folder("damaged"), 1).message, "lm_head.inputs[0]: numbers in the shape of"));
    free(text);
}

static void scales_of_older_ranges_do_not_stay(void **state) {
    (void)state;
    struct oct_unify_report report;
    oct_error err;
    unify(golden("unify/tp2"), in_folder("fresh"), 1, false);
    struct oct_unify_options options = {.from = golden("unify/tp2"), .to = in_folder("fresh"), .ranks = 1, .skip_scales = true};
    assert_int_equal(oct_unify(&options, &report, &err), OCT_OK);
    assert_int_equal(report.scales, 0);
    assert_int_equal(report.stale_removed, 2); // JSON and NPZ
    assert_false(oct_path_exists(in_folder("fresh/inc_output_hooks_maxabs_MAXABS_HW_0_1.npz")));
    assert_true(oct_path_exists(in_folder("fresh/inc_output_hooks_maxabs_0_1.npz")));
}

static void write_rank(const char *method, int rank, const char *nodes) {
    char path[160];
    struct oct_buffer text = {0};
    oct_error err;
    snprintf(path, sizeof path, "%s/by_hand/x_hooks_maxabs_%s%d_2.json", folder, method, rank);
    oct_buffer_printf(&text, "{\"GlobalRank\": null, \"LocalRank\": %d, \"Mode\": \"%s\", \"Nodes\": {%s}}", rank,
                      *method ? "Scale" : "DynamicRange", nodes);
    assert_int_equal(oct_file_write(path, text.data, text.length, &err), OCT_OK);
    oct_buffer_free(&text);
}

static const struct oct_value *node_of(struct oct_tree *tree, const char *path, const char *name) {
    struct oct_value *root;
    oct_error err;
    if (oct_node_file_read_any(path, tree, &root, &err) != OCT_OK) fail_msg("%s", err.message);
    return oct_dict_get(oct_dict_get(root, "Nodes"), name);
}

// A linear's output scale is input scale x weight scale, because that is what runs; the largest of both ranks' products need not be that.
static void products_are_multiplied_again_and_scales_per_channel_left_out(void **state) {
    (void)state;
    oct_error err;
    assert_int_equal(oct_make_directories(in_folder("by_hand"), &err), OCT_OK);
    write_rank("", 0,
               "\"m\": {\"inputs\": [[[1.0]]]}, \"n\": {\"inputs\": [[[1.0]]]}, \"r\": {\"inputs\": [[[NaN]]], \"outputs\": [[[1]], "
               "[[1]]], \"params\": {\"weight\": [[1]]}}");
    write_rank("", 1,
               "\"m\": {\"inputs\": [[[2.0]]]}, \"n\": {\"inputs\": [[[NaN]]]}, \"r\": {\"inputs\": [[[3.0]]], \"outputs\": [[[2]], "
               "[[1]]], \"params\": {\"weight\": [[2]]}}");
    write_rank("MAXABS_HW_", 0,
               "\"m\": {\"inputs\": [2.0], \"outputs\": [2.0], \"params\": {\"weight\": 1.0}}, \"r\": {\"inputs\": [4.0], "
               "\"outputs\": [4.0], \"params\": {\"weight\": 1.0}}, \"c\": {\"inputs\": [1.0], \"outputs\": [[1.0, 2.0]], "
               "\"params\": {\"weight\": {\"0\": [1.0, 2.0], \"1\": [1.0]}}}");
    write_rank("MAXABS_HW_", 1,
               "\"m\": {\"inputs\": [1.0], \"outputs\": [4.0], \"params\": {\"weight\": 4.0}}, \"r\": {\"inputs\": [1.0], "
               "\"outputs\": [8.0], \"params\": {\"weight\": 8.0}}, \"c\": {\"inputs\": [1.0], \"outputs\": [[1.0, 2.0]], "
               "\"params\": {\"weight\": {\"0\": [1.0, 2.0], \"1\": [1.0]}}}");
    struct oct_unify_report report = unify(in_folder("by_hand"), in_folder("by_hand"), 1, false);
    assert_int_equal(report.left_out, 1);
    struct oct_tree tree = {0};
    const char *scales = in_folder("by_hand/x_hooks_maxabs_MAXABS_HW_0_1.npz");
    assert_true(oct_array_at(oct_node_list(node_of(&tree, scales, "m"), "outputs")->items[0], 0) == 8); // 2 x 4
    assert_true(oct_array_at(oct_node_list(node_of(&tree, scales, "r"), "outputs")->items[0], 0) == 8); // row-parallel: its own
    assert_null(node_of(&tree, scales, "c"));
    const char *ranges = in_folder("by_hand/x_hooks_maxabs_0_1.npz");
    for (int i = 0; i < 2; i++) { // NaN stays, whichever rank saw it
        double range = oct_array_at(oct_node_list(node_of(&tree, ranges, i ? "n" : "r"), "inputs")->items[0], 0);
        assert_true(range != range);
    }
    oct_tree_free(&tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks_become_one_as_the_script_makes_them),
        cmocka_unit_test(experts_of_several_ranks_are_numbered_through),
        cmocka_unit_test(one_rank_expands_as_the_script_expands_it),
        cmocka_unit_test(experts_that_ranks_cannot_share_evenly_are_refused),
        cmocka_unit_test(unifying_can_be_repeated_in_one_folder),
        cmocka_unit_test(ranks_are_compared_whole),
        cmocka_unit_test(a_missing_rank_is_named_and_nothing_is_written),
        cmocka_unit_test(ranks_that_do_not_divide_are_refused_in_the_scripts_words),
        cmocka_unit_test(a_damaged_file_is_an_error_and_nothing_is_written),
        cmocka_unit_test(scales_of_older_ranges_do_not_stay),
        cmocka_unit_test(products_are_multiplied_again_and_scales_per_channel_left_out),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
