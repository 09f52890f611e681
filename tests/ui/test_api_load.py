"""The HTTP API under load: full queues, timeouts, disconnects, closing, and requests over a socket."""

import asyncio
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from api_client import call, metric, one_model, refused, served_metrics, until
from fastapi import FastAPI
from fastapi.testclient import TestClient
from headway.tasks.base.model import TaskModel
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry
from safetensors.torch import load_file, save_file

# Queues, timeouts and disconnects.


class Slow:
    """Predictions that wait until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.started, self.texts = threading.Event(), threading.Event(), []
        windows = TaskModel.windows

        def waits(model: TaskModel, inputs: list[Any], *others: Any) -> Any:
            self.texts += [one["text"] for one in inputs]
            self.started.set()
            assert self.go.wait(60)
            return windows(model, inputs, *others)

        monkeypatch.setattr(TaskModel, "windows", waits)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


def test_a_full_queue_refuses_requests_and_a_disconnected_client_frees_its_place(trained_once, slow):
    api = one_model(trained_once, max_queue=2)

    def waiting() -> int:
        return sum(count for _, count in api.state.serving._queue_sizes())

    async def run() -> None:
        disconnect = asyncio.Event()
        first = asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))
        await until(slow.started.is_set)
        second = asyncio.ensure_future(call(api, "/predict", {"inputs": ["second"]}))
        gone = asyncio.ensure_future(call(api, "/predict", {"inputs": ["gone"]}, disconnect=disconnect))
        await until(lambda: waiting() == 2)
        status, answer = await call(api, "/predict", {"inputs": ["too many"]})
        assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
        disconnect.set()
        assert await gone == (499, {"text": ""})
        assert waiting() == 1
        third = asyncio.ensure_future(call(api, "/predict", {"inputs": ["third"]}))
        await until(lambda: waiting() == 2)
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(first, second, third)] == [200] * 3
        assert slow.texts == ["first", "second", "third"]

    asyncio.run(run())
    metrics = served_metrics(api)
    for status in ("429", "499"):
        assert metric(metrics, "headway_requests_total", path="/predict", status=status) == 1
    api.state.serving.close(60)


def test_a_timeout_is_a_503_with_retry_after(make_client, slow):
    client = make_client(max_queue=1, timeout=0.5)
    response = client.post("/predict", json={"inputs": ["a"]})
    refused(response, 503, r"No answer within 0\.5 seconds")
    assert int(response.headers["retry-after"]) > 0
    slow.go.set()


def test_a_request_that_times_out_in_the_queue_is_not_computed(trained_once, slow):
    api = one_model(trained_once)
    limits = api.state.serving.limits

    async def run() -> None:
        first = asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))
        await until(slow.started.is_set)
        vars(limits)["timeout"] = 0.3
        status, _ = await call(api, "/predict", {"inputs": ["late"]})
        assert status == 503
        vars(limits)["timeout"] = 60.0  # to compute the others, whatever else the cores are doing
        following = asyncio.ensure_future(call(api, "/predict", {"inputs": ["next"]}))
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(first, following)] == [200, 200]
        assert slow.texts == ["first", "next"]

    asyncio.run(run())
    api.state.serving.close(60)


def test_closing_finishes_accepted_requests_and_refuses_new_ones(trained_once, slow):
    api = one_model(trained_once)

    async def run() -> None:
        accepted = [asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))]
        await until(slow.started.is_set)
        accepted += [asyncio.ensure_future(call(api, "/predict", {"inputs": [f"text {i}"]})) for i in range(4)]
        await until(lambda: sum(count for _, count in api.state.serving._queue_sizes()) == 4)
        closing = asyncio.ensure_future(asyncio.to_thread(api.state.serving.close, 60))
        await until(lambda: api.state.serving.closed)
        status, answer = await call(api, "/predict", {"inputs": ["late"]})
        assert (status, answer["error"]["type"]) == (503, "unavailable_error")
        assert TestClient(api).get("/health").status_code == 503
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(*accepted)] == [200] * 5
        await closing

    asyncio.run(run())


def test_the_lifespan_of_the_application_stops_its_threads(trained_once):
    api = one_model(trained_once)
    before = threading.active_count()
    with TestClient(api) as client:
        assert client.post("/predict", json={"inputs": ["a"]}).status_code == 200
    assert api.state.serving.closed
    assert threading.active_count() <= before + 1  # asyncio's own pool may keep one


def test_a_client_that_disconnects_from_a_stream_ends_the_generation(gpt2):
    api = create_api(ModelRegistry([gpt2], built_in=False), limits=Limits(max_new_tokens=100_000))
    body = {"prompt": "a", "max_new_tokens": 100_000, "context": "slide", "stream": True, "temperature": 1.0}

    async def run() -> None:
        disconnect = asyncio.Event()
        sent: list[Any] = []
        request = asyncio.ensure_future(call(api, "/generate", body, disconnect=disconnect, sent=sent))
        await until(lambda: len(sent) > 2)  # the head and two pieces
        disconnect.set()
        status, answer = await request
        assert status == 200
        assert "[DONE]" not in answer["text"]

    asyncio.run(run())
    api.state.serving.close(60)
    (served,) = api.state.serving._served.values()
    assert not served.worker._thread.is_alive()  # no generation was left
    assert metric(served_metrics(api), "headway_tokens_total", use="generate", model=gpt2.name) is None


# Replaced files.


@pytest.mark.parametrize("how", ["in place", "renamed"])
def test_replaced_weights_are_used_from_the_next_request_on_and_the_log_says_so(trained, how, capfd):
    api = one_model(trained)

    def answer() -> Any:
        with_scores = TestClient(api).post("/predict", json={"inputs": ["a lovely film"]})
        assert with_scores.status_code == 200
        return with_scores.json()["predictions"][0]["scores"]

    before = answer()
    assert answer() == before
    assert capfd.readouterr().err == ""
    weights = load_file(trained / "model.safetensors")
    changed = {name: -value if "classifier" in name else value for name, value in weights.items()}
    target = trained / "model.safetensors" if how == "in place" else trained / "new"
    save_file(changed, target, metadata={"format": "pt"})
    if how == "renamed":
        os.replace(target, trained / "model.safetensors")
    after = answer()
    assert after["good"] == pytest.approx(before["bad"], abs=0.3)
    assert (after["good"] > 0.5) != (before["good"] > 0.5)
    assert capfd.readouterr().err == "headway: the files of model have changed; they are used from now on.\n"
    assert answer() == after
    assert capfd.readouterr().err == ""
    api.state.serving.close(60)


# Over a socket.


@contextmanager
def server(api: FastAPI) -> Iterator[int]:
    """Runs a server in a thread of this process; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(api, log_level="error", access_log=False))
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(60)
        listener.close()


def exchange(port: int, *parts: bytes) -> bytes:
    """Sends bytes to a server and returns its response until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while more := connection.recv(65536):
            answer += more
            if b"\r\n\r\n" in answer and b'"code":null}}' in answer:
                break
    return answer


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def test_a_large_body_is_refused_before_it_is_read_completely(trained_once):
    with server(one_model(trained_once, max_body=0.1)) as port:
        assert b" 413 " in exchange(port, HEAD + b"Content-Length: 1000000000000\r\n\r\n")
        chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
        assert b" 413 " in exchange(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)


def test_a_body_that_does_not_arrive_times_out(trained_once):
    with server(one_model(trained_once, timeout=0.3)) as port:
        assert b" 408 " in exchange(port, HEAD + b'Content-Length: 100\r\n\r\n{"inputs"')


def test_a_broken_connection_ends_the_generation_without_an_error_in_the_log(gpt2, caplog):
    api = create_api(ModelRegistry([gpt2], built_in=False))
    body = json.dumps({"prompt": "a", "max_new_tokens": 1024, "context": "slide", "stream": True}).encode()
    with server(api) as port, caplog.at_level(logging.ERROR):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            head = HEAD.replace(b"/predict", b"/generate")
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert b"event-stream" in connection.recv(200)
        interleaver = next(iter(api.state.serving._served.values())).worker
        asyncio.run(until(lambda: interleaver.num_active == 0))
    assert not caplog.records
