// eval.c: `octavo eval`: how well a model predicts a text, and how far it is from a reference model (usually itself in bf16). The text is
// cut into windows that each start with an empty context; the first token of a window is not scored. Sums are float64. Or, instead of a
// text: how many questions with choices it answers right.
#include "api/quantization.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/divergence.h"
#include "cli/interrupt.h"
#include "cli/multiple_choice.h"
#include "cli/progress_bar.h"
#include "cli/session.h"
#include "cli/share.h"
#include "cli/table.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct eval_options {
    const char *model, *text, *against, *reference, *multiple_choice;
    int window, windows, questions;
    bool json, with_fp8;
    struct oct_engine_flags engine;
};

#define FIELD(name) offsetof(struct eval_options, name)

static const struct oct_flag flags[] = {
    {.name = "text",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(text),
     .metavar = "FILE",
     .help = "the text to predict (default: the one that comes with Octavo)"},
    {.name = "window",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(window),
     .min = 2,
     .max = 1 << 20,
     .initial = "512",
     .help = "tokens of a window"},
    {.name = "windows",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(windows),
     .min = 0,
     .max = INT_MAX,
     .initial = "0",
     .help = "how many windows; 0: the whole text"},
    {.name = "against",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(against),
     .choices = "bf16|float32",
     .help = "compare with the unquantized model, computed in this format"},
    {.name = "reference",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(reference),
     .metavar = "MODEL",
     .help = "with --against: the model to compare with, of the same vocabulary (default: MODEL)"},
    {.name = "with-fp8",
     .type = OCT_FLAG_BOOL,
     .offset = FIELD(with_fp8),
     .help = "with --against: beside the model as the flags quantize it, the same model under --quantization fp8"},
    {.name = "multiple-choice",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(multiple_choice),
     .metavar = "FILE",
     .help = "instead of predicting a text, answer questions; a line of FILE is {\"context\", \"choices\": [...], \"answer\": INDEX}"},
    {.name = "questions",
     .type = OCT_FLAG_COUNT,
     .offset = FIELD(questions),
     .min = 0,
     .max = INT_MAX,
     .initial = "0",
     .help = "how many questions; 0: all of the file"},
    {.name = "json", .type = OCT_FLAG_BOOL, .offset = FIELD(json), .help = "print JSON"},
    {0},
};

enum { MAX_TEXT_BYTES = 256 << 20, MAX_ROWS = 128 }; // rows of a batch: logits of all of them are kept

// A model that is being judged.
struct subject {
    struct oct_runner runner; // runner.llama NULL: not asked for
    double total_nll;         // nats
    struct oct_divergence divergence;
};

struct evaluation {
    const struct eval_options *options;
    struct oct_session session, reference_session; // the latter open only with --reference
    struct oct_quantization quantization;
    struct subject model, fp8;   // fp8: with --with-fp8
    struct oct_plan *fp8_plan;   // NULL without. Owned
    struct oct_runner reference; // reference.llama NULL: there is none
    char *text_path;             // owned
    struct oct_ids ids;          // of the text
    int window, num_windows;
    double reference_nll; // nats
    size_t scored;        // tokens
};

static oct_status read_text(struct evaluation *evaluation, oct_error *err) {
    const struct eval_options *options = evaluation->options;
    if (options->text)
        evaluation->text_path = oct_strdup(options->text);
    else
        OCT_TRY(oct_share_file("evaluation_text.txt", &evaluation->text_path, err));
    char *text;
    size_t length;
    OCT_TRY(oct_file_read(evaluation->text_path, MAX_TEXT_BYTES, &text, &length, err));
    oct_encode(evaluation->session.text.tokenizer, text, length, 0, &evaluation->ids);
    free(text);
    OCT_TRY(oct_session_check_tokens(&evaluation->session, &evaluation->ids, err));
    size_t count = evaluation->ids.count;
    if (count < 2) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: at least 2 tokens expected, %zu found", evaluation->text_path, count);
    evaluation->window = count < (size_t)options->window ? (int)count : options->window;
    size_t windows = count / (size_t)evaluation->window;
    evaluation->num_windows = options->windows && (size_t)options->windows < windows ? options->windows : (int)windows;
    int limit = oct_checkpoint_config(evaluation->session.checkpoint)->max_position_embeddings;
    if (evaluation->window > limit)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--window: at most %d expected, which is the model's limit, %d found", limit,
                        evaluation->window);
    return OCT_OK;
}

static oct_status open_models(struct evaluation *evaluation, int max_positions, oct_error *err) {
    const struct eval_options *options = evaluation->options;
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    struct oct_progress progress = oct_progress_bar_receiver(&bar);
    struct oct_runner_options runner = {
        .llama = {.compute = oct_engine_flags_compute(&options->engine),
                  .plan = evaluation->quantization.plan,
                  .max_positions = max_positions,
                  .max_rows = MAX_ROWS,
                  .progress = &progress},
        .max_seqs = 1,
    };
    oct_status status = oct_runner_open(&evaluation->session, &runner, &evaluation->model.runner, err);
    if (status == OCT_OK && options->with_fp8) {
        runner.llama.plan = evaluation->fp8_plan =
            oct_plan_fp8_weights(oct_checkpoint_config(evaluation->session.checkpoint)->num_hidden_layers);
        status = oct_runner_open(&evaluation->session, &runner, &evaluation->fp8.runner, err);
    }
    if (status == OCT_OK && options->against) {
        runner.llama.compute = strcmp(options->against, "float32") == 0 ? OCT_F32 : OCT_BF16;
        runner.llama.plan = NULL;
        const struct oct_session *session = options->reference ? &evaluation->reference_session : &evaluation->session;
        status = oct_runner_open(session, &runner, &evaluation->reference, err);
    }
    oct_progress_bar_clear(&bar);
    return status;
}

// Adds one position of a subject. reference: NULL, or the reference's logits there, of logsumexp reference_norm.
static oct_status score_position(struct subject *subject, int row, int32_t target, const float *reference, double reference_norm,
                                 int window, oct_error *err) {
    if (!subject->runner.llama) return OCT_OK;
    size_t vocab = (size_t)subject->runner.llama->config.vocab_size;
    const float *logits = subject->runner.logits + (size_t)row * vocab;
    double norm = oct_logsumexp(logits, vocab);
    if (!isfinite(norm)) return oct_fail(err, OCT_INTERNAL, "window %d: finite logits expected, NaN or infinity found", window);
    subject->total_nll += norm - (double)logits[target];
    if (reference) oct_divergence_add(&subject->divergence, reference, reference_norm, logits, norm, vocab);
    return OCT_OK;
}

// Adds the rows of one batch; row i predicts targets[i] (num_targets, at most the rows of the batch).
static oct_status score(struct evaluation *evaluation, const int32_t *targets, int num_targets, int window, oct_error *err) {
    size_t vocab = (size_t)evaluation->model.runner.llama->config.vocab_size;
    for (int i = 0; i < num_targets; i++) {
        const float *reference = evaluation->reference.llama ? evaluation->reference.logits + (size_t)i * vocab : NULL;
        double norm = reference ? oct_logsumexp(reference, vocab) : 0;
        if (reference) evaluation->reference_nll += norm - (double)reference[targets[i]];
        OCT_TRY(score_position(&evaluation->model, i, targets[i], reference, norm, window, err));
        OCT_TRY(score_position(&evaluation->fp8, i, targets[i], reference, norm, window, err));
    }
    evaluation->scored += (size_t)num_targets;
    return OCT_OK;
}

static oct_status run_window(struct evaluation *evaluation, int window, oct_error *err) {
    const int32_t *tokens = evaluation->ids.data + (size_t)window * (size_t)evaluation->window;
    for (int first = 0; first < evaluation->window; first += MAX_ROWS) {
        int left = evaluation->window - first, count = left < MAX_ROWS ? left : MAX_ROWS;
        struct oct_stretch stretch = {tokens + first, count, first};
        oct_runner_forward(&evaluation->model.runner, &stretch, 1, NULL);
        if (evaluation->fp8.runner.llama) oct_runner_forward(&evaluation->fp8.runner, &stretch, 1, NULL);
        if (evaluation->reference.llama) oct_runner_forward(&evaluation->reference, &stretch, 1, NULL);
        OCT_TRY(score(evaluation, tokens + first + 1, count < left ? count : count - 1, window, err)); // the last row has no next token
    }
    return OCT_OK;
}

static oct_status run_windows(struct evaluation *evaluation, oct_error *err) {
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    oct_status status = OCT_OK;
    for (int window = 0; status == OCT_OK && window < evaluation->num_windows; window++) {
        status = run_window(evaluation, window, err);
        if (oct_progress_bar_report(&bar, "windows", (size_t)window + 1, (size_t)evaluation->num_windows) && status == OCT_OK)
            status = oct_fail(err, OCT_CANCELLED, "interrupted");
    }
    oct_progress_bar_clear(&bar);
    return status;
}

// --- the report -------------------------------------------------------------------------------------------------------------------

static void add_divergence(json_t *report, const struct oct_divergence_summary *summary) {
    json_t *values = json_pack("{s:f, s:f, s:f, s:f}", "mean_kl", summary->mean, "p99_kl", summary->p99, "max_kl", summary->max,
                               "same_top_token", summary->same_top);
    json_object_update(report, values);
    json_decref(values);
}

static json_t *likelihood(const struct evaluation *evaluation, double total_nll) {
    double mean = total_nll / (double)evaluation->scored;
    return json_pack("{s:f, s:f}", "mean_nll", mean, "perplexity", exp(mean));
}

static void print_json(struct evaluation *evaluation, double seconds) {
    json_t *report = json_pack("{s:s, s:s, s:i, s:i, s:I, s:f, s:f}", "model", evaluation->options->model, "text", evaluation->text_path,
                               "window", evaluation->window, "windows", evaluation->num_windows, "scored_tokens",
                               (json_int_t)evaluation->scored, "total_nll", evaluation->model.total_nll, "seconds", seconds);
    json_t *own = likelihood(evaluation, evaluation->model.total_nll);
    json_object_update(report, own);
    json_decref(own);
    if (evaluation->reference.llama) {
        struct oct_divergence_summary summary = oct_divergence_summarize(&evaluation->model.divergence);
        json_t *reference = likelihood(evaluation, evaluation->reference_nll);
        json_object_set_new(reference, "compute", json_string(evaluation->options->against));
        add_divergence(reference, &summary);
        json_object_set_new(report, "reference", reference);
    }
    if (evaluation->fp8.runner.llama) {
        struct oct_divergence_summary summary = oct_divergence_summarize(&evaluation->fp8.divergence);
        json_t *fp8 = likelihood(evaluation, evaluation->fp8.total_nll);
        add_divergence(fp8, &summary);
        json_object_set_new(report, "fp8_weights", fp8);
    }
    json_dumpf(report, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(report);
}

static void print_perplexity(const struct evaluation *evaluation, double total_nll, const char *after) {
    double mean = total_nll / (double)evaluation->scored;
    printf("%.5f (mean nll %.6f)%s\n", exp(mean), mean, after);
}

static void add_row(struct oct_table *table, const struct evaluation *evaluation, const char *name, double total_nll,
                    struct oct_divergence *divergence) {
    char perplexity[32], mean[32] = "", p99[32] = "", largest[32] = "", same[32] = "";
    snprintf(perplexity, sizeof perplexity, "%.3f", exp(total_nll / (double)evaluation->scored));
    if (divergence) {
        struct oct_divergence_summary summary = oct_divergence_summarize(divergence);
        snprintf(mean, sizeof mean, "%.4f", summary.mean);
        snprintf(p99, sizeof p99, "%.3f", summary.p99);
        snprintf(largest, sizeof largest, "%.3f", summary.max);
        snprintf(same, sizeof same, "%.2f %%", 100 * summary.same_top);
    }
    oct_table_add(table, (const char *[]){name, perplexity, mean, p99, largest, same});
}

// Both ways to quantize, and the reference, a line each.
static void print_side_by_side(struct evaluation *evaluation) {
    struct oct_buffer name = {0};
    oct_quantization_describe(&evaluation->quantization, &name);
    if (!name.length) oct_buffer_puts(&name, "the model");
    if (evaluation->quantization.kv_dtype) oct_buffer_printf(&name, ", KV %s", evaluation->quantization.kv_dtype);
    struct oct_table table = {.num_columns = 6};
    oct_table_add(&table, (const char *[]){"", "perplexity", "KL, mean", "99 % below", "largest", "same top token"});
    add_row(&table, evaluation, evaluation->options->against, evaluation->reference_nll, NULL);
    add_row(&table, evaluation, name.data, evaluation->model.total_nll, &evaluation->model.divergence);
    add_row(&table, evaluation, "fp8 weights", evaluation->fp8.total_nll, &evaluation->fp8.divergence);
    oct_table_print(&table, stdout);
    oct_table_free(&table);
    oct_buffer_free(&name);
}

static void print_text(struct evaluation *evaluation, double seconds) {
    printf("windows            %d of %d tokens, %zu tokens scored, %.1f s\n", evaluation->num_windows, evaluation->window,
           evaluation->scored, seconds);
    if (evaluation->fp8.runner.llama) {
        print_side_by_side(evaluation);
        return;
    }
    printf("perplexity         ");
    print_perplexity(evaluation, evaluation->model.total_nll, "");
    if (!evaluation->reference.llama) return;
    printf("reference          ");
    print_perplexity(evaluation, evaluation->reference_nll, !strcmp(evaluation->options->against, "bf16") ? ", bf16" : ", float32");
    struct oct_divergence_summary summary = oct_divergence_summarize(&evaluation->model.divergence);
    oct_divergence_print(&summary, stdout);
}

static oct_status evaluate_text(struct evaluation *evaluation, oct_error *err) {
    OCT_TRY(read_text(evaluation, err));
    OCT_TRY(open_models(evaluation, evaluation->window, err));
    double started = oct_seconds();
    OCT_TRY(run_windows(evaluation, err));
    (evaluation->options->json ? print_json : print_text)(evaluation, oct_seconds() - started);
    return OCT_OK;
}

// A share of `count`, and the standard error of such a share.
static double standard_error(double share, size_t count) {
    return sqrt(share * (1 - share) / (double)count);
}

static void print_answers(const struct evaluation *evaluation, const struct oct_choice_score *score, double seconds) {
    double count = (double)score->count, right = (double)score->right / count, by_byte = (double)score->by_byte / count;
    if (evaluation->options->json) {
        json_t *report = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "model", evaluation->options->model, "file",
                                   evaluation->options->multiple_choice, "questions", (json_int_t)score->count, "accuracy", right,
                                   "accuracy_stderr", standard_error(right, score->count), "accuracy_by_byte", by_byte,
                                   "accuracy_by_byte_stderr", standard_error(by_byte, score->count), "seconds", seconds);
        json_dumpf(report, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(report);
        return;
    }
    printf("questions          %zu, %.1f s\n", score->count, seconds);
    printf("accuracy           %.2f %% (standard error %.2f)\n", 100 * right, 100 * standard_error(right, score->count));
    printf("accuracy by byte   %.2f %% (standard error %.2f)\n", 100 * by_byte, 100 * standard_error(by_byte, score->count));
}

static oct_status answer_questions(struct evaluation *evaluation, struct oct_questions *questions, oct_error *err) {
    const struct eval_options *options = evaluation->options;
    int limit = oct_checkpoint_config(evaluation->session.checkpoint)->max_position_embeddings;
    OCT_TRY(oct_questions_read(options->multiple_choice, (size_t)options->questions, &evaluation->session, questions, err));
    if (questions->longest > limit)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: questions of at most %d tokens expected, which is the model's limit, %d found",
                        options->multiple_choice, limit, questions->longest);
    OCT_TRY(open_models(evaluation, questions->longest, err));
    struct oct_progress_bar bar;
    oct_progress_bar_start(&bar);
    struct oct_progress progress = oct_progress_bar_receiver(&bar);
    struct oct_choice_score score;
    double started = oct_seconds();
    oct_status status = oct_questions_answer(questions, &evaluation->model.runner, &progress, &score, err);
    oct_progress_bar_clear(&bar);
    if (status == OCT_OK) print_answers(evaluation, &score, oct_seconds() - started);
    return status;
}

static oct_status evaluate_questions(struct evaluation *evaluation, oct_error *err) {
    struct oct_questions questions = {0};
    oct_status status = answer_questions(evaluation, &questions, err);
    oct_questions_free(&questions);
    return status;
}

static oct_status check_options(const struct eval_options *options, oct_error *err) {
    if (options->multiple_choice && (options->text || options->against))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--multiple-choice: neither --text nor --against expected beside it, %s found",
                        options->text ? "--text" : "--against");
    if (options->reference && !options->against)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--reference: --against bf16 or float32 expected beside it, none found");
    if (options->with_fp8 && !options->against)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--with-fp8: --against bf16 or float32 expected beside it, none found");
    return oct_engine_flags_check(&options->engine, err);
}

// Both models see the same token ids.
static oct_status open_reference(struct evaluation *evaluation, oct_error *err) {
    const struct eval_options *options = evaluation->options;
    struct oct_session *reference = &evaluation->reference_session;
    OCT_TRY(oct_session_open(options->reference, &options->engine, reference, err));
    int expected = oct_checkpoint_config(evaluation->session.checkpoint)->vocab_size;
    int found = oct_checkpoint_config(reference->checkpoint)->vocab_size;
    if (found != expected)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--reference: a vocabulary of %d tokens, like the model's, expected, %d found", expected,
                        found);
    return OCT_OK;
}

static oct_status evaluate(struct evaluation *evaluation, oct_error *err) {
    const struct eval_options *options = evaluation->options;
    OCT_TRY(check_options(options, err));
    OCT_TRY(oct_session_open(options->model, &options->engine, &evaluation->session, err));
    if (options->reference) OCT_TRY(open_reference(evaluation, err));
    oct_engine_options engine = oct_engine_flags_options(&options->engine, options->model);
    OCT_TRY(oct_quantization_open(&engine, evaluation->session.checkpoint, &evaluation->quantization, err));
    if (evaluation->quantization.measuring)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "QUANT_CONFIG: mode QUANTIZE expected, one that measures found");
    if (options->with_fp8 && oct_checkpoint_config(evaluation->session.checkpoint)->fp8.method)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--with-fp8: an unquantized model expected, %s is FP8", evaluation->session.path);
    return options->multiple_choice ? evaluate_questions(evaluation, err) : evaluate_text(evaluation, err);
}

static oct_status run(const void *given, oct_error *err) {
    struct evaluation evaluation = {.options = given};
    oct_interrupt_catch();
    oct_status status = evaluate(&evaluation, err);
    oct_divergence_free(&evaluation.model.divergence);
    oct_divergence_free(&evaluation.fp8.divergence);
    free(evaluation.ids.data);
    free(evaluation.text_path);
    oct_runner_close(&evaluation.reference);
    oct_runner_close(&evaluation.fp8.runner);
    oct_runner_close(&evaluation.model.runner);
    oct_plan_free(evaluation.fp8_plan);
    oct_quantization_close(&evaluation.quantization, NULL);
    oct_session_close(&evaluation.reference_session);
    oct_session_close(&evaluation.session);
    return status;
}

const struct oct_command oct_command_eval = {
    .name = "eval",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "measure perplexity, and what quantization costs",
    .details = "  octavo eval smollm2 --text book.txt\n"
               "  QUANT_CONFIG=out/smollm2/maxabs_quant_g3.json octavo eval smollm2 --kv-cache-dtype fp8_inc --against bf16 --with-fp8\n"
               "  octavo eval smollm2 --multiple-choice questions.jsonl\n",
    .options_size = sizeof(struct eval_options),
    .groups = {{"Evaluation", flags, 0}, {"Model", oct_model_flag_table, FIELD(engine)}},
    .run = run,
};
