// flags.h: command lines. A subcommand is one constant table: what it is, its flags in groups, and the function that runs it. Parsing,
// ranges, defaults, error messages and --help all come from that table. The flag style is vLLM's: `-` and `_` are alike in names,
// "--flag value" and "--flag=value", "--no-flag" for booleans, 8k and 8K for counts.
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The type of a flag, and of the field that receives it.
enum oct_flag_type {
    OCT_FLAG_BOOL,   // bool
    OCT_FLAG_INT,    // int
    OCT_FLAG_COUNT,  // int; human numbers: 8k = 8,000, 8K = 8,192; "auto" = 0
    OCT_FLAG_BYTES,  // size_t; human numbers
    OCT_FLAG_REAL,   // double
    OCT_FLAG_SEED,   // struct oct_flag_seed
    OCT_FLAG_STRING, // const char *, lifetime of argv
    OCT_FLAG_CHOICE, // const char *, one of `choices`
    OCT_FLAG_EACH,   // struct oct_flag_list: one value each time the flag is given
    OCT_FLAG_LIST,   // struct oct_flag_list: all values up to the next flag
};

struct oct_flag_seed {
    bool given;
    uint64_t value;
};

struct oct_flag_list {
    const char **items; // (count) each with the lifetime of argv; the array is owned
    size_t count;
};

struct oct_flag {
    const char *name;       // "max-model-len", in dashes
    const char *short_name; // "n" for -n, "tp" for -tp; NULL: none
    const char *alias;      // another spelling that users have in their scripts; NULL: none
    enum oct_flag_type type;
    size_t offset;       // of the field, in the struct that the group's flags fill
    double min, max;     // bounds of numbers, inclusive; both 0: those of the type
    const char *initial; // the default, as it would be typed; NULL: zero, NULL, false or empty
    const char *choices; // "auto|fp8_inc"
    const char *metavar; // what the help calls the value; NULL: after the type
    const char *help;
    bool ignored; // taken because other servers' command lines have it; has no effect, and a warning says so
};

struct oct_flag_group {
    const char *title;
    const struct oct_flag *flags; // ends with a row without name
    size_t offset;                // of the group's struct in the command's options
};

enum { OCT_MAX_FLAG_GROUPS = 6 };

struct oct_command {
    const char *name;         // "generate"
    const char *positional;   // "MODEL": a required argument; "[MODEL]": one that may be missing; NULL: none
    size_t positional_offset; // of a const char * in the options
    const char *second;       // a second required argument; NULL: none
    size_t second_offset;
    const char *summary;                               // one line
    const char *details;                               // paragraphs for --help
    size_t options_size;                               // bytes of the command's options struct
    struct oct_flag_group groups[OCT_MAX_FLAG_GROUPS]; // ends with a group without title, or full
    oct_status (*run)(const void *options, oct_error *err);
};

// Fills `options` (command->options_size bytes, zeroed) with the defaults, then with what argv (argc) says; argv starts after the
// command's name. *help is set and parsing stops when help is asked for: "" for all of it, else the word after "--help=".
// Whatever the outcome, oct_flags_free releases what options holds.
oct_status oct_flags_parse(const struct oct_command *command, int argc, char **argv, void *options, const char **help, oct_error *err);
void oct_flags_free(const struct oct_command *command, void *options);

// The text of --help; `word` not empty: only groups or flags whose name contains it.
void oct_flags_help(const struct oct_command *command, const char *word, struct oct_buffer *out);

// A count with an optional suffix, as vLLM reads it: k m g t are powers of 1,000, K M G T powers of 1,024. False: not a whole number, or
// more than `max`.
bool oct_human_number(const char *text, uint64_t max, uint64_t *out);
