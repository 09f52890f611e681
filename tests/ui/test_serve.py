"""headway serve: a real process that says when it is ready and finishes what it took; ports, keys and warnings."""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.ui.http.serve import FIRST_PORT, is_loopback, listen
from tiny_gpt2 import make_gpt2

READY = re.compile(r"http://([\d.]+):(\d+)(/docs)?")


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`headway serve` as a process of its own: the process, and its port when it is ready."""
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
        assert ready, process.communicate(timeout=20)[1]
        assert bool(ready[3]) == ("HEADWAY_KEY" not in environment)  # no browser could open the page without the key
        yield process, int(ready[2])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def ask(port: int, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """The status of an answer, and what it says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = None if body is None else json.dumps(body)
    connection.request(
        "GET" if body is None else "POST", path, content, {"Content-Type": "application/json", **headers}
    )
    response = connection.getresponse()
    said = response.read()
    connection.close()
    return response.status, json.loads(said)


@pytest.fixture
def gpt2(byte_level_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "writer"
    folder.mkdir()
    return make_gpt2(byte_level_folder, folder)


def test_sigterm_ends_it_when_all_that_was_taken_is_answered(trained_once, gpt2):
    with serving(trained_once, gpt2, "--max-new-tokens", 1000, HEADWAY_KEY="secret") as (process, port):
        key = {"Authorization": "Bearer secret"}
        assert ask(port, "/health") == (200, {"status": "ok"})
        assert ask(port, "/info")[0] == 401
        status, said = ask(port, "/predict", {"inputs": ["a good film"]}, **key)
        assert (status, said["predictions"][0]["label"]) == (200, "good")
        body = {"prompt": "a", "max_new_tokens": 400, "context": "slide", "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json", **key})
        response = connection.getresponse()
        assert response.read(10)
        process.send_signal(signal.SIGTERM)
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/health")


@pytest.mark.slow
def test_ctrl_c_ends_it_as_well(trained_once):
    with serving(trained_once) as (process, port):
        assert ask(port, "/predict", {"inputs": ["a film"]})[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_ten_thousand_requests_leave_the_memory_flat(trained_once, gpt2):
    def some(port: int, count: int, seed: int) -> None:
        chances = Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for i in range(count):
            text = f"a film {i} " * chances.randrange(30)
            path, body = chances.choice(
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
                connection.close()  # and never reads the answer
            else:
                connection.getresponse().read()
        connection.close()

    def together(port: int, count: int) -> None:
        clients = [threading.Thread(target=some, args=(port, count // 20, seed)) for seed in range(20)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    with serving(trained_once, gpt2) as (process, port):
        together(port, 2000)
        early = held(process.pid)
        together(port, 10_000)
        assert held(process.pid) - early < 20  # MB
        assert ask(port, "/health")[0] == 200


def held(process: int) -> float:
    """MB that a process holds."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def test_a_named_port_that_is_taken_is_an_error_and_another_is_found_where_none_is_named(headway, trained):
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        one, other = (listener.getsockname()[1] for listener in (first, second))
        assert FIRST_PORT <= one < other
        ran = headway("serve", trained, "--port", one)
        assert ran.code == 2
        assert ran.err == f"headway: --port {one} is taken. Name another, or leave it out for the next free.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", 70000], "port"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--key", ""], "--key (or HEADWAY_KEY) is empty"),
        (["--timeout", 0], "--timeout 0.0: it must be above 0"),
        (["--max-texts", "many"], "--max-texts many: it must be a whole number"),
        (["--precision", "fp8"], "--precision fp8: say auto, fp32"),
    ],
    ids=lambda given: str(given[0]) if isinstance(given, list) else "",
)
def test_what_cannot_be_served_is_said_in_a_sentence(headway, trained, arguments, message):
    ran = headway("serve", trained, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_model_that_cannot_be_opened_is_told_before_anything_is_served(headway, trained):
    (trained / "model.safetensors").write_bytes(b"")
    ran = headway("serve", trained)
    assert ran.code == 2
    assert "model.safetensors" in ran.err


def test_whoever_opens_it_to_others_without_a_key_is_warned(headway, trained, monkeypatch):
    from headway.ui.http import serve

    ran_with: list[Any] = []
    monkeypatch.setattr(serve, "run", lambda *given: ran_with.append(given))
    ran = headway("serve", trained, "--host", "0.0.0.0")
    assert (
        ran.err == "headway: everybody who can reach 0.0.0.0 can use these models. Set HEADWAY_KEY to ask for a key.\n"
    )
    monkeypatch.setenv("HEADWAY_KEY", "secret\n")  # as `$(cat FILE)` would leave it out, and other ways do not
    assert headway("serve", trained, "--host", "0.0.0.0").err == ""
    for empty in ("", " "):
        monkeypatch.setenv("HEADWAY_KEY", empty)
        ran = headway("serve", trained, "--host", "0.0.0.0")
        assert (ran.code, "HEADWAY_KEY) is empty" in ran.err) == (2, True)
    monkeypatch.delenv("HEADWAY_KEY")
    assert headway("serve", trained).err == ""
    assert [key for _, _, key, *_ in ran_with] == [None, "secret", None]


def test_loopback_is_this_machine_alone():
    for host, alone in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with listen(host, 0) as listener:
            assert is_loopback(listener) == alone
    with pytest.raises(HeadwayError, match="Say others"):
        listen("192.0.2.1", 0)


def test_an_address_of_the_next_version_is_served_as_well(trained_once):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # a machine without it
    with listen("::1", 0) as listener:
        assert is_loopback(listener)
