// quant_select.c: allowlist and blocklist against modules.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "quant/quant_select.h"

#include "base/error.h"
#include "base/log.h"

#include <pcre2.h>
#include <string.h>

// The classes that INC quantizes, and which of them can make the scales of activations at run time.
static const struct {
    const char *name;
    bool dynamic;
} classes[] = {
    {"Matmul", true},
    {"B2BMatmul", true},
    {"Linear", true},
    {"ParallelLMHead", true},
    {"RowParallelLinear", true},
    {"ColumnParallelLinear", true},
    {"MergedColumnParallelLinear", true},
    {"QKVParallelLinear", true},
    {"FalconLinear", true},
    {"KVCache", false},
    {"VLLMKVCache", true},
    {"Conv2d", false},
    {"LoRACompatibleLinear", true},
    {"LoRACompatibleConv", false},
    {"Softmax", false},
    {"BlockSoftmaxConstMax", false},
    {"ModuleFusedSDPA", false},
    {"MoeMatmul", true},
    {"MoeFP8Matmul", true},
    {"ReplicatedLinear", true},
    {"FusedMoE", true},
    {"SharedFusedMoE", true},
    {"GaudiMixtralSparseMoeBlock", false},
    {"GaudiDeepseekV3MoE", false},
    {"GaudiFP8Linear", false},
    {"VllmMixtureOfExpertsOp", true},
    {"VllmMixtureOfExpertsOpFP8", true},
    {"VllmMixtureOfExpertsOpFP8PerChannel", true},
};

static pcre2_code *compile_name(const char *pattern, char message[static 120]) {
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!compiled) pcre2_get_error_message(code, (PCRE2_UCHAR *)message, 120);
    return compiled;
}

bool oct_name_pattern_is_valid(const char *pattern, char message[static 120]) {
    pcre2_code *compiled = compile_name(pattern, message);
    pcre2_code_free(compiled);
    return compiled;
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

bool oct_quant_config_selects_name(const struct oct_quant_config *config, const char *class_name, const char *name) {
    size_t i = 0, n = sizeof classes / sizeof *classes;
    while (i < n && strcmp(classes[i].name, class_name) != 0) i++;
    if (i == n || (config->dynamic && !classes[i].dynamic)) return false;
    if (has_type(config->block_types, class_name) || has_name(config->block_names, name)) return false;
    bool allow_all = !(config->allow_types && *config->allow_types) && !(config->allow_names && *config->allow_names);
    return allow_all || has_type(config->allow_types, class_name) || has_name(config->allow_names, name);
}

bool oct_quant_config_selects(const struct oct_quant_config *config, enum oct_module module, int layer) {
    char name[128];
    oct_module_name(module, layer, name, sizeof name);
    return oct_quant_config_selects_name(config, oct_module_class(module), name);
}
