#!/usr/bin/env python3
"""Counts the tests of the last `meson test`: tools/test_summary.py [--failed-step] [BUILD_FOLDER...].

Meson counts programs and hides what they print; this counts the tests inside them. It reads build/meson-logs: testlog.json has each
program's output (cmocka's lines in TAP form), and a pytest program leaves its results beside it in NAME.pytest.xml. It prints the
output of what failed and the reason of what was skipped, and last one line, `N passed, N failed, N skipped`. Exits 1 when something
failed or nothing ran. --failed-step: something besides the tests failed; it counts as one failure when no test did.
"""
import argparse
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

TAP_PLAN = re.compile(r"1\.\.(\d+)\s*$")
TAP_RESULT = re.compile(r"(not )?ok\s+\d+\b\s*-?\s*(.*)$")
LINES_SHOWN = 80  # of the output of a failed program


@dataclass
class Result:
    name: str
    outcome: str  # "passed", "failed" or "skipped"
    note: str = ""  # why it was skipped, or how it failed


def tap_results(stdout, program_failed):
    """Results of a program that printed TAP; empty when it did not. A skipped test's reason is what it printed before its line."""
    results, planned, printed = [], 0, []
    for line in stdout.splitlines():
        plan, result = TAP_PLAN.match(line), TAP_RESULT.match(line)
        if plan:
            planned += int(plan.group(1))  # one plan for each group of tests in the program
        elif result:
            name = result.group(2)
            # cmocka writes `not ok 2 # SKIP name`, others `ok 2 - name # SKIP reason`.
            name, skip, rest = name.partition("# SKIP")
            if skip:
                name, reason = (name.strip(" -"), rest.strip()) if name.strip(" -") else (rest.strip(), " ".join(printed))
                results.append(Result(name, "skipped", reason))
            else:
                results.append(Result(name, "failed" if result.group(1) else "passed"))
            printed = []
        else:
            printed.append(line.strip("# "))
    if not planned:
        return []
    for number in range(len(results), planned):
        results.append(Result(f"test {number + 1}", "failed", "the program ended before it"))
    if program_failed and not any(result.outcome == "failed" for result in results):
        results.append(Result("the program as a whole", "failed"))
    return results


def pytest_results(path, program_failed):
    results = []
    for case in ElementTree.parse(path).iter("testcase"):
        outcome, note = "passed", ""
        for element in case:
            if element.tag in ("failure", "error"):
                outcome, note = "failed", element.get("message", "")
            elif element.tag == "skipped":
                outcome, note = "skipped", element.get("message", "")
        results.append(Result(case.get("name", "?"), outcome, note.splitlines()[0] if note else ""))
    if program_failed and not any(result.outcome == "failed" for result in results):
        results.append(Result("pytest as a whole", "failed"))
    return results


def program_results(program, logs):
    """Results of one line of testlog.json."""
    outcome = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}.get(program["result"], "failed")
    stdout = program.get("stdout") or ""
    report = logs / f"{program['name']}.pytest.xml"
    results = pytest_results(report, outcome == "failed") if report.is_file() else tap_results(stdout, outcome == "failed")
    if results:
        return results
    lines = stdout.strip().splitlines()
    return [Result(program["name"], outcome, lines[-1] if outcome == "skipped" and lines else "")]


def print_failure(program, failed):
    print(f"\n--- {program['name']}: {program['result'].lower()}, exit status {program.get('returncode')}, after {program['duration']:.1f} s")
    for result in failed:
        print(f"    failed: {result.name}" + (f" ({result.note})" if result.note else ""))
    output = (program.get("stdout") or "") + (program.get("stderr") or "")
    for line in output.rstrip().splitlines()[-LINES_SHOWN:]:
        print(f"    | {line}")


def main():
    parser = argparse.ArgumentParser(description="Counts the tests of the last meson test.")
    parser.add_argument("--failed-step", action="store_true", help="something besides the tests failed")
    parser.add_argument("builds", nargs="*", type=Path, default=[Path("build")])
    arguments = parser.parse_args()

    counts = {"passed": 0, "failed": 0, "skipped": 0}
    skipped = []
    incomplete = arguments.failed_step
    for build in arguments.builds:
        logs = build / "meson-logs"
        log = logs / "testlog.json"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        if not lines:
            print(f"no test ran ({log} is missing or empty)")
            incomplete = True
        for program in map(json.loads, lines):
            results = program_results(program, logs)
            for result in results:
                counts[result.outcome] += 1
                if result.outcome == "skipped":
                    skipped.append(f"    skipped: {program['name']}: {result.name}" + (f": {result.note}" if result.note else ""))
            failed = [result for result in results if result.outcome == "failed"]
            if failed:
                print_failure(program, failed)
    if skipped:
        print("\n" + "\n".join(skipped))
    if incomplete and not counts["failed"]:
        counts["failed"] = 1
    print(f"\n{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
