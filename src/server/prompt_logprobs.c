// prompt_logprobs.c: one object a token, {"id": {"logprob", "rank", "decoded_token"}}: the token's own first, then the best ones.
#include "server/prompt_logprobs.h"

#include "server/openai_response.h"

#include <stdio.h>

static void write_entry(struct oct_choice *choice, const oct_token_logprob *logprob, struct oct_json_writer *writer) {
    struct oct_buffer text = {0};
    char id[16];
    snprintf(id, sizeof id, "%d", logprob->id);
    oct_json_key(writer, id);
    oct_json_open(writer, '{');
    oct_json_key(writer, "logprob");
    oct_json_real(writer, oct_printed_logprob(logprob->logprob));
    oct_json_key(writer, "rank");
    oct_json_integer(writer, logprob->rank);
    oct_json_key(writer, "decoded_token");
    oct_token_text(choice, logprob->id, false, &text);
    oct_json_string(writer, text.data ? text.data : "", text.length);
    oct_json_close(writer, '}');
    oct_buffer_free(&text);
}

static void write_token(struct oct_choice *choice, const oct_token_logprob *row, size_t count) {
    struct oct_json_writer *writer = &choice->prompt_logprobs;
    oct_json_open(writer, '{');
    for (size_t i = 0; i < count; i++)
        if (i == 0 || row[i].id != row[0].id) write_entry(choice, &row[i], writer);
    oct_json_close(writer, '}');
}

void oct_take_prompt_logprobs(struct oct_choice *choice, const oct_delta *delta) {
    const struct oct_generation *generation = choice->generation;
    const struct oct_prompt *prompt = &generation->prompts[choice->prompt];
    size_t width = delta->num_prompt_logprobs, shown = delta->num_logprobs < width ? delta->num_logprobs : width;
    if (!delta->prompt_logprobs) return;
    bool echoed = generation->request.echo && generation->endpoint->add_echoed_token;
    struct oct_buffer text = {0};
    oct_json_null(&choice->prompt_logprobs); // nothing comes before the first token
    if (echoed) generation->endpoint->add_echoed_token(choice, prompt->ids[0]);
    if (!echoed) oct_token_text(choice, prompt->ids[0], true, &text);
    for (size_t i = 1; i < prompt->num_ids; i++) {
        const oct_token_logprob *row = delta->prompt_logprobs + (i - 1) * width;
        write_token(choice, row, width);
        if (echoed && shown > 0) generation->endpoint->add_logprob(choice, row, shown);
        if (!echoed) oct_token_text(choice, row[0].id, true, &text); // characters of several tokens go on
    }
    if (!echoed) choice->num_pieces = 0;
    oct_buffer_free(&text);
}

void oct_write_prompt_logprobs(const struct oct_choice *choice, struct oct_json_writer *writer) {
    const struct oct_buffer *list = &choice->prompt_logprobs.out;
    if (list->length == 0) return oct_json_null(writer);
    oct_json_open(writer, '[');
    oct_json_raw(writer, list->data, list->length);
    oct_json_close(writer, ']');
}
