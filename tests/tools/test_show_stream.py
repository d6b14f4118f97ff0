"""tools/show_stream.py on streams as the server writes them."""
import json
import subprocess
import sys
from pathlib import Path

SHOW_STREAM = Path(__file__).parents[2] / "tools/show_stream.py"


def show(lines):
    return subprocess.run([sys.executable, SHOW_STREAM], input="\n\n".join(lines) + "\n", capture_output=True, text=True, check=False)


def event(content, **fields):
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": content}}], **fields})


def test_the_text_and_the_speed_are_shown():
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}'
    result = show([event(""), event("Hel"), event("lo"), usage, "data: [DONE]"])
    assert result.returncode == 0
    assert result.stdout.startswith("Hello\n")
    assert "3 tokens, " in result.stdout


def test_an_error_in_the_stream_is_named():
    result = show([event("Hel"), 'data: {"error": {"message": "NaN logits"}}'])
    assert result.returncode != 0 and "NaN logits" in result.stderr


def test_an_error_instead_of_a_stream_is_shown():
    result = show(['{"error": {"message": "The model `x` does not exist."}}'])
    assert result.returncode != 0 and "does not exist" in result.stderr
