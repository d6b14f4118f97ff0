// quant_config_keys.c: the table of keys, and what is made of it for people.
#include "quant/quant_config_keys.h"

#include "quant/quant_config.h"

#include <ctype.h>
#include <string.h>

#define TRUE_FALSE                                                                                                                         \
    { "TRUE", "FALSE" }

const struct oct_quant_key_info oct_quant_keys[OCT_NUM_QUANT_KEYS] = {
    [OCT_KEY_MODE] =
        {"mode",
         OCT_KEY_CHOICE,
         {"NONE", "QUANTIZE", "MEASURE", "SHAPE", "LOAD", "AUTO"},
         OCT_QUANT_QUANTIZE,
         NULL,
         "What to do. MEASURE and SHAPE observe a run and write files; QUANTIZE runs in FP8 as they say; AUTO quantizes where a "
         "measurement exists and measures where none does; NONE does nothing. LOAD is for checkpoints that INC saved, which "
         "need no configuration here: it is refused."},
    [OCT_KEY_OBSERVER] = {"observer",
                          OCT_KEY_TEXT,
                          {0},
                          -1,
                          "maxabs",
                          "What a measuring run keeps: `maxabs`, `maxabs_per_channel`, `shape` or `save`. Part of the files' names."},
    [OCT_KEY_DUMP_STATS_PATH] = {"dump_stats_path",
                                 OCT_KEY_TEXT,
                                 {0},
                                 -1,
                                 "stats",
                                 "Where files are: a folder, and after the last slash what their names begin with."},
    [OCT_KEY_FP8_CONFIG] = {"fp8_config",
                            OCT_KEY_CHOICE,
                            {"E4M3", "E5M2"},
                            0,
                            NULL,
                            "The FP8 format. E5M2 is computed exactly, but takes the memory and the time of bf16."},
    [OCT_KEY_HP_DTYPE] = {"hp_dtype",
                          OCT_KEY_CHOICE,
                          {"BF16", "FP16", "FP32"},
                          0,
                          NULL,
                          "What scales are rounded to. Numbers between modules are float32 whatever it says."},
    [OCT_KEY_SCALE_METHOD] = {"scale_method",
                              OCT_KEY_METHOD,
                              {0},
                              2,
                              NULL,
                              "How scales follow from ranges: a name, or a dict of rules by module (`nodes`, `layers`, `layer_types`) over "
                              "a `default`."},
    [OCT_KEY_SCALE_PARAMS] =
        {"scale_params", OCT_KEY_DICT, {0}, -1, "{}", "Ignored, as in INC since 3.5, and said so; a `scale_method` dict sets backoffs."},
    [OCT_KEY_ALLOWLIST] = {"allowlist",
                           OCT_KEY_LISTS,
                           {0},
                           -1,
                           "empty: everything",
                           "Modules to quantize: `types` are exact class names, `names` regular expressions found anywhere in a name."},
    [OCT_KEY_BLOCKLIST] = {"blocklist", OCT_KEY_LISTS, {0}, -1, "empty: nothing", "Modules to leave alone; wins over `allowlist`."},
    [OCT_KEY_MEASURE_EXCLUDE] = {"measure_exclude",
                                 OCT_KEY_CHOICE,
                                 {"NONE", "INPUT", "OUTPUT", "PARAMS", "ALL"},
                                 2,
                                 NULL,
                                 "OUTPUT and ALL leave out outputs that no scale needs; the others write them, and exclude nothing, as in "
                                 "INC."},
    [OCT_KEY_SCALE_FORMAT] =
        {"scale_format", OCT_KEY_CHOICE, {"CONST", "SCALAR"}, 1, NULL, "How a Gaudi holds scales; the numbers are the same."},
    [OCT_KEY_DEVICE_FOR_SCALES] =
        {"device_for_scales",
         OCT_KEY_CHOICE,
         {"GAUDI2", "GAUDI3"},
         -1,
         "the card that the names say, or GAUDI3",
         "Whose FP8 range and scales apply: Gaudi 2 ends at 240, Gaudi 3 at 448. A file `..._g2.json` or a folder "
         "`g2` of `dump_stats_path` names a Gaudi 2, `g3` a Gaudi 3."},
    [OCT_KEY_RECALC_SCALES] = {"recalc_scales", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_FALSE, NULL,
                               "Compute scales again although a scale file holds them."},
    [OCT_KEY_IGNORE_MODULES_WO_MEASURES] = {"ignore_modules_wo_measures", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_FALSE, NULL,
                                            "Leave a module without a measurement in bf16 instead of refusing."},
    [OCT_KEY_FAKE_QUANT] = {"fake_quant", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_FALSE, NULL,
                            "Simulation in INC. Octavo's FP8 gives the same numbers up to the order of sums, and is what runs."},
    [OCT_KEY_USE_QDQ] = {"use_qdq", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_FALSE, NULL,
                         "Rounding to FP8 and back around bf16 products in INC. The same numbers up to the order of sums: FP8 runs."},
    [OCT_KEY_DYNAMIC_QUANTIZATION] =
        {"dynamic_quantization", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_FALSE, NULL,
         "Scales of activations are made at run time, one for each token; no measurement is needed. For "
         "linear modules: `Matmul`, and `VLLMKVCache` where K and V are FP8, must be blocked, or are refused."},
    [OCT_KEY_MEASURE_ON_HPU] = {"measure_on_hpu", OCT_KEY_CHOICE, TRUE_FALSE, OCT_KEY_TRUE, NULL,
                                "Where a Gaudi host measures; there is one place here."},
    [OCT_KEY_CALIBRATION_SAMPLE_INTERVAL] = {"calibration_sample_interval",
                                             OCT_KEY_COUNT,
                                             {0},
                                             0,
                                             NULL,
                                             "Above 0: measurement files are written again every so many forward passes."},
    [OCT_KEY_SEPERATE_MEASURE_FILES] =
        {"seperate_measure_files", OCT_KEY_TRUTH, {0}, 1, NULL, "`_<rank>_<ranks>` in the files' names (the spelling is INC's)."},
    [OCT_KEY_ALLREDUCE] = {"row_parallel_linear_allreduce_quantization",
                           OCT_KEY_TRUTH,
                           {0},
                           0,
                           NULL,
                           "FP8 between ranks: refused, as INC fails on it since 3.5."},
    [OCT_KEY_MOD_DICT] = {"mod_dict", OCT_KEY_DICT, {0}, -1, "{}", "Must be empty."},
    [OCT_KEY_WHITELIST] = {"whitelist", OCT_KEY_LISTS, {0}, -1, NULL, "The former name of `allowlist`."},
    [OCT_KEY_BLACKLIST] = {"blacklist", OCT_KEY_LISTS, {0}, -1, NULL, "The former name of `blocklist`."},
};

const char *oct_quant_key_choice(enum oct_quant_key key, int index) {
    if (oct_quant_keys[key].kind == OCT_KEY_METHOD) return index < OCT_NUM_SCALE_METHODS ? oct_scale_methods[index].name : NULL;
    return index < OCT_KEY_MAX_CHOICES ? oct_quant_keys[key].choices[index] : NULL;
}

static void put_list(const char *name, char *const *items, struct oct_buffer *out) {
    for (size_t i = 0; items && items[i]; i++) {
        oct_buffer_puts(out, i ? ", " : out->length ? "; " : "");
        oct_buffer_printf(out, "%s%s", i ? "" : name, items[i]);
    }
}

static void put_lists(char *const *types, char *const *names, struct oct_buffer *out) {
    struct oct_buffer text = {0};
    put_list("types ", types, &text);
    put_list("names ", names, &text);
    oct_buffer_puts(out, text.length ? text.data : "empty");
    oct_buffer_free(&text);
}

void oct_quant_config_value(const struct oct_quant_config *config, enum oct_quant_key key, struct oct_buffer *out) {
    int value = config->values[key];
    switch (oct_quant_keys[key].kind) {
    case OCT_KEY_CHOICE:
        oct_buffer_puts(out, value < 0 ? oct_quant_keys[key].preset_text : oct_quant_key_choice(key, value));
        return;
    case OCT_KEY_METHOD:
        oct_buffer_printf(out, "%s%s", config->scales.preset.name, config->scales.num_overrides ? ", and rules by module" : "");
        return;
    case OCT_KEY_TRUTH:
        oct_buffer_puts(out, value ? "true" : "false");
        return;
    case OCT_KEY_COUNT:
        oct_buffer_printf(out, "%d", value);
        return;
    case OCT_KEY_TEXT:
        oct_buffer_puts(out, key == OCT_KEY_OBSERVER ? config->observer : config->dump_stats_path);
        return;
    case OCT_KEY_DICT:
        oct_buffer_puts(out, "{}");
        return;
    case OCT_KEY_LISTS:
        if (key == OCT_KEY_ALLOWLIST || key == OCT_KEY_WHITELIST)
            put_lists(config->allow_types, config->allow_names, out);
        else
            put_lists(config->block_types, config->block_names, out);
        return;
    }
}

static void put_values(enum oct_quant_key key, struct oct_buffer *out) {
    const char *name;
    switch (oct_quant_keys[key].kind) {
    case OCT_KEY_CHOICE:
        for (int i = 0; (name = oct_quant_key_choice(key, i)); i++) oct_buffer_printf(out, "%s%s", i ? ", " : "", name);
        return;
    case OCT_KEY_METHOD:
        oct_buffer_puts(out, "a name below, or a dict");
        return;
    case OCT_KEY_TRUTH:
        oct_buffer_puts(out, "a truth value");
        return;
    case OCT_KEY_COUNT:
        oct_buffer_puts(out, "a number, or its digits");
        return;
    case OCT_KEY_TEXT:
        oct_buffer_puts(out, "text");
        return;
    case OCT_KEY_DICT:
        oct_buffer_puts(out, "a dict");
        return;
    case OCT_KEY_LISTS:
        oct_buffer_puts(out, "`{\"types\": [...], \"names\": [...]}`");
        return;
    }
}

static const char *preset_of(enum oct_quant_key key) {
    const struct oct_quant_key_info *info = &oct_quant_keys[key];
    if (info->preset_text) return info->preset_text;
    if (info->kind == OCT_KEY_TRUTH) return info->preset ? "true" : "false";
    if (info->kind == OCT_KEY_COUNT) return "0";
    return info->preset < 0 ? "" : oct_quant_key_choice(key, info->preset);
}

void oct_quant_keys_markdown(struct oct_buffer *out) {
    oct_buffer_puts(out, "| key | values | default | meaning |\n|---|---|---|---|\n");
    for (int key = 0; key < OCT_NUM_QUANT_KEYS; key++) {
        oct_buffer_printf(out, "| `%s` | ", oct_quant_keys[key].name);
        put_values((enum oct_quant_key)key, out);
        oct_buffer_printf(out, " | %s | %s |\n", preset_of((enum oct_quant_key)key), oct_quant_keys[key].meaning);
    }
}
