// quant_config_keys.h: the keys of a QUANT_CONFIG file: one table that reading, checking, showing and the documentation go by.
#pragma once

#include "base/buffer.h"

struct oct_quant_config;

enum oct_quant_key {
    OCT_KEY_MODE,
    OCT_KEY_OBSERVER,
    OCT_KEY_DUMP_STATS_PATH,
    OCT_KEY_FP8_CONFIG,
    OCT_KEY_HP_DTYPE,
    OCT_KEY_SCALE_METHOD,
    OCT_KEY_SCALE_PARAMS,
    OCT_KEY_ALLOWLIST,
    OCT_KEY_BLOCKLIST,
    OCT_KEY_MEASURE_EXCLUDE,
    OCT_KEY_SCALE_FORMAT,
    OCT_KEY_DEVICE_FOR_SCALES,
    OCT_KEY_RECALC_SCALES,
    OCT_KEY_IGNORE_MODULES_WO_MEASURES,
    OCT_KEY_FAKE_QUANT,
    OCT_KEY_USE_QDQ,
    OCT_KEY_DYNAMIC_QUANTIZATION,
    OCT_KEY_MEASURE_ON_HPU,
    OCT_KEY_CALIBRATION_SAMPLE_INTERVAL,
    OCT_KEY_SEPERATE_MEASURE_FILES,
    OCT_KEY_ALLREDUCE,
    OCT_KEY_MOD_DICT,
    OCT_KEY_WHITELIST,
    OCT_KEY_BLACKLIST,
    OCT_NUM_QUANT_KEYS,
};

// CHOICE: one of the names, upper-cased; its value is the index. TRUTH: a JSON value of which only Python's truth counts.
enum oct_quant_key_kind { OCT_KEY_CHOICE, OCT_KEY_METHOD, OCT_KEY_TRUTH, OCT_KEY_COUNT, OCT_KEY_TEXT, OCT_KEY_DICT, OCT_KEY_LISTS };

enum { OCT_KEY_MAX_CHOICES = 6 };
enum { OCT_KEY_TRUE, OCT_KEY_FALSE }; // of a choice between TRUE and FALSE

struct oct_quant_key_info {
    const char *name;
    enum oct_quant_key_kind kind;
    const char *choices[OCT_KEY_MAX_CHOICES]; // CHOICE
    int preset;                               // CHOICE, METHOD, TRUTH, COUNT: the value when the key is missing; -1: none
    const char *preset_text;                  // of other kinds, or instead of a name: as people read it
    const char *meaning;                      // one line, Markdown
};

extern const struct oct_quant_key_info oct_quant_keys[OCT_NUM_QUANT_KEYS];

// The name of a choice, or of a scale method; NULL past the last.
const char *oct_quant_key_choice(enum oct_quant_key key, int index);

// The effective value of a key in a configuration, as text.
void oct_quant_config_value(const struct oct_quant_config *config, enum oct_quant_key key, struct oct_buffer *out);
// The table of docs/quant-config.md: key, values, default, meaning.
void oct_quant_keys_markdown(struct oct_buffer *out);
