// Stop strings in text that comes in pieces: found wherever the pieces are cut, and nothing that could begin one is given out early.
#include "api/stop_strings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void push(struct oct_stop_strings *stops, const char *text, const char *expected_out, const char *expected_stop) {
    struct oct_buffer out = {0};
    const char *stop = oct_stop_strings_push(stops, text, strlen(text), &out);
    assert_string_equal(out.data ? out.data : "", expected_out);
    if (expected_stop)
        assert_string_equal(stop, expected_stop);
    else
        assert_null(stop);
    oct_buffer_free(&out);
}

static void flush(struct oct_stop_strings *stops, const char *expected_out) {
    struct oct_buffer out = {0};
    oct_stop_strings_flush(stops, &out);
    assert_string_equal(out.data ? out.data : "", expected_out);
    oct_buffer_free(&out);
    oct_stop_strings_close(stops);
}

static void without_stop_strings_text_goes_straight_through(void **state) {
    (void)state;
    struct oct_stop_strings stops;
    oct_stop_strings_open(&stops, NULL, 0);
    push(&stops, "one ", "one ", NULL);
    push(&stops, "", "", NULL);
    push(&stops, "two", "two", NULL);
    flush(&stops, "");
}

static void a_stop_string_is_found_across_pieces(void **state) {
    (void)state;
    struct oct_stop_strings stops;
    const char *const strings[] = {"\n\nUser:"};
    oct_stop_strings_open(&stops, strings, 1);
    push(&stops, "Yes.\n", "Yes.", NULL);
    push(&stops, "\nUs", "", NULL);
    push(&stops, "er", "", NULL);
    push(&stops, ": and more", "", "\n\nUser:");
    oct_stop_strings_close(&stops);
}

static void what_turns_out_not_to_be_one_is_given_out(void **state) {
    (void)state;
    struct oct_stop_strings stops;
    const char *const strings[] = {"abab!"};
    oct_stop_strings_open(&stops, strings, 1);
    push(&stops, "xab", "x", NULL);
    push(&stops, "ab", "", NULL);
    push(&stops, "ab", "ab", NULL); // "abab" may still begin it
    push(&stops, "?", "abab?", NULL);
    push(&stops, "aba", "", NULL);
    flush(&stops, "aba");
}

static void the_one_that_begins_first_counts(void **state) {
    (void)state;
    struct oct_stop_strings stops;
    const char *const strings[] = {"later", "early", "ear"};
    oct_stop_strings_open(&stops, strings, 3);
    push(&stops, "an early one, a later one", "an ", "early");
    oct_stop_strings_close(&stops);
    const char *const inner[] = {"abcd", "bc"};
    oct_stop_strings_open(&stops, inner, 2);
    push(&stops, "xabc", "xa", "bc"); // a match does not wait for a longer one
    oct_stop_strings_close(&stops);
}

static void every_cut_gives_the_same_text(void **state) {
    (void)state;
    const char *const strings[] = {"</s>", "END", "ND!"};
    const char text[] = "a <b> </b> EN E END! tail";
    size_t length = strlen(text);
    for (size_t first = 0; first <= length; first++)
        for (size_t second = first; second <= length; second++) {
            struct oct_stop_strings stops;
            struct oct_buffer out = {0};
            const size_t cuts[] = {0, first, second, length};
            const char *found = NULL;
            oct_stop_strings_open(&stops, strings, 3);
            for (int i = 0; i < 3 && !found; i++) found = oct_stop_strings_push(&stops, text + cuts[i], cuts[i + 1] - cuts[i], &out);
            assert_string_equal(found, "END");
            assert_string_equal(out.data, "a <b> </b> EN E ");
            oct_buffer_free(&out);
            oct_stop_strings_close(&stops);
        }
}

static void nul_bytes_are_text(void **state) {
    (void)state;
    struct oct_stop_strings stops;
    struct oct_buffer out = {0};
    const char *const strings[] = {"end"};
    oct_stop_strings_open(&stops, strings, 1);
    assert_null(oct_stop_strings_push(&stops, "a\0e", 3, &out));
    assert_int_equal(out.length, 2);
    assert_string_equal(oct_stop_strings_push(&stops, "nd", 2, &out), "end");
    assert_memory_equal(out.data, "a\0", 2);
    oct_buffer_free(&out);
    oct_stop_strings_close(&stops);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_stop_strings_text_goes_straight_through),
        cmocka_unit_test(a_stop_string_is_found_across_pieces),
        cmocka_unit_test(what_turns_out_not_to_be_one_is_given_out),
        cmocka_unit_test(the_one_that_begins_first_counts),
        cmocka_unit_test(every_cut_gives_the_same_text),
        cmocka_unit_test(nul_bytes_are_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
