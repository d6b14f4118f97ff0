// model_golden.h: paths below tests/golden/model, and files made for one test.
#pragma once

#include "base/buffer.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The path of `name` below tests/golden/model; free() it.
static inline char *model_golden(const char *name) {
    const char *golden = getenv("OCTAVO_GOLDEN");
    struct oct_buffer path = {0};
    oct_buffer_printf(&path, "%s/model/%s", golden ? golden : "tests/golden", name);
    return oct_buffer_take(&path);
}

// A new empty folder below the system's temporary one; free() the path.
static inline char *new_folder(void) {
    const char *temporary = getenv("TMPDIR");
    char *folder = oct_path_join(temporary ? temporary : "/tmp", "octavo-test-XXXXXX");
    OCT_CHECK(mkdtemp(folder) != NULL);
    return folder;
}

static inline void put_file(const char *folder, const char *name, const void *bytes, size_t length) {
    char *path = oct_path_join(folder, name);
    oct_error err;
    OCT_CHECK(oct_file_write(path, bytes, length, &err) == OCT_OK);
    free(path);
}

// Removes the files named (NULL ends the list) and the folder, and frees the path.
static inline void remove_folder(char *folder, const char *const *names) {
    for (; *names; names++) {
        char *path = oct_path_join(folder, *names);
        unlink(path);
        free(path);
    }
    OCT_CHECK(rmdir(folder) == 0);
    free(folder);
}
