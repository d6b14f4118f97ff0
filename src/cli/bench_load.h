// bench_load.h: `octavo bench --load`: how fast a checkpoint becomes a model on the device, as a fraction of how fast this machine copies
// memory in the same moment.
#pragma once

#include "base/error.h"
#include "device/device.h"
#include "model/checkpoint.h"

#include <stdbool.h>

struct oct_bench_load_options {
    const char *model;                       // for the report
    const char *path;                        // of the checkpoint, which is opened for every load, or NULL:
    const struct oct_checkpoint *checkpoint; // one that is open
    struct oct_device *device;
    struct oct_device_probe *probe;
    const bool *fp8; // (num_dtypes) what it is loaded as: oct_bench_plan's FP8, or bf16
    int num_dtypes, rounds;
    bool json;
};

// Loads and prints the medians of all rounds. A first load of each kind, which may wait for the disk, does not count.
oct_status oct_bench_load(const struct oct_bench_load_options *options, oct_error *err);
