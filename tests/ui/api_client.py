"""Requests to the HTTP API, its error format, and its metrics."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry
from prometheus_client.parser import text_string_to_metric_families


def sent(body: Any) -> dict[str, Any]:
    """A body as JSON in ASCII, the only way to send an unpaired surrogate."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


def refused(response: Any, status: int, message: str = "") -> str:
    """Asserts that a response is an error in the API's format; returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert re.search(message, error["message"]), error["message"]
    assert error["message"].endswith((".", "?"))
    return error["message"]


async def call(
    api: FastAPI, path: str, body: Any, *, disconnect: asyncio.Event | None = None, sent: list[Any] | None = None
) -> tuple[int | None, dict[str, Any]]:
    """Sends a request in this event loop.

    Args:
        api: the application.
        path: path of the request.
        body: body of the request, as JSON types.
        disconnect: the client disconnects when it is set.
        sent: receives the ASGI messages of the response.

    Returns:
        The status and the content of the response.
    """
    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    sent = [] if sent is None else sent

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await (disconnect or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await api(scope, receive, send)
    status = next((message["status"] for message in sent if "status" in message), None)
    content = b"".join(message.get("body", b"") for message in sent)
    return status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()}


def one_model(folder: Path, **limits: Any) -> FastAPI:
    return create_api(ModelRegistry([folder], built_in=False), limits=Limits(**limits))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):  # the cores may be busy
        while not condition():
            await asyncio.sleep(0.01)


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples in the text format of Prometheus, by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def served_metrics(api: FastAPI) -> str:
    return api.state.serving.metrics.render().decode()


def metric(text: str, name: str, **labels: str) -> float | None:
    return samples_of(text).get((name, frozenset(labels.items())))
