// device.c: opening the CPU, and the operations that are one kernel a row.
#include "device/cpu/cpu.h"

#include "base/memory.h"
#include "device/cpu/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_f16c(void) { // clang 14's __builtin_cpu_supports does not know it
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_F16C;
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512_bf16(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
}
#endif

static bool always(void) {
    return true;
}

// Best first.
static const struct {
    const struct oct_kernels *kernels;
    bool (*runs_here)(void);
} tables[] = {
#if defined(__x86_64__)
    {&oct_kernels_avx512_bf16, has_avx512_bf16},
    {&oct_kernels_avx2, has_avx2},
#endif
    {&oct_kernels_scalar, always},
};

const struct oct_kernels *oct_kernels_choose(const char *wanted, const char **reason) {
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (!wanted || !*wanted) {
            if (tables[i].runs_here()) return tables[i].kernels;
        } else if (!strcmp(wanted, tables[i].kernels->name)) {
            *reason = "this processor lacks its instructions";
            return tables[i].runs_here() ? tables[i].kernels : NULL;
        }
    }
    *reason = "no such kernel table; scalar, avx2 or avx512_bf16 expected";
    return NULL;
}

oct_status oct_device_open_cpu(int threads, struct oct_device **out, oct_error *err) {
    const char *wanted = getenv("OCTAVO_ISA"), *reason = NULL;
    const struct oct_kernels *kernels = oct_kernels_choose(wanted, &reason);
    if (!kernels) return oct_fail(err, OCT_INVALID_ARGUMENT, "OCTAVO_ISA=%s: %s", wanted, reason);
    struct oct_pool *pool;
    OCT_TRY(oct_pool_open(threads, &pool, err));
    struct oct_device *device = oct_alloc(1, sizeof *device, "the device");
    device->kernels = kernels;
    device->pool = pool;
    device->threads = oct_pool_threads(pool);
    device->workers = oct_alloc((size_t)device->threads, sizeof *device->workers, "scratch memory");
    *out = device;
    return OCT_OK;
}

void oct_device_close(struct oct_device *device) {
    if (!device) return;
    oct_pool_close(device->pool);
    for (int i = 0; i < device->threads; i++) free(device->workers[i].data);
    free(device->workers);
    free(device->shared.data);
    free(device);
}

void oct_device_get_info(const struct oct_device *device, struct oct_device_info *info) {
    *info = (struct oct_device_info){.name = "cpu", .isa = device->kernels->name, .threads = device->threads};
}

void *oct_scratch_reserve(struct oct_scratch *scratch, size_t size) {
    if (size <= scratch->size) return scratch->data;
    size = (size + size / 2 + 4095) & ~(size_t)4095;
    free(scratch->data);
    scratch->data = aligned_alloc(64, size);
    OCT_CHECK(scratch->data != NULL);
    scratch->size = size;
    return scratch->data;
}

oct_status oct_device_alloc(struct oct_device *device, size_t bytes, const char *what, void **out, oct_error *err) {
    return oct_arena_alloc(&device->arena, bytes, what, out, err);
}

void oct_device_free(struct oct_device *device, void *memory) {
    if (memory) oct_arena_free(&device->arena, memory);
}

void oct_parallel_for(struct oct_device *device, int items, int chunk, void (*task)(void *context, int worker, int begin, int end),
                      void *context) {
    oct_pool_for(device->pool, items, chunk, task, context);
}

// --- operations that go row by row: each worker takes some rows -------------------------------------------------------------------------

struct row_task {
    struct oct_device *device;
    const struct oct_linear *table;
    const int32_t *ids;
    const float *x, *weight;
    float *y;
    int size, stride, num_heads, head_dim;
    float epsilon;
    float *amax; // (threads) one a worker
};

// Rows a worker takes at a time: about 16 K elements, so that one token's operations stay on the caller and never wait for a worker.
static int rows_at_a_time(int row_size) {
    int rows = 16384 / (row_size > 0 ? row_size : 1);
    return rows > 1 ? rows : 1;
}

// A row of the table is one channel of a panel, so that its numbers lie OCT_PANEL apart: one float32, or a pair of bf16, at a time.
static void embed_row(const struct oct_linear *table, int id, float *y) {
    int size = table->in_features;
    const char *panel = (const char *)table->weight + (size_t)(id / OCT_PANEL) * oct_panel_bytes(table->dtype, oct_k_padded(size));
    const uint32_t *column = (const uint32_t *)panel + id % OCT_PANEL;
    if (table->dtype == OCT_F32) {
        for (int k = 0; k < size; k++) memcpy(&y[k], column + (size_t)k * OCT_PANEL, sizeof *y);
        return;
    }
    for (int k = 0; k < size; k += 2) {
        uint32_t pair = column[(size_t)(k / 2) * OCT_PANEL], values[2] = {pair << 16, pair & 0xffff0000};
        memcpy(&y[k], values, (k + 1 < size ? 2 : 1) * sizeof *y);
    }
}

static void embed_rows(void *context, int worker, int begin, int end) {
    (void)worker;
    const struct row_task *task = context;
    for (int row = begin; row < end; row++) embed_row(task->table, task->ids[row], task->y + (size_t)row * (size_t)task->size);
}

void oct_embed(struct oct_device *device, const struct oct_linear *table, const int32_t *ids, int rows, float *y) {
    OCT_CHECK(table->dtype == OCT_F32 || table->dtype == OCT_BF16);
    struct row_task task = {.device = device, .table = table, .ids = ids, .y = y, .size = table->in_features};
    oct_pool_for(device->pool, rows, rows_at_a_time(task.size), embed_rows, &task);
}

static void norm_rows(void *context, int worker, int begin, int end) {
    (void)worker;
    const struct row_task *task = context;
    for (int row = begin; row < end; row++) {
        size_t at = (size_t)row * (size_t)task->size;
        task->device->kernels->rms_norm(task->x + at, task->weight, task->size, task->epsilon, task->y + at);
    }
}

void oct_rms_norm(struct oct_device *device, const float *x, const float *weight, int rows, int size, float epsilon, float *y) {
    struct row_task task = {.device = device, .x = x, .weight = weight, .y = y, .size = size, .epsilon = epsilon};
    oct_pool_for(device->pool, rows, rows_at_a_time(size), norm_rows, &task);
}

static void rope_rows(void *context, int worker, int begin, int end) {
    (void)worker;
    const struct row_task *task = context;
    int half = task->head_dim / 2;
    for (int row = begin; row < end; row++) {
        const float *cosines = task->weight + (size_t)task->ids[row] * (size_t)task->head_dim;
        float *heads = task->y + (size_t)row * (size_t)task->stride;
        for (int head = 0; head < task->num_heads; head++)
            task->device->kernels->rotate(heads + (size_t)head * (size_t)task->head_dim, half, cosines, cosines + half);
    }
}

void oct_rope(struct oct_device *device, float *qkv, const int32_t *positions, int rows, int num_heads, int num_kv_heads, int head_dim,
              const float *cos_sin) {
    struct row_task task = {.device = device,
                            .ids = positions,
                            .weight = cos_sin,
                            .y = qkv,
                            .stride = (num_heads + 2 * num_kv_heads) * head_dim,
                            .num_heads = num_heads + num_kv_heads,
                            .head_dim = head_dim};
    oct_pool_for(device->pool, rows, rows_at_a_time(task.stride), rope_rows, &task);
}

static void silu_rows(void *context, int worker, int begin, int end) {
    (void)worker;
    const struct row_task *task = context;
    size_t size = (size_t)task->size;
    for (int row = begin; row < end; row++) {
        const float *gate = task->x + 2 * size * (size_t)row;
        task->device->kernels->silu_mul(gate, gate + size, task->size, task->y + size * (size_t)row);
    }
}

void oct_silu_mul(struct oct_device *device, const float *gate_up, int rows, int size, float *y) {
    struct row_task task = {.device = device, .x = gate_up, .y = y, .size = size};
    oct_pool_for(device->pool, rows, rows_at_a_time(size), silu_rows, &task);
}

void oct_add(struct oct_device *device, const float *x, size_t n, float *y) {
    (void)device;
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

void oct_gather_rows(struct oct_device *device, const float *x, const int32_t *rows, int count, int size, float *y) {
    (void)device;
    for (int i = 0; i < count; i++) memcpy(y + (size_t)i * (size_t)size, x + (size_t)rows[i] * (size_t)size, (size_t)size * sizeof(float));
}

// The larger of two maxima; NaN wins.
static float larger(float a, float b) {
    return isnan(a) || a > b ? a : b;
}

static void amax_rows(void *context, int worker, int begin, int end) {
    const struct row_task *task = context;
    float largest = task->amax[worker];
    for (int row = begin; row < end; row++)
        largest = larger(task->device->kernels->amax(task->x + (size_t)row * (size_t)task->stride, task->size), largest);
    task->amax[worker] = largest;
}

float oct_amax(struct oct_device *device, const float *x, int rows, int columns, int stride) {
    float amax[OCT_MAX_THREADS] = {0};
    struct row_task task = {.device = device, .x = x, .size = columns, .stride = stride, .amax = amax};
    oct_pool_for(device->pool, rows, rows_at_a_time(columns), amax_rows, &task);
    float largest = 0;
    for (int i = 0; i < device->threads; i++) largest = larger(amax[i], largest);
    return largest;
}
