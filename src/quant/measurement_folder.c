// The folder in which a calibration leaves its files.
#include "quant/measurement.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// The folder (free() it) and the prefix (within `path`) of dump_stats_path.
static char *split(const char *path, const char **prefix) {
    const char *slash = strrchr(path, '/');
    *prefix = slash ? slash + 1 : path;
    if (!slash) return oct_strdup(".");
    return slash == path ? oct_strdup("/") : oct_strndup(path, (size_t)(slash - path));
}

static char *backup_name(const char *folder, const char *prefix) {
    char stamp[32];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(stamp, sizeof stamp, "%d-%m_%H:%M:%S", &local);
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s/backup_%s_%s", folder, prefix, stamp);
    return oct_buffer_take(&name);
}

// A file that cannot be moved stays: the new one will replace it.
static void move_into(const char *folder, const char *name, const char *backup) {
    char *from = oct_path_join(folder, name), *to = oct_path_join(backup, name);
    mkdir(backup, 0777);
    if (rename(from, to) != 0) oct_log(OCT_LOG_WARNING, "%s: cannot move to %s: %s", from, backup, strerror(errno));
    free(from);
    free(to);
}

static void move_older_files(const char *folder, const char *prefix) {
    size_t length = strlen(prefix);
    DIR *directory = length ? opendir(folder) : NULL; // an empty prefix would take everything
    if (!directory) return;
    char *backup = backup_name(folder, prefix);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (!strncmp(entry->d_name, prefix, length)) move_into(folder, entry->d_name, backup);
    closedir(directory);
    free(backup);
}

oct_status oct_measurement_prepare(const struct oct_quant_config *config, oct_error *err) {
    const char *prefix;
    char *folder = split(config->dump_stats_path, &prefix);
    oct_status status = oct_make_directories(folder, err);
    if (status == OCT_OK && access(folder, W_OK) != 0)
        status = oct_fail(err, OCT_IO, "Measurements dump directory '%s' is non-writable", folder);
    if (status == OCT_OK) move_older_files(folder, prefix);
    free(folder);
    return status;
}
