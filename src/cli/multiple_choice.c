// multiple_choice.c: log-likelihoods of the choices of a question after its context, and which of them is largest.
#include "cli/multiple_choice.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/divergence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHOICES = 64 };
static const size_t MAX_FILE_BYTES = 1u << 30;

static void question_free(struct oct_question *question) {
    for (int i = 0; i < question->num_choices; i++) free(question->tokens[i]);
    free(question->tokens);
    free(question->lengths);
    free(question->bytes);
}

void oct_questions_free(struct oct_questions *questions) {
    for (size_t i = 0; i < questions->count; i++) question_free(&questions->items[i]);
    free(questions->items);
    *questions = (struct oct_questions){0};
}

// The first token of choice `i` is the one after the tokens of the context alone. Where the tokenizer joined the context's end with the
// choice's start, that is still where lm-eval begins to score.
static oct_status tokenize_choice(const char *name, const struct oct_session *session, const json_t *context, const json_t *choice, int i,
                                  struct oct_question *question, oct_error *err) {
    size_t length = json_string_length(choice);
    struct oct_buffer text = {0};
    struct oct_ids ids = {0};
    oct_buffer_append(&text, json_string_value(context), json_string_length(context));
    oct_buffer_append(&text, json_string_value(choice), length);
    oct_encode(session->text.tokenizer, text.data, text.length, 0, &ids);
    oct_buffer_free(&text);
    question->tokens[i] = ids.data;
    question->lengths[i] = (int)ids.count;
    question->bytes[i] = (int)length;
    OCT_TRY(oct_session_check_tokens(session, &ids, err));
    if ((int)ids.count <= question->context)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: choices[%d]: tokens after those of the context expected, none found", name, i);
    return OCT_OK;
}

static oct_status tokenize_question(const char *name, const json_t *object, const struct oct_session *session,
                                    struct oct_question *question, oct_error *err) {
    const json_t *context = json_object_get(object, "context"), *choices = json_object_get(object, "choices"),
                 *answer = json_object_get(object, "answer");
    size_t num_choices = json_array_size(choices);
    if (!json_string_length(context))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: context: a string that is not empty expected, %s found", name,
                        json_is_string(context) ? "an empty one" : oct_json_kind(context));
    if (num_choices < 2 || num_choices > MAX_CHOICES)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: choices: an array of 2 to %d strings expected, %s found", name, MAX_CHOICES,
                        json_is_array(choices) ? "another number" : oct_json_kind(choices));
    if (!json_is_integer(answer) || json_integer_value(answer) < 0 || json_integer_value(answer) >= (json_int_t)num_choices)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: answer: the index of a choice, 0 to %zu, expected", name, num_choices - 1);
    question->answer = (int)json_integer_value(answer);
    struct oct_ids ids = {0};
    oct_encode(session->text.tokenizer, json_string_value(context), json_string_length(context), 0, &ids);
    question->context = (int)ids.count;
    free(ids.data);
    if (!question->context) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: context: at least one token expected", name);
    question->tokens = oct_alloc(num_choices, sizeof *question->tokens, "a question");
    question->lengths = oct_alloc(num_choices, sizeof *question->lengths, "a question");
    question->bytes = oct_alloc(num_choices, sizeof *question->bytes, "a question");
    for (size_t i = 0; i < num_choices; i++) {
        const json_t *choice = json_array_get(choices, i);
        if (!json_string_length(choice))
            return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: choices[%zu]: a string that is not empty expected", name, i);
        question->num_choices = (int)i + 1; // those that are to be freed
        OCT_TRY(tokenize_choice(name, session, context, choice, (int)i, question, err));
    }
    return OCT_OK;
}

static oct_status read_line(const char *name, const char *line, size_t length, const struct oct_session *session,
                            struct oct_question *question, oct_error *err) {
    json_t *object;
    OCT_TRY(oct_json_parse(name, line, length, &object, err));
    oct_status status = tokenize_question(name, object, session, question, err);
    json_decref(object);
    if (status != OCT_OK) question_free(question);
    return status;
}

oct_status oct_questions_read(const char *path, size_t limit, const struct oct_session *session, struct oct_questions *out,
                              oct_error *err) {
    char *text;
    size_t length, capacity = 0, number = 1;
    *out = (struct oct_questions){0};
    OCT_TRY(oct_file_read(path, MAX_FILE_BYTES, &text, &length, err));
    oct_status status = OCT_OK;
    for (const char *line = text; *line && status == OCT_OK && (!limit || out->count < limit); number++) {
        size_t line_length = strcspn(line, "\n");
        if (strspn(line, " \t\r") < line_length) {
            struct oct_question question = {0};
            char name[512];
            snprintf(name, sizeof name, "%s: line %zu", path, number);
            status = read_line(name, line, line_length, session, &question, err);
            if (status == OCT_OK) {
                if (out->count == capacity) {
                    capacity = capacity ? 2 * capacity : 64;
                    out->items = oct_resize(out->items, capacity, sizeof *out->items, "questions");
                }
                out->items[out->count++] = question;
                for (int i = 0; i < question.num_choices; i++)
                    if (question.lengths[i] > out->longest) out->longest = question.lengths[i];
            }
        }
        line += line_length + (line[line_length] == '\n');
    }
    free(text);
    if (status == OCT_OK && !out->count)
        status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a question a line expected, no line found", path);
    if (status != OCT_OK) oct_questions_free(out);
    return status;
}

// Tokens at the start that all choices share, at most the context: they are computed once.
static int shared_tokens(const struct oct_question *question) {
    int shared = question->context;
    for (int i = 1; i < question->num_choices; i++) {
        int same = 0;
        while (same < shared && question->tokens[i][same] == question->tokens[0][same]) same++;
        shared = same;
    }
    return shared;
}

static double logprob(const float *logits, size_t vocab, int32_t token) {
    return (double)logits[token] - oct_logsumexp(logits, vocab);
}

// Sum of the log-probabilities of tokens[from..] (length), of which tokens[..shared] have been computed; next_logits (vocab) predict
// tokens[shared].
static double score_choice(struct oct_runner *runner, const int32_t *tokens, int length, int shared, int from, const float *next_logits) {
    size_t vocab = (size_t)runner->llama->config.vocab_size;
    double sum = shared >= from ? logprob(next_logits, vocab, tokens[shared]) : 0;
    for (int first = shared; first < length - 1; first += runner->max_rows) {
        int left = length - 1 - first, count = left < runner->max_rows ? left : runner->max_rows;
        struct oct_stretch stretch = {tokens + first, count, first};
        oct_runner_forward(runner, &stretch, 1, NULL);
        for (int i = 0; i < count; i++)
            if (first + i + 1 >= from) sum += logprob(runner->logits + (size_t)i * vocab, vocab, tokens[first + i + 1]);
    }
    return sum;
}

static oct_status answer(const struct oct_question *question, struct oct_runner *runner, float *next_logits, struct oct_choice_score *score,
                         oct_error *err) {
    size_t vocab = (size_t)runner->llama->config.vocab_size;
    int shared = shared_tokens(question), rows = 0;
    for (int first = 0; first < shared; first += rows) {
        rows = shared - first < runner->max_rows ? shared - first : runner->max_rows;
        struct oct_stretch stretch = {question->tokens[0] + first, rows, first};
        oct_runner_forward(runner, &stretch, 1, NULL);
    }
    if (rows) memcpy(next_logits, runner->logits + (size_t)(rows - 1) * vocab, vocab * sizeof *next_logits);
    double best = -INFINITY, best_by_byte = -INFINITY;
    int likeliest = 0, likeliest_by_byte = 0;
    for (int i = 0; i < question->num_choices; i++) {
        // Without a shared token the first is only context: nothing predicts it.
        double sum = score_choice(runner, question->tokens[i], question->lengths[i], shared, question->context, next_logits);
        if (!isfinite(sum)) return oct_fail(err, OCT_INTERNAL, "a question: finite logits expected, NaN or infinity found");
        double by_byte = sum / question->bytes[i];
        if (sum > best) best = sum, likeliest = i;
        if (by_byte > best_by_byte) best_by_byte = by_byte, likeliest_by_byte = i;
    }
    score->count++;
    score->right += likeliest == question->answer;
    score->by_byte += likeliest_by_byte == question->answer;
    return OCT_OK;
}

oct_status oct_questions_answer(const struct oct_questions *questions, struct oct_runner *runner, const struct oct_progress *progress,
                                struct oct_choice_score *out, oct_error *err) {
    *out = (struct oct_choice_score){0};
    float *next_logits = oct_alloc((size_t)runner->llama->config.vocab_size, sizeof *next_logits, "logits");
    oct_status status = OCT_OK;
    for (size_t i = 0; i < questions->count && status == OCT_OK; i++) {
        status = answer(&questions->items[i], runner, next_logits, out, err);
        if (status == OCT_OK && oct_progress_report(progress, "questions", i + 1, questions->count))
            status = oct_fail(err, OCT_CANCELLED, "interrupted");
    }
    free(next_logits);
    return status;
}
