// tuned_config.c: edits the JSON of a QUANT_CONFIG.
#include "cli/tuned_config.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "quant/quant_config.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_COPY_BYTES = 256 << 20 };

char *oct_tuned_config_path(const char *base_path) {
    static const char usual[] = "maxabs_quant";
    const char *slash = strrchr(base_path, '/'), *name = slash ? slash + 1 : base_path;
    struct oct_buffer path = {0};
    oct_buffer_append(&path, base_path, (size_t)(name - base_path));
    if (!strncmp(name, usual, strlen(usual)))
        oct_buffer_printf(&path, "tuned_quant%s", name + strlen(usual));
    else
        oct_buffer_printf(&path, "tuned_%s", name);
    return oct_buffer_take(&path);
}

// Files may have the former name of the key.
static json_t *names_of_blocklist(json_t *root) {
    const char *key = json_object_get(root, "blacklist") && !json_object_get(root, "blocklist") ? "blacklist" : "blocklist";
    json_t *list = json_object_get(root, key);
    if (!json_is_object(list)) {
        list = json_pack("{s:[], s:[]}", "types", "names");
        json_object_set_new(root, key, list);
    }
    if (!json_is_array(json_object_get(list, "names"))) json_object_set_new(list, "names", json_array());
    return json_object_get(list, "names");
}

static json_t *method_to_json(const struct oct_scale_method *method) {
    json_t *rules[] = {oct_scale_rule_to_json(&method->weight), oct_scale_rule_to_json(&method->activation)};
    for (int i = 0; i < 2; i++) json_object_del(rules[i], "params"); // those of the method
    return json_pack("{s:o, s:o}", "weight", rules[0], "activation", rules[1]);
}

static json_t *methods_to_json(const struct oct_tuned_config *config) {
    json_t *nodes = json_object();
    for (int i = 0; i < config->num_modules; i++) json_object_set_new(nodes, config->modules[i], method_to_json(config->methods[i]));
    return json_pack("{s:o, s:o}", "default", method_to_json(config->preset), "nodes", nodes);
}

static oct_status copy_file(const char *from, const char *to, oct_error *err) {
    char *bytes;
    size_t length;
    if (!oct_path_exists(from)) return OCT_OK;
    OCT_TRY(oct_file_read(from, MAX_COPY_BYTES, &bytes, &length, err));
    oct_status status = oct_file_write(to, bytes, length, err);
    free(bytes);
    return status;
}

// Copies the measurement to the folder "tuned" beside its own. *dump_stats_path is its prefix there.
static oct_status copy_measurement(const struct oct_quant_config *base, char **dump_stats_path, oct_error *err) {
    static const char *const endings[] = {".npz", ".json", "_mod_list.json"};
    const char *slash = strrchr(base->dump_stats_path, '/');
    struct oct_buffer folder = {0};
    oct_buffer_append(&folder, base->dump_stats_path, slash ? (size_t)(slash + 1 - base->dump_stats_path) : 0);
    oct_buffer_puts(&folder, "tuned");
    *dump_stats_path = oct_path_join(folder.data, slash ? slash + 1 : base->dump_stats_path);
    oct_status status = oct_make_directories(folder.data, err);
    struct oct_quant_config there = *base;
    there.dump_stats_path = *dump_stats_path;
    for (size_t i = 0; i < sizeof endings / sizeof *endings && status == OCT_OK; i++) {
        char *from = oct_quant_config_file(base, "", base->rank, base->world_size, endings[i]);
        char *to = oct_quant_config_file(&there, "", base->rank, base->world_size, endings[i]);
        status = copy_file(from, to, err);
        free(from);
        free(to);
    }
    oct_buffer_free(&folder);
    return status;
}

static oct_status write_json(const struct oct_tuned_config *config, const struct oct_quant_config *base, json_t *root, oct_error *err) {
    json_t *names = config->num_patterns ? names_of_blocklist(root) : NULL;
    for (int i = 0; i < config->num_patterns; i++) json_array_append_new(names, json_string(config->block_patterns[i]));
    if (config->preset) {
        char *dump_stats_path;
        oct_status status = copy_measurement(base, &dump_stats_path, err);
        json_object_set_new(root, "dump_stats_path", json_string(dump_stats_path));
        json_object_set_new(root, "scale_method", methods_to_json(config));
        free(dump_stats_path);
        OCT_TRY(status);
    }
    char *text = json_dumps(root, JSON_INDENT(4));
    oct_status status = oct_file_write(config->path, text, strlen(text), err);
    free(text);
    return status;
}

oct_status oct_tuned_config_write(const struct oct_tuned_config *config, oct_error *err) {
    struct oct_quant_config *base;
    OCT_TRY(oct_quant_config_load(config->base_path, &base, err));
    json_t *root = NULL;
    oct_status status = oct_json_load(config->base_path, MAX_CONFIG_BYTES, &root, err);
    if (status == OCT_OK) status = write_json(config, base, root, err);
    json_decref(root);
    oct_quant_config_free(base);
    return status;
}
