// session.h: a model without engine or server: its files, and the bare forward pass over batches that the command makes itself.
// calibrate and eval need what the public API does not show: every module's numbers, every row's logits.
#pragma once

#include "api/text_source.h"
#include "cli/engine_flags.h"
#include "device/device.h"
#include "model/checkpoint.h"
#include "model/llama.h"

struct oct_session {
    char *path; // of the checkpoint. Owned
    struct oct_checkpoint *checkpoint;
    struct oct_text_source text;
    struct oct_device *device;
};

// Opens the model's files and the device. Zero-initialise `out`; oct_session_close takes it whatever the outcome.
oct_status oct_session_open(const char *model, const struct oct_engine_flags *flags, struct oct_session *out, oct_error *err);
// The files alone: for commands that compute nothing.
oct_status oct_session_open_files(const char *model, const char *chat_template, struct oct_session *out, oct_error *err);
void oct_session_close(struct oct_session *session);
// Whether the model has an embedding for each token: its tokenizer is another file, and may know more.
oct_status oct_session_check_tokens(const struct oct_session *session, const struct oct_ids *ids, oct_error *err);

// One stretch of a sequence: `count` tokens from position `first` on. A stretch with first > 0 goes on where the one stretch of the batch
// before ended.
struct oct_stretch {
    const int32_t *tokens; // (count)
    int count, first;
};

// A model on the device with KV blocks for one batch at a time, and the logits of all its rows.
struct oct_runner {
    struct oct_llama *llama;
    struct oct_kv_cache *cache;
    float *logits; // (max_rows, vocab_size) of the last batch. Owned
    int max_rows, max_seqs;
    int max_blocks;                                                       // of one sequence
    int32_t *tokens, *positions, *row_starts, *block_tables, *logit_rows; // of the batch being run. Owned
};

struct oct_runner_options {
    struct oct_llama_options llama; // max_positions and max_rows count; max_logit_rows is set to max_rows
    int max_seqs;                   // stretches in a batch
};

// Zero-initialise `out`; oct_runner_close takes it whatever the outcome.
oct_status oct_runner_open(const struct oct_session *session, const struct oct_runner_options *options, struct oct_runner *out,
                           oct_error *err);
void oct_runner_close(struct oct_runner *runner);

// Runs the stretches (num_stretches), at most max_rows tokens together, as one batch. observer may be NULL.
void oct_runner_forward(struct oct_runner *runner, const struct oct_stretch *stretches, int num_stretches,
                        const struct oct_observer *observer);
