"""The HTTP API: predictions of every task, embeddings (also in OpenAI's format), and text generation.

A request is validated here, in the event loop, and computed together with others in its model's thread (serving.py).
schemas.py describes the request bodies, middleware.py the errors and limits.
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
from .event_stream import INTERNAL_ERROR, EventStream, generation_json
from .metrics import CONTENT_TYPE
from .middleware import (
    CLIENT_CLOSED_REQUEST,
    CLIENT_GONE_ERRORS,
    Client,
    JsonResponse,
    Limits,
    RequestGuard,
    error_body,
    error_response,
    path_of,
    read_object,
    status_of,
)
from .schemas import (
    check_dimensions,
    check_fields,
    embed_body,
    embeddings_body,
    generate_body,
    predict_body,
    read_embeddings,
    read_generate,
    read_input,
    read_list,
    read_model,
    read_text,
    read_threshold,
)
from .serving import ModelServer, ServedModel, Use

if TYPE_CHECKING:
    from ..model_registry import ModelRegistry
    from .interleaving import GenerationRequest

Part = TypeVar("Part")

DESCRIPTION = "BERT and GPT-2 models over HTTP. An error is {error: {message, type, param, code}}."
STATUSES = {
    401: "The API key is missing or wrong.",
    404: "The model does not exist.",
    413: "The body, a text or the number of texts exceeds the server's limit.",
    422: "The body is not valid; the message says where and what to do.",
    429: "The queue is full; try again after the number of seconds in Retry-After.",
    503: "There was no answer in time, or the server is stopping.",
}
PACKAGES = ("headway", "torch", "tokenizers", "fastapi")
POST_OPTIONS: dict[str, Any] = {"responses": {status: {"description": text} for status, text in STATUSES.items()}}
GET_OPTIONS: dict[str, Any] = {"responses": {401: POST_OPTIONS["responses"][401]}}
DEFAULT_LIMITS = Limits()


def create_api(registry: "ModelRegistry", *, key: str | None = None, limits: Limits = DEFAULT_LIMITS) -> FastAPI:
    """Creates the API as an ASGI application, to be served at the root or mounted under a path.

    At the end `app.state.serving.close()` finishes the accepted requests and refuses new ones. The lifespan of the
    application calls it; an application that mounts the API has to run that lifespan.

    Args:
        registry: the models.
        key: API key that every path but /health requires; None for open access.
        limits: limits on requests.

    Raises:
        HeadwayError: the key is empty.
    """
    key = key and key.strip()  # HTTP strips the white space around a header's value
    if key == "":
        raise HeadwayError("The API key is empty, so it would protect nothing. Give a key with letters, or none.")
    serving = ModelServer(registry, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(serving.close, limits.timeout)

    api = FastAPI(
        title="Headway",
        version=version("headway"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    api.state.serving = serving
    _add_predictions(api, serving)
    _add_embeddings(api, serving)
    _add_generation(api, serving)
    _add_server_information(api, serving)
    _add_description(api, requires_key=key is not None)
    _add_error_handlers(api)
    paths = [path for route in api.routes if (path := getattr(route, "path", None))]
    api.add_middleware(RequestGuard, key=key, limits=limits, metrics=serving.metrics, paths=paths)
    return api


# Predictions and embeddings.


def _add_predictions(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/predict", openapi_extra=predict_body(limits), **POST_OPTIONS)
    async def predict(request: Request) -> Response:
        """Returns the model's prediction for each input, in order."""
        body = await read_object(request, limits)
        check_fields(body, "/predict", ("model", "inputs", "threshold"))
        threshold = read_threshold(body)
        given = read_list(body, "inputs", limits, '["a text"]')
        with Client.of(request) as client:
            served = await _open(client, serving, "predict", read_model(body))
            inputs = [read_input(one, f"inputs[{i}]", served.fields, limits) for i, one in enumerate(given)]
            choose_labels = await asyncio.to_thread(serving.label_chooser, served.name, threshold)
            answers = await _compute(client, served, inputs, "inputs", limits)
        if choose_labels is not None:
            answers = [{**one, "labels": choose_labels(one["scores"])} for one in answers]
        return JsonResponse({"model": served.name, "task": served.task, "predictions": answers})


def _add_embeddings(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/embed", openapi_extra=embed_body(limits), **POST_OPTIONS)
    async def embed(request: Request) -> Response:
        """Returns an embedding vector for each text, in order."""
        body = await read_object(request, limits)
        check_fields(body, "/embed", ("model", "texts"))
        given = read_list(body, "texts", limits, '["a text"]')
        texts = [read_text(text, f"texts[{i}]", limits) for i, text in enumerate(given)]
        with Client.of(request) as client:
            served = await _open(client, serving, "embed", read_model(body))
            found = await _compute(client, served, texts, "texts", limits)
        size = len(found[0].vector)
        return _vectors_response({"model": served.name, "size": size, "vectors": [one.vector for one in found]})

    @api.post("/v1/embeddings", openapi_extra=embeddings_body(limits), **POST_OPTIONS)
    async def embeddings(request: Request) -> Response:
        """Returns embedding vectors in the format of OpenAI's embeddings API."""
        body = read_embeddings(await read_object(request, limits), limits)
        with Client.of(request) as client:
            served = await _open(client, serving, "embed", body.model)
            found = await _compute(client, served, body.texts, "input", limits)
        check_dimensions(body.dimensions, len(found[0].vector))
        data = [
            {"object": "embedding", "index": i, "embedding": _base64(one.vector) if body.base64 else one.vector}
            for i, one in enumerate(found)
        ]
        tokens = sum(one.tokens for one in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _vectors_response({"object": "list", "model": served.name, "data": data, "usage": usage})


async def _open(client: Client, serving: ModelServer, use: Use, name: str | None) -> ServedModel[Any]:
    """The model; a model that is not open yet is opened in a thread."""
    served = serving.find_open(use, name)
    return served or await client.wait_for(serving.open(use, name), serving.limits.timeout)


async def _compute(
    client: Client, served: ServedModel[Batcher[Any, Any]], items: list[Any], what: str, limits: Limits
) -> Any:
    """The answer of each item, computed in batches shared with other requests.

    Raises:
        HeadwayError: an item cannot be computed; the message names it.
    """
    try:
        return await client.wait_for(served.worker.submit(items, client.address), limits.timeout)
    except FailedItem as failed:
        cause = failed.__cause__
        assert cause is not None
        if not isinstance(cause, HeadwayError) or status_of(cause) != 422:
            raise cause from None
        message = str(cause).removeprefix("input 1: ")  # a failing item is computed alone, as the first of its batch
        raise HeadwayError(f"{what}[{failed.position}]: {message}") from cause


def _vectors_response(content: dict[str, Any]) -> Response:
    """A JSON response with float32 vectors, each number in the fewest digits that give the same float32."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


# Generation.


def _add_generation(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/generate", openapi_extra=generate_body(limits), **POST_OPTIONS)
    async def generate(request: Request) -> Response:
        """Generates text from a prompt, optionally as server-sent events. Ends when the client disconnects."""
        body = read_generate(await read_object(request, limits), limits)
        with Client.of(request) as client:
            served = await _open(client, serving, "generate", body.model)
            if body.stream:
                generation = served.worker.submit(lambda: serving.stream(served, body.prompt, body.config))
                return EventStream(await _first(client, generation, limits), generation, limits.timeout)
            generation = served.worker.submit(lambda: serving.generate(served, body.prompt, body.config))
            texts = await _first(client, generation, limits)
            generation.close()
        content = {"model": served.name, "prompt": body.prompt, "texts": [generation_json(one) for one in texts]}
        return JsonResponse(content)


async def _first(client: Client, generation: "GenerationRequest[Part]", limits: Limits) -> Part:
    """The first part of a generation; cancels the generation if it does not arrive."""
    try:
        return await client.wait_for(anext(generation), limits.timeout)
    except BaseException:
        generation.close()
        raise


# Information about the server.


def _add_server_information(api: FastAPI, serving: ModelServer) -> None:
    @api.get("/health", responses={503: {"description": "The server is stopping."}})
    async def health() -> Response:
        """Returns whether the server accepts requests. Needs no API key."""
        return JsonResponse({"status": "stopping"}, 503) if serving.closed else JsonResponse({"status": "ok"})

    @api.get("/info", **GET_OPTIONS)
    async def info() -> Response:
        """Returns the models and their tasks, the limits, and the versions."""
        return JsonResponse(await asyncio.to_thread(_describe_server, serving))

    @api.get("/v1/models", **GET_OPTIONS)
    async def models() -> Response:
        """Returns the models in the format of OpenAI's models API."""
        return JsonResponse({"object": "list", "data": await asyncio.to_thread(_list_models, serving)})

    @api.get("/metrics", **GET_OPTIONS)
    async def metrics() -> Response:
        """Returns the server's metrics in the Prometheus text format."""
        return Response(serving.metrics.render(), media_type=CONTENT_TYPE)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return docs_page(api.openapi())


def _describe_server(serving: ModelServer) -> dict[str, Any]:
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


def _list_models(serving: ModelServer) -> list[dict[str, Any]]:
    models = []
    for entry in serving.registry.entries():
        with suppress(FileNotFoundError):  # the run was removed after it was listed
            created = int((entry.folder / "config.json").stat().st_mtime)
            models.append({"id": entry.name, "object": "model", "created": created, "owned_by": "headway"})
    return models


def _add_description(api: FastAPI, *, requires_key: bool) -> None:
    """Adds the API key to the OpenAPI schema (https://fastapi.tiangolo.com/how-to/extending-openapi/)."""

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = get_openapi(title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes)
            if requires_key:
                schema["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
                schema["security"] = [{"key": []}]
                schema["paths"]["/health"]["get"]["security"] = []
            api.openapi_schema = schema
        return api.openapi_schema

    api.__dict__["openapi"] = openapi


# Errors.


def _add_error_handlers(api: FastAPI) -> None:
    @api.exception_handler(HeadwayError)
    async def headway_error(_: Request, error: HeadwayError) -> Response:
        return error_response(error)

    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {path_of(request.scope)}"
        message = f"There is no {what}. GET /docs lists the paths of the API."
        return JsonResponse(error_body(error.status_code, message), error.status_code, error.headers)

    @api.exception_handler(Exception)
    async def internal_error(_: Request, __: Exception) -> Response:
        return JsonResponse(error_body(500, INTERNAL_ERROR), 500)  # Starlette raises the error again for the log

    for kind in CLIENT_GONE_ERRORS:

        @api.exception_handler(kind)
        async def client_gone(_: Request, __: Exception) -> Response:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
