// The forward pass against Hugging Face transformers' float32 answers (tests/golden/model): logits at every position and greedy
// continuations of small models that each isolate one feature.
#include "golden_data.h"
#include "llama_harness.h"

#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GREEDY = 48 };

static void assert_matches_golden(const char *name, const char *model_path, bool dynamic_rope) {
    static const char *const prompts[] = {"one", "short", "mid", "long"};
    char relative[128], tensor[64];
    snprintf(relative, sizeof relative, "model/goldens/tiny_%s.safetensors", name);
    struct golden_file golden = golden_open(golden_path(relative));
    struct harness model = harness_open(model_path, OCT_F32, 256, NULL);
    int vocab = model.vocab;
    for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++) {
        size_t count, size, greedy_count;
        snprintf(tensor, sizeof tensor, "%s.ids", prompts[p]);
        const int32_t *ids = golden_tensor(&golden, tensor, &count);
        assert_non_null(ids);
        snprintf(tensor, sizeof tensor, "%s.logits", prompts[p]);
        const float *logits = golden_tensor(&golden, tensor, &size);
        size_t kept = size / (size_t)vocab; // the reference keeps the last positions of a long prompt
        assert_true(kept > 0 && kept <= count && kept * (size_t)vocab == size);
        snprintf(tensor, sizeof tensor, "%s.greedy", prompts[p]);
        const int32_t *greedy = golden_tensor(&golden, tensor, &greedy_count);
        assert_int_equal(greedy_count, GREEDY);
        // Dynamic rope: transformers rotates all of a prompt that is longer than the window by its final length; no engine that can be
        // fed in pieces can agree there (golden/model, "Warning").
        if (dynamic_rope && (int)count > model.llama->config.max_position_embeddings) continue;

        int32_t tokens[256];
        memcpy(tokens, ids, count * sizeof *ids);
        harness_forward(&model, tokens, 0, (int)count, NULL);
        double worst = 0;
        for (size_t t = 0; t < kept; t++)
            worst = fmax(worst, log_prob_difference(model.logits + (count - kept + t) * (size_t)vocab, logits + t * (size_t)vocab, vocab));
        if (!(worst <= 1e-3)) fail_msg("%s, prompt %s: log-probabilities differ by %g", name, prompts[p], worst);
        const float *last = model.logits + (count - 1) * (size_t)vocab;
        for (int i = 0; i < GREEDY; i++) {
            int token = argmax(last, vocab);
            if (token != greedy[i]) fail_msg("%s, prompt %s: greedy token %d is %d, %d expected", name, prompts[p], i, token, greedy[i]);
            tokens[count + (size_t)i] = token;
            harness_forward(&model, tokens, (int)count + i, (int)count + i + 1, NULL);
            last = model.logits;
        }
    }
    harness_close(&model);
    golden_close(&golden);
}

static void small_models_equal_the_reference(void **state) {
    (void)state;
    static const char *const names[] = {"llama3_gqa",   "llama2_mha_odd", "headdim_bias", "rope_linear", "rope_yarn",  "rope_yarn_params",
                                        "rope_dynamic", "tied_mqa",       "sharded3",     "dtype_fp16",  "dtype_fp32", "mixed_norm_f32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char relative[128];
        snprintf(relative, sizeof relative, "model/models/%s", names[i]);
        assert_matches_golden(names[i], golden_path(relative), !strcmp(names[i], "rope_dynamic"));
    }
}

static void a_small_gguf_equals_the_reference(void **state) {
    (void)state;
    assert_matches_golden("gguf", golden_path("model/models/tiny_gguf/model.gguf"), false);
}

static void a_prompt_in_pieces_gives_the_same_bits_as_in_one(void **state) {
    (void)state;
    struct harness whole = harness_open(golden_path("model/models/llama3_gqa"), OCT_BF16, 256, NULL);
    struct harness pieces = harness_open(golden_path("model/models/llama3_gqa"), OCT_BF16, 256, NULL);
    int vocab = whole.vocab;
    int32_t ids[100];
    for (int i = 0; i < 100; i++) ids[i] = (i * 37 + 11) % vocab;
    harness_forward(&whole, ids, 0, 100, NULL);
    const int cuts[] = {0, 1, 5, 37, 38, 64, 99, 100};
    for (size_t i = 0; i + 1 < sizeof cuts / sizeof *cuts; i++) {
        harness_forward(&pieces, ids, cuts[i], cuts[i + 1], NULL);
        size_t rows = (size_t)(cuts[i + 1] - cuts[i]);
        assert_memory_equal(pieces.logits, whole.logits + (size_t)cuts[i] * (size_t)vocab, rows * (size_t)vocab * sizeof(float));
    }
    harness_close(&whole);
    harness_close(&pieces);
}

// Three sequences at once, at different positions, against each alone.
static void a_sequence_gives_the_same_bits_whatever_else_is_in_the_batch(void **state) {
    (void)state;
    struct harness model = harness_open(golden_path("model/models/llama3_gqa"), OCT_BF16, 256, NULL);
    enum { SEQS = 3, MAX_BLOCKS = 4 };
    const int lengths[SEQS] = {70, 1, 33};
    int32_t tokens[256], positions[256], row_starts[SEQS + 1] = {0}, blocks[SEQS * MAX_BLOCKS], logit_rows[256];
    for (int seq = 0, row = 0; seq < SEQS; seq++) {
        for (int i = 0; i < lengths[seq]; i++, row++) {
            tokens[row] = (row * 53 + 7) % model.vocab;
            positions[row] = i;
            logit_rows[row] = row;
        }
        row_starts[seq + 1] = row;
        for (int i = 0; i < MAX_BLOCKS; i++) blocks[seq * MAX_BLOCKS + i] = i * SEQS + seq;
    }
    int rows = row_starts[SEQS];
    struct oct_batch batch = {.num_rows = rows,
                              .tokens = tokens,
                              .positions = positions,
                              .num_seqs = SEQS,
                              .row_starts = row_starts,
                              .block_tables = blocks,
                              .max_blocks = MAX_BLOCKS,
                              .logit_rows = logit_rows,
                              .num_logit_rows = rows};
    float *together = oct_alloc((size_t)rows * (size_t)model.vocab, sizeof *together, "logits");
    oct_llama_forward(model.llama, model.cache, &batch, together, NULL);
    for (int seq = 0; seq < SEQS; seq++) {
        harness_forward(&model, tokens + row_starts[seq], 0, lengths[seq], NULL);
        assert_memory_equal(together + (size_t)row_starts[seq] * (size_t)model.vocab, model.logits,
                            (size_t)lengths[seq] * (size_t)model.vocab * sizeof *together);
    }
    free(together);
    harness_close(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_models_equal_the_reference),
        cmocka_unit_test(a_small_gguf_equals_the_reference),
        cmocka_unit_test(a_prompt_in_pieces_gives_the_same_bits_as_in_one),
        cmocka_unit_test(a_sequence_gives_the_same_bits_whatever_else_is_in_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
