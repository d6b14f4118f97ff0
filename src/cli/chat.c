// chat.c: `octavo chat`: a conversation on the terminal, or with lines from a pipe. The history is a JSON array of messages; every
// turn renders and tokenizes it whole.
#include "base/buffer.h"
#include "base/json.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/interrupt.h"
#include "cli/sampling_flags.h"
#include "cli/stream.h"
#include "cli/suggest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

struct chat_options {
    const char *model, *system;
    bool stats;
    struct oct_sampling_flags sampling;
    struct oct_chat_flags chat;
    struct oct_engine_flags engine;
    struct oct_ignored_flags ignored;
};

#define FIELD(name) offsetof(struct chat_options, name)

static const struct oct_flag flags[] = {
    {.name = "system", .short_name = "s", .type = OCT_FLAG_STRING, .offset = FIELD(system), .help = "the system message"},
    {.name = "stats", .type = OCT_FLAG_BOOL, .offset = FIELD(stats), .help = "say tokens and speed after each answer"},
    {0},
};

struct chat {
    oct_engine *engine;
    const struct chat_options *options;
    bool terminal;    // somebody sits there
    json_t *messages; // array of {"role", "content"}. Owned
    int max_model_len;
};

// Appends text with every byte that is not UTF-8 replaced by U+FFFD: JSON takes nothing else.
static void append_utf8(struct oct_buffer *out, const char *line, size_t length) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)line;
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t n = utf8proc_iterate(bytes + at, (utf8proc_ssize_t)(length - at), &codepoint);
        if (n > 0)
            oct_buffer_append(out, line + at, (size_t)n);
        else
            oct_buffer_puts(out, "\xef\xbf\xbd");
        at += n > 0 ? (size_t)n : 1;
    }
}

static void add_message(struct chat *chat, const char *role, const struct oct_buffer *text) {
    json_array_append_new(chat->messages,
                          json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text->data ? text->data : "", text->length)));
}

static void reset(struct chat *chat) {
    json_array_clear(chat->messages);
    if (!chat->options->system) return;
    struct oct_buffer text = {0};
    append_utf8(&text, chat->options->system, strlen(chat->options->system));
    add_message(chat, "system", &text);
    oct_buffer_free(&text);
}

// --- lines ------------------------------------------------------------------------------------------------------------------------

enum line_outcome { LINE_READ, LINE_INTERRUPTED, LINE_END };

// One message: a line, or several joined where a line ends in a backslash.
static enum line_outcome read_message(struct chat *chat, struct oct_buffer *text) {
    char *line = NULL;
    size_t capacity = 0;
    enum line_outcome outcome = LINE_READ;
    for (bool more = true, first = true; more; first = false) {
        if (chat->terminal) fputs(first ? "> " : "  ", stdout);
        fflush(stdout);
        // A terminal hands over one line at a time, so that nothing waits in stdin's buffer while its descriptor is asked.
        bool ready = !chat->terminal || oct_interrupt_wait(STDIN_FILENO);
        ssize_t length = ready ? getline(&line, &capacity, stdin) : -1;
        if (length < 0) {
            outcome = oct_interrupted() ? LINE_INTERRUPTED : LINE_END;
            clearerr(stdin);
            break;
        }
        if (length && line[length - 1] == '\n') length--;
        if (length && line[length - 1] == '\r') length--;
        more = length && line[length - 1] == '\\';
        append_utf8(text, line, (size_t)(more ? length - 1 : length));
        if (more) oct_buffer_puts(text, "\n");
    }
    free(line);
    return outcome;
}

// --- commands ---------------------------------------------------------------------------------------------------------------------

static const char *const words[] = {"/help", "/reset", "/exit"};

static void print_chat_help(void) {
    fputs("/help   this text\n/reset  forget the conversation\n/exit   leave (as Ctrl-D does)\n"
          "Ctrl-C  stop the answer\nA line that ends in \\ goes on in the next line.\n",
          stderr);
}

// A single word that starts with a slash is a command; anything else is a message.
static bool is_command(const char *text) {
    return text[0] == '/' && !strpbrk(text, " \t\n") && !strchr(text + 1, '/');
}

// False: leave.
static bool obey(struct chat *chat, const char *word) {
    if (!strcmp(word, "/exit")) return false;
    if (!strcmp(word, "/help")) {
        print_chat_help();
    } else if (!strcmp(word, "/reset")) {
        reset(chat);
        fputs("The conversation starts anew.\n", stderr);
    } else {
        struct oct_suggestion suggestion = {.word = word};
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) oct_suggest(&suggestion, words[i]);
        fprintf(stderr, "%s is not a command; %s\n", word, suggestion.best ? suggestion.best : "/help lists them");
    }
    return true;
}

// --- turns ------------------------------------------------------------------------------------------------------------------------

static bool drop_oldest_turn(json_t *messages) {
    const json_t *first = json_array_get(messages, 0);
    size_t start = !strcmp(json_string_value(json_object_get(first, "role")), "system");
    if (json_array_size(messages) < start + 3) return false; // only the newest message is left
    json_array_remove(messages, start);
    json_array_remove(messages, start);
    return true;
}

// The conversation's tokens, with the oldest turns dropped until a quarter of the context is free for the answer.
static oct_status fitting_tokens(struct chat *chat, int32_t **ids, size_t *count, oct_error *err) {
    const struct oct_chat_flags *chat_flags = &chat->options->chat;
    const oct_chat_options options = {
        .add_generation_prompt = true,
        .template_kwargs_json = chat_flags->template_kwargs,
        .content_format = chat_flags->content_format,
        .allow_special_tokens_in_messages = chat_flags->allow_special_tokens_in_messages,
    };
    for (bool dropped = false;; dropped = true) {
        char *json = json_dumps(chat->messages, JSON_COMPACT);
        oct_status status = oct_chat_tokens(chat->engine, json, &options, ids, count, err);
        free(json);
        OCT_TRY(status);
        if (*count <= (size_t)chat->max_model_len / 4 * 3 || !drop_oldest_turn(chat->messages)) {
            if (dropped) fputs("(The oldest messages no longer fit and were forgotten.)\n", stderr);
            return OCT_OK;
        }
        oct_free(*ids);
    }
}

static oct_status answer(struct chat *chat, oct_error *err) {
    int32_t *ids;
    size_t count;
    OCT_TRY(fitting_tokens(chat, &ids, &count, err));
    oct_sampling_params params = oct_sampling_flags_params(&chat->options->sampling);
    struct oct_buffer text = {0};
    struct oct_stream_result result;
    oct_status status = oct_stream(chat->engine, ids, count, &params, &text, &result, err);
    oct_free(ids);
    if (status == OCT_OK) {
        add_message(chat, "assistant", &text);
        putchar('\n');
        fflush(stdout);
        if (chat->options->stats)
            fprintf(stderr, "%d prompt tokens (%d cached), %d tokens, %.1f tokens/s\n", result.prompt_tokens, result.cached_tokens,
                    result.completion_tokens, result.decode_seconds > 0 ? (result.completion_tokens - 1) / result.decode_seconds : 0);
    }
    oct_buffer_free(&text);
    return status;
}

// What a request may fail with although the conversation can go on.
static bool is_turns_own(oct_status status) {
    return status == OCT_INVALID_ARGUMENT || status == OCT_INTERNAL || status == OCT_UNSUPPORTED;
}

static oct_status take_turn(struct chat *chat, const struct oct_buffer *text, oct_error *err) {
    add_message(chat, "user", text);
    oct_error turn;
    oct_status status = answer(chat, &turn);
    if (status == OCT_OK) return OCT_OK;
    json_array_remove(chat->messages, json_array_size(chat->messages) - 1);
    if (chat->terminal && is_turns_own(status)) {
        fprintf(stderr, "%s\n", turn.message);
        return OCT_OK;
    }
    *err = turn;
    return status;
}

static oct_status converse(struct chat *chat, oct_error *err) {
    if (chat->terminal) fputs("/help lists the commands, Ctrl-D leaves.\n", stderr);
    for (;;) {
        struct oct_buffer text = {0};
        enum line_outcome outcome = read_message(chat, &text);
        bool again = true;
        oct_status status = OCT_OK;
        if (outcome == LINE_INTERRUPTED) {
            if (!chat->terminal)
                status = oct_fail(err, OCT_CANCELLED, "interrupted");
            else
                fputs("\n(Ctrl-D or /exit leaves.)\n", stderr);
        } else if (outcome == LINE_END) {
            again = false;
        } else if (text.length && is_command(text.data)) {
            again = obey(chat, text.data);
        } else if (text.length) {
            status = take_turn(chat, &text, err);
            if (status == OCT_OK && oct_interrupted() && !chat->terminal) status = oct_fail(err, OCT_CANCELLED, "interrupted");
        }
        oct_buffer_free(&text);
        if (status != OCT_OK) return status;
        oct_interrupt_clear();
        if (!again) break;
    }
    if (chat->terminal) putchar('\n');
    return OCT_OK;
}

static oct_status open_engine(const struct chat_options *options, oct_engine **engine, oct_error *err) {
    struct oct_engine_flags engine_flags = options->engine;
    if (engine_flags.max_num_seqs == 0) engine_flags.max_num_seqs = 1; // KV blocks for one sequence
    return oct_engine_flags_open(&engine_flags, options->model, engine, err);
}

static oct_status run(const void *given, oct_error *err) {
    const struct chat_options *options = given;
    OCT_TRY(oct_chat_flags_check(&options->chat, err));
    oct_interrupt_catch();
    struct chat chat = {.options = options, .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    OCT_TRY(open_engine(options, &chat.engine, err));
    oct_engine_info info;
    oct_engine_get_info(chat.engine, &info);
    chat.max_model_len = info.max_model_len;
    chat.messages = json_array();
    reset(&chat);
    if (chat.terminal) fprintf(stderr, "%s: %s\n", info.model, info.description);
    oct_status status = converse(&chat, err);
    json_decref(chat.messages);
    return oct_engine_flags_close(&options->engine, chat.engine, status, err);
}

const struct oct_command oct_command_chat = {
    .name = "chat",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "talk with a model on the terminal",
    .details = "  octavo chat smollm2 --system \"Answer in one sentence.\"\n"
               "  printf 'What is FP8?\\n' | octavo chat smollm2\n",
    .options_size = sizeof(struct chat_options),
    .groups = {{"Conversation", flags, 0},
               {"Sampling", oct_sampling_flag_table, FIELD(sampling)},
               {"Chat template", oct_chat_flag_table, FIELD(chat)},
               {"Model", oct_model_flag_table, FIELD(engine)},
               {"Engine", oct_engine_flag_table, FIELD(engine)},
               {"Accepted without effect", oct_ignored_flag_table, FIELD(ignored)}},
    .run = run,
};
