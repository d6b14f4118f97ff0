// openai_response.h: the parts that the answers of both endpoints share: ids, heads of answers and chunks, usage, token texts.
#pragma once

#include "server/generation.h"
#include "server/json_writer.h"

enum { OCT_ID_SIZE = 40 };
// prefix and 16 random hexadecimal digits.
void oct_new_id(const char *prefix, char id[OCT_ID_SIZE]);

// {"id","object","created","model" and the open key "choices": the caller writes the array and closes the object.
void oct_write_answer_head(const struct oct_generation *generation, struct oct_json_writer *writer, const char *object);

enum oct_usage_style {
    OCT_USAGE_FULL,       // every null written: whole answers
    OCT_USAGE_CHUNK,      // nulls left out: completions' chunks, and the usage chunk of both
    OCT_USAGE_CHAT_CHUNK, // chat's continuous usage, which has completion_tokens_details
};
// The key "usage" and its object. cached_tokens < 0: not told.
void oct_write_usage(struct oct_json_writer *writer, enum oct_usage_style style, int prompt_tokens, int completion_tokens,
                     int cached_tokens);
// "usage" of one choice so far, where the client asked for continuous usage; otherwise nothing.
void oct_write_continuous_usage(const struct oct_choice *choice, struct oct_json_writer *writer, enum oct_usage_style style);

const char *oct_finish_reason(enum oct_finish finish);                                       // NULL: still running
void oct_write_stop_reason(const struct oct_choice *choice, struct oct_json_writer *writer); // the value
void oct_write_ids(struct oct_json_writer *writer, const int32_t *ids, size_t count);        // an array
// The unsent token ids of a choice where they were asked for, else null.
void oct_write_token_ids(const struct oct_choice *choice, struct oct_json_writer *writer);

// The text of one token as vLLM prints it: "" for a piece of a UTF-8 character, and the whole character for its last piece. `sampled`:
// the token becomes part of the text; otherwise it is only looked at as if it were. *text is emptied first.
void oct_token_text(struct oct_choice *choice, int32_t id, bool sampled, struct oct_buffer *text);
// The same, or "token_id:5" where return_tokens_as_token_ids asks for it.
void oct_token_name(struct oct_choice *choice, int32_t id, bool sampled, struct oct_buffer *name);
double oct_printed_logprob(float logprob); // vLLM writes -inf as -9999.0

// The keys that vLLM's answers end with and that Octavo never has a value for, as nulls.
void oct_write_absent_tail(struct oct_json_writer *writer);
