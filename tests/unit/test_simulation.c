// Random schedules over the toy model: sequences come at random times, with random lengths, parameters and priorities, share prompts, are
// cancelled, and run with few blocks or many. After every step everything that must always hold is looked at; and every sequence says what
// it says alone. Each schedule is a function of its number, so that a failure can be run again.
#include "engine/scheduler.h"
#include "toy_llama.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SCHEDULES = 10000, VOCAB = 13, BLOCK = 4, MAX_SEQUENCES = 12, MAX_PROMPT = 40, MAX_OUTPUT = 20, MAX_LEN = 56, MOST_STEPS = 3000 };

struct actor {
    int32_t prompt[MAX_PROMPT], output[MAX_OUTPUT];
    int prompt_length, num_output;
    struct oct_sampling sampling;
    int32_t stop;
    int priority, arrives, cancelled_at; // steps; cancelled_at < 0: never
    const char *salt;
    struct oct_sequence *sequence; // NULL before it arrives and after it has ended
    int ends;                      // how often it has ended
    enum oct_outcome outcome;
    bool waited; // before this step's plan
};

struct world {
    uint64_t random;
    int number; // of the schedule
    struct toy_llama toy;
    struct oct_scheduler *scheduler;
    struct oct_scheduler_options options;
    int num_blocks, num_actors, step;
    struct actor actors[MAX_SEQUENCES];
};

static int below(struct world *world, int end) { // uniform in [0, end)
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (int)((world->random >> 33) % (uint64_t)end);
}

static void cast_actor(struct world *world, struct actor *actor) {
    int family = below(world, 3); // prompts of a family begin alike
    *actor = (struct actor){
        .prompt_length = 1 + below(world, MAX_PROMPT),
        .sampling = {.top_p = 1, .repetition_penalty = 1, .max_tokens = 1 + below(world, MAX_OUTPUT)},
        .stop = below(world, VOCAB),
        .priority = below(world, 3) - 1,
        .arrives = below(world, 30),
        .cancelled_at = below(world, 5) == 0 ? below(world, 60) : -1,
        .salt = below(world, 4) == 0 ? "salt" : NULL,
    };
    for (int i = 0; i < actor->prompt_length; i++) actor->prompt[i] = i < 24 ? (family * 5 + i * i) % VOCAB : below(world, VOCAB);
    struct oct_sampling *sampling = &actor->sampling;
    if (below(world, 2)) sampling->temperature = 1, sampling->seed = (uint64_t)below(world, 1000);
    if (below(world, 4) == 0) sampling->top_k = 1 + below(world, VOCAB);
    if (below(world, 4) == 0) sampling->top_p = 0.7f;
    if (below(world, 4) == 0) sampling->frequency_penalty = 0.5f;
    if (below(world, 5) == 0) sampling->num_prompt_logprobs = 1 + below(world, 3);
    if (below(world, 5) == 0) sampling->num_logprobs = 2;
    sampling->stop_token_ids = &actor->stop;
    sampling->num_stop_token_ids = sampling->num_late_token_ids = below(world, 2);
}

static void open_world(struct world *world, int number) {
    *world = (struct world){.random = (uint64_t)number * 0x9e3779b97f4a7c15u + 1, .number = number};
    world->options = (struct oct_scheduler_options){
        .max_num_seqs = 1 + below(world, 6),
        .max_model_len = MAX_LEN,
        .policy = below(world, 2) ? OCT_POLICY_PRIORITY : OCT_POLICY_FCFS,
        .long_prefill_token_threshold = below(world, 4) == 0 ? 1 + below(world, 16) : 0,
        .no_prefix_caching = below(world, 5) == 0,
    };
    world->options.max_num_batched_tokens = world->options.max_num_seqs + below(world, 40);
    world->num_blocks = MAX_LEN / BLOCK + below(world, below(world, 2) ? 8 : 40);
    world->num_actors = 1 + below(world, MAX_SEQUENCES);
    for (int i = 0; i < world->num_actors; i++) cast_actor(world, &world->actors[i]);
    toy_llama_open(&world->toy, VOCAB, BLOCK, world->num_blocks);
    assert_int_equal(oct_scheduler_open(&world->toy.llama, &world->toy.cache, &world->options, &world->scheduler, NULL), OCT_OK);
}

// --- what must always hold --------------------------------------------------------------------------------------------------------

// A failure names the schedule.
#define MUST(condition)                                                                                                                    \
    do {                                                                                                                                   \
        if (!(condition)) fail_msg("schedule %d, step %d: %s", world->number, world->step, #condition);                                    \
    } while (0)

static void check_blocks(const struct world *world) {
    const struct oct_kv_blocks *blocks = &world->scheduler->blocks;
    int32_t held[MAX_LEN / BLOCK + 40] = {0};
    for (int i = 0; i < world->num_actors; i++) {
        const struct oct_sequence *sequence = world->actors[i].sequence;
        for (int j = 0; sequence && j < sequence->blocks.count; j++) held[sequence->blocks.ids[j]]++;
        if (sequence && sequence->outcome == OCT_SEQ_WAITING) MUST(sequence->blocks.count == 0);
        if (sequence && sequence->outcome == OCT_SEQ_RUNNING) MUST(sequence->num_computed <= sequence->blocks.count * BLOCK);
    }
    int num_free = 0;
    for (int32_t id = blocks->blocks[world->num_blocks].next; id != world->num_blocks; id = blocks->blocks[id].next, num_free++) {
        MUST(num_free < world->num_blocks && held[id] == 0);
        MUST(blocks->blocks[blocks->blocks[id].next].previous == id);
    }
    MUST(num_free == blocks->num_free);
    int num_held = 0;
    for (int i = 0; i < world->num_blocks; i++) {
        MUST(blocks->blocks[i].references == held[i]);
        num_held += held[i] > 0;
        if (oct_prefix_cache_holds(&blocks->prefix_cache, i))
            MUST(oct_prefix_cache_find(&blocks->prefix_cache, blocks->prefix_cache.keys[i]) == i);
    }
    MUST(num_free + num_held == world->num_blocks); // none is lost
}

// A row may be written only to a block that nobody else holds.
static void check_writes(const struct world *world) {
    const struct oct_scheduler *scheduler = world->scheduler;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *sequence = scheduler->running[i];
        for (int row = 0; row < sequence->num_rows; row++) {
            int32_t block = sequence->blocks.ids[(sequence->num_computed + row) / BLOCK];
            int owners = 0; // that have not yet computed this position, so that they would write it too
            for (int j = 0; j < scheduler->num_running; j++) {
                const struct oct_sequence *other = scheduler->running[j];
                int at = (sequence->num_computed + row) / BLOCK;
                if (at < other->blocks.count && other->blocks.ids[at] == block)
                    owners += other->num_computed <= sequence->num_computed + row;
            }
            MUST(owners == 1);
        }
    }
}

static void check_plan(const struct world *world, const struct oct_batch *batch) {
    const struct oct_scheduler *scheduler = world->scheduler;
    MUST(batch->num_rows <= world->options.max_num_batched_tokens);
    MUST(batch->num_seqs <= world->options.max_num_seqs && scheduler->num_running <= world->options.max_num_seqs);
    MUST(batch->num_logit_rows <= oct_scheduler_logit_rows(&world->options));
    for (int i = 1; i < scheduler->num_running; i++) MUST(oct_sequence_precedes(scheduler->running[i - 1], scheduler->running[i]));
    int threshold = world->options.long_prefill_token_threshold;
    for (int i = 0; i < scheduler->num_running; i++) {
        const struct oct_sequence *sequence = scheduler->running[i];
        MUST(threshold == 0 || sequence->num_rows <= threshold);
        if (sequence->num_computed + 1 == sequence->num_tokens) MUST(sequence->num_rows == 1); // who decodes is never left out
    }
    // Nobody was admitted before one that precedes it, unless that one waits for blocks of a running sequence.
    const struct oct_sequence *waiting, *before = NULL;
    TAILQ_FOREACH(waiting, &scheduler->waiting, queue) {
        MUST(!before || oct_sequence_precedes(before, waiting));
        before = waiting;
        for (int i = 0; i < world->num_actors; i++) {
            const struct actor *actor = &world->actors[i];
            bool admitted = actor->waited && actor->sequence && actor->sequence->outcome == OCT_SEQ_RUNNING;
            MUST(!admitted || waiting->held_back || oct_sequence_precedes(actor->sequence, waiting));
        }
    }
}

// --- the run ----------------------------------------------------------------------------------------------------------------------

static void arrive_and_leave(struct world *world) {
    for (int i = 0; i < world->num_actors; i++) {
        struct actor *actor = &world->actors[i];
        if (actor->arrives == world->step) {
            struct oct_sequence_options options = {
                .prompt = actor->prompt,
                .prompt_length = actor->prompt_length,
                .sampling = &actor->sampling,
                .priority = actor->priority,
                .cache_salt = actor->salt,
                .user = actor,
            };
            MUST(oct_scheduler_add(world->scheduler, &options, &actor->sequence, NULL) == OCT_OK);
        }
        if (actor->sequence && actor->cancelled_at >= 0 && actor->cancelled_at <= world->step) {
            oct_scheduler_remove(world->scheduler, actor->sequence);
            actor->sequence = NULL;
            actor->ends++;
            actor->outcome = OCT_SEQ_WAITING; // stands for cancelled
        }
    }
}

static void take(struct world *world, const struct oct_sampled *sampled, int count) {
    for (int i = 0; i < count; i++) {
        struct actor *actor = sampled[i].user;
        MUST(sampled[i].sequence == actor->sequence && actor->ends == 0 && sampled[i].outcome != OCT_SEQ_FAILED);
        actor->output[actor->num_output++] = sampled[i].token;
        MUST((sampled[i].prompt_logprobs != NULL) == (actor->num_output == 1 && actor->sampling.num_prompt_logprobs > 0));
        actor->outcome = sampled[i].outcome;
        if (actor->outcome == OCT_SEQ_RUNNING) continue;
        oct_scheduler_remove(world->scheduler, actor->sequence);
        actor->sequence = NULL;
        actor->ends++;
    }
}

static bool somebody_is_left(const struct world *world) {
    for (int i = 0; i < world->num_actors; i++)
        if (world->actors[i].ends == 0 && (world->actors[i].sequence || world->actors[i].arrives >= world->step)) return true;
    return false;
}

static void check_alone(const struct world *world, const struct actor *actor, struct oct_sampler *sampler) {
    int32_t tokens[MAX_LEN];
    float logits[VOCAB];
    struct oct_logprob logprobs[VOCAB];
    memcpy(tokens, actor->prompt, (size_t)actor->prompt_length * sizeof *tokens);
    for (int i = 0; i < actor->num_output; i++) {
        int32_t token;
        toy_logits(tokens, actor->prompt_length + i, VOCAB, logits);
        oct_sampler_sample(sampler, &actor->sampling, logits, tokens, actor->prompt_length, actor->prompt_length + i, &token, logprobs);
        MUST(token == actor->output[i]);
        tokens[actor->prompt_length + i] = token;
    }
    if (actor->outcome == OCT_SEQ_LENGTH)
        MUST(actor->num_output == actor->sampling.max_tokens || actor->prompt_length + actor->num_output == MAX_LEN);
    if (actor->outcome == OCT_SEQ_STOPPED) MUST(actor->output[actor->num_output - 1] == actor->stop);
}

static void run_schedule(struct world *world, int number, struct oct_sampler *sampler) {
    open_world(world, number);
    for (; somebody_is_left(world); world->step++) {
        const struct oct_sampled *sampled;
        int count;
        MUST(world->step < MOST_STEPS); // no livelock
        arrive_and_leave(world);
        for (int i = 0; i < world->num_actors; i++)
            world->actors[i].waited = world->actors[i].sequence && world->actors[i].sequence->outcome == OCT_SEQ_WAITING;
        bool work = oct_scheduler_has_work(world->scheduler);
        const struct oct_batch *batch = oct_scheduler_plan(world->scheduler, world->step + 1);
        MUST(work == (batch != NULL)); // every step makes progress
        check_blocks(world);
        if (!batch) continue;
        check_plan(world, batch);
        check_writes(world);
        oct_scheduler_run(world->scheduler, &sampled, &count);
        take(world, sampled, count);
        check_blocks(world);
    }
    for (int i = 0; i < world->num_actors; i++) {
        MUST(world->actors[i].ends == 1);
        check_alone(world, &world->actors[i], sampler);
    }
    MUST(world->scheduler->blocks.num_free == world->num_blocks);
}

static void everything_holds_in_ten_thousand_random_schedules(void **state) {
    (void)state;
    static struct world world;
    struct oct_sampler *sampler = oct_sampler_new(VOCAB);
    uint64_t preemptions = 0, hits = 0;
    const char *one = getenv("OCTAVO_SCHEDULE"); // of a failure
    for (int i = one ? atoi(one) : 0; i < (one ? atoi(one) + 1 : SCHEDULES); i++) {
        run_schedule(&world, i, sampler);
        preemptions += world.scheduler->stats.preemptions;
        hits += world.scheduler->stats.prefix_hits;
        oct_scheduler_close(world.scheduler);
        toy_llama_close(&world.toy);
    }
    oct_sampler_free(sampler);
    printf("# %llu preemptions, %llu tokens found in the prefix cache\n", (unsigned long long)preemptions, (unsigned long long)hits);
    if (!one) assert_true(preemptions > SCHEDULES / 10 && hits > SCHEDULES); // or the schedules are too easy
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_holds_in_ten_thousand_random_schedules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
