// llama_weights.c: from checkpoint to device, tensor by tensor: decode, quantize as planned, pack, drop the file's pages. Peak memory
// is the packed model and a few rows.
#include "model/llama.h"

#include "base/memory.h"
#include "model/rope.h"
#include "model/stored_fp8.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 32 }; // decoded at a time by each thread: a panel of the CPU's kernels, so that no two threads write to one

struct loader {
    const struct oct_checkpoint *checkpoint;
    const struct oct_llama_options *options;
    struct oct_llama *llama;
    float **rows; // (threads) buffers of (ROWS_AT_ONCE, largest in_features) decoded weights
    int threads;
    float *row_amax;   // (largest out_features)
    float *inv_scales; // (largest out_features)
    oct_error *err;
};

// Several tensors stacked on each other make one linear: q, k and v rows; gate and up rows.
struct stack {
    const struct oct_tensor *parts[3];
    int num_parts;
    float *scales;     // (k_blocks, rows) by which stored codes are multiplied, 1 for parts that are not FP8; NULL: none is. Owned
    int rows, k_block; // of the whole stack; inputs that share a scale
};

static oct_status find(struct loader *loader, const char *prefix, const char *name, int64_t shape0, int64_t shape1,
                       const struct oct_tensor **out) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return oct_checkpoint_require(loader->checkpoint, full, shape0, shape1, out, loader->err);
}

static void round_to_bf16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = oct_bf16_round(x[i]);
}

static float row_amax(const float *x, int n) {
    float largest = 0;
    for (int i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        if (!(magnitude <= largest)) largest = magnitude; // NaN is taken over, and stays
        if (isnan(largest)) break;
    }
    return largest;
}

static oct_status load_scales(struct loader *loader, struct stack *stack, int rows, int in_features) {
    const struct oct_fp8_format *format = &loader->llama->config.fp8;
    int k_blocks = oct_stored_k_blocks(format, in_features), fp8 = 0, first = 0;
    for (int part = 0; part < stack->num_parts; part++) fp8 += stack->parts[part]->dtype == OCT_E4M3;
    if (!fp8) return OCT_OK;
    stack->rows = rows;
    stack->k_block = k_blocks > 1 ? format->block_in : in_features;
    stack->scales = oct_alloc((size_t)k_blocks * (size_t)rows, sizeof(float), "weight scales");
    for (int i = 0; i < k_blocks * rows; i++) stack->scales[i] = 1;
    for (int part = 0; part < stack->num_parts; part++) {
        const struct oct_tensor *weight = stack->parts[part];
        if (weight->dtype == OCT_E4M3)
            OCT_TRY(oct_stored_weight_scales(loader->checkpoint, weight, rows, stack->scales + first, loader->err));
        first += (int)oct_tensor_rows(weight);
    }
    return OCT_OK;
}

// Rows of one part of a stack, which begins with the stack's row `first`. codes: FP8 weights without their scales.
static void read_rows(const struct stack *stack, int part, int first, int begin, int count, bool codes, float *out) {
    const struct oct_tensor *tensor = stack->parts[part];
    int columns = (int)oct_tensor_columns(tensor);
    oct_tensor_rows_f32(tensor, begin, count, out);
    if (codes || tensor->dtype != OCT_E4M3) return;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < columns; k++) *out++ *= stack->scales[k / stack->k_block * stack->rows + first + begin + i];
}

// One pass over the rows of a stack, decoded to float32, and rounded to bf16 where FP8 scales or maxima are at stake: those are made from
// the bf16 weight, as on the cards.
struct pass {
    struct loader *loader;
    const struct stack *stack;
    int part, first_row; // the part's first row in the linear
    int columns;
    bool bf16, codes;
    bool note_amax;            // max |w| of each row is kept
    struct oct_linear *linear; // packed into, or NULL
};

static void pass_rows(void *context, int worker, int begin, int end) {
    const struct pass *pass = context;
    struct loader *loader = pass->loader;
    float *rows = loader->rows[worker];
    int first = pass->first_row + begin;
    read_rows(pass->stack, pass->part, pass->first_row, begin, end - begin, pass->codes, rows);
    if (pass->bf16) round_to_bf16(rows, (size_t)(end - begin) * (size_t)pass->columns);
    if (pass->linear) oct_linear_pack(loader->llama->device, pass->linear, first, end - begin, rows, loader->inv_scales + first);
    for (int i = 0; pass->note_amax && i < end - begin; i++)
        loader->row_amax[first + i] = row_amax(rows + (size_t)i * (size_t)pass->columns, pass->columns);
}

static void pass_over(struct pass *pass) {
    for (pass->part = 0; pass->part < pass->stack->num_parts; pass->part++) {
        int rows = (int)oct_tensor_rows(pass->stack->parts[pass->part]);
        oct_parallel_for(pass->loader->llama->device, rows, ROWS_AT_ONCE, pass_rows, pass);
        pass->first_row += rows;
    }
}

// The largest of the maxima of the last pass that noted them.
static oct_status find_amax(const struct loader *loader, enum oct_module module, int layer, int out_features, float *amax) {
    *amax = 0;
    for (int i = 0; i < out_features && !isnan(*amax); i++)
        if (!(loader->row_amax[i] <= *amax)) *amax = loader->row_amax[i];
    if (isfinite(*amax)) return OCT_OK;
    char name[160];
    return oct_fail(loader->err, OCT_CORRUPT, "%s: finite weights expected, NaN or infinity found",
                    oct_module_name(module, layer, name, sizeof name));
}

// The scales that lose least; one row after the other, because the errors of all rows are summed in order.
static void search_scales(struct loader *loader, const struct stack *stack, int columns, struct oct_weight_search *search) {
    int first = 0;
    for (int part = 0; part < stack->num_parts; part++) {
        int rows = (int)oct_tensor_rows(stack->parts[part]);
        for (int row = 0; row < rows; row++) {
            read_rows(stack, part, first, row, 1, false, loader->rows[0]);
            round_to_bf16(loader->rows[0], (size_t)columns);
            oct_weight_search_rows(search, first + row, 1, columns, loader->rows[0]);
        }
        first += rows;
    }
}

// The activation's side of an FP8 linear.
static void plan_input(const struct loader *loader, const struct oct_linear_plan *plan, struct oct_linear *linear) {
    if (plan->dynamic) {
        struct oct_scale_rule *rule = linear->row_scale_rule = oct_alloc(1, sizeof *rule, "a rule for scales");
        *rule = plan->activation_rule;
        linear->row_scale = oct_scale_row;
    }
    linear->input_scale = plan->input_scale;
    linear->input_inv_scale = oct_inv_scale_in(loader->options->plan->arithmetic, plan->input_scale);
    linear->full_scale = loader->options->plan->full_scale;
}

// Rounds the weight with the plan's scales, which are made now where no file gave them.
static void quantize_linear(struct loader *loader, const struct stack *stack, struct oct_linear_plan *plan, struct oct_linear *linear) {
    int out_features = linear->out_features;
    plan->in_features = linear->in_features;
    struct oct_weight_search *search = oct_plan_search_begin(plan, out_features);
    if (search) {
        search_scales(loader, stack, linear->in_features, search);
        oct_plan_search_end(plan, search, out_features);
    } else {
        oct_plan_set_weight_scales(plan, loader->row_amax, out_features);
    }
    plan_input(loader, plan, linear);
    for (int i = 0; i < out_features; i++) {
        float scale = plan->weight_scales[plan->num_weight_scales == 1 ? 0 : i];
        linear->scales[i] = plan->input_scale ? plan->input_scale * scale : scale;
        loader->inv_scales[i] = oct_inv_scale_in(loader->options->plan->arithmetic, scale);
    }
    struct pass pass = {.loader = loader, .stack = stack, .columns = linear->in_features, .bf16 = true, .linear = linear};
    pass_over(&pass);
}

// Takes an FP8 weight as the checkpoint has it.
static void take_stored(struct loader *loader, const struct stack *stack, const struct oct_linear_plan *plan, struct oct_linear *linear) {
    oct_linear_split(linear, stack->k_block);
    for (int i = 0; i < linear->k_blocks * linear->out_features; i++)
        linear->scales[i] = plan->input_scale ? plan->input_scale * stack->scales[i] : stack->scales[i];
    for (int i = 0; i < linear->out_features; i++) loader->inv_scales[i] = 1;
    linear->full_scale = OCT_E4M3_MAX; // of packing: every code is its own
    struct pass pass = {
        .loader = loader, .stack = stack, .columns = linear->in_features, .codes = true, .note_amax = true, .linear = linear};
    pass_over(&pass);
    plan_input(loader, plan, linear);
    oct_stored_row_scales(&loader->llama->config.fp8, linear);
}

static oct_status load_stack(struct loader *loader, struct stack *stack, enum oct_module module, int layer, int out_features,
                             int in_features, bool bias, struct oct_linear *linear) {
    struct oct_linear_plan *plan = loader->options->plan ? oct_plan_linear(loader->options->plan, module, layer) : NULL;
    bool fp8 = plan && plan->fp8, stored = fp8 && plan->stored;
    float amax;
    OCT_TRY(load_scales(loader, stack, out_features, in_features));
    OCT_CHECK(!stored || stack->scales);
    if ((fp8 && !stored) || loader->options->on_weight) {
        struct pass pass = {.loader = loader, .stack = stack, .columns = in_features, .bf16 = true, .note_amax = true};
        pass_over(&pass);
        OCT_TRY(find_amax(loader, module, layer, out_features, &amax));
        struct oct_seen_weight seen = {
            .amax = amax, .row_amax = loader->row_amax, .out_features = out_features, .in_features = in_features};
        if (loader->options->on_weight) loader->options->on_weight(loader->options->on_weight_context, module, layer, &seen);
    }
    enum oct_dtype fp8_dtype = fp8 && loader->options->plan->full_scale > OCT_E4M3_MAX ? OCT_E5M2 : OCT_E4M3;
    OCT_TRY(oct_linear_alloc(loader->llama->device, fp8 ? fp8_dtype : loader->llama->compute, out_features, in_features, bias, linear,
                             loader->err));
    loader->llama->weight_bytes += linear->weight_bytes;
    if (stored) {
        take_stored(loader, stack, plan, linear);
        OCT_TRY(find_amax(loader, module, layer, out_features, &amax)); // a code can be NaN
    } else if (fp8) {
        quantize_linear(loader, stack, plan, linear);
    } else {
        struct pass pass = {.loader = loader, .stack = stack, .columns = in_features, .linear = linear};
        pass_over(&pass);
    }
    for (int part = 0; part < stack->num_parts; part++) oct_tensor_drop_pages(stack->parts[part]);
    return OCT_OK;
}

static oct_status load_linear(struct loader *loader, struct stack *stack, enum oct_module module, int layer, int out_features,
                              int in_features, bool bias, struct oct_linear *linear) {
    oct_status status = load_stack(loader, stack, module, layer, out_features, in_features, bias, linear);
    free(stack->scales);
    stack->scales = NULL;
    return status;
}

static oct_status load_vector(struct loader *loader, const char *prefix, const char *name, int size, float *out) {
    const struct oct_tensor *tensor;
    OCT_TRY(find(loader, prefix, name, size, 0, &tensor));
    oct_tensor_rows_f32(tensor, 0, 1, out);
    return OCT_OK;
}

static oct_status load_norm(struct loader *loader, const char *prefix, const char *name, float **out) {
    int size = loader->llama->config.hidden_size;
    *out = oct_alloc((size_t)size, sizeof(float), "a norm's weight");
    return load_vector(loader, prefix, name, size, *out);
}

static oct_status load_layer(struct loader *loader, int index) {
    struct oct_llama *llama = loader->llama;
    const struct oct_model_config *config = &llama->config;
    struct oct_llama_layer *layer = &llama->layers[index];
    int hidden = config->hidden_size, intermediate = config->intermediate_size;
    int q = config->num_attention_heads * config->head_dim, kv = config->num_key_value_heads * config->head_dim;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "model.layers.%d.", index);

    OCT_TRY(load_norm(loader, prefix, "input_layernorm.weight", &layer->input_layernorm));
    OCT_TRY(load_norm(loader, prefix, "post_attention_layernorm.weight", &layer->post_attention_layernorm));

    struct stack stack = {.num_parts = 3};
    OCT_TRY(find(loader, prefix, "self_attn.q_proj.weight", q, hidden, &stack.parts[0]));
    OCT_TRY(find(loader, prefix, "self_attn.k_proj.weight", kv, hidden, &stack.parts[1]));
    OCT_TRY(find(loader, prefix, "self_attn.v_proj.weight", kv, hidden, &stack.parts[2]));
    OCT_TRY(load_linear(loader, &stack, OCT_QKV_PROJ, index, q + 2 * kv, hidden, config->attention_bias, &layer->qkv_proj));
    if (config->attention_bias) {
        OCT_TRY(load_vector(loader, prefix, "self_attn.q_proj.bias", q, layer->qkv_proj.bias));
        OCT_TRY(load_vector(loader, prefix, "self_attn.k_proj.bias", kv, layer->qkv_proj.bias + q));
        OCT_TRY(load_vector(loader, prefix, "self_attn.v_proj.bias", kv, layer->qkv_proj.bias + q + kv));
    }

    stack.num_parts = 1;
    OCT_TRY(find(loader, prefix, "self_attn.o_proj.weight", hidden, q, &stack.parts[0]));
    OCT_TRY(load_linear(loader, &stack, OCT_O_PROJ, index, hidden, q, config->attention_bias, &layer->o_proj));
    if (config->attention_bias) OCT_TRY(load_vector(loader, prefix, "self_attn.o_proj.bias", hidden, layer->o_proj.bias));

    stack.num_parts = 2;
    OCT_TRY(find(loader, prefix, "mlp.gate_proj.weight", intermediate, hidden, &stack.parts[0]));
    OCT_TRY(find(loader, prefix, "mlp.up_proj.weight", intermediate, hidden, &stack.parts[1]));
    OCT_TRY(load_linear(loader, &stack, OCT_GATE_UP_PROJ, index, 2 * intermediate, hidden, config->mlp_bias, &layer->gate_up_proj));
    if (config->mlp_bias) {
        OCT_TRY(load_vector(loader, prefix, "mlp.gate_proj.bias", intermediate, layer->gate_up_proj.bias));
        OCT_TRY(load_vector(loader, prefix, "mlp.up_proj.bias", intermediate, layer->gate_up_proj.bias + intermediate));
    }

    stack.num_parts = 1;
    OCT_TRY(find(loader, prefix, "mlp.down_proj.weight", hidden, intermediate, &stack.parts[0]));
    OCT_TRY(load_linear(loader, &stack, OCT_DOWN_PROJ, index, hidden, intermediate, config->mlp_bias, &layer->down_proj));
    if (config->mlp_bias) OCT_TRY(load_vector(loader, prefix, "mlp.down_proj.bias", hidden, layer->down_proj.bias));
    return OCT_OK;
}

// The embedding is looked up, not multiplied: it keeps the model's own precision. A tied head that the plan leaves alone is the same
// memory.
static oct_status load_embedding_and_head(struct loader *loader) {
    struct oct_llama *llama = loader->llama;
    int vocab = llama->config.vocab_size, hidden = llama->config.hidden_size;
    struct stack embedding = {.num_parts = 1}, head = {.num_parts = 1};
    OCT_TRY(find(loader, "", "model.embed_tokens.weight", vocab, hidden, &embedding.parts[0]));
    OCT_TRY(oct_linear_alloc(llama->device, llama->compute, vocab, hidden, false, &llama->embed_tokens, loader->err));
    llama->weight_bytes += llama->embed_tokens.weight_bytes;
    if (embedding.parts[0]->dtype == OCT_E4M3)
        return oct_fail(loader->err, OCT_UNSUPPORTED, "tensor model.embed_tokens.weight: F32, F16 or BF16 expected, FP8 found");
    struct pass pass = {.loader = loader, .stack = &embedding, .columns = hidden, .linear = &llama->embed_tokens};
    pass_over(&pass);
    if (llama->config.tie_word_embeddings || !oct_checkpoint_find(loader->checkpoint, "lm_head.weight"))
        head = embedding;
    else
        OCT_TRY(find(loader, "", "lm_head.weight", vocab, hidden, &head.parts[0]));
    const struct oct_linear_plan *plan = loader->options->plan ? oct_plan_linear(loader->options->plan, OCT_LM_HEAD, 0) : NULL;
    llama->tied = head.parts[0] == embedding.parts[0] && !(plan && plan->fp8) && !loader->options->on_weight;
    if (llama->tied)
        llama->lm_head = llama->embed_tokens;
    else
        OCT_TRY(load_linear(loader, &head, OCT_LM_HEAD, 0, vocab, hidden, false, &llama->lm_head));
    oct_tensor_drop_pages(embedding.parts[0]);
    return OCT_OK;
}

static oct_status load_all(struct loader *loader) {
    struct oct_llama *llama = loader->llama;
    size_t layers = (size_t)llama->config.num_hidden_layers;
    OCT_TRY(load_embedding_and_head(loader));
    OCT_TRY(load_norm(loader, "", "model.norm.weight", &llama->norm));
    for (size_t i = 0; i < layers; i++) {
        if (oct_progress_report(loader->options->progress, "loading weights", i, layers))
            return oct_fail(loader->err, OCT_CANCELLED, "loading was cancelled");
        OCT_TRY(load_layer(loader, (int)i));
        if (loader->options->plan) llama->attention[i] = loader->options->plan->layers[i].attention;
    }
    oct_progress_report(loader->options->progress, "loading weights", layers, layers);
    return OCT_OK;
}

static float *workspace_rows(int rows, int columns) {
    return oct_alloc((size_t)rows * (size_t)columns, sizeof(float), "a step's activations");
}

static void allocate_workspace(struct oct_llama *llama, int max_rows, int max_logit_rows) {
    const struct oct_model_config *config = &llama->config;
    int q = config->num_attention_heads * config->head_dim, kv = config->num_key_value_heads * config->head_dim;
    llama->workspace = (struct oct_workspace){
        .max_rows = max_rows,
        .max_logit_rows = max_logit_rows,
        .hidden = workspace_rows(max_rows, config->hidden_size),
        .normed = workspace_rows(max_rows, config->hidden_size),
        .qkv = workspace_rows(max_rows, q + 2 * kv),
        .attention = workspace_rows(max_rows, q),
        .gate_up = workspace_rows(max_rows, 2 * config->intermediate_size),
        .activated = workspace_rows(max_rows, config->intermediate_size),
        .logit_hidden = workspace_rows(max_logit_rows, config->hidden_size),
    };
}

static void allocate_scratch(struct loader *loader) {
    const struct oct_model_config *config = &loader->llama->config;
    int q = config->num_attention_heads * config->head_dim, kv = config->num_key_value_heads * config->head_dim;
    const int features[] = {config->vocab_size, config->hidden_size, q + 2 * kv, 2 * config->intermediate_size};
    size_t longest = 0, widest = (size_t)(q > config->hidden_size ? q : config->hidden_size); // out_features, in_features
    if ((size_t)config->intermediate_size > widest) widest = (size_t)config->intermediate_size;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if ((size_t)features[i] > longest) longest = (size_t)features[i];
    struct oct_device_info info;
    oct_device_get_info(loader->llama->device, &info);
    loader->threads = info.threads;
    loader->rows = oct_alloc((size_t)info.threads, sizeof *loader->rows, "decoded weights");
    for (int i = 0; i < info.threads; i++) loader->rows[i] = oct_alloc(ROWS_AT_ONCE * widest, sizeof(float), "decoded weights");
    loader->row_amax = oct_alloc(longest, sizeof(float), "weight maxima");
    loader->inv_scales = oct_alloc(longest, sizeof(float), "weight scales");
}

static void free_scratch(struct loader *loader) {
    for (int i = 0; i < loader->threads; i++) free(loader->rows[i]);
    free(loader->rows);
    free(loader->row_amax);
    free(loader->inv_scales);
}

oct_status oct_llama_open(const struct oct_checkpoint *checkpoint, struct oct_device *device, const struct oct_llama_options *options,
                          struct oct_llama **out, oct_error *err) {
    OCT_CHECK(options->compute == OCT_F32 || options->compute == OCT_BF16);
    OCT_CHECK(options->max_rows > 0 && options->max_logit_rows > 0 && options->max_positions > 0);
    struct oct_llama *llama = oct_alloc(1, sizeof *llama, "the model");
    llama->config = *oct_checkpoint_config(checkpoint);
    llama->device = device;
    llama->compute = options->compute;
    llama->full_scale = options->plan ? options->plan->full_scale : 0;
    llama->arithmetic = options->plan ? options->plan->arithmetic : OCT_INC_ARITHMETIC;
    if (options->plan) OCT_CHECK(options->plan->num_layers == llama->config.num_hidden_layers);
    size_t layers = (size_t)llama->config.num_hidden_layers;
    llama->layers = oct_alloc(layers, sizeof *llama->layers, "the layers");
    llama->attention = oct_alloc(layers, sizeof *llama->attention, "the layers");
    struct loader loader = {.checkpoint = checkpoint, .options = options, .llama = llama, .err = err};
    allocate_scratch(&loader);
    oct_status status = load_all(&loader);
    free_scratch(&loader);
    if (status != OCT_OK) {
        oct_llama_close(llama);
        return status;
    }
    llama->max_positions = options->max_positions;
    llama->cos_sin = oct_alloc((size_t)options->max_positions * (size_t)llama->config.head_dim, sizeof(float), "rotary angles");
    oct_rope_table(&llama->config, options->max_positions, llama->cos_sin);
    allocate_workspace(llama, options->max_rows, options->max_logit_rows);
    *out = llama;
    return OCT_OK;
}

void oct_llama_close(struct oct_llama *llama) {
    if (!llama) return;
    for (int i = 0; i < llama->config.num_hidden_layers; i++) {
        struct oct_llama_layer *layer = &llama->layers[i];
        free(layer->input_layernorm);
        free(layer->post_attention_layernorm);
        oct_linear_free(llama->device, &layer->qkv_proj);
        oct_linear_free(llama->device, &layer->o_proj);
        oct_linear_free(llama->device, &layer->gate_up_proj);
        oct_linear_free(llama->device, &layer->down_proj);
    }
    if (!llama->tied) oct_linear_free(llama->device, &llama->lm_head);
    oct_linear_free(llama->device, &llama->embed_tokens);
    free(llama->norm);
    free(llama->layers);
    free(llama->attention);
    free(llama->cos_sin);
    struct oct_workspace *workspace = &llama->workspace;
    float *buffers[] = {workspace->hidden,  workspace->normed,    workspace->qkv,         workspace->attention,
                        workspace->gate_up, workspace->activated, workspace->logit_hidden};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) free(buffers[i]);
    free(llama);
}
