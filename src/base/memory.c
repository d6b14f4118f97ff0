#include "base/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static _Noreturn void out_of_memory(size_t n, size_t size, const char *what) {
    fprintf(stderr, "octavo: out of memory: %zu x %zu bytes for %s\n", n, size, what);
    abort();
}

void *oct_alloc(size_t n, size_t size, const char *what) {
    void *block = calloc(n ? n : 1, size ? size : 1); // calloc checks n * size
    if (!block) out_of_memory(n, size, what);
    return block;
}

void *oct_resize(void *block, size_t n, size_t size, const char *what) {
    void *resized = reallocarray(block, n ? n : 1, size ? size : 1);
    if (!resized) out_of_memory(n, size, what);
    return resized;
}

char *oct_strdup(const char *text) {
    return oct_strndup(text, strlen(text));
}

char *oct_strndup(const char *text, size_t length) {
    char *copy = oct_alloc(length + 1, 1, "a string");
    memcpy(copy, text, length);
    return copy;
}

static size_t huge_rounded(size_t size) {
    return (size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
}

oct_status oct_pages_alloc(size_t size, const char *what, void **out, oct_error *err) {
    if (size > SIZE_MAX / 2) return oct_fail(err, OCT_OUT_OF_MEMORY, "out of memory: %zu bytes for %s", size, what);
    // Map 2 MiB more than needed and cut both ends, so that the block starts on a huge page boundary.
    size_t rounded = huge_rounded(size);
    char *mapped = mmap(NULL, rounded + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return oct_fail(err, OCT_OUT_OF_MEMORY, "out of memory: %zu bytes for %s", size, what);
    char *aligned = (char *)huge_rounded((uintptr_t)mapped);
    if (aligned > mapped) munmap(mapped, (size_t)(aligned - mapped));
    size_t tail = (size_t)(mapped + HUGE_PAGE - aligned);
    if (tail) munmap(aligned + rounded, tail);
    madvise(aligned, rounded, MADV_HUGEPAGE);
    *out = aligned;
    return OCT_OK;
}

void oct_pages_free(void *pages, size_t size) {
    if (pages) munmap(pages, huge_rounded(size));
}

static size_t proc_kib(const char *path, const char *key) { // 0: the file does not say
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) kib = strtoull(line + strlen(key), NULL, 10);
    fclose(file);
    return kib;
}

size_t oct_resident_bytes(void) {
    return proc_kib("/proc/self/status", "VmRSS:") * 1024;
}

size_t oct_peak_resident_bytes(void) {
    return proc_kib("/proc/self/status", "VmHWM:") * 1024;
}

// The number that a file holds alone; SIZE_MAX when there is none ("max").
static size_t number_in(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return SIZE_MAX;
    size_t number;
    if (fscanf(file, "%zu", &number) != 1) number = SIZE_MAX;
    fclose(file);
    return number;
}

static size_t left_of(const char *limit_path, const char *usage_path) {
    size_t limit = number_in(limit_path), usage = number_in(usage_path);
    if (limit == SIZE_MAX || usage == SIZE_MAX) return SIZE_MAX;
    return limit > usage ? limit - usage : 0;
}

size_t oct_available_bytes(void) {
    size_t kib = proc_kib("/proc/meminfo", "MemAvailable:");
    const size_t candidates[] = {
        kib ? kib * 1024 : SIZE_MAX,
        left_of("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        left_of("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    };
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (candidates[i] < least) least = candidates[i];
    return least;
}
