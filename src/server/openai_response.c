// openai_response.c: the parts that completions and chat answers share.
#include "server/openai_response.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void oct_new_id(const char *prefix, char id[OCT_ID_SIZE]) {
    uint64_t bits;
    OCT_CHECK(getrandom(&bits, sizeof bits, 0) == sizeof bits);
    snprintf(id, OCT_ID_SIZE, "%s%016llx", prefix, (unsigned long long)bits);
}

void oct_write_answer_head(const struct oct_generation *generation, struct oct_json_writer *writer, const char *object) {
    oct_json_open(writer, '{');
    oct_json_key(writer, "id");
    oct_json_text(writer, generation->id.data);
    oct_json_key(writer, "object");
    oct_json_text(writer, object);
    oct_json_key(writer, "created");
    oct_json_integer(writer, generation->created);
    oct_json_key(writer, "model");
    oct_json_text(writer, generation->serving->model);
    oct_json_key(writer, "choices");
}

void oct_write_usage(struct oct_json_writer *writer, enum oct_usage_style style, int prompt_tokens, int completion_tokens,
                     int cached_tokens) {
    oct_json_key(writer, "usage");
    oct_json_open(writer, '{');
    oct_json_key(writer, "prompt_tokens");
    oct_json_integer(writer, prompt_tokens);
    oct_json_key(writer, "total_tokens");
    oct_json_integer(writer, (int64_t)prompt_tokens + completion_tokens);
    oct_json_key(writer, "completion_tokens");
    oct_json_integer(writer, completion_tokens);
    if (cached_tokens >= 0) {
        oct_json_key(writer, "prompt_tokens_details");
        oct_json_open(writer, '{');
        oct_json_key(writer, "cached_tokens");
        oct_json_integer(writer, cached_tokens);
        if (style == OCT_USAGE_FULL) {
            oct_json_key(writer, "created_cache_tokens");
            oct_json_null(writer);
            oct_json_key(writer, "multimodal_tokens");
            oct_json_null(writer);
        }
        oct_json_close(writer, '}');
    } else if (style == OCT_USAGE_FULL) {
        oct_json_key(writer, "prompt_tokens_details");
        oct_json_null(writer);
    }
    if (style != OCT_USAGE_CHUNK) {
        oct_json_key(writer, "completion_tokens_details");
        oct_json_null(writer);
    }
    oct_json_close(writer, '}');
}

void oct_write_continuous_usage(const struct oct_choice *choice, struct oct_json_writer *writer, enum oct_usage_style style) {
    const struct oct_generation *generation = choice->generation;
    if (!generation->request.continuous_usage) return;
    oct_write_usage(writer, style, (int)generation->prompts[choice->prompt].num_ids, choice->completion_tokens, -1);
}

const char *oct_finish_reason(enum oct_finish finish) {
    static const char *const names[] = {NULL, "stop", "length", "abort", "error", "repetition"};
    return names[finish];
}

void oct_write_stop_reason(const struct oct_choice *choice, struct oct_json_writer *writer) {
    if (choice->stop_string)
        oct_json_text(writer, choice->stop_string);
    else if (choice->stop_token >= 0)
        oct_json_integer(writer, choice->stop_token);
    else
        oct_json_text(writer, choice->finish == OCT_FINISH_REPETITION ? "repetition_detected" : NULL);
}

void oct_write_ids(struct oct_json_writer *writer, const int32_t *ids, size_t count) {
    oct_json_open(writer, '[');
    for (size_t i = 0; i < count; i++) oct_json_integer(writer, ids[i]);
    oct_json_close(writer, ']');
}

void oct_write_token_ids(const struct oct_choice *choice, struct oct_json_writer *writer) {
    if (choice->generation->request.return_token_ids)
        oct_write_ids(writer, (const int32_t *)(const void *)choice->ids.data, choice->ids.length / sizeof(int32_t));
    else
        oct_json_null(writer);
}

// Does the text end in a character that is not there in full? The engine may show it as bytes or as U+FFFD.
static bool ends_in_a_piece(const char *text, size_t length) {
    if (length >= 3 && !memcmp(text + length - 3, "\xef\xbf\xbd", 3)) return true;
    size_t i = 0;
    while (i < length) {
        size_t n = oct_utf8_length(text + i, length - i);
        if (n == 0) return true;
        i += n;
    }
    return false;
}

void oct_token_text(struct oct_choice *choice, int32_t id, bool sampled, struct oct_buffer *text) {
    const struct oct_generation *generation = choice->generation;
    oct_buffer_free(text);
    oct_buffer_puts(text, "");
    enum { MAX_PIECES = 4 }; // of one character
    int32_t ids[MAX_PIECES];
    size_t count = choice->num_pieces;
    memcpy(ids, choice->pieces, count * sizeof *ids);
    ids[count++] = id;
    char *decoded;
    size_t length;
    oct_error err;
    if (oct_detokenize(generation->serving->engine, ids, count, false, &decoded, &length, &err) != OCT_OK) return;
    bool piece = ends_in_a_piece(decoded, length);
    if (!piece || count == MAX_PIECES) oct_buffer_append(text, decoded, length); // four pieces that are no character never will be
    oct_free(decoded);
    if (!sampled) return;
    choice->num_pieces = piece && count < MAX_PIECES ? count : 0;
    memcpy(choice->pieces, ids, choice->num_pieces * sizeof *ids);
}

void oct_token_name(struct oct_choice *choice, int32_t id, bool sampled, struct oct_buffer *name) {
    if (!choice->generation->request.return_tokens_as_token_ids) return oct_token_text(choice, id, sampled, name);
    oct_buffer_free(name);
    oct_buffer_printf(name, "token_id:%d", id);
}

double oct_printed_logprob(float logprob) {
    return isnan(logprob) || logprob < -9999.0F ? -9999.0 : (double)logprob;
}

void oct_write_absent_tail(struct oct_json_writer *writer) {
    static const char *const keys[] = {"kv_transfer_params", "ec_transfer_params", "metrics"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        oct_json_key(writer, keys[i]);
        oct_json_null(writer);
    }
}
