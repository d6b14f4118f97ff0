// stream.h: one request from submission to its last delta, its text printed as it comes. What generate and chat share.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "octavo.h"

struct oct_stream_result {
    oct_finish finish;
    int prompt_tokens, cached_tokens, completion_tokens;
    double prefill_seconds, decode_seconds;
    double first_text_seconds; // from submission to the first text; 0: there was none
};

// Runs the request. Text goes to standard output, and to `kept` unless NULL. Ctrl-C cancels it: OCT_FINISH_ABORT, and the interrupt
// is left pending for the caller to look at.
oct_status oct_stream(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                      struct oct_buffer *kept, struct oct_stream_result *out, oct_error *err);
