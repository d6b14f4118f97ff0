// stream.c: prints deltas as they come, until the last one or an interrupt.
#include "cli/stream.h"

#include "base/clock.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const double POLL_SECONDS = 0.05; // how late Ctrl-C may be noticed

static bool print(const char *text, size_t length) {
    return length == 0 || (fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0);
}

oct_status oct_stream(oct_engine *engine, const int32_t *prompt, size_t prompt_length, const oct_sampling_params *params,
                      struct oct_buffer *kept, struct oct_stream_result *out, oct_error *err) {
    *out = (struct oct_stream_result){0};
    double submitted = oct_seconds();
    oct_request *request;
    OCT_TRY(oct_request_submit(engine, prompt, prompt_length, params, NULL, NULL, &request, err));
    oct_status status = OCT_OK;
    bool cancelled = false;
    while (out->finish == OCT_RUNNING) {
        oct_delta delta;
        if (oct_request_next(request, POLL_SECONDS, &delta)) {
            out->finish = delta.finish;
            out->prompt_tokens = delta.prompt_tokens;
            out->cached_tokens = delta.cached_tokens;
            out->completion_tokens = delta.completion_tokens;
            out->prefill_seconds = delta.prefill_seconds;
            out->decode_seconds = delta.decode_seconds;
            if (delta.text_length && out->first_text_seconds == 0) out->first_text_seconds = oct_seconds() - submitted;
            if (kept) oct_buffer_append(kept, delta.text, delta.text_length);
            if (status == OCT_OK && !print(delta.text, delta.text_length))
                status = oct_fail(err, OCT_IO, "cannot write to standard output: %s", strerror(errno));
            if (delta.finish == OCT_FINISH_ERROR && status == OCT_OK) {
                status = delta.error->code;
                if (err) *err = *delta.error;
            }
        }
        if (!cancelled && (oct_interrupted() || status != OCT_OK)) {
            oct_request_cancel(request);
            cancelled = true;
        }
    }
    oct_request_free(request);
    return status;
}
