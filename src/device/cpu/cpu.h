// cpu.h: the CPU as a device: a kernel table, a thread pool and scratch memory.
#pragma once

#include "device/cpu/arena.h"
#include "device/cpu/kernels.h"
#include "device/cpu/pool.h"
#include "device/device.h"

struct oct_scratch {
    void *data; // size bytes, 64-byte aligned. Owned
    size_t size;
};

struct oct_device {
    const struct oct_kernels *kernels;
    struct oct_pool *pool;
    int threads;
    struct oct_arena arena;
    struct oct_scratch shared;   // what all workers of an operation read: packed activations
    struct oct_scratch *workers; // (threads) what one worker uses alone
};

// At least `size` bytes, contents undefined. Grows and stays, so that steps after the largest one allocate nothing.
void *oct_scratch_reserve(struct oct_scratch *scratch, size_t size);
