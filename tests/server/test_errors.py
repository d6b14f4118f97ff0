"""How requests are refused: the same status, type, param, code and text as vLLM, and a clear error for what is not supported."""

import json
import os
import pathlib

import pytest

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "server" / "errors.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text().splitlines()]


@pytest.fixture(scope="module")
def served(request):
    from conftest import Server
    server = Server("--name", "smollm2-135m-instruct")
    yield server
    assert server.stop() == 0, server.log


def test_errors_are_vllm_s(served):
    assert len(CASES) > 200
    wrong = []
    for case in CASES:
        body = None if case["body"] is None else case["body"].encode()
        headers = {"Content-Type": "", **case["headers"]} if body is not None else case["headers"]
        status, _, data = served.call(case["method"], case["path"], body, headers)
        answer = json.loads(data)
        found = {key: answer["error"][key] for key in case["expected"]} if "error" in answer else answer
        if status != case["status"] or found != case["expected"]:
            wrong.append((case["name"], status, found, case["expected"]))
    assert not wrong


def refusal(server, path, **body):
    body.setdefault("prompt" if path == "/v1/completions" else "messages", "hi" if path == "/v1/completions" else [{"role": "user", "content": "hi"}])
    status, _, data = server.call("POST", path, body)
    return status, json.loads(data).get("error")


@pytest.mark.parametrize("name, value", [
    ("structured_outputs", {}), ("use_beam_search", True),
    ("structured_outputs", {"choice": ["a"]}), ("response_format", {"type": "json_object"}), ("suffix", "x"), ("vllm_xargs", {"a": 1}),
    ("thinking_token_budget", 5)])
def test_what_would_change_the_answer_and_is_not_supported_is_refused(server, name, value):
    status, error = refusal(server, "/v1/completions", **{name: value})
    assert status == 400 and name in error["message"] and error["type"] == "BadRequestError"


@pytest.mark.parametrize("param, text, body", [
    ("logit_bias", "token_id(s) [259] in logit_bias contain out-of-vocab token ids. Vocabulary size: 259", {"logit_bias": {"259": 1}}),
    ("logit_bias", "that cannot be converted to integer token IDs: ['x']", {"logit_bias": {"x": 1}}),
    ("body.logit_bias.5", "valid number", {"logit_bias": {"5": "a"}}),
    ("allowed_token_ids", "allowed_token_ids is not None and empty!", {"allowed_token_ids": []}),
    ("allowed_token_ids", "contains out-of-vocab token id!", {"allowed_token_ids": [5, 259]}),
    ("body.allowed_token_ids.1", "valid integer", {"allowed_token_ids": [5, 1.5]}),
    (None, "bad_words cannot contain an empty string", {"bad_words": ["a", ""]}),
    ("body.bad_words.0", "valid string", {"bad_words": [1]}),
    ("prompt_logprobs", "Requested prompt logprobs of 21, which is greater than max allowed: 20", {"prompt_logprobs": 21}),
    ("logprob_token_ids", "requires `logprobs`", {"logprob_token_ids": [1]}),
    ("logprob_token_ids", "out-of-vocab", {"logprob_token_ids": [259], "logprobs": 1}),
    ("logprob_token_ids", "length 129", {"logprob_token_ids": [1] * 129, "logprobs": 1}),
    (None, "min_count must be >= 2", {"repetition_detection": {"max_pattern_size": 3}}),
    (None, "min_pattern_size <= max_pattern_size", {"repetition_detection": {"max_pattern_size": 3, "min_pattern_size": 4}})])
def test_parameters_about_tokens_are_checked_as_vllm_checks_them(server, param, text, body):
    status, error = refusal(server, "/v1/completions", **body)
    assert (status, error["param"]) == (400, param) and text in error["message"]


def test_a_full_queue_is_503_as_vllm_words_it(server):
    status, error = refusal(server, "/v1/completions", prompt="!busy")
    assert (status, error["type"], error["code"], error["param"]) == (503, "Service Unavailable", 503, None)
    assert error["message"].startswith("The engine is currently busy")


def test_parameters_about_tokens_are_taken(server):
    for body in ({"logit_bias": {"5": 1, " 7": -200}}, {"logit_bias": {}}, {"allowed_token_ids": [5]}, {"bad_words": ["x"]}, {"priority": -3},
                 {"prompt_logprobs": 2}, {"logprob_token_ids": [4], "logprobs": 1}, {"repetition_detection": {"max_pattern_size": 0}},
                 {"repetition_detection": {"max_pattern_size": 2, "min_count": 2}}, {"cache_salt": "a"}):
        assert server.call("POST", "/v1/completions", {"prompt": "hi", "max_tokens": 2, **body})[0] == 200


@pytest.mark.parametrize("name, value", [
    ("tools", [{"type": "function", "function": {"name": "f"}}]), ("echo", True), ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}})])
def test_the_same_in_chats(server, name, value):
    assert refusal(server, "/v1/chat/completions", **{name: value})[0] == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_a_chat_s_options_are_checked_as_vllm_checks_them(server, path):
    def message(**body):
        status, error = refusal(server, path, **body)
        assert status == 400
        return error["message"]

    untrusted = ("Chat template is passed with request, but --trust-request-chat-template is not set. Refused request with untrusted "
                 "chat template.")
    assert message(chat_template="{{ x }}") == untrusted
    assert message(chat_template_kwargs={"chat_template": "{{ x }}"}) == untrusted
    assert "body.chat_template'" in message(chat_template=5)
    assert message(continue_final_message=True).startswith("continue_final_message and add_generation_prompt are not compatible.")
    assert message(continue_final_message=True, add_generation_prompt=True) == \
        "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
    assert "'loc': 'body.chat_template_kwargs'" in message(chat_template_kwargs=[1])
    assert "'loc': 'body.tools.0'" in message(tools=[1], tool_choice="none")
    assert '"poem" found' in message(messages=[{"role": "user", "content": [{"type": "poem", "poem": "x"}]}])
    assert "not a multimodal model" in message(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    for content in [{"a": 1}, 5, [5], [{"text": "x"}], [{"type": "text"}], ["x"], None]:
        assert message(messages=[{"role": "user", "content": content}])
    for calls in ["x", [5], {}]:
        assert message(messages=[{"role": "assistant", "tool_calls": calls}])
    assert message(messages=[{"content": "x"}]) and message(messages=[{"role": 5}]) and message(messages=[5]) and message(messages=[])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_documents_are_objects(server, path):
    for documents, param in [([{}, 5], "body.documents.1"), ("x", "body.documents"), ({}, "body.documents")]:
        status, error = refusal(server, path, documents=documents)
        assert status == 400 and error["param"] == param


@pytest.mark.parametrize("name, value", [
    ("logit_bias", {}), ("bad_words", []), ("prompt_logprobs", None), ("use_beam_search", False), ("structured_outputs", None),
    ("response_format", {"type": "text"}), ("best_of", 3), ("user", "me"), ("unknown", {"a": [1]}), ("priority", 5), ("cache_salt", "s"),
    ("stop", []), ("stop", None), ("seed", -1), ("seed", 2**63 - 1), ("top_k", 2**40), ("temperature", "0.5"), ("max_tokens", 2.0)])
def test_what_asks_for_nothing_special_is_accepted(server, name, value):
    assert server.complete("hi", **{"max_tokens": 1, name: value})[0] == 200


def test_a_stream_has_no_prompt_logprobs_to_show_for_0(server):
    assert server.stream("/v1/completions", {"prompt": "a", "max_tokens": 1, "prompt_logprobs": 0})[-1] == "[DONE]"


def test_the_engine_s_template_error_is_the_client_s(server):
    status, answer = server.chat("!badtemplate")
    assert status == 400 and "roles must alternate" in answer["error"]["message"]


def test_a_prompt_without_tokens(server):
    status, error = refusal(server, "/v1/completions", prompt=["", "x"])
    assert status == 400 and "cannot be empty" in error["message"]


def test_prompts_that_are_too_long(server):
    status, answer = server.complete("a" * 2049)
    assert status == 400 and answer["error"]["param"] == "input_tokens" and "at least 2049 input tokens" in answer["error"]["message"]
    status, answer = server.complete("a" * 100_000)
    assert status == 400 and answer["error"]["param"] == "input_text" and "100000 characters" in answer["error"]["message"]
    status, answer = server.chat("a" * 100_000)
    assert status == 400 and answer["error"]["param"] == "input_text"
    status, answer = server.chat("a", chat_template_kwargs={"long": "a" * 100_000})
    assert status == 400 and answer["error"]["param"] == "input_text"
    status, answer = server.complete("a" * 2048)
    assert answer["error"]["message"].startswith("max_tokens must be at least 1, got 0.")


def test_too_many_choices(server):
    status, answer = server.complete(["a"] * 600, n=2)
    assert status == 400 and "1024" in answer["error"]["message"]


def test_hostile_json(server):
    def post(body):
        return server.call("POST", "/v1/completions", body, {"Content-Type": "application/json"})

    parse_error = (400, {"detail": "There was an error parsing the body"})
    for body in [b'{"prompt": "\xff\xfe"}', b'{"prompt":' + b"[" * 100_000, b'{"prompt":' + b"[]," * 200_000, b'{"a":' * 50_000,
                 b'{"prompt": [' + b"0," * 5_000_000 + b"0]}"]:
        status, _, data = post(body)
        assert (status, json.loads(data)) == parse_error
    for body in [b"", b"{", b"nul", b'{"prompt": "\\ud800"}', b'{"prompt": "a", "max_tokens": 1e999}', b"[1]", b'"x"', b'{"a\\u0000": 1}',
                 b'{"prompt": "a", "stop": "\\u0000"}', b'{"prompt": "a", "seed": 99999999999999999999}', b'{"prompt":"a"} x']:
        status, _, data = post(body)
        assert status == 400 and json.loads(data)["error"]["message"], body
    assert post(b'\xef\xbb\xbf{"prompt": "a", "prompt": "b", "max_tokens": 1}')[0] == 200


def test_nul_and_strange_characters_in_a_prompt_are_just_text(server):
    _, answer = server.complete("\0\x01\u2028\U0001F355", max_tokens=9)
    assert answer["choices"][0]["text"] == "\0\x01\u2028\U0001F355"


def test_an_unknown_model_is_not_found_and_paths_are_not_told(start):
    server = start()
    status, answer = server.complete("a", model="nope")
    assert status == 404 and answer["error"]["message"] == "The model `nope` does not exist. Valid aliases: <path>."
    assert server.complete("a", model="/models/fake", max_tokens=1)[0] == 200


def test_api_keys(start):
    server = start("--api-key", "key-one", "--api-key", "key-two")
    body = {"prompt": "a", "max_tokens": 1}

    def status(headers, path="/v1/completions", sent=body):
        return server.call("POST", path, sent, headers)[0]

    assert status({"Authorization": "Bearer key-one"}) == 200 and status({"Authorization": "bearer key-two"}) == 200
    for value in ["Bearer key-on", "Bearer key-onee", "Bearer  key-one", "Bearer", "Basic key-one", "key-one", "Bearer "]:
        assert status({"Authorization": value}) == 401, value
    assert server.call("POST", "/v1/completions", body)[2] == b'{"error":"Unauthorized"}'
    assert status({}, "/v1/nope") == 401 and status({}, "/nope") == 404
    assert status({}, "/v1/completions", "{") == 401, "checked before the body"
    assert server.call("GET", "/v1/models")[0] == 401 and server.call("GET", "/health")[0] == 200
