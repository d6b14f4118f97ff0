#include "target.h"

#include "quant/quant_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct oct_quant_config *config;
    oct_error err;
    if (oct_quant_config_load(fuzz_file(data, size), &config, &err) != OCT_OK) return 0;
    for (int i = 0; i < oct_module_count(2); i++) {
        int layer;
        enum oct_module module = oct_module_at(2, i, &layer);
        oct_quant_config_selects(config, module, layer);
        OCT_CHECK(oct_scale_config_method(&config->scales, module, layer)->name);
    }
    oct_quant_config_free(config);
    return 0;
}
