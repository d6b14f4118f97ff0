"""tools/check_layers.py against small trees with one #include each."""
import subprocess
import sys
from pathlib import Path

import pytest

CHECK_LAYERS = Path(__file__).parents[2] / "tools/check_layers.py"


def check(root, files):
    """Writes the files {path: text} under root and returns the finished check."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return subprocess.run([sys.executable, CHECK_LAYERS, root], capture_output=True, text=True, check=False)


def include(source, target, spelled):
    return {source: f'// a file\n#include "{spelled}"\n#include <stdio.h>\n', target: "#pragma once\n"}


@pytest.mark.parametrize(
    "source, target",
    [
        ("src/base/json.c", "src/model/config.h"),
        ("src/quant/plan.h", "src/model/config.h"),
        ("src/engine/engine.h", "src/api/prompt.h"),
        ("src/server/route.c", "src/engine/engine.h"),  # below, but only octavo.h is for the server
        ("src/text/chat.c", "src/numeric/fp8.h"),  # below, but text sees only base
        ("src/comm/local.c", "src/numeric/bf16.h"),
        ("src/model/llama.c", "src/device/cpu/threads.h"),  # the model sees only device.h
        ("src/device/device.h", "src/device/cpu/pack.h"),
        ("src/api/engine.c", "src/server/route.h"),
        ("src/server/route.c", "src/cli/options.h"),
    ],
)
def test_an_include_against_the_layers_is_named_with_its_line(tmp_path, source, target):
    result = check(tmp_path, include(source, target, target.removeprefix("src/")))
    assert result.returncode == 1
    assert result.stdout.startswith(f"{source}:2: ")


@pytest.mark.parametrize(
    "source, target",
    [
        ("src/model/llama.c", "src/quant/plan.h"),
        ("src/text/chat.c", "src/base/buffer.h"),
        ("src/device/cpu/scalar.c", "src/device/device.h"),
        ("src/device/cpu.c", "src/device/cpu/pack.h"),
        ("src/cli/serve.c", "src/server/server.h"),
        ("src/engine/engine.c", "src/engine/engine.h"),
    ],
)
def test_an_include_downward_is_fine(tmp_path, source, target):
    result = check(tmp_path, include(source, target, target.removeprefix("src/")))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("spelled", ["octavo.h", "../../include/octavo.h"])
def test_the_public_header_lies_above_the_engine_however_it_is_spelled(tmp_path, spelled):
    assert check(tmp_path, include("src/engine/engine.c", "include/octavo.h", spelled)).returncode == 1
    assert check(tmp_path / "server", include("src/server/route.c", "include/octavo.h", spelled)).returncode == 0


def test_a_file_in_an_unknown_folder_is_an_error(tmp_path):
    assert check(tmp_path, {"src/utils/misc.c": ""}).returncode == 1


def test_a_tree_without_files_is_an_error(tmp_path):
    assert check(tmp_path, {}).returncode == 1
