// main.c: picks the subcommand, parses its flags, runs it, and reports an error as one line and an exit status:
// 0 done, 1 failed, 2 the command line was wrong, 130 interrupted.
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/suggest.h"
#include "octavo.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct oct_command *const commands[] = {
    &oct_command_serve,  &oct_command_chat,     &oct_command_generate, &oct_command_calibrate, &oct_command_quantize, &oct_command_tune,
    &oct_command_eval,   &oct_command_inspect,  &oct_command_report,   &oct_command_diff,      &oct_command_scales,   &oct_command_unify,
    &oct_command_expand, &oct_command_tokenize, &oct_command_render,   &oct_command_bench,
};
enum { NUM_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *file) {
    fprintf(file, "Usage: octavo COMMAND [arguments]\n\n"
                  "Calibrates, quantizes and serves Llama-family models in FP8 on CPUs.\n\nCommands:\n");
    for (int i = 0; i < NUM_COMMANDS; i++) fprintf(file, "  %-10s  %s\n", commands[i]->name, commands[i]->summary);
    fprintf(file, "\n\"octavo COMMAND --help\" lists a command's flags. \"octavo --version\" prints the version.\n"
                  "A MODEL is a Hugging Face folder, a .gguf file, or \"smollm2\" for the small default model.\n");
}

static const struct oct_command *find_command(const char *name) {
    for (int i = 0; i < NUM_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name)) return commands[i];
    return NULL;
}

static int fail_unknown_command(const char *name) {
    struct oct_suggestion suggestion = {.word = name};
    for (int i = 0; i < NUM_COMMANDS; i++) oct_suggest(&suggestion, commands[i]->name);
    fprintf(stderr, "octavo: unknown command \"%s\"", name);
    if (suggestion.best)
        fprintf(stderr, "; did you mean \"%s\"?\n", suggestion.best);
    else
        fprintf(stderr, "; \"octavo --help\" lists the commands\n");
    return 2;
}

static int exit_code(oct_status status) {
    switch (status) {
    case OCT_OK:
        return 0;
    case OCT_INVALID_ARGUMENT:
        return 2;
    case OCT_CANCELLED:
        return 128 + SIGINT;
    default:
        return 1;
    }
}

static bool reader_has_left(void) {
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&output, 1, 0) == 1 && (output.revents & POLLERR);
}

static int run_command(const struct oct_command *command, int argc, char **argv) {
    void *options = oct_alloc(1, command->options_size, "the options of a command");
    const char *help;
    oct_error err;
    oct_status status = oct_flags_parse(command, argc, argv, options, &help, &err);
    if (status == OCT_OK && help) {
        struct oct_buffer text = {0};
        oct_flags_help(command, help, &text);
        fputs(text.data, stdout);
        oct_buffer_free(&text);
    } else if (status == OCT_OK) {
        status = command->run(options, &err);
    }
    // A full disk must not pass for a complete report; a reader that left, as `head` does, has what it wanted.
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (status == OCT_OK && !written && !reader_has_left())
        status = oct_fail(&err, OCT_IO, "standard output could not be written to the end");
    if (status != OCT_OK) fprintf(stderr, "octavo %s: %s\n", command->name, err.message);
    oct_flags_free(command, options);
    free(options);
    return exit_code(status);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); // a reader that goes away is a failed write, so that engines still close and keep their measurements
    signal(SIGXFSZ, SIG_IGN); // nor does a limit on the size of files end the program in the middle of one
    const char *name = argc > 1 ? argv[1] : "";
    if (!*name) return print_help(stderr), 2;
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) return print_help(stdout), 0;
    if (!strcmp(name, "--version") || !strcmp(name, "-v")) return printf("octavo %s\n", oct_version()), 0;
    if (!strcmp(name, "help")) {
        if (argc == 2) return print_help(stdout), 0;
        const struct oct_command *command = find_command(argv[2]);
        char flag[] = "--help";
        return command ? run_command(command, 1, (char *[]){flag}) : fail_unknown_command(argv[2]);
    }
    const struct oct_command *command = find_command(name);
    return command ? run_command(command, argc - 2, argv + 2) : fail_unknown_command(name);
}
