"""The HTTP API: predictions of every task, embeddings (also in OpenAI's format), and text generation.

A request is validated here, in the event loop, and computed together with others in its model's thread (serving.py).
request_bodies.py reads the request bodies, openapi.py describes all of it.
"""

import asyncio
import base64
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ...core.errors import HeadwayError
from .access import Access
from .answers import compute, open_model
from .bodies import read_object
from .docs_page import docs_page
from .errors import JsonResponse, error_body, error_response
from .event_stream import INTERNAL_ERROR, EventStream, generation_json
from .limits import Limits
from .metrics import CONTENT_TYPE
from .middleware import CLIENT_CLOSED_REQUEST, CLIENT_GONE_ERRORS, Client, RequestGuard, path_of
from .model_steps import PredictionInput
from .openapi import describe
from .prompts import add_prompts
from .request_bodies import (
    INPUT_NAMES,
    check_fields,
    cut_vector,
    names_of,
    read_embed,
    read_embeddings,
    read_generate,
    read_generation,
    read_input,
    read_list,
    read_model,
    read_threshold,
    request_options,
)
from .rerank import add_reranking
from .serving import ModelServer
from .zero_shot import add_zero_shot

if TYPE_CHECKING:
    from ..model_registry import Entry, ModelRegistry
    from .interleaving import GenerationRequest
    from .prompts import NamedPrompt

Part = TypeVar("Part")

PACKAGES = ("headway", "torch", "tokenizers", "fastapi")
DEFAULT_LIMITS = Limits()


def create_api(
    registry: "ModelRegistry",
    *,
    key: str | None = None,
    hosts: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
    prompts: Sequence["NamedPrompt"] = (),
) -> FastAPI:
    """Creates the API as an ASGI application, to be served at the root or mounted under a path.

    At the end `app.state.serving.close()` finishes the accepted requests and refuses new ones. The lifespan of the
    application calls it; an application that mounts the API has to run that lifespan.

    Args:
        registry: the models.
        key: API key that every path but /health requires; None for open access.
        hosts: accepted Host headers, without a port; all if empty.
        limits: limits on requests.
        prompts: saved prompts that are open (`open_prompts`).

    Raises:
        HeadwayError: the key is empty.
    """
    key = key and key.strip()  # HTTP strips the white space around a header's value
    if key == "":
        raise HeadwayError("The API key is empty, so it would protect nothing. Give a key with letters, or none.")
    access, serving = Access(key, hosts), ModelServer(registry, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(serving.close, limits.timeout)

    api = FastAPI(
        title="Headway",
        version=version("headway"),
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    api.state.serving = serving
    _add_predictions(api, serving)
    _add_embeddings(api, serving)
    add_reranking(api, serving)
    add_zero_shot(api, serving)
    add_prompts(api, serving, prompts)
    _add_generation(api, serving)
    _add_server_information(api, serving, [one.name for one in prompts])
    described = partial(describe, api.routes, registry, limits, access, prompts=[one.name for one in prompts])
    api.__dict__["openapi"] = described
    _add_error_handlers(api)
    paths = [path for route in api.routes if (path := getattr(route, "path", None))]
    api.add_middleware(RequestGuard, access=access, limits=limits, metrics=serving.metrics, paths=paths)
    return api


# Predictions and embeddings.


def _add_predictions(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/predict")
    async def predict(request: Request) -> Response:
        """Returns the model's prediction for each input, in order.

        Each one has the number of tokens of its input, special tokens included, and whether the input was truncated.
        Options of generation are for text-to-text models. Default: those that the model was trained with.
        """
        body = await read_object(request, limits)
        check_fields(body, "/predict", ("model", *INPUT_NAMES, "threshold", *names_of(request_options())))
        threshold, options = read_threshold(body), read_generation(body, request_options(), limits)
        name, given = read_list(body, limits)
        with Client.of(request) as client:
            served = await open_model(client, serving, "predict", read_model(body))
            texts = [read_input(one, f"{name}[{i}]", served.fields, limits) for i, one in enumerate(given)]
            choose_labels = await asyncio.to_thread(serving.label_chooser, served.name, threshold)
            await asyncio.to_thread(serving.check_options, served.name, options)
            inputs = [PredictionInput(one, options) for one in texts]
            answers = await compute(client, served, inputs, name, limits)
        if choose_labels is not None:
            answers = [{**one, "labels": choose_labels(one["scores"])} for one in answers]
        return JsonResponse({"model": served.name, "task": served.task, "predictions": answers})


def _add_embeddings(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/embed")
    async def embed(request: Request) -> Response:
        """Returns an embedding vector for each text, in order; its number of tokens; and whether it was truncated.

        Special tokens are counted. A text that is longer than the model's limit is embedded in windows, unless /info
        says that it is cut.
        """
        body = read_embed(await read_object(request, limits), limits)
        with Client.of(request) as client:
            served = await open_model(client, serving, "embed", body.model)
            found = await compute(client, served, body.texts, body.name, limits)
        size = len(found[0].vector)
        lengths = {
            "num_tokens": [one.length.num_tokens for one in found],
            "truncated": [one.length.truncated for one in found],
        }
        vectors = [one.vector for one in found]
        return _vectors_response({"model": served.name, "size": size, "vectors": vectors, **lengths})

    @api.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        """Returns embedding vectors in the format of OpenAI's embeddings API.

        Each one also has the number of tokens of its text, special tokens included, and whether the text was
        truncated. `usage` counts the tokens that were read, those in two overlapping windows once.
        """
        body = read_embeddings(await read_object(request, limits), limits)
        with Client.of(request) as client:
            served = await open_model(client, serving, "embed", body.model)
            found = await compute(client, served, body.texts, body.name, limits)
        vectors = [cut_vector(one.vector, body.dimensions) for one in found]
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": _base64(vector) if body.base64 else vector,
                **one.length.to_json(),
            }
            for i, (vector, one) in enumerate(zip(vectors, found, strict=True))
        ]
        tokens = sum(one.length.num_read for one in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _vectors_response({"object": "list", "model": served.name, "data": data, "usage": usage})


def _vectors_response(content: dict[str, Any]) -> Response:
    """A JSON response with float32 vectors, each number in the fewest digits that give the same float32."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


# Generation.


def _add_generation(api: FastAPI, serving: ModelServer) -> None:
    limits = serving.limits

    @api.post("/generate")
    async def generate(request: Request) -> Response:
        """Generates text from a prompt, optionally as server-sent events. Ends when the client disconnects."""
        body = read_generate(await read_object(request, limits), limits)
        with Client.of(request) as client:
            served = await open_model(client, serving, "generate", body.model)
            prompt = await asyncio.to_thread(serving.prompt, served, body)
            if body.stream:
                generation = served.worker.submit(lambda: serving.stream(served, prompt), client.address)
                first = await _first(client, generation, limits)
                return EventStream(first, generation, limits.timeout, truncated=prompt.truncated)
            generation = served.worker.submit(lambda: serving.generate(served, prompt), client.address)
            texts = await _first(client, generation, limits)
            generation.close()
        written = [generation_json(one) for one in texts]
        content = {"model": served.name, "prompt": prompt.text, "truncated": prompt.truncated, "texts": written}
        return JsonResponse(content)


async def _first(client: Client, generation: "GenerationRequest[Part]", limits: Limits) -> Part:
    """The first part of a generation; cancels the generation if it does not arrive."""
    try:
        return await client.wait_for(anext(generation), limits.timeout)
    except BaseException:
        generation.close()
        raise


# Information about the server.


def _add_server_information(api: FastAPI, serving: ModelServer, prompts: list[str]) -> None:
    @api.get("/health")
    async def health() -> Response:
        """Returns whether the server accepts requests. Needs no API key."""
        return JsonResponse({"status": "stopping"}, 503) if serving.closed else JsonResponse({"status": "ok"})

    @api.get("/info")
    async def info() -> Response:
        """Returns the models and their tasks, the saved prompts, the device, the limits, and the versions."""
        return JsonResponse({**await asyncio.to_thread(_describe_server, serving), "prompts": prompts})

    @api.get("/v1/models")
    async def models() -> Response:
        """Returns the models in the format of OpenAI's models API."""
        return JsonResponse({"object": "list", "data": await asyncio.to_thread(_list_models, serving)})

    @api.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """Returns one of the models in the format of OpenAI's models API."""
        entry = await asyncio.to_thread(serving.registry.find, name)
        return JsonResponse(_describe_model(entry))

    @api.get("/metrics")
    async def metrics() -> Response:
        """Returns the server's metrics in the Prometheus text format."""
        return Response(serving.metrics.render(), media_type=CONTENT_TYPE)

    @api.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        """Returns this description."""
        described = await asyncio.to_thread(api.openapi)
        if prefix := request.scope.get("root_path"):
            described["servers"] = [{"url": prefix}]
        return JsonResponse(described)

    @api.get("/docs")
    async def docs() -> Response:
        """Returns this description as a page for people."""
        return docs_page(await asyncio.to_thread(api.openapi))


def _describe_server(serving: ModelServer) -> dict[str, Any]:
    from ...core.training.distributed import inference_device
    from ...tasks import TASKS

    models = [
        {
            "name": entry.name,
            "kind": entry.family,
            "task": entry.task,
            "inputs": [] if entry.task is None else [field.name for field in TASKS[entry.task].inputs],
            **_describe_limits(entry, serving.registry.long_texts),
        }
        for entry in serving.registry.entries()
    ]
    tasks = {name: task.title for name, task in TASKS.items()}
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "models": models,
        "tasks": tasks,
        "device": str(inference_device(serving.registry.device)),
        "limits": asdict(serving.limits),
        "versions": versions,
    }


def _describe_limits(entry: "Entry", long_texts: str | None) -> dict[str, Any]:
    """The tokens of a sequence, and how longer texts are read: in windows, cut, or of a prompt the end."""
    from ...tasks import TASKS
    from ...tasks.embedding.embedder import length_limits

    try:
        limits = length_limits(entry.folder)
    except (HeadwayError, OSError):  # the folder is damaged, or was removed after it was listed
        return {"max_tokens": None, "long_texts": None}
    if entry.task is not None and not TASKS[entry.task].divides:
        return {**limits, "long_texts": TASKS[entry.task].undivided}
    return limits if long_texts is None else {**limits, "long_texts": long_texts}


def _list_models(serving: ModelServer) -> list[dict[str, Any]]:
    models = []
    for entry in serving.registry.entries():
        with suppress(FileNotFoundError):  # the run was removed after it was listed
            models.append(_describe_model(entry))
    return models


def _describe_model(entry: "Entry") -> dict[str, Any]:
    created = int((entry.folder / "config.json").stat().st_mtime)
    return {"id": entry.name, "object": "model", "created": created, "owned_by": "headway"}


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
