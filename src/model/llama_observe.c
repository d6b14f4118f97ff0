// llama_observe.c: attention is computed in one piece here and in many on a Gaudi; each of those modules is shown the numbers that it
// would see there. Prompts and single tokens alike count for the fused kernel and for the products over blocks: every row might have been
// computed by either.
#include "model/llama_observe.h"

#include <math.h>

static void see(const struct oct_watch *watch, enum oct_module module, int layer, enum oct_port port, const struct oct_seen *seen) {
    watch->observer->see(watch->observer->context, module, layer, port, seen);
}

static void see_rows(const struct oct_watch *watch, enum oct_module module, int layer, enum oct_port port, const float *x, int rows,
                     int columns) {
    struct oct_seen seen = {
        .amax = oct_amax(watch->device, x, rows, columns, columns),
        .x = x,
        .rows = rows,
        .columns = columns,
        .stride = columns,
        .factor = 1,
        .channels = columns,
        .num_dims = 2,
        .dims = {rows, columns},
    };
    see(watch, module, layer, port, &seen);
}

void oct_watch_input(const struct oct_watch *watch, enum oct_module module, int layer, const float *x, int rows, int columns) {
    if (watch->observer) see_rows(watch, module, layer, OCT_INPUT0, x, rows, columns);
}

void oct_watch_output(const struct oct_watch *watch, enum oct_module module, int layer, const float *x, int rows, int columns,
                      bool needed) {
    if (watch->observer && (needed || watch->observer->outputs)) see_rows(watch, module, layer, OCT_OUTPUT0, x, rows, columns);
}

static struct oct_seen with_shape(struct oct_seen seen, int num_dims, const int dims[static OCT_MAX_SEEN_DIMS]) {
    seen.num_dims = num_dims;
    for (int i = 0; i < num_dims; i++) seen.dims[i] = dims[i];
    return seen;
}

#define SHAPED(seen, ...) with_shape((seen), (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (const int[OCT_MAX_SEEN_DIMS]){__VA_ARGS__})

// A maximum of what exists nowhere as one tensor.
static struct oct_seen number(float amax) {
    return (struct oct_seen){.amax = amax, .factor = 1};
}

void oct_watch_attention(const struct oct_watch *watch, int layer, const float *qkv, const float *attention,
                         const struct oct_attention_range *range) {
    if (!watch->observer) return;
    const struct oct_model_config *config = watch->config;
    int rows = watch->batch->num_rows, context = 0;
    for (int i = 0; i < rows; i++)
        if (watch->batch->positions[i] >= context) context = watch->batch->positions[i] + 1;
    int heads = config->num_attention_heads, kv_heads = config->num_key_value_heads, head_dim = config->head_dim, group = heads / kv_heads;
    int q_columns = heads * head_dim, kv_columns = kv_heads * head_dim, stride = q_columns + 2 * kv_columns;
    float softmax_scale = 1 / sqrtf((float)head_dim);

    struct oct_seen q = {.x = qkv, .rows = rows, .columns = q_columns, .stride = stride, .factor = 1, .channels = head_dim};
    struct oct_seen k = q, v = q, out = q;
    k.x = qkv + q_columns;
    v.x = k.x + kv_columns;
    k.columns = v.columns = kv_columns;
    out.x = attention;
    out.stride = q_columns;
    q.amax = oct_amax(watch->device, q.x, rows, q_columns, stride);
    k.amax = oct_amax(watch->device, k.x, rows, kv_columns, stride);
    v.amax = oct_amax(watch->device, v.x, rows, kv_columns, stride);
    out.amax = oct_amax(watch->device, out.x, rows, q_columns, q_columns);
    struct oct_seen scaled_q = q, scores = number(range->scores), probabilities = number(range->largest_peak);
    scaled_q.factor = softmax_scale;
    scaled_q.amax *= softmax_scale;
    // The products over blocks carry the softmax's sums as well: relative to the largest score, a row's sum is 1 / its largest probability.
    struct oct_seen mapping = number(1), spread = number(fmaxf(scaled_q.amax, 1 / range->smallest_peak)),
                    gathered = number(fmaxf(out.amax, 1 / range->smallest_peak));
    if (isnan(scaled_q.amax) || isnan(out.amax) || isnan(range->smallest_peak)) spread.amax = gathered.amax = NAN;

    const struct {
        enum oct_module module;
        enum oct_port port;
        bool needed; // by a scale; else only for an observer that wants all outputs
        struct oct_seen seen;
    } tensors[] = {
        {OCT_MATMUL_QK, OCT_INPUT0, true, SHAPED(scaled_q, 1, kv_heads, group, rows, head_dim)},
        {OCT_MATMUL_QK, OCT_INPUT1, true, SHAPED(k, 1, kv_heads, 1, head_dim, context)},
        {OCT_MATMUL_QK, OCT_OUTPUT0, false, SHAPED(scores, 1, kv_heads, group, rows, context)},
        {OCT_SOFTMAX, OCT_INPUT0, true, SHAPED(scores, 1, kv_heads, group, rows, context)},
        {OCT_SOFTMAX, OCT_OUTPUT0, true, SHAPED(probabilities, 1, kv_heads, group, rows, context)},
        {OCT_MATMUL_AV, OCT_INPUT0, true, SHAPED(probabilities, 1, kv_heads, group, rows, context)},
        {OCT_MATMUL_AV, OCT_INPUT1, true, SHAPED(v, 1, kv_heads, 1, context, head_dim)},
        {OCT_MATMUL_AV, OCT_OUTPUT0, false, SHAPED(out, 1, kv_heads, group, rows, head_dim)},
        {OCT_BATCH2BLOCK, OCT_INPUT0, true, SHAPED(mapping, rows, 1)},
        {OCT_BATCH2BLOCK, OCT_INPUT1, true, SHAPED(spread, 1, q_columns)},
        {OCT_BATCH2BLOCK, OCT_OUTPUT0, true, SHAPED(spread, rows, q_columns)},
        {OCT_BLOCK2BATCH, OCT_INPUT0, true, SHAPED(mapping, 1, rows)},
        {OCT_BLOCK2BATCH, OCT_INPUT1, true, SHAPED(gathered, rows, q_columns)},
        {OCT_BLOCK2BATCH, OCT_OUTPUT0, true, SHAPED(gathered, 1, q_columns)},
        {OCT_K_CACHE, OCT_INPUT0, true, SHAPED(k, rows, kv_heads, head_dim)},
        {OCT_K_CACHE, OCT_OUTPUT0, false, SHAPED(k, context, kv_heads, head_dim)},
        {OCT_V_CACHE, OCT_INPUT0, true, SHAPED(v, rows, kv_heads, head_dim)},
        {OCT_V_CACHE, OCT_OUTPUT0, false, SHAPED(v, context, kv_heads, head_dim)},
        {OCT_FUSED_SDPA, OCT_INPUT0, true, SHAPED(q, 1, heads, rows, head_dim)},
        {OCT_FUSED_SDPA, OCT_INPUT1, true, SHAPED(k, 1, kv_heads, context, head_dim)},
        {OCT_FUSED_SDPA, OCT_INPUT2, true, SHAPED(v, 1, kv_heads, context, head_dim)},
        {OCT_FUSED_SDPA, OCT_OUTPUT0, true, SHAPED(out, 1, heads, rows, head_dim)},
        {OCT_FUSED_SDPA, OCT_OUTPUT1, true, SHAPED(probabilities, 1)},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (tensors[i].needed || watch->observer->outputs) see(watch, tensors[i].module, layer, tensors[i].port, &tensors[i].seen);
}
