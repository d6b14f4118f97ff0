// What is written about configurations: those that vllm-gaudi's calibration script generates, key for key, and the rules of each module.
#include "quant/quant_config.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "quant/python_json.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set(struct oct_tree *tree, struct oct_value *dict, const char *key, struct oct_value *value) {
    oct_dict_set(tree, dict, oct_tree_string(tree, key), value);
}

static void set_text(struct oct_tree *tree, struct oct_value *dict, const char *key, const char *text) {
    set(tree, dict, key, oct_tree_string(tree, text));
}

// {"types": [], "names": [...]}
static void set_lists(struct oct_tree *tree, struct oct_value *dict, const char *key, const char *const *names) {
    struct oct_value *lists = oct_tree_value(tree, OCT_VALUE_DICT), *list = oct_tree_value(tree, OCT_VALUE_LIST);
    for (; names && *names; names++) oct_value_append(tree, list, oct_tree_string(tree, *names));
    set(tree, lists, "types", oct_tree_value(tree, OCT_VALUE_LIST));
    set(tree, lists, "names", list);
    set(tree, dict, key, lists);
}

// What the calibration script does for some families of models, by how their names begin.
static const struct family {
    const char *prefix;         // of the lower-case name
    const char *block_names[3]; // regular expressions; NULL-terminated
    const char *scale_format;   // of the quantizing configuration, or NULL
} families[] = {
    {"mixtral", {"self_attn", "lm_head"}, "CONST"},
    {"deepseek", {"lm_head", "mlp\\.gate\\b"}, "scalar"},
    {"granite-4", {"mamba", "self_attn"}, NULL},
    {"", {NULL}, NULL}, // all others
};

static const struct family *family_of(const char *model_name) {
    const struct family *family = families;
    while (strncmp(model_name, family->prefix, strlen(family->prefix)) != 0) family++;
    return family;
}

static struct oct_value *measure_config(struct oct_tree *tree, const char *dump_stats_path, const struct family *family) {
    struct oct_value *config = oct_tree_value(tree, OCT_VALUE_DICT);
    set_text(tree, config, "method", "HOOKS");
    set_text(tree, config, "mode", "MEASURE");
    set_text(tree, config, "observer", "maxabs");
    set_lists(tree, config, "allowlist", NULL);
    set_lists(tree, config, "blocklist", family->block_names);
    set(tree, config, "quantize_weight", oct_tree_value(tree, OCT_VALUE_BOOL));
    set_text(tree, config, "dump_stats_path", dump_stats_path);
    set(tree, config, "calibration_sample_interval", oct_tree_int(tree, 1));
    return config;
}

static struct oct_value *quantize_config(struct oct_tree *tree, const char *dump_stats_path, const char *scale_method,
                                         const struct family *family) {
    struct oct_value *config = oct_tree_value(tree, OCT_VALUE_DICT);
    set_text(tree, config, "mode", "QUANTIZE");
    set_text(tree, config, "observer", "maxabs");
    set_text(tree, config, "scale_method", scale_method);
    if (family->scale_format) set_text(tree, config, "scale_format", family->scale_format);
    set_lists(tree, config, "allowlist", NULL);
    set_lists(tree, config, "blocklist", family->block_names);
    set_text(tree, config, "dump_stats_path", dump_stats_path);
    return config;
}

static oct_status absolute(const char *path, char **out, oct_error *err) {
    if (*path == '/') {
        *out = oct_strdup(path);
        return OCT_OK;
    }
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) return oct_fail(err, OCT_IO, "cannot find the current folder: %s", strerror(errno));
    *out = oct_path_join(here, path);
    return OCT_OK;
}

static char *formatted(const char *folder, const char *name, const char *generation) {
    struct oct_buffer text = {0};
    oct_buffer_printf(&text, "%s/%s_%s.json", folder, name, generation);
    return oct_buffer_take(&text);
}

oct_status oct_quant_config_write_pair(const char *output_dir, const char *model_name, enum oct_profile profile, const char *scale_method,
                                       char **measure_path, char **quant_path, oct_error *err) {
    const char *generation = profile == OCT_GAUDI2 ? "g2" : "g3";
    const struct family *family = family_of(model_name);
    char *base, *measure = NULL, *quant = NULL;
    OCT_TRY(absolute(output_dir, &base, err));
    char *folder = oct_path_join(base, model_name), *statistics = oct_path_join(folder, generation);
    char *dump_stats_path = oct_path_join(statistics, "inc_output");
    struct oct_tree tree = {0};
    oct_status status = oct_make_directories(statistics, err);
    if (status != OCT_OK) goto out;
    measure = formatted(folder, "maxabs_measure", generation);
    quant = formatted(folder, "maxabs_quant", generation);
    status = oct_python_json_write(measure, measure_config(&tree, dump_stats_path, family), err);
    if (status == OCT_OK) status = oct_python_json_write(quant, quantize_config(&tree, dump_stats_path, scale_method, family), err);
    if (status != OCT_OK) goto out;
    *measure_path = measure;
    *quant_path = quant;
    measure = quant = NULL;
out:
    oct_tree_free(&tree);
    free(measure);
    free(quant);
    free(base);
    free(folder);
    free(statistics);
    free(dump_stats_path);
    return status;
}

oct_status oct_quant_config_dump_scale_methods(const struct oct_quant_config *config, int num_layers, const char *path, oct_error *err) {
    json_t *root = json_object();
    for (int i = 0; i < oct_module_count(num_layers); i++) {
        int layer;
        char name[128];
        enum oct_module module = oct_module_at(num_layers, i, &layer);
        if (!oct_quant_config_selects(config, module, layer)) continue;
        const struct oct_scale_method *method = oct_scale_config_method(&config->scales, module, layer);
        json_object_set_new(root, oct_module_name(module, layer, name, sizeof name),
                            json_pack("{s:o, s:o}", "ACTIVATION", oct_scale_rule_to_json(&method->activation), "WEIGHT",
                                      oct_scale_rule_to_json(&method->weight)));
    }
    char *text = json_dumps(root, JSON_INDENT(2));
    oct_status status = oct_file_write(path, text, strlen(text), err);
    free(text);
    json_decref(root);
    return status;
}
