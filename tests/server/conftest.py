"""Starts the server over its fake engine (fake_engine.c says what prompts make it do) and talks to it with the standard library only."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

import pytest


class Server:
    def __init__(self, *flags):
        command = os.environ.get("OCTAVO_FAKE_SERVER_WRAPPER", "").split() + [os.environ["OCTAVO_FAKE_SERVER"]]
        self.errors = tempfile.TemporaryFile("w+")  # not a pipe: nobody reads it before the end
        # A sanitizer keeps freed memory for a while; the tests that look at the resident size want it back.
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
        self.process = subprocess.Popen(command + list(flags), stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env={**os.environ, "ASAN_OPTIONS": options})
        line = self.process.stdout.readline()
        assert line.startswith("listening "), line
        self.port = int(line.split()[1])
        self.log = None

    def connect(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def call(self, method, path, body=None, headers=None):
        """One request on its own connection: (status, headers with lower-case names, body bytes)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, data

    def complete(self, prompt, **parameters):
        status, _, data = self.call("POST", "/v1/completions", {"prompt": prompt, **parameters})
        return status, json.loads(data)

    def chat(self, messages, **parameters):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        status, _, data = self.call("POST", "/v1/chat/completions", {"messages": messages, **parameters})
        return status, json.loads(data)

    def stream(self, path, body):
        """The events of a stream, the last being "[DONE]"."""
        status, headers, data = self.call("POST", path, {**body, "stream": True})
        assert status == 200, data
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        return events_of(data)

    def raw(self, request, timeout=5, shut=False):
        """Sends bytes, reads until the server closes or nothing comes for `timeout` seconds."""
        with self.connect(timeout) as client:
            client.sendall(request)
            if shut:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def metric(self, name):
        for line in self.call("GET", "/metrics")[2].decode().splitlines():
            if line.startswith(name):
                return float(line.split()[-1])
        raise KeyError(name)

    def wait_until_idle(self, seconds=5):
        end = time.monotonic() + seconds
        while self.metric("vllm:num_requests_running") > 0:
            assert time.monotonic() < end, "requests are still running"
            time.sleep(0.01)

    def stop(self, sig=signal.SIGTERM, timeout=20):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait(timeout)

    def wait(self, timeout=20):
        """For a server that was told to stop already: another signal could meet it when it has ceased to handle them."""
        self.process.wait(timeout)
        self.errors.seek(0)
        self.log = self.errors.read()
        return self.process.returncode


def read_all(client):
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except (socket.timeout, ConnectionResetError):
        pass
    return data


def events_of(data):
    text = data.decode()
    assert text.endswith("\n\n")
    events = []
    for block in text[:-2].split("\n\n"):
        if block.startswith(":"):
            continue
        assert block.startswith("data: ") and "\n" not in block, block
        events.append(block[6:] if block == "data: [DONE]" else json.loads(block[6:]))
    assert events[-1] == "[DONE]"
    return events


@pytest.fixture
def start():
    """Starts servers with flags of their own; all must stop cleanly at the end."""
    servers = []

    def begin(*flags):
        servers.append(Server(*flags))
        return servers[-1]

    yield begin
    for server in servers:
        stopped = server.process.poll() is not None
        code = server.stop()
        assert stopped or code == 0, server.log


@pytest.fixture(scope="module")
def server():
    server = Server("--name", "fake", "--name", "alias")
    yield server
    assert server.stop() == 0, server.log
    assert "ERROR" not in server.log and "Sanitizer" not in server.log, server.log
