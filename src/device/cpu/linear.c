// linear.c: packed weight matrices: allocation, packing, and the product with rows of activations.
#include "device/cpu/cpu.h"

#include "base/memory.h"
#include "device/cpu/layout.h"
#include "numeric/bf16.h"
#include "numeric/fp8.h"

#include <stdlib.h>
#include <string.h>

static size_t panel_bytes(const struct oct_linear *linear) {
    return oct_panel_bytes(linear->dtype, oct_k_padded(linear->in_features));
}

static const void *panel_at(const struct oct_linear *linear, int panel) {
    return (const char *)linear->weight + (size_t)panel * panel_bytes(linear);
}

oct_status oct_linear_alloc(struct oct_device *device, enum oct_dtype dtype, int out_features, int in_features, bool bias,
                            struct oct_linear *out, oct_error *err) {
    OCT_CHECK(dtype == OCT_F32 || dtype == OCT_BF16 || dtype == OCT_E4M3 || dtype == OCT_E5M2);
    bool fp8 = dtype == OCT_E4M3 || dtype == OCT_E5M2;
    *out = (struct oct_linear){.dtype = dtype == OCT_E5M2 ? OCT_BF16 : dtype,
                               .in_features = in_features,
                               .out_features = out_features,
                               .k_block = in_features,
                               .k_blocks = 1};
    out->weight_bytes = (size_t)oct_panels(out_features) * panel_bytes(out);
    OCT_TRY(oct_device_alloc(device, out->weight_bytes, "a weight matrix", &out->weight, err));
    if (fp8) out->scales = oct_alloc((size_t)out_features, sizeof(float), "weight scales");
    if (bias) out->bias = oct_alloc((size_t)out_features, sizeof(float), "a bias");
    return OCT_OK;
}

void oct_linear_split(struct oct_linear *linear, int k_block) {
    OCT_CHECK(linear->dtype == OCT_E4M3 && k_block > 0 && k_block % 4 == 0);
    if (k_block >= linear->in_features) return;
    linear->k_block = k_block;
    linear->k_blocks = (linear->in_features + k_block - 1) / k_block;
    free(linear->scales);
    linear->scales = oct_alloc((size_t)linear->k_blocks * (size_t)linear->out_features, sizeof(float), "weight scales");
}

void oct_linear_free(struct oct_device *device, struct oct_linear *linear) {
    oct_device_free(device, linear->weight);
    free(linear->scales);
    free(linear->bias);
    free(linear->row_scale_rule);
    *linear = (struct oct_linear){0};
}

void oct_linear_pack(struct oct_device *device, struct oct_linear *linear, int first_row, int rows, const float *weights,
                     const float *inv_scales) {
    OCT_CHECK(first_row >= 0 && rows >= 0 && first_row + rows <= linear->out_features);
    enum { AT_ONCE = 512 };
    uint8_t codes[AT_ONCE];
    uint16_t halves[AT_ONCE];
    float values[AT_ONCE];
    const struct oct_kernels *kernels = device->kernels;
    for (int i = 0; i < rows; i++, weights += linear->in_features) {
        int row = first_row + i, channel = row % OCT_PANEL;
        void *panel = (char *)linear->weight + (size_t)(row / OCT_PANEL) * panel_bytes(linear);
        for (int first = 0; first < linear->in_features; first += AT_ONCE) {
            int n = linear->in_features - first < AT_ONCE ? linear->in_features - first : AT_ONCE;
            switch (linear->dtype) {
            case OCT_E4M3:
                kernels->encode(weights + first, n, inv_scales[i], linear->full_scale, codes);
                for (int k = 0; k < n; k++) ((uint8_t *)panel)[oct_panel_element(OCT_E4M3, first + k, channel)] = codes[k];
                break;
            case OCT_BF16:
                memcpy(values, weights + first, (size_t)n * sizeof *values);
                if (linear->scales) kernels->quantize(values, n, inv_scales[i], linear->full_scale);
                kernels->round_bf16(values, n, halves);
                for (int k = 0; k < n; k++) ((uint16_t *)panel)[oct_panel_element(OCT_BF16, first + k, channel)] = halves[k];
                break;
            default:
                for (int k = 0; k < n; k++) ((float *)panel)[oct_panel_element(OCT_F32, first + k, channel)] = weights[first + k];
            }
        }
    }
}

float oct_linear_weight(const struct oct_linear *linear, int out, int in) {
    const void *panel = panel_at(linear, out / OCT_PANEL);
    size_t element = oct_panel_element(linear->dtype, in, out % OCT_PANEL);
    switch (linear->dtype) {
    case OCT_F32:
        return ((const float *)panel)[element];
    case OCT_BF16:
        return oct_bf16_to_f32(((const uint16_t *)panel)[element]);
    default:
        return oct_e4m3_to_f32(((const uint8_t *)panel)[element]);
    }
}

void oct_linear_codes(const struct oct_linear *linear, int first_row, int rows, uint8_t *codes) {
    OCT_CHECK(linear->dtype == OCT_E4M3 && first_row >= 0 && rows >= 0 && first_row + rows <= linear->out_features);
    for (int row = first_row; row < first_row + rows; row++) {
        const uint8_t *panel = panel_at(linear, row / OCT_PANEL);
        for (int k = 0; k < linear->in_features; k++) *codes++ = panel[oct_panel_element(OCT_E4M3, k, row % OCT_PANEL)];
    }
}

// --- the product ------------------------------------------------------------------------------------------------------------------

struct product {
    struct oct_device *device;
    const struct oct_linear *linear;
    const float *x;    // (rows, in_features)
    char *packed;      // x rounded and packed, tile by tile and in it run by run
    float *row_scales; // (rows, k_blocks) where they are made at run time, else NULL
    float *y;          // (rows, out_features)
    int rows, k_padded;
    size_t x_bytes; // of a packed element
    int tile_rows;
    bool decode_once; // E4M3 panels are rewritten as bf16 before many tiles use them
    bool add;
};

static int tile_count(const struct product *product) {
    return (product->rows + product->tile_rows - 1) / product->tile_rows;
}

static int rows_of_tile(const struct product *product, int tile) {
    int left = product->rows - tile * product->tile_rows;
    return left < product->tile_rows ? left : product->tile_rows;
}

// Inputs of a run.
static int run_length(const struct oct_linear *linear, int run) {
    int left = linear->in_features - run * linear->k_block;
    return left < linear->k_block ? left : linear->k_block;
}

// Where a run of a tile of `rows` rows lies.
static char *packed_run(const struct product *product, int tile, int rows, int run) {
    size_t before = (size_t)tile * (size_t)product->tile_rows * (size_t)product->k_padded;
    return product->packed + (before + (size_t)rows * (size_t)run * (size_t)product->linear->k_block) * product->x_bytes;
}

// The inverse scales of a tile's rows (rows) in a run, one for all or made from each row as it is.
static void row_inv_scales(const struct product *product, int first_row, int rows, int run, float *inv_scales) {
    const struct oct_linear *linear = product->linear;
    size_t k = (size_t)linear->in_features, runs = (size_t)linear->k_blocks;
    const float *x = product->x + (size_t)first_row * k + (size_t)run * (size_t)linear->k_block;
    for (int row = 0; row < rows; row++, x += k) {
        inv_scales[row] = linear->input_inv_scale;
        if (product->row_scales)
            linear->row_scale(linear->row_scale_rule, product->device->kernels->amax(x, run_length(linear, run)),
                              &product->row_scales[(size_t)(first_row + row) * runs + (size_t)run], &inv_scales[row]);
    }
}

// E5M2, as the bf16 numbers that it is a part of.
static void pack_e5m2(const struct product *product, int worker, const float *x, int rows, const float *inv_scales, void *packed) {
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    size_t k = (size_t)linear->in_features;
    float *rounded = oct_scratch_reserve(&product->device->workers[worker], (size_t)rows * k * sizeof(float));
    memcpy(rounded, x, (size_t)rows * k * sizeof(float));
    for (int row = 0; row < rows; row++) kernels->quantize(rounded + (size_t)row * k, (int)k, inv_scales[row], linear->full_scale);
    kernels->pack_bf16(rounded, k, rows, (int)k, product->k_padded, packed);
}

static void pack_run(const struct product *product, int worker, int tile, int run) {
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    size_t k = (size_t)linear->in_features;
    int rows = rows_of_tile(product, tile), first_row = tile * product->tile_rows, n = run_length(linear, run);
    const float *x = product->x + (size_t)first_row * k + (size_t)run * (size_t)linear->k_block;
    void *packed = packed_run(product, tile, rows, run);
    if (linear->scales && (linear->input_scale != 0 || linear->row_scale)) {
        float inv_scales[OCT_MAX_TILE_ROWS];
        row_inv_scales(product, first_row, rows, run, inv_scales);
        if (linear->dtype == OCT_E4M3)
            kernels->pack_e4m3(x, k, rows, n, oct_k_padded(n), inv_scales, linear->full_scale, packed);
        else
            pack_e5m2(product, worker, x, rows, inv_scales, packed);
    } else {
        (linear->dtype == OCT_F32 ? kernels->pack_f32 : kernels->pack_bf16)(x, k, rows, n, oct_k_padded(n), packed);
    }
}

static void pack_tiles(void *context, int worker, int begin, int end) {
    const struct product *product = context;
    for (int tile = begin; tile < end; tile++)
        for (int run = 0; run < product->linear->k_blocks; run++) pack_run(product, worker, tile, run);
}

// One tile of rows times one panel of `dtype`. The product of each run is scaled, then added to those before it.
static void multiply_tile(const struct product *product, int tile, int panel, enum oct_dtype dtype, const char *weights) {
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    void (*multiply)(const void *, int, const void *, int, float *, size_t, bool) = dtype == OCT_F32    ? kernels->tile_f32
                                                                                    : dtype == OCT_BF16 ? kernels->tile_bf16
                                                                                                        : kernels->tile_e4m3;
    float c[OCT_MAX_TILE_ROWS * OCT_PANEL] __attribute__((aligned(64))), sum[OCT_MAX_TILE_ROWS * OCT_PANEL] __attribute__((aligned(64)));
    int rows = rows_of_tile(product, tile), runs = linear->k_blocks;
    int first = panel * OCT_PANEL, left = linear->out_features - first, channels = left < OCT_PANEL ? left : OCT_PANEL;
    size_t first_row = (size_t)tile * (size_t)product->tile_rows, stride = (size_t)linear->out_features;
    float *y = product->y + first_row * stride + first;
    const float *scales = linear->scales ? linear->scales + first : NULL, *bias = linear->bias ? linear->bias + first : NULL;
    for (int run = 0; run < runs; run++) {
        const char *panel_run = weights + oct_panel_bytes(dtype, run * linear->k_block);
        multiply(packed_run(product, tile, rows, run), rows, panel_run, oct_k_padded(run_length(linear, run)), c, OCT_PANEL, false);
        for (int row = 0; product->row_scales && row < rows; row++) {
            float row_scale = product->row_scales[(first_row + (size_t)row) * (size_t)runs + (size_t)run];
            kernels->scale(c + row * OCT_PANEL, OCT_PANEL, row_scale, c + row * OCT_PANEL);
        }
        if (runs > 1) kernels->finish(c, rows, channels, scales + (size_t)run * stride, NULL, sum, OCT_PANEL, run > 0);
    }
    if (runs > 1)
        kernels->finish(sum, rows, channels, NULL, bias, y, stride, product->add);
    else
        kernels->finish(c, rows, channels, scales, bias, y, stride, product->add);
}

static void multiply_panels(void *context, int worker, int begin, int end) {
    const struct product *product = context;
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    int tiles = tile_count(product);
    bool decode_once = product->decode_once;
    void *decoded =
        decode_once ? oct_scratch_reserve(&product->device->workers[worker], oct_panel_bytes(OCT_BF16, product->k_padded)) : NULL;
    for (int panel = begin; panel < end; panel++) {
        const void *weights = panel_at(linear, panel);
        if (decode_once) {
            kernels->decode_panel(weights, product->k_padded, decoded);
            weights = decoded;
        }
        for (int tile = 0; tile < tiles; tile++) multiply_tile(product, tile, panel, decode_once ? OCT_BF16 : linear->dtype, weights);
    }
}

void oct_linear_forward(struct oct_device *device, const struct oct_linear *linear, const float *x, int rows, float *y, bool add) {
    if (rows <= 0) return;
    const struct oct_kernels *kernels = device->kernels;
    bool fused = linear->dtype == OCT_E4M3 && (rows <= kernels->e4m3_tile_rows || !kernels->decode_panel);
    struct product product = {.device = device,
                              .linear = linear,
                              .x = x,
                              .y = y,
                              .rows = rows,
                              .add = add,
                              .k_padded = oct_k_padded(linear->in_features),
                              .x_bytes = linear->dtype == OCT_F32 ? sizeof(float) : kernels->x_bytes,
                              .tile_rows = fused ? kernels->e4m3_tile_rows : kernels->tile_rows,
                              .decode_once = linear->dtype == OCT_E4M3 && !fused};
    size_t packed_bytes = (size_t)rows * (size_t)product.k_padded * product.x_bytes; // a multiple of 4
    size_t row_scales = linear->row_scale ? (size_t)rows * (size_t)linear->k_blocks : 0;
    product.packed = oct_scratch_reserve(&device->shared, packed_bytes + row_scales * sizeof(float));
    if (linear->row_scale) product.row_scales = (float *)(product.packed + packed_bytes);
    oct_pool_for(device->pool, tile_count(&product), 1, pack_tiles, &product);
    // Eight chunks a worker: even work on a busy machine, long streams all the same.
    int panels = oct_panels(linear->out_features), chunk = panels / (8 * device->threads);
    oct_pool_for(device->pool, panels, chunk, multiply_panels, &product);
}
