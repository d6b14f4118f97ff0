"""HTTP itself: what a well-behaved client may do, and what a hostile one must not achieve."""

import json
import random
import signal
import socket
import threading
import time

import pytest

from conftest import events_of, read_all


def post(body, path="/v1/completions", extra=b"", close=True):
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s%sContent-Length: %d\r\n\r\n"
            % (path.encode(), extra, b"Connection: close\r\n" if close else b"", len(body)) + body)


def resident_kib(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def status_of(reply):
    return int(reply.split(b" ", 2)[1]) if reply else None


# ---- Well-behaved.

def test_a_connection_is_kept_and_used_again(server):
    with server.connect() as client:
        reader = client.makefile("rb")
        for _ in range(3):
            client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := reader.readline()) != b"\r\n":
                length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
                assert not line.startswith(b"connection")
            assert json.loads(reader.read(length)) == {"version": "0.1.0"}


def test_pipelined_requests_are_answered_in_order(server):
    slow = post({"prompt": "abc !delay=30", "max_tokens": 3, "stream": True}, close=False)
    reply = server.raw(slow + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" + post({"prompt": "xyz", "max_tokens": 3}))
    assert reply.count(b"HTTP/1.1 200 OK") == 3
    assert reply.index(b"[DONE]") < reply.index(b'"version"') < reply.index(b'"xyz"')


def test_a_request_may_come_byte_by_byte(server):
    with server.connect() as client:
        for byte in post({"prompt": "abc", "max_tokens": 3}):
            client.sendall(bytes([byte]))
        assert b'"text":"abc"' in read_all(client)


def test_http_1_0_streams_end_with_the_connection(server):
    body = json.dumps({"prompt": "abc", "max_tokens": 3, "stream": True}).encode()
    reply = server.raw(b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    head, data = reply.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head and b"connection: close" in head
    assert events_of(data)[-1] == "[DONE]"


def test_expect_100_continue(server):
    with server.connect() as client:
        request = post({"prompt": "abc", "max_tokens": 3}, extra=b"Expect: 100-continue\r\n")
        head, body = request.split(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert b'"text":"abc"' in read_all(client)
    assert status_of(server.raw(head.replace(b"/v1/completions", b"/nope") + b"\r\n\r\n")) == 404
    assert status_of(server.raw(head.replace(b"100-continue", b"miracles") + b"\r\n\r\n")) == 417


def test_chunked_bodies_and_trailers(server):
    reply = server.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n6;ext=1\r\n{\"prom\r\n1a\r\npt\":\"abc\",\"max_tokens\": 3 \r\n1\r\n}\r\n0\r\nX-T: 1\r\n\r\n")
    assert b'"text":"abc"' in reply


def test_head_and_unknown_methods(server):
    reply = server.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(reply) == 405 and reply.endswith(b"\r\n\r\n") and b"allow: GET\r\n" in reply
    for method in [b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"]:
        assert status_of(server.raw(method + b" /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 405
    assert status_of(server.raw(b"BREW /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n")) == 400
    assert status_of(server.raw(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) in (404, 405)


def test_refused_bodies_do_not_become_requests(server):
    inner = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    reply = server.raw(post(inner, path="/nope", close=False) + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.count(b"HTTP/1.1 404") == 1 and reply.count(b"HTTP/1.1 200") == 1 and b'"version"' not in reply


def test_an_upgrade_is_ignored(server):
    reply = server.raw(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                       b"GET /load HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200") == 2 and b'"version"' in reply and b'"server_load"' in reply


def test_absolute_targets_empty_values_and_leading_newlines(server):
    for request in [b"GET http://x/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                    b"GET /version HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nConnection: close\r\n\r\n",
                    b"\r\n\r\nGET /version?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]:
        assert status_of(server.raw(request)) == 200


def test_a_trailing_slash_redirects(server):
    status, headers, _ = server.call("POST", "/v1/completions/", {"prompt": "a"})
    assert (status, headers["location"]) == (307, "/v1/completions")


# ---- Smuggling and malformed requests: refused, and the connection ends.

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [
    b"GARBAGE\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length: 99999999999999999999\r\n\r\n" + SMUGGLED,
    HEAD + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\na" + SMUGGLED,
    b"GET /version HTTP/1.1\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: x\r\nX A: 1\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: x\r\n: 1\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: x\r\nX: a\r\n folded: b\r\n\r\n",
    b"GET /version HTTP/1.1\nHost: x\n\n",
    b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /version HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /version HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /version\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
])
def test_malformed_requests_are_refused_and_nothing_is_smuggled(server, request_bytes):
    reply = server.raw(request_bytes, timeout=4)
    assert status_of(reply) in (400, 413, 501, 505), reply
    assert b"connection: close" in reply and reply.count(b"HTTP/1.1") == 1 and b'"version"' not in reply


def test_limits_of_head_and_body(start):
    server = start("--max-body", "1000")
    assert status_of(server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n")) == 431
    assert status_of(server.raw(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == 431
    assert status_of(server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 300 + b"\r\n")) == 431
    assert status_of(server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"X: 1\r\n" * 200 + b"\r\n")) == 200
    assert status_of(server.raw(post(b"x" * 1001))) == 413
    reply = server.raw(post(b"x" * 5_000_000))
    assert status_of(reply) == 413 and json.loads(reply.split(b"\r\n\r\n")[1])["error"]["code"] == 413
    big = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"190\r\n" + b"x" * 400 + b"\r\n"
    assert status_of(server.raw(big + (b"190\r\n" + b"x" * 400 + b"\r\n") * 4)) == 413
    trailers = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n"
    assert status_of(server.raw(trailers)) == 431
    head = post(b"x" * 2000, extra=b"Expect: 100-continue\r\n").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert status_of(server.raw(head)) == 413, "before the body is asked for"


# ---- Slow and greedy clients.

def drip(client, data, pause):
    """Sends a byte at a time until the server closes; returns the seconds that took."""
    begin = time.monotonic()
    try:
        for byte in data:
            client.sendall(bytes([byte]))
            client.settimeout(pause)
            try:
                if not client.recv(1000):
                    break
            except socket.timeout:
                pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    return time.monotonic() - begin


def test_a_slow_head_a_slow_body_and_an_idle_connection_time_out(start):
    server = start("--head-timeout", "0.5", "--body-timeout", "0.5", "--idle-timeout", "0.3")
    with server.connect() as client:
        assert drip(client, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50, 0.05) < 2
    patient = start("--head-timeout", "0.5", "--idle-timeout", "30")
    with patient.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(client.recv(1000)) == 200
        assert drip(client, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50, 0.05) < 2, "on a kept connection too"
    with server.connect() as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n")
        assert status_of(read_all(client)) == 408
    with server.connect() as client:
        begin = time.monotonic()
        assert read_all(client) == b"" and time.monotonic() - begin < 2
    with server.connect() as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        begin = time.monotonic()
        assert status_of(read_all(client)) == 200 and time.monotonic() - begin < 2
    # An answer may take longer than every one of these.
    assert server.complete("abc !delay=400", max_tokens=3)[0] == 200


def test_a_client_that_leaves_a_stream_is_cancelled_at_once(server):
    for leave in ["close", "reset", "half"]:
        with server.connect() as client:
            client.sendall(post({"prompt": "abc !delay=2000", "max_tokens": 1000, "stream": True}))
            assert b"200 OK" in client.recv(1000)
            if leave == "half":
                client.shutdown(socket.SHUT_WR)
                begin = time.monotonic()
                server.wait_until_idle(1)
                continue
            if leave == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        begin = time.monotonic()
        server.wait_until_idle(1)
        assert time.monotonic() - begin < 0.5


def test_a_client_that_leaves_while_it_waits_is_cancelled_even_with_unread_input(server):
    for extra in [b"", b"x" * 500_000]:
        with server.connect() as client:
            client.settimeout(0.3)
            try:
                client.sendall(post({"prompt": "abc !delay=500", "max_tokens": 1000}, close=False) + extra)
            except socket.timeout:
                pass
            time.sleep(0.2)
            assert server.metric("vllm:num_requests_running") == 1
        server.wait_until_idle(1)


def test_a_client_that_leaves_during_tokenizing_costs_nothing_more(server):
    before = server.metric("vllm:generation_tokens_total")
    with server.connect() as client:
        client.sendall(post({"prompt": "abc !slowtext=200", "max_tokens": 1000}))
        time.sleep(0.05)
    time.sleep(0.4)
    assert server.metric("vllm:generation_tokens_total") == before


def test_tokenizing_does_not_hold_up_others(server):
    threads = [threading.Thread(target=server.complete, args=("abc !slowtext=500",), kwargs={"max_tokens": 1}) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    begin = time.monotonic()
    assert server.call("GET", "/health")[0] == 200 and time.monotonic() - begin < 0.3
    for thread in threads:
        thread.join()


def test_input_flooded_during_a_stream_is_not_stored(server):
    with server.connect() as client:
        client.sendall(post({"prompt": "abc !delay=20", "max_tokens": 50, "stream": True}, close=False))
        before = resident_kib(server)
        client.settimeout(0.5)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += client.send(b"x" * 100_000)
        except (socket.timeout, ConnectionResetError, BrokenPipeError):
            pass
        assert resident_kib(server) - before < 4_000
    server.wait_until_idle()


def connect_and_read_nothing(server, delay):
    """A client with a small window, a hundred wordy choices, and no interest in them."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    prompt = "!say=%s;!delay=%d" % ("\1" * 50, delay)
    client.sendall(post({"prompt": [prompt] * 100, "max_tokens": 1500, "stream": True, "logprobs": 5, "return_token_ids": True}))
    return client


def test_a_client_that_reads_nothing_does_not_grow_the_server(start):
    server = start()
    with connect_and_read_nothing(server, 4):
        time.sleep(0.3)
        before = resident_kib(server)
        time.sleep(1)
        assert resident_kib(server) - before < 4_000
        begin = time.monotonic()
        assert server.complete("abc", max_tokens=3)[0] == 200 and time.monotonic() - begin < 0.5


def test_a_client_that_reads_nothing_is_given_up(start):
    server = start("--write-timeout", "1")
    begin = time.monotonic()
    with connect_and_read_nothing(server, 10):
        time.sleep(0.1)
        while server.call("GET", "/load")[2] != b'{"server_load":0}':
            assert time.monotonic() - begin < 8, "by itself it ends after 15 seconds"
            time.sleep(0.1)


def test_a_slow_reader_gets_everything(server):
    body = {"prompt": ["!say=abc;"] * 10, "max_tokens": 400, "stream": True, "logprobs": 2}
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.settimeout(20)
    client.sendall(post(body))
    time.sleep(0.5)
    data = read_all(client)
    client.close()
    payload, rest = b"", data.split(b"\r\n\r\n", 1)[1]
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        payload, rest = payload + rest[:int(size, 16)], rest[int(size, 16) + 2:]
    texts = {}
    for event in events_of(payload)[:-1]:
        choice = event["choices"][0]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert set(texts) == set(range(10)) and all(text == ("abc" * 134)[:400] for text in texts.values())


def test_a_long_reply_may_take_longer_than_the_idle_timeout(start):
    server = start("--idle-timeout", "0.2")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(post({"prompt": ["!say=\1\2\3;"] * 400, "max_tokens": 1500}, close=False))
    data = b""
    begin = time.monotonic()
    while b'"metrics":null}' not in data[-100:]:
        piece = client.recv(65536)
        assert piece, "closed too early"
        data += piece
        if time.monotonic() - begin < 1.5:
            time.sleep(0.1)
    client.close()


def test_bodies_that_wait_for_a_text_thread_are_bounded(start):
    """Sixteen bodies of the largest size may be in memory; more are refused until those have been read."""
    server = start("--max-body", "100000")
    body = {"prompt": "!slowtext=300" + "a" * 1000, "max_tokens": 1, "pad": "x" * 90_000}
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(status_of(server.raw(post(body), 20)))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(replies) == {200, 503} and replies.count(503) <= 24
    assert server.complete("abc", max_tokens=1)[0] == 200


def test_replies_to_pipelined_requests_wait_for_the_reader(server):
    """A client that sends requests and reads no replies is stopped, not served from growing memory."""
    with server.connect() as client:
        client.settimeout(0.5)
        request, sent = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, 0
        before = resident_kib(server)
        try:
            while sent < 50_000_000:
                sent += client.send(request)
        except socket.timeout:
            pass
        assert sent < 50_000_000 and resident_kib(server) - before < 4_000


def test_two_hundred_streams_at_once(server):
    results = []

    def one(i):
        events = server.stream("/v1/completions", {"prompt": f"!say=stream {i:03d};!delay=2", "max_tokens": 10})
        results.append((i, "".join(event["choices"][0]["text"] for event in events[:-1])))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(i, f"stream {i:03d}") for i in range(200)]


def test_more_connections_than_allowed_wait_their_turn(start):
    server = start("--max-connections", "5", "--idle-timeout", "0.3", "--head-timeout", "0.3")
    idle = [server.connect() for _ in range(20)]
    begin = time.monotonic()
    assert server.call("GET", "/health")[0] == 200
    assert 0.8 < time.monotonic() - begin < 10, "four fives of idle connections time out first"
    for client in idle:
        client.close()


def test_mutated_requests_never_harm_the_server(server):
    chance = random.Random(1)
    good = [post({"prompt": "abc", "max_tokens": 3, "stream": True}), b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{\"prompt\": \"abc\"\r\n1\r\n}\r\n0\r\n\r\n"]
    for _ in range(400):
        data = bytearray(chance.choice(good) * chance.randint(1, 2))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            action = chance.randrange(3)
            if action == 0:
                data[at] = chance.randrange(256)
            elif action == 1:
                del data[at:at + chance.randint(1, 8)]
            else:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 4)))
        with server.connect(2) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            read_all(client)
    assert server.call("GET", "/health")[0] == 200


# ---- Stopping.

def test_without_a_timeout_a_signal_aborts_what_runs(start):
    server = start()
    with server.connect() as stream, server.connect() as plain, server.connect() as idle:
        stream.sendall(post({"prompt": "abc !delay=100", "max_tokens": 1000, "stream": True}))
        assert stream.recv(1000)
        plain.sendall(post({"prompt": "abc !delay=100", "max_tokens": 1000}))
        time.sleep(0.3)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        data = read_all(stream)
        assert b'"finish_reason":"abort"' in data and b"data: [DONE]" in data
        assert status_of(read_all(plain)) == 503
        assert read_all(idle) == b""
    assert server.wait() == 0
    assert time.monotonic() - begin < 1.5


def test_with_a_timeout_running_requests_end_and_new_ones_are_refused(start):
    server = start("--shutdown-timeout", "5")
    with server.connect() as stream:
        stream.sendall(post({"prompt": "abc !delay=50", "max_tokens": 20, "stream": True}))
        assert stream.recv(1000)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        with pytest.raises(OSError):
            server.connect(1)
        assert b'"finish_reason":"length"' in read_all(stream)
    assert server.wait() == 0
    assert time.monotonic() - begin < 3


def test_the_timeout_ends_and_a_second_signal_ends_at_once(start):
    for second in [False, True]:
        server = start("--shutdown-timeout", "60" if second else "0.5")
        with server.connect() as stream:
            stream.sendall(post({"prompt": "abc !delay=100", "max_tokens": 1000, "stream": True}))
            assert stream.recv(1000)
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            if second:
                server.process.send_signal(signal.SIGTERM)
            read_all(stream)
        assert server.process.wait(10) == 0 and time.monotonic() - begin < 2.5


def test_a_client_that_never_reads_cannot_keep_the_server_from_stopping(start):
    server = start()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(post({"prompt": ["!say=abc;"] * 50, "max_tokens": 1500, "stream": True, "logprobs": 5}))
    time.sleep(0.5)
    begin = time.monotonic()
    assert server.stop() == 0 and time.monotonic() - begin < 4
    client.close()


def test_an_address_in_use_is_an_error(server, start):
    import os
    import subprocess
    done = subprocess.run([os.environ["OCTAVO_FAKE_SERVER"], "--host", "no.such.host.invalid"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "no.such.host.invalid" in done.stderr
