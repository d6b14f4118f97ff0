// tokenize.c: `octavo tokenize`: what a model's tokenizer makes of a text.
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/prompt_input.h"
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>

struct tokenize_options {
    const char *model, *text, *file;
    bool ids, pieces, offsets, add_special_tokens, special;
};

#define FIELD(name) offsetof(struct tokenize_options, name)

static const struct oct_flag flags[] = {
    {.name = "text", .type = OCT_FLAG_STRING, .offset = FIELD(text), .help = "the text"},
    {.name = "file",
     .short_name = "f",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(file),
     .metavar = "FILE",
     .help = "read the text from this file; - is standard input"},
    {.name = "ids", .type = OCT_FLAG_BOOL, .offset = FIELD(ids), .help = "print the ids alone, as a JSON array"},
    {.name = "pieces", .type = OCT_FLAG_BOOL, .offset = FIELD(pieces), .help = "print the text of each token alone, as a JSON array"},
    {.name = "offsets",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(offsets),
     .help =
         "print where each token is in the text, start and end in bytes, as a JSON array of pairs; with --ids and --pieces, as a column"},
    {.name = "add-special-tokens",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(add_special_tokens),
     .initial = "true",
     .help = "put BOS and EOS where the tokenizer does"},
    {.name = "special",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(special),
     .initial = "true",
     .help = "take special tokens in the text for what they name; else they are ordinary text"},
    {0},
};

// The bytes of one token as a JSON string; those that are no UTF-8 alone become U+FFFD.
static json_t *piece_of(const struct oct_tokenizer *tokenizer, int32_t id) {
    struct oct_buffer text = {0};
    struct oct_decode_stream stream = {0};
    oct_decode_stream_push(tokenizer, &stream, id, &text);
    oct_decode_stream_flush(tokenizer, &stream, &text);
    oct_decode_stream_free(&stream);
    json_t *piece = json_stringn(text.data ? text.data : "", text.length);
    oct_buffer_free(&text);
    return piece ? piece : json_string("\xef\xbf\xbd");
}

static void print_json(json_t *array) {
    json_dumpf(array, stdout, JSON_ENCODE_ANY);
    putchar('\n');
    json_decref(array);
}

static void print_ids(const struct oct_ids *ids) {
    json_t *array = json_array();
    for (size_t i = 0; i < ids->count; i++) json_array_append_new(array, json_integer(ids->data[i]));
    print_json(array);
}

static void print_pieces(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids) {
    json_t *array = json_array();
    for (size_t i = 0; i < ids->count; i++) json_array_append_new(array, piece_of(tokenizer, ids->data[i]));
    print_json(array);
}

static void print_offsets(const struct oct_ranges *offsets) {
    json_t *array = json_array();
    for (size_t i = 0; i < offsets->count; i++)
        json_array_append_new(array, json_pack("[II]", (json_int_t)offsets->data[i].start, (json_int_t)offsets->data[i].end));
    print_json(array);
}

// offsets: NULL or one for each id.
static void print_table(const struct oct_tokenizer *tokenizer, const struct oct_ids *ids, const struct oct_range *offsets) {
    for (size_t i = 0; i < ids->count; i++) {
        printf("%7d  ", (int)ids->data[i]);
        if (offsets) printf("%7zu %7zu  ", offsets[i].start, offsets[i].end);
        print_json(piece_of(tokenizer, ids->data[i]));
    }
}

static oct_status tokenize(const struct tokenize_options *options, struct oct_session *session, const struct oct_buffer *text,
                           oct_error *err) {
    OCT_TRY(oct_session_open_files(options->model, NULL, session, err));
    int how = (options->add_special_tokens ? OCT_ENCODE_ADD_SPECIAL : 0) | (options->special ? 0 : OCT_ENCODE_PLAIN);
    struct oct_ids ids = {0};
    struct oct_ranges offsets = {0};
    struct oct_span span = {.text = text->data ? text->data : "", .length = text->length};
    if (options->offsets)
        oct_encode_with_offsets(session->text.tokenizer, span, how, &ids, &offsets);
    else
        oct_encode(session->text.tokenizer, span.text, span.length, how, &ids);
    int asked = options->ids + options->pieces + options->offsets;
    if (asked == 1 && options->ids)
        print_ids(&ids);
    else if (asked == 1 && options->pieces)
        print_pieces(session->text.tokenizer, &ids);
    else if (asked == 1)
        print_offsets(&offsets);
    else
        print_table(session->text.tokenizer, &ids, options->offsets ? offsets.data : NULL);
    free(ids.data);
    free(offsets.data);
    return OCT_OK;
}

static oct_status run(const void *given, oct_error *err) {
    const struct tokenize_options *options = given;
    struct oct_buffer text = {0};
    struct oct_session session = {0};
    oct_status status = oct_prompt_input_read("text", options->text, options->file, &text, err);
    if (status == OCT_OK) status = tokenize(options, &session, &text, err);
    oct_session_close(&session);
    oct_buffer_free(&text);
    return status;
}

const struct oct_command oct_command_tokenize = {
    .name = "tokenize",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "show what the tokenizer makes of a text",
    .details = "A line a token: its id and its text. With --ids, --pieces or --offsets alone, one JSON array.",
    .options_size = sizeof(struct tokenize_options),
    .groups = {{"Options", flags, 0}},
    .run = run,
};
