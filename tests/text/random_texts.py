"""Seeded random Unicode texts that go where tokenizers differ."""
import random

SPACES = [chr(code) for code in (*range(9, 14), 0x1C, 0x1F, 0x20, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200B), 0x200B, 0x2028,
                                 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)]
# Blocks by first and last code point: scripts with marks, Hangul, ideographs of several planes, symbols, digits of many kinds.
BLOCKS = [(0x20, 0x7E), (0xA1, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF),
          (0x1E00, 0x1FFF), (0x2070, 0x218F), (0x2190, 0x27BF), (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF),
          (0xFE00, 0xFE2F), (0xFF01, 0xFF9F), (0x10000, 0x1013F), (0x11DE0, 0x11DE9), (0x16FF0, 0x16FF8), (0x1D400, 0x1D7FF),
          (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x2FFF0, 0x30010), (0xE0000, 0xE01EF), (0xF0000, 0xF00FF), (0x10FF00, 0x10FFFF)]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👨🏿‍🚀", "1️⃣", "🇩🇪", "❤️", "🔥", "🐻‍❄️"]
ENDINGS = ("s", "S", "ſ", "t", "T", "re", "RE", "rE", "ve", "m", "ll", "LL", "lL", "d", "D", "x")
CONTRACTIONS = [quote + ending for quote in "'’" for ending in ENDINGS]
DIGITS = ["0", "7", "42", "123", "1234", "1234567", "١٢٣", "१२", "²", "½", "Ⅷ", "㊿", "𝟘𝟙", "𑷠", "𖿴", "1,234.5e-6"]
WORDS = ["the", "The", "tokenizer", "hello", "HELLO", "naïve", "straße", "İstanbul", "Ωmega", "don", "x", "_id", "foo_bar", "CamelCase",
         "int", "ﬁ", "e\u0301", "Å", "가", "ᄀ\u1161\u11A8", "你好", "世界", "สวัสดี", "שלום", "नमस्ते", "ß"]
ODD = ["\0", "\0\0", "\x04", "\x7f", "\u0300", "\u0301\u0323", "\ufffd", "\ufffe", "\u200d", "\ufe0f", "▁", "▁▁", "Ġ", "Ċ", "<0x41>",
       "<0x0A>", "<", ">", "\\", "\"", "'", "''", "...", "!?", "/*", "*/", "://", "\r\n", "\n\n", "\n \n", "\t\t", "  ", "    "]


def any_character(rng):
    while True:
        code = rng.randrange(0x110000)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def piece(rng, special_texts):
    kind = rng.randrange(14)
    if kind == 0:
        return any_character(rng)
    if kind <= 2:
        first, last = rng.choice(BLOCKS)
        return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6)))
    if kind == 3:
        return rng.choice(SPACES) * rng.choice((1, 1, 2, 5))
    if kind == 4 and special_texts:
        text = rng.choice(special_texts)
        return text if rng.random() < 0.8 else text[: rng.randint(1, len(text))]
    choices = (WORDS, WORDS, WORDS, DIGITS, CONTRACTIONS, EMOJI, ODD, [" "], [" "], ["\n"])
    return rng.choice(choices[kind % len(choices)])


def random_texts(seed, count, special_texts):
    """special_texts: the added tokens of the tokenizer. One text in 500 is one very long run."""
    rng = random.Random(seed)
    texts = []
    for i in range(count):
        if i % 500 == 499:
            texts.append(piece(rng, special_texts) * rng.randint(200, 1000) + piece(rng, special_texts))
        else:
            texts.append("".join(piece(rng, special_texts) for _ in range(rng.randint(0, 16))))
    return texts
