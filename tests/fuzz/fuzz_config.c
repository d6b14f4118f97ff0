#include "target.h"

#include "base/json.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *json;
    struct oct_model_config config;
    oct_error err;
    if (oct_json_parse("fuzz", (const char *)data, size, &json, &err) != OCT_OK) return 0;
    if (oct_model_config_parse("fuzz", json, json, &config, &err) == OCT_OK)
        OCT_CHECK(oct_model_config_check("fuzz", &config, &err) == OCT_OK);
    json_decref(json);
    return 0;
}
