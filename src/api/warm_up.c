// warm_up.c: what the first requests would otherwise wait for: memory that the system has not given yet, and the first pass of every size
// through code and weights. The sizes are powers of two, as a Gaudi server's buckets are, and so are the lines that tell of them.
#include "api/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const double most_seconds = 10; // a model whose steps take longer is served before all sizes have run

struct bucket {
    const char *phase;
    int batch_size, query_len; // sequences; rows of each in its first step
};

static bool is_skipped(void) {
    const char *skip = getenv("VLLM_SKIP_WARMUP");
    return skip && (!strcasecmp(skip, "true") || !strcmp(skip, "1"));
}

// One step of so many prompts, or that and a second one in which each decodes.
static oct_status run_bucket(struct oct_engine *engine, const struct bucket *bucket, oct_error *err) {
    struct oct_sampling sampling = {.top_p = 1, .repetition_penalty = 1, .max_tokens = bucket->query_len > 1 ? 1 : 2};
    int32_t *prompt = oct_alloc((size_t)bucket->query_len, sizeof *prompt, "a prompt to warm up with");
    struct oct_sequence_options options = {.prompt = prompt, .prompt_length = bucket->query_len, .sampling = &sampling};
    oct_status status = OCT_OK;
    for (int i = 0; i < bucket->batch_size && status == OCT_OK; i++) {
        struct oct_sequence *sequence;
        status = oct_scheduler_add(engine->scheduler, &options, &sequence, err);
    }
    while (oct_scheduler_plan(engine->scheduler, oct_seconds())) {
        const struct oct_sampled *sampled;
        int count;
        oct_scheduler_run(engine->scheduler, &sampled, &count);
        for (int i = 0; i < count; i++)
            if (sampled[i].outcome != OCT_SEQ_RUNNING) oct_scheduler_remove(engine->scheduler, sampled[i].sequence);
    }
    oct_scheduler_reset_prefix_cache(engine->scheduler); // the next prompt begins alike, and is to run in its full length
    free(prompt);
    return status;
}

// Powers of two up to `most`, and `most` itself.
static int add_buckets(struct bucket *buckets, int count, const char *phase, int most) {
    bool prompts = !strcmp(phase, "Prompt");
    for (int size = prompts ? 2 : 1, last = 0; !last; size *= 2) {
        last = size >= most;
        if (last) size = most;
        buckets[count++] = prompts ? (struct bucket){phase, 1, size} : (struct bucket){phase, size, 1};
    }
    return count;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static oct_status run_all(struct oct_engine *engine, const struct oct_progress *progress, oct_error *err) {
    enum { MOST_BUCKETS = 64 };
    double begin = oct_seconds();
    struct bucket buckets[MOST_BUCKETS];
    const struct oct_scheduler_options *limits = &engine->scheduling;
    int count = add_buckets(buckets, 0, "Prompt", smaller(limits->max_num_batched_tokens, engine->max_model_len - 1));
    int prompts = count;
    count = add_buckets(buckets, count, "Decode", smaller(limits->max_num_seqs, engine->cache->shape.num_blocks / 2 + 1));
    for (int i = 0; i < count; i++) {
        const struct bucket *bucket = &buckets[i];
        bool prompt = i < prompts;
        if (oct_seconds() - begin > most_seconds) {
            oct_log(OCT_LOG_INFO, "[Warmup] %d of %d sizes are left out: %g s are over", count - i, count, most_seconds);
            return OCT_OK;
        }
        OCT_TRY(run_bucket(engine, bucket, err));
        oct_log(OCT_LOG_INFO, "[Warmup][%s][%d/%d] batch_size:%d query_len:%d num_blocks:%d free_mem:%.1f GiB", bucket->phase,
                prompt ? i + 1 : i + 1 - prompts, prompt ? prompts : count - prompts, bucket->batch_size, bucket->query_len,
                bucket->batch_size * ((bucket->query_len + engine->cache->shape.block_size - 1) / engine->cache->shape.block_size),
                (double)oct_available_bytes() / 0x1p30);
        if (oct_progress_report(progress, "warming up", (size_t)i + 1, (size_t)count) != 0)
            return oct_fail(err, OCT_CANCELLED, "warming up was cancelled");
    }
    return OCT_OK;
}

oct_status oct_engine_warm_up(struct oct_engine *engine, const struct oct_progress *progress, oct_error *err) {
    if (is_skipped()) {
        oct_log(OCT_LOG_INFO, "[Warmup] skipped, as VLLM_SKIP_WARMUP says");
        return OCT_OK;
    }
    double begin = oct_seconds();
    oct_progress_report(progress, "warming up", 0, 1);
    oct_kv_cache_touch(engine->cache);
    oct_scheduler_set_observer(engine->scheduler, NULL); // what is made up here is not measured
    oct_status status = run_all(engine, progress, err);
    if (engine->quantization.measuring) oct_scheduler_set_observer(engine->scheduler, &engine->quantization.observer);
    oct_scheduler_reset_stats(engine->scheduler);
    if (status == OCT_OK)
        oct_log(OCT_LOG_INFO, "Warmup finished in %.1f secs, %.1f MiB of KV blocks touched", oct_seconds() - begin,
                (double)engine->cache->bytes / 0x1p20);
    return status;
}
