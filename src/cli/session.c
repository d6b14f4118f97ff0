// session.c: the model without engine: batches that the caller makes, in blocks that are laid out anew for each.
#include "cli/session.h"

#include "base/memory.h"
#include "model/locate.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_SIZE = 32 }; // tokens of a KV block: the smallest, as blocks are not shared here

oct_status oct_session_open_files(const char *model, const char *chat_template, struct oct_session *out, oct_error *err) {
    OCT_TRY(oct_model_locate(model, &out->path, err));
    OCT_TRY(oct_checkpoint_open(out->path, &out->checkpoint, err));
    return oct_text_source_open(out->checkpoint, out->path, chat_template, &out->text, err);
}

oct_status oct_session_open(const char *model, const struct oct_engine_flags *flags, struct oct_session *out, oct_error *err) {
    OCT_TRY(oct_session_open_files(model, flags->chat_template, out, err));
    return oct_device_open_cpu(flags->threads, &out->device, err);
}

void oct_session_close(struct oct_session *session) {
    oct_text_source_close(&session->text);
    oct_checkpoint_close(session->checkpoint);
    oct_device_close(session->device);
    free(session->path);
    *session = (struct oct_session){0};
}

oct_status oct_session_check_tokens(const struct oct_session *session, const struct oct_ids *ids, oct_error *err) {
    int vocab_size = oct_checkpoint_config(session->checkpoint)->vocab_size;
    for (size_t i = 0; i < ids->count; i++)
        if (ids->data[i] < 0 || ids->data[i] >= vocab_size)
            return oct_fail(err, OCT_CORRUPT, "%s: tokens below the model's vocab_size %d expected, its tokenizer gives %d", session->path,
                            vocab_size, (int)ids->data[i]);
    return OCT_OK;
}

static int blocks_for(int tokens) {
    return (tokens + BLOCK_SIZE - 1) / BLOCK_SIZE;
}

oct_status oct_runner_open(const struct oct_session *session, const struct oct_runner_options *options, struct oct_runner *out,
                           oct_error *err) {
    struct oct_llama_options llama = options->llama;
    llama.max_logit_rows = llama.max_rows;
    OCT_TRY(oct_llama_open(session->checkpoint, session->device, &llama, &out->llama, err));
    out->max_rows = llama.max_rows;
    out->max_seqs = options->max_seqs;
    out->max_blocks = blocks_for(llama.max_positions);
    // One long sequence in stretches, or many short ones that each leave part of a block empty.
    int many = blocks_for(llama.max_rows) + options->max_seqs;
    OCT_TRY(oct_kv_cache_open(out->llama, BLOCK_SIZE, out->max_blocks > many ? out->max_blocks : many, &out->cache, err));
    size_t rows = (size_t)llama.max_rows, seqs = (size_t)options->max_seqs;
    void *logits;
    OCT_TRY(oct_pages_alloc(rows * (size_t)out->llama->config.vocab_size * sizeof(float), "logits", &logits, err));
    out->logits = logits;
    out->tokens = oct_alloc(rows, sizeof(int32_t), "a batch");
    out->positions = oct_alloc(rows, sizeof(int32_t), "a batch");
    out->logit_rows = oct_alloc(rows, sizeof(int32_t), "a batch");
    out->row_starts = oct_alloc(seqs + 1, sizeof(int32_t), "a batch");
    out->block_tables = oct_alloc(seqs * (size_t)out->max_blocks, sizeof(int32_t), "a batch");
    return OCT_OK;
}

void oct_runner_close(struct oct_runner *runner) {
    if (runner->logits) oct_pages_free(runner->logits, (size_t)runner->max_rows * (size_t)runner->llama->config.vocab_size * sizeof(float));
    free(runner->tokens);
    free(runner->positions);
    free(runner->logit_rows);
    free(runner->row_starts);
    free(runner->block_tables);
    oct_kv_cache_close(runner->cache);
    oct_llama_close(runner->llama);
    *runner = (struct oct_runner){0};
}

void oct_runner_forward(struct oct_runner *runner, const struct oct_stretch *stretches, int num_stretches,
                        const struct oct_observer *observer) {
    OCT_CHECK(num_stretches > 0 && num_stretches <= runner->max_seqs);
    int rows = 0, next_block = 0;
    for (int s = 0; s < num_stretches; s++) {
        const struct oct_stretch *stretch = &stretches[s];
        OCT_CHECK(stretch->first == 0 || num_stretches == 1);
        OCT_CHECK(stretch->count > 0 && stretch->count <= runner->max_rows - rows);
        runner->row_starts[s] = rows;
        int blocks = blocks_for(stretch->first + stretch->count);
        OCT_CHECK(blocks <= runner->max_blocks);
        for (int b = 0; b < blocks; b++) runner->block_tables[s * runner->max_blocks + b] = next_block++;
        for (int i = 0; i < stretch->count; i++, rows++) {
            runner->tokens[rows] = stretch->tokens[i];
            runner->positions[rows] = stretch->first + i;
            runner->logit_rows[rows] = rows;
        }
    }
    runner->row_starts[num_stretches] = rows;
    struct oct_batch batch = {
        .num_rows = rows,
        .tokens = runner->tokens,
        .positions = runner->positions,
        .num_seqs = num_stretches,
        .row_starts = runner->row_starts,
        .block_tables = runner->block_tables,
        .max_blocks = runner->max_blocks,
        .logit_rows = runner->logit_rows,
        .num_logit_rows = rows,
    };
    oct_llama_forward(runner->llama, runner->cache, &batch, runner->logits, observer);
}
