// multiple_choice.h: questions with choices, answered by the choice that the model finds likeliest (lm-eval's multiple_choice tasks).
#pragma once

#include "base/error.h"
#include "base/progress.h"
#include "cli/session.h"

#include <stddef.h>

// A question: token ids of the context followed by each choice, tokenized together, as lm-eval does.
struct oct_question {
    int32_t **tokens; // (num_choices) each (lengths[i]); owned
    int *lengths;     // (num_choices) context and choice, in tokens; owned
    int *bytes;       // (num_choices) of the choice's text; owned
    int num_choices, answer;
    int context; // tokens of the context: what follows is scored
};

struct oct_questions {
    struct oct_question *items; // (count) owned
    size_t count;
    int longest; // tokens of the longest context with a choice
};

// Reads a .jsonl file: a line is {"context": "...", "choices": ["...", "..."], "answer": 0}; at most `limit` of them (0: all). On failure
// there is nothing to free.
oct_status oct_questions_read(const char *path, size_t limit, const struct oct_session *session, struct oct_questions *out, oct_error *err);
void oct_questions_free(struct oct_questions *questions);

struct oct_choice_score {
    size_t count;   // questions
    size_t right;   // answered by the largest log-likelihood (lm-eval's acc)
    size_t by_byte; // answered by the largest log-likelihood a byte (lm-eval's acc_norm)
};

// Answers all questions. The context is computed once for all choices of a question. `runner` was opened for one sequence of
// questions->longest positions. OCT_CANCELLED when the progress receiver asks to stop.
oct_status oct_questions_answer(const struct oct_questions *questions, struct oct_runner *runner, const struct oct_progress *progress,
                                struct oct_choice_score *out, oct_error *err);
