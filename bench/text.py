"""The text layer against the reference libraries: make bench-text, or

    python bench/text.py [--rounds N] [--tokenizers DIR] [--text FILE]

Encoding with Llama 3's vocabulary beside tiktoken and Hugging Face tokenizers, decoding, loading, words of a megabyte, and Llama 3's chat
template. Everything runs on one thread, in turn, in one run; figures are medians of CPU seconds, and the ids are compared before anything
is timed. DIR (default: $OCTAVO_TOKENIZERS, else where `make tokenizers` puts them) has llama3/ and npm_llama2/."""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import array
import gzip
import json
import lzma
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import tiktoken
import tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "bench" / "bench_text"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "octavo"
TOKENIZERS = pathlib.Path(os.environ.get("OCTAVO_TOKENIZERS") or CACHE / "tokenizers")
TEXT_BYTES, CHUNK = 5_000_000, 4000
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


class Octavo:
    """The C side: answers a line to each line."""

    def __init__(self):
        self.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *command):
        print(*command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer:
            sys.exit(f"{PROGRAM.name} {' '.join(map(str, command))}: no answer")
        return answer

    def seconds(self, *command):
        return float(self(*command))

    def ids(self, path):
        self("ids", path)
        ids = array.array("i")
        ids.frombytes(pathlib.Path(path).read_bytes())
        return ids.tolist()


def cpu_seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turn(rounds, works):
    """The median of each of the works, a dict of functions that return seconds, run in turn."""
    times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(work())
    return {name: statistics.median(values) for name, values in times.items()}


def mixed_text(path):
    """5 MB of prose, code and many scripts: the file given, the reference folder's, or the texts of this tree one after the other."""
    reference = pathlib.Path(os.environ.get("OCTAVO_REFERENCE", ROOT / "../shared/golden")) / "text/bench/mixed_5mb.txt.xz"
    if path:
        return pathlib.Path(path).read_bytes().decode()
    if reference.exists():
        return lzma.open(reference).read().decode()
    cases = json.load(gzip.open(ROOT / "tests/golden/text/synthetic_tokenizers.json.gz"))
    parts = [case["text"] for entry in cases.values() for case in entry["cases"] if len(case["text"]) < 2000]
    for pattern in ("*.md", "src/**/*.[ch]", "tests/**/*.py"):
        parts += [file.read_text() for file in sorted(ROOT.glob(pattern))]
    random.Random(0).shuffle(parts)
    text = "\n".join(parts)
    text *= TEXT_BYTES // len(text.encode()) + 1
    return text.encode()[:TEXT_BYTES].decode(errors="ignore")


def byte_symbols():
    """The byte-level alphabet: symbol -> byte."""
    symbols, others = {}, 0
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        symbols[chr(byte if printable else 256 + others)] = byte
        others += not printable
    return symbols


def tiktoken_of(path):
    """tiktoken with the same vocabulary: an id is a rank there."""
    symbols = byte_symbols()
    vocabulary = json.loads(path.read_text())["model"]["vocab"]
    ranks = {bytes(symbols[c] for c in token): rank for token, rank in vocabulary.items()}
    return lambda: tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={})


def words():
    """Texts of a megabyte without a space."""
    rng = random.Random(1)
    return {
        "random letters": "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
        "one letter": "a" * 1_000_000,
        "a period of three": ("abc" * 333_334)[:1_000_000],
        "Chinese": "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(333_333)),
        "punctuation": "".join(rng.choices("!?.,;:-_()[]{}#*+=/", k=1_000_000)),
        "one sign": "=" * 1_000_000,
        "emoji": "".join(chr(rng.randrange(0x1F300, 0x1F640)) for _ in range(250_000)),
    }


def messages():
    turn = "Explain in a few sentences how a byte-pair encoding is learnt, and what its merges are ranked by. " * 3
    return [{"role": "system", "content": "You are a helpful assistant."}] + [
        {"role": "assistant" if i % 2 else "user", "content": f"{i}. {turn}"} for i in range(19)]


def check(what, same):
    if not same:
        sys.exit(f"{what}: ids differ; nothing was timed")
    print(f"ids equal: {what}")


class Report:
    def __init__(self):
        self.missed = []

    def line(self, what, figure, bar=None, met=True):
        print(f"  {what:58} {figure:>24}   {'' if bar is None else bar + (' met' if met else ' MISSED')}")
        if not met:
            self.missed.append(what)

    def ratio(self, what, reference, ours, least):
        self.line(what, f"{reference / ours:.2f} x", f">= {least} x:", reference / ours >= least)

    def limit(self, what, seconds, most):
        self.line(what, f"{1e3 * seconds:.2f} ms", f"< {1e3 * most:g} ms:", seconds < most)


def bench_encoding(octavo, folder, text, rounds, report, temporary):
    make_tiktoken, path = tiktoken_of(folder / "tokenizer.json"), folder / "tokenizer.json"
    reference, other = tokenizers.Tokenizer.from_file(str(path)), make_tiktoken()
    chunks = [text[i:i + CHUNK] for i in range(0, len(text), CHUNK)]
    (temporary / "text").write_bytes(text.encode())
    octavo("load", folder)
    octavo("text", temporary / "text")
    octavo("encode-chunks")
    in_chunks = octavo.ids(temporary / "ids")
    check("4,000-character chunks, tiktoken", in_chunks == [i for chunk in chunks for i in other.encode_ordinary(chunk)])
    encoded = reference.encode_batch_fast(chunks, add_special_tokens=False)
    check("4,000-character chunks, HF tokenizers", in_chunks == [i for encoding in encoded for i in encoding.ids])
    octavo("encode")
    whole = reference.encode(text, add_special_tokens=False).ids
    check("the whole text, HF tokenizers", octavo.ids(temporary / "ids") == whole)
    octavo("decode")

    megabytes = len(text.encode()) / 1e6
    times = in_turn(rounds, {
        "octavo": lambda: octavo.seconds("encode-chunks"),
        "tiktoken": lambda: cpu_seconds(lambda: [other.encode_ordinary(chunk) for chunk in chunks]),
        "whole": lambda: octavo.seconds("encode"),
        "hf": lambda: cpu_seconds(lambda: [reference.encode(chunk, add_special_tokens=False) for chunk in chunks]),
        "hf fast": lambda: cpu_seconds(lambda: reference.encode_batch_fast(chunks, add_special_tokens=False)),
        "decode": lambda: octavo.seconds("decode"),
        "hf decode": lambda: cpu_seconds(lambda: reference.decode(whole)),
        "load": lambda: octavo.seconds("load", folder),
        "hf load": lambda: cpu_seconds(lambda: tokenizers.Tokenizer.from_file(str(path))),
        "tiktoken load": lambda: cpu_seconds(make_tiktoken),
    })
    slow = in_turn(1, {"hf whole": lambda: cpu_seconds(lambda: reference.encode(text, add_special_tokens=False))})
    print(f"\nencoding {megabytes:.1f} MB, {len(whole):,} tokens, {rounds} rounds")
    for name, seconds in (("Octavo, chunks", times["octavo"]), ("Octavo, one string", times["whole"]), ("tiktoken, chunks", times["tiktoken"]),
                          ("HF encode, chunks", times["hf"]), ("HF encode_batch_fast, chunks", times["hf fast"]),
                          ("HF encode, one string (one round)", slow["hf whole"])):
        report.line(name, f"{megabytes / seconds:.2f} MB/s")
    report.ratio("Octavo : tiktoken", times["tiktoken"], times["octavo"], 1.5)
    report.ratio("Octavo : HF encode", times["hf"], times["octavo"], 7)
    report.line("Octavo : HF encode_batch_fast", f"{times['hf fast'] / times['octavo']:.2f} x")
    report.line("Octavo : HF encode, one string", f"{slow['hf whole'] / times['whole']:.2f} x")
    print("\ndecoding")
    report.line("Octavo", f"{len(whole) / times['decode'] / 1e6:.1f} M tokens/s")
    report.line("HF", f"{len(whole) / times['hf decode'] / 1e6:.1f} M tokens/s")
    report.ratio("Octavo : HF", times["hf decode"], times["decode"], 2)
    print("\nloading tokenizer.json of 128,000 tokens")
    report.limit("Octavo", times["load"], 0.1)
    report.line("HF", f"{1e3 * times['hf load']:.0f} ms")
    report.line("tiktoken, from ranks in memory", f"{1e3 * times['tiktoken load']:.0f} ms")


def bench_words(octavo, folder, title, rounds, report, temporary):
    print(f"\na megabyte without a space, {title}")
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    octavo("load", folder)
    for name, word in words().items():
        (temporary / "word").write_bytes(word.encode())
        octavo("text", temporary / "word")
        octavo("encode")
        same = octavo.ids(temporary / "ids") == reference.encode(word, add_special_tokens=False).ids
        if not same:
            sys.exit(f"{title}: {name}: ids differ from HF tokenizers")
        report.limit(name, in_turn(rounds, {"word": lambda: octavo.seconds("encode")})["word"], 1)


def bench_template(octavo, folder, rounds, report, temporary):
    print("\na chat of 20 messages through the template")
    (temporary / "messages").write_text(json.dumps(messages()))
    octavo("messages", temporary / "messages")
    templates = {"Llama 3": json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]}
    chats = pathlib.Path(os.environ.get("OCTAVO_REFERENCE", ROOT / "../shared/golden")) / "text/chat/chat_bulk.json.gz"
    if chats.exists():
        named = {entry["name"]: entry for entry in json.load(gzip.open(chats))["templates"]}
        templates["Llama 3.1 Nemotron Nano, which knows tools"] = named["nvidia-Llama-3.1-Nemotron-Nano-8B-v1"]["text"]
    for name, template in templates.items():
        (temporary / "template").write_text(template)
        octavo("template", temporary / "template")
        octavo("render")
        report.limit(name, in_turn(20 * rounds, {"render": lambda: octavo.seconds("render")})["render"], 0.0003)


def main():
    parser = argparse.ArgumentParser(description="Octavo's text layer beside the reference libraries")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--tokenizers", type=pathlib.Path, default=TOKENIZERS, help="folder with llama3/ and npm_llama2/")
    parser.add_argument("--text", help="the text to encode (default: 5 MB of many kinds)")
    options = parser.parse_args()
    llama3, llama2 = (options.tokenizers / name for name in ("llama3", "npm_llama2"))
    for folder in (llama3, llama2):
        if not (folder / "tokenizer.json").exists():
            parser.error(f"{folder}/tokenizer.json is not there (make tokenizers)")
    octavo, report = Octavo(), Report()
    with tempfile.TemporaryDirectory() as name:
        temporary = pathlib.Path(name)
        bench_encoding(octavo, llama3, mixed_text(options.text), options.rounds, report, temporary)
        bench_words(octavo, llama3, "byte-level (Llama 3)", options.rounds, report, temporary)
        bench_words(octavo, llama2, "SentencePiece (Mistral 7B v0.1)", options.rounds, report, temporary)
        bench_template(octavo, llama3, options.rounds, report, temporary)
    print(f"\n{'all bars met' if not report.missed else 'missed: ' + ', '.join(report.missed)}")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
