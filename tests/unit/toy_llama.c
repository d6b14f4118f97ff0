#include "toy_llama.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

int toy_max_rows_seen, toy_max_seqs_seen;
long toy_rows_seen;
int32_t toy_poison = -1;

void toy_llama_open(struct toy_llama *toy, int vocab_size, int block_size, int num_blocks) {
    *toy = (struct toy_llama){.llama.config.vocab_size = vocab_size};
    int32_t *tokens = oct_alloc((size_t)(num_blocks * block_size), sizeof *tokens, "toy blocks");
    for (int i = 0; i < num_blocks * block_size; i++) tokens[i] = -1;
    toy->layer.k = tokens;
    toy->cache.shape = (struct oct_kv_shape){.block_size = block_size, .num_blocks = num_blocks};
    toy->cache.layers = &toy->layer;
    toy_max_rows_seen = toy_max_seqs_seen = 0;
    toy_rows_seen = 0;
    toy_poison = -1;
}

void toy_llama_close(struct toy_llama *toy) {
    free(toy->layer.k);
}

static uint64_t hash(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    return x ^ x >> 29;
}

// The hash of a timeline, one token longer.
static uint64_t see(uint64_t seen, int32_t token) {
    return hash(seen * 31 + (uint64_t)token + 1);
}

static void fill_logits(uint64_t seen, int vocab_size, float *logits) {
    for (int id = 0; id < vocab_size; id++) // quarters, so that ties occur
        logits[id] = (float)(hash(seen + (uint64_t)id * 0x9e3779b97f4a7c15) >> 40 & 31) / 4;
}

void toy_logits(const int32_t *tokens, int count, int vocab_size, float *logits) {
    uint64_t seen = 0;
    for (int i = 0; i < count; i++) seen = see(seen, tokens[i]);
    fill_logits(seen, vocab_size, logits);
}

// Where the token at a position of a sequence is kept.
static int32_t *slot(const struct oct_kv_cache *cache, const int32_t *table, int position) {
    int block_size = cache->shape.block_size;
    return (int32_t *)cache->layers[0].k + table[position / block_size] * block_size + position % block_size;
}

static void write_rows(const struct oct_kv_cache *cache, const struct oct_batch *batch) {
    for (int s = 0; s < batch->num_seqs; s++) {
        const int32_t *table = batch->block_tables + s * batch->max_blocks;
        OCT_CHECK(batch->row_starts[s] < batch->row_starts[s + 1]);
        for (int row = batch->row_starts[s]; row < batch->row_starts[s + 1]; row++) {
            int block = batch->positions[row] / cache->shape.block_size;
            OCT_CHECK(block < batch->max_blocks && table[block] < cache->shape.num_blocks);
            *slot(cache, table, batch->positions[row]) = batch->tokens[row];
        }
    }
}

// As the model does it: the rows of all sequences are written before any of them reads.
void oct_llama_forward(struct oct_llama *llama, struct oct_kv_cache *cache, const struct oct_batch *batch, float *logits,
                       const struct oct_observer *observer) {
    (void)observer;
    int logit_row = 0;
    if (batch->num_rows > toy_max_rows_seen) toy_max_rows_seen = batch->num_rows;
    if (batch->num_seqs > toy_max_seqs_seen) toy_max_seqs_seen = batch->num_seqs;
    toy_rows_seen += batch->num_rows;
    OCT_CHECK(batch->row_starts[0] == 0 && batch->row_starts[batch->num_seqs] == batch->num_rows);
    write_rows(cache, batch);
    for (int s = 0; s < batch->num_seqs; s++) {
        const int32_t *table = batch->block_tables + s * batch->max_blocks;
        uint64_t seen = 0;
        int position = 0;
        for (int row = batch->row_starts[s]; row < batch->row_starts[s + 1]; row++) {
            if (logit_row == batch->num_logit_rows || batch->logit_rows[logit_row] != row) continue;
            for (; position <= batch->positions[row]; position++) seen = see(seen, *slot(cache, table, position));
            float *out = logits + (size_t)logit_row++ * (size_t)llama->config.vocab_size;
            fill_logits(seen, llama->config.vocab_size, out);
            if (batch->tokens[row] == toy_poison) out[3] = NAN;
        }
    }
    OCT_CHECK(logit_row == batch->num_logit_rows);
}

// The device's threads: two, one after the other.
void oct_device_get_info(const struct oct_device *device, struct oct_device_info *info) {
    (void)device;
    *info = (struct oct_device_info){.name = "toy", .isa = "toy", .threads = 2};
}

void oct_parallel_for(struct oct_device *device, int items, int chunk, void (*task)(void *context, int worker, int begin, int end),
                      void *context) {
    (void)device;
    for (int begin = 0; begin < items; begin += chunk)
        task(context, begin / chunk % 2, begin, begin + chunk < items ? begin + chunk : items);
}
