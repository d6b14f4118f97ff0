// file.c: whole files: mapped, read, and written through a temporary name, so that a reader never sees half of one.
#include "base/file.h"

#include "base/buffer.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static oct_status open_regular(const char *path, int *fd, size_t *size, oct_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return oct_fail(err, errno == ENOENT ? OCT_NOT_FOUND : OCT_IO, "%s: %s", path, strerror(errno));
    struct stat info;
    if (fstat(*fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(*fd);
        return oct_fail(err, OCT_IO, "%s: a regular file expected", path);
    }
    *size = (size_t)info.st_size;
    return OCT_OK;
}

oct_status oct_file_map(const char *path, struct oct_mapped_file *out, oct_error *err) {
    int fd;
    size_t size;
    OCT_TRY(open_regular(path, &fd, &size, err));
    *out = (struct oct_mapped_file){.size = size};
    if (size) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            close(fd);
            return oct_fail(err, OCT_IO, "%s: cannot map %zu bytes: %s", path, size, strerror(errno));
        }
        out->data = data;
    }
    close(fd);
    return OCT_OK;
}

void oct_file_unmap(struct oct_mapped_file *file) {
    if (file->data) munmap((void *)file->data, file->size);
    *file = (struct oct_mapped_file){0};
}

oct_status oct_file_read(const char *path, size_t limit, char **out, size_t *length, oct_error *err) {
    int fd;
    size_t size;
    OCT_TRY(open_regular(path, &fd, &size, err));
    if (size > limit) {
        close(fd);
        return oct_fail(err, OCT_CORRUPT, "%s: at most %zu bytes expected, %zu found", path, limit, size);
    }
    char *bytes = oct_alloc(size + 1, 1, path);
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, bytes + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    close(fd);
    if (done != size) {
        free(bytes);
        return oct_fail(err, OCT_IO, "%s: %zu bytes expected, %zu could be read", path, size, done);
    }
    *out = bytes;
    *length = size;
    return OCT_OK;
}

// A device or a pipe would be replaced by the file, for every other program too.
static bool is_special(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

oct_status oct_file_writer_open(const char *path, struct oct_file_writer *out, oct_error *err) {
    if (is_special(path)) return oct_fail(err, OCT_INVALID_ARGUMENT, "%s: a regular file expected, a device or pipe found", path);
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s.%ld.tmp", path, (long)getpid());
    int fd = open(name.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        oct_buffer_free(&name);
        return oct_fail(err, OCT_IO, "%s: cannot create: %s", path, strerror(errno));
    }
    *out = (struct oct_file_writer){fd, oct_strdup(path), oct_buffer_take(&name)};
    return OCT_OK;
}

oct_status oct_file_writer_append(struct oct_file_writer *writer, const void *bytes, size_t length, oct_error *err) {
    for (size_t done = 0; done < length;) {
        ssize_t n = write(writer->fd, (const char *)bytes + done, length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return oct_fail(err, OCT_IO, "%s: cannot write: %s", writer->path, strerror(errno));
        done += (size_t)n;
    }
    return OCT_OK;
}

oct_status oct_file_writer_commit(struct oct_file_writer *writer, oct_error *err) {
    oct_status status = OCT_OK;
    if (fsync(writer->fd) != 0) status = oct_fail(err, OCT_IO, "%s: cannot sync: %s", writer->path, strerror(errno));
    int closed = close(writer->fd);
    writer->fd = -1;
    if (status == OCT_OK && closed != 0) status = oct_fail(err, OCT_IO, "%s: cannot close: %s", writer->path, strerror(errno));
    if (status == OCT_OK && rename(writer->unfinished, writer->path) != 0)
        status = oct_fail(err, OCT_IO, "%s: cannot rename into place: %s", writer->path, strerror(errno));
    if (status != OCT_OK) unlink(writer->unfinished);
    free(writer->unfinished);
    free(writer->path);
    *writer = (struct oct_file_writer){.fd = -1};
    return status;
}

void oct_file_writer_abandon(struct oct_file_writer *writer) {
    if (!writer->unfinished) return;
    close(writer->fd);
    unlink(writer->unfinished);
    free(writer->unfinished);
    free(writer->path);
    *writer = (struct oct_file_writer){.fd = -1};
}

oct_status oct_file_write(const char *path, const void *bytes, size_t length, oct_error *err) {
    struct oct_file_writer writer;
    OCT_TRY(oct_file_writer_open(path, &writer, err));
    oct_status status = oct_file_writer_append(&writer, bytes, length, err);
    if (status == OCT_OK) return oct_file_writer_commit(&writer, err);
    oct_file_writer_abandon(&writer);
    return status;
}

bool oct_path_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool oct_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

oct_status oct_make_directories(const char *path, oct_error *err) {
    char *partial = oct_strdup(path);
    oct_status status = OCT_OK;
    for (char *end = partial + 1; status == OCT_OK; end++) {
        if (*end && *end != '/') continue;
        char kept = *end;
        *end = '\0';
        if (mkdir(partial, 0777) != 0 && !oct_path_is_directory(partial))
            status = oct_fail(err, OCT_IO, "%s: cannot create the folder: %s", partial, strerror(errno));
        *end = kept;
        if (!kept) break;
    }
    free(partial);
    return status;
}

char *oct_path_join(const char *directory, const char *name) {
    struct oct_buffer path = {0};
    size_t length = strlen(directory);
    oct_buffer_printf(&path, "%s%s%s", directory, length && directory[length - 1] != '/' ? "/" : "", name);
    return oct_buffer_take(&path);
}
