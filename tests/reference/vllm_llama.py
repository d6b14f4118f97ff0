"""A Llama whose modules bear vLLM's names and classes, and have of vLLM what INC's patches touch. Attention is that of a prompt, unfused.

Computes in the dtype it is built with. plain: every linear module is torch's own, which is what INC knows on a host.
"""
import json
import math

import torch
from safetensors.torch import load_file
from torch import nn

STACKED = {"self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj": ("self_attn.o_proj",),
           "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj": ("mlp.down_proj",)}


class Unquantized:
    def apply(self, layer, x, bias=None):
        return nn.functional.linear(x, layer.weight, bias)


class LinearBase(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None)
        self.quant_method = Unquantized()
        self.skip_bias_add = self.gather_output = False
        self.reduce_results = self.return_bias = self.input_is_parallel = True
        self.tp_size = 1

    def forward(self, x):
        return self.quant_method.apply(self, x), None


class QKVParallelLinear(LinearBase):
    pass


class MergedColumnParallelLinear(LinearBase):
    pass


class RowParallelLinear(LinearBase):
    pass


class ParallelLMHead(LinearBase):
    pass


class Matmul(nn.Module):
    def forward(self, x, y, out=None):
        return x @ y


class B2BMatmul(Matmul):
    pass


class Softmax(nn.Module):
    def forward(self, x, dim=None, inv_head=None):
        return x.softmax(dim)


class VLLMKVCache(nn.Module):
    is_v_cache = False

    def forward(self, rows, cache, slots, *args, **kwargs):
        return rows

    def fetch_from_cache(self, cache, blocks, *args, **kwargs):
        return cache


class ModuleFusedSDPA(nn.Module):
    _hpu_kernel_fsdpa = None


def linear(cls, weight):
    if cls is not nn.Linear:
        return cls(weight)
    module = nn.Linear(*reversed(weight.shape), bias=False)
    module.weight = nn.Parameter(weight, requires_grad=False)
    return module


class Impl(nn.Module):
    def __init__(self):
        super().__init__()
        self.matmul_qk, self.softmax, self.matmul_av = Matmul(), Softmax(), Matmul()
        self.batch2block_matmul, self.block2batch_matmul = B2BMatmul(), B2BMatmul()
        self.k_cache, self.v_cache = VLLMKVCache(), VLLMKVCache()
        self.fused_scaled_dot_product_attention = ModuleFusedSDPA()

    def forward(self, q, k, v):
        """q (heads, tokens, head_dim), k and v (kv_heads, tokens, head_dim); returns (tokens, heads * head_dim)."""
        k, v = self.k_cache(k, None, None), self.v_cache(v, None, None)
        k, v = (x.repeat_interleave(q.shape[0] // k.shape[0], 0) for x in (k, v))
        scores = self.matmul_qk(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        probabilities = self.softmax(scores.masked_fill(future, -math.inf), dim=-1)
        return self.matmul_av(probabilities, v).transpose(0, 1).flatten(1)


class Layer(nn.Module):
    def __init__(self, config, weights, classes):
        super().__init__()
        self.config = config
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        for name, parts in STACKED.items():
            parent, child = name.split(".")
            setattr(getattr(self, parent), child, linear(classes[child], torch.cat([weights(part) for part in parts])))
        self.self_attn.attn = nn.Module()
        self.self_attn.attn.impl = Impl()
        self.norms = [weights("input_layernorm"), weights("post_attention_layernorm")]

    def norm(self, x, weight):
        return nn.functional.rms_norm(x, weight.shape, weight, self.config["rms_norm_eps"])

    def rotated(self, x):
        angles = torch.outer(torch.arange(x.shape[1]).float(), self.config["rope_theta"] ** -torch.arange(0, 1, 2 / x.shape[-1]))
        low, high = x.chunk(2, -1)
        return torch.cat((low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()), -1).to(x.dtype)

    def forward(self, x):
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        call = lambda module, x: (lambda y: y[0] if isinstance(y, tuple) else y)(module(x))  # noqa: E731: with vLLM's (output, bias)
        qkv = call(self.self_attn.qkv_proj, self.norm(x, self.norms[0])).unflatten(-1, (heads + 2 * kv_heads, -1)).transpose(0, 1)
        q, k, v = qkv.split([heads, kv_heads, kv_heads])
        x = x + call(self.self_attn.o_proj, self.self_attn.attn.impl(self.rotated(q), self.rotated(k), v))
        gate, up = call(self.mlp.gate_up_proj, self.norm(x, self.norms[1])).chunk(2, -1)
        return x + call(self.mlp.down_proj, nn.functional.silu(gate) * up)


class LlamaForCausalLM(nn.Module):
    def __init__(self, folder, dtype, plain):
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
        classes = dict(qkv_proj=QKVParallelLinear, o_proj=RowParallelLinear, gate_up_proj=MergedColumnParallelLinear,
                       down_proj=RowParallelLinear, lm_head=ParallelLMHead)
        if plain:
            classes = dict.fromkeys(classes, nn.Linear)
        self.model = nn.Module()
        self.model.layers = nn.ModuleList(Layer(config, lambda name, i=i: tensors[f"model.layers.{i}.{name}.weight"], classes)
                                          for i in range(config["num_hidden_layers"]))
        self.embeddings, self.final_norm = tensors["model.embed_tokens.weight"], tensors["model.norm.weight"]
        self.lm_head = linear(classes["lm_head"], tensors["lm_head.weight"])

    @torch.no_grad()
    def forward(self, ids):
        x = self.embeddings[ids]
        for layer in self.model.layers:
            x = layer(x)
        x = self.model.layers[0].norm(x[-1:], self.final_norm)  # the row that a token is sampled from
        head = self.lm_head
        return head.quant_method.apply(head, x, bias=None) if hasattr(head, "quant_method") else head(x)  # the former is how vLLM calls it
