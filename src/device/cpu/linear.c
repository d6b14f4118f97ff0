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
    *out = (struct oct_linear){.dtype = dtype == OCT_E5M2 ? OCT_BF16 : dtype, .in_features = in_features, .out_features = out_features};
    out->weight_bytes = (size_t)oct_panels(out_features) * panel_bytes(out);
    OCT_TRY(oct_device_alloc(device, out->weight_bytes, "a weight matrix", &out->weight, err));
    if (fp8) out->scales = oct_alloc((size_t)out_features, sizeof(float), "weight scales");
    if (bias) out->bias = oct_alloc((size_t)out_features, sizeof(float), "a bias");
    return OCT_OK;
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

// --- the product ------------------------------------------------------------------------------------------------------------------

struct product {
    struct oct_device *device;
    const struct oct_linear *linear;
    const float *x;    // (rows, in_features)
    char *packed;      // x rounded and packed tile by tile
    float *row_scales; // (rows) where they are made at run time, else NULL
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

static char *packed_tile(const struct product *product, int tile) {
    return product->packed + (size_t)tile * (size_t)product->tile_rows * (size_t)product->k_padded * product->x_bytes;
}

// The inverse scales of a tile's rows (rows), one for all or made from each row as it is.
static void row_inv_scales(const struct product *product, int first_row, int rows, float *inv_scales) {
    const struct oct_linear *linear = product->linear;
    const float *x = product->x + (size_t)first_row * (size_t)linear->in_features;
    for (int row = 0; row < rows; row++, x += linear->in_features) {
        inv_scales[row] = linear->input_inv_scale;
        if (product->row_scales)
            linear->row_scale(linear->row_scale_rule, product->device->kernels->amax(x, linear->in_features),
                              &product->row_scales[first_row + row], &inv_scales[row]);
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

static void pack_tiles(void *context, int worker, int begin, int end) {
    const struct product *product = context;
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    size_t k = (size_t)linear->in_features;
    for (int tile = begin; tile < end; tile++) {
        int rows = rows_of_tile(product, tile), first_row = tile * product->tile_rows;
        const float *x = product->x + (size_t)first_row * k;
        void *packed = packed_tile(product, tile);
        if (linear->scales && (linear->input_scale != 0 || linear->row_scale)) {
            float inv_scales[OCT_MAX_TILE_ROWS];
            row_inv_scales(product, first_row, rows, inv_scales);
            if (linear->dtype == OCT_E4M3)
                kernels->pack_e4m3(x, k, rows, (int)k, product->k_padded, inv_scales, linear->full_scale, packed);
            else
                pack_e5m2(product, worker, x, rows, inv_scales, packed);
        } else {
            (linear->dtype == OCT_F32 ? kernels->pack_f32 : kernels->pack_bf16)(x, k, rows, (int)k, product->k_padded, packed);
        }
    }
}

static void multiply_panels(void *context, int worker, int begin, int end) {
    const struct product *product = context;
    const struct oct_linear *linear = product->linear;
    const struct oct_kernels *kernels = product->device->kernels;
    float c[OCT_MAX_TILE_ROWS * OCT_PANEL] __attribute__((aligned(64)));
    int tiles = tile_count(product);
    bool decode_once = product->decode_once;
    void *decoded =
        decode_once ? oct_scratch_reserve(&product->device->workers[worker], oct_panel_bytes(OCT_BF16, product->k_padded)) : NULL;
    for (int panel = begin; panel < end; panel++) {
        const void *weights = panel_at(linear, panel);
        int first = panel * OCT_PANEL, left = linear->out_features - first, channels = left < OCT_PANEL ? left : OCT_PANEL;
        if (decode_once) {
            kernels->decode_panel(weights, product->k_padded, decoded);
            weights = decoded;
        }
        void (*multiply)(const void *, int, const void *, int, float *, size_t, bool) = linear->dtype == OCT_F32 ? kernels->tile_f32
                                                                                        : linear->dtype == OCT_BF16 || decode_once
                                                                                            ? kernels->tile_bf16
                                                                                            : kernels->tile_e4m3;
        for (int tile = 0; tile < tiles; tile++) {
            int rows = rows_of_tile(product, tile);
            multiply(packed_tile(product, tile), rows, weights, product->k_padded, c, OCT_PANEL, false);
            size_t first_row = (size_t)tile * (size_t)product->tile_rows;
            for (int row = 0; product->row_scales && row < rows; row++)
                kernels->scale(c + row * OCT_PANEL, OCT_PANEL, product->row_scales[first_row + (size_t)row], c + row * OCT_PANEL);
            float *y = product->y + first_row * (size_t)linear->out_features + first;
            kernels->finish(c, rows, channels, linear->scales ? linear->scales + first : NULL, linear->bias ? linear->bias + first : NULL,
                            y, (size_t)linear->out_features, product->add);
        }
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
    product.packed = oct_scratch_reserve(&device->shared, packed_bytes + (linear->row_scale ? (size_t)rows * sizeof(float) : 0));
    if (linear->row_scale) product.row_scales = (float *)(product.packed + packed_bytes);
    oct_pool_for(device->pool, tile_count(&product), 1, pack_tiles, &product);
    // Eight chunks a worker: even work on a busy machine, long streams all the same.
    int panels = oct_panels(linear->out_features), chunk = panels / (8 * device->threads);
    oct_pool_for(device->pool, panels, chunk, multiply_panels, &product);
}
