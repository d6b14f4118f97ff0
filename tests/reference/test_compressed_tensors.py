"""What `octavo quantize` writes, read by the libraries that define the format: compressed-tensors, and transformers with it.

vLLM is not installed for this: it loads such a folder as `vllm serve DIR` (docs/fp8.md says which version was seen to). Run by
`make test-reference`.
"""
import json
from pathlib import Path

import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig
from conftest import ROOT, octavo, total_nll
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

MODELS = ROOT / "tests" / "golden" / "model" / "models"
WINDOW, WINDOWS = 64, 20


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
    report = json.loads(octavo("eval", tmp_path / "out", "--json", "--window", WINDOW, "--windows", WINDOWS).stdout)
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


def test_what_codes_and_scales_stand_for_is_the_model_that_runs(model, tmp_path):
    octavo("quantize", model, "--output", tmp_path / "out", "--scheme", "fp8_weights")
    found, config = load_file(tmp_path / "out" / "model.safetensors"), json.loads((model / "config.json").read_text())
    llama = LlamaForCausalLM(LlamaConfig(**config)).double()
    llama.load_state_dict({name: tensor.double() * (found[name + "_scale"].double() if name + "_scale" in found else 1)
                           for name, tensor in found.items() if not name.endswith("_scale")})
    for name, module in llama.named_modules():
        if name + ".weight_scale" in found:  # what meets FP8 weights is bf16
            module.register_forward_pre_hook(lambda _, args: (args[0].to(torch.bfloat16).double(),))
    text = (model / "text.txt").read_bytes()
    ids = torch.tensor([list(text)])
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(llama(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
    (tmp_path / "out" / "text.txt").write_bytes(text)
    ours, _ = total_nll(tmp_path / "out", "--dtype", "float32")
    # Octavo sums in float32, here it is float64: 1e-8 apart. Without the rounding to bf16 it is 2e-4, and with sums in float32 here 3e-5.
    assert abs(nll / ours - 1) < 1e-6
