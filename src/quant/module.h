// module.h: the named places of a Llama model where numbers can be quantized, as vLLM on Gaudi names and classes them.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// The modules of a layer in the order in which vLLM registers them, then the one module outside the layers. Octavo computes attention in
// one way, where a Gaudi has two: the fused kernel for prompts; and for what follows, products over blocks of the cache, with two products
// that spread queries over blocks and gather the results. Those three modules are measured and scaled for Gaudi's sake, and run nothing
// here.
enum oct_module {
    OCT_QKV_PROJ,     // QKVParallelLinear        model.layers.N.self_attn.qkv_proj
    OCT_O_PROJ,       // RowParallelLinear        model.layers.N.self_attn.o_proj
    OCT_MATMUL_QK,    // Matmul                   model.layers.N.self_attn.attn.impl.matmul_qk
    OCT_SOFTMAX,      // Softmax                  model.layers.N.self_attn.attn.impl.softmax
    OCT_MATMUL_AV,    // Matmul                   model.layers.N.self_attn.attn.impl.matmul_av
    OCT_BATCH2BLOCK,  // B2BMatmul                model.layers.N.self_attn.attn.impl.batch2block_matmul
    OCT_BLOCK2BATCH,  // B2BMatmul                model.layers.N.self_attn.attn.impl.block2batch_matmul
    OCT_K_CACHE,      // VLLMKVCache              model.layers.N.self_attn.attn.impl.k_cache
    OCT_V_CACHE,      // VLLMKVCache              model.layers.N.self_attn.attn.impl.v_cache
    OCT_FUSED_SDPA,   // ModuleFusedSDPA          model.layers.N.self_attn.attn.impl.fused_scaled_dot_product_attention
    OCT_GATE_UP_PROJ, // MergedColumnParallelLinear  model.layers.N.mlp.gate_up_proj
    OCT_DOWN_PROJ,    // RowParallelLinear        model.layers.N.mlp.down_proj
    OCT_LM_HEAD,      // ParallelLMHead           lm_head
    OCT_NUM_MODULES,
};

// The exact class name, which allowlist and blocklist `types` compare with.
const char *oct_module_class(enum oct_module module);
bool oct_module_is_linear(enum oct_module module);
// Whether only a Gaudi runs it.
static inline bool oct_module_is_gaudis(enum oct_module module) {
    return module == OCT_BATCH2BLOCK || module == OCT_BLOCK2BATCH || module == OCT_FUSED_SDPA;
}
// The qualified name into name[size]; `layer` is ignored for OCT_LM_HEAD. Returns name.
const char *oct_module_name(enum oct_module module, int layer, char *name, size_t size);

// The names that optimum-habana gives the same place, into name[size]: linears that are stacked here are several there, in the order of
// their rows. NULL from the first index that there is not.
const char *oct_module_part_name(enum oct_module module, int layer, int index, char *name, size_t size);
// The linears of a checkpoint ("model.layers.3.self_attn.q_proj", to which ".weight" is added) that make one linear module, in the order of
// their rows: its parts, or itself. Returns their number.
enum { OCT_MAX_PARTS = 3, OCT_PART_NAME = 128 };
int oct_module_parts(enum oct_module module, int layer, char names[OCT_MAX_PARTS][OCT_PART_NAME]);

// All modules of a model in the order of INC's files: layer by layer, then lm_head. 0 <= index < oct_module_count.
static inline int oct_module_count(int num_layers) {
    return num_layers * OCT_LM_HEAD + 1;
}
static inline enum oct_module oct_module_at(int num_layers, int index, int *layer) {
    *layer = index / OCT_LM_HEAD;
    return *layer == num_layers ? OCT_LM_HEAD : (enum oct_module)(index % OCT_LM_HEAD);
}
