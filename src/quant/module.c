// module.c: one table with the class and the name of each module.
#include "quant/module.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *class_name, *suffix; // of the qualified name, below model.layers.N.
    bool linear;
} modules[OCT_NUM_MODULES] = {
    [OCT_QKV_PROJ] = {"QKVParallelLinear", "self_attn.qkv_proj", true},
    [OCT_O_PROJ] = {"RowParallelLinear", "self_attn.o_proj", true},
    [OCT_MATMUL_QK] = {"Matmul", "self_attn.attn.impl.matmul_qk", false},
    [OCT_SOFTMAX] = {"Softmax", "self_attn.attn.impl.softmax", false},
    [OCT_MATMUL_AV] = {"Matmul", "self_attn.attn.impl.matmul_av", false},
    [OCT_BATCH2BLOCK] = {"B2BMatmul", "self_attn.attn.impl.batch2block_matmul", false},
    [OCT_BLOCK2BATCH] = {"B2BMatmul", "self_attn.attn.impl.block2batch_matmul", false},
    [OCT_K_CACHE] = {"VLLMKVCache", "self_attn.attn.impl.k_cache", false},
    [OCT_V_CACHE] = {"VLLMKVCache", "self_attn.attn.impl.v_cache", false},
    [OCT_FUSED_SDPA] = {"ModuleFusedSDPA", "self_attn.attn.impl.fused_scaled_dot_product_attention", false},
    [OCT_GATE_UP_PROJ] = {"MergedColumnParallelLinear", "mlp.gate_up_proj", true},
    [OCT_DOWN_PROJ] = {"RowParallelLinear", "mlp.down_proj", true},
    [OCT_LM_HEAD] = {"ParallelLMHead", "lm_head", true},
};

const char *oct_module_class(enum oct_module module) {
    return modules[module].class_name;
}

bool oct_module_is_linear(enum oct_module module) {
    return modules[module].linear;
}

const char *oct_module_name(enum oct_module module, int layer, char *name, size_t size) {
    if (module == OCT_LM_HEAD)
        snprintf(name, size, "%s", modules[module].suffix);
    else
        snprintf(name, size, "model.layers.%d.%s", layer, modules[module].suffix);
    return name;
}

const char *oct_module_part_name(enum oct_module module, int layer, int index, char *name, size_t size) {
    static const char *const linears[OCT_NUM_MODULES][3] = {
        [OCT_QKV_PROJ] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
        [OCT_GATE_UP_PROJ] = {"mlp.gate_proj", "mlp.up_proj"},
    };
    static const char implementation[] = "self_attn.attn.impl."; // vLLM's; attention itself holds the modules there
    const char *suffix = modules[module].suffix;
    if (linears[module][0]) {
        if (index >= 3 || !linears[module][index]) return NULL;
        snprintf(name, size, "model.layers.%d.%s", layer, linears[module][index]);
        return name;
    }
    if (index > 0 || strncmp(suffix, implementation, sizeof implementation - 1) != 0) return NULL;
    snprintf(name, size, "model.layers.%d.self_attn.%s", layer, suffix + sizeof implementation - 1);
    return name;
}

int oct_module_parts(enum oct_module module, int layer, char names[OCT_MAX_PARTS][OCT_PART_NAME]) {
    OCT_CHECK(oct_module_is_linear(module));
    int count = 0;
    while (count < OCT_MAX_PARTS && oct_module_part_name(module, layer, count, names[count], OCT_PART_NAME)) count++;
    if (count == 0) oct_module_name(module, layer, names[count++], OCT_PART_NAME);
    return count;
}
