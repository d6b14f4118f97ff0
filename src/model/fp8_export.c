// fp8_export.c: the packed model back into a checkpoint's rows. What was computed with is what is written, so that the checkpoint runs
// as the model did.
#include "model/fp8_export.h"

#include "base/memory.h"
#include "model/safetensors_write.h"
#include "numeric/bf16.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_AT_ONCE = 1 << 20 };

// One part of an FP8 module: rows first_row .. of `linear` are the weight `tensor`.
struct part {
    const struct oct_tensor *tensor;
    const struct oct_linear *linear;
    const struct oct_linear_plan *plan;
    int first_row, rows;
    char base[OCT_PART_NAME]; // the tensor's name without ".weight"
};

struct parts {
    struct part *items; // owned
    size_t count;
};

static const struct oct_linear *linear_of(const struct oct_llama *llama, enum oct_module module, int layer) {
    switch (module) {
    case OCT_QKV_PROJ:
        return &llama->layers[layer].qkv_proj;
    case OCT_O_PROJ:
        return &llama->layers[layer].o_proj;
    case OCT_GATE_UP_PROJ:
        return &llama->layers[layer].gate_up_proj;
    case OCT_DOWN_PROJ:
        return &llama->layers[layer].down_proj;
    default:
        OCT_CHECK(module == OCT_LM_HEAD);
        return &llama->lm_head;
    }
}

// Calls visit(context, module, layer, plan) for every linear of the layers.
static void each_linear(const struct oct_plan *plan,
                        void (*visit)(void *context, enum oct_module module, int layer, const struct oct_linear_plan *), void *context) {
    for (int layer = 0; layer < plan->num_layers; layer++)
        for (int module = 0; module < OCT_LM_HEAD; module++)
            if (oct_module_is_linear((enum oct_module)module))
                visit(context, (enum oct_module)module, layer, oct_plan_linear((struct oct_plan *)plan, (enum oct_module)module, layer));
}

struct collector {
    const struct oct_fp8_export *export;
    struct parts *parts;
};

static void collect(void *context, enum oct_module module, int layer, const struct oct_linear_plan *plan) {
    const struct collector *collector = context;
    char names[OCT_MAX_PARTS][OCT_PART_NAME];
    if (!plan->fp8) return;
    int count = oct_module_parts(module, layer, names), first_row = 0;
    for (int i = 0; i < count; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s.weight", names[i]);
        const struct oct_tensor *tensor = oct_checkpoint_find(collector->export->checkpoint, name);
        OCT_CHECK(tensor && plan->weight_scales); // the model was loaded from it
        struct part *part = &collector->parts->items[collector->parts->count++];
        *part =
            (struct part){tensor, linear_of(collector->export->llama, module, layer), plan, first_row, (int)oct_tensor_rows(tensor), ""};
        strcpy(part->base, names[i]);
        first_row += part->rows;
    }
}

static struct parts collect_parts(const struct oct_fp8_export *export) {
    struct parts parts = {.items =
                              oct_alloc((size_t) export->plan->num_layers * OCT_LM_HEAD * OCT_MAX_PARTS, sizeof *parts.items, "an export")};
    each_linear(export->plan, collect, &(struct collector){export, &parts});
    return parts;
}

static const struct part *part_of(const struct parts *parts, const struct oct_tensor *tensor) {
    for (size_t i = 0; i < parts->count; i++)
        if (parts->items[i].tensor == tensor) return &parts->items[i];
    return NULL;
}

// Whether some module has a scale for each channel: then all are written so, because a checkpoint has one strategy.
static bool is_per_channel(const struct parts *parts) {
    for (size_t i = 0; i < parts->count; i++)
        if (parts->items[i].plan->num_weight_scales > 1) return true;
    return false;
}

// --- tensors ----------------------------------------------------------------------------------------------------------------------

struct stream {
    struct oct_safetensors_writer writer;
    bool per_channel, static_activations;
    bool wide_scales; // some scale is not a bf16 number: all are written as float32
    oct_error *err;
};

static bool is_bf16(float value) {
    return oct_bf16_round(value) == value;
}

// As llm-compressor has them, unless QUANT_CONFIG's hp_dtype made others.
static bool has_wide_scales(const struct oct_fp8_export *export, const struct parts *parts) {
    for (size_t i = 0; i < parts->count; i++) {
        const struct oct_linear_plan *plan = parts->items[i].plan;
        if (!is_bf16(plan->input_scale)) return true;
        for (int k = 0; k < plan->num_weight_scales; k++)
            if (!is_bf16(plan->weight_scales[k])) return true;
    }
    for (int layer = 0; layer < export->plan->num_layers; layer++) {
        const struct oct_attention_plan *attention = &export->plan->layers[layer].attention;
        if (!is_bf16(attention->k_cache_scale) || !is_bf16(attention->v_cache_scale)) return true;
    }
    return false;
}

// rows 0: one scale of a tensor, else one for each row.
static void declare_scale(struct stream *stream, const char *name, int rows) {
    oct_safetensors_declare(&stream->writer, name, stream->wide_scales ? "F32" : "BF16",
                            stream->wide_scales ? sizeof(float) : sizeof(uint16_t), rows ? 2 : 1, (const int64_t[]){rows ? rows : 1, 1});
}

static void declare_part(struct stream *stream, const struct part *part) {
    char name[512];
    int64_t shape[] = {part->rows, part->linear->in_features};
    if (stream->static_activations) {
        snprintf(name, sizeof name, "%s.input_scale", part->base);
        declare_scale(stream, name, 0);
    }
    snprintf(name, sizeof name, "%s.weight", part->base);
    oct_safetensors_declare(&stream->writer, name, "F8_E4M3", 1, 2, shape);
    snprintf(name, sizeof name, "%s.weight_scale", part->base);
    declare_scale(stream, name, stream->per_channel ? part->rows : 0);
}

static oct_status append_scale(struct stream *stream, float scale) {
    if (stream->wide_scales) return oct_safetensors_append(&stream->writer, &scale, sizeof scale, stream->err);
    uint16_t bits = oct_bf16_from_f32(scale);
    return oct_safetensors_append(&stream->writer, &bits, sizeof bits, stream->err);
}

static oct_status append_part(struct stream *stream, const struct part *part) {
    if (stream->static_activations) OCT_TRY(append_scale(stream, part->plan->input_scale));
    size_t columns = (size_t)part->linear->in_features;
    int at_once = (int)(BYTES_AT_ONCE / columns) + 1;
    uint8_t *codes = oct_alloc((size_t)at_once * columns, 1, "FP8 weights");
    oct_status status = OCT_OK;
    for (int row = 0; row < part->rows && status == OCT_OK; row += at_once) {
        int count = part->rows - row < at_once ? part->rows - row : at_once;
        oct_linear_codes(part->linear, part->first_row + row, count, codes);
        status = oct_safetensors_append(&stream->writer, codes, (size_t)count * columns, stream->err);
    }
    free(codes);
    OCT_TRY(status);
    for (int row = 0; row < (stream->per_channel ? part->rows : 1); row++)
        OCT_TRY(append_scale(stream, part->plan->weight_scales[part->plan->num_weight_scales > 1 ? part->first_row + row : 0]));
    return OCT_OK;
}

// What is not quantized keeps its format; what GGUF stores in blocks, or in another order, becomes bf16.
static enum oct_dtype exported_dtype(const struct oct_tensor *tensor) {
    return oct_dtype_block_elements(tensor->dtype) > 1 || tensor->interleaved_head_dim ? OCT_BF16 : tensor->dtype;
}

static void declare_tensor(struct stream *stream, const struct oct_tensor *tensor) {
    enum oct_dtype dtype = exported_dtype(tensor);
    oct_safetensors_declare(&stream->writer, tensor->name,
                            dtype == OCT_F32   ? "F32"
                            : dtype == OCT_F16 ? "F16"
                                               : "BF16",
                            oct_dtype_block_bytes(dtype), tensor->num_dims, tensor->shape);
}

static oct_status append_bf16(struct stream *stream, const struct oct_tensor *tensor) {
    size_t columns = (size_t)oct_tensor_columns(tensor);
    float *values = oct_alloc(columns, sizeof *values, "a row");
    uint16_t *bits = oct_alloc(columns, sizeof *bits, "a row");
    oct_status status = OCT_OK;
    for (int64_t row = 0; row < oct_tensor_rows(tensor) && status == OCT_OK; row++) {
        oct_tensor_rows_f32(tensor, row, 1, values);
        for (size_t i = 0; i < columns; i++) bits[i] = oct_bf16_from_f32(values[i]);
        status = oct_safetensors_append(&stream->writer, bits, columns * sizeof *bits, stream->err);
    }
    free(values);
    free(bits);
    return status;
}

static oct_status append_tensor(struct stream *stream, const struct oct_tensor *tensor) {
    oct_status status = exported_dtype(tensor) == tensor->dtype && !tensor->interleaved_head_dim
                            ? oct_safetensors_append(&stream->writer, tensor->data, tensor->size, stream->err)
                            : append_bf16(stream, tensor);
    oct_tensor_drop_pages(tensor);
    return status;
}

// K and V of the layers that have them in FP8, after all else.
static oct_status write_kv_scales(struct stream *stream, const struct oct_plan *plan, bool declare) {
    for (int layer = 0; layer < plan->num_layers; layer++) {
        const struct oct_attention_plan *attention = &plan->layers[layer].attention;
        const float scales[] = {attention->k_cache_scale, attention->v_cache_scale};
        for (int i = 0; i < 2 && attention->k_cache && attention->v_cache; i++) {
            char name[OCT_PART_NAME];
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%c_scale", layer, "kv"[i]);
            if (declare)
                declare_scale(stream, name, 0);
            else
                OCT_TRY(append_scale(stream, scales[i]));
        }
    }
    return OCT_OK;
}

static oct_status write_all(struct stream *stream, const struct oct_fp8_export *export, const struct parts *parts, const char *path,
                            const struct oct_progress *progress) {
    size_t count = oct_checkpoint_num_tensors(export->checkpoint);
    for (size_t i = 0; i < count; i++) {
        const struct oct_tensor *tensor = oct_checkpoint_tensor(export->checkpoint, i);
        const struct part *part = part_of(parts, tensor);
        if (part)
            declare_part(stream, part);
        else
            declare_tensor(stream, tensor);
    }
    write_kv_scales(stream, export->plan, true);
    OCT_TRY(oct_safetensors_begin(&stream->writer, path, stream->err));
    for (size_t i = 0; i < count; i++) {
        if (oct_progress_report(progress, "writing tensors", i, count)) return oct_fail(stream->err, OCT_CANCELLED, "interrupted");
        const struct oct_tensor *tensor = oct_checkpoint_tensor(export->checkpoint, i);
        const struct part *part = part_of(parts, tensor);
        OCT_TRY(part ? append_part(stream, part) : append_tensor(stream, tensor));
    }
    OCT_TRY(write_kv_scales(stream, export->plan, false));
    oct_progress_report(progress, "writing tensors", count, count);
    return oct_safetensors_commit(&stream->writer, stream->err);
}

oct_status oct_fp8_export_weights(const struct oct_fp8_export *export, const char *path, const struct oct_progress *progress,
                                  oct_error *err) {
    OCT_CHECK(!export->plan->lm_head.fp8 && !oct_checkpoint_config(export->checkpoint)->fp8.method);
    struct parts parts = collect_parts(export);
    struct stream stream = {.per_channel = is_per_channel(&parts),
                            .static_activations = export->activation == OCT_ACTIVATION_STATIC,
                            .wide_scales = has_wide_scales(export, &parts),
                            .err = err};
    oct_status status = write_all(&stream, export, &parts, path, progress);
    oct_safetensors_abandon(&stream.writer);
    free(parts.items);
    return status;
}

// --- config.json ------------------------------------------------------------------------------------------------------------------

static json_t *scheme(const char *strategy, bool dynamic) {
    return json_pack("{s:i, s:s, s:b, s:s, s:b, s:n, s:n, s:n, s:o, s:o}", "num_bits", 8, "type", "float", "symmetric", 1, "strategy",
                     strategy, "dynamic", dynamic, "group_size", "block_structure", "actorder", "observer",
                     dynamic ? json_null() : json_string("minmax"), "observer_kwargs", json_object());
}

static void add_ignored(void *context, enum oct_module module, int layer, const struct oct_linear_plan *plan) {
    char names[OCT_MAX_PARTS][OCT_PART_NAME];
    if (plan->fp8) return;
    int count = oct_module_parts(module, layer, names);
    for (int i = 0; i < count; i++) json_array_append_new(context, json_string(names[i]));
}

json_t *oct_fp8_export_config(const struct oct_fp8_export *export) {
    struct parts parts = collect_parts(export);
    json_t *ignore = json_pack("[s]", "lm_head"), *activations = json_null(), *kv = json_null();
    each_linear(export->plan, add_ignored, ignore);
    if (export->activation == OCT_ACTIVATION_TOKEN) activations = scheme("token", true);
    if (export->activation == OCT_ACTIVATION_STATIC) activations = scheme("tensor", false);
    const struct oct_attention_plan *attention = &export->plan->layers[0].attention;
    if (attention->k_cache && attention->v_cache) kv = scheme("tensor", false);
    json_t *group =
        json_pack("{s:[s], s:o, s:o, s:n}", "targets", "Linear", "weights", scheme(is_per_channel(&parts) ? "channel" : "tensor", false),
                  "input_activations", activations, "output_activations");
    free(parts.items);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:{s:o}}", "quant_method", "compressed-tensors", "format", "float-quantized",
                     "quantization_status", "compressed", "ignore", ignore, "kv_cache_scheme", kv, "config_groups", "group_0", group);
}

static json_t *rope_scaling(const struct oct_rope_config *rope) {
    switch (rope->type) {
    case OCT_ROPE_LINEAR:
        return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", rope->factor);
    case OCT_ROPE_DYNAMIC:
        return json_pack("{s:s, s:f}", "rope_type", "dynamic", "factor", rope->factor);
    case OCT_ROPE_LLAMA3:
        return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", rope->factor, "low_freq_factor",
                         rope->low_freq_factor, "high_freq_factor", rope->high_freq_factor, "original_max_position_embeddings",
                         rope->original_max_position_embeddings);
    case OCT_ROPE_YARN:
        return json_pack("{s:s, s:f, s:i, s:f, s:f, s:f, s:b}", "rope_type", "yarn", "factor", rope->factor,
                         "original_max_position_embeddings", rope->original_max_position_embeddings, "beta_fast", rope->beta_fast,
                         "beta_slow", rope->beta_slow, "attention_factor", rope->attention_factor, "truncate", rope->truncate);
    case OCT_ROPE_DEFAULT:
        break;
    }
    return json_null();
}

json_t *oct_fp8_export_model_config(const struct oct_model_config *config) {
    json_t *eos = json_array();
    for (int i = 0; i < config->num_eos_tokens; i++) json_array_append_new(eos, json_integer(config->eos_token_ids[i]));
    json_t *out = json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:b, s:b, s:s, s:s, s:f, s:o, s:o}",
                            "architectures", !strcmp(config->model_type, "mistral") ? "MistralForCausalLM" : "LlamaForCausalLM",
                            "model_type", config->model_type, "hidden_size", config->hidden_size, "intermediate_size",
                            config->intermediate_size, "num_hidden_layers", config->num_hidden_layers, "num_attention_heads",
                            config->num_attention_heads, "num_key_value_heads", config->num_key_value_heads, "head_dim", config->head_dim,
                            "vocab_size", config->vocab_size, "max_position_embeddings", config->max_position_embeddings, "rms_norm_eps",
                            (double)config->rms_norm_eps, "tie_word_embeddings", config->tie_word_embeddings, "attention_bias",
                            config->attention_bias, "mlp_bias", config->mlp_bias, "hidden_act", "silu", "torch_dtype", "bfloat16",
                            "rope_theta", config->rope.theta, "rope_scaling", rope_scaling(&config->rope), "eos_token_id", eos);
    if (config->bos_token_id >= 0) json_object_set_new(out, "bos_token_id", json_integer(config->bos_token_id));
    return out;
}
