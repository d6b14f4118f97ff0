// safetensors_write.c: the header's length, the header padded to a multiple of 8 bytes, the tensors' bytes without gaps.
#include "model/safetensors_write.h"

#include <endian.h>
#include <inttypes.h>

void oct_safetensors_declare(struct oct_safetensors_writer *writer, const char *name, const char *dtype, size_t element_bytes, int num_dims,
                             const int64_t *shape) {
    struct oct_buffer *header = &writer->header;
    uint64_t bytes = element_bytes;
    // Hugging Face's loaders want to be told which framework's tensors these are.
    oct_buffer_puts(header, header->length ? "," : "{\"__metadata__\":{\"format\":\"pt\"},");
    oct_buffer_printf(header, "\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, dtype);
    for (int i = 0; i < num_dims; i++) {
        oct_buffer_printf(header, "%s%" PRId64, i ? "," : "", shape[i]);
        bytes *= (uint64_t)shape[i];
    }
    oct_buffer_printf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", writer->declared, writer->declared + bytes);
    writer->declared += bytes;
}

oct_status oct_safetensors_begin(struct oct_safetensors_writer *writer, const char *path, oct_error *err) {
    OCT_CHECK(writer->header.length);
    oct_buffer_puts(&writer->header, "}");
    while (writer->header.length % 8) oct_buffer_puts(&writer->header, " ");
    uint64_t length = htole64(writer->header.length);
    OCT_TRY(oct_file_writer_open(path, &writer->file, err));
    OCT_TRY(oct_file_writer_append(&writer->file, &length, sizeof length, err));
    return oct_file_writer_append(&writer->file, writer->header.data, writer->header.length, err);
}

oct_status oct_safetensors_append(struct oct_safetensors_writer *writer, const void *bytes, size_t length, oct_error *err) {
    writer->written += length;
    OCT_CHECK(writer->written <= writer->declared);
    return oct_file_writer_append(&writer->file, bytes, length, err);
}

oct_status oct_safetensors_commit(struct oct_safetensors_writer *writer, oct_error *err) {
    OCT_CHECK(writer->written == writer->declared);
    oct_buffer_free(&writer->header);
    return oct_file_writer_commit(&writer->file, err);
}

void oct_safetensors_abandon(struct oct_safetensors_writer *writer) {
    oct_buffer_free(&writer->header);
    oct_file_writer_abandon(&writer->file);
}
