"""tests/fuzz/run.sh with a stand-in for a libFuzzer program."""
import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "fuzz/run.sh"


@pytest.fixture
def run(tmp_path):
    """Runs the script over the seeds of `encode`; the program is the given script."""
    program = tmp_path / "fuzz_encode"

    def run(script, share=1):
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        environment = {**os.environ, "FUZZ_SECONDS": "90"}
        return subprocess.run([RUN, program, "encode", str(share)], capture_output=True, text=True, env=environment, check=False)

    return run


def test_a_crash_is_a_failure_that_names_the_input_and_how_to_see_it_again(run, tmp_path):
    result = run('echo "SUMMARY: bad" >&2\necho "artifact; Test unit written to /somewhere/encode-crash-1" >&2\nexit 77\n')
    assert result.returncode == 1 and "SUMMARY: bad" in result.stdout
    assert "The input that did it: /somewhere/encode-crash-1" in result.stdout
    assert f"To see it again: {tmp_path}/fuzz_encode /somewhere/encode-crash-1" in result.stdout


def test_a_quiet_run_ends_well_with_its_own_count(run):
    result = run('echo "noise" >&2\necho "Done 5 runs in 1 second(s)" >&2\n')
    assert (result.returncode, result.stdout) == (0, "Done 5 runs in 1 second(s)\n")


def test_the_program_gets_its_share_of_the_time_the_dictionary_and_the_seeds(run):
    arguments = run('echo "$@"\nexit 1\n', share=3).stdout
    assert "-max_total_time=30 " in arguments and "dictionaries/encode.dict" in arguments and "seeds/encode" in arguments
