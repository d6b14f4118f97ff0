"""Files between Octavo and Intel Neural Compressor's own package, unmodified: what one writes the other reads, and makes the same of it.

INC on a CPU converts plain linear modules only, so the model here is those of the checkpoint under their names in vLLM. INC_TARGET_DEVICE=cpu
gives Octavo the arithmetic that INC has on a host. Run by `make test-reference`, which installs INC.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("OCTAVO_PROGRAM", str(ROOT / "build" / "octavo"))
MODEL = ROOT / "tests" / "golden" / "model" / "models" / "llama3_gqa"
METHODS = ["MAXABS_HW", "MAXABS_POW2", "MAXABS_ARBITRARY", "ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2", "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2"]
STACKED = {"self_attn.qkv_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "self_attn.o_proj": ["self_attn.o_proj"],
           "mlp.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"], "mlp.down_proj": ["mlp.down_proj"]}

# What runs in INC's process: it reads a configuration and measurement files, converts the model and leaves its scale files beside them.
CONVERT = """
import json, sys
import torch
from safetensors.torch import load_file
from neural_compressor.torch.quantization import FP8Config, convert
model_dir, config, stacked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tensors = load_file(model_dir + "/model.safetensors")
root = torch.nn.Module()
def place(name, weight):
    module = root
    *path, last = name.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, torch.nn.Module())
        module = getattr(module, part)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = torch.nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
    module.add_module(last, linear)
layers = json.load(open(model_dir + "/config.json"))["num_hidden_layers"]
for i in range(layers):
    for name, parts in stacked.items():
        place(f"model.layers.{i}.{name}", torch.cat([tensors[f"model.layers.{i}.{part}.weight"] for part in parts]))
place("lm_head", tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"]))
convert(root.eval(), FP8Config.from_json_file(config))
"""


def octavo(*args, **env):
    clean = {k: v for k, v in os.environ.items() if k != "QUANT_CONFIG"}
    result = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, env=clean | env, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def run(model, config):
    """Loading is what writes scale files."""
    return octavo("generate", model, "--prompt", "one", "--max-tokens", 1, "--kv-cache-dtype", "fp8_inc", "--quant-config", config,
                  INC_TARGET_DEVICE="cpu")


def convert_with_inc(model, config):
    result = subprocess.run([sys.executable, "-c", CONVERT, str(model), str(config), json.dumps(STACKED)], capture_output=True, text=True,
                            env=os.environ | {"WORLD_SIZE": "1", "LOCAL_RANK": "0", "INC_TARGET_DEVICE": "cpu"})
    assert result.returncode == 0, result.stderr[-3000:]


def nodes(path):
    return np.load(path, allow_pickle=True)["arr_0"].item()["Nodes"]


def plain(value):
    """Arrays, lists and tuples as nested lists, to compare what numpy 1 and numpy 2 pickle differently."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A model folder with a tokenizer of bytes, and what Octavo measured of it."""
    folder = tmp_path_factory.mktemp("inc")
    model = folder / "model"
    model.mkdir()
    for name in ["config.json", "model.safetensors"]:
        shutil.copy(MODEL / name, model / name)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    characters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    (model / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {characters[b]: b for b in range(256)}, "merges": []}}))
    prompts = folder / "prompts.txt"
    prompts.write_text("The quick brown fox jumps over the lazy dog.\nWhat one writes the other reads.\n")
    octavo("calibrate", model, "--output", folder / "out", "--dataset", prompts)
    return model, folder / "out" / "model" / "g3"


def config_in(folder, method):
    path = folder / "config.json"
    path.write_text(json.dumps({"mode": "QUANTIZE", "observer": "maxabs", "scale_method": method, "use_qdq": True,
                                "ignore_modules_wo_measures": True, "device_for_scales": "GAUDI3",
                                "dump_stats_path": str(folder / "inc_output")}))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_inc_makes_the_same_scales_of_octavos_measurement(measured, tmp_path, method):
    model, files = measured
    pytest.importorskip("neural_compressor")
    for owner in ["inc", "octavo"]:
        (tmp_path / owner).mkdir()
        for name in files.glob("inc_output_hooks_maxabs_0_1.*"):
            shutil.copy(name, tmp_path / owner)
    convert_with_inc(model, config_in(tmp_path / "inc", method))
    run(model, config_in(tmp_path / "octavo", method))
    name = f"inc_output_hooks_maxabs_{method}_0_1.npz"
    theirs, ours = nodes(tmp_path / "inc" / name), nodes(tmp_path / "octavo" / name)
    layers = json.loads((model / "config.json").read_text())["num_hidden_layers"]
    assert len(theirs) == 4 * layers + 1
    for module, node in theirs.items():
        # Classes that only a Gaudi has (a row-parallel linear) scale their output by its range; a plain linear by the product.
        row_parallel = module.endswith(("o_proj", "down_proj"))
        for field in ["inputs", "params"] + ([] if row_parallel else ["outputs"]):
            assert plain(ours[module][field]) == plain(node[field]), (module, field)


@pytest.mark.parametrize("method", METHODS)
def test_octavo_keeps_the_scales_that_inc_wrote(measured, tmp_path, method):
    model, files = measured
    pytest.importorskip("neural_compressor")
    for name in files.glob("inc_output_hooks_maxabs_0_1.*"):
        shutil.copy(name, tmp_path)
    config = config_in(tmp_path, method)
    convert_with_inc(model, config)
    path = tmp_path / f"inc_output_hooks_maxabs_{method}_0_1.npz"
    theirs = nodes(path)
    result = run(model, config)
    assert "are not those that the measurement gives" not in result.stderr
    kept = nodes(path)
    assert len(kept) > len(theirs), "the modules of attention are added"
    for module, node in theirs.items():
        assert plain(kept[module]) == plain(node), module
    again = path.read_bytes()
    run(model, config)
    assert path.read_bytes() == again
