"""What `octavo quantize` writes, read by the libraries that define the format: compressed-tensors, and transformers with it.

vLLM is not installed for this: it loads such a folder as `vllm serve DIR` (docs/fp8.md says which version was seen to). Run by
`make test-reference`.
"""
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("OCTAVO_PROGRAM", str(ROOT / "build" / "octavo"))
MODELS = ROOT / "tests" / "golden" / "model" / "models"
WINDOW, WINDOWS = 64, 20


def octavo(*args):
    env = {k: v for k, v in os.environ.items() if k != "QUANT_CONFIG"}
    return subprocess.run([PROGRAM, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def test_scales_and_codes_are_those_of_torch(tmp_path):
    octavo("quantize", MODELS / "llama3_gqa", "--output", tmp_path / "out")
    original, found = load_file(MODELS / "llama3_gqa" / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    codes = different = 0
    for name, weight in original.items():
        if not name.endswith("_proj.weight"):
            assert torch.equal(found[name], weight), name
            continue
        scale = (weight.float().abs().amax(1, keepdim=True) / 448).to(torch.bfloat16)
        assert torch.equal(found[name + "_scale"], scale), name
        # By division, as torch does it. Octavo multiplies by the inverse: a quotient that is halfway between two codes may go the other way.
        expected = (weight.float() / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
        codes += weight.numel()
        different += int((found[name].view(torch.uint8) != expected.view(torch.uint8)).sum())
    assert codes and different <= codes / 1000


@pytest.mark.parametrize("scheme", ["fp8_dynamic", "fp8_weights"])
def test_transformers_computes_what_octavo_does(scheme, tmp_path):
    octavo("quantize", MODELS / "tiny_gguf" / "model.gguf", "--output", tmp_path / "out", "--scheme", scheme)
    config = QuantizationConfig.model_validate(json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"])
    assert config.format == "float-quantized" and config.quantization_status == "compressed"
    report = json.loads(octavo("eval", tmp_path / "out", "--json", "--window", WINDOW, "--windows", WINDOWS))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    ids = tokenizer(Path(report["text"]).read_text(), return_tensors="pt", add_special_tokens=False).input_ids[0]
    windows = ids[:WINDOW * WINDOWS].reshape(WINDOWS, WINDOW)
    with torch.no_grad():
        logits = model(windows).logits.float()
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).item()
    assert report["scored_tokens"] == WINDOWS * (WINDOW - 1)
    # transformers keeps bf16 between modules, Octavo float32.
    assert abs(nll / report["mean_nll"] - 1) < 0.01
