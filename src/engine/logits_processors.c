// logits_processors.c: each processor touches only the ids it is about, on one copy of the row.
#include "engine/logits_processors.h"

#include "base/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct oct_logits_processors {
    int vocab_size;
    float *adjusted; // (vocab_size)
    int32_t *counts; // (vocab_size) all zero between calls
};

struct oct_logits_processors *oct_logits_processors_new(int vocab_size) {
    struct oct_logits_processors *processors = oct_alloc(1, sizeof *processors, "logits processors");
    processors->vocab_size = vocab_size;
    processors->adjusted = oct_alloc((size_t)vocab_size, sizeof *processors->adjusted, "adjusted logits");
    processors->counts = oct_alloc((size_t)vocab_size, sizeof *processors->counts, "token counts");
    return processors;
}

void oct_logits_processors_free(struct oct_logits_processors *processors) {
    if (!processors) return;
    free(processors->adjusted);
    free(processors->counts);
    free(processors);
}

static void copy_allowed(const struct oct_sampling *sampling, const float *logits, int vocab_size, float *adjusted) {
    if (sampling->num_allowed_token_ids == 0) {
        memcpy(adjusted, logits, (size_t)vocab_size * sizeof *logits);
        return;
    }
    for (int id = 0; id < vocab_size; id++) adjusted[id] = -INFINITY;
    for (int i = 0; i < sampling->num_allowed_token_ids; i++)
        adjusted[sampling->allowed_token_ids[i]] = logits[sampling->allowed_token_ids[i]];
}

// A word of several tokens is bad where all but its last are the end of the output.
static void forbid_bad_words(const struct oct_sampling *sampling, const int32_t *output, int output_length, float *adjusted) {
    const int32_t *word = sampling->bad_words;
    for (int i = 0; i < sampling->num_bad_words; i++) {
        int begin = sampling->bad_word_lengths[i] - 1;
        if (begin <= output_length && (begin == 0 || !memcmp(output + output_length - begin, word, (size_t)begin * sizeof *word)))
            adjusted[word[begin]] = -INFINITY;
        word += begin + 1;
    }
}

// repetition: prompt and output tokens, presence and frequency: output tokens only.
static void apply_penalties(const struct oct_sampling *sampling, const int32_t *tokens, int prompt_length, int num_tokens, int32_t *counts,
                            float *adjusted) {
    enum { APPLIED = -1 };
    for (int i = prompt_length; i < num_tokens; i++) counts[tokens[i]]++;
    for (int i = 0; i < num_tokens; i++) {
        int32_t id = tokens[i], count = counts[id];
        if (count == APPLIED) continue;
        float logit = adjusted[id];
        // Bounded, because nothing can be drawn by weights of infinity less infinity; what no token may be stays so.
        if (logit > 0)
            logit = fminf(logit / sampling->repetition_penalty, FLT_MAX);
        else if (logit > -INFINITY)
            logit = fmaxf(logit * sampling->repetition_penalty, -FLT_MAX);
        logit -= (float)count * sampling->frequency_penalty;
        if (count > 0) logit -= sampling->presence_penalty;
        adjusted[id] = logit;
        counts[id] = APPLIED;
    }
    for (int i = 0; i < num_tokens; i++) counts[tokens[i]] = 0;
}

const float *oct_logits_process(struct oct_logits_processors *processors, const struct oct_sampling *sampling, const float *logits,
                                const int32_t *tokens, int prompt_length, int num_tokens) {
    bool penalties = sampling->repetition_penalty != 1 || sampling->presence_penalty != 0 || sampling->frequency_penalty != 0;
    bool too_early_to_stop = num_tokens - prompt_length < sampling->min_tokens && sampling->num_late_token_ids > 0;
    if (!penalties && !too_early_to_stop && !sampling->num_allowed_token_ids && !sampling->num_bad_words && !sampling->num_logit_bias)
        return logits;
    float *adjusted = processors->adjusted;
    copy_allowed(sampling, logits, processors->vocab_size, adjusted);
    forbid_bad_words(sampling, tokens + prompt_length, num_tokens - prompt_length, adjusted);
    if (too_early_to_stop)
        for (int i = 0; i < sampling->num_late_token_ids; i++) adjusted[sampling->stop_token_ids[i]] = -INFINITY;
    for (int i = 0; i < sampling->num_logit_bias; i++) adjusted[sampling->logit_bias[i].id] += sampling->logit_bias[i].bias;
    if (penalties) apply_penalties(sampling, tokens, prompt_length, num_tokens, processors->counts, adjusted);
    return adjusted;
}
