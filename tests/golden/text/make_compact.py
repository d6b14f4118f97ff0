"""Writes tokenizers/NAME.json.gz from the larger vectors: python3 make_compact.py REFERENCE/text/tokenizers

Left out is what the tests do not compare (categories, the borders of the reference's stream parts) or what repeats another value: `dec`
where it is the text.
"""
import gzip
import json
import sys
from pathlib import Path

OUT = Path(__file__).parent / "tokenizers"


def compact(vectors):
    cases = [{key: value for key, value in case.items() if key not in ("i", "cat") and not (key == "dec" and value == case["text"])}
             for case in vectors["cases"]]
    streams = [{"ids": stream["ids"]} for stream in vectors["streams"]]
    random_ids = [{key: entry[key] for key in ("ids", "dec", "dec_skip") if key in entry} for entry in vectors["random_ids"]]
    return {"tokenizer_json_sha256": vectors["tokenizer_json_sha256"], "cases": cases, "streams": streams, "random_ids": random_ids}


for path in sorted(Path(sys.argv[1]).glob("*.json.gz")):
    text = json.dumps(compact(json.loads(gzip.decompress(path.read_bytes()))), separators=(",", ":"))
    (OUT / path.name).write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
