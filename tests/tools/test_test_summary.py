"""tools/test_summary.py against small logs of meson."""
import json
import subprocess
import sys
from pathlib import Path

TEST_SUMMARY = Path(__file__).parents[2] / "tools/test_summary.py"


def program(name, result="OK", stdout="", stderr="", returncode=0):
    return {"name": name, "result": result, "stdout": stdout, "stderr": stderr, "returncode": returncode, "duration": 0.5}


def summarize(build, programs, *flags, reports=None):
    """The exit status, all lines and the last line for a log with these programs; reports: {name: junit xml}."""
    logs = build / "meson-logs"
    logs.mkdir(parents=True)
    (logs / "testlog.json").write_text("".join(json.dumps(entry) + "\n" for entry in programs))
    for name, text in (reports or {}).items():
        (logs / f"{name}.pytest.xml").write_text(text)
    result = subprocess.run([sys.executable, TEST_SUMMARY, *flags, build], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stdout.splitlines()[-1]


def test_the_tests_inside_a_program_are_counted(tmp_path):
    status, _, last = summarize(tmp_path, [program("a", stdout="1..2\nok 1 - x\nok 2 - y\n# ok - a\n"), program("b")])
    assert (status, last) == (0, "3 passed, 0 failed, 0 skipped")


def test_every_group_of_a_program_is_counted(tmp_path):
    _, _, last = summarize(tmp_path, [program("a", stdout="1..1\nok 1 - x\n# ok - a\n1..2\nok 1 - y\nok 2 - z\n# ok - b\n")])
    assert last == "3 passed, 0 failed, 0 skipped"


def test_cmockas_skip_is_no_failure_and_its_reason_is_shown(tmp_path):
    stdout = "1..2\nok 1 - x\n# no model here\nnot ok 2 # SKIP needs_the_model\n"
    status, text, last = summarize(tmp_path, [program("a", stdout=stdout)])
    assert (status, last) == (0, "1 passed, 0 failed, 1 skipped")
    assert "skipped: a: needs_the_model: no model here" in text


def test_a_failure_shows_the_output(tmp_path):
    stdout = "1..2\nok 1 - x\nnot ok 2 - y\n# 0x1 != 0x2\n"
    status, text, last = summarize(tmp_path, [program("a", "FAIL", stdout, "sanitizer says no", 1)])
    assert (status, last) == (1, "1 passed, 1 failed, 0 skipped")
    assert "failed: y" in text and "0x1 != 0x2" in text and "sanitizer says no" in text


def test_what_a_crash_kept_from_running_has_failed(tmp_path):
    _, _, last = summarize(tmp_path, [program("a", "FAIL", "1..4\nok 1 - x\n", returncode=-11)])
    assert last == "1 passed, 3 failed, 0 skipped"


def test_a_leak_after_the_last_test_is_a_failure(tmp_path):
    status, _, last = summarize(tmp_path, [program("a", "FAIL", "1..1\nok 1 - x\n", "LeakSanitizer", 1)])
    assert (status, last) == (1, "1 passed, 1 failed, 0 skipped")


def test_a_timeout_of_a_plain_program_is_a_failure(tmp_path):
    assert summarize(tmp_path, [program("a", "TIMEOUT")])[2] == "0 passed, 1 failed, 0 skipped"


def test_pytest_reports_are_counted(tmp_path):
    report = """<testsuites><testsuite><testcase name="x"/><testcase name="y"><failure message="boom">no</failure></testcase>
        <testcase name="z"><skipped message="no curl"/></testcase></testsuite></testsuites>"""
    status, text, last = summarize(tmp_path, [program("server", "FAIL", returncode=1)], reports={"server": report})
    assert (status, last) == (1, "1 passed, 1 failed, 1 skipped")
    assert "failed: y (boom)" in text and "skipped: server: z: no curl" in text


def test_no_tests_at_all_is_a_failure(tmp_path):
    assert summarize(tmp_path, [])[::2] == (1, "0 passed, 1 failed, 0 skipped")


def test_a_failed_step_is_a_failure_even_when_all_tests_passed(tmp_path):
    assert summarize(tmp_path, [program("a")], "--failed-step")[::2] == (1, "1 passed, 1 failed, 0 skipped")


def test_several_builds_are_counted_together_and_none_may_be_missing(tmp_path):
    summarize(tmp_path / "a", [program("a", stdout="1..2\nok 1 - x\nok 2 - y\n")])
    summarize(tmp_path / "b", [program("b", "FAIL", "The input that did it: b-crash", returncode=77)])

    def last_line(*builds):
        result = subprocess.run([sys.executable, TEST_SUMMARY, *builds], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout.splitlines()[-1]

    assert last_line(tmp_path / "a", tmp_path / "b") == (1, "2 passed, 1 failed, 0 skipped")
    assert last_line(tmp_path / "a", tmp_path / "c") == (1, "2 passed, 1 failed, 0 skipped")
