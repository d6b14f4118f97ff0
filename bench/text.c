// text.c: the C side of `make bench-text`: does what a line on standard input says and answers with a line, so that bench/text.py can run
// it in turn with the reference libraries. Times are CPU seconds of this one thread: other load on the machine weighs less.
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_TEXT_BYTES = 1 << 30, CHUNK_CHARACTERS = 4000 };

struct bench {
    struct oct_tokenizer *tokenizer;
    char *text; // (length)
    size_t length;
    struct oct_ids ids; // of the last encoding
    struct oct_chat_template *chat;
    json_t *messages;
};

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void answer(double since) {
    printf("%.9f\n", cpu_seconds() - since);
}

static oct_status load(struct bench *bench, const char *directory, oct_error *err) {
    oct_tokenizer_free(bench->tokenizer);
    double start = cpu_seconds();
    OCT_TRY(oct_tokenizer_from_directory(directory, &bench->tokenizer, err));
    return answer(start), OCT_OK;
}

static oct_status read_text(struct bench *bench, const char *path, oct_error *err) {
    free(bench->text);
    bench->text = NULL;
    OCT_TRY(oct_file_read(path, MAX_TEXT_BYTES, &bench->text, &bench->length, err));
    printf("%zu\n", bench->length);
    return OCT_OK;
}

// The end of the chunk that begins at `at`.
static size_t chunk_end(const struct bench *bench, size_t at) {
    for (int count = 0; at < bench->length && count < CHUNK_CHARACTERS; count++) {
        do at++;
        while (at < bench->length && ((unsigned char)bench->text[at] & 0xC0) == 0x80);
    }
    return at;
}

static void encode(struct bench *bench, bool in_chunks) {
    double start = cpu_seconds();
    bench->ids.count = 0;
    for (size_t at = 0, end; at < bench->length; at = end) {
        end = in_chunks ? chunk_end(bench, at) : bench->length;
        oct_encode(bench->tokenizer, bench->text + at, end - at, 0, &bench->ids);
    }
    answer(start);
}

static void decode(struct bench *bench) {
    struct oct_buffer text = {0};
    double start = cpu_seconds();
    oct_decode(bench->tokenizer, bench->ids.data, bench->ids.count, 0, &text);
    answer(start);
    oct_buffer_free(&text);
}

static oct_status write_ids(const struct bench *bench, const char *path, oct_error *err) {
    OCT_TRY(oct_file_write(path, bench->ids.data, bench->ids.count * sizeof *bench->ids.data, err));
    printf("%zu\n", bench->ids.count);
    return OCT_OK;
}

static oct_status read_template(struct bench *bench, const char *path, oct_error *err) {
    char *source;
    size_t length;
    OCT_TRY(oct_file_read(path, MAX_TEXT_BYTES, &source, &length, err));
    oct_chat_template_free(bench->chat);
    oct_status status = oct_chat_template_compile(path, source, length, &bench->chat, err);
    free(source);
    if (status == OCT_OK) puts("ok");
    return status;
}

static oct_status read_messages(struct bench *bench, const char *path, oct_error *err) {
    json_decref(bench->messages);
    bench->messages = NULL;
    OCT_TRY(oct_json_load(path, MAX_TEXT_BYTES, &bench->messages, err));
    return puts("ok"), OCT_OK;
}

static oct_status render(const struct bench *bench, oct_error *err) {
    struct oct_chat_context context = {.add_generation_prompt = true, .bos_token = "<|begin_of_text|>", .eos_token = "<|eot_id|>"};
    struct oct_chat_prompt prompt = {0};
    double start = cpu_seconds();
    OCT_TRY(oct_chat_render(bench->chat, bench->messages, &context, &prompt, err));
    answer(start);
    oct_chat_prompt_free(&prompt);
    return OCT_OK;
}

static oct_status obey(struct bench *bench, const char *command, const char *path, oct_error *err) {
    if (!strcmp(command, "load")) return load(bench, path, err);
    if (!strcmp(command, "text")) return read_text(bench, path, err);
    if (!strcmp(command, "encode")) return encode(bench, false), OCT_OK;
    if (!strcmp(command, "encode-chunks")) return encode(bench, true), OCT_OK;
    if (!strcmp(command, "decode")) return decode(bench), OCT_OK;
    if (!strcmp(command, "ids")) return write_ids(bench, path, err);
    if (!strcmp(command, "template")) return read_template(bench, path, err);
    if (!strcmp(command, "messages")) return read_messages(bench, path, err);
    if (!strcmp(command, "render")) return render(bench, err);
    return oct_fail(err, OCT_INVALID_ARGUMENT, "unknown command %s", command);
}

int main(void) {
    struct bench bench = {0};
    char line[4096];
    oct_error err = {0};
    oct_status status = OCT_OK;
    while (status == OCT_OK && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *path = strchr(line, ' ');
        if (path) *path++ = '\0';
        status = obey(&bench, line, path ? path : "", &err);
        fflush(stdout);
    }
    if (status != OCT_OK) fprintf(stderr, "bench: %s\n", err.message);
    oct_tokenizer_free(bench.tokenizer);
    oct_chat_template_free(bench.chat);
    json_decref(bench.messages);
    free(bench.text);
    free(bench.ids.data);
    return status == OCT_OK ? 0 : 1;
}
