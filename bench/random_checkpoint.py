"""Writes a bf16 checkpoint of a well-known shape with random weights: `random_checkpoint.py 135m|1b|8b OUT [SEED]`. OUT is a folder
(config.json and model.safetensors, as Hugging Face stores a model) or, if it ends in .gguf, a GGUF file without a vocabulary; the same
seed gives the same weights in both, so that programs that read either can be compared. Speed depends on shapes, and needs no download."""

import json
import os
import struct
import sys

import numpy

SHAPES = {  # those of `octavo bench --shape`
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
                 vocab_size=49152, tie_word_embeddings=True),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
               vocab_size=128256, tie_word_embeddings=True),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
               vocab_size=128256, tie_word_embeddings=False),
}
CONTEXT, EPSILON, THETA = 131072, 1e-5, 500000.0
AT_ONCE = 1 << 22  # weights made and written at a time
GGUF_NAMES = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm", "input_layernorm": "attn_norm",
              "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down"}
F32, BF16 = 0, 30  # tensor types of GGUF
UINT32, FLOAT32, STRING = 4, 6, 8


def tensors(shape):
    """(name, rows, columns), columns 0 for a vector."""
    hidden, intermediate = shape["hidden_size"], shape["intermediate_size"]
    q, kv = (shape[key] * shape["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    yield "model.embed_tokens", shape["vocab_size"], hidden
    if not shape["tie_word_embeddings"]:
        yield "lm_head", shape["vocab_size"], hidden
    for layer in range(shape["num_hidden_layers"]):
        for name, rows, columns in (("input_layernorm", hidden, 0), ("self_attn.q_proj", q, hidden), ("self_attn.k_proj", kv, hidden),
                                    ("self_attn.v_proj", kv, hidden), ("self_attn.o_proj", hidden, q),
                                    ("post_attention_layernorm", hidden, 0), ("mlp.gate_proj", intermediate, hidden),
                                    ("mlp.up_proj", intermediate, hidden), ("mlp.down_proj", hidden, intermediate)):
            yield f"model.layers.{layer}.{name}", rows, columns
    yield "model.norm", hidden, 0


def weights(seed, index, rows, columns):
    """Pieces of a matrix, whole rows of bf16 bits: a random sign and mantissa, and one of the exponents of 2^-6 to 2^-9. The numbers of
    four weights come from one of the generator's."""
    generator = numpy.random.SFC64([seed, index])
    at_once = max(1, AT_ONCE // columns)
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        words = generator.random_raw(count * columns // 4)
        words &= numpy.uint64(0x81FF81FF81FF81FF)
        words += numpy.uint64(0x3B003B003B003B00)
        yield words.view("<u2").reshape(count, columns)


def write_folder(shape, seed, folder):
    os.makedirs(folder, exist_ok=True)
    config = dict(shape, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", attention_bias=False, mlp_bias=False,
                  max_position_embeddings=CONTEXT, rms_norm_eps=EPSILON, rope_theta=THETA, rope_scaling=None, torch_dtype="bfloat16",
                  bos_token_id=0, eos_token_id=1)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, rows, columns in tensors(shape):
        size = 2 * rows * max(columns, 1)
        header[name + ".weight"] = {"dtype": "BF16", "shape": [rows, columns][:2 if columns else 1], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for index, (_, rows, columns) in enumerate(tensors(shape)):
            pieces = weights(seed, index, rows, columns) if columns else [numpy.full(rows, 0x3F80, "<u2")]
            for piece in pieces:
                file.write(piece)


def gguf_name(name):
    layers, _, rest = name.partition("model.layers.")[2].partition(".")
    return f"blk.{layers}.{GGUF_NAMES[rest]}.weight" if rest else GGUF_NAMES[name] + ".weight"


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_keys(shape):
    numbers = {"context_length": CONTEXT, "embedding_length": shape["hidden_size"], "block_count": shape["num_hidden_layers"],
               "feed_forward_length": shape["intermediate_size"], "attention.head_count": shape["num_attention_heads"],
               "attention.head_count_kv": shape["num_key_value_heads"], "attention.key_length": shape["head_dim"],
               "attention.value_length": shape["head_dim"], "rope.dimension_count": shape["head_dim"], "vocab_size": shape["vocab_size"]}
    keys = [("general.architecture", STRING, gguf_string("llama")), ("general.name", STRING, gguf_string("random weights")),
            ("general.file_type", UINT32, struct.pack("<I", 32)), ("tokenizer.ggml.model", STRING, gguf_string("no_vocab")),
            ("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", EPSILON)),
            ("llama.rope.freq_base", FLOAT32, struct.pack("<f", THETA))]
    keys += [("llama." + name, UINT32, struct.pack("<I", number)) for name, number in numbers.items()]
    return len(keys), b"".join(gguf_string(name) + struct.pack("<I", kind) + value for name, kind, value in keys)


def interleaved(piece, head_dim):
    """Rows of whole heads in the order that rotates neighbours, which GGUF's Q and K have: row 2 j + h was row h d / 2 + j."""
    heads = piece.reshape(-1, 2, head_dim // 2, piece.shape[1])
    return numpy.ascontiguousarray(heads.swapaxes(1, 2)).reshape(piece.shape)


def write_gguf(shape, seed, path):
    infos, at = b"", 0
    for name, rows, columns in tensors(shape):
        dims, kind = ([columns, rows], BF16) if columns else ([rows], F32)
        infos += gguf_string(gguf_name(name)) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, at)
        at += (2 * columns or 4) * rows  # every tensor here is a multiple of the alignment, 32 bytes
    num_keys, keys = gguf_keys(shape)
    top = b"GGUF" + struct.pack("<IQQ", 3, len(list(tensors(shape))), num_keys) + keys + infos
    with open(path, "wb") as file:
        file.write(top + b"\0" * (-len(top) % 32))
        for index, (name, rows, columns) in enumerate(tensors(shape)):
            for piece in weights(seed, index, rows, columns) if columns else [numpy.ones(rows, "<f4")]:
                rotated = name.endswith(("q_proj", "k_proj"))
                file.write(interleaved(piece, shape["head_dim"]) if rotated else piece)


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4 or sys.argv[1] not in SHAPES:
        raise SystemExit("usage: random_checkpoint.py 135m|1b|8b OUT [SEED]")
    write = write_gguf if sys.argv[2].endswith(".gguf") else write_folder
    write(SHAPES[sys.argv[1]], int(sys.argv[3]) if len(sys.argv) > 3 else 0, sys.argv[2])
