// quant_config.c: reading a QUANT_CONFIG file. Everything it says is first coerced as INC coerces it (str(value).upper() for choices), key
// by key in the file's order, then resolved into struct oct_quant_config and checked (quant_config_check.c).
#include "quant/quant_config.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "quant/python_json.h"
#include "quant/quant_config_check.h"
#include "quant/quant_select.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

struct reader {
    const char *path;
    struct oct_quant_config *config;
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

static oct_status read_choice(struct reader *r, enum oct_quant_key key, const json_t *value) {
    char *text = python_text(value);
    const char *name;
    for (int i = 0; (name = oct_quant_key_choice(key, i)); i++) {
        if (strcasecmp(text, name) != 0) continue;
        r->config->values[key] = i;
        free(text);
        return OCT_OK;
    }
    struct oct_buffer choices = {0};
    for (int i = 0; (name = oct_quant_key_choice(key, i)); i++)
        if (key != OCT_KEY_MODE || i != OCT_QUANT_AUTO) oct_buffer_printf(&choices, "%s'%s'", i ? ", " : "", name); // as INC lists them
    oct_status status = oct_fail(r->err, OCT_INVALID_ARGUMENT, "Invalid '%s' value in custom config ('%s'). Enter one of [%s]",
                                 oct_quant_keys[key].name, text, choices.data);
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

// {"types": [...], "names": [...]}: both optional; null is an empty dict.
static oct_status read_lists(struct reader *r, enum oct_quant_key id, const json_t *value) {
    bool allow = id == OCT_KEY_ALLOWLIST || id == OCT_KEY_WHITELIST;
    const char *key = oct_quant_keys[id].name;
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
        if (!oct_name_pattern_is_valid(*name, message))
            return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s.names: \"%s\" is not a regular expression: %s", r->path, key, *name,
                            message);
    }
    return OCT_OK;
}

static oct_status read_text(struct reader *r, enum oct_quant_key id, const json_t *value) {
    if (!json_is_string(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s: a string expected, %s found", r->path, oct_quant_keys[id].name,
                        oct_json_kind(value));
    if (strlen(json_string_value(value)) != json_string_length(value))
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: %s: a NUL character found", r->path, oct_quant_keys[id].name);
    if (id == OCT_KEY_DUMP_STATS_PATH) {
        free(r->config->dump_stats_path);
        r->config->dump_stats_path = oct_strdup(json_string_value(value));
        return OCT_OK;
    }
    if (json_string_length(value) >= sizeof r->config->observer)
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: observer: at most %zu characters expected, %zu found", r->path,
                        sizeof r->config->observer - 1, json_string_length(value));
    snprintf(r->config->observer, sizeof r->config->observer, "%s", json_string_value(value));
    return OCT_OK;
}

static oct_status read_dict(struct reader *r, enum oct_quant_key id, const json_t *value) {
    if (!is_python_true(value)) return OCT_OK;
    if (id == OCT_KEY_MOD_DICT) return oct_fail(r->err, OCT_INVALID_ARGUMENT, "%s: mod_dict: Custom modules are not supported", r->path);
    // INC reads only hp_dtype and lp_dtype here, which have one choice; it ignores the backoffs that its documentation still shows.
    oct_log(OCT_LOG_WARNING, "%s: scale_params has no effect; use a scale_method", r->path);
    return OCT_OK;
}

// Rules that a file spells out are not told apart by the names of scale files, so cached scales do not count, unless a later key says so.
static oct_status read_scale_config(struct reader *r, const json_t *value) {
    r->method_is_dict = true;
    r->config->values[OCT_KEY_RECALC_SCALES] = OCT_KEY_TRUE;
    return oct_scale_config_parse(value, &r->config->scales, r->err);
}

static oct_status read_key(struct reader *r, enum oct_quant_key id, const json_t *value) {
    switch (oct_quant_keys[id].kind) {
    case OCT_KEY_METHOD:
        return json_is_object(value) ? read_scale_config(r, value) : read_choice(r, id, value);
    case OCT_KEY_CHOICE:
        if (id == OCT_KEY_MODE && json_is_null(value)) {
            r->config->values[id] = OCT_QUANT_NONE; // str(None).upper() happens to be a mode
            return OCT_OK;
        }
        return read_choice(r, id, value);
    case OCT_KEY_TRUTH:
        r->config->values[id] = is_python_true(value);
        return OCT_OK;
    case OCT_KEY_COUNT:
        r->config->values[id] = python_count(value);
        return OCT_OK;
    case OCT_KEY_TEXT:
        return read_text(r, id, value);
    case OCT_KEY_DICT:
        return read_dict(r, id, value);
    case OCT_KEY_LISTS:
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
        while (id < OCT_NUM_QUANT_KEYS && strcmp(key, oct_quant_keys[id].name) != 0) id++;
        OCT_TRY(id < OCT_NUM_QUANT_KEYS ? read_key(r, (enum oct_quant_key)id, value) : read_unknown(r, key, value));
    }
    return OCT_OK;
}

// 2 or 3 for a text that ends in g2 or g3 right after `before` (or at its start when `before` is 0); else 0.
static int generation(const char *text, size_t length, char before) {
    if (length < 2 || text[length - 2] != 'g' || (text[length - 1] != '2' && text[length - 1] != '3')) return 0;
    if (before ? length < 3 || text[length - 3] != before : length != 2) return 0;
    return text[length - 1] - '0';
}

static enum oct_card card_of_names(const char *path, const char *dump_stats_path) {
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
                "%s: the file is named for Gaudi %d, its dump_stats_path for Gaudi %d: taking Gaudi 3, unless device_for_scales is set",
                path, by_file, by_folder);
        return OCT_CARD_UNKNOWN;
    }
    int named = by_file ? by_file : by_folder;
    return named == 2 ? OCT_CARD_GAUDI2 : named == 3 ? OCT_CARD_GAUDI3 : OCT_CARD_UNKNOWN;
}

static oct_status choose_card(const struct reader *r, enum oct_card *card) {
    const char *target = getenv("INC_TARGET_DEVICE");
    *card = card_of_names(r->path, r->config->dump_stats_path);
    if (!target || !*target || !strcasecmp(target, "hpu")) return OCT_OK;
    if (strcasecmp(target, "cpu") != 0)
        return oct_fail(r->err, OCT_INVALID_ARGUMENT, "INC_TARGET_DEVICE: \"hpu\" or \"cpu\" expected, \"%s\" found", target);
    *card = OCT_CARD_HOST;
    return OCT_OK;
}

static void set_rules(struct oct_scale_rule *rule, const struct oct_quant_config *config) {
    rule->profile = config->profile;
    rule->e5m2 = config->e5m2;
    rule->precision = config->precision;
    rule->host = config->card == OCT_CARD_HOST;
}

static oct_status resolve(struct reader *r) {
    struct oct_quant_config *config = r->config;
    const int *values = config->values;
    config->mode = (enum oct_quant_mode)values[OCT_KEY_MODE];
    config->world_size = 1;
    if (!*config->observer) snprintf(config->observer, sizeof config->observer, "maxabs");
    if (!config->dump_stats_path) config->dump_stats_path = oct_strdup("stats");
    OCT_TRY(choose_card(r, &config->card));
    config->profile = config->card == OCT_CARD_GAUDI2 ? OCT_GAUDI2 : OCT_GAUDI3;
    if (values[OCT_KEY_DEVICE_FOR_SCALES] >= 0) config->profile = (enum oct_profile)values[OCT_KEY_DEVICE_FOR_SCALES];
    config->e5m2 = values[OCT_KEY_FP8_CONFIG] == 1;
    config->precision = (enum oct_scale_precision)values[OCT_KEY_HP_DTYPE];
    config->dynamic = values[OCT_KEY_DYNAMIC_QUANTIZATION] == OCT_KEY_TRUE;
    config->calibration_sample_interval = values[OCT_KEY_CALIBRATION_SAMPLE_INTERVAL];
    config->recalc_scales = values[OCT_KEY_RECALC_SCALES] == OCT_KEY_TRUE;
    config->ignore_modules_wo_measures = values[OCT_KEY_IGNORE_MODULES_WO_MEASURES] == OCT_KEY_TRUE;
    config->separate_measure_files = values[OCT_KEY_SEPERATE_MEASURE_FILES];
    const char *exclude = oct_quant_key_choice(OCT_KEY_MEASURE_EXCLUDE, values[OCT_KEY_MEASURE_EXCLUDE]);
    config->measure_outputs = strcmp(exclude, "OUTPUT") != 0 && strcmp(exclude, "ALL") != 0;
    if (!r->method_is_dict) config->scales.preset = oct_scale_methods[values[OCT_KEY_SCALE_METHOD]];
    OCT_TRY(oct_scale_config_resolve(&config->scales, r->err));
    set_rules(&config->scales.preset.weight, config);
    set_rules(&config->scales.preset.activation, config);
    for (int i = 0; i < config->scales.num_overrides; i++) {
        set_rules(&config->scales.overrides[i].method.weight, config);
        set_rules(&config->scales.overrides[i].method.activation, config);
    }
    snprintf(config->scale_method, sizeof config->scale_method, "%s", config->scales.preset.name);
    return OCT_OK;
}

static bool is_not_fixed(const struct oct_scale_method *method) {
    return !oct_scale_method_is_fixed(method);
}

oct_status oct_quant_config_load(const char *path, struct oct_quant_config **out, oct_error *err) {
    json_t *root;
    OCT_TRY(oct_json_load(path, MAX_CONFIG_BYTES, &root, err));
    struct reader r = {.path = path, .err = err};
    r.config = oct_alloc(1, sizeof *r.config, "a quantization configuration");
    for (int id = 0; id < OCT_NUM_QUANT_KEYS; id++) r.config->values[id] = oct_quant_keys[id].preset;
    oct_status status = OCT_OK;
    if (!json_is_object(root)) status = oct_fail(err, OCT_INVALID_ARGUMENT, "%s: an object expected, %s found", path, oct_json_kind(root));
    if (status == OCT_OK) status = read_keys(&r, root);
    if (status == OCT_OK) status = resolve(&r);
    if (status == OCT_OK) status = oct_quant_config_check(r.config, err);
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

bool oct_quant_config_uses_files(const struct oct_quant_config *config) {
    bool runs = config->mode == OCT_QUANT_QUANTIZE || config->mode == OCT_QUANT_LOAD || config->mode == OCT_QUANT_AUTO;
    return !runs || (!config->dynamic && oct_scale_config_any(&config->scales, is_not_fixed));
}

char *oct_quant_config_file(const struct oct_quant_config *config, const char *infix, int rank, int world, const char *ending) {
    struct oct_buffer name = {0};
    oct_buffer_printf(&name, "%s_hooks_%s", config->dump_stats_path, config->observer);
    if (*infix) oct_buffer_printf(&name, "_%s", infix);
    if (config->separate_measure_files && world > 0) oct_buffer_printf(&name, "_%d_%d", rank, world);
    oct_buffer_puts(&name, ending);
    return oct_buffer_take(&name);
}
