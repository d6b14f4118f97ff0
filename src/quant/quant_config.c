// One table of keys drives reading: its name, kind, choices and default, and what Octavo does not implement. Everything a file says
// is first coerced as INC coerces it (str(value).upper() for choices), then resolved into struct oct_quant_config.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "quant/quant_config.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "quant/python_json.h"

#include <ctype.h>
#include <limits.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

enum key_id {
    MODE,
    OBSERVER,
    DUMP_STATS_PATH,
    FP8_CONFIG,
    HP_DTYPE,
    SCALE_METHOD,
    SCALE_FORMAT,
    DEVICE_FOR_SCALES,
    MEASURE_EXCLUDE,
    RECALC_SCALES,
    IGNORE_MODULES,
    FAKE_QUANT,
    USE_QDQ,
    DYNAMIC_QUANTIZATION,
    MEASURE_ON_HPU,
    SAMPLE_INTERVAL,
    SEPARATE_FILES,
    ALLREDUCE,
    MOD_DICT,
    SCALE_PARAMS,
    ALLOWLIST,
    BLOCKLIST,
    WHITELIST,
    BLACKLIST,
    NUM_KEYS,
};

// CHOICE: one of the names, upper-cased; its value is the index. TRUTH: a JSON value of which only Python's truth counts.
enum kind { CHOICE, METHOD, TRUTH, COUNT, TEXT, DICT, LISTS };

#define TRUE_FALSE                                                                                                                         \
    { "TRUE", "FALSE" }
enum { IS_TRUE, IS_FALSE };

static const struct key {
    const char *name;
    enum kind kind;
    const char *choices[6]; // CHOICE
    int preset;             // the value when the key is missing
    int only;               // CHOICE: -1, or the one value that Octavo implements
} keys[NUM_KEYS] = {
    [MODE] = {"mode", CHOICE, {"NONE", "QUANTIZE", "MEASURE", "SHAPE", "LOAD"}, OCT_QUANT_QUANTIZE, -1},
    [OBSERVER] = {"observer", TEXT, {0}, 0, -1},
    [DUMP_STATS_PATH] = {"dump_stats_path", TEXT, {0}, 0, -1},
    [FP8_CONFIG] = {"fp8_config", CHOICE, {"E4M3", "E5M2"}, 0, 0},
    [HP_DTYPE] = {"hp_dtype", CHOICE, {"BF16", "FP16", "FP32"}, 0, 0},
    [SCALE_METHOD] = {"scale_method", METHOD, {0}, 2, -1},                 // MAXABS_HW
    [SCALE_FORMAT] = {"scale_format", CHOICE, {"CONST", "SCALAR"}, 1, -1}, // numerically the same
    [DEVICE_FOR_SCALES] = {"device_for_scales", CHOICE, {"GAUDI2", "GAUDI3"}, -1, -1},
    [MEASURE_EXCLUDE] = {"measure_exclude", CHOICE, {"NONE", "INPUT", "OUTPUT", "PARAMS", "ALL"}, 2, -1},
    [RECALC_SCALES] = {"recalc_scales", CHOICE, TRUE_FALSE, IS_FALSE, -1},
    [IGNORE_MODULES] = {"ignore_modules_wo_measures", CHOICE, TRUE_FALSE, IS_FALSE, -1},
    [FAKE_QUANT] = {"fake_quant", CHOICE, TRUE_FALSE, IS_FALSE, IS_FALSE},
    [USE_QDQ] = {"use_qdq", CHOICE, TRUE_FALSE, IS_FALSE, IS_FALSE},
    [DYNAMIC_QUANTIZATION] = {"dynamic_quantization", CHOICE, TRUE_FALSE, IS_FALSE, IS_FALSE},
    [MEASURE_ON_HPU] = {"measure_on_hpu", CHOICE, TRUE_FALSE, IS_TRUE, -1}, // where to measure: there is one place here
    [SAMPLE_INTERVAL] = {"calibration_sample_interval", COUNT, {0}, 0, -1},
    [SEPARATE_FILES] = {"seperate_measure_files", TRUTH, {0}, true, -1}, // INC's spelling
    [ALLREDUCE] = {"row_parallel_linear_allreduce_quantization", TRUTH, {0}, false, false},
    [MOD_DICT] = {"mod_dict", DICT, {0}, 0, -1},
    [SCALE_PARAMS] = {"scale_params", DICT, {0}, 0, -1},
    [ALLOWLIST] = {"allowlist", LISTS, {0}, 0, -1},
    [BLOCKLIST] = {"blocklist", LISTS, {0}, 0, -1},
    [WHITELIST] = {"whitelist", LISTS, {0}, 0, -1}, // the former name of allowlist
    [BLACKLIST] = {"blacklist", LISTS, {0}, 0, -1},
};

struct reader {
    const char *path;
    struct oct_quant_config *config;
    int values[NUM_KEYS];
    char observer[32]; // as the file says
    bool method_is_dict;
    oct_error *err;
};

static void append_python_text(const json_t *value, struct oct_buffer *out);

static void append_python_list(const json_t *list, struct oct_buffer *out) {
    size_t i;
    json_t *item;
    oct_buffer_puts(out, "[");
    json_array_foreach(list, i, item) {
        const char *quote = json_is_string(item) ? "'" : "";
        oct_buffer_printf(out, "%s%s", i ? ", " : "", quote);
        append_python_text(item, out);
        oct_buffer_puts(out, quote);
    }
    oct_buffer_puts(out, "]");
}

// Python's str() of a JSON value.
static void append_python_text(const json_t *value, struct oct_buffer *out) {
    switch (json_typeof(value)) {
    case JSON_STRING:
        oct_buffer_append(out, json_string_value(value), json_string_length(value));
        return;
    case JSON_TRUE:
        oct_buffer_puts(out, "True");
        return;
    case JSON_FALSE:
        oct_buffer_puts(out, "False");
        return;
    case JSON_NULL:
        oct_buffer_puts(out, "None");
        return;
    case JSON_INTEGER:
        oct_buffer_printf(out, "%lld", (long long)json_integer_value(value));
        return;
    case JSON_REAL:
        oct_python_repr(json_real_value(value), out);
        return;
    case JSON_ARRAY:
        append_python_list(value, out);
        return;
    case JSON_OBJECT:
        oct_buffer_puts(out, "{...}");
        return;
    }
}

static char *python_text(const json_t *value) {
    struct oct_buffer text = {0};
    append_python_text(value, &text);
    return oct_buffer_take(&text);
}

static bool is_python_true(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_TRUE:
        return true;
    case JSON_STRING:
        return json_string_length(value) > 0;
    case JSON_INTEGER:
        return json_integer_value(value) != 0;
    case JSON_REAL:
        return json_real_value(value) != 0;
    case JSON_OBJECT:
        return json_object_size(value) > 0;
    case JSON_ARRAY:
        return json_array_size(value) > 0;
    default:
        return false;
    }
}

static const char *choice_name(enum key_id id, int index) {
    if (keys[id].kind == METHOD) return index < OCT_NUM_SCALE_METHODS ? oct_scale_methods[index].name : NULL;
    return index < 6 ? keys[id].choices[index] : NULL;
}

static oct_status read_choice(struct reader *r, enum key_id id, const json_t *value) {
    char *text = python_text(value);
    const char *name;
    for (int i = 0; (name = choice_name(id, i)); i++) {
        if (strcasecmp(text, name) != 0) continue;
        r->values[id] = i;
        free(text);
        return OCT_OK;
    }
    struct oct_buffer choices = {0};
    for (int i = 0; (name = choice_name(id, i)); i++) oct_buffer_printf(&choices, "%s'%s'", i ? ", " : "", name);
    oct_status status = oct_fail(r->err, OCT_INVALID_ARGUMENT, "Invalid '%s' value in custom config ('%s'). Enter one of [%s]",
                                 keys[id].name, text, choices.data);
    oct_buffer_free(&choices);
    free(text);
    return status;
}

// Python's int(value) of a number or a numeric string; anything else counts as 0, as in INC.
static int python_count(const json_t *value) {
    double number = 0;
    if (json_is_number(value))
        number = json_number_value(value);
    else if (json_is_true(value))
        number = 1;
    else if (json_is_string(value) && json_string_length(value) > 0) {
        char *end;
        long parsed = strtol(json_string_value(value), &end, 10);
        if (!*end) number = (double)parsed;
    }
    return number > 0 && number < INT_MAX ? (int)number : 0;
}

static void free_list(char **list) {
    for (char **item = list; item && *item; item++) free(*item);
    free(list);
}

static oct_status read_list(struct reader *r, const char *key, const char *field, const json_t *value, char ***out) {
    if (!value) return OCT_OK;
    if (!json_is_array(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s.%s: a list of strings expected, %s found", r->path, key, field,
                        oct_json_kind(value));
    size_t n = json_array_size(value);
    char **list = oct_alloc(n + 1, sizeof(char *), "a module list");
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item)) {
            free_list(list);
            return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s.%s[%zu]: a string expected, %s found", r->path, key, field, i,
                            oct_json_kind(item));
        }
        list[i] = oct_strdup(json_string_value(item));
    }
    free_list(*out);
    *out = list;
    return OCT_OK;
}

static pcre2_code *compile_name(const char *pattern, char message[static 120]) {
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!compiled) pcre2_get_error_message(code, (PCRE2_UCHAR *)message, 120);
    return compiled;
}

// {"types": [...], "names": [...]}: both optional; null is an empty dict.
static oct_status read_lists(struct reader *r, enum key_id id, const json_t *value) {
    bool allow = id == ALLOWLIST || id == WHITELIST;
    const char *key = keys[id].name;
    if (json_is_null(value)) return OCT_OK;
    if (!json_is_object(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s: {\"types\": [...], \"names\": [...]} expected, %s found", r->path, key,
                        oct_json_kind(value));
    char ***types = allow ? &r->config->allow_types : &r->config->block_types;
    char ***names = allow ? &r->config->allow_names : &r->config->block_names;
    OCT_TRY(read_list(r, key, "types", json_object_get(value, "types"), types));
    OCT_TRY(read_list(r, key, "names", json_object_get(value, "names"), names));
    for (char **name = *names; name && *name; name++) {
        char message[120];
        pcre2_code *compiled = compile_name(*name, message);
        if (!compiled)
            return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s.names: \"%s\" is not a regular expression: %s", r->path, key, *name,
                            message);
        pcre2_code_free(compiled);
    }
    return OCT_OK;
}

static oct_status read_text(struct reader *r, enum key_id id, const json_t *value) {
    if (!json_is_string(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s: a string expected, %s found", r->path, keys[id].name, oct_json_kind(value));
    if (strlen(json_string_value(value)) != json_string_length(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s: a NUL character found", r->path, keys[id].name);
    if (id == DUMP_STATS_PATH) {
        free(r->config->dump_stats_path);
        r->config->dump_stats_path = oct_strdup(json_string_value(value));
        return OCT_OK;
    }
    snprintf(r->observer, sizeof r->observer, "%s", json_string_value(value));
    return OCT_OK;
}

static oct_status read_dict(struct reader *r, enum key_id id, const json_t *value) {
    if (!is_python_true(value)) return OCT_OK;
    if (id == MOD_DICT) return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: mod_dict: Custom modules are not supported", r->path);
    // INC reads only hp_dtype and lp_dtype here, which have one choice; it ignores the backoffs that its documentation still shows.
    oct_log(OCT_LOG_WARNING, "%s: scale_params has no effect; use a scale_method", r->path);
    return OCT_OK;
}

// Rules that a file spells out are not told apart by the names of scale files, so cached scales do not count, unless a later key says so.
static oct_status read_scale_config(struct reader *r, const json_t *value) {
    r->method_is_dict = true;
    r->values[RECALC_SCALES] = IS_TRUE;
    return oct_scale_config_parse(value, &r->config->scales, r->err);
}

static oct_status read_key(struct reader *r, enum key_id id, const json_t *value) {
    switch (keys[id].kind) {
    case METHOD:
        return json_is_object(value) ? read_scale_config(r, value) : read_choice(r, id, value);
    case CHOICE:
        if (id == MODE && json_is_null(value)) {
            r->values[id] = OCT_QUANT_NONE; // str(None).upper() happens to be a mode
            return OCT_OK;
        }
        return read_choice(r, id, value);
    case TRUTH:
        r->values[id] = is_python_true(value);
        return OCT_OK;
    case COUNT:
        r->values[id] = python_count(value);
        return OCT_OK;
    case TEXT:
        return read_text(r, id, value);
    case DICT:
        return read_dict(r, id, value);
    case LISTS:
        return read_lists(r, id, value);
    }
    return OCT_OK;
}

// Unknown keys are stored and ignored by INC ("method", "quantize_weight"), except dicts.
static oct_status read_unknown(struct reader *r, const char *key, const json_t *value) {
    if (!strcmp(key, "device_type")) return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: device_type cannot be set in a file", r->path);
    if (json_is_object(value) && json_object_size(value) > 0)
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: unknown key '%s'", r->path, key);
    return OCT_OK;
}

static oct_status read_keys(struct reader *r, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        int id = 0;
        while (id < NUM_KEYS && strcmp(key, keys[id].name) != 0) id++;
        OCT_TRY(id < NUM_KEYS ? read_key(r, (enum key_id)id, value) : read_unknown(r, key, value));
    }
    return OCT_OK;
}

// 2 or 3 for a text that ends in g2 or g3 right after `before` (or at its start when `before` is 0); else 0.
static int generation(const char *text, size_t length, char before) {
    if (length < 2 || text[length - 2] != 'g' || (text[length - 1] != '2' && text[length - 1] != '3')) return 0;
    if (before ? length < 3 || text[length - 3] != before : length != 2) return 0;
    return text[length - 1] - '0';
}

static enum oct_profile profile_of_names(const char *path, const char *dump_stats_path) {
    size_t stem = strlen(path);
    if (stem > 5 && !strcmp(path + stem - 5, ".json")) stem -= 5;
    int by_file = generation(path, stem, '_'), by_folder = 0;
    const char *slash = strrchr(dump_stats_path, '/');
    if (slash) {
        const char *folder = slash;
        while (folder > dump_stats_path && folder[-1] != '/') folder--;
        by_folder = generation(folder, (size_t)(slash - folder), 0);
    }
    if (by_file && by_folder && by_file != by_folder) {
        oct_log(OCT_LOG_WARNING,
                "%s: the file is named for Gaudi %d, its dump_stats_path for Gaudi %d: taking Gaudi 3 (set device_for_scales)", path,
                by_file, by_folder);
        return OCT_GAUDI3;
    }
    return by_file == 2 || by_folder == 2 ? OCT_GAUDI2 : OCT_GAUDI3;
}

static oct_status resolve(struct reader *r) {
    struct oct_quant_config *config = r->config;
    config->mode = (enum oct_quant_mode)r->values[MODE];
    config->world_size = 1;
    snprintf(config->observer, sizeof config->observer, "maxabs");
    if (!config->dump_stats_path) config->dump_stats_path = oct_strdup("stats");
    config->profile = r->values[DEVICE_FOR_SCALES] < 0 ? profile_of_names(r->path, config->dump_stats_path)
                                                       : (enum oct_profile)r->values[DEVICE_FOR_SCALES];
    config->calibration_sample_interval = r->values[SAMPLE_INTERVAL];
    config->recalc_scales = r->values[RECALC_SCALES] == IS_TRUE;
    config->ignore_modules_wo_measures = r->values[IGNORE_MODULES] == IS_TRUE;
    config->separate_measure_files = r->values[SEPARATE_FILES];
    const char *exclude = keys[MEASURE_EXCLUDE].choices[r->values[MEASURE_EXCLUDE]];
    config->measure_outputs = strcmp(exclude, "OUTPUT") != 0 && strcmp(exclude, "ALL") != 0;
    if (!r->method_is_dict) config->scales.preset = oct_scale_methods[r->values[SCALE_METHOD]];
    OCT_TRY(oct_scale_config_resolve(&config->scales, config->profile, r->err));
    snprintf(config->scale_method, sizeof config->scale_method, "%s", config->scales.preset.name);
    return OCT_OK;
}

static bool is_dynamic_only(const struct oct_scale_method *method) {
    return method->activation.per_channel;
}

static bool is_static_only(const struct oct_scale_method *method) {
    return method->activation.rounding == OCT_ROUND_HW_ALIGNED || oct_scale_method_is_fixed(method);
}

static bool is_not_fixed(const struct oct_scale_method *method) {
    return !oct_scale_method_is_fixed(method);
}

// What INC refuses when activation scales are computed at run time, in its order.
static oct_status check_dynamic(struct reader *r) {
    const struct oct_quant_config *config = r->config;
    if (r->values[USE_QDQ] == IS_TRUE || r->values[FAKE_QUANT] == IS_TRUE)
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "Currently dynamic quantization is not supported for qdq and fake quant.");
    if (oct_scale_config_any(&config->scales, is_static_only)) {
        struct oct_buffer repr = {0};
        oct_scale_config_repr(&config->scales, &repr);
        oct_status status = oct_fail(r->err, OCT_INVALID_ARGUMENT,
                                     "Unsupported config: scale_method %s is not supported in dynamic quantization", repr.data);
        oct_buffer_free(&repr);
        return status;
    }
    if (config->mode != OCT_QUANT_QUANTIZE && config->mode != OCT_QUANT_LOAD)
        return oct_fail(r->err, OCT_INVALID_ARGUMENT,
                        "Quantization mode is QuantMode.%s, but dynamic quantization is only supported in QUANTIZE or LOAD mode",
                        keys[MODE].choices[config->mode]);
    if (r->values[ALLREDUCE])
        return oct_fail(r->err, OCT_INVALID_ARGUMENT,
                        "Dynamic quantization is not supported when using row_parallel_linear_allreduce_quantization");
    return OCT_OK;
}

static oct_status check_static(struct reader *r) {
    if (!oct_scale_config_any(&r->config->scales, is_dynamic_only)) return OCT_OK;
    const char *name = r->config->scales.preset.name;
    for (int i = 0; i < r->config->scales.num_overrides; i++)
        if (is_dynamic_only(&r->config->scales.overrides[i].method)) name = r->config->scales.overrides[i].method.name;
    return oct_fail(r->err, OCT_INVALID_ARGUMENT, "Unsupported config: scale_method %s is supported only in dynamic quantization", name);
}

static oct_status check_supported(struct reader *r) {
    for (int id = 0; id < NUM_KEYS; id++) {
        if (keys[id].only < 0 || r->values[id] == keys[id].only) continue;
        const char *found = keys[id].kind == CHOICE ? keys[id].choices[r->values[id]] : "true";
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: %s: %s is not implemented", r->path, keys[id].name, found);
    }
    int mode = r->values[MODE];
    if (mode == OCT_QUANT_SHAPE || mode == OCT_QUANT_LOAD)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: mode: %s is not implemented; MEASURE and QUANTIZE are", r->path,
                        keys[MODE].choices[mode]);
    if (strcmp(r->observer, "maxabs") != 0)
        return oct_fail(r->err, OCT_UNSUPPORTED, "%s: observer: \"maxabs\" expected, \"%s\" found", r->path, r->observer);
    return OCT_OK;
}

static oct_status check(struct reader *r) {
    OCT_TRY(r->values[DYNAMIC_QUANTIZATION] == IS_TRUE ? check_dynamic(r) : check_static(r));
    return check_supported(r);
}

oct_status oct_quant_config_load(const char *path, struct oct_quant_config **out, oct_error *err) {
    json_t *root;
    OCT_TRY(oct_json_load(path, MAX_CONFIG_BYTES, &root, err));
    struct reader r = {.path = path, .observer = "maxabs", .err = err};
    for (int id = 0; id < NUM_KEYS; id++) r.values[id] = keys[id].preset;
    r.config = oct_alloc(1, sizeof *r.config, "a quantization configuration");
    oct_status status = OCT_OK;
    if (!json_is_object(root)) status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s: an object expected, %s found", path, oct_json_kind(root));
    if (status == OCT_OK) status = read_keys(&r, root);
    if (status == OCT_OK) status = resolve(&r);
    if (status == OCT_OK) status = check(&r);
    json_decref(root);
    if (status != OCT_OK) {
        oct_quant_config_free(r.config);
        return status;
    }
    *out = r.config;
    return OCT_OK;
}

void oct_quant_config_free(struct oct_quant_config *config) {
    if (!config) return;
    free(config->dump_stats_path);
    free_list(config->allow_types);
    free_list(config->allow_names);
    free_list(config->block_types);
    free_list(config->block_names);
    oct_scale_config_free(&config->scales);
    free(config);
}

static bool has_type(char *const *types, const char *class_name) {
    for (; types && *types; types++)
        if (!strcmp(*types, class_name)) return true;
    return false;
}

// Whether any of the regular expressions is found anywhere in the name.
static bool has_name(char *const *patterns, const char *name) {
    bool found = false;
    for (; patterns && *patterns && !found; patterns++) {
        char message[120];
        pcre2_code *compiled = compile_name(*patterns, message);
        OCT_CHECK(compiled); // checked when the file was read
        pcre2_match_data *match = pcre2_match_data_create_from_pattern(compiled, NULL);
        pcre2_match_context *context = pcre2_match_context_create(NULL);
        pcre2_set_match_limit(context, 100000); // names are short; a pattern that needs more is a mistake
        int rc = pcre2_match(compiled, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, match, context);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) oct_log(OCT_LOG_WARNING, "pattern \"%s\" is too costly and matches nothing", *patterns);
        found = rc >= 0;
        pcre2_match_context_free(context);
        pcre2_match_data_free(match);
        pcre2_code_free(compiled);
    }
    return found;
}

bool oct_quant_config_selects(const struct oct_quant_config *config, enum oct_module module, int layer) {
    char name[128];
    oct_module_name(module, layer, name, sizeof name);
    const char *class_name = oct_module_class(module);
    if (has_type(config->block_types, class_name) || has_name(config->block_names, name)) return false;
    bool allow_all = !(config->allow_types && *config->allow_types) && !(config->allow_names && *config->allow_names);
    return allow_all || has_type(config->allow_types, class_name) || has_name(config->allow_names, name);
}

bool oct_quant_config_uses_files(const struct oct_quant_config *config) {
    return config->mode != OCT_QUANT_QUANTIZE || oct_scale_config_any(&config->scales, is_not_fixed);
}

char *oct_quant_config_file(const struct oct_quant_config *config, const char *infix, int rank, int world, const char *ending) {
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s_hooks_%s", config->dump_stats_path, config->observer);
    if (*infix) oct_buffer_printf(&name, "_%s", infix);
    if (config->separate_measure_files && world > 0) oct_buffer_printf(&name, "_%d_%d", rank, world);
    oct_buffer_puts(&name, ending);
    return oct_buffer_take(&name);
}
