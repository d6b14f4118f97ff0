// api_error.c: errors in the shape that OpenAI's clients expect.
#include "server/api_error.h"

#include <stdarg.h>
#include <stdio.h>

static const char *type_of(int status) {
    switch (status) {
    case 400:
        return "BadRequestError";
    case 404:
        return "NotFoundError";
    case 500:
        return "InternalServerError";
    case 501:
        return "NotImplementedError";
    default:
        return oct_http_phrase(status);
    }
}

static bool fail_with(struct oct_api_error *error, int status, const char *type, const char *param, const char *format, va_list args) {
    if (error->status) return false;
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    error->status = status;
    error->type = type;
    oct_buffer_puts(&error->message, text);
    if (param) oct_buffer_puts(&error->param, param);
    return false;
}

bool oct_api_fail(struct oct_api_error *error, const char *param, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_with(error, 400, type_of(400), param, format, args);
    va_end(args);
    return false;
}

bool oct_api_fail_status(struct oct_api_error *error, int status, const char *param, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_with(error, status, type_of(status), param, format, args);
    va_end(args);
    return false;
}

bool oct_api_fail_detail(struct oct_api_error *error, int status, const char *text) {
    if (error->status) return false;
    error->status = status;
    error->type = NULL;
    oct_buffer_puts(&error->message, text);
    return false;
}

bool oct_api_fail_engine(struct oct_api_error *error, const oct_error *cause) {
    int status = 500;
    if (cause->code == OCT_INVALID_ARGUMENT || cause->code == OCT_UNSUPPORTED || cause->code == OCT_CORRUPT || cause->code == OCT_NOT_FOUND)
        status = 400;
    else if (cause->code == OCT_OUT_OF_MEMORY || cause->code == OCT_CANCELLED || cause->code == OCT_UNAVAILABLE)
        status = 503;
    return oct_api_fail_status(error, status, NULL, "%s", cause->message);
}

void oct_api_error_free(struct oct_api_error *error) {
    oct_buffer_free(&error->message);
    oct_buffer_free(&error->param);
    *error = (struct oct_api_error){0};
}

void oct_api_error_write(const struct oct_api_error *error, struct oct_json_writer *writer) {
    oct_json_open(writer, '{');
    if (!error->type) {
        oct_json_key(writer, "detail");
        oct_json_string(writer, error->message.data, error->message.length);
        oct_json_close(writer, '}');
        return;
    }
    oct_json_key(writer, "error");
    oct_json_open(writer, '{');
    oct_json_key(writer, "message");
    oct_json_string(writer, error->message.data, error->message.length);
    oct_json_key(writer, "type");
    oct_json_text(writer, error->type);
    oct_json_key(writer, "param");
    oct_json_text(writer, error->param.data); // NULL when empty
    oct_json_key(writer, "code");
    oct_json_integer(writer, error->status);
    oct_json_close(writer, '}');
    oct_json_close(writer, '}');
}

void oct_api_error_reply(const struct oct_api_error *error, struct oct_connection *connection) {
    struct oct_json_writer writer = {0};
    oct_api_error_write(error, &writer);
    oct_reply(connection, error->status, "application/json", writer.out.data, writer.out.length);
    oct_buffer_free(&writer.out);
}
