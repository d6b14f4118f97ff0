// target.h: what a fuzz target is. libFuzzer drives it (meson -Dfuzz=true), or replay.c with the seeds, cut and corrupted.
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Puts the bytes into a file in memory and returns its path, for readers that map files. The path is good until the next call.
const char *fuzz_file(const uint8_t *data, size_t size);
