"""The HTTP API: predictions of every task, vectors (also as OpenAI's clients ask for them), texts that go on.

A request is checked here, in the event loop, and computed together with others in its model's thread (serving.py).
Bodies are described in bodies.py, errors and limits in gate.py.
"""

import asyncio
import base64
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ...core.errors import HeadwayError
from .batching import Batcher, FailedItem
from .docs_page import docs_page
from .event_stream import OUR_FAULT, EventStream, plain
from .metrics import CONTENT_TYPE
from .middleware import (
    CLIENT_GONE,
    GONE,
    Asker,
    Gate,
    Json,
    Limits,
    error_body,
    path_of,
    read_object,
    refusal,
    status_of,
)
from .schemas import (
    embeddings_body,
    generation_body,
    predict_body,
    read_embeddings,
    read_generation,
    read_input,
    read_list,
    read_model,
    read_text,
    refuse_dimensions,
    refuse_unknown,
    texts_body,
)
from .serving import Room, Serving, Use

if TYPE_CHECKING:
    from ..model_registry import ModelRegistry
    from .interleaving import Writing

Part = TypeVar("Part")

ABOUT = "BERT and GPT-2 models over HTTP. Errors are {error: {message, type, param, code}}."
STATUSES = {
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    413: "The body, a text or the number of texts is too large.",
    422: "The body is not what can be answered; the message says where and what to do.",
    429: "Too many requests wait already; ask again after the seconds that Retry-After says.",
    503: "There was no answer in time, or the server is stopping.",
}
PACKAGES = ("headway", "torch", "tokenizers", "fastapi")
POSTS: dict[str, Any] = {"responses": {status: {"description": text} for status, text in STATUSES.items()}}
GETS: dict[str, Any] = {"responses": {401: POSTS["responses"][401]}}
DEFAULT_LIMITS = Limits()


def create_api(registry: "ModelRegistry", *, key: str | None = None, limits: Limits = DEFAULT_LIMITS) -> FastAPI:
    """The API as an application, to be served at the root or mounted under a path.

    `app.state.serving.close()` finishes what was taken and refuses the rest; a server that runs the application by
    itself does so when it ends, whoever mounts it has to.

    Args:
        registry: the models.
        key: that everything but /health asks for; none: everybody may come in.
        limits: how much is taken.

    Raises:
        HeadwayError: the key is empty.
    """
    key = key and key.strip()  # what a client sends is read without the white space around it
    if key == "":
        raise HeadwayError("The key is empty, so nobody would be kept out. Give one with letters, or none.")
    serving = Serving(registry, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(serving.close, limits.timeout)

    api = FastAPI(
        title="Headway",
        version=version("headway"),
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    api.state.serving = serving
    _add_predictions(api, serving)
    _add_vectors(api, serving)
    _add_texts(api, serving)
    _add_facts(api, serving, key is not None)
    _add_errors(api)
    paths = [path for route in api.routes if (path := getattr(route, "path", None))]
    api.add_middleware(Gate, key=key, limits=limits, metrics=serving.metrics, paths=paths)
    return api


# -- what is answered


def _add_predictions(api: FastAPI, serving: Serving) -> None:
    limits = serving.limits

    @api.post("/predict", openapi_extra=predict_body(limits), **POSTS)
    async def predict(request: Request) -> Response:
        """What a model answers about texts, an answer for each, in order."""
        body = await read_object(request, limits)
        refuse_unknown(body, "/predict", ("model", "inputs"))
        given = read_list(body, "inputs", limits, '["a text"]')
        with Asker(request.receive) as asker:
            room = await _room(asker, serving, "predict", read_model(body))
            inputs = [read_input(one, f"inputs[{i}]", room.fields, limits) for i, one in enumerate(given)]
            answers = await _answers(asker, room, inputs, "inputs", limits)
        return Json({"model": room.name, "task": room.task, "predictions": answers})


def _add_vectors(api: FastAPI, serving: Serving) -> None:
    limits = serving.limits

    @api.post("/embed", openapi_extra=texts_body(limits), **POSTS)
    async def embed(request: Request) -> Response:
        """A vector for each text, in order."""
        body = await read_object(request, limits)
        refuse_unknown(body, "/embed", ("model", "texts"))
        given = read_list(body, "texts", limits, '["a text"]')
        texts = [read_text(text, f"texts[{i}]", limits) for i, text in enumerate(given)]
        with Asker(request.receive) as asker:
            room = await _room(asker, serving, "embed", read_model(body))
            found = await _answers(asker, room, texts, "texts", limits)
        size = len(found[0].vector)
        return _numbers({"model": room.name, "size": size, "vectors": [one.vector for one in found]})

    @api.post("/v1/embeddings", openapi_extra=embeddings_body(limits), **POSTS)
    async def embeddings(request: Request) -> Response:
        """The same as OpenAI has it, for clients that are written for that."""
        asked = read_embeddings(await read_object(request, limits), limits)
        with Asker(request.receive) as asker:
            room = await _room(asker, serving, "embed", asked.model)
            found = await _answers(asker, room, asked.texts, "input", limits)
        refuse_dimensions(asked.dimensions, len(found[0].vector))
        data = [
            {"object": "embedding", "index": i, "embedding": _base64(one.vector) if asked.base64 else one.vector}
            for i, one in enumerate(found)
        ]
        tokens = sum(one.tokens for one in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _numbers({"object": "list", "model": room.name, "data": data, "usage": usage})


async def _room(asker: Asker, serving: Serving, use: Use, name: str | None) -> Room[Any]:
    """The room of a model: at once where it is open, which it is but for the first time."""
    room = serving.open_room(use, name)
    return room or await asker.waits_for(serving.room(use, name), serving.limits.timeout)


async def _answers(asker: Asker, room: Room[Batcher[Any, Any]], items: list[Any], what: str, limits: Limits) -> Any:
    """An answer for each item, computed together with those of others.

    Raises:
        HeadwayError: one of them cannot be answered; the message says which.
    """
    try:
        return await asker.waits_for(room.work.submit(items), limits.timeout)
    except FailedItem as failed:
        cause = failed.__cause__
        assert cause is not None
        if not isinstance(cause, HeadwayError) or status_of(cause) != 422:
            raise cause from None
        # An item that fails is computed alone in the end, so that the model has it for its first.
        message = str(cause).removeprefix("input 1: ")
        raise HeadwayError(f"{what}[{failed.position}]: {message}") from cause


def _numbers(content: dict[str, Any]) -> Response:
    """JSON with vectors, each number in the fewest digits that are that number in fp32."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


# -- texts that go on


def _add_texts(api: FastAPI, serving: Serving) -> None:
    limits = serving.limits

    @api.post("/generate", openapi_extra=generation_body(limits), **POSTS)
    async def generate(request: Request) -> Response:
        """Goes on with a text; as it comes where `stream` is true. It ends where nobody reads it any longer."""
        asked = read_generation(await read_object(request, limits), limits)
        with Asker(request.receive) as asker:
            room = await _room(asker, serving, "generate", asked.model)
            if asked.stream:
                writing = room.work.submit(lambda: serving.piecewise(room, asked.prompt, asked.config))
                return EventStream(await _first(asker, writing, limits), writing, limits.timeout)
            writing = room.work.submit(lambda: serving.whole(room, asked.prompt, asked.config))
            texts = await _first(asker, writing, limits)
            writing.close()
        return Json({"model": room.name, "prompt": asked.prompt, "texts": [plain(one) for one in texts]})


async def _first(asker: Asker, writing: "Writing[Part]", limits: Limits) -> Part:
    """The first part of what is written; nothing is written where it does not come."""
    try:
        return await asker.waits_for(anext(writing), limits.timeout)
    except BaseException:
        writing.close()
        raise


# -- what is told of the server


def _add_facts(api: FastAPI, serving: Serving, locked: bool) -> None:
    @api.get("/health", responses={503: {"description": "The server is stopping."}})
    async def health() -> Response:
        """Whether the server takes requests; asks for no key."""
        return Json({"status": "stopping"}, 503) if serving.closed else Json({"status": "ok"})

    @api.get("/info", **GETS)
    async def info() -> Response:
        """The models and their tasks, the limits, and the versions."""
        return Json(await asyncio.to_thread(_facts, serving))

    @api.get("/v1/models", **GETS)
    async def models() -> Response:
        """The models, as OpenAI's clients ask for them."""
        return Json({"object": "list", "data": await asyncio.to_thread(_models, serving)})

    @api.get("/metrics", **GETS)
    async def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(serving.metrics.render(), media_type=CONTENT_TYPE)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return docs_page(api.openapi())

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            found = get_openapi(title=api.title, version=api.version, description=ABOUT, routes=api.routes)
            if locked:
                found["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
                found["security"] = [{"key": []}]
                found["paths"]["/health"]["get"]["security"] = []
            api.openapi_schema = found
        return api.openapi_schema

    api.__dict__["openapi"] = described  # as FastAPI's documentation has it


def _facts(serving: Serving) -> dict[str, Any]:
    from ...tasks import TASKS

    models = [
        {
            "name": entry.name,
            "kind": entry.model,
            "task": entry.task,
            "inputs": [] if entry.task is None else [field.name for field in TASKS[entry.task].inputs],
        }
        for entry in serving.registry.entries()
    ]
    tasks = {name: task.title for name, task in TASKS.items()}
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"models": models, "tasks": tasks, "limits": asdict(serving.limits), "versions": versions}


def _models(serving: Serving) -> list[dict[str, Any]]:
    models = []
    for entry in serving.registry.entries():
        with suppress(FileNotFoundError):  # a run that was removed after it was listed
            created = int((entry.folder / "config.json").stat().st_mtime)
            models.append({"id": entry.name, "object": "model", "created": created, "owned_by": "headway"})
    return models


# -- errors


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(HeadwayError)
    async def mendable(_: Request, error: HeadwayError) -> Response:
        return refusal(error)

    @api.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {path_of(request.scope)}"
        message = f"There is nothing at {what}. GET /docs lists what there is."
        return Json(error_body(error.status_code, message), error.status_code, error.headers)

    @api.exception_handler(Exception)
    async def ours(_: Request, __: Exception) -> Response:
        return Json(error_body(500, OUR_FAULT), 500)  # and the error goes on to the server's log

    for kind in GONE:

        @api.exception_handler(kind)
        async def gone(_: Request, __: Exception) -> Response:
            return Response(status_code=CLIENT_GONE)
