// Whole checkpoints: every tensor's decoded bytes against hashes that numpy made, and folders that are not as they should be.
#include "base/json.h"
#include "base/memory.h"
#include "model/checkpoint.h"
#include "model/gguf.h"
#include "model/locate.h"
#include "model_golden.h"
#include "numeric/bf16.h"

#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static void assert_hash(const char *name, const void *bytes, size_t size, const char *expected) {
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char text[2 * SHA256_DIGEST_LENGTH + 1];
    SHA256(bytes, size, digest);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(text, expected)) fail_msg("%s: sha256 %s expected, %s found", name, expected, text);
}

static bool is_parameter(const char *name) {
    return strstr(name, ".weight") || strstr(name, ".bias");
}

// All tensors of the reference are there with their shapes, and decode to its float32 (and bf16) bytes. Its rows stand in file order.
static void assert_tensors(const struct oct_checkpoint *checkpoint, json_t *reference) {
    const char *name;
    json_t *facts;
    assert_true(json_object_size(reference) > 0);
    json_object_foreach(reference, name, facts) {
        if (!is_parameter(name)) {
            assert_null(oct_checkpoint_find(checkpoint, name));
            continue;
        }
        json_t *shape = json_object_get(facts, "shape");
        const struct oct_tensor *tensor = NULL;
        oct_error err = {0};
        if (oct_checkpoint_require(checkpoint, name, json_integer_value(json_array_get(shape, 0)),
                                   json_integer_value(json_array_get(shape, 1)), &tensor, &err) != OCT_OK)
            fail_msg("%s", err.message);
        struct oct_tensor as_stored = *tensor;
        as_stored.interleaved_head_dim = 0;
        size_t count = (size_t)(oct_tensor_rows(tensor) * oct_tensor_columns(tensor));
        float *decoded = oct_alloc(count, sizeof *decoded, name);
        oct_tensor_rows_f32(&as_stored, 0, oct_tensor_rows(tensor), decoded);
        assert_hash(name, decoded, count * sizeof *decoded, json_string_value(json_object_get(facts, "f32_sha256")));
        const char *bf16_hash = json_string_value(json_object_get(facts, "bf16_sha256"));
        if (bf16_hash) {
            uint16_t *rounded = oct_alloc(count, sizeof *rounded, name);
            for (size_t i = 0; i < count; i++) rounded[i] = oct_bf16_from_f32(decoded[i]);
            assert_hash(name, rounded, count * sizeof *rounded, bf16_hash);
            free(rounded);
        }
        free(decoded);
        oct_tensor_drop_pages(tensor);
    }
}

static json_t *load_reference(void) {
    char *path = model_golden("tensors.json");
    json_t *reference;
    oct_error err = {0};
    if (oct_json_load(path, 1 << 20, &reference, &err) != OCT_OK) fail_msg("%s", err.message);
    free(path);
    return reference;
}

static struct oct_checkpoint *open_checkpoint(const char *path) {
    struct oct_checkpoint *checkpoint;
    oct_error err = {0};
    if (oct_checkpoint_open(path, &checkpoint, &err) != OCT_OK) fail_msg("%s", err.message);
    return checkpoint;
}

static void every_tensor_of_the_small_models_decodes_to_the_reference_bytes(void **state) {
    (void)state;
    json_t *reference = load_reference(), *tensors;
    const char *model;
    int models = 0;
    json_object_foreach(reference, model, tensors) {
        if (!strcmp(model, "smollm2")) continue;
        char name[128];
        snprintf(name, sizeof name, strcmp(model, "tiny_gguf") ? "models/%s" : "models/%s/model.gguf", model);
        char *path = model_golden(name);
        struct oct_checkpoint *checkpoint = open_checkpoint(path);
        assert_tensors(checkpoint, tensors);
        oct_checkpoint_close(checkpoint);
        free(path);
        models++;
    }
    assert_int_equal(models, 13);
    json_decref(reference);
}

static void every_tensor_of_smollm2_decodes_to_the_reference_bytes(void **state) {
    (void)state;
    char *path;
    oct_error err = {0};
    if (oct_model_locate("smollm2", &path, &err) != OCT_OK) {
        print_message("%s\n", err.message);
        skip();
    }
    json_t *reference = load_reference();
    struct oct_checkpoint *checkpoint = open_checkpoint(path);
    assert_int_equal(json_object_size(json_object_get(reference, "smollm2")), 272);
    assert_tensors(checkpoint, json_object_get(reference, "smollm2"));

    const struct oct_model_config *config = oct_checkpoint_config(checkpoint);
    assert_int_equal(config->num_hidden_layers, 30);
    assert_int_equal(config->head_dim, 64);
    assert_int_equal(config->vocab_size, 49152);
    assert_true(config->tie_word_embeddings && config->rope.theta == 100000 && config->rms_norm_eps == 1e-5f);
    assert_int_equal(config->bos_token_id, 1);
    assert_true(config->num_eos_tokens == 1 && config->eos_token_ids[0] == 2);
    assert_non_null(oct_checkpoint_gguf(checkpoint));
    assert_null(oct_checkpoint_directory(checkpoint));
    assert_int_equal(oct_checkpoint_find(checkpoint, "model.layers.29.self_attn.k_proj.weight")->interleaved_head_dim, 64);
    oct_checkpoint_close(checkpoint);
    json_decref(reference);
    free(path);
}

static void a_missing_or_misshapen_tensor_is_an_error_that_names_both_shapes(void **state) {
    (void)state;
    char *path = model_golden("models/tied_mqa");
    struct oct_checkpoint *checkpoint = open_checkpoint(path);
    const struct oct_tensor *tensor;
    oct_error err;
    assert_int_equal(oct_checkpoint_require(checkpoint, "lm_head.weight", 515, 64, &tensor, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "tensor lm_head.weight: shape [515, 64] expected, no such tensor found"));
    assert_int_equal(oct_checkpoint_require(checkpoint, "model.norm.weight", 65, 0, &tensor, &err), OCT_CORRUPT);
    assert_non_null(strstr(err.message, "tensor model.norm.weight: shape [65] expected, [64] found"));
    assert_int_equal(oct_checkpoint_require(checkpoint, "model.norm.weight", 64, 1, &tensor, &err), OCT_CORRUPT);
    assert_string_equal(oct_checkpoint_directory(checkpoint), path);
    assert_null(oct_checkpoint_gguf(checkpoint));
    oct_checkpoint_close(checkpoint);
    free(path);
}

static const char config_json[] = "{\"model_type\": \"llama\", \"hidden_size\": 4, \"intermediate_size\": 4, \"num_hidden_layers\": 1, "
                                  "\"num_attention_heads\": 1, \"vocab_size\": 4}";
static const char *const made_files[] = {"config.json",     "model.safetensors", "model.safetensors.index.json",
                                         "one.safetensors", "two.safetensors",   NULL};

static void put_shard(const char *folder, const char *file, const char *header, size_t data_size) {
    struct oct_buffer bytes = {0};
    uint64_t length = strlen(header);
    static const char zeros[64];
    oct_buffer_append(&bytes, &length, sizeof length);
    oct_buffer_puts(&bytes, header);
    oct_buffer_append(&bytes, zeros, data_size);
    put_file(folder, file, bytes.data, bytes.length);
    oct_buffer_free(&bytes);
}

// Opening the folder fails with `status` and a message that has `named` in it. Removes the folder.
static void assert_refused(char *folder, oct_status status, const char *named) {
    struct oct_checkpoint *checkpoint;
    oct_error err = {0};
    assert_int_equal(oct_checkpoint_open(folder, &checkpoint, &err), status);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not name \"%s\"", err.message, named);
    remove_folder(folder, made_files);
}

static void a_shard_name_must_not_leave_the_folder(void **state) {
    (void)state;
    static const char *const names[] = {"\"../one.safetensors\"",  "\"/etc/one.safetensors\"",
                                        "\"sub/one.safetensors\"", "\"..\"",
                                        "\"config.json\"",         "\"one.safetensors\\u0000.safetensors\"",
                                        "[\"one.safetensors\"]",   "7"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *folder = new_folder();
        struct oct_buffer index = {0};
        oct_buffer_printf(&index, "{\"weight_map\": {\"a.weight\": %s}}", names[i]);
        put_file(folder, "config.json", config_json, strlen(config_json));
        put_file(folder, "model.safetensors.index.json", index.data, index.length);
        oct_buffer_free(&index);
        assert_refused(folder, OCT_CORRUPT, "tensor a.weight: the name of a .safetensors file in the same folder expected");
    }
}

static void a_missing_shard_is_an_error(void **state) {
    (void)state;
    const char index[] = "{\"weight_map\": {\"a.weight\": \"one.safetensors\", \"b.weight\": \"two.safetensors\"}}";
    const char header[] = "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    char *folder = new_folder();
    put_file(folder, "config.json", config_json, strlen(config_json));
    put_file(folder, "model.safetensors.index.json", index, strlen(index));
    put_shard(folder, "one.safetensors", header, 8);
    assert_refused(folder, OCT_NOT_FOUND, "two.safetensors");
    folder = new_folder();
    put_file(folder, "config.json", config_json, strlen(config_json));
    put_file(folder, "model.safetensors.index.json", index, strlen(index));
    put_shard(folder, "one.safetensors", header, 8);
    put_shard(folder, "two.safetensors", header, 8);
    assert_refused(folder, OCT_CORRUPT, "a.weight stands in two shards");
}

static void folders_without_what_they_need_are_errors_that_name_it(void **state) {
    (void)state;
    assert_refused(new_folder(), OCT_NOT_FOUND, "config.json");
    char *folder = new_folder();
    put_file(folder, "config.json", config_json, strlen(config_json));
    assert_refused(folder, OCT_NOT_FOUND, "neither model.safetensors nor model.safetensors.index.json");
    folder = new_folder();
    put_file(folder, "config.json", config_json, strlen(config_json));
    put_file(folder, "model.safetensors.index.json", "{}", 2);
    assert_refused(folder, OCT_CORRUPT, "weight_map");
    folder = new_folder();
    put_file(folder, "config.json", config_json, strlen(config_json));
    put_shard(folder, "model.safetensors", "{\"a.weight\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8);
    assert_refused(folder, OCT_UNSUPPORTED, "tensor a.weight: dtype F32, F16, BF16 or F8_E4M3 expected, I64 found");
}

static void a_model_is_located_or_the_user_is_told_what_to_do(void **state) {
    (void)state;
    char *folder = new_folder(), *path = NULL, *octavo = oct_path_join(folder, "octavo"), *kept = getenv("XDG_CACHE_HOME");
    kept = kept ? oct_strdup(kept) : NULL;
    oct_error err;
    setenv("XDG_CACHE_HOME", folder, 1);
    assert_int_equal(oct_model_locate("smollm2", &path, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "make model"));
    assert_int_equal(mkdir(octavo, 0777), 0);
    put_file(octavo, "SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF", 4);
    assert_int_equal(oct_model_locate("smollm2", &path, &err), OCT_OK);
    assert_non_null(strstr(path, "/octavo/SmolLM2-135M-Instruct.Q4_1.gguf"));
    free(path);
    if (kept)
        setenv("XDG_CACHE_HOME", kept, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    free(kept);

    assert_int_equal(oct_model_locate(folder, &path, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "no config.json"));
    put_file(folder, "config.json", "{}", 2);
    assert_int_equal(oct_model_locate(folder, &path, &err), OCT_OK);
    assert_string_equal(path, folder);
    free(path);
    assert_int_equal(oct_model_locate("meta-llama/Llama-3.1-8B", &path, &err), OCT_NOT_FOUND);
    assert_non_null(strstr(err.message, "model meta-llama/Llama-3.1-8B: no such file or folder"));
    char *json = oct_path_join(folder, "config.json");
    assert_int_equal(oct_model_locate(json, &path, &err), OCT_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, ".gguf"));
    free(json);
    remove_folder(octavo, (const char *const[]){"SmolLM2-135M-Instruct.Q4_1.gguf", NULL});
    remove_folder(folder, made_files);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_of_the_small_models_decodes_to_the_reference_bytes),
        cmocka_unit_test(every_tensor_of_smollm2_decodes_to_the_reference_bytes),
        cmocka_unit_test(a_missing_or_misshapen_tensor_is_an_error_that_names_both_shapes),
        cmocka_unit_test(a_shard_name_must_not_leave_the_folder),
        cmocka_unit_test(a_missing_shard_is_an_error),
        cmocka_unit_test(folders_without_what_they_need_are_errors_that_name_it),
        cmocka_unit_test(a_model_is_located_or_the_user_is_told_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
