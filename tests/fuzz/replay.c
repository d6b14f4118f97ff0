// Drives a fuzz target without libFuzzer: every seed as it is, cut at every length, and with seeded random damage. Passing is not crashing
// (best seen in a build with sanitizers).
#include "target.h"

#include "base/file.h"
#include "base/memory.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 3000 }; // damaged copies of each seed

// xorshift64: the same numbers everywhere.
static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// One to four places: a random byte, a flipped bit, an extreme byte, or a run of bytes copied from elsewhere.
static void damage(uint8_t *data, size_t size, uint64_t *random) {
    for (uint64_t n = next_random(random) % 4 + 1; n > 0; n--) {
        size_t at = next_random(random) % size, from = next_random(random) % size, length = next_random(random) % 9;
        switch (next_random(random) % 4) {
        case 0:
            data[at] = (uint8_t)next_random(random);
            break;
        case 1:
            data[at] ^= (uint8_t)(1 << next_random(random) % 8);
            break;
        case 2:
            data[at] = next_random(random) % 2 ? 0xff : 0;
            break;
        case 3:
            memmove(data + at, data + from, at + length <= size && from + length <= size ? length : 1);
            break;
        }
    }
}

static void replay(const uint8_t *seed, size_t size) {
    // Exact allocations, so that a sanitizer sees a read past the end.
    for (size_t length = 0; length <= size; length++) {
        uint8_t *cut = oct_alloc(length, 1, "a cut seed");
        memcpy(cut, seed, length);
        LLVMFuzzerTestOneInput(cut, length);
        free(cut);
    }
    uint64_t random = 88172645463325252;
    uint8_t *damaged = oct_alloc(size, 1, "a damaged seed");
    for (int i = 0; size && i < ROUNDS; i++) {
        memcpy(damaged, seed, size);
        damage(damaged, size, &random);
        LLVMFuzzerTestOneInput(damaged, size);
    }
    free(damaged);
}

int main(int argc, char **argv) {
    struct dirent **names;
    int count = argc == 2 ? scandir(argv[1], &names, NULL, alphasort) : -1, seeds = 0;
    for (int i = 0; i < count; i++) {
        char *path = oct_path_join(argv[1], names[i]->d_name), *bytes;
        size_t size;
        oct_error err;
        if (!oct_path_is_directory(path)) {
            if (oct_file_read(path, SIZE_MAX / 2, &bytes, &size, &err) != OCT_OK) {
                fprintf(stderr, "%s\n", err.message);
                return 1;
            }
            replay((const uint8_t *)bytes, size);
            free(bytes);
            seeds++;
        }
        free(path);
        free(names[i]);
    }
    if (count >= 0) free(names);
    printf("%d seeds\n", seeds);
    return seeds == 0;
}
