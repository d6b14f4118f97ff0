#!/usr/bin/env python3
"""Writes offsets.json.gz: what the reference library says of where tokens are, for texts of the other files here.

usage: make_offsets.py TOKENIZERS    (the folder that tools/fetch_tokenizers.sh makes)
Where a vocabulary lacks the symbols of bytes, the reference drops them and then counts offsets as if they had not been there; texts with
such bytes are left out (null): Octavo counts on. Needs tokenizers 0.23.3. Encoded with special tokens; a list is start and end of each
token in turn, in characters. `published` has every twelfth text of tokenizers/NAME.json.gz that is shorter than 2,000 characters.
"""
import gzip
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
STEP, LIMIT = 12, 2000


def read(path):
    return json.load(gzip.open(path))


def offsets(name, tokenizer, text):
    encoding = tokenizer.encode(text)
    drops_bytes = name in ("bl_missing_bytes", "smollm2") and tokenizer.decode(encoding.ids, skip_special_tokens=False) != text
    if len(text) >= LIMIT or drops_bytes:
        return None
    return [position for pair in encoding.offsets for position in pair]


def main():
    folders = Path(sys.argv[1])
    result = {"tokenizers": "0.23.3", "synthetic": {}, "published": {}}
    for name, entry in read(HERE / "synthetic_tokenizers.json.gz").items():
        tokenizer = Tokenizer.from_str(json.dumps(entry["tokenizer_json"]))
        result["synthetic"][name] = [offsets(name, tokenizer, case["text"]) for case in entry["cases"]]
    for name in ("llama3", "llama2_real", "llama2_metaspace", "npm_llama2", "smollm2"):
        tokenizer = Tokenizer.from_file(str(folders / name / "tokenizer.json"))
        cases = read(HERE / "tokenizers" / f"{name}.json.gz")["cases"]
        result["published"][name] = {str(i): offsets(name, tokenizer, cases[i]["text"]) for i in range(0, len(cases), STEP)}
    text = json.dumps(result, separators=(",", ":")).encode()
    (HERE / "offsets.json.gz").write_bytes(gzip.compress(text, mtime=0))


main()
