// probe.c: what this machine can do right now: bytes read and bf16 operations a second, on all threads. On a shared machine both change
// from minute to minute, so a benchmark measures them beside everything it times.
#include "device/cpu/cpu.h"

#include "base/clock.h"
#include "base/median.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_BYTES = 512 << 20, // more than any cache holds
    READ_CHUNK = 2 << 20,   // read by a thread in one go
    PASSES = 5,             // the median of which is the result
    REPEATS = 20000,        // rounds of multiply-adds in one go: about 0.1 ms
    ROUNDS = 64,            // such goes, over all threads
};

struct oct_device_probe {
    struct oct_device *device;
    void *memory; // (READ_BYTES) owned
    uint64_t sums[OCT_MAX_THREADS];
    double operations[OCT_MAX_THREADS];
};

oct_status oct_device_probe_open(struct oct_device *device, struct oct_device_probe **out, oct_error *err) {
    void *memory;
    OCT_TRY(oct_pages_alloc(READ_BYTES, "measuring how fast memory is read", &memory, err));
    memset(memory, 1, READ_BYTES); // pages that were never written to are all the same page
    struct oct_device_probe *probe = oct_alloc(1, sizeof *probe, "a probe");
    probe->device = device;
    probe->memory = memory;
    *out = probe;
    return OCT_OK;
}

void oct_device_probe_close(struct oct_device_probe *probe) {
    if (!probe) return;
    oct_pages_free(probe->memory, READ_BYTES);
    free(probe);
}

static void read_chunks(void *context, int worker, int begin, int end) {
    struct oct_device_probe *probe = context;
    const char *memory = probe->memory;
    probe->sums[worker] += probe->device->kernels->read(memory + (size_t)begin * READ_CHUNK, (size_t)(end - begin) * READ_CHUNK);
}

static void multiply(void *context, int worker, int begin, int end) {
    struct oct_device_probe *probe = context;
    float value = 1;
    for (int i = begin; i < end; i++, value = 1) probe->operations[worker] += probe->device->kernels->multiply_add(REPEATS, &value);
}

struct oct_device_limits oct_device_probe_measure(struct oct_device_probe *probe) {
    double reads[PASSES], flops[PASSES];
    int chunks = READ_BYTES / READ_CHUNK, threads = probe->device->threads;
    for (int pass = 0; pass < PASSES; pass++) {
        double started = oct_seconds();
        oct_pool_for(probe->device->pool, chunks, chunks / (8 * threads), read_chunks, probe);
        reads[pass] = READ_BYTES / (oct_seconds() - started);

        memset(probe->operations, 0, sizeof probe->operations);
        started = oct_seconds();
        oct_pool_for(probe->device->pool, ROUNDS, 1, multiply, probe);
        double seconds = oct_seconds() - started, sum = 0;
        for (int i = 0; i < threads; i++) sum += probe->operations[i];
        flops[pass] = sum / seconds;
    }
    return (struct oct_device_limits){.read_bytes = oct_median(reads, PASSES), .bf16_flops = oct_median(flops, PASSES)};
}

static void copy_chunks(void *context, int worker, int begin, int end) {
    (void)worker;
    struct oct_device_probe *probe = context;
    char *from = (char *)probe->memory + (size_t)begin * READ_CHUNK;
    memcpy(from + READ_BYTES / 2, from, (size_t)(end - begin) * READ_CHUNK);
}

double oct_device_probe_copy(struct oct_device_probe *probe) {
    double rates[PASSES];
    int chunks = READ_BYTES / 2 / READ_CHUNK;
    for (int pass = 0; pass < PASSES; pass++) {
        double started = oct_seconds();
        oct_pool_for(probe->device->pool, chunks, chunks / (8 * probe->device->threads), copy_chunks, probe);
        rates[pass] = READ_BYTES / 2 / (oct_seconds() - started);
    }
    return oct_median(rates, PASSES);
}
