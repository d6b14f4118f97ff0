// From weights to scale files: a small model is loaded with every static method and the files are those that INC wrote of the same weights
// and measurement. Needs the larger reference folder.
#include "llama_harness.h"
#include "quant/plan.h"
#include "quant_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char reference[1024], folder[64];

static void copy_file(const char *from, const char *to) {
    size_t length;
    oct_error err;
    char *bytes = golden_text(from, &length);
    assert_non_null(bytes);
    if (oct_file_write(to, bytes, length, &err) != OCT_OK) fail_msg("%s", err.message);
    free(bytes);
}

// Three files are there as numpy 1.26 writes them, which is how Octavo writes.
static void compare_npz(const char *json_path, const char *method, const char *device) {
    char name[160];
    snprintf(name, sizeof name, "numpy1/tp1__inc_output_hooks_maxabs_%s_0_1.npz", method);
    if (strcmp(device, "gaudi2") != 0 || !oct_path_exists(golden(name))) return;
    char *path = oct_strdup(json_path);
    memcpy(path + strlen(path) - 4, "npz", 4);
    size_t length, expected_length;
    char *found = golden_text(path, &length), *expected = golden_text(golden(name), &expected_length);
    if (length != expected_length || memcmp(found, expected, length) != 0) fail_msg("%s differs from %s", path, name);
    print_message("# %s: %zu bytes alike\n", name, length);
    free(found);
    free(expected);
    free(path);
}

static void compare_files(const char *device, enum oct_profile profile, const struct oct_scale_method *method) {
    char text[2048], path[1200], stem[128];
    oct_error err;
    snprintf(stem, sizeof stem, "%s/%s_%s/inc_output", folder, device, method->name);
    snprintf(path, sizeof path, "%s/%s_%s.json", folder, device, method->name);
    snprintf(
        text, sizeof text,
        "{\"mode\": \"QUANTIZE\", \"use_qdq\": true, \"scale_method\": \"%s\", \"device_for_scales\": \"%s\", \"dump_stats_path\": \"%s\"}",
        method->name, profile == OCT_GAUDI2 ? "GAUDI2" : "GAUDI3", stem);
    assert_int_equal(oct_file_write(path, text, strlen(text), &err), OCT_OK);
    struct oct_quant_config *config;
    struct oct_measurement *measurement;
    struct oct_plan *plan;
    if (oct_quant_config_load(path, &config, &err) != OCT_OK) fail_msg("%s", err.message);
    assert_int_equal(oct_measurement_prepare(config, &err), OCT_OK);
    char *measured = oct_quant_config_file(config, "", 0, 1, ".npz");
    snprintf(path, sizeof path, "%s/inc/files/hpu_%s/tp1/inc_output_hooks_maxabs_0_1.npz", reference, device);
    copy_file(path, measured);
    free(measured);
    if (oct_measurement_read(config, 2, &measurement, &err) != OCT_OK) fail_msg("%s", err.message);
    if (oct_plan_build(config, measurement, 2, true, &plan, &err) != OCT_OK) fail_msg("%s", err.message);
    snprintf(path, sizeof path, "%s/inc/mini_e2e/mini_hf", reference);
    struct harness model = harness_open(path, OCT_BF16, 8, plan);
    harness_close(&model);
    if (oct_plan_write_scales(plan, config, measurement, &err) != OCT_OK) fail_msg("%s", err.message);

    char *written = oct_quant_config_file(config, method->name, 0, 1, ".json");
    snprintf(path, sizeof path, "%s/inc/files/hpu_%s/tp1/inc_output_hooks_maxabs_%s_0_1.json", reference, device, method->name);
    size_t length;
    char *found = golden_text(written, &length), *expected = golden_text(path, &length);
    if (strcmp(found, expected) != 0) fail_msg("%s differs from %s", written, path);
    free(found);
    free(expected);
    compare_npz(written, method->name, device);
    free(written);
    oct_plan_free(plan);
    oct_measurement_free(measurement);
    oct_quant_config_free(config);
}

static void every_static_method_writes_incs_files_byte_for_byte(void **state) {
    (void)state;
    const char *root = getenv("OCTAVO_REFERENCE");
    snprintf(reference, sizeof reference, "%s", root ? root : "");
    char probe[1200];
    snprintf(probe, sizeof probe, "%s/inc/mini_e2e/mini_hf/model.safetensors", reference);
    if (!oct_path_exists(probe)) {
        print_message("# skipped: %s is not there\n", probe);
        skip();
    }
    snprintf(folder, sizeof folder, "%s", new_folder());
    setenv("INC_TARGET_DEVICE", "cpu", 1); // the files were made on a host, whose arithmetic divides
    for (int profile = 0; profile < 2; profile++)
        for (int m = 0; m < OCT_NUM_SCALE_METHODS; m++) {
            const struct oct_scale_method *method = &oct_scale_methods[m];
            if (oct_scale_method_is_fixed(method) || method->activation.per_channel) continue; // no file
            compare_files(oct_profile_name((enum oct_profile)profile), (enum oct_profile)profile, method);
        }
    unsetenv("INC_TARGET_DEVICE");
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_static_method_writes_incs_files_byte_for_byte)};
    return cmocka_run_group_tests_name("scale_files", tests, NULL, NULL);
}
