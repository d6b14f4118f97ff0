// share.c: the folder is the one that OCTAVO_SHARE names, else ../share/octavo as seen from the program.
#include "cli/share.h"

#include "base/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// "folder/../share/octavo" of the running program; false where the system does not tell.
static bool share_folder(char *path, size_t size) {
    static const char tail[] = "/../share/octavo";
    ssize_t length = readlink("/proc/self/exe", path, size - sizeof tail);
    if (length <= 0) return false;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash) return false;
    memcpy(slash, tail, sizeof tail);
    return true;
}

oct_status oct_share_file(const char *name, char **path, oct_error *err) {
    char folder[PATH_MAX];
    const char *given = getenv("OCTAVO_SHARE");
    if (!given && !share_folder(folder, sizeof folder))
        return oct_fail(err, OCT_NOT_FOUND, "%s: the folder share/octavo cannot be found; OCTAVO_SHARE can name it", name);
    *path = oct_path_join(given ? given : folder, name);
    if (oct_path_exists(*path)) return OCT_OK;
    oct_status status = oct_fail(err, OCT_NOT_FOUND, "%s: not found; OCTAVO_SHARE names the folder that holds it", *path);
    free(*path);
    *path = NULL;
    return status;
}
