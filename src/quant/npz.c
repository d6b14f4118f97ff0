// npz.c: one pickled object in a zip archive. libzip reads; writing is by hand, since the bytes must be those that numpy writes.
#include "quant/npz.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "quant/pickle.h"

#include <stdlib.h>
#include <string.h>
#include <zip.h>

#define MEMBER "arr_0.npy"

// The scales of a 70B model, one an output channel, are 50 MB.
enum { MAX_NPZ_BYTES = 256 << 20 };

// The bytes of the member (free() them), or NULL with *err filled.
static char *unpack_member(const char *name, zip_t *archive, size_t *length, oct_error *err) {
    zip_stat_t info;
    if (zip_stat(archive, MEMBER, 0, &info) != 0) {
        oct_fail(err, OCT_CORRUPT, "%s: no member " MEMBER, name);
        return NULL;
    }
    if (!(info.valid & ZIP_STAT_SIZE) || info.size > MAX_NPZ_BYTES) {
        oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": at most %d bytes expected, %llu found", name, MAX_NPZ_BYTES,
                 (unsigned long long)info.size);
        return NULL;
    }
    zip_file_t *file = zip_fopen(archive, MEMBER, 0);
    if (!file) {
        oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": %s", name, zip_strerror(archive));
        return NULL;
    }
    char *bytes = oct_alloc((size_t)info.size + 1, 1, "an npz member");
    zip_int64_t n = zip_fread(file, bytes, info.size);
    // libzip compares the checksum when it meets the end of the data, so ask for one byte more.
    char more;
    bool whole = n == (zip_int64_t)info.size && zip_fread(file, &more, 1) == 0;
    if (zip_fclose(file) != 0) whole = false;
    *length = (size_t)info.size;
    if (whole) return bytes;
    oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": damaged (its checksum does not match)", name);
    free(bytes);
    return NULL;
}

// \x93NUMPY, version 1.0, a 16-bit length and a Python dict literal, then the pickle.
static oct_status parse_member(const char *name, const char *bytes, size_t length, struct oct_tree *tree, struct oct_value **out,
                               oct_error *err) {
    if (length < 10 || memcmp(bytes, "\x93NUMPY\x01\x00", 8) != 0)
        return oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": numpy array file of version 1.0 expected", name);
    size_t header = 10 + ((size_t)(unsigned char)bytes[8] | (size_t)(unsigned char)bytes[9] << 8);
    if (header > length) return oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": the data ends too early", name);
    if (!memmem(bytes, header, "'descr': '|O'", 13) || !memmem(bytes, header, "'shape': ()", 11))
        return oct_fail(err, OCT_CORRUPT, "%s: " MEMBER ": one pickled object expected", name);
    return oct_pickle_read(name, bytes + header, length - header, tree, out, err);
}

oct_status oct_npz_parse(const char *name, const void *bytes, size_t length, struct oct_tree *tree, struct oct_value **out,
                         oct_error *err) {
    zip_error_t problem;
    zip_error_init(&problem);
    zip_source_t *source = zip_source_buffer_create(bytes, length, 0, &problem);
    zip_t *archive = source ? zip_open_from_source(source, ZIP_RDONLY, &problem) : NULL;
    oct_status status;
    if (!archive) {
        status = oct_fail(err, OCT_CORRUPT, "%s: not an npz file: %s", name, zip_error_strerror(&problem));
        zip_source_free(source);
    } else {
        size_t member_length = 0;
        char *member = unpack_member(name, archive, &member_length, err);
        status = member ? parse_member(name, member, member_length, tree, out, err) : OCT_CORRUPT;
        free(member);
        zip_discard(archive);
    }
    zip_error_fini(&problem);
    return status;
}

oct_status oct_npz_read(const char *path, struct oct_tree *tree, struct oct_value **out, oct_error *err) {
    char *bytes;
    size_t length;
    OCT_TRY(oct_file_read(path, MAX_NPZ_BYTES, &bytes, &length, err));
    oct_status status = oct_npz_parse(path, bytes, length, tree, out, err);
    free(bytes);
    return status;
}

// CRC-32 of zip (reflected, polynomial 0xEDB88320), bit by bit: files are small.
static uint32_t crc32_of(const char *bytes, size_t length) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned char)bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

static void put(struct oct_buffer *out, uint64_t number, size_t n) {
    for (size_t i = 0; i < n; i++) oct_buffer_append(out, &(unsigned char){(unsigned char)(number >> (8 * i))}, 1);
}

enum { VERSION = 45, DATE_1980_01_01 = 0x21 };

static void put_local_header(struct oct_buffer *out, uint32_t crc, size_t length) {
    oct_buffer_puts(out, "PK\3\4");
    put(out, VERSION, 2);
    put(out, 0, 2); // flags
    put(out, 0, 2); // stored
    put(out, 0, 2); // time
    put(out, DATE_1980_01_01, 2);
    put(out, crc, 4);
    put(out, 0xFFFFFFFFu, 4); // numpy always forces ZIP64: both sizes are in the extra field
    put(out, 0xFFFFFFFFu, 4);
    put(out, sizeof MEMBER - 1, 2);
    put(out, 20, 2);
    oct_buffer_puts(out, MEMBER);
    put(out, 1, 2);
    put(out, 16, 2);
    put(out, length, 8);
    put(out, length, 8);
}

static void put_central_directory(struct oct_buffer *out, uint32_t crc, size_t length) {
    size_t start = out->length;
    oct_buffer_puts(out, "PK\1\2");
    put(out, VERSION, 1);
    put(out, 3, 1); // made by Unix
    put(out, VERSION, 2);
    put(out, 0, 2);
    put(out, 0, 2);
    put(out, 0, 2);
    put(out, DATE_1980_01_01, 2);
    put(out, crc, 4);
    put(out, length, 4);
    put(out, length, 4);
    put(out, sizeof MEMBER - 1, 2);
    put(out, 0, 2); // extra field
    put(out, 0, 2); // comment
    put(out, 0, 2); // disk
    put(out, 0, 2); // internal attributes
    put(out, 0600u << 16, 4);
    put(out, 0, 4); // offset of the local header
    oct_buffer_puts(out, MEMBER);
    size_t size = out->length - start;
    oct_buffer_puts(out, "PK\5\6");
    put(out, 0, 4); // disks
    put(out, 1, 2);
    put(out, 1, 2);
    put(out, size, 4);
    put(out, start, 4);
    put(out, 0, 2);
}

static void put_npy(struct oct_buffer *out, struct oct_value *value) {
    static const char text[] = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
    enum { HEADER = 128 }; // a multiple of 64 that holds 10 bytes, the text and a newline
    oct_buffer_append(out, "\x93NUMPY\x01\x00", 8);
    put(out, HEADER - 10, 2);
    oct_buffer_printf(out, "%-*s\n", HEADER - 10 - 1, text);
    oct_pickle_write(value, out);
}

oct_status oct_npz_write(const char *path, struct oct_value *value, oct_error *err) {
    struct oct_buffer member = {0}, file = {0};
    put_npy(&member, value);
    OCT_CHECK(member.length <= MAX_NPZ_BYTES);
    uint32_t crc = crc32_of(member.data, member.length);
    put_local_header(&file, crc, member.length);
    oct_buffer_append(&file, member.data, member.length);
    put_central_directory(&file, crc, member.length);
    oct_status status = oct_file_write(path, file.data, file.length, err);
    oct_buffer_free(&member);
    oct_buffer_free(&file);
    return status;
}
