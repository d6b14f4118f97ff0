#!/usr/bin/env python3
"""Cuts this folder out of the larger reference folder, and makes the tiny files of tests/fuzz/seeds.

    pip install numpy gguf
    python make.py REFERENCE/model

Nothing here is computed by Octavo: hashes and row values come from numpy and from the `gguf` package.
"""
import hashlib
import json
import os
import shutil
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = os.path.join(HERE, "../../fuzz/seeds")
LAST_ROWS = 16  # of the long prompt's logits
CODES = {np.dtype("f4"): "F32", np.dtype("i4"): "I32", np.dtype("u1"): "U8", np.dtype("u2"): "BF16", np.dtype("f2"): "F16"}


def read_safetensors(path):
    """{name: (dtype, array)}; BF16 as its 16-bit patterns."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4"}
    return {name: (t["dtype"], np.frombuffer(data[slice(*t["data_offsets"])], kinds[t["dtype"]]).reshape(t["shape"]))
            for name, t in header.items() if name != "__metadata__"}


def write_safetensors(path, tensors, metadata=None):
    header, blob = ({"__metadata__": metadata} if metadata else {}), b""
    for name, a in tensors.items():
        raw = np.ascontiguousarray(a).tobytes()
        header[name] = {"dtype": CODES[a.dtype], "shape": list(a.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


def widen(dtype, a):
    return (a.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else a.astype(np.float32)


def sha256(a):
    return hashlib.sha256(np.ascontiguousarray(a, "<f4").tobytes()).hexdigest()


def copy_models(reference):
    hashes = {}
    for model in sorted(os.listdir(os.path.join(reference, "models"))):
        source, target = os.path.join(reference, "models", model), os.path.join(HERE, "models", model)
        os.makedirs(target, exist_ok=True)
        hashes[model] = {}
        for name in sorted(os.listdir(source)):
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
            if name.endswith(".safetensors"):
                for tensor, (dtype, a) in read_safetensors(os.path.join(source, name)).items():
                    hashes[model][tensor] = {"shape": list(a.shape), "f32_sha256": sha256(widen(dtype, a))}
    for model, name in (("tiny_gguf", "tiny_gguf_tensors.json"), ("smollm2", "gguf_tensors.json")):
        listed = json.load(open(os.path.join(reference, "goldens", name)))["tensors"]
        hashes[model] = {t["hf"]: {"shape": t["shape"], "f32_sha256": t["f32_sha256"]} for t in listed}
        if model == "tiny_gguf":
            for t in listed:
                hashes[model][t["hf"]]["bf16_sha256"] = t["bf16_sha256"]
    with open(os.path.join(HERE, "tensors.json"), "w") as f:
        f.write("{\n" + ",\n".join(f'"{m}": {{\n' + ",\n".join(f'  "{n}": {json.dumps(t)}' for n, t in ts.items()) + "\n}"
                                  for m, ts in hashes.items()) + "\n}\n")


def compact_logits(reference):
    os.makedirs(os.path.join(HERE, "goldens"), exist_ok=True)
    for name in sorted(os.listdir(os.path.join(reference, "goldens"))):
        if not (name.startswith("tiny_") and name.endswith(".safetensors")):
            continue
        path = os.path.join(reference, "goldens", name)
        tensors = {k: a for k, (_, a) in read_safetensors(path).items()}
        for prompt in json.load(open(path.replace(".safetensors", ".json")))["prompts"]:
            p = prompt["name"]
            tensors[p + ".margins"] = np.array(prompt["greedy"]["margins"], "f4")
            if "greedy_recompute" in prompt:
                again = prompt["greedy_recompute"]
                tensors[p + ".greedy_recompute"] = np.array(again["ids"] if isinstance(again, dict) else again, "i4")
        for key in [k for k in tensors if k.startswith("long.logits")]:
            tensors[key] = tensors[key][-LAST_ROWS:]
        write_safetensors(os.path.join(HERE, "goldens", name), tensors)


def block_rows():
    """Random blocks of each GGUF format, extreme scales among them, and what the gguf package decodes them to."""
    rng, tensors = np.random.default_rng(1), {}
    for kind, scales in (("Q8_0", (0,)), ("Q4_0", (0,)), ("Q4_1", (0, 2)), ("Q6_K", (208,))):
        elements, size = {"Q6_K": (256, 210)}.get(kind, (32, {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}.get(kind)))
        raw = rng.integers(0, 256, (24, size), np.uint8)
        for at in scales:
            d = rng.standard_normal(24).astype("<f2")
            d[:5] = np.array([0, -0.0, 6e-8, 65504, 3e-5], "<f2")
            raw[:, at:at + 2] = d.view(np.uint8).reshape(24, 2)
        tensors[kind + ".blocks"] = raw
        tensors[kind + ".f32"] = quants.dequantize(raw, GGMLQuantizationType[kind]).astype("<f4").reshape(24, elements)
    write_safetensors(os.path.join(HERE, "blocks.safetensors"), tensors)


def seeds():
    rng = np.random.default_rng(2)
    for parser in ("config", "gguf", "safetensors"):
        os.makedirs(os.path.join(SEEDS, parser), exist_ok=True)
    models = os.path.join(HERE, "models")
    for model in ("llama3_gqa", "rope_yarn_params", "rope_dynamic"):
        for name in ("config", "config.alt"):
            shutil.copyfile(os.path.join(models, model, name + ".json"), os.path.join(SEEDS, "config", f"{model}.{name}.json"))
    write_safetensors(os.path.join(SEEDS, "safetensors", "four.safetensors"),
                      {"a.weight": rng.standard_normal((2, 3)).astype("f4"), "b.bias": rng.integers(0, 9, 3).astype("u2"),
                       "c": np.zeros((0, 4), "f2"), "d": rng.integers(0, 9, 2).astype("i4")}, {"format": "pt"})

    # One layer with heads of 2: 32 -> 4 heads of 8, 2 of them for keys.
    w = GGUFWriter(os.path.join(SEEDS, "gguf", "one_layer.gguf"), "llama")
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_scaling_type(__import__("gguf").RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(16)
    w.add_tokenizer_model("gpt2")
    w.add_token_list(["<s>", "</s>", "a", "b"])
    w.add_token_types([3, 3, 1, 1])
    w.add_token_scores([0.0, -1.0, -2.0, -3.0])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_bool("tokenizer.ggml.add_bos_token", False)
    w.add_uint64("test.u64", 2**63)
    w.add_int8("test.i8", -1)
    w.add_float64("test.f64", 0.5)
    T = GGMLQuantizationType
    for name, rows, kind in (("token_embd.weight", 4, T.Q8_0), ("blk.0.attn_q.weight", 32, T.Q4_0), ("blk.0.attn_k.weight", 16, T.Q4_1),
                             ("blk.0.attn_v.weight", 16, T.BF16), ("blk.0.attn_q.bias", 0, T.F32), ("output_norm.weight", 0, T.F16)):
        a = rng.standard_normal((rows, 32) if rows else 32).astype("f4")
        w.add_tensor(name, a.astype("f2") if kind == T.F16 else quants.quantize(a, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    copy_models(sys.argv[1])
    compact_logits(sys.argv[1])
    block_rows()
    seeds()
