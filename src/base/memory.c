// memory.c: calloc that does not fail, and pages straight from the system for what is large.
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

// The number behind `key` in a file of such lines; 0: the file does not say.
static size_t number_after(const char *path, const char *key) {
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char line[256];
    size_t number = 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) number = strtoull(line + strlen(key), NULL, 10);
    fclose(file);
    return number;
}

size_t oct_peak_resident_bytes(void) {
    return number_after("/proc/self/status", "VmHWM:") * 1024;
}

// What a control group leaves: pages of files count as used there, but give way. SIZE_MAX when there is no limit.
static size_t left_in_group(const char *limit_path, const char *usage_path, const char *stat_path) {
    size_t limit = number_after(limit_path, ""), used = number_after(usage_path, "");
    if (limit == 0) return SIZE_MAX; // no such file, or "max"
    size_t files = number_after(stat_path, "active_file ") + number_after(stat_path, "inactive_file ");
    used -= files < used ? files : used;
    return limit > used ? limit - used : 0;
}

size_t oct_available_bytes(void) {
    size_t kib = number_after("/proc/meminfo", "MemAvailable:");
    const size_t bounds[] = {
        kib ? kib * 1024 : SIZE_MAX,
        left_in_group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
        left_in_group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                      "/sys/fs/cgroup/memory/memory.stat"),
    };
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i] < least) least = bounds[i];
    return least;
}
