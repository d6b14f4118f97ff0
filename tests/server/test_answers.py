"""What the endpoints answer: shapes, key order, texts, streams."""

import json
import re

from conftest import events_of

CHOICE = ["index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts"]


def test_health_and_ping_are_empty(server):
    for method, path in [("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")]:
        status, headers, data = server.call(method, path)
        assert (status, headers["content-length"], data) == (200, "0", b"")


def test_version_load_and_models(server):
    assert json.loads(server.call("GET", "/version")[2]) == {"version": "0.1.0"}
    assert json.loads(server.call("GET", "/load")[2]) == {"server_load": 0}
    models = json.loads(server.call("GET", "/v1/models")[2])
    assert [card["id"] for card in models["data"]] == ["fake", "alias"]
    assert list(models["data"][0]) == ["id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"]


def test_a_completion_has_vllm_keys_in_vllm_order(server):
    status, answer = server.complete("abc", max_tokens=5)
    assert status == 200
    assert list(answer) == ["id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage", "kv_transfer_params",
                            "ec_transfer_params", "metrics"]
    assert re.fullmatch(r"cmpl-[0-9a-f]{16}", answer["id"])
    assert answer["object"] == "text_completion" and answer["model"] == "fake"
    assert list(answer["choices"][0]) == CHOICE
    assert answer["choices"][0]["text"] == "abcab" and answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 8, "completion_tokens": 5, "prompt_tokens_details": None,
                               "completion_tokens_details": None}


def test_a_chat_answer_has_vllm_keys_in_vllm_order(server):
    status, answer = server.chat("!say=hello;", max_tokens=5)
    assert status == 200
    assert list(answer) == ["id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage", "prompt_logprobs",
                            "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"]
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16}", answer["id"])
    choice = answer["choices"][0]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts"]
    assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None, "annotations": None, "audio": None,
                                 "function_call": None, "reasoning": None}


def test_max_tokens_defaults_to_16_for_completions_and_to_the_context_for_chat(server):
    assert server.complete("abc")[1]["usage"]["completion_tokens"] == 16
    usage = server.chat("hi")[1]["usage"]
    assert usage["total_tokens"] == 2048
    assert server.chat("hi", max_tokens=9, max_completion_tokens=4)[1]["usage"]["completion_tokens"] == 4


def test_a_completion_stream_sends_a_chunk_a_token(server):
    events = server.stream("/v1/completions", {"prompt": "abc !delay=9", "max_tokens": 4})
    assert len(events) == 5
    assert [event["choices"][0]["text"] for event in events[:4]] == ["a", "b", "c", " "]
    assert list(events[0]) == ["id", "object", "created", "model", "choices"]
    assert list(events[0]["choices"][0]) == ["index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"]
    assert [event["choices"][0]["finish_reason"] for event in events[:4]] == [None, None, None, "length"]
    assert "system_fingerprint" in events[3] and "usage" not in events[3]
    assert len({event["id"] for event in events[:4]}) == 1


def test_a_chat_stream_starts_with_the_role(server):
    events = server.stream("/v1/chat/completions", {"messages": [{"role": "user", "content": "!say=hey;!delay=9"}], "max_tokens": 3})
    assert events[0]["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]
    assert list(events[0])[-2:] == ["prompt_token_ids", "prompt_text"]
    assert [event["choices"][0]["delta"]["content"] for event in events[1:4]] == ["h", "e", "y"]
    assert list(events[1]["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "token_ids"]
    assert list(events[3]["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"]


def test_usage_in_streams(server):
    body = {"prompt": "abc !delay=9", "max_tokens": 3}
    final = server.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert all("usage" not in event for event in final[:3])
    assert final[3]["choices"] == [] and final[3]["usage"] == {"prompt_tokens": 12, "total_tokens": 15, "completion_tokens": 3}
    assert "system_fingerprint" in final[3] and "system_fingerprint" not in final[2]
    each = server.stream("/v1/completions", {**body, "stream_options": {"include_usage": True, "continuous_usage_stats": True}})
    assert [event["usage"]["completion_tokens"] for event in each[:4]] == [1, 2, 3, 3]
    only = server.stream("/v1/completions", {**body, "stream_options": {"continuous_usage_stats": True}})
    assert all("usage" not in event for event in only[:-1])


def test_stream_interval_gathers_tokens(server):
    events = server.stream("/v1/completions", {"prompt": "abcdef !delay=9", "max_tokens": 8, "stream_interval": 5})
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["a", "bcdef", " !"]


def test_completion_logprobs(server):
    _, answer = server.complete("ab", max_tokens=3, logprobs=1)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs == {"text_offset": [0, 1, 2], "token_logprobs": [-0.5] * 3, "tokens": ["a", "b", "a"],
                        "top_logprobs": [{"a": -0.5}, {"b": -0.5}, {"a": -0.5}]}
    _, answer = server.complete("ab", max_tokens=1, logprobs=2)
    assert answer["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -0.5, "c": -1.0}]
    _, answer = server.complete("ab", max_tokens=1, logprobs=0)
    assert answer["choices"][0]["logprobs"]["top_logprobs"] == [{"a": -0.5}]


def test_chat_logprobs(server):
    _, answer = server.chat("!say=ab;", max_tokens=2, logprobs=True)
    assert answer["choices"][0]["logprobs"]["content"][1] == {"token": "b", "logprob": -0.5, "bytes": [98], "top_logprobs": []}
    _, answer = server.chat("!say=ab;", max_tokens=1, logprobs=True, top_logprobs=2)
    assert [top["token"] for top in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]] == ["a", "c"]


def test_pieces_of_a_character_print_as_empty_tokens(server):
    _, answer = server.complete("é", max_tokens=2, logprobs=0)
    assert answer["choices"][0]["logprobs"]["tokens"] == ["", "é"]
    assert answer["choices"][0]["logprobs"]["text_offset"] == [0, 0]
    _, answer = server.complete("é", max_tokens=1, logprobs=2)
    assert answer["choices"][0]["logprobs"]["top_logprobs"] == [{"": -0.5}], "the sampled token's number survives among equal keys"
    _, answer = server.chat("!say=é;", max_tokens=2, logprobs=True)
    assert [token["bytes"] for token in answer["choices"][0]["logprobs"]["content"]] == [[], [0xC3, 0xA9]]
    events = server.stream("/v1/completions", {"prompt": "é!delay=9", "max_tokens": 2})
    assert [event["choices"][0]["text"] for event in events[:2]] == ["", "é"]


def test_tokens_as_token_ids(server):
    _, answer = server.complete("a", max_tokens=1, logprobs=0, return_tokens_as_token_ids=True)
    assert answer["choices"][0]["logprobs"]["tokens"] == ["token_id:100"]
    _, answer = server.chat("!say=a;", max_tokens=1, logprobs=True, top_logprobs=1, return_tokens_as_token_ids=True)
    token = answer["choices"][0]["logprobs"]["content"][0]
    assert token["token"] == token["top_logprobs"][0]["token"] == "token_id:100" and token["bytes"] == [97]


def test_stop_strings(server):
    _, answer = server.complete("one two three", max_tokens=12, stop=["zzz", "two"])
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("one ", "stop", "two")
    assert answer["usage"]["completion_tokens"] == 7
    _, answer = server.complete("one two three", max_tokens=12, stop="two", include_stop_str_in_output=True)
    assert answer["choices"][0]["text"] == "one two"
    events = server.stream("/v1/completions", {"prompt": "one two three!delay=9", "max_tokens": 12, "stop": ["two"]})
    # How the tokens fall into chunks depends on the machine's load; that nothing of the stop string is ever sent does not.
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "one "
    assert events[-2]["choices"][0]["stop_reason"] == "two"


def test_stop_token_ids_and_eos(server):
    _, answer = server.complete("abc", max_tokens=9, stop_token_ids=[101])
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == ("a", 101)
    _, answer = server.complete("abc", max_tokens=9, stop_token_ids=[101], include_stop_str_in_output=True)
    assert answer["choices"][0]["text"] == "ab"
    _, answer = server.complete("abc !eos=2", max_tokens=9)
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"], answer["choices"][0]["stop_reason"]) == ("ab", "stop", None)
    assert server.complete("abc !eos=2", max_tokens=9, ignore_eos=True)[1]["usage"]["completion_tokens"] == 9


def test_prompts_may_be_lists_and_token_ids(server):
    _, answer = server.complete(["ab", "cd"], max_tokens=2)
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "ab"), (1, "cd")]
    assert answer["usage"]["prompt_tokens"] == 4
    assert server.complete([100, 101], max_tokens=2)[1]["choices"][0]["text"] == "ab"
    assert [choice["text"] for choice in server.complete([[100], [101]], max_tokens=1)[1]["choices"]] == ["a", "b"]


def test_n_choices_come_prompt_major_and_count_the_prompt_once(server):
    _, answer = server.complete(["ab", "cd"], max_tokens=2, n=2)
    assert [choice["text"] for choice in answer["choices"]] == ["ab", "ab", "cd", "cd"]
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 12, "completion_tokens": 8, "prompt_tokens_details": None,
                               "completion_tokens_details": None}
    events = server.stream("/v1/completions", {"prompt": "abcd!delay=9", "max_tokens": 3, "n": 3})
    texts = {}
    for event in events[:-1]:
        choice = event["choices"][0]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == {0: "abc", 1: "abc", 2: "abc"}


def test_the_choices_of_a_seeded_prompt_have_seeds_of_their_own(server):
    _, answer = server.complete(["!seeded", "!seeded"], max_tokens=1, n=3, seed=5)
    assert [choice["text"] for choice in answer["choices"]] == ["f", "g", "h", "f", "g", "h"]
    assert server.complete("!seeded", max_tokens=1)[1]["choices"][0]["text"] == "?"


def test_echo(server):
    assert server.complete("abc", max_tokens=2, echo=True)[1]["choices"][0]["text"] == "abcab"
    assert server.complete([100, 101], max_tokens=1, echo=True)[1]["choices"][0]["text"] == "aba"
    _, answer = server.complete("abc", max_tokens=0, echo=True)
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("abc", "length")
    assert answer["usage"]["completion_tokens"] == 1
    events = server.stream("/v1/completions", {"prompt": "abc", "max_tokens": 2, "echo": True})
    assert events[0]["choices"][0]["prompt_token_ids"] == [100, 101, 102]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "abcab"


def test_echo_with_logprobs_scores_the_prompt(server):
    for max_tokens in (0, 1):
        _, answer = server.complete("abc", max_tokens=max_tokens, echo=True, logprobs=2)
        choice = answer["choices"][0]
        logprobs, shown = choice["logprobs"], "abc" + "a" * max_tokens
        assert choice["text"] == shown and "".join(logprobs["tokens"]) == shown
        assert logprobs["text_offset"] == list(range(len(shown)))
        assert logprobs["token_logprobs"] == [None, -0.25, -0.25] + [-0.5] * max_tokens
        assert logprobs["top_logprobs"][:3] == [None, {"b": -0.25, "c": -0.5}, {"c": -0.25, "d": -0.5}]
        assert choice["prompt_logprobs"] == [None] + [
            {str(token): {"logprob": -0.25, "rank": 1, "decoded_token": chr(token - 3)},
             str(token + 1): {"logprob": -0.5, "rank": 2, "decoded_token": chr(token - 2)}} for token in (101, 102)]
    events = server.stream("/v1/completions", {"prompt": "abc", "max_tokens": 2, "echo": True, "logprobs": 0})
    assert [token for event in events[:-1] for token in event["choices"][0]["logprobs"]["tokens"]] == list("abcab")


def test_prompt_logprobs(server):
    _, answer = server.complete("abc", max_tokens=1, prompt_logprobs=0)
    assert answer["choices"][0]["prompt_logprobs"] == [None] + [
        {str(token): {"logprob": -0.25, "rank": 1, "decoded_token": chr(token - 3)}} for token in (101, 102)]
    assert answer["choices"][0]["logprobs"] is None and answer["choices"][0]["text"] == "a"
    _, answer = server.chat("hi", max_tokens=1, prompt_logprobs=1)
    assert answer["prompt_logprobs"][0] is None and len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]


def test_token_ids_are_returned_when_asked_for(server):
    _, answer = server.complete("ab", max_tokens=2, return_token_ids=True, echo=True)
    choice = answer["choices"][0]
    assert (choice["text"], choice["token_ids"], choice["prompt_token_ids"]) == ("ab", [100, 101], [100, 101])
    _, answer = server.chat("!say=ab;", max_tokens=2, return_token_ids=True)
    assert answer["choices"][0]["token_ids"] == [100, 101] and len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]


def test_truncated_prompts(server):
    assert server.complete("abcdef", max_tokens=2, truncate_prompt_tokens=2)[1]["choices"][0]["text"] == "ef"
    assert server.complete("abcdef", max_tokens=2, truncate_prompt_tokens=2, truncation_side="right")[1]["choices"][0]["text"] == "ab"
    assert server.complete("a" * 5000, max_tokens=2, truncate_prompt_tokens=-1)[1]["usage"]["prompt_tokens"] == 2047


def test_request_ids(server):
    _, _, data = server.call("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1, "request_id": "body"}, {"X-Request-Id": "head\"er"})
    assert json.loads(data)["id"] == "cmpl-head\"er"
    assert server.chat("a", max_tokens=1, request_id="body")[1]["id"] == "chatcmpl-body"


def test_the_output_is_clipped_to_the_context(server):
    _, answer = server.complete("a" * 2040, max_tokens=100)
    assert answer["usage"]["completion_tokens"] == 8 and answer["choices"][0]["finish_reason"] == "length"


def prompt_of(server, messages=({"role": "user", "content": "hi"},), path="/tokenize", **parameters):
    """What the engine was asked to render, told by the fake engine: the messages' JSON and each option that is set."""
    body = {"messages": list(messages), **parameters}
    if path == "/tokenize":
        status, _, data = server.call("POST", path, body)
        assert status == 200, data
        return json.loads(server.call("POST", "/detokenize", {"tokens": json.loads(data)["tokens"]})[2])["prompt"]
    status, answer = server.chat(body.pop("messages"), max_tokens=1000, **parameters)
    assert status == 200, answer
    return answer["choices"][0]["message"]["content"]


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "maximum": 18446744073709551615}}}


def test_messages_reach_the_template_as_they_came(server):
    messages = [{"role": "developer", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                {"role": "tool", "tool_call_id": "1", "name": "f", "content": "y"}, {"role": "alien"}]
    for path in ["/tokenize", "/v1/chat/completions"]:
        prompt = prompt_of(server, messages, path)
        assert json.dumps(messages[0]["content"], separators=(",", ":")) in prompt
        assert '"reasoning":"r"' in prompt and '"tool_call_id":"1"' in prompt and '"name":"f"' in prompt and '{"role":"alien"}' in prompt


def test_what_a_template_can_be_given_reaches_it(server):
    for path in ["/tokenize", "/v1/chat/completions"]:
        none = {} if path == "/tokenize" else {"tool_choice": "none"}
        prompt = prompt_of(server, path=path, tools=[TOOL], **none)
        assert ' tools=[{"type":"function","function":{"name":"f"' in prompt
        prompt = prompt_of(server, path=path, chat_template_kwargs={"enable_thinking": False, "n": 18446744073709551615})
        assert ' kwargs={"enable_thinking":false,"n":' in prompt and "18446744073709551615" in prompt
        assert " continue=yes" in prompt_of(server, path=path, add_generation_prompt=False, continue_final_message=True)
        assert " special=yes" in prompt_of(server, path=path, add_special_tokens=True)
        assert " special=" not in prompt_of(server, path=path)
    assert ' documents=[{"text":"d"}]' in prompt_of(server, path="/v1/chat/completions", documents=[{"text": "d"}])
    assert ' kwargs={"reasoning_effort":"low"}' in prompt_of(server, path="/v1/chat/completions", reasoning_effort="low")


def test_the_server_decides_about_templates_formats_and_special_tokens(start):
    server = start("--trust-request-chat-template", "1", "--allow-special-tokens-in-messages", "1", "--content-format", "openai",
                   "--default-chat-template-kwargs", '{"a": 1, "b": 2}')
    for path in ["/tokenize", "/v1/chat/completions"]:
        prompt = prompt_of(server, path=path, chat_template="{{ x }}", chat_template_kwargs={"b": 3})
        assert " template={{ x }} format=openai" in prompt and " trusted=yes" in prompt and ' kwargs={"a":1,"b":3}' in prompt


def test_without_a_generation_prompt_the_role_is_the_last_message_s(server):
    _, answer = server.chat("x", max_tokens=1, add_generation_prompt=False)
    assert answer["choices"][0]["message"]["role"] == "user"


def test_an_error_after_the_first_token_becomes_an_event(server):
    events = server.stream("/v1/completions", {"prompt": "abc !fail=2 !delay=9", "max_tokens": 9})
    assert events[-2] == {"error": {"message": "logits are not finite", "type": "InternalServerError", "param": None, "code": 500}}
    assert len(events) == 4


def test_an_error_before_the_first_token_is_a_status(server):
    for stream in [False, True]:
        status, answer = server.complete("abc !fail=0", stream=stream)
        assert (status, answer["error"]["type"], answer["error"]["code"]) == (500, "InternalServerError", 500)
    status, answer = server.complete("!refuse")
    assert (status, answer["error"]["type"]) == (400, "BadRequestError")


def test_a_failing_choice_fails_the_request_and_cancels_the_others(server):
    status, answer = server.complete(["abc !delay=1000", "abc !fail=1"], max_tokens=100)
    assert status == 500 and answer["error"]["message"] == "logits are not finite"
    server.wait_until_idle()


def test_metrics_have_vllm_names(server):
    text = server.call("GET", "/metrics")[2].decode()
    for name in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total", "generation_tokens_total"]:
        assert re.search(r'^vllm:%s\{engine="0",model_name="fake"\} [0-9.e+]+$' % name, text, re.M), name
    assert server.metric('vllm:request_success_total{engine="0",finished_reason="stop"') > 0


def test_request_id_headers_and_cached_tokens_with_their_flags(start):
    server = start("--request-id-headers", "1", "--prompt-tokens-details", "1")
    _, headers, data = server.call("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}, {"x-request-id": "mine"})
    assert headers["x-request-id"] == "mine"
    assert json.loads(data)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0, "created_cache_tokens": None, "multimodal_tokens": None}
    assert re.fullmatch("[0-9a-f]{32}", server.call("GET", "/health")[1]["x-request-id"])


def test_keep_alive_comments_fill_silence(start):
    server = start("--sse-keep-alive", "0.05")
    _, _, data = server.call("POST", "/v1/completions", {"prompt": "abc !delay=200", "max_tokens": 3, "stream": True})
    assert data.count(b": keep-alive\n\n") >= 4
    assert len(events_of(data)) == 4



def test_tokenize_and_detokenize(server):
    def call(path, body):
        status, _, data = server.call("POST", path, body)
        return status, json.loads(data)

    assert call("/tokenize", {"prompt": "ab"}) == (200, {"count": 2, "max_model_len": 2048, "tokens": [100, 101], "token_strs": None})
    assert call("/tokenize", {"prompt": ""})[1]["count"] == 0
    status, answer = call("/tokenize", {"messages": [{"role": "user", "content": "a"}]})
    assert answer["count"] == len('[{"role":"user","content":"a"}]>>')
    assert call("/detokenize", {"tokens": [100, 101]}) == (200, {"prompt": "ab"})
    assert call("/detokenize", {"tokens": []}) == (200, {"prompt": ""})
    for path, body, param in [("/tokenize", {}, "body.prompt"), ("/tokenize", {"prompt": 5}, "body.prompt"), ("/detokenize", {}, "body.tokens"),
                              ("/detokenize", {"tokens": "x"}, "body.tokens"), ("/detokenize", {"tokens": [-1]}, "body.tokens.0"),
                              ("/detokenize", {"tokens": [259]}, None), ("/tokenize", {"prompt": "a", "return_token_strs": True}, "return_token_strs")]:
        status, answer = call(path, body)
        assert (status, answer["error"]["param"]) == (400, param)
    assert call("/tokenize", {"prompt": "a", "model": "nope"})[0] == 404
    assert server.call("GET", "/tokenize")[0] == 405
