// openai_body.c: the bytes of a body to a JSON object, with bounds on what it may cost, and with the answers of vLLM (FastAPI and Python's
// JSON parser) where it is none.

#include "server/openai_request.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_VALUES = 4 << 20,     // JSON values in a body: about 64 bytes of memory each
    MAX_CONTAINERS = 1 << 17, // arrays and objects among them: about 200 bytes each
    MAX_DEPTH = 1000,
};

// Counts what a body would cost before jansson allocates it. A quick look at brackets and commas outside of strings is enough for that.
static bool is_affordable(const char *text, size_t length) {
    size_t values = 1, containers = 0, depth = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '"') {
            for (i++; i < length && text[i] != '"'; i++)
                if (text[i] == '\\') i++;
        } else if (c == ',' || c == ':') {
            values++;
        } else if (c == '[' || c == '{') {
            containers++;
            if (++depth > MAX_DEPTH) return false;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return values + containers <= MAX_VALUES && containers <= MAX_CONTAINERS;
}

// Python's JSON has the literals NaN, Infinity and -Infinity, which jansson refuses. Quoted they are strings, which read_real understands,
// so that the range check of their parameter can answer.
static struct oct_buffer quote_literals(const char *text, size_t length) {
    static const char *const literals[] = {"NaN", "-Infinity", "Infinity"};
    struct oct_buffer out = {0};
    bool in_string = false;
    for (size_t i = 0; i < length;) {
        size_t taken = 1;
        if (in_string && text[i] == '\\' && i + 1 < length) taken = 2;
        if (text[i] == '"') in_string = !in_string;
        const char *found = NULL;
        for (size_t k = 0; !in_string && !found && k < sizeof literals / sizeof *literals; k++)
            if (length - i >= strlen(literals[k]) && !memcmp(text + i, literals[k], strlen(literals[k]))) found = literals[k];
        if (found) {
            oct_buffer_printf(&out, "\"%s\"", found);
            taken = strlen(found);
        } else {
            oct_buffer_append(&out, text + i, taken);
        }
        i += taken;
    }
    return out;
}

// A body with an integer past 64 bits. Parameters get it as a real, so that their range check can name it; what a template shows keeps its
// digits (see base/json.h).
static json_t *parse_with_big_integers(const char *text, size_t length, size_t flags) {
    static const char *const shown[] = {"messages", "tools", "documents", "chat_template_kwargs"};
    json_t *body = json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, NULL), *exact;
    if (!json_is_object(body) || oct_json_parse("body", text, length, &exact, NULL) != OCT_OK) return body;
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        json_t *value = json_object_get(exact, shown[i]);
        if (value) json_object_set(body, shown[i], value);
    }
    json_decref(exact);
    return body;
}

// Where Python's parser would see the error: at the start of the token that jansson has just read.
static int error_position(const json_error_t *problem) {
    const char *token = strstr(problem->text, "near '");
    return token ? problem->position - (int)strlen(token + 6) + 1 : problem->position;
}

bool oct_openai_parse(struct oct_openai_request *request, const char *text, size_t length, struct oct_api_error *error) {
    static const char broken[] = "There was an error parsing the body";
    if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, length -= 3;
    if (!is_affordable(text, length)) return oct_api_fail_detail(error, 400, broken);
    json_error_t problem;
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    request->body = json_loadb(text, length, flags, &problem);
    if (!request->body && json_error_code(&problem) == json_error_numeric_overflow)
        request->body = parse_with_big_integers(text, length, flags);
    if (!request->body && (strstr(problem.text, "NaN") || strstr(problem.text, "Infinity"))) {
        struct oct_buffer quoted = quote_literals(text, length);
        json_error_t ignored;
        request->body = json_loadb(quoted.data, quoted.length, flags, &ignored);
        oct_buffer_free(&quoted);
    }
    if (!request->body && json_error_code(&problem) == json_error_invalid_utf8) return oct_api_fail_detail(error, 400, broken);
    if (!request->body && strstr(problem.text, "invalid Unicode"))
        return oct_api_fail(error, NULL, "A string of the body holds half of a surrogate pair, which is not a character");
    if (!request->body) {
        char param[32];
        snprintf(param, sizeof param, "body.%d", error_position(&problem));
        struct oct_buffer message = {0};
        oct_buffer_printf(&message, "JSON decode error: %s", problem.text);
        oct_openai_invalid(error, param, "json_invalid", message.data, NULL);
        oct_buffer_free(&message);
        return false;
    }
    if (json_is_object(request->body)) return true;
    return oct_openai_invalid(error, "body", "model_attributes_type", "Input should be a valid dictionary or object to extract fields from",
                              request->body);
}
