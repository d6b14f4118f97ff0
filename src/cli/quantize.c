// quantize.c: `octavo quantize`: writes a model as an FP8 checkpoint that vLLM loads. The folder is made beside its place under another
// name and moved there when every file in it is complete: whoever looks sees the old folder, or the new one.
#include "api/quantization.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/gguf_tokenizer.h"
#include "cli/interrupt.h"
#include "cli/progress_bar.h"
#include "model/fp8_export.h"
#include "model/locate.h"
#include "numeric/fp8.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct quantize_options {
    const char *model, *output, *scheme, *tokenizer;
    bool overwrite;
    struct oct_engine_flags engine;
};

#define FIELD(name) offsetof(struct quantize_options, name)

static const struct oct_flag flags[] = {
    {.name = "output",
     .short_name = "o",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(output),
     .metavar = "DIR",
     .help = "the folder to write"},
    {.name = "scheme",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(scheme),
     .choices = "fp8_dynamic|fp8|fp8_weights",
     .help = "fp8_dynamic: weights by channel, activations by token as they come; fp8: static activations, as --quant-config measured "
             "them; fp8_weights: weights alone (default: fp8_dynamic, or fp8 with --quant-config)"},
    {.name = "quant-config",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(engine.quant_config),
     .metavar = "FILE",
     .help = "for fp8: INC's JSON configuration; the environment variable QUANT_CONFIG names it otherwise"},
    {.name = "kv-cache-dtype",
     .type = OCT_FLAG_CHOICE,
     .offset = FIELD(engine.kv_cache_dtype),
     .choices = "auto|fp8_inc",
     .initial = "auto",
     .help = "for fp8: fp8_inc stores the scales of K and V too, and a server will keep them in FP8"},
    {.name = "tokenizer",
     .type = OCT_FLAG_STRING,
     .offset = FIELD(tokenizer),
     .metavar = "DIR",
     .help = "the folder whose tokenizer files are copied (default: the model's own)"},
    {.name = "overwrite", .type = OCT_FLAG_BOOL, .offset = FIELD(overwrite), .help = "replace the folder if it is there"},
    {.name = "threads",
     .short_name = "t",
     .type = OCT_FLAG_INT,
     .offset = FIELD(engine.threads),
     .min = 0,
     .max = 256,
     .initial = "0",
     .help = "0: the cores this process may use"},
    {0},
};

enum { MAX_JSON_BYTES = 64 << 20, MAX_COPIED_BYTES = 1 << 30 };

struct quantizing {
    const struct quantize_options *options;
    enum oct_fp8_activation activation;
    char *path; // of the model. Owned
    struct oct_checkpoint *checkpoint;
    struct oct_device *device;
    struct oct_quantization quantization; // of QUANT_CONFIG; else only its plan is set
    struct oct_llama *llama;
    char *output, *unfinished; // the folder, without a slash at its end, and its name until it is complete. Owned
};

// --- what is asked ----------------------------------------------------------------------------------------------------------------

static const char *config_path(const struct quantize_options *options) {
    const char *path = options->engine.quant_config ? options->engine.quant_config : getenv("QUANT_CONFIG");
    return path && *path ? path : NULL;
}

static oct_status read_scheme(struct quantizing *q, oct_error *err) {
    const struct quantize_options *options = q->options;
    const char *scheme = options->scheme ? options->scheme : options->engine.quant_config ? "fp8" : "fp8_dynamic";
    bool is_static = !strcmp(scheme, "fp8");
    q->activation = is_static ? OCT_ACTIVATION_STATIC : !strcmp(scheme, "fp8_weights") ? OCT_ACTIVATION_BF16 : OCT_ACTIVATION_TOKEN;
    if (is_static && !config_path(options))
        return oct_fail(err, OCT_INVALID_ARGUMENT,
                        "--scheme fp8 needs --quant-config, which says what activations were measured. Make it with: octavo calibrate %s "
                        "--output DIR",
                        options->model);
    if (!is_static && options->engine.quant_config)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--quant-config: only --scheme fp8 needs it, %s found", scheme);
    if (!is_static && strcmp(options->engine.kv_cache_dtype, "auto"))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "--kv-cache-dtype: only --scheme fp8 has scales of K and V, %s found", scheme);
    return OCT_OK;
}

static bool is_empty_folder(const char *path) {
    DIR *dir = opendir(path);
    int entries = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));) entries += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    if (dir) closedir(dir);
    return dir && entries == 0;
}

static oct_status prepare_output(struct quantizing *q, oct_error *err) {
    const struct quantize_options *options = q->options;
    if (!options->output) return oct_fail(err, OCT_INVALID_ARGUMENT, "--output DIR is missing");
    q->output = oct_strdup(options->output);
    for (size_t length = strlen(q->output); length > 1 && q->output[length - 1] == '/';) q->output[--length] = '\0';
    if (oct_path_exists(q->output) && !is_empty_folder(q->output) && !options->overwrite)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: is there already; --overwrite replaces it", q->output);
    if (oct_path_exists(q->output) && !oct_path_is_directory(q->output))
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a folder expected, a file found", q->output);
    char *ours = realpath(q->output, NULL), *models = realpath(q->path, NULL);
    bool same = ours && models && !strcmp(ours, models);
    free(ours);
    free(models);
    if (same) return oct_fail(err, OCT_INVALID_ARGUMENT, "--output: another folder than the model's expected");
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s.%ld.tmp", q->output, (long)getpid());
    q->unfinished = oct_buffer_take(&name);
    return oct_make_directories(q->unfinished, err);
}

// --- the model --------------------------------------------------------------------------------------------------------------------

// What compressed-tensors cannot say is left out, and the user told.
static oct_status open_static_plan(struct quantizing *q, oct_error *err) {
    oct_engine_options engine = oct_engine_flags_options(&q->options->engine, q->options->model);
    engine.quantization = "inc";
    OCT_TRY(oct_quantization_open(&engine, q->checkpoint, &q->quantization, err));
    struct oct_plan *plan = q->quantization.plan;
    if (!plan) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: mode QUANTIZE expected", config_path(q->options));
    if (plan->full_scale > OCT_E4M3_MAX)
        return oct_fail(err, OCT_UNSUPPORTED, "%s: fp8_config E4M3 expected, E5M2 found", config_path(q->options));
    bool attention = false;
    for (int layer = 0; layer < plan->num_layers; layer++) {
        const struct oct_attention_plan *a = &plan->layers[layer].attention;
        attention |= a->matmul_qk || a->matmul_av || a->softmax;
        for (enum oct_module module = 0; module < OCT_LM_HEAD; module++) {
            const struct oct_linear_plan *linear = oct_plan_linear(plan, module, layer);
            if (linear && linear->fp8 && !linear->input_scale)
                return oct_fail(err, OCT_UNSUPPORTED, "%s: a scale method with static activations expected, %s found",
                                config_path(q->options), q->quantization.config->scales.preset.name);
        }
    }
    if (attention || plan->lm_head.fp8)
        fprintf(stderr, "The checkpoint leaves in bf16 what its format has no place for:%s%s\n", plan->lm_head.fp8 ? " lm_head" : "",
                attention ? " matmul_qk, matmul_av and softmax" : "");
    plan->lm_head.fp8 = false;
    return OCT_OK;
}

static oct_status load_model(struct quantizing *q, const struct oct_progress *progress, oct_error *err) {
    const struct oct_model_config *config = oct_checkpoint_config(q->checkpoint);
    if (config->fp8.method)
        return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: an unquantized model expected, this one is FP8 (%s)", q->path,
                        oct_fp8_method_name(config->fp8.method));
    if (q->activation == OCT_ACTIVATION_STATIC)
        OCT_TRY(open_static_plan(q, err));
    else
        q->quantization.plan = oct_plan_fp8_weights(config->num_hidden_layers);
    OCT_TRY(oct_device_open_cpu(q->options->engine.threads, &q->device, err));
    struct oct_llama_options llama = {
        .compute = OCT_BF16, .plan = q->quantization.plan, .max_positions = 1, .max_rows = 1, .max_logit_rows = 1, .progress = progress};
    return oct_llama_open(q->checkpoint, q->device, &llama, &q->llama, err);
}

// --- the folder -------------------------------------------------------------------------------------------------------------------

static oct_status write_json(const struct quantizing *q, const char *name, const json_t *value, oct_error *err) {
    char *path = oct_path_join(q->unfinished, name), *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    struct oct_buffer line = {0};
    oct_buffer_printf(&line, "%s\n", text);
    oct_status status = oct_file_write(path, line.data, line.length, err);
    oct_buffer_free(&line);
    free(text);
    free(path);
    return status;
}

static oct_status write_config(const struct quantizing *q, const struct oct_fp8_export *export, oct_error *err) {
    const char *folder = oct_checkpoint_directory(q->checkpoint);
    json_t *config = NULL;
    if (folder) {
        char *path = oct_path_join(folder, "config.json");
        oct_status status = oct_json_load(path, MAX_JSON_BYTES, &config, err);
        free(path);
        OCT_TRY(status);
    } else {
        config = oct_fp8_export_model_config(oct_checkpoint_config(q->checkpoint));
    }
    json_object_set_new(config, "quantization_config", oct_fp8_export_config(export));
    oct_status status = write_json(q, "config.json", config, err);
    json_decref(config);
    return status;
}

static oct_status copy_file(const struct quantizing *q, const char *folder, const char *name, oct_error *err) {
    char *from = oct_path_join(folder, name), *to = oct_path_join(q->unfinished, name), *bytes = NULL;
    size_t length;
    oct_status status = OCT_OK;
    if (oct_path_exists(from)) {
        status = oct_file_read(from, MAX_COPIED_BYTES, &bytes, &length, err);
        if (status == OCT_OK) status = oct_file_write(to, bytes, length, err);
    }
    free(bytes);
    free(from);
    free(to);
    return status;
}

static oct_status copy_others(const struct quantizing *q, oct_error *err) {
    static const char *const names[] = {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt",     "tokenizer.model",       "chat_template.jinja",     "chat_template.json"};
    const char *own = oct_checkpoint_directory(q->checkpoint), *folder = q->options->tokenizer ? q->options->tokenizer : own;
    for (size_t i = 0; folder && i < sizeof names / sizeof *names; i++) OCT_TRY(copy_file(q, folder, names[i], err));
    if (!folder) OCT_TRY(oct_gguf_tokenizer_write(oct_checkpoint_gguf(q->checkpoint), q->unfinished, err));
    return own ? copy_file(q, own, "generation_config.json", err) : OCT_OK;
}

// Removes a folder of files; what else may be in it stays, and the folder with it.
static bool remove_folder(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir) closedir(dir);
    return rmdir(path) == 0;
}

static oct_status move_into_place(struct quantizing *q, oct_error *err) {
    if (rename(q->unfinished, q->output) == 0) return OCT_OK; // also over an empty folder
    if ((errno != ENOTEMPTY && errno != EEXIST) || !q->options->overwrite)
        return oct_fail(err, OCT_IO, "%s: cannot move the finished folder there: %s", q->output, strerror(errno));
    if (renameat2(AT_FDCWD, q->unfinished, AT_FDCWD, q->output, RENAME_EXCHANGE) != 0)
        return oct_fail(err, OCT_IO, "%s: cannot exchange it with the finished folder: %s", q->output, strerror(errno));
    if (!remove_folder(q->unfinished)) // which is the old one now
        fprintf(stderr, "The old folder holds other folders; what is left of it is %s\n", q->unfinished);
    return OCT_OK;
}

static oct_status write_folder(struct quantizing *q, const struct oct_progress *progress, oct_error *err) {
    const struct oct_fp8_export export = {q->checkpoint, q->llama, q->quantization.plan, q->activation};
    char *weights = oct_path_join(q->unfinished, "model.safetensors");
    oct_status status = oct_fp8_export_weights(&export, weights, progress, err);
    struct stat info = {0};
    if (status == OCT_OK && stat(weights, &info) != 0) status = oct_fail(err, OCT_IO, "%s: %s", weights, strerror(errno));
    free(weights);
    OCT_TRY(status);
    OCT_TRY(copy_others(q, err));
    OCT_TRY(write_config(q, &export, err));
    OCT_TRY(move_into_place(q, err));
    printf("%s: %.1f MiB, %s activations\n", q->output, (double)info.st_size / (1 << 20), oct_fp8_activation_name(q->activation));
    return OCT_OK;
}

// --- the command ------------------------------------------------------------------------------------------------------------------

static oct_status quantize(struct quantizing *q, const struct oct_progress *progress, oct_error *err) {
    OCT_TRY(read_scheme(q, err));
    OCT_TRY(oct_model_locate(q->options->model, &q->path, err));
    OCT_TRY(oct_checkpoint_open(q->path, &q->checkpoint, err));
    OCT_TRY(prepare_output(q, err));
    OCT_TRY(load_model(q, progress, err));
    return write_folder(q, progress, err);
}

static oct_status run(const void *given, oct_error *err) {
    struct quantizing q = {.options = given};
    struct oct_progress_bar bar;
    oct_interrupt_catch();
    oct_progress_bar_start(&bar);
    struct oct_progress progress = oct_progress_bar_receiver(&bar);
    oct_status status = quantize(&q, &progress, err);
    oct_progress_bar_clear(&bar);
    if (status != OCT_OK && q.unfinished) remove_folder(q.unfinished);
    oct_llama_close(q.llama);
    oct_device_close(q.device);
    oct_quantization_close(&q.quantization, NULL);
    oct_checkpoint_close(q.checkpoint);
    free(q.path);
    free(q.output);
    free(q.unfinished);
    return status;
}

const struct oct_command oct_command_quantize = {
    .name = "quantize",
    .positional = "MODEL",
    .positional_offset = FIELD(model),
    .summary = "write an FP8 checkpoint that vLLM loads",
    .details = "  octavo quantize ./Llama-3.2-1B --output Llama-3.2-1B-FP8\n"
               "  octavo quantize ./Llama-3.2-1B --output Llama-3.2-1B-FP8 --quant-config out/llama-3.2-1b/maxabs_quant_g3.json\n\n"
               "The format is compressed-tensors, as llm-compressor writes it. lm_head and the embedding are not quantized.\n",
    .options_size = sizeof(struct quantize_options),
    .groups = {{"Quantization", flags, 0}},
    .run = run,
};
