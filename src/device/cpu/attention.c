// attention.c: softmax(q k^T / sqrt(head_dim)) v over paged K and V. The query heads that share a KV head are rows of one tile product, so
// that each key and value is read once for all of them. Probabilities are normalized before they meet V, because a planned softmax
// rounds them to FP8 as they are.
#include "device/cpu/cpu.h"
#include "device/cpu/kv.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <math.h>
#include <string.h>

// Query rows (of all heads of a group) that are processed together. More rows read K and V less often; fewer share the work better.
enum { ROWS_TOGETHER = 24 };

struct attention_task {
    struct oct_device *device;
    const struct oct_kv_shape *shape;
    const struct oct_kv_layer *layer;
    const struct oct_batch *batch;
    const float *qkv;
    float *out;
    int num_heads, group;               // group: query heads of a KV head
    int rows_per_item;                  // batch rows of an item
    float factor;                       // from the tile product to the score
    struct oct_attention_range *ranges; // (threads) or NULL
};

// An item is (rows begin .. end - 1 of one sequence, one KV head).
struct item {
    int seq, begin, end, head;
};

static int items_of_seq(const struct attention_task *task, int seq) {
    int rows = task->batch->row_starts[seq + 1] - task->batch->row_starts[seq];
    return (rows + task->rows_per_item - 1) / task->rows_per_item * task->shape->num_key_value_heads;
}

static struct item item_at(const struct attention_task *task, int index) {
    int seq = 0;
    for (int items; index >= (items = items_of_seq(task, seq)); seq++) index -= items;
    struct item item = {.seq = seq, .head = index % task->shape->num_key_value_heads};
    item.begin = task->batch->row_starts[seq] + index / task->shape->num_key_value_heads * task->rows_per_item;
    item.end = item.begin + task->rows_per_item;
    if (item.end > task->batch->row_starts[seq + 1]) item.end = task->batch->row_starts[seq + 1];
    return item;
}

typedef void tile_function(const void *x, int rows, const void *panel, int k_padded, float *c, size_t ldc, bool accumulate);

static tile_function *tile_for(const struct oct_kernels *kernels, enum oct_dtype dtype) {
    return dtype == OCT_F32 ? kernels->tile_f32 : dtype == OCT_BF16 ? kernels->tile_bf16 : kernels->tile_e4m3;
}

// Rounds what enters a product as planned and packs it. Float32 blocks take x as it is.
static void pack(const struct oct_kernels *kernels, enum oct_dtype dtype, const struct oct_rounding *rounding, float full_scale, float *x,
                 size_t stride, int rows, int k, int k_padded, void *packed) {
    bool e5m2 = rounding->fp8 && full_scale > OCT_E4M3_MAX; // every E5M2 value is a bf16 value
    for (int row = 0; e5m2 && row < rows; row++) kernels->quantize(x + (size_t)row * stride, k, rounding->inv_scale, full_scale);
    if (!rounding->fp8 || e5m2) {
        (dtype == OCT_F32 ? kernels->pack_f32 : kernels->pack_bf16)(x, stride, rows, k, k_padded, packed);
        return;
    }
    float inv_scales[OCT_MAX_TILE_ROWS];
    for (int row = 0; row < rows; row++) inv_scales[row] = rounding->inv_scale;
    kernels->pack_e4m3(x, stride, rows, k, k_padded, inv_scales, full_scale, packed);
}

static const struct oct_attention_range nothing_seen = {.smallest_peak = 1};

// A NaN is taken over, and stays.
static void widen(struct oct_attention_range *range, struct oct_attention_range more) {
    if (!(more.scores <= range->scores) && !isnan(range->scores)) range->scores = more.scores;
    if (!(more.largest_peak <= range->largest_peak) && !isnan(range->largest_peak)) range->largest_peak = more.largest_peak;
    if (!(more.smallest_peak >= range->smallest_peak) && !isnan(range->smallest_peak)) range->smallest_peak = more.smallest_peak;
}

static void attend(const struct attention_task *task, int worker, struct item item) {
    const struct oct_kv_shape *shape = task->shape;
    const struct oct_kv_layer *layer = task->layer;
    const struct oct_kernels *kernels = task->device->kernels;
    const int32_t *blocks = task->batch->block_tables + (size_t)item.seq * (size_t)task->batch->max_blocks;
    int head_dim = shape->head_dim, k_padded = oct_k_padded(head_dim), parts = oct_panels(head_dim), channels = parts * OCT_PANEL;
    int group = task->group, rows = (item.end - item.begin) * group, kv_heads = shape->num_key_value_heads;
    int tokens = task->batch->positions[item.end - 1] + 1; // that the last row sees; earlier rows see fewer
    size_t stride = ((size_t)tokens + OCT_PANEL - 1) / OCT_PANEL * OCT_PANEL;

    // Row r of the item is batch row begin + r / group, query head head * group + r % group.
    float *queries = oct_scratch_reserve(&task->device->workers[worker],
                                         ((size_t)rows * (size_t)(2 * k_padded + channels) + (size_t)rows * stride) * sizeof(float) +
                                             OCT_MAX_TILE_ROWS * (size_t)shape->block_size * sizeof(float) + 256);
    float *scores = queries + ((size_t)rows * (size_t)k_padded + 15) / 16 * 16; // (rows, stride)
    float *values = scores + (size_t)rows * stride;                             // (rows, channels)
    char *packed = (char *)(values + (size_t)rows * (size_t)channels);          // a tile of queries, or of probabilities
    packed = (char *)(((uintptr_t)packed + 63) & ~(uintptr_t)63);

    float head_scale = 1 / sqrtf((float)head_dim);
    for (int row = 0; row < rows; row++) {
        size_t at =
            (size_t)(item.begin + row / group) * (size_t)(task->num_heads + 2 * kv_heads) + (size_t)(item.head * group + row % group);
        kernels->scale(task->qkv + at * (size_t)head_dim, head_dim, head_scale, queries + (size_t)row * (size_t)head_dim);
    }

    tile_function *score_tile = tile_for(kernels, layer->dtype_k), *value_tile = tile_for(kernels, layer->dtype_v);
    int tile_rows = layer->dtype_k == OCT_E4M3 && layer->dtype_v == OCT_E4M3 ? kernels->e4m3_tile_rows : kernels->tile_rows;
    for (int first = 0; first < rows; first += tile_rows) {
        int count = rows - first < tile_rows ? rows - first : tile_rows;
        float *tile_scores = scores + (size_t)first * stride, *tile_values = values + (size_t)first * (size_t)channels;

        pack(kernels, layer->dtype_k, &layer->matmul_q, layer->full_scale, queries + (size_t)first * (size_t)head_dim, (size_t)head_dim,
             count, head_dim, k_padded, packed);
        for (int token = 0; token < tokens; token += OCT_PANEL)
            score_tile(packed, count, oct_k_panel(shape, layer, blocks[token / shape->block_size], item.head, token % shape->block_size),
                       k_padded, tile_scores + token, stride, false);

        for (int row = 0; row < count; row++) {
            int seen = task->batch->positions[item.begin + (first + row) / group] + 1;
            float *probabilities = tile_scores + (size_t)row * stride;
            float largest_score = task->ranges ? kernels->amax(probabilities, seen) * task->factor : 0;
            float peak = kernels->softmax(probabilities, seen, task->factor);
            if (task->ranges)
                widen(&task->ranges[worker],
                      (struct oct_attention_range){.scores = largest_score, .largest_peak = peak, .smallest_peak = peak});
            if (layer->softmax.fp8) {
                kernels->quantize(probabilities, seen, layer->softmax.inv_scale, layer->full_scale);
                kernels->scale(probabilities, seen, layer->softmax.scale, probabilities);
                for (int i = 0; i < seen; i++) probabilities[i] = oct_bf16_round(probabilities[i]);
            }
            memset(probabilities + seen, 0, (stride - (size_t)seen) * sizeof(float));
        }

        for (int token = 0; token < tokens; token += shape->block_size) {
            int left = tokens - token, used = oct_k_padded(left < shape->block_size ? left : shape->block_size);
            pack(kernels, layer->dtype_v, &layer->matmul_p, layer->full_scale, tile_scores + token, stride, count, used, used, packed);
            for (int part = 0; part < parts; part++)
                value_tile(packed, count, oct_v_panel(shape, layer, blocks[token / shape->block_size], item.head, part), used,
                           tile_values + part * OCT_PANEL, (size_t)channels, token > 0);
        }
    }

    float value_scale = layer->scale_v * (layer->matmul_p.fp8 ? layer->matmul_p.scale : 1);
    for (int row = 0; row < rows; row++) {
        size_t at = (size_t)(item.begin + row / group) * (size_t)task->num_heads + (size_t)(item.head * group + row % group);
        kernels->scale(values + (size_t)row * (size_t)channels, head_dim, value_scale, task->out + at * (size_t)head_dim);
    }
}

static void attend_items(void *context, int worker, int begin, int end) {
    const struct attention_task *task = context;
    for (int index = begin; index < end; index++) attend(task, worker, item_at(task, index));
}

void oct_attention(struct oct_device *device, const struct oct_kv_shape *shape, const struct oct_kv_layer *layer,
                   const struct oct_batch *batch, const float *qkv, int num_heads, float *out, struct oct_attention_range *range) {
    struct oct_attention_range ranges[OCT_MAX_THREADS];
    int group = num_heads / shape->num_key_value_heads;
    struct attention_task task = {
        .device = device,
        .shape = shape,
        .layer = layer,
        .batch = batch,
        .qkv = qkv,
        .out = out,
        .num_heads = num_heads,
        .group = group,
        .rows_per_item = group < ROWS_TOGETHER ? ROWS_TOGETHER / group : 1,
        .factor = layer->scale_k * (layer->matmul_q.fp8 ? layer->matmul_q.scale : 1),
        .ranges = range ? ranges : NULL,
    };
    for (int i = 0; i < device->threads; i++) ranges[i] = nothing_seen;
    int items = 0;
    for (int seq = 0; seq < batch->num_seqs; seq++) items += items_of_seq(&task, seq);
    oct_pool_for(device->pool, items, 1, attend_items, &task);
    if (!range) return;
    *range = nothing_seen;
    for (int i = 0; i < device->threads; i++) widen(range, ranges[i]);
}
