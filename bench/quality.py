"""What quantization costs: one table of bf16, weight-only FP8, every scale method under both profiles, and Q8_0, on the default model.

    python bench/quality.py [--quick] [--model MODEL] [--only PATTERN] [--output docs/quality.md]

KL divergence and perplexity on OpenWebText, accuracy on SocialIQA and MMLU by log-likelihood; the data are fetched by name. The whole
takes hours on two cores; rows are kept in build/quality as they are made, so that a run that was interrupted goes on where it was, and
--quick takes a sample."""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import quality_data
import requantize_gguf

ROOT = pathlib.Path(__file__).resolve().parent.parent
OCTAVO = ROOT / "build" / "octavo"
WORK = ROOT / "build" / "quality"
PROFILES = {"gaudi2": "g2", "gaudi3": "g3"}
METHODS = ["UNIT_SCALE", "HW_ALIGNED_SINGLE_SCALE", "MAXABS_HW", "MAXABS_POW2", "MAXABS_ARBITRARY", "MAXABS_HW_OPT_WEIGHT",
           "MAXABS_POW2_OPT_WEIGHT", "ACT_MAXABS_HW_WEIGHTS_PCS_MAXABS_POW2", "ACT_MAXABS_HW_WEIGHTS_PCS_OPT_POW2",
           "ACT_MAXABS_POW2_WEIGHTS_PCS_MAXABS_POW2", "ACT_MAXABS_POW2_WEIGHTS_PCS_OPT_POW2",
           "ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW", "MAXABS_PCS_POW2"]
DYNAMIC = {"ACT_MAXABS_PCS_POW2_WEIGHT_MAXABS_PTS_POW2_HW", "MAXABS_PCS_POW2"}  # activation scales made by token, at run time
LINEARS = ["QKVParallelLinear", "RowParallelLinear", "MergedColumnParallelLinear", "ParallelLMHead"]


class Sample:
    def __init__(self, quick):
        self.windows, self.questions = (8, 100) if quick else (0, 0)  # 0: all


def octavo(*args):
    done = subprocess.run([OCTAVO, *map(str, args)], stdout=subprocess.PIPE, env={k: v for k, v in os.environ.items() if k != "QUANT_CONFIG"})
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise SystemExit(f"octavo {' '.join(map(str, args))}: exit status {done.returncode}")
    return done.stdout


def quantization_configs(model):
    """{(profile, method): path of its QUANT_CONFIG}, from one calibration a profile."""
    configs = {}
    for profile, short in PROFILES.items():
        folder = WORK / "calibrated" / profile
        if not list(folder.glob(f"*/maxabs_quant_{short}.json")):
            octavo("calibrate", model, "--output", folder, "--device", profile, "--module-tokens", 0)
        base_path = next(folder.glob(f"*/maxabs_quant_{short}.json"))
        base = json.loads(base_path.read_text())
        for method in METHODS:
            config = dict(base, scale_method=method)
            if method in DYNAMIC:
                config["dynamic_quantization"] = True
                config["allowlist"] = {"types": LINEARS, "names": []}
            path = base_path.with_name(f"{method.lower()}_{short}.json")
            path.write_text(json.dumps(config, indent=4))
            configs[profile, method] = path
    return configs


def rows(model):
    """(name, model, flags) of every row."""
    yield "bf16", model, []
    yield "fp8 weights, bf16 activations (`--quantization fp8`)", model, ["--quantization", "fp8"]
    for (profile, method), path in quantization_configs(model).items():
        flags = ["--quantization", "inc", "--quant-config", path]
        # Scales made by token are for linears alone: the rest stays bf16.
        yield f"{profile} {method}", model, flags + ([] if method in DYNAMIC else ["--kv-cache-dtype", "fp8_inc"])
    if str(located(model)).endswith(".gguf"):
        q8_0 = WORK / "model.Q8_0.gguf"
        if not q8_0.exists():
            partial = q8_0.with_suffix(".partial")
            requantize_gguf.requantize(located(model), partial, "q8_0")
            partial.rename(q8_0)
        yield "Q8_0 weights, float32 activations", q8_0, ["--dtype", "float32"]


def located(model):
    return quality_data.cache() / "SmolLM2-135M-Instruct.Q4_1.gguf" if model == "smollm2" else pathlib.Path(model)


def measure(name, model, flags, reference, sample, data):
    """One row, from build/quality when it was made before with the same sample."""
    kept = WORK / "rows" / (re.sub(r"\W+", "_", f"{name} {sample.windows} {sample.questions}") + ".json")
    if kept.exists():
        return json.loads(kept.read_text())
    print(f"== {name}", file=sys.stderr)
    text = json.loads(octavo("eval", model, *flags, "--text", data / "owt.txt", "--windows", sample.windows, "--against", "bf16",
                             "--reference", reference, "--json"))
    divergence = {key: text["reference"][key] for key in ("mean_kl", "p99_kl", "same_top_token")}
    row = {"name": name, "perplexity": text["perplexity"], "tokens": text["scored_tokens"], **divergence}
    for task in ["social_iqa", "mmlu"]:
        answers = json.loads(octavo("eval", model, *flags, "--multiple-choice", data / f"{task}.jsonl", "--questions", sample.questions,
                                    "--json"))
        row[task], row[task + "_questions"] = answers["accuracy"], answers["questions"]
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(row))
    partial.rename(kept)
    return row


def standard_error(share, count):
    return 100 * math.sqrt(share * (1 - share) / count)


def table(made, model, quick):
    first = made[0]
    error = {task: standard_error(first[task], first[task + "_questions"]) for task in ["social_iqa", "mmlu"]}
    yield "# What quantization costs\n"
    yield (f"`{model}`, made by `make bench-quality{' QUICK=1' if quick else ''}`: KL divergence from the same model in bf16 and perplexity over {first['tokens']:,} "
           f"tokens of OpenWebText in windows of 512; accuracy by log-likelihood over {first['social_iqa_questions']:,} questions of "
           f"SocialIQA (standard error {error['social_iqa']:.1f}) and {first['mmlu_questions']:,} of MMLU ({error['mmlu']:.1f}). "
           "Differences of accuracy below two standard errors say nothing.\n")
    yield "| configuration | KL, mean | KL, 99 % below | same best token | perplexity | SocialIQA | MMLU |"
    yield "|---|---|---|---|---|---|---|"
    for row in made:
        yield (f"| {row['name']} | {row['mean_kl']:.4f} | {row['p99_kl']:.3f} | {100 * row['same_top_token']:.1f} % | "
               f"{row['perplexity']:.2f} | {100 * row['social_iqa']:.1f} % | {100 * row['mmlu']:.1f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a model folder, a GGUF file, or smollm2 (default)")
    parser.add_argument("--quick", action="store_true", help="a sample: 8 windows of 512 tokens and 100 questions of each task")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only rows whose name this regular expression finds")
    parser.add_argument("--output", type=pathlib.Path, help="write the table to this file too")
    options = parser.parse_args()
    if not OCTAVO.exists():
        raise SystemExit(f"{OCTAVO}: not built; run make")
    data, sample = quality_data.fetch(), Sample(options.quick)
    made = [measure(name, model, flags, options.model, sample, data) for name, model, flags in rows(options.model)
            if name == "bf16" or re.search(options.only, name)]
    text = "\n".join(table(made, options.model, options.quick)) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130)
