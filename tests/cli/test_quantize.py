"""`octavo quantize`: what it writes is what vLLM's configuration says, and runs as the model did that it was made from."""
import json
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy
import pytest

from test_cli import GOLDEN, PROGRAM, REFERENCE, TINY, environment, fails, octavo, succeeds

MODELS = GOLDEN / "model" / "models"
# The configuration of the checkpoint that vLLM loaded and served (golden/vllm/fp8_checkpoints.txt of the reference data).
SERVED_BY_VLLM = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
    "kv_cache_scheme": None, "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False, "observer": "minmax"},
        "input_activations": {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True, "observer": None}}}}
LINEARS = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}


def tensors(folder):
    """{name: (dtype, shape, bytes)} of model.safetensors, read by a few lines of its own."""
    data = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    assert (8 + length) % 8 == 0, "tensors begin at a multiple of 8"
    assert header.pop("__metadata__") == {"format": "pt"}
    return {name: (t["dtype"], t["shape"], data[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]])
            for name, t in header.items()}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def bf16(data):
    return (numpy.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def e4m3(data):
    codes = numpy.frombuffer(data, "u1").astype(int)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    value = numpy.where(exponent, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    assert not ((codes & 127) == 127).any(), "NaN"
    return numpy.where(codes & 128, -value, value)


def nll(model, *flags, env=None):
    report = json.loads(succeeds("eval", model, "--json", "--window", 64, "--windows", 20, *flags, env=env).stdout)
    return report["total_nll"], report["scored_tokens"]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    out = tmp_path_factory.mktemp("quantized") / "model"
    succeeds("quantize", TINY, "--output", out)
    return out


@pytest.fixture(scope="module")
def quant_config(tmp_path_factory):
    out = tmp_path_factory.mktemp("calibrated")
    (out / "prompts.txt").write_text("one two three\nfour five six seven\n")
    succeeds("calibrate", TINY, "--output", out, "--dataset", out / "prompts.txt")
    path = next(out.glob("*/maxabs_quant_g3.json"))
    config = json.loads(path.read_text())
    config["blocklist"] = {"types": ["Matmul", "Softmax"], "names": ["lm_head"]}  # what a checkpoint has no place for
    path.write_text(json.dumps(config))
    return path


def contains(found, expected, where="config"):
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{where}.{key}"
            contains(found[key], value, f"{where}.{key}")
    else:
        assert found == expected, where


def test_the_configuration_is_one_that_vllm_served(quantized):
    contains(config_of(quantized)["quantization_config"], SERVED_BY_VLLM)
    golden = REFERENCE / "vllm" / "fp8_checkpoints.txt"
    if golden.exists():
        served = re.search(r"^#+ ct_dynamic: (\{.*\})$", golden.read_text(errors="replace"), re.MULTILINE)
        assert {**json.loads(served.group(1)), **SERVED_BY_VLLM} == json.loads(served.group(1))


@pytest.mark.parametrize("model", ["llama3_gqa", "headdim_bias", "tied_mqa", "dtype_fp16", "mixed_norm_f32"])
def test_weights_are_their_code_times_the_scale_of_their_channel(model, tmp_path):
    succeeds("quantize", MODELS / model, "--output", tmp_path / "out")
    original, found = tensors_of_model(MODELS / model), tensors(tmp_path / "out")
    for name, (dtype, shape, data) in original.items():
        base = name.removesuffix(".weight")
        if not any(base.endswith(linear) for linear in LINEARS):
            assert found[name] == (dtype, shape, data), name  # nothing else is touched
            continue
        assert found[name][:2] == ("F8_E4M3", shape)
        scale_dtype, scale_shape, scale = found[f"{base}.weight_scale"]
        assert (scale_dtype, scale_shape) == ("BF16", [shape[0], 1])
        weights = {"BF16": bf16, "F16": lambda d: numpy.frombuffer(d, "<f2").astype("f4"), "F32": lambda d: numpy.frombuffer(d, "<f4")}[dtype](data)
        weights = weights.reshape(shape).astype("f8")
        scales = bf16(scale).astype("f8").reshape(shape[0], 1)
        codes = e4m3(found[name][2]).reshape(shape)
        # The maximum and the quotient are each rounded to bf16.
        assert (numpy.abs(scales - numpy.abs(weights).max(1, keepdims=True) / 448) <= scales / 128).all()
        # Half a step of E4M3 (2^-4 of a number, 2^-10 below 2^-6), and what bf16 lost of a float32 weight.
        assert (numpy.abs(codes * scales - weights) <= scales * numpy.maximum(numpy.abs(codes) * 2.0**-4, 2.0**-10) * 1.02 +
                numpy.abs(weights) / 256).all(), name
    assert set(found) == set(original) | {name + "_scale" for name, t in found.items() if t[0] == "F8_E4M3"}


def tensors_of_model(folder):
    data = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[8 + length + t["data_offsets"][0]:8 + length + t["data_offsets"][1]])
            for name, t in header.items() if name.endswith((".weight", ".bias"))}


def test_weights_alone_run_as_quantization_fp8(tmp_path):
    succeeds("quantize", TINY, "--output", tmp_path / "out", "--scheme", "fp8_weights")
    assert config_of(tmp_path / "out")["quantization_config"]["config_groups"]["group_0"]["input_activations"] is None
    assert nll(tmp_path / "out") == nll(TINY, "--quantization", "fp8") != nll(TINY)


@pytest.mark.parametrize("kv", ["auto", "fp8_inc"])
def test_static_activations_run_as_inc(kv, quant_config, tmp_path):
    succeeds("quantize", TINY, "--output", tmp_path / "out", "--quant-config", quant_config, "--kv-cache-dtype", kv)
    found, groups = tensors(tmp_path / "out"), config_of(tmp_path / "out")["quantization_config"]
    assert groups["config_groups"]["group_0"]["input_activations"]["strategy"] == "tensor"
    assert not groups["config_groups"]["group_0"]["input_activations"]["dynamic"]
    assert (groups["kv_cache_scheme"] is not None) == (kv == "fp8_inc")
    assert ("model.layers.0.self_attn.k_scale" in found) == (kv == "fp8_inc")
    assert found["model.layers.0.mlp.up_proj.input_scale"][:2] == ("BF16", [1])
    # No flag and no QUANT_CONFIG: the checkpoint says it all.
    assert nll(tmp_path / "out") == nll(TINY, "--quantization", "inc", "--quant-config", quant_config, "--kv-cache-dtype", kv) != nll(TINY)


def test_weights_by_channel_and_blocked_modules_are_said_in_the_configuration(quant_config, tmp_path):
    config = json.loads(quant_config.read_text())
    config["scale_method"] = "act_maxabs_pow2_weights_pcs_maxabs_pow2"
    config["blocklist"]["names"] = ["lm_head", "layers.0.self_attn.o_proj"]
    (quant_config.parent / "pcs.json").write_text(json.dumps(config))
    result = succeeds("quantize", TINY, "--output", tmp_path / "out", "--quant-config", quant_config.parent / "pcs.json")
    assert "bf16" not in result.stderr
    written = config_of(tmp_path / "out")["quantization_config"]
    assert written["ignore"] == ["lm_head", "model.layers.0.self_attn.o_proj"]
    assert written["config_groups"]["group_0"]["weights"]["strategy"] == "channel"
    assert nll(tmp_path / "out") == nll(TINY, "--quant-config", quant_config.parent / "pcs.json")


@pytest.mark.parametrize("change, dtype", [({"scale_method": "maxabs_arbitrary"}, "BF16"),
                                           ({"scale_method": "maxabs_arbitrary", "hp_dtype": "fp32"}, "F32"),
                                           ({"device_for_scales": "GAUDI2"}, "BF16")])
def test_other_scale_methods_run_nearly_as_inc(change, dtype, quant_config, tmp_path):
    path = quant_config.parent / "other.json"
    path.write_text(json.dumps({**json.loads(quant_config.read_text()), "recalc_scales": True, **change}))
    succeeds("quantize", TINY, "--output", tmp_path / "out", "--quant-config", path)
    assert tensors(tmp_path / "out")["model.layers.0.mlp.up_proj.weight_scale"][0] == dtype
    # INC rounds inverse scales to bf16 and, on a Gaudi 2, saturates activations at 240: the format has neither.
    assert abs(nll(tmp_path / "out")[0] / nll(TINY, "--quant-config", path)[0] - 1) < 2e-3


@pytest.mark.parametrize("change, message", [({"fp8_config": "E5M2", "recalc_scales": True}, "fp8_config E4M3 expected, E5M2 found"),
                                             ({"scale_method": "maxabs_pcs_pow2", "dynamic_quantization": True}, "static activations expected"),
                                             ({"mode": "MEASURE"}, "mode QUANTIZE expected")])
def test_what_the_format_cannot_hold_is_refused(change, message, quant_config, tmp_path):
    path = quant_config.parent / "refused.json"
    path.write_text(json.dumps({**json.loads(quant_config.read_text()), **change}))
    result = octavo("quantize", TINY, "--output", tmp_path / "out", "--quant-config", path)
    assert result.returncode in (1, 2) and message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_needs_no_flags_and_takes_its_own(quantized):
    plain = nll(quantized)
    assert plain == nll(quantized, "--quantization", "compressed-tensors")
    fails(2, 'quantization: "compressed-tensors", the checkpoint\'s own, or nothing expected, "fp8" found', "eval", quantized, "--quantization", "fp8")
    fails(2, 'quantization: "none", the checkpoint\'s own, or nothing expected', "eval", TINY, "--quantization", "compressed-tensors")
    fails(2, "an unquantized model expected, this one is FP8 (compressed-tensors)", "quantize", quantized, "--output", quantized.parent / "again")
    table = succeeds("inspect", quantized).stdout
    assert "compressed-tensors fp8 (per token activations)" in table and "E4M3, scaled by token" in table
    assert "E4M3 weights" in succeeds("inspect", TINY, "--quantization", "fp8").stdout
    # The reference of a comparison is the same weights, computed in bf16.
    report = json.loads(succeeds("eval", quantized, "--json", "--window", 64, "--windows", 5, "--against", "bf16").stdout)
    assert 0 < report["reference"]["mean_kl"] < 0.1


def test_the_tokenizer_goes_with_the_model(quantized):
    for text in ["Hello, world! 1234", "  two  spaces\n\nand lines", "caf\u00e9 \u4e2d\u6587"]:
        assert succeeds("tokenize", quantized, "--text", text, "--ids").stdout == succeeds("tokenize", TINY, "--text", text, "--ids").stdout


def test_tokenizer_files_of_a_folder_are_copied(quantized, tmp_path):
    source = tmp_path / "model"
    shutil.copytree(MODELS / "llama3_gqa", source)
    (source / "tokenizer.json").write_bytes((quantized / "tokenizer.json").read_bytes())
    (source / "chat_template.jinja").write_text("{{ messages }}")
    (source / "pytorch_model.bin").write_text("not copied")
    succeeds("quantize", source, "--output", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                                              "chat_template.jinja"}
    assert config_of(tmp_path / "out") == {**config_of(source), "quantization_config": config_of(tmp_path / "out")["quantization_config"]}


# --- the folder -----------------------------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_replaced_only_when_told(quantized, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    succeeds("quantize", TINY, "--output", out)  # empty: nothing is lost
    (out / "stale.safetensors").write_text("old")
    fails(2, "is there already; --overwrite replaces it", "quantize", TINY, "--output", out)
    assert (out / "stale.safetensors").exists()
    succeeds("quantize", TINY, "--output", f"{out}/", "--overwrite")
    assert {p.name for p in out.iterdir()} == {p.name for p in quantized.iterdir()}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_other_mistakes_are_refused(tmp_path, quant_config):
    fails(2, "--output DIR is missing", "quantize", TINY)
    fails(2, "another folder than the model's", "quantize", MODELS / "llama3_gqa", "--output", MODELS / "llama3_gqa", "--overwrite")
    fails(2, "octavo calibrate", "quantize", TINY, "--output", tmp_path / "out", "--scheme", "fp8")
    fails(2, "only --scheme fp8 needs it", "quantize", TINY, "--output", tmp_path / "out", "--scheme", "fp8_dynamic", "--quant-config", quant_config)
    fails(2, "only --scheme fp8 has scales of K and V", "quantize", TINY, "--output", tmp_path / "out", "--kv-cache-dtype", "fp8_inc")
    (tmp_path / "file").write_text("")
    fails(2, "is there already", "quantize", TINY, "--output", tmp_path / "file")
    fails(2, "a folder expected, a file found", "quantize", TINY, "--output", tmp_path / "file", "--overwrite")
    fails(1, "", "quantize", TINY, "--output", tmp_path / "file" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_folder_as_it_was(quantized, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(quantized, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    done = subprocess.run(["bash", "-c", 'trap "" XFSZ; ulimit -f 64; exec "$0" "$@"', PROGRAM, "quantize", TINY, "--output", out, "--overwrite"],
                          capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and "model.safetensors: cannot write: File too large" in done.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_killed_run_leaves_the_old_folder_as_it_was(quantized, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(quantized, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for delay in [0.005, 0.02, 0.05]:
        process = subprocess.Popen([PROGRAM, "quantize", TINY, "--output", out, "--overwrite"], stdout=subprocess.DEVNULL, env=environment())
        time.sleep(delay)
        process.kill()
        process.wait()
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before  # or the new one, which is the same
    nll(out)


# --- checkpoints of other tools -------------------------------------------------------------------------------------------------------


def rewrite(folder, to, quantization_config, rename):
    """The checkpoint with other tensors, those that rename(name, dtype, shape, data) yields, and another quantization_config."""
    shutil.copytree(folder, to)
    (to / "config.json").write_text(json.dumps({**config_of(folder), "quantization_config": quantization_config}))
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors(folder).items():
        for new, dtype, shape, content in rename(name, *tensor):
            header[new] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
            data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (to / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return to


@pytest.fixture(scope="module")
def static(quant_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("static") / "model"
    succeeds("quantize", TINY, "--output", out, "--quant-config", quant_config, "--kv-cache-dtype", "fp8_inc")
    return out


def inverse(data):
    return (1 / bf16(data)).astype("<f4").view("<u4").__rshift__(16).astype("<u2").tobytes()


def test_a_model_that_inc_saved_runs_as_the_same_in_compressed_tensors(static, tmp_path):
    def as_inc(name, dtype, shape, data):
        base = name.rsplit(".", 1)[0]
        if dtype == "F8_E4M3":
            yield name, dtype, shape[::-1], numpy.frombuffer(data, "u1").reshape(shape).T.tobytes()
        elif name.endswith(".weight_scale"):
            yield f"{base}.scale_weight", dtype, [], data
        elif name.endswith(".input_scale"):
            yield f"{base}.scale_input", dtype, [], data
            yield f"{base}.quant_input.scale_inv", dtype, [], inverse(data)
        elif name.endswith(("k_scale", "v_scale")):
            yield f"{base}.{name[-7]}_cache.dequant_output.scale", dtype, [], data
            yield f"{base}.{name[-7]}_cache.quant_input.scale_inv", dtype, [], inverse(data)
        else:
            yield name, dtype, shape, data
    config = {"fp8_config": "E4M3", "mode": "LOAD", "world_size": 0, "scale_method": "maxabs_hw", "dynamic_quantization": False}
    inc = rewrite(static, tmp_path / "inc", config, as_inc)
    assert nll(inc) == nll(inc, "--quantization", "inc") == nll(static)
    assert "inc fp8 (static activations), K and V in E4M3" in succeeds("inspect", inc).stdout


def test_static_fp8_runs_as_the_same_in_compressed_tensors(static, tmp_path):
    config = {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"], "kv_cache_scheme": "static"}
    fp8 = rewrite(static, tmp_path / "fp8", config, lambda *tensor: [tensor])
    assert nll(fp8) == nll(fp8, "--quantization", "fp8") == nll(static)


@pytest.mark.parametrize("columns", [32, 64])
def test_blocks_that_share_a_channels_scale_run_as_the_channel(columns, tmp_path):
    succeeds("quantize", TINY, "--output", tmp_path / "channels", "--scheme", "fp8_weights")
    inputs = {name: shape[1] for name, (_, shape, _) in tensors(tmp_path / "channels").items() if len(shape) == 2}

    def as_blocks(name, dtype, shape, data):
        if name.endswith(".weight_scale"):
            blocks = -(-inputs[name.removesuffix("_scale")] // columns)
            yield name, dtype, [shape[0], blocks], numpy.frombuffer(data, "<u2").repeat(blocks).tobytes()
        else:
            yield name, dtype, shape, data
    config = config_of(tmp_path / "channels")["quantization_config"]
    config["config_groups"]["group_0"]["weights"].update(strategy="block", block_structure=[1, columns])
    blocks = rewrite(tmp_path / "channels", tmp_path / "blocks", config, as_blocks)
    found, expected = nll(blocks)[0], nll(tmp_path / "channels")[0]
    assert abs(found / expected - 1) < 1e-4  # sums in another order
    # The same weights under the other name, with activations in FP8 by token and block.
    fp8 = rewrite(blocks, tmp_path / "fp8", {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [1, columns]},
                  lambda name, *rest: [(name.replace(".weight_scale", ".weight_scale_inv"), *rest)])
    assert 1e-6 < abs(nll(fp8)[0] / expected - 1) < 0.01


# --- damaged checkpoints --------------------------------------------------------------------------------------------------------------


def replaced(folder, to, name, data):
    """A copy of the checkpoint in which a tensor has other bytes."""
    shutil.copytree(folder, to)
    path = to / "model.safetensors"
    bytes_ = bytearray(path.read_bytes())
    length, = struct.unpack("<Q", bytes_[:8])
    begin, end = json.loads(bytes_[8:8 + length])[name]["data_offsets"]
    bytes_[8 + length + begin:8 + length + begin + len(data)] = data
    path.write_bytes(bytes_)
    return to


@pytest.mark.parametrize("bits, shown", [(0x7fc0, "nan"), (0, "0"), (0xbf80, "-1"), (0x7f80, "inf")])
def test_a_hostile_scale_is_an_error_that_names_it(quantized, tmp_path, bits, shown):
    name = "model.layers.0.mlp.up_proj.weight_scale"
    broken = replaced(quantized, tmp_path / "broken", name, struct.pack("<H", bits))
    fails(1, f"tensor {name}: positive, finite scales expected, {shown} found", "eval", broken, "--window", 64)


def test_a_weight_that_is_nan_is_an_error_that_names_the_module(quantized, tmp_path):
    broken = replaced(quantized, tmp_path / "broken", "model.layers.1.mlp.down_proj.weight", b"\x7f")
    fails(1, "model.layers.1.mlp.down_proj: finite weights expected, NaN or infinity found", "eval", broken, "--window", 64)


def test_fp8_without_a_configuration_is_an_error(quantized, tmp_path):
    shutil.copytree(quantized, tmp_path / "out")
    config = config_of(tmp_path / "out")
    kept = config.pop("quantization_config")
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    fails(1, "FP8, but config.json has no quantization_config", "eval", tmp_path / "out", "--window", 64)
    for change, message in [({"format": "pack-quantized"}, 'format: "float-quantized" (FP8) expected, "pack-quantized" found'),
                            ({"quant_method": "gptq"}, '"gptq" found')]:
        (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "quantization_config": {**kept, **change}}))
        fails(1, message, "eval", tmp_path / "out", "--window", 64)


# --- eval -----------------------------------------------------------------------------------------------------------------------------


def test_eval_shows_weight_only_fp8_beside_what_the_flags_ask_for(quant_config):
    flags = ["--window", 64, "--windows", 20, "--quant-config", quant_config, "--against", "bf16"]
    both = json.loads(succeeds("eval", TINY, "--json", *flags, "--with-fp8").stdout)
    inc = json.loads(succeeds("eval", TINY, "--json", *flags).stdout)
    fp8 = json.loads(succeeds("eval", TINY, "--json", "--window", 64, "--windows", 20, "--quantization", "fp8", "--against", "bf16").stdout)
    assert both["total_nll"] == inc["total_nll"] and both["reference"] == inc["reference"]
    assert both["fp8_weights"] == {**{k: fp8[k] for k in ["mean_nll", "perplexity"]},
                                   **{k: fp8["reference"][k] for k in ["mean_kl", "p99_kl", "max_kl", "same_top_token"]}}
    table = succeeds("eval", TINY, *flags, "--with-fp8").stdout
    assert re.search(r"^bf16 .*\ninc fp8 \(gaudi3 maxabs_hw\) .* %\nfp8 weights .* %$", table, re.MULTILINE)
    fails(2, "--with-fp8: --against bf16 or float32 expected beside it, none found", "eval", TINY, "--with-fp8")


def test_eval_has_no_other_way_to_run_what_is_fp8_already(quantized):
    fails(2, "--with-fp8: an unquantized model expected", "eval", quantized, "--with-fp8", "--against", "bf16", "--window", 64)
