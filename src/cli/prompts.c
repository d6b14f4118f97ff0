// prompts.c: from prompts and messages to tokens, and from those to batches.
#include "cli/prompts.h"

#include "api/chat_input.h"
#include "base/memory.h"
#include "cli/dataset.h"

#include <stdlib.h>
#include <string.h>

// For a model without a chat template: the contents, one after the other, as the calibration scripts join them.
static void encode_contents(const struct oct_tokenizer *tokenizer, const json_t *messages, struct oct_ids *ids) {
    struct oct_buffer text = {0};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *content = json_string_value(json_object_get(json_array_get(messages, i), "content"));
        if (content) oct_buffer_printf(&text, "%s%s", text.length ? ". " : "", content);
    }
    oct_encode(tokenizer, text.data ? text.data : "", text.length, OCT_ENCODE_ADD_SPECIAL, ids);
    oct_buffer_free(&text);
}

static oct_status encode_prompt(const struct oct_session *session, const struct oct_prompt *prompt, struct oct_ids *ids, oct_error *err) {
    const struct oct_tokenizer *tokenizer = session->text.tokenizer;
    if (prompt->text) {
        oct_encode(tokenizer, prompt->text, strlen(prompt->text), OCT_ENCODE_ADD_SPECIAL, ids);
        return OCT_OK;
    }
    if (!session->text.chat && session->text.chat_problem.code != OCT_NOT_FOUND) {
        *err = session->text.chat_problem;
        return err->code;
    }
    if (!session->text.chat) {
        encode_contents(tokenizer, prompt->messages, ids);
        return OCT_OK;
    }
    const struct oct_chat_input input = {
        .messages = prompt->messages,
        .add_generation_prompt = true, // the ranges should hold for what a server sees, which ends so
    };
    struct oct_chat_prompt rendered = {0};
    OCT_TRY(oct_chat_input_render(&session->text, &input, &rendered, err));
    oct_chat_encode(tokenizer, &rendered, 0, ids);
    oct_chat_prompt_free(&rendered);
    return OCT_OK;
}

static oct_status encode_dataset(const struct oct_session *session, const char *path, const struct oct_dataset *dataset, int max_tokens,
                                 struct oct_prompts *out, oct_error *err) {
    out->items = oct_alloc(dataset->count, sizeof *out->items, "tokenized prompts");
    for (size_t i = 0; i < dataset->count; i++) {
        struct oct_ids ids = {0};
        oct_status status = encode_prompt(session, &dataset->prompts[i], &ids, err);
        if (status == OCT_OK) status = oct_session_check_tokens(session, &ids, err);
        if (status != OCT_OK || ids.count == 0) {
            free(ids.data);
            OCT_TRY(status);
            continue;
        }
        if (ids.count > (size_t)max_tokens) ids.count = (size_t)max_tokens;
        out->items[out->count++] = ids;
        out->tokens += ids.count;
        if ((int)ids.count > out->longest) out->longest = (int)ids.count;
    }
    if (out->count == 0) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: the dataset has no prompt with any token in it", path);
    return OCT_OK;
}

oct_status oct_prompts_read(const struct oct_session *session, const char *path, size_t limit, int max_tokens, struct oct_prompts *out,
                            oct_error *err) {
    struct oct_dataset dataset;
    OCT_TRY(oct_dataset_read(path, limit, &dataset, err));
    int most = oct_checkpoint_config(session->checkpoint)->max_position_embeddings;
    oct_status status = encode_dataset(session, path, &dataset, max_tokens < most ? max_tokens : most, out, err);
    oct_dataset_free(&dataset);
    return status;
}

void oct_prompts_free(struct oct_prompts *prompts) {
    for (size_t i = 0; i < prompts->count; i++) free(prompts->items[i].data);
    free(prompts->items);
    *prompts = (struct oct_prompts){0};
}

int oct_prompts_batch(const struct oct_prompts *prompts, size_t next, int max_tokens, const struct oct_runner *runner,
                      struct oct_stretch *stretches) {
    int count = 0, rows = 0;
    for (size_t i = next; i < prompts->count && count < runner->max_seqs; i++) {
        int tokens = prompts->items[i].count < (size_t)max_tokens ? (int)prompts->items[i].count : max_tokens;
        if (tokens > runner->max_rows - rows) break;
        stretches[count++] = (struct oct_stretch){prompts->items[i].data, tokens, 0};
        rows += tokens;
    }
    return count;
}
