// openai_request.c: the table of request parameters: name, type, range, default; and the parser that it drives.
#include "server/openai_request.h"

#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_STOP_STRINGS = 16,
    MAX_ERRORS = 10, // listed in a message
    MAX_SHOWN = 200, // characters of an input shown in a message
};

// ---- Messages in pydantic's words.

struct problems {
    size_t count;
    struct oct_buffer lines, param; // at most MAX_ERRORS lines; the path of the first
};

// A value as Python would print it, containers by their size only.
static void describe(const json_t *value, struct oct_buffer *out) {
    char real[32];
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        oct_buffer_printf(out, "<dict of %zu items>", json_object_size(value));
        break;
    case JSON_ARRAY:
        oct_buffer_printf(out, "<list of %zu items>", json_array_size(value));
        break;
    case JSON_STRING: {
        const char *text = json_string_value(value);
        oct_buffer_append(out, text, strnlen(text, MAX_SHOWN)); // a character cut in half is mended by the JSON writer
        break;
    }
    case JSON_INTEGER:
        oct_buffer_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        oct_format_real(json_real_value(value), real);
        oct_buffer_puts(out, real);
        break;
    case JSON_TRUE:
        oct_buffer_puts(out, "True");
        break;
    case JSON_FALSE:
        oct_buffer_puts(out, "False");
        break;
    default:
        oct_buffer_puts(out, "None");
        break;
    }
}

static void add_problem(struct problems *problems, const char *param, const char *type, const char *text, const json_t *input) {
    if (problems->count++ == 0) oct_buffer_puts(&problems->param, param);
    if (problems->count > MAX_ERRORS) return;
    oct_buffer_printf(&problems->lines, "\n  {'type': '%s', 'loc': '%s', 'msg': '%s', 'input': '", type, param, text);
    describe(input, &problems->lines);
    oct_buffer_puts(&problems->lines, "'}");
}

// Turns the problems, if there are any, into the error. True when there were none.
static bool settle(struct problems *problems, struct oct_api_error *error) {
    if (problems->count > 0 && !error->status) {
        error->status = 400;
        error->type = "Bad Request";
        oct_buffer_printf(&error->message, "%zu validation error%s:", problems->count, problems->count == 1 ? "" : "s");
        oct_buffer_append(&error->message, problems->lines.data, problems->lines.length);
        if (problems->count > MAX_ERRORS) oct_buffer_printf(&error->message, "\n  ...and %zu more errors", problems->count - MAX_ERRORS);
        oct_buffer_append(&error->param, problems->param.data, problems->param.length);
    }
    oct_buffer_free(&problems->lines);
    oct_buffer_free(&problems->param);
    return !error->status;
}

bool oct_openai_invalid(struct oct_api_error *error, const char *param, const char *type, const char *text, const json_t *input) {
    struct problems problems = {0};
    add_problem(&problems, param, type, text, input);
    return settle(&problems, error);
}

// ---- The table of parameters.

enum kind { BOOLEAN, INTEGER, NUMBER, STRING, OBJECT, LIST };

struct parameter {
    const char *name;
    int endpoints; // oct_endpoint_set
    enum kind kind;
    bool nullable;
    long offset; // of the field in struct oct_openai_request; IGNORED: only the type is checked
    int64_t min; // INTEGER; INT64_MIN: none
};

enum { BOTH = OCT_COMPLETIONS | OCT_CHAT, MESSAGES = OCT_CHAT | OCT_TOKENIZE, ALL = BOTH | OCT_TOKENIZE, IGNORED = -1 };
#define FIELD(name) offsetof(struct oct_openai_request, name)

// In the order in which vLLM reports their errors.
static const struct parameter parameters[] = {
    {"model", ALL, STRING, true, FIELD(model), INT64_MIN},
    {"echo", OCT_COMPLETIONS, BOOLEAN, true, FIELD(echo), INT64_MIN},
    {"frequency_penalty", BOTH, NUMBER, true, FIELD(frequency_penalty), INT64_MIN},
    {"logprobs", OCT_COMPLETIONS, INTEGER, true, FIELD(logprobs), INT64_MIN},
    {"logprobs", OCT_CHAT, BOOLEAN, true, FIELD(wants_logprobs), INT64_MIN},
    {"top_logprobs", OCT_CHAT, INTEGER, true, FIELD(top_logprobs), INT64_MIN},
    {"max_tokens", BOTH, INTEGER, true, FIELD(max_tokens), INT64_MIN},
    {"max_completion_tokens", OCT_CHAT, INTEGER, true, FIELD(max_completion_tokens), INT64_MIN},
    {"n", OCT_COMPLETIONS, INTEGER, false, FIELD(n), INT64_MIN},
    {"n", OCT_CHAT, INTEGER, true, FIELD(n), INT64_MIN},
    {"presence_penalty", BOTH, NUMBER, true, FIELD(presence_penalty), INT64_MIN},
    {"seed", BOTH, INTEGER, true, FIELD(seed), INT64_MIN},
    {"stream", BOTH, BOOLEAN, true, FIELD(stream), INT64_MIN},
    {"temperature", BOTH, NUMBER, true, FIELD(temperature), INT64_MIN},
    {"top_p", BOTH, NUMBER, true, FIELD(top_p), INT64_MIN},
    {"tools", MESSAGES, LIST, true, IGNORED, INT64_MIN},
    {"include_reasoning", OCT_CHAT, BOOLEAN, false, IGNORED, INT64_MIN},
    {"parallel_tool_calls", OCT_CHAT, BOOLEAN, true, IGNORED, INT64_MIN},
    {"user", BOTH, STRING, true, IGNORED, INT64_MIN},
    {"use_beam_search", BOTH, BOOLEAN, false, IGNORED, INT64_MIN},
    {"top_k", BOTH, INTEGER, true, FIELD(top_k), INT64_MIN},
    {"min_p", BOTH, NUMBER, true, FIELD(min_p), INT64_MIN},
    {"repetition_penalty", BOTH, NUMBER, true, FIELD(repetition_penalty), INT64_MIN},
    {"length_penalty", BOTH, NUMBER, false, IGNORED, INT64_MIN},
    {"include_stop_str_in_output", BOTH, BOOLEAN, false, FIELD(include_stop_str_in_output), INT64_MIN},
    {"ignore_eos", BOTH, BOOLEAN, false, FIELD(ignore_eos), INT64_MIN},
    {"min_tokens", BOTH, INTEGER, false, FIELD(min_tokens), INT64_MIN},
    {"skip_special_tokens", BOTH, BOOLEAN, false, FIELD(skip_special_tokens), INT64_MIN},
    {"spaces_between_special_tokens", BOTH, BOOLEAN, false, FIELD(spaces_between_special_tokens), INT64_MIN},
    {"truncate_prompt_tokens", BOTH, INTEGER, true, FIELD(truncate_prompt_tokens), -1},
    {"truncation_side", BOTH, STRING, true, FIELD(truncation_side), INT64_MIN},
    {"echo", OCT_CHAT, BOOLEAN, false, FIELD(echo), INT64_MIN},
    {"add_generation_prompt", MESSAGES, BOOLEAN, false, FIELD(add_generation_prompt), INT64_MIN},
    {"continue_final_message", MESSAGES, BOOLEAN, false, FIELD(continue_final_message), INT64_MIN},
    {"add_special_tokens", ALL, BOOLEAN, false, FIELD(add_special_tokens), INT64_MIN},
    {"priority", BOTH, INTEGER, false, FIELD(priority), INT64_MIN},
    {"request_id", BOTH, STRING, false, FIELD(request_id), INT64_MIN},
    {"session_id", BOTH, STRING, true, IGNORED, INT64_MIN},
    {"return_tokens_as_token_ids", BOTH, BOOLEAN, true, FIELD(return_tokens_as_token_ids), INT64_MIN},
    {"return_token_ids", BOTH, BOOLEAN, true, FIELD(return_token_ids), INT64_MIN},
    {"cache_salt", BOTH, STRING, true, FIELD(cache_salt), INT64_MIN},
    {"return_token_strs", OCT_TOKENIZE, BOOLEAN, true, FIELD(return_token_strs), INT64_MIN},
    {"stream_interval", BOTH, INTEGER, true, FIELD(stream_interval), 1},
    {"prompt_logprobs", BOTH, INTEGER, true, FIELD(prompt_logprobs), INT64_MIN},
    // Types only: the values are read by oct_openai_read_token_parameters, or refused below, unless they do nothing.
    {"logit_bias", BOTH, OBJECT, true, IGNORED, INT64_MIN},
    {"allowed_token_ids", BOTH, LIST, true, IGNORED, INT64_MIN},
    {"bad_words", BOTH, LIST, false, IGNORED, INT64_MIN},
    {"logprob_token_ids", BOTH, LIST, true, IGNORED, INT64_MIN},
    {"documents", MESSAGES, LIST, true, IGNORED, INT64_MIN},
    {"chat_template", MESSAGES, STRING, true, IGNORED, INT64_MIN},
    {"chat_template_kwargs", MESSAGES, OBJECT, true, IGNORED, INT64_MIN},
    {"kv_transfer_params", BOTH, OBJECT, true, IGNORED, INT64_MIN},
    {"ec_transfer_params", BOTH, OBJECT, true, IGNORED, INT64_MIN},
    {"vllm_xargs", BOTH, OBJECT, true, IGNORED, INT64_MIN},
};

static void set_defaults(struct oct_openai_request *request, enum oct_endpoint_set endpoint) {
    request->n = 1;
    request->max_tokens = endpoint == OCT_COMPLETIONS ? 16 : OCT_ABSENT;
    request->max_completion_tokens = request->seed = request->logprobs = request->truncate_prompt_tokens = OCT_ABSENT;
    request->prompt_logprobs = OCT_ABSENT;
    request->stream_interval = 1;
    request->temperature = request->top_p = request->repetition_penalty = 1;
    request->skip_special_tokens = request->spaces_between_special_tokens = request->add_generation_prompt = true;
    request->add_special_tokens = endpoint != OCT_CHAT && !json_object_get(request->body, "messages"); // templates have their own
}

// A string that is one number and nothing else. pydantic takes such strings for numbers.
static bool parse_number(const char *text, double *out) {
    bool special = !strcmp(text, "NaN") || !strcmp(text, "Infinity") || !strcmp(text, "-Infinity");
    if (!*text || (!special && strspn(text, "0123456789+-.eE ") != strlen(text))) return false;
    char *end;
    *out = strtod(text, &end);
    while (*end == ' ') end++;
    return end != text && !*end;
}

static void read_integer(const struct parameter *p, const char *param, const json_t *value, int64_t *out, struct problems *problems) {
    double real = 0;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
    } else if (json_is_boolean(value)) {
        *out = json_is_true(value);
    } else if (json_is_real(value) || (json_is_string(value) && parse_number(json_string_value(value), &real))) {
        if (json_is_real(value)) real = json_real_value(value);
        if (real != floor(real))
            return add_problem(problems, param, "int_from_float", "Input should be a valid integer, got a number with a fractional part",
                               value);
        bool beyond = fabs(real) >= 9223372036854775808.0;
        if (beyond && (!strcmp(p->name, "seed") || !strcmp(p->name, "truncate_prompt_tokens")))
            return add_problem(problems, param, real > 0 ? "less_than_equal" : "greater_than_equal", "Input should be a 64-bit integer",
                               value);
        *out = !beyond ? (int64_t)real : real > 0 ? INT64_MAX : INT64_MIN + 1;
    } else if (json_is_string(value)) {
        return add_problem(problems, param, "int_parsing", "Input should be a valid integer, unable to parse string as an integer", value);
    } else {
        return add_problem(problems, param, "int_type", "Input should be a valid integer", value);
    }
    if (*out < p->min) {
        char text[80];
        snprintf(text, sizeof text, "Input should be greater than or equal to %" PRId64, p->min);
        add_problem(problems, param, "greater_than_equal", text, value);
    }
}

static void read_real(const char *param, const json_t *value, double *out, struct problems *problems) {
    if (json_is_number(value))
        *out = json_number_value(value);
    else if (json_is_boolean(value))
        *out = json_is_true(value);
    else if (!json_is_string(value))
        add_problem(problems, param, "float_type", "Input should be a valid number", value);
    else if (!parse_number(json_string_value(value), out))
        add_problem(problems, param, "float_parsing", "Input should be a valid number, unable to parse string as a number", value);
}

static void read_boolean(const char *param, const json_t *value, bool *out, struct problems *problems) {
    static const char *const yes[] = {"1", "on", "t", "true", "y", "yes"}, *const no[] = {"0", "off", "f", "false", "n", "no"};
    const char *text = json_string_value(value);
    if (json_is_boolean(value)) {
        *out = json_is_true(value);
        return;
    }
    if (json_is_number(value) && (json_number_value(value) == 0 || json_number_value(value) == 1)) {
        *out = json_number_value(value) == 1;
        return;
    }
    for (size_t i = 0; text && i < sizeof yes / sizeof *yes; i++) {
        if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0) continue;
        *out = !strcasecmp(text, yes[i]);
        return;
    }
    if (text || json_is_number(value))
        add_problem(problems, param, "bool_parsing", "Input should be a valid boolean, unable to interpret input", value);
    else
        add_problem(problems, param, "bool_type", "Input should be a valid boolean", value);
}

static void read_parameter(struct oct_openai_request *request, const struct parameter *p, const json_t *value, struct problems *problems) {
    if (json_is_null(value) && p->nullable) return; // the default
    char param[64];
    snprintf(param, sizeof param, "body.%s", p->name);
    int64_t integer;
    double real;
    bool boolean;
    char *field = p->offset == IGNORED ? NULL : (char *)request + p->offset;
    switch (p->kind) {
    case BOOLEAN:
        read_boolean(param, value, field ? (bool *)(void *)field : &boolean, problems);
        break;
    case INTEGER:
        read_integer(p, param, value, field ? (int64_t *)(void *)field : &integer, problems);
        break;
    case NUMBER:
        read_real(param, value, field ? (double *)(void *)field : &real, problems);
        break;
    case STRING:
        if (!json_is_string(value)) return add_problem(problems, param, "string_type", "Input should be a valid string", value);
        if (field) *(const char **)(void *)field = json_string_value(value);
        break;
    case OBJECT:
        if (!json_is_object(value)) add_problem(problems, param, "dict_type", "Input should be a valid dictionary", value);
        break;
    case LIST:
        if (!json_is_array(value)) add_problem(problems, param, "list_type", "Input should be a valid list", value);
        break;
    }
}

bool oct_openai_token_ids(const json_t *array, int32_t **ids, size_t *count, size_t *bad) {
    *count = json_array_size(array);
    *ids = oct_alloc(*count ? *count : 1, sizeof **ids, "token ids");
    for (size_t i = 0; i < *count; i++) {
        const json_t *item = json_array_get(array, i);
        double value = json_is_number(item) ? json_number_value(item) : -1;
        *bad = i;
        if (!json_is_number(item) || value != floor(value) || value < INT32_MIN || value > INT32_MAX) return false;
        (*ids)[i] = (int32_t)value;
    }
    return true;
}

static void read_stops(struct oct_openai_request *request, const json_t *body, struct problems *problems) {
    const json_t *stop = json_object_get(body, "stop");
    size_t count = json_is_array(stop) ? json_array_size(stop) : json_is_string(stop) ? 1 : 0;
    if (stop && !json_is_null(stop) && !json_is_array(stop) && !json_is_string(stop)) {
        add_problem(problems, "body.stop", "string_type", "Input should be a valid string", stop);
        add_problem(problems, "body.stop", "list_type", "Input should be a valid list", stop);
    } else if (count > MAX_STOP_STRINGS) {
        char text[80];
        snprintf(text, sizeof text, "List should have at most %d items after validation, not %zu", MAX_STOP_STRINGS, count);
        add_problem(problems, "body.stop", "too_long", text, stop);
    } else if (count > 0) {
        request->stop = oct_alloc(count, sizeof *request->stop, "stop strings");
        for (size_t i = 0; i < count; i++) {
            const json_t *item = json_is_array(stop) ? json_array_get(stop, i) : stop;
            if (!json_is_string(item))
                add_problem(problems, "body.stop", "string_type", "Input should be a valid string", item);
            else if (strlen(json_string_value(item)) != json_string_length(item))
                add_problem(problems, "body.stop", "value_error", "A stop string cannot contain a NUL character", item);
            else
                request->stop[request->num_stop++] = oct_strdup(json_string_value(item));
        }
    }
    const json_t *ids = json_object_get(body, "stop_token_ids");
    if (!ids || json_is_null(ids)) return;
    size_t bad;
    if (!json_is_array(ids))
        add_problem(problems, "body.stop_token_ids", "list_type", "Input should be a valid list", ids);
    else if (!oct_openai_token_ids(ids, &request->stop_token_ids, &request->num_stop_token_ids, &bad)) {
        char param[64];
        snprintf(param, sizeof param, "body.stop_token_ids.%zu", bad);
        add_problem(problems, param, "int_parsing", "Input should be a valid integer", json_array_get(ids, bad));
    }
}

// ---- What vLLM checks before it looks at single fields.

static bool check_logprobs(const json_t *body, const char *name, struct oct_api_error *error) {
    const json_t *value = json_object_get(body, name);
    if (!value || json_is_null(value)) return true;
    struct oct_buffer shown = {0};
    describe(value, &shown);
    bool integer = json_is_integer(value) || json_is_boolean(value);
    if (!integer)
        oct_api_fail(error, name, "`%s` must be an integer. (parameter=%s, value=%s)", name, name, shown.data);
    else if (json_integer_value(value) < -1)
        oct_api_fail(error, name, "`%s` must be a positive value or -1. (parameter=%s, value=%s)", name, name, shown.data);
    oct_buffer_free(&shown);
    return !error->status;
}

static bool is_true(const json_t *value) { // as Python's bool()
    if (json_is_string(value)) return json_string_length(value) > 0;
    if (json_is_number(value)) return json_number_value(value) != 0;
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_object(value)) return json_object_size(value) > 0;
    return json_is_true(value);
}

static bool check_combinations(const json_t *body, enum oct_endpoint_set endpoint, struct oct_api_error *error) {
    if (is_true(json_object_get(body, "stream_options")) && !is_true(json_object_get(body, "stream")))
        return oct_api_fail(error, "stream_options", "Stream options can only be defined when `stream=True`. (parameter=stream_options)");
    if (!check_logprobs(body, "prompt_logprobs", error)) return false;
    const json_t *prompt_logprobs = json_object_get(body, "prompt_logprobs");
    if (is_true(json_object_get(body, "stream")) && json_is_integer(prompt_logprobs) && json_integer_value(prompt_logprobs) != 0)
        return oct_api_fail(error, "prompt_logprobs",
                            "`prompt_logprobs` are not available when `stream=True`. (parameter=prompt_logprobs)");
    if (!check_logprobs(body, endpoint == OCT_CHAT ? "top_logprobs" : "logprobs", error)) return false;
    if (endpoint == OCT_CHAT && is_true(json_object_get(body, "top_logprobs")) && !is_true(json_object_get(body, "logprobs")))
        return oct_api_fail(error, "top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true. (parameter=top_logprobs)");
    if ((endpoint & MESSAGES) && is_true(json_object_get(body, "continue_final_message")) &&
        is_true(json_object_get(body, "add_generation_prompt")))
        return oct_api_fail(error, NULL, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.");
    const json_t *tools = json_object_get(body, "tools"), *choice = json_object_get(body, "tool_choice");
    if (endpoint == OCT_CHAT && json_is_array(tools) && json_array_size(tools) == 0)
        return oct_api_fail(
            error, "tools",
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely. (parameter=tools)");
    bool none = !choice || json_is_null(choice) || (json_is_string(choice) && !strcmp(json_string_value(choice), "none"));
    if (endpoint == OCT_CHAT && !none && (!tools || json_is_null(tools)))
        return oct_api_fail(error, "tool_choice", "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)");
    const json_t *salt = json_object_get(body, "cache_salt");
    if (json_is_string(salt)) {
        const char *text = json_string_value(salt);
        size_t length = json_string_length(salt);
        if (length == 0)
            return oct_api_fail(error, "cache_salt",
                                "Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)");
        if (length > 128 || strlen(text) != length || strpbrk(text, "@/\\"))
            return oct_api_fail(error, "cache_salt",
                                "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL. "
                                "(parameter=cache_salt)");
    }
    return true;
}

static bool read_stream_options(struct oct_openai_request *request, const json_t *body, struct problems *problems) {
    const json_t *options = json_object_get(body, "stream_options");
    if (!options || json_is_null(options)) return true;
    if (!json_is_object(options)) {
        add_problem(problems, "body.stream_options", "model_attributes_type",
                    "Input should be a valid dictionary or object to extract fields from", options);
        return false;
    }
    const json_t *usage = json_object_get(options, "include_usage"), *continuous = json_object_get(options, "continuous_usage_stats");
    if (usage && !json_is_null(usage)) read_boolean("body.stream_options.include_usage", usage, &request->include_usage, problems);
    if (continuous && !json_is_null(continuous))
        read_boolean("body.stream_options.continuous_usage_stats", continuous, &request->continuous_usage, problems);
    request->continuous_usage &= request->include_usage;
    return true;
}

// ---- What this server does not do.

// Parameters that would change the answer. A value that asks for nothing (null, false, empty) is let through.
static const struct {
    const char *name;
    int endpoints;
    const char *why; // NULL: "is not supported"
    bool unnamed;    // vLLM's errors about it name no parameter
} refused[] = {
    {"suffix", OCT_COMPLETIONS, "suffix is only supported for models with FIM completion rendering", false},
    {"prompt_embeds", OCT_COMPLETIONS, "You must set `--enable-prompt-embeds` to input `prompt_embeds`. (parameter=prompt_embeds)", false},
    {"media_io_kwargs", OCT_CHAT,
     "Per-request media_io_kwargs are disabled by default because they can change multimodal media loading resource usage. "
     "(parameter=media_io_kwargs)",
     false},
    {"use_beam_search", BOTH, NULL, true},
    {"structured_outputs", BOTH, NULL, true},
    {"watermarking", BOTH, NULL, false},
    {"thinking_token_budget", BOTH, NULL, false},
    {"kv_transfer_params", BOTH, NULL, false},
    {"ec_transfer_params", BOTH, NULL, false},
    {"vllm_xargs", BOTH, NULL, false},
    {"mm_processor_kwargs", OCT_CHAT, NULL, false},
    {"return_prompt_text", OCT_CHAT, NULL, false},
    {"return_token_strs", OCT_TOKENIZE, NULL, false},
    {"echo", OCT_CHAT, NULL, false},
};

static bool check_tools(const json_t *body, enum oct_endpoint_set endpoint, struct oct_api_error *error) {
    const json_t *tools = json_object_get(body, "tools"), *choice = json_object_get(body, "tool_choice");
    const char *text = json_string_value(choice);
    const char *named = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    bool found = false;
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *function = json_object_get(tool, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        char param[64];
        snprintf(param, sizeof param, "body.tools.%zu%s", i, json_is_object(tool) ? ".function" : "");
        if (!json_is_object(tool))
            return oct_openai_invalid(error, param, "model_attributes_type",
                                      "Input should be a valid dictionary or object to extract fields from", tool);
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (type && strcmp(type, "function") != 0) {
            snprintf(param, sizeof param, "body.tools.%zu.type", i);
            return oct_openai_invalid(error, param, "literal_error", "Input should be function", json_object_get(tool, "type"));
        }
        if (!json_is_object(function)) return oct_openai_invalid(error, param, "missing", "Field required", tool);
        found |= named && name && !strcmp(named, name);
    }
    if (json_array_size(tools) == 0) return true;
    if (endpoint == OCT_TOKENIZE || (text && !strcmp(text, "none"))) return true; // for the template to show
    if (text && !strcmp(text, "required"))
        return oct_api_fail(error, NULL, "tool_choice=\"required\" requires --tool-call-parser to be set");
    if (named && !found)
        return oct_api_fail(error, "tool_choice",
                            "The tool specified in `tool_choice` does not match any of the specified `tools` (parameter=tool_choice)");
    if (named) return oct_api_fail(error, NULL, "tool_choice=function \"%.200s\" requires --tool-call-parser to be set", named);
    return oct_api_fail(error, NULL, "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set");
}

static bool check_response_format(const json_t *body, struct oct_api_error *error) {
    const json_t *format = json_object_get(body, "response_format");
    if (!format || json_is_null(format)) return true;
    if (!json_is_object(format))
        return oct_openai_invalid(error, "body.response_format", "model_attributes_type",
                                  "Input should be a valid dictionary or object to extract fields from", format);
    const json_t *type = json_object_get(format, "type");
    const char *name = json_string_value(type);
    if (!name || (strcmp(name, "text") && strcmp(name, "json_object") && strcmp(name, "json_schema") && strcmp(name, "structural_tag")))
        return oct_openai_invalid(error, "body.response_format.type", type ? "literal_error" : "missing",
                                  type ? "Input should be text, json_object or json_schema" : "Field required", type ? type : format);
    if (!strcmp(name, "text")) return true;
    if (!strcmp(name, "json_schema") && !is_true(json_object_get(format, "json_schema")))
        return oct_api_fail(
            error, "response_format",
            "When response_format type is 'json_schema', the 'json_schema' field must be provided. (parameter=response_format)");
    return oct_api_fail(error, "response_format", "`response_format` of type '%s' is not supported. (parameter=response_format)", name);
}

static bool check_refused(const struct oct_openai_request *request, enum oct_endpoint_set endpoint, struct oct_api_error *error) {
    const json_t *body = request->body;
    if (request->continue_final_message && request->add_generation_prompt)
        return oct_api_fail(
            error, NULL,
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you want the model "
            "to continue the final message, and add_generation_prompt when you want to add a header that will prompt it to start a "
            "new assistant message instead.");
    if ((endpoint & MESSAGES) && !check_tools(body, endpoint, error)) return false;
    if (!check_response_format(body, error)) return false;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(body, refused[i].name);
        if (!(refused[i].endpoints & endpoint) || !value || json_is_null(value)) continue;
        // A number asks for something even when it is 0.
        bool asks = json_is_string(value) || json_is_number(value) || is_true(value) || !strcmp(refused[i].name, "structured_outputs");
        if (asks) {
            if (refused[i].why) return oct_api_fail(error, refused[i].name, "%s", refused[i].why);
            return oct_api_fail(error, refused[i].unnamed ? NULL : refused[i].name, "`%s` is not supported. (parameter=%s)",
                                refused[i].name, refused[i].name);
        }
    }
    if (request->truncation_side && strcmp(request->truncation_side, "left") && strcmp(request->truncation_side, "right"))
        return oct_openai_invalid(error, "body.truncation_side", "literal_error", "Input should be left or right",
                                  json_object_get(body, "truncation_side"));
    return true;
}

bool oct_openai_read(struct oct_openai_request *request, enum oct_endpoint_set endpoint, struct oct_api_error *error) {
    if (!check_combinations(request->body, endpoint, error)) return false;
    set_defaults(request, endpoint);
    struct problems problems = {0};
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (!(parameters[i].endpoints & endpoint)) continue;
        const json_t *value = json_object_get(request->body, parameters[i].name);
        if (value) read_parameter(request, &parameters[i], value, &problems);
    }
    read_stream_options(request, request->body, &problems);
    read_stops(request, request->body, &problems);
    request->has_return_tokens_as_token_ids = json_is_boolean(json_object_get(request->body, "return_tokens_as_token_ids"));
    return settle(&problems, error) && check_refused(request, endpoint, error) && oct_openai_read_token_parameters(request, error);
}

void oct_openai_drop_body(struct oct_openai_request *request) {
    json_decref(request->body);
    request->body = NULL;
    request->model = request->request_id = request->cache_salt = request->truncation_side = NULL;
}

void oct_openai_request_free(struct oct_openai_request *request) {
    json_decref(request->body);
    for (size_t i = 0; i < request->num_stop; i++) free(request->stop[i]);
    free(request->stop);
    free(request->stop_token_ids);
    oct_openai_free_token_parameters(request);
    *request = (struct oct_openai_request){0};
}
