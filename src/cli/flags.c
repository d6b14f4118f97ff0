// flags.c: the parser behind all command lines; everything it knows comes from the tables it is given.
#include "cli/flags.h"

#include "base/log.h"
#include "base/memory.h"
#include "cli/suggest.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- values -----------------------------------------------------------------------------------------------------------------------

bool oct_human_number(const char *text, uint64_t max, uint64_t *out) {
    if (!isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    uint64_t whole = strtoull(text, &end, 10);
    if (errno) return false;
    double fraction = 0;
    if (*end == '.') {
        char *point = end;
        fraction = strtod(point, &end); // ".5"
        if (end == point || fraction >= 1) return false;
    }
    static const char suffixes[] = "kmgt";
    uint64_t unit = 1;
    if (*end) {
        const char *suffix = strchr(suffixes, tolower((unsigned char)*end));
        if (!suffix || end[1]) return false;
        for (int power = 0; power <= suffix - suffixes; power++) unit *= isupper((unsigned char)*end) ? 1024 : 1000;
    }
    double part = fraction * (double)unit; // units are below 2^41: part is near enough to a whole number to tell, or there is none
    if (fabs(part - nearbyint(part)) > 1e-3) return false;
    if (whole > max / unit || whole * unit > max - (uint64_t)nearbyint(part)) return false;
    *out = whole * unit + (uint64_t)nearbyint(part);
    return true;
}

static bool parse_bool(const char *text, bool *out) {
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i])) return *out = i & 1, true;
    return false;
}

static bool parse_real(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out);
}

static bool parse_int(const char *text, int *out) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    *out = (int)value;
    return end != text && !*end && !errno && value >= INT_MIN && value <= INT_MAX;
}

static bool parse_count(const char *text, int *out) {
    uint64_t value;
    if (!strcmp(text, "auto")) return *out = 0, true;
    if (*text == '-') return parse_int(text, out);
    if (!oct_human_number(text, INT_MAX, &value)) return false;
    return *out = (int)value, true;
}

static bool is_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (const char *choice = choices; choice; choice = strchr(choice, '|')) {
        if (*choice == '|') choice++;
        if (length && !strncmp(choice, text, length) && (choice[length] == '|' || !choice[length])) return true;
    }
    return false;
}

static const char *expected_kind(enum oct_flag_type type) {
    switch (type) {
    case OCT_FLAG_BOOL:
        return "true or false";
    case OCT_FLAG_INT:
        return "a whole number";
    case OCT_FLAG_COUNT:
        return "a count such as 512, 8k or 8K";
    case OCT_FLAG_BYTES:
        return "a number of bytes such as 500M or 2G";
    case OCT_FLAG_REAL:
        return "a number";
    case OCT_FLAG_SEED:
        return "a whole number from 0 to 2^64 - 1";
    default:
        return "a value";
    }
}

static oct_status fail_value(const struct oct_flag *flag, const char *text, oct_error *err) {
    return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: %s expected, \"%s\" found", flag->name, expected_kind(flag->type), text);
}

static oct_status check_range(const struct oct_flag *flag, double value, const char *text, oct_error *err) {
    if ((flag->min == 0 && flag->max == 0) || (value >= flag->min && value <= flag->max)) return OCT_OK;
    if (flag->max >= INT_MAX)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: at least %.15g expected, %s found", flag->name, flag->min, text);
    return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: %.15g to %.15g expected, %s found", flag->name, flag->min, flag->max, text);
}

static void append(struct oct_flag_list *list, const char *item) {
    list->items = oct_resize(list->items, list->count + 1, sizeof *list->items, "a list of flag values");
    list->items[list->count++] = item;
}

static oct_status store(const struct oct_flag *flag, void *field, const char *text, oct_error *err) {
    struct oct_flag_seed *seed = field;
    switch (flag->type) {
    case OCT_FLAG_BOOL:
        return parse_bool(text, field) ? OCT_OK : fail_value(flag, text, err);
    case OCT_FLAG_INT:
        return parse_int(text, field) ? check_range(flag, *(int *)field, text, err) : fail_value(flag, text, err);
    case OCT_FLAG_COUNT:
        return parse_count(text, field) ? check_range(flag, *(int *)field, text, err) : fail_value(flag, text, err);
    case OCT_FLAG_REAL:
        return parse_real(text, field) ? check_range(flag, *(double *)field, text, err) : fail_value(flag, text, err);
    case OCT_FLAG_BYTES: {
        uint64_t bytes;
        if (!oct_human_number(text, SIZE_MAX, &bytes)) return fail_value(flag, text, err);
        *(size_t *)field = (size_t)bytes;
        return OCT_OK;
    }
    case OCT_FLAG_SEED:
        seed->given = oct_human_number(text, UINT64_MAX, &seed->value);
        return seed->given ? OCT_OK : fail_value(flag, text, err);
    case OCT_FLAG_CHOICE:
        if (!is_choice(flag->choices, text))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: one of %s expected, \"%s\" found", flag->name, flag->choices, text);
        *(const char **)field = text;
        return OCT_OK;
    case OCT_FLAG_STRING:
        *(const char **)field = text;
        return OCT_OK;
    case OCT_FLAG_EACH:
    case OCT_FLAG_LIST:
        append(field, text);
        return OCT_OK;
    }
    OCT_CHECK(!"a flag type without a parser");
    return OCT_INTERNAL;
}

// --- rows of the table ------------------------------------------------------------------------------------------------------------

// Walks all rows of a command. Start with a zeroed cursor.
struct cursor {
    int group, row;
};

static const struct oct_flag *next_flag(const struct oct_command *command, struct cursor *at, size_t *group_offset) {
    for (; at->group < OCT_MAX_FLAG_GROUPS && command->groups[at->group].title; at->group++, at->row = 0) {
        const struct oct_flag *flag = &command->groups[at->group].flags[at->row];
        if (!flag->name) continue;
        at->row++;
        *group_offset = command->groups[at->group].offset;
        return flag;
    }
    return NULL;
}

static bool same_name(const char *known, const char *given, size_t length) {
    if (!known || strlen(known) != length) return false;
    for (size_t i = 0; i < length; i++)
        if ((known[i] == '_' ? '-' : known[i]) != (given[i] == '_' ? '-' : given[i])) return false;
    return true;
}

// A flag as it stands on the command line.
struct given {
    const struct oct_flag *flag;
    void *field;
    const char *value; // after "=", or NULL
    bool negated;      // --no-
};

static bool find_flag(const struct oct_command *command, const char *argument, void *options, struct given *out) {
    bool is_short = argument[1] != '-';
    const char *name = argument + (is_short ? 1 : 2), *equals = strchr(name, '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name), offset;
    bool no = !is_short && (!strncmp(name, "no-", 3) || !strncmp(name, "no_", 3));
    struct cursor at = {0};
    for (const struct oct_flag *flag; (flag = next_flag(command, &at, &offset));) {
        bool plain = is_short ? same_name(flag->short_name, name, length)
                              : same_name(flag->name, name, length) || same_name(flag->alias, name, length);
        bool negated = no && flag->type == OCT_FLAG_BOOL && same_name(flag->name, name + 3, length - 3);
        if (!plain && !negated) continue;
        *out = (struct given){flag, (char *)options + offset + flag->offset, equals ? equals + 1 : NULL, negated};
        return true;
    }
    return false;
}

static oct_status fail_unknown(const struct oct_command *command, const char *argument, oct_error *err) {
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    const char *bare = name + strspn(name, "-");
    struct oct_suggestion suggestion = {.word = bare};
    struct cursor at = {0};
    size_t offset;
    for (const struct oct_flag *flag; (flag = next_flag(command, &at, &offset));) oct_suggest(&suggestion, flag->name);
    if (suggestion.best) return oct_fail(err, OCT_INVALID_ARGUMENT, "unknown flag %s; did you mean --%s?", name, suggestion.best);
    return oct_fail(err, OCT_INVALID_ARGUMENT, "unknown flag %s; \"octavo %s --help\" lists them", name, command->name);
}

static oct_status set_defaults(const struct oct_command *command, void *options, oct_error *err) {
    struct cursor at = {0};
    size_t offset;
    for (const struct oct_flag *flag; (flag = next_flag(command, &at, &offset));)
        if (flag->initial) OCT_TRY(store(flag, (char *)options + offset + flag->offset, flag->initial, err));
    return OCT_OK;
}

// --- the command line -------------------------------------------------------------------------------------------------------------

static bool looks_like_flag(const char *argument) {
    return argument[0] == '-' && argument[1] && !isdigit((unsigned char)argument[1]) && argument[1] != '.';
}

// Stores one flag, taking its values from argv[*i] on where they are not behind an "=".
static oct_status parse_flag(const struct given *given, int argc, char **argv, int *i, oct_error *err) {
    const struct oct_flag *flag = given->flag;
    if (flag->ignored) oct_log(OCT_LOG_WARNING, "--%s has no effect here", flag->name);
    if (flag->type == OCT_FLAG_BOOL) {
        if (given->value && given->negated)
            return oct_fail(err, OCT_INVALID_ARGUMENT, "--no-%s takes no value, \"%s\" found", flag->name, given->value);
        return store(flag, given->field, given->value ? given->value : given->negated ? "false" : "true", err);
    }
    if (given->value) return store(flag, given->field, given->value, err);
    // A value may begin with one dash (a prompt, a negative number), not with two.
    if (*i >= argc || !strncmp(argv[*i], "--", 2))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--%s: %s expected, nothing found", flag->name, expected_kind(flag->type));
    OCT_TRY(store(flag, given->field, argv[(*i)++], err));
    while (flag->type == OCT_FLAG_LIST && *i < argc && !looks_like_flag(argv[*i])) OCT_TRY(store(flag, given->field, argv[(*i)++], err));
    return OCT_OK;
}

static bool asks_for_help(const char *argument, const char **help) {
    if (!strcmp(argument, "-h") || !strcmp(argument, "--help")) return *help = "", true;
    if (!strncmp(argument, "--help=", 7)) return *help = strcmp(argument + 7, "all") ? argument + 7 : "", true;
    return false;
}

static oct_status parse_arguments(const struct oct_command *command, int argc, char **argv, void *options, const char **help,
                                  oct_error *err) {
    const char *names[] = {command->positional, command->second};
    const char **positionals[] = {(const char **)((char *)options + command->positional_offset),
                                  (const char **)((char *)options + command->second_offset)};
    int expected = (names[0] != NULL) + (names[1] != NULL), found = 0;
    bool flags_over = false;
    for (int i = 0; i < argc;) {
        const char *argument = argv[i++];
        if (!flags_over && !strcmp(argument, "--")) {
            flags_over = true;
        } else if (!flags_over && asks_for_help(argument, help)) {
            return OCT_OK;
        } else if (!flags_over && looks_like_flag(argument)) {
            struct given given;
            if (!find_flag(command, argument, options, &given)) return fail_unknown(command, argument, err);
            OCT_TRY(parse_flag(&given, argc, argv, &i, err));
        } else if (found < expected) {
            *positionals[found++] = argument;
        } else {
            static const char *const takes[] = {"only flags", "one argument, the others are flags", "two arguments, the others are flags"};
            return oct_fail(err, OCT_INVALID_ARGUMENT, "\"%s\" was not expected: octavo %s takes %s", argument, command->name,
                            takes[expected]);
        }
    }
    if (found < expected && names[found][0] != '[')
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s is missing: octavo %s %s%s%s", names[found], command->name, names[0],
                        names[1] ? " " : "", names[1] ? names[1] : "");
    return OCT_OK;
}

oct_status oct_flags_parse(const struct oct_command *command, int argc, char **argv, void *options, const char **help, oct_error *err) {
    *help = NULL;
    OCT_TRY(set_defaults(command, options, err));
    return parse_arguments(command, argc, argv, options, help, err);
}

void oct_flags_free(const struct oct_command *command, void *options) {
    struct cursor at = {0};
    size_t offset;
    for (const struct oct_flag *flag; (flag = next_flag(command, &at, &offset));) {
        if (flag->type != OCT_FLAG_EACH && flag->type != OCT_FLAG_LIST) continue;
        struct oct_flag_list *list = (struct oct_flag_list *)((char *)options + offset + flag->offset);
        free(list->items);
        *list = (struct oct_flag_list){0};
    }
}

// --- help -------------------------------------------------------------------------------------------------------------------------

enum { HELP_COLUMN = 34, HELP_WIDTH = 110 };

// Appends `text` in lines of at most HELP_WIDTH columns that all start at `column`; the cursor is there already.
static void append_wrapped(struct oct_buffer *out, const char *text, int column) {
    int at = column;
    for (const char *word = text; *word;) {
        int length = (int)strcspn(word, " ");
        if (at > column && at + 1 + length > HELP_WIDTH) {
            oct_buffer_printf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            oct_buffer_puts(out, " ");
            at++;
        }
        oct_buffer_append(out, word, (size_t)length);
        at += length;
        word += length + (word[length] == ' ');
    }
    oct_buffer_puts(out, "\n");
}

static const char *metavar(const struct oct_flag *flag) {
    if (flag->metavar) return flag->metavar;
    switch (flag->type) {
    case OCT_FLAG_BOOL:
        return "";
    case OCT_FLAG_INT:
    case OCT_FLAG_COUNT:
    case OCT_FLAG_SEED:
        return "N";
    case OCT_FLAG_BYTES:
        return "BYTES";
    case OCT_FLAG_REAL:
        return "X";
    case OCT_FLAG_CHOICE:
        return flag->choices;
    default:
        return "TEXT";
    }
}

static void help_flag(const struct oct_flag *flag, struct oct_buffer *out) {
    struct oct_buffer left = {0}, right = {0};
    const char *value = metavar(flag);
    if (flag->short_name)
        oct_buffer_printf(&left, "  -%s, ", flag->short_name);
    else
        oct_buffer_puts(&left, "      ");
    oct_buffer_printf(&left, "--%s%s%s%s", flag->name, *value ? " " : "", value, flag->type == OCT_FLAG_LIST ? " ..." : "");
    oct_buffer_puts(&right, flag->help);
    if (flag->type == OCT_FLAG_EACH) oct_buffer_puts(&right, "; may be given several times");
    if (flag->initial) oct_buffer_printf(&right, " (default: %s)", flag->initial);
    oct_buffer_puts(out, left.data);
    if (right.length) {
        bool fits = left.length + 2 <= HELP_COLUMN;
        oct_buffer_printf(out, "%s%*s", fits ? "" : "\n", fits ? HELP_COLUMN - (int)left.length : HELP_COLUMN, "");
        append_wrapped(out, right.data, HELP_COLUMN);
    } else {
        oct_buffer_puts(out, "\n");
    }
    oct_buffer_free(&left);
    oct_buffer_free(&right);
}

void oct_flags_help(const struct oct_command *command, const char *word, struct oct_buffer *out) {
    bool all = !*word;
    if (all) {
        oct_buffer_printf(out, "Usage: octavo %s", command->name);
        if (command->positional) oct_buffer_printf(out, " %s", command->positional);
        if (command->second) oct_buffer_printf(out, " %s", command->second);
        oct_buffer_puts(out, " [flags]\n\n");
        append_wrapped(out, command->summary, 0);
        if (command->details) oct_buffer_printf(out, "\n%s", command->details);
    }
    size_t before = out->length;
    for (int g = 0; g < OCT_MAX_FLAG_GROUPS && command->groups[g].title; g++) {
        const struct oct_flag_group *group = &command->groups[g];
        bool whole = all || strcasestr(group->title, word), titled = false;
        for (const struct oct_flag *flag = group->flags; flag->name; flag++) {
            if (!whole && !strcasestr(flag->name, word)) continue;
            if (!titled) oct_buffer_printf(out, "\n%s:\n", group->title);
            titled = true;
            help_flag(flag, out);
        }
    }
    if (out->length == before && !all) oct_buffer_printf(out, "No flag of \"octavo %s\" has \"%s\" in its name.\n", command->name, word);
}
