"""What the tests share: Octavo's program, a process of INC, and a small random Llama whose tokens are bytes."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = os.environ.get("OCTAVO_PROGRAM", str(ROOT / "build" / "octavo"))
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256, "max_position_embeddings": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16",
          "bos_token_id": 0, "eos_token_id": 1}
TEXT = "The quick brown fox jumps over the lazy dog. What one writes, the other reads: 0123456789 (and once more) 9876543210!"


def run(*command, **env):
    clean = {key: value for key, value in os.environ.items() if key not in ("QUANT_CONFIG", "INC_TARGET_DEVICE", "WORLD_SIZE", "LOCAL_RANK")}
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=clean | env, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def octavo(*args, **env):
    return run(PROGRAM, *args, **env)


def run_inc(target, model, *configs):
    return run(sys.executable, HERE / "run_inc.py", target, model, *configs, CUDA_VISIBLE_DEVICES="", CALC_SCALE_WITH_CGUID="0")


def nodes(path):
    """{module: {"inputs", "outputs", "params"}} of a measurement or of scales: an NPZ as numpy reads it, or a JSON."""
    root = json.loads(path.read_text()) if path.suffix == ".json" else numpy.load(path, allow_pickle=True)["arr_0"].item()
    return root["Nodes"]


def plain(value):
    """Arrays as (dtype, shape, numbers), so that nothing about them goes unseen."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return (value.dtype.str, value.shape, value.tolist()) if isinstance(value, numpy.ndarray) else value


def byte_tokenizer():
    """A tokenizer.json whose ids are the bytes of a text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": byte_level, "pre_tokenizer": byte_level,
            "model": {"type": "BPE", "vocab": {symbols[byte]: byte for byte in range(256)}, "merges": []}}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a bf16 checkpoint. One row of it is zero, and one far above the rest: what scales by channel are for."""
    folder = tmp_path_factory.mktemp("reference") / "llama"
    folder.mkdir()
    generator = torch.Generator().manual_seed(3)
    random = lambda *shape: torch.randn(*shape, generator=generator).to(torch.bfloat16)  # noqa: E731
    tensors = {"model.embed_tokens.weight": random(256, 64), "lm_head.weight": random(256, 64) * 0.3,
               "model.norm.weight": 1 + random(64) * 0.3}
    for i in range(CONFIG["num_hidden_layers"]):
        for name, shape in {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64), "self_attn.o_proj": (64, 64),
                            "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96)}.items():
            tensors[f"model.layers.{i}.{name}.weight"] = random(*shape) * 0.25
        for name in ["input_layernorm", "post_attention_layernorm"]:
            tensors[f"model.layers.{i}.{name}.weight"] = 1 + random(64) * 0.3
    tensors["model.layers.1.mlp.down_proj.weight"][3] *= 20
    tensors["model.layers.0.self_attn.o_proj.weight"][7] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "text.txt").write_text(TEXT)
    return folder


def total_nll(model, *flags, **env):
    """Of the model over its text: every logit is in it, so that two equal ones mean equal logits."""
    report = octavo("eval", model, "--json", "--text", model / "text.txt", *flags, **env)
    return json.loads(report.stdout)["total_nll"], report.stderr
