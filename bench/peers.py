"""Octavo beside llama.cpp, on the same weights: a table of tokens a second.

    python bench/peers.py [--model FILE.gguf ...] [--shape 135m|1b|8b ...] [--rounds N] [--output docs/speed.md]

llama.cpp has Q8_0 and BF16 files, Octavo FP8 and bf16, all made from one set of weights: the default model's, and random ones in the shape
of Llama 3.2 1B. A round runs llama.cpp and Octavo in turn, because machines are shared and only what was measured side by side can be
compared; the table has medians and ranges of the rounds. `make bench-peers` installs llama.cpp and runs this."""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

import quality_data
import random_checkpoint
import requantize_gguf

ROOT = pathlib.Path(__file__).resolve().parent.parent
OCTAVO = ROOT / "build" / "octavo"
WORK = ROOT / "build" / "peers"
DEFAULT_MODEL = quality_data.cache() / "SmolLM2-135M-Instruct.Q4_1.gguf"
NAMES = {"135m": "random 135M", "1b": "random 1B", "8b": "random 8B"}
COLUMNS = ["llama.cpp Q8_0", "llama.cpp BF16", "Octavo FP8", "Octavo bf16"]
DTYPES = {"fp8": "Octavo FP8", "bf16": "Octavo bf16"}

PAGE = """# Octavo and llama.cpp

Tokens a second of the forward pass, {rounds} rounds of each program in turn: median (lowest to highest).

* {cpu}, {threads} threads; between the rounds the machine read {read:.0f} GB/s and multiplied {multiply:.0f} GFLOP/s in bf16 (medians)
* Octavo {octavo}, {isa}
* llama.cpp as in llama-cpp-python {llama_cpp}, built for this processor: {features}

    make bench-peers

{table}

How it is measured: both programs get the same weights, as GGUF files that `bench/requantize_gguf.py` writes from one another. FP8 is E4M3
weights, activations, K and V; llama.cpp's K and V are in 16 bits, its default, as are its flash attention and everything else. `prefill`
is one prompt, `decode` {gen} tokens for each of so many sequences, whose K and V hold `depth` tokens before. Only forward passes are timed,
after a warm-up, without sampling. Random weights have the shape of the model of that size: speed does not depend on their values. The last
column is the median, over the rounds, of Octavo FP8 over llama.cpp Q8_0: the two that read one byte a weight.
"""


def make_files(source, name, shape):
    """{format: path} of one set of weights."""
    WORK.mkdir(parents=True, exist_ok=True)
    files = {form: WORK / f"{name}.{form}.gguf" for form in ("bf16", "q8_0")}
    for form, path in files.items():
        if path.exists() and (shape or path.stat().st_mtime >= source.stat().st_mtime):
            continue
        print(f"writing {path.relative_to(ROOT)}", file=sys.stderr)
        part = path.with_suffix(".part")
        if shape and form == "bf16":
            random_checkpoint.write_gguf(random_checkpoint.SHAPES[shape], 0, part)
        else:
            requantize_gguf.requantize(files["bf16"] if shape else source, part, form)
        part.rename(path)
    return files


def run_json(under, *command):
    done = subprocess.run([*under, *map(str, command)], stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    return json.loads(done.stdout)


class Model:
    """What was measured of one set of weights: tok_s[test][column] and the machine's limits are lists, one number a round."""

    def __init__(self, name, files):
        self.name, self.files, self.tok_s, self.machines = name, files, {}, []
        self.llama_cpp = None

    def keep(self, column, row):
        test = (row["test"], row["batch"], row["tokens"], row["depth"])
        self.tok_s.setdefault(test, {}).setdefault(column, []).append(row["tok_s"])

    def measure(self, given):
        flags = ["--prompt", given.prompt, "--gen", given.gen, "--batch", given.batch, "--depth", given.depth, "--threads", given.threads]
        for form, column in (("q8_0", COLUMNS[0]), ("bf16", COLUMNS[1])):
            self.llama_cpp = run_json(given.under, sys.executable, ROOT / "bench" / "llama_cpp_bench.py", self.files[form], *flags)
            for row in self.llama_cpp["rows"]:
                self.keep(column, row)
        report = run_json(given.under, OCTAVO, "bench", self.files["bf16"], "--dtype", "fp8,bf16", "--rounds", 1, "--json", *flags)
        self.machines.append(report["machine"])
        for row in report["rows"]:
            self.keep(DTYPES[row["dtype"]], row)

    def lines(self):
        for (test, batch, tokens, depth), columns in self.tok_s.items():
            what = f"prefill {tokens}" if test == "prefill" else f"decode, batch {batch}, depth {depth:,}"
            cells = [f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})" if max(values) >= 100 else
                     f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
                     for values in (columns[column] for column in COLUMNS)]
            ratio = statistics.median(fp8 / q8_0 for fp8, q8_0 in zip(columns["Octavo FP8"], columns["llama.cpp Q8_0"]))
            yield f"| {self.name} | {what} | {' | '.join(cells)} | {ratio:.2f} |"


def page(models, given):
    machines = [machine for model in models for machine in model.machines]
    table = [f"| model | test | {' | '.join(COLUMNS)} | FP8 / Q8_0 |", "|---|---|" + "---|" * (len(COLUMNS) + 1)]
    table += [line for model in models for line in model.lines()]
    return PAGE.format(
        rounds=given.rounds, cpu=machines[0]["cpu"], threads=machines[0]["threads"], isa=machines[0]["isa"],
        read=statistics.median(machine["read_gbps"] for machine in machines),
        multiply=statistics.median(machine["bf16_gflops"] for machine in machines),
        octavo=subprocess.run([OCTAVO, "--version"], stdout=subprocess.PIPE, text=True).stdout.split()[-1],
        llama_cpp=models[0].llama_cpp["version"], features=", ".join(models[0].llama_cpp["features"]), gen=given.gen,
        table="\n".join(table))


def parse():
    parser = argparse.ArgumentParser(description="Octavo beside llama.cpp, on the same weights.")
    parser.add_argument("--model", type=pathlib.Path, action="append", default=[], help="a GGUF file (default: smollm2 and --shape 1b)")
    parser.add_argument("--shape", choices=list(NAMES), action="append", default=[], help="random weights in the shape of a model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=16)
    parser.add_argument("--batch", default="1,4,8,16")
    parser.add_argument("--depth", default="0,1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--under", type=shlex.split, default=[], help="a command to run each measurement under, such as `taskset -c 0,1`")
    parser.add_argument("--output", type=pathlib.Path, help="write the page there (default: print it)")
    given = parser.parse_args()
    if not given.model and not given.shape:
        given.model, given.shape = [DEFAULT_MODEL], ["1b"]
    return given


def main():
    given = parse()
    models = [Model("SmolLM2 135M" if path == DEFAULT_MODEL else path.stem, make_files(path, path.stem, None)) for path in given.model]
    models += [Model(NAMES[shape], make_files(None, shape, shape)) for shape in given.shape]
    for number in range(given.rounds):
        for model in models:
            print(f"round {number + 1} of {given.rounds}: {model.name}", file=sys.stderr)
            model.measure(given)
    text = page(models, given)
    if given.output:
        given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130)
