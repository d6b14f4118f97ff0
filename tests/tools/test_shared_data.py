"""The prompts and the text in share/octavo: what `octavo calibrate` and `octavo eval` rely on."""
import json
import re
from pathlib import Path

SHARE = Path(__file__).parents[2] / "share/octavo"
PROMPTS = [json.loads(line) for line in (SHARE / "calibration_prompts.jsonl").read_text(encoding="utf-8").splitlines()]


def text_of(entry):
    return entry["prompt"] if "prompt" in entry else "\n".join(message["content"] for message in entry["messages"])


def words(text):
    return re.findall(r"\w+", text.lower())


def test_there_are_128_different_prompts():
    assert len({text_of(entry) for entry in PROMPTS}) == len(PROMPTS) == 128


def test_every_prompt_is_a_text_or_a_chat_that_ends_with_the_user():
    for entry in PROMPTS:
        if "prompt" in entry:
            assert set(entry) == {"prompt"} and entry["prompt"]
            continue
        roles = [message["role"] for message in entry["messages"]]
        if roles[0] == "system":
            roles = roles[1:]
        assert set(entry) == {"messages"}
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)] and roles[-1] == "user"
        assert all(set(message) == {"role", "content"} and message["content"].strip() for message in entry["messages"])


def test_about_half_are_chats_and_lengths_range_from_a_word_to_a_page():
    assert 48 <= sum("messages" in entry for entry in PROMPTS) <= 80
    lengths = sorted(len(words(text_of(entry))) for entry in PROMPTS)
    assert lengths[0] == 1 and sum(length >= 300 for length in lengths) >= 8


def test_many_scripts_are_covered():
    everything = "".join(text_of(entry) for entry in PROMPTS)
    for script in ("а-я", "一-鿿", "ぁ-ん", "ء-ي", "अ-ह", "가-힣", "ßäöü", "çğış"):
        assert re.search(f"[{script}]", everything), script


def test_the_evaluation_text_was_held_out():
    text = (SHARE / "evaluation_text.txt").read_text(encoding="utf-8")
    assert 12_000 <= len(text) <= 20_000
    length = 8  # words in a row that prompts and evaluation text must not share

    def runs(text):
        sequence = words(text)
        return {tuple(sequence[i : i + length]) for i in range(len(sequence) - length + 1)}

    assert not runs(text) & set().union(*(runs(text_of(entry)) for entry in PROMPTS))
