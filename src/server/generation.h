// generation.h: one POST from body to last byte, to /v1/completions, /v1/chat/completions or the endpoints of tokenize.c. A text thread
// reads it and makes token ids; then each of its choices is one request of the engine, whose deltas are gathered into a whole answer or
// sent on as a stream.
//
// Life: prepared on a text thread -> requests submitted -> deltas arrive by the mailbox -> answered. When the client leaves earlier, the
// requests are cancelled, and the generation goes when the engine has let go of the last of them, without the loop ever waiting.
#pragma once

#include "server/api_error.h"
#include "server/openai_request.h"
#include "server/serving.h"

struct oct_prompt {
    int32_t *ids; // (num_ids) owned
    size_t num_ids;
    struct oct_buffer echo; // the prompt's text where echo was asked for
    oct_sampling_params params;
};

enum { OCT_MAX_PIECES = 3 };

struct oct_choice {
    struct oct_mail ready; // posted by the engine's thread
    struct oct_generation *generation;
    oct_request *request; // NULL before it is submitted and after its last delta
    int index;            // in the answer
    size_t prompt;        // index of its prompt
    int completion_tokens, cached_tokens;
    oct_finish finish;
    char *stop_string;  // the one that ended it, or NULL. Owned
    int32_t stop_token; // the one of stop_token_ids that ended it, or -1
    bool opened;        // a chunk of it has been sent
    // Since the last chunk; in a whole answer, everything.
    struct oct_buffer text, ids; // ids: int32_t each
    size_t num_tokens;
    struct oct_json_writer prompt_logprobs; // a list of JSON values, without brackets
    struct oct_json_writer logprobs[4];     // lists of JSON values, without brackets: what they hold is the endpoint's business
    // For the texts of single tokens.
    size_t printed_characters;      // of all tokens so far: text_offset
    int32_t pieces[OCT_MAX_PIECES]; // (num_pieces) last tokens that are the start of a UTF-8 character
    size_t num_pieces;
};

struct oct_endpoint {
    enum oct_endpoint_set set;
    const char *id_prefix, *object, *chunk_object;
    // On a text thread, for an endpoint that needs no engine: writes the whole answer. NULL where choices are generated, by the rest.
    bool (*answer)(struct oct_generation *generation, struct oct_json_writer *writer);
    // Both run on a text thread. First the prompt's form is checked, then, after the other parameters, it is made into token ids.
    bool (*check)(struct oct_generation *generation);
    bool (*tokenize)(struct oct_generation *generation);
    // Adds one token to choice->logprobs. row: (count) the sampled token, then the best.
    void (*add_logprob)(struct oct_choice *choice, const oct_token_logprob *row, size_t count);
    // The same for the prompt's first token, which has no log-probability. NULL: the endpoint echoes no tokens.
    void (*add_echoed_token)(struct oct_choice *choice, int32_t id);
    void (*send_chunk)(struct oct_choice *choice);
    void (*write_choices)(struct oct_generation *generation, struct oct_json_writer *writer); // of a whole answer: the array's members
    void (*write_tail)(struct oct_generation *generation, struct oct_json_writer *writer);    // its keys after "usage"
};
extern const struct oct_endpoint oct_completions_endpoint, oct_chat_endpoint, oct_tokenize_endpoint, oct_detokenize_endpoint;

struct oct_generation {
    TAILQ_ENTRY(oct_generation) link;
    struct oct_serving *serving;
    const struct oct_endpoint *endpoint;
    struct oct_connection *connection; // NULL once the client has left or the answer is complete
    struct oct_text_job job;
    bool preparing;         // the job is not done: the text thread owns what it fills
    struct oct_buffer body; // of the request, then of an endpoint's `answer`
    size_t counted_bytes;   // of the request's body, until it has been read
    struct oct_openai_request request;
    struct oct_buffer id; // "cmpl-..."
    char *role;           // of a chat answer; owned, NULL: "assistant"
    int64_t created;      // seconds since 1970
    struct oct_api_error error;
    struct oct_prompt *prompts; // (num_prompts) owned
    size_t num_prompts;
    struct oct_choice *choices;                   // (num_choices) prompt-major; owned
    size_t num_choices, num_unfinished, num_live; // choices without a finish; requests the engine still has
    bool streaming;                               // the head of the stream has been sent
    bool score_only;                              // echo with max_tokens 0: the one token that is generated is not shown
    struct event *keep_alive;                     // NULL: no comments
};

void oct_serve_completions(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_chat_completions(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_tokenize(struct oct_serving *serving, struct oct_connection *connection);
void oct_serve_detokenize(struct oct_serving *serving, struct oct_connection *connection);

// Asks the engine to stop working on every request; the clients get what there is.
void oct_generations_abort(struct oct_serving *serving);
// Frees them all, waiting for the engine. The text pool must be closed, the connections are not used.
void oct_generations_free(struct oct_serving *serving);

// For endpoints, on a text thread. The model is one of the served, or an error.
bool oct_check_model(struct oct_generation *generation);
// Makes prompt `index` from text, or takes ids over.
bool oct_prompt_from_text(struct oct_generation *generation, size_t index, const char *text, size_t length);
// Truncates as asked and checks the length. The last step for every prompt.
bool oct_prompt_finish(struct oct_generation *generation, size_t index);
// The text could not fit whatever its tokens are: refused before tokenizing it.
bool oct_prompt_check_length(struct oct_generation *generation, const char *text, size_t length);
