"""llama.cpp's side of `bench/peers.py`: one GGUF file through the tests of `octavo bench`, with its flags: the same prompt lengths, batches
and depths, timed in the same way. Only the calls of llama_decode count, nothing is sampled, and the first pass of each test is a warm-up.
Everything else is llama.cpp's own default: flash attention, 16-bit K and V, a stream of KV cells for each sequence. Prints JSON."""

import argparse
import ctypes
import json
import time

import llama_cpp
import numpy

CELLS = 256  # llama.cpp rounds the length of a sequence up to this


class Sequences:
    """A context whose sequences 0 .. count - 1 all hold the same `length` tokens."""

    def __init__(self, path, count, longest, threads):
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = count * -(-longest // CELLS) * CELLS
        params.n_seq_max = count
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit(f"{path}: llama.cpp cannot make a context of {params.n_ctx} tokens")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(max(longest, count), 0, 1)
        self.count, self.length = count, 0

    def decode(self, rows, wanted):
        """Seconds of one pass over rows of (sequence, position), `wanted` of which, the last ones, get logits."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position) in enumerate(rows):
            batch.token[i] = (i * 7919 + position * 104729) % self.vocab_size
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = position, 1, sequence
            batch.logits[i] = i >= len(rows) - wanted
        began = time.perf_counter()
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_synchronize(self.context)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit(f"llama_decode: {status}")
        for i in range(len(rows) - wanted, len(rows)):
            logits = llama_cpp.llama_get_logits_ith(self.context, i)
            if not numpy.isfinite(numpy.ctypeslib.as_array(logits, (self.vocab_size,))).all():
                raise SystemExit("llama.cpp gives logits that are not finite")
        return seconds

    def cut(self, length):
        for sequence in range(self.count):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, length, -1)

    def prefill(self, tokens):
        def once():
            self.cut(0)
            return self.decode([(0, position) for position in range(tokens)], 1)
        once()
        seconds = once()
        self.cut(0)
        self.length = 0
        return seconds

    def grow(self, length):
        """To `length` tokens in every sequence: the first is computed, the others are copies."""
        if length == self.length:
            return
        self.decode([(0, position) for position in range(self.length, length)], 1)
        for sequence in range(1, self.count):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            llama_cpp.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        self.length = length

    def generate(self, batch, tokens):
        def step(i):
            return self.decode([(sequence, self.length + i) for sequence in range(batch)], batch)
        step(0)
        self.cut(self.length)
        seconds = sum(step(i) for i in range(tokens))
        self.cut(self.length)
        return seconds


def numbers(text):
    return [int(item) for item in text.split(",")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=16)
    parser.add_argument("--batch", type=numbers, default=[1, 4, 8, 16])
    parser.add_argument("--depth", type=numbers, default=[0, 1024])
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    sequences = Sequences(given.model, max(given.batch), max(given.prompt, max(given.depth) + given.gen), given.threads)
    rows = []

    def record(test, batch, tokens, depth, seconds):
        rows.append(dict(test=test, batch=batch, tokens=tokens, depth=depth, tok_s=batch * tokens / seconds))
    record("prefill", 1, given.prompt, 0, sequences.prefill(given.prompt))
    for depth in sorted(given.depth):
        sequences.grow(depth)
        for batch in given.batch:
            record("decode", batch, given.gen, depth, sequences.generate(batch, given.gen))
    system = llama_cpp.llama_print_system_info().decode()
    features = [name for name, _, value in (item.strip().partition(" = ") for item in system.partition(":")[2].split("|")) if value == "1"]
    print(json.dumps(dict(version=llama_cpp.__version__, features=features, rows=rows)))


if __name__ == "__main__":
    main()
