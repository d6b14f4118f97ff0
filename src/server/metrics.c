// metrics.c: one table of metrics under vLLM's names, printed as Prometheus reads it.
#include "server/metrics.h"

#include <inttypes.h>

static void describe(struct oct_buffer *text, const char *name, const char *type, const char *help) {
    oct_buffer_printf(text, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, type);
}

static void sample(struct oct_buffer *text, const char *name, const char *labels, double value) {
    oct_buffer_printf(text, "vllm:%s{%s} %.17g\n", name, labels, value);
}

// A label's value in quotes, with the three escapes that the format knows.
static void append_label(struct oct_buffer *text, const char *name, const char *value) {
    oct_buffer_printf(text, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"') oct_buffer_append(text, "\\", 1);
        if (*value == '\n')
            oct_buffer_puts(text, "\\n");
        else
            oct_buffer_append(text, value, 1);
    }
    oct_buffer_puts(text, "\"");
}

void oct_serve_metrics(struct oct_serving *serving, struct oct_connection *connection) {
    oct_engine_stats stats;
    oct_engine_get_stats(serving->engine, &stats);
    struct oct_buffer labels = {0}, text = {0};
    oct_buffer_puts(&labels, "engine=\"0\",");
    append_label(&labels, "model_name", serving->model);

    const struct {
        const char *name, *type, *help;
        double value;
    } metrics[] = {
        {"num_requests_running", "gauge", "Sequences that the engine works on.", stats.running},
        {"num_requests_waiting", "gauge", "Sequences that wait for the engine.", stats.waiting},
        {"kv_cache_usage_perc", "gauge", "Used part of the KV blocks. 1 means all.",
         stats.blocks_total > 0 ? (double)stats.blocks_used / stats.blocks_total : 0},
        {"prompt_tokens_total", "counter", "Prompt tokens processed.", (double)stats.prompt_tokens},
        {"generation_tokens_total", "counter", "Tokens generated.", (double)stats.generation_tokens},
        {"num_preemptions_total", "counter", "Sequences that gave their KV blocks up for others.", (double)stats.preemptions},
        {"prefix_cache_queries_total", "counter", "Prompt tokens looked for in the prefix cache.", (double)stats.prefix_cache_queries},
        {"prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", (double)stats.prefix_cache_hits},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        describe(&text, metrics[i].name, metrics[i].type, metrics[i].help);
        sample(&text, metrics[i].name, labels.data, metrics[i].value);
    }
    describe(&text, "request_success_total", "counter", "Sequences that have ended, by reason.");
    static const char *const reasons[] = {[OCT_FINISH_STOP] = "stop",
                                          [OCT_FINISH_LENGTH] = "length",
                                          [OCT_FINISH_ABORT] = "abort",
                                          [OCT_FINISH_ERROR] = "error",
                                          [OCT_FINISH_REPETITION] = "repetition"};
    for (int finish = OCT_FINISH_STOP; finish <= OCT_FINISH_REPETITION; finish++)
        oct_buffer_printf(&text, "vllm:request_success_total{engine=\"0\",finished_reason=\"%s\",%s} %" PRIu64 "\n", reasons[finish],
                          labels.data + sizeof "engine=\"0\"," - 1, serving->finished[finish]);
    describe(&text, "admission_rejections_total", "counter", "Requests refused because too many wait, by limit.");
    const struct {
        const char *reason;
        uint64_t count;
    } rejections[] = {{"max_num_queued_reqs", stats.rejected_requests}, {"max_num_queued_tokens", stats.rejected_tokens}};
    for (size_t i = 0; i < sizeof rejections / sizeof *rejections; i++)
        oct_buffer_printf(&text, "vllm:admission_rejections_total{%s,reason=\"%s\"} %" PRIu64 "\n", labels.data, rejections[i].reason,
                          rejections[i].count);
    oct_reply(connection, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.length);
    oct_buffer_free(&labels);
    oct_buffer_free(&text);
}
