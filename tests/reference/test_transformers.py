"""Chats and tokens beside transformers itself: the prompt of a conversation, its ids, and the text that ids become."""
import json

import pytest
from conftest import octavo
from transformers import AutoTokenizer

CHATML = ("{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}"
          "{% for message in messages %}\n    {% if loop.first and tools %}{{ tools | tojson(indent=2) }}{% endif %}\n"
          "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}{% endfor %}"
          "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
USER = {"role": "user", "content": "What is 2 + 2?  "}
CONVERSATIONS = {
    "one turn": [USER],
    "a system prompt": [{"role": "system", "content": "Be brief."}, USER],
    "several turns": [USER, {"role": "assistant", "content": "4"}, {"role": "user", "content": "And 3 + 3?"}],
    "every script": [{"role": "user", "content": "Grüße, 世界, мир, 🙂\n\ttabs and \"quotes\" & <tags>"}],
}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds ä and b.", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def tokenizer(model):
    return AutoTokenizer.from_pretrained(model)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("generation", [True, False], ids=["prompt", "history"])
def test_a_conversation_becomes_the_same_prompt(model, tokenizer, tmp_path, conversation, tools, generation):
    messages = CONVERSATIONS[conversation]
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    flags = ["--messages", tmp_path / "messages.json", "--chat-template", CHATML] + (["--tools", tmp_path / "tools.json"] if tools else [])
    flags += [] if generation else ["--add-generation-prompt=false"]
    expected = tokenizer.apply_chat_template(messages, tools=tools, chat_template=CHATML, add_generation_prompt=generation, tokenize=False)
    assert octavo("render", model, *flags).stdout == expected
    assert json.loads(octavo("render", model, *flags, "--ids").stdout) == tokenizer.encode(expected, add_special_tokens=False)


@pytest.mark.parametrize("text", ["", "Hello, world", "Grüße, 世界 🙂", " two  spaces\n\n\tand a tab"])
def test_a_text_has_the_same_tokens(model, tokenizer, text):
    assert json.loads(octavo("tokenize", model, "--text", text, "--ids").stdout) == tokenizer.encode(text, add_special_tokens=False)
