#!/usr/bin/env python3
"""Packs the default model's reference answers (JSON, made by Hugging Face transformers in float32; see README.md) into safetensors.

make_smollm2.py smollm2_fp32.json smollm2_fp32.safetensors
"""
import json, struct, sys

prompts = json.load(open(sys.argv[1]))["prompts"]
header, data = {}, b""


def add(name, dtype, shape, values):
    global data
    packed = struct.pack("<%d%s" % (len(values), "i" if dtype == "I32" else "f"), *values)
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
    data += packed


for p in prompts:
    n = len(p["ids"])
    add(p["name"] + ".ids", "I32", [n], p["ids"])
    add(p["name"] + ".top_ids", "I32", [n, 20], [i for row in p["top"]["ids"] for i in row])
    add(p["name"] + ".top_logprobs", "F32", [n, 20], [x for row in p["top"]["logprobs"] for x in row])
    add(p["name"] + ".greedy", "I32", [48], p["greedy"]["ids"])
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + data)
