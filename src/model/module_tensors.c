#include "model/module_tensors.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

int oct_module_parts(enum oct_module module, int layer, char names[OCT_MAX_PARTS][OCT_PART_NAME]) {
    static const struct {
        enum oct_module module;
        const char *parts[OCT_MAX_PARTS + 1];
    } table[] = {
        {OCT_QKV_PROJ, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
        {OCT_O_PROJ, {"self_attn.o_proj"}},
        {OCT_GATE_UP_PROJ, {"mlp.gate_proj", "mlp.up_proj"}},
        {OCT_DOWN_PROJ, {"mlp.down_proj"}},
    };
    if (module == OCT_LM_HEAD) {
        strcpy(names[0], "lm_head");
        return 1;
    }
    size_t row = 0;
    while (row < sizeof table / sizeof *table && table[row].module != module) row++;
    OCT_CHECK(row < sizeof table / sizeof *table); // a linear
    int count = 0;
    for (; table[row].parts[count]; count++) snprintf(names[count], OCT_PART_NAME, "model.layers.%d.%s", layer, table[row].parts[count]);
    return count;
}
