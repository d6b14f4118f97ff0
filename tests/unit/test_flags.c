// The command line's table, parser and help.
#include "cli/flags.h"
#include "cli/suggest.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct inner {
    int size;
    const char *dtype;
};

struct options {
    const char *model;
    bool eager;
    int number, count;
    size_t bytes;
    double share;
    struct oct_flag_seed seed;
    const char *text;
    struct oct_flag_list stop, names;
    struct inner inner;
};

#define FIELD(name) offsetof(struct options, name)
static const struct oct_flag own[] = {
    {.name = "eager-mode", .type = OCT_FLAG_BOOL, .offset = FIELD(eager), .help = "a switch"},
    {.name = "number",
     .short_name = "n",
     .type = OCT_FLAG_INT,
     .offset = FIELD(number),
     .min = -1,
     .max = 10,
     .initial = "7",
     .help = "a number"},
    {.name = "max-model-len", .type = OCT_FLAG_COUNT, .offset = FIELD(count), .min = -1, .max = INT_MAX, .help = "a count"},
    {.name = "bytes", .type = OCT_FLAG_BYTES, .offset = FIELD(bytes), .help = "bytes"},
    {.name = "share", .type = OCT_FLAG_REAL, .offset = FIELD(share), .min = 0, .max = 1, .help = "a share"},
    {.name = "seed", .type = OCT_FLAG_SEED, .offset = FIELD(seed), .help = "a seed"},
    {.name = "text", .short_name = "p", .type = OCT_FLAG_STRING, .offset = FIELD(text), .metavar = "WORDS", .help = "a text"},
    {.name = "stop", .type = OCT_FLAG_EACH, .offset = FIELD(stop), .help = "stops"},
    {.name = "served-model-name", .type = OCT_FLAG_LIST, .offset = FIELD(names), .help = "names"},
    {0},
};
static const struct oct_flag shared[] = {
    {.name = "tensor-parallel-size",
     .short_name = "tp",
     .alias = "tensor-paralel-size",
     .type = OCT_FLAG_INT,
     .offset = offsetof(struct inner, size),
     .help = "ranks"},
    {.name = "dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = offsetof(struct inner, dtype),
     .choices = "auto|bfloat16|float32",
     .initial = "auto",
     .help = "a choice"},
    {0},
};
static const struct oct_command command = {
    .name = "try",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "what it is for",
    .options_size = sizeof(struct options),
    .groups = {{"Own", own, 0}, {"Shared", shared, FIELD(inner)}},
};

static struct options options;
static const char *help;
static oct_error err;

static oct_status parse_words(size_t count, const char *const *words) {
    char *argv[16];
    for (size_t i = 0; i < count; i++) argv[i] = (char *)words[i];
    oct_flags_free(&command, &options);
    options = (struct options){0};
    err = (oct_error){0};
    return oct_flags_parse(&command, (int)count, argv, &options, &help, &err);
}
#define WORDS(...)  (sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), ((const char *[]){__VA_ARGS__})
#define PARSED(...) assert_int_equal(parse_words(WORDS(__VA_ARGS__)), OCT_OK)
#define REFUSED(expected, ...)                                                                                                             \
    do {                                                                                                                                   \
        assert_int_equal(parse_words(WORDS(__VA_ARGS__)), OCT_INVALID_ARGUMENT);                                                           \
        assert_string_equal(err.message, expected);                                                                                        \
    } while (0)

static void defaults_come_from_the_table(void **state) {
    (void)state;
    PARSED("m");
    assert_string_equal(options.model, "m");
    assert_int_equal(options.number, 7);
    assert_string_equal(options.inner.dtype, "auto");
    assert_false(options.seed.given);
    assert_null(options.text);
}

static void a_value_follows_or_stands_behind_an_equals_sign(void **state) {
    (void)state;
    PARSED("--number", "3", "m", "--text=a=b");
    assert_int_equal(options.number, 3);
    assert_string_equal(options.text, "a=b");
    PARSED("-n", "-1", "-p", "-x", "m");
    assert_int_equal(options.number, -1);
    assert_string_equal(options.text, "-x");
    PARSED("-n=4", "m", "--text=");
    assert_int_equal(options.number, 4);
    assert_string_equal(options.text, "");
}

static void dashes_and_underscores_are_alike(void **state) {
    (void)state;
    PARSED("m", "--max_model_len", "12");
    assert_int_equal(options.count, 12);
    PARSED("m", "--max-model_len=13");
    assert_int_equal(options.count, 13);
}

static void an_alias_and_a_long_short_name_are_the_flag(void **state) {
    (void)state;
    PARSED("m", "--tensor_paralel_size", "2");
    assert_int_equal(options.inner.size, 2);
    PARSED("m", "-tp", "4");
    assert_int_equal(options.inner.size, 4);
}

static void a_boolean_can_be_set_negated_and_given_a_value(void **state) {
    (void)state;
    PARSED("m", "--eager-mode");
    assert_true(options.eager);
    PARSED("m", "--eager-mode", "--no-eager_mode");
    assert_false(options.eager);
    PARSED("m", "--eager-mode=False", "--eager_mode=true");
    assert_true(options.eager);
    REFUSED("--eager-mode: true or false expected, \"maybe\" found", "m", "--eager-mode=maybe");
    REFUSED("--no-eager-mode takes no value, \"1\" found", "m", "--no-eager-mode=1");
}

static void counts_take_human_numbers(void **state) {
    (void)state;
    PARSED("m", "--max-model-len", "8k", "--bytes", "1.5G");
    assert_int_equal(options.count, 8000);
    assert_int_equal(options.bytes, 3ull << 29);
    PARSED("m", "--max-model-len", "8K");
    assert_int_equal(options.count, 8192);
    PARSED("m", "--max-model-len", "25.6k");
    assert_int_equal(options.count, 25600);
    PARSED("m", "--max-model-len", "auto");
    assert_int_equal(options.count, 0);
    PARSED("m", "--max-model-len", "-1");
    assert_int_equal(options.count, -1);
    REFUSED("--max-model-len: a count such as 512, 8k or 8K expected, \"8q\" found", "m", "--max-model-len", "8q");
}

static void a_human_number_is_whole_and_in_range(void **state) {
    (void)state;
    uint64_t value;
    assert_true(oct_human_number("18446744073709551615", UINT64_MAX, &value) && value == UINT64_MAX);
    assert_true(oct_human_number("1.00k", 1000, &value) && value == 1000);
    const char *const refused[] = {
        "", "k", "-1", " 1", "1 ", "1kk", "1.5", "1.0001k", "1.", "1e3", "0x10", "18446744073709551616", "16777216T", "1.7976K"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_false(oct_human_number(refused[i], UINT64_MAX, &value));
    }
    assert_false(oct_human_number("3G", INT_MAX, &value));
}

static void numbers_are_checked_against_the_row(void **state) {
    (void)state;
    REFUSED("--number: -1 to 10 expected, 11 found", "m", "-n", "11");
    REFUSED("--max-model-len: at least -1 expected, -2 found", "m", "--max-model-len=-2");
    REFUSED("--share: 0 to 1 expected, 1.5 found", "m", "--share", "1.5");
    REFUSED("--share: a number expected, \"nan\" found", "m", "--share", "nan");
    REFUSED("--number: a whole number expected, \"99999999999\" found", "m", "--number", "99999999999");
    REFUSED("--number: a whole number expected, \"\" found", "m", "--number=");
}

static void a_choice_is_one_of_its_words(void **state) {
    (void)state;
    PARSED("m", "--dtype", "float32");
    assert_string_equal(options.inner.dtype, "float32");
    REFUSED("--dtype: one of auto|bfloat16|float32 expected, \"float\" found", "m", "--dtype", "float");
    REFUSED("--dtype: one of auto|bfloat16|float32 expected, \"\" found", "m", "--dtype=");
}

static void a_seed_covers_64_bits_and_zero_counts_as_given(void **state) {
    (void)state;
    PARSED("m", "--seed", "18446744073709551615");
    assert_true(options.seed.given && options.seed.value == UINT64_MAX);
    PARSED("m", "--seed", "0");
    assert_true(options.seed.given && options.seed.value == 0);
    REFUSED("--seed: a whole number from 0 to 2^64 - 1 expected, \"-1\" found", "m", "--seed", "-1");
}

static void lists_gather_values(void **state) {
    (void)state;
    PARSED("m", "--stop", "a", "--stop=b", "--served-model-name", "x", "y", "--number", "1");
    assert_int_equal(options.stop.count, 2);
    assert_string_equal(options.stop.items[1], "b");
    assert_int_equal(options.names.count, 2);
    assert_string_equal(options.names.items[0], "x");
    assert_string_equal(options.names.items[1], "y");
    PARSED("--stop", "a", "m");
    assert_int_equal(options.stop.count, 1);
    assert_string_equal(options.model, "m");
}

static void an_unknown_flag_names_the_nearest_one(void **state) {
    (void)state;
    REFUSED("unknown flag --max-modl-len; did you mean --max-model-len?", "m", "--max-modl-len", "5");
    REFUSED("unknown flag --max_model_lne; did you mean --max-model-len?", "m", "--max_model_lne=5");
    REFUSED("unknown flag --zzzzzzzz; \"octavo try --help\" lists them", "m", "--zzzzzzzz");
}

static void a_missing_value_or_argument_is_an_error(void **state) {
    (void)state;
    REFUSED("--number: a whole number expected, nothing found", "m", "--number");
    REFUSED("--text: a value expected, nothing found", "m", "--text", "--number", "1");
    REFUSED("MODEL is missing: octavo try MODEL", "--number", "1");
    REFUSED("\"n\" was not expected: octavo try takes one argument, the others are flags", "m", "n");
    PARSED("--", "--number");
    assert_string_equal(options.model, "--number");
}

static void help_is_made_from_the_table(void **state) {
    (void)state;
    PARSED("--help");
    assert_string_equal(help, "");
    struct oct_buffer text = {0};
    oct_flags_help(&command, help, &text);
    assert_non_null(strstr(text.data, "Usage: octavo try MODEL [flags]\n\nwhat it is for\n"));
    assert_non_null(
        strstr(text.data, "\nOwn:\n      --eager-mode                a switch\n  -n, --number N                  a number (default: 7)\n"));
    assert_non_null(strstr(text.data, "  -p, --text WORDS                a text\n"));
    assert_non_null(strstr(text.data, "      --stop TEXT                 stops; may be given several times\n"));
    assert_non_null(strstr(text.data, "      --served-model-name TEXT ...\n                                  names\n"));
    assert_non_null(strstr(text.data, "\nShared:\n"));
    oct_buffer_free(&text);
}

static void help_can_be_narrowed(void **state) {
    (void)state;
    PARSED("m", "--help=shared");
    struct oct_buffer text = {0};
    oct_flags_help(&command, help, &text);
    assert_non_null(strstr(text.data, "--dtype"));
    assert_null(strstr(text.data, "--number"));
    oct_buffer_free(&text);
    oct_flags_help(&command, "nothing", &text);
    assert_string_equal(text.data, "No flag of \"octavo try\" has \"nothing\" in its name.\n");
    oct_buffer_free(&text);
    PARSED("--help=all");
    assert_string_equal(help, "");
}

static void distance_counts_edits(void **state) {
    (void)state;
    assert_int_equal(oct_edit_distance("", "abc"), 3);
    assert_int_equal(oct_edit_distance("serve", "serve"), 0);
    assert_int_equal(oct_edit_distance("srve", "serve"), 1);
    assert_int_equal(oct_edit_distance("sevre", "serve"), 1);
    assert_int_equal(oct_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(oct_edit_distance("top_p", "top-p"), 0);
}

static int free_lists(void **state) {
    (void)state;
    oct_flags_free(&command, &options);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(a_value_follows_or_stands_behind_an_equals_sign),
        cmocka_unit_test(dashes_and_underscores_are_alike),
        cmocka_unit_test(an_alias_and_a_long_short_name_are_the_flag),
        cmocka_unit_test(a_boolean_can_be_set_negated_and_given_a_value),
        cmocka_unit_test(counts_take_human_numbers),
        cmocka_unit_test(a_human_number_is_whole_and_in_range),
        cmocka_unit_test(numbers_are_checked_against_the_row),
        cmocka_unit_test(a_choice_is_one_of_its_words),
        cmocka_unit_test(a_seed_covers_64_bits_and_zero_counts_as_given),
        cmocka_unit_test(lists_gather_values),
        cmocka_unit_test(an_unknown_flag_names_the_nearest_one),
        cmocka_unit_test(a_missing_value_or_argument_is_an_error),
        cmocka_unit_test(help_is_made_from_the_table),
        cmocka_unit_test(help_can_be_narrowed),
        cmocka_unit_test(distance_counts_edits),
    };
    return cmocka_run_group_tests(tests, NULL, free_lists);
}
