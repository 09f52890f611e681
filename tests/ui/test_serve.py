"""headway serve: a process that reports when it is ready and finishes its requests; ports, keys and warnings."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from headway.core.errors import HeadwayError
from headway.ui.http.serve import FIRST_PORT, is_loopback, listen
from tiny_gpt2 import make_gpt2

READY = re.compile(r"http://([\d.]+):(\d+)(/docs)?")


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs `headway serve`; yields the process and its port when it is ready."""
    command = [sys.executable, "-m", "headway.ui.cli", "serve", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert process.stdout is not None
        ready = READY.search(process.stdout.readline())
        assert ready, process.communicate(timeout=60)[1]
        assert ready[3]
        yield process, int(ready[2])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def send(port: int, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Sends a request; returns the status and the content of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(
        "GET" if body is None else "POST", path, content, {"Content-Type": "application/json", **headers}
    )
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, json.loads(answer)


@pytest.fixture
def gpt2(byte_level_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "writer"
    folder.mkdir()
    return make_gpt2(byte_level_folder, folder)


@pytest.mark.posix
def test_sigterm_stops_the_server_after_the_accepted_requests(trained_once, gpt2):
    with serving(trained_once, gpt2, "--max-new-tokens", 1000, HEADWAY_KEY="secret") as (process, port):
        key = {"Authorization": "Bearer secret"}
        assert send(port, "/health") == (200, {"status": "ok"})
        status, answer = send(port, "/info", Host="evil.example")
        assert (status, answer["error"]["type"]) == (401, "authentication_error")
        status, answer = send(port, "/predict", {"inputs": ["a good film"]}, **key)
        assert (status, answer["predictions"][0]["label"]) == (200, "good")
        body = {"prompt": "a", "max_new_tokens": 400, "context": "slide", "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json", **key})
        response = connection.getresponse()
        assert response.read(10)
        process.send_signal(signal.SIGTERM)
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with pytest.raises(ConnectionRefusedError):
        send(port, "/health")


@pytest.mark.posix
@pytest.mark.slow
def test_ctrl_c_stops_the_server(trained_once):
    with serving(trained_once) as (process, port):
        assert send(port, "/predict", {"inputs": ["a film"]})[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


STOP_SECONDS = 20  # requests in progress may take 30; the cores may be busy
STOP_PROCESSOR_SECONDS = 2


def processor_seconds() -> float:
    """Of the processes that this one has started and that have ended."""
    return os.times().children_user + os.times().children_system


@pytest.mark.posix
@pytest.mark.parametrize(("command", "number"), [("serve", signal.SIGINT), ("ui", signal.SIGTERM)])
def test_open_pages_and_unfinished_requests_do_not_delay_the_end(trained_once, command, number):
    paths = {"serve": ["/docs", "/health"], "ui": ["/", "/gradio_api/heartbeat/a-page"]}[command]
    options = {"serve": [], "ui": ["--no-open", "--runs", "none"]}[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "headway.ui.cli", command, trained_once, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = next(found for line in process.stdout if (found := re.search(r"http://[\w.]+:(\d+)", line)))
        address = ("127.0.0.1", int(ready[1]))
        connections = [socket.create_connection(address, timeout=60) for _ in range(len(paths) + 2)]
        for connection, path in zip(connections, paths, strict=False):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connections[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.2)
        start, used = time.monotonic(), processor_seconds() + sum(psutil.Process(process.pid).cpu_times()[:2])
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - start < STOP_SECONDS
        assert processor_seconds() - used < STOP_PROCESSOR_SECONDS
        assert (process.returncode, errors) == (0, "")
        for connection in connections:
            connection.close()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.linux
@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_requests(trained_once, gpt2):
    def send_some(port: int, count: int, seed: int) -> None:
        random = Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for i in range(count):
            text = f"a film {i} " * random.randrange(30)
            path, body = random.choice(
                [
                    ("/predict", {"inputs": [text]}),
                    ("/predict", {"inputs": [text] * 5}),
                    ("/predict", {"inputs": [i]}),
                    ("/embed", {"texts": [text]}),
                    ("/generate", {"prompt": "a", "max_new_tokens": 2, "stream": i % 2 == 0}),
                ]
            )
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            if i % 20 == 0:
                connection.close()  # without reading the response
            else:
                connection.getresponse().read()
        connection.close()

    def together(port: int, count: int) -> None:
        clients = [threading.Thread(target=send_some, args=(port, count // 20, seed)) for seed in range(20)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    with serving(trained_once, gpt2) as (process, port):
        together(port, 2000)
        early = resident_memory(process.pid)
        together(port, 10_000)
        assert resident_memory(process.pid) - early < 20  # MB
        assert send(port, "/health")[0] == 200


def resident_memory(process: int) -> float:
    """Resident memory of a process in MB."""
    import resource

    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def test_a_given_port_in_use_is_an_error_and_without_one_the_next_free_port_is_found(headway, trained):
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        one, other = (listener.getsockname()[1] for listener in (first, second))
        assert FIRST_PORT <= one < other
        ran = headway("serve", trained, "--port", one)
        assert ran.code == 2
        assert ran.err == f"headway: --port {one} is in use. Choose another one, or omit it for the first free one.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", 70000], "port"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--key", ""], "--key (or HEADWAY_KEY) is empty"),
        (["--timeout", 0], "--timeout 0.0: it must be above 0"),
        (["--max-texts", "many"], "--max-texts many is invalid; it must be an integer"),
        (["--precision", "fp8"], "--precision fp8: choose auto, fp32"),
    ],
    ids=lambda given: str(given[0]) if isinstance(given, list) else "",
)
def test_bad_arguments_are_refused_with_a_sentence(headway, trained, arguments, message):
    ran = headway("serve", trained, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_model_that_cannot_be_opened_is_an_error_at_the_start(headway, trained):
    (trained / "model.safetensors").write_bytes(b"")
    ran = headway("serve", trained)
    assert ran.code == 2
    assert "model.safetensors" in ran.err


def test_a_public_address_without_a_key_is_warned_about(headway, trained, monkeypatch):
    from headway.ui.http import serve

    ran_with: list[Any] = []
    monkeypatch.setattr(serve, "run", lambda *given, **_: ran_with.append(given))
    ran = headway("serve", trained, "--host", "0.0.0.0")
    assert ran.err == "headway: anyone who can reach 0.0.0.0 can use these models. Set HEADWAY_KEY to require a key.\n"
    monkeypatch.setenv("HEADWAY_KEY", "secret\n")  # with the newline of a file
    assert headway("serve", trained, "--host", "0.0.0.0").err == ""
    for empty in ("", " "):
        monkeypatch.setenv("HEADWAY_KEY", empty)
        ran = headway("serve", trained, "--host", "0.0.0.0")
        assert (ran.code, "HEADWAY_KEY) is empty" in ran.err) == (2, True)
    monkeypatch.delenv("HEADWAY_KEY")
    assert headway("serve", trained).err == ""
    assert [access.key for _, _, access, *_ in ran_with] == [None, "secret", None]
    assert [bool(access.hosts) for _, _, access, *_ in ran_with] == [False, False, True]


def test_without_a_key_only_the_names_of_this_machine_reach_a_local_server(trained_once):
    with serving(trained_once) as (_, port):
        assert send(port, "/info", Host="evil.example")[1]["error"]["type"] == "permission_error"
        for host in ("localhost", f"127.0.0.1:{port}"):
            assert send(port, "/health", Host=host)[0] == 200


def test_only_loopback_addresses_are_local():
    for host, local in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with listen(host, 0) as listener:
            assert is_loopback(listener) == local
    with pytest.raises(HeadwayError, match="Choose another one"):
        listen("192.0.2.1", 0)


def test_an_ipv6_address_can_be_used(trained_once):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # a machine without IPv6
    with listen("::1", 0) as listener:
        assert is_loopback(listener)
