"""The path /rerank: texts in the order in which they fit a query, in the formats of two kinds of clients.

Clients of text-embeddings-inference (https://huggingface.co/docs/text-embeddings-inference) send `texts` and get a
list; those of Cohere (https://docs.cohere.com/reference/rerank), Jina and others send `documents` and get an object.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from .answers import compute, open_model
from .bodies import json_type, read_object
from .errors import ApiError, JsonResponse
from .limits import Limits
from .middleware import Client
from .model_steps import PredictionInput
from .request_bodies import check_fields, only_name, read_flag, read_list, read_model, read_text, whole_number
from .serving import ModelServer

TEXTS, DOCUMENTS = "texts", "documents"
TEXT_NAMES = (TEXTS, DOCUMENTS)
RETURN_NAMES = ("return_text", "return_documents")
# Sent by clients and ignored: the server decides how long texts are read.
IGNORED = ("truncate", "truncation_direction", "max_tokens_per_doc", "max_chunks_per_doc")


@dataclass(frozen=True)
class RerankRequest:
    """The body of /rerank."""

    model: str | None
    query: str
    name: str  # of the texts in the body
    texts: list[str]
    top: int | None
    raw: bool
    with_texts: bool


def read_rerank(body: Mapping[str, Any], limits: Limits) -> RerankRequest:
    """Reads the body of /rerank.

    Raises:
        ApiError: the body is not valid.
    """
    known = ("model", "query", *TEXT_NAMES, "top_n", *RETURN_NAMES, "raw_scores", *IGNORED)
    check_fields(body, "/rerank", known)
    if "query" not in body:
        raise ApiError(422, 'query is missing. Send it as in {"query": "a question", "texts": ["a text"]}.', "query")
    query = read_text(body["query"], "query", limits)
    name, given = read_list(body, limits, TEXT_NAMES)
    if name == DOCUMENTS:  # a document may be an object
        given = [one.get("text") if isinstance(one, dict) and set(one) == {"text"} else one for one in given]
    texts = [read_text(text, f"{name}[{i}]", limits) for i, text in enumerate(given)]
    top = whole_number(body.get("top_n"))
    if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 1):
        shown = top if isinstance(top, int) and not isinstance(top, bool) else json_type(top)
        raise ApiError(422, f"top_n is {shown}; it must be an integer, 1 or more.", "top_n")
    with_texts = read_flag(body, only_name(body, RETURN_NAMES))
    return RerankRequest(read_model(body), query, name, texts, top, read_flag(body, "raw_scores"), with_texts)


def add_reranking(api: FastAPI, serving: ModelServer) -> None:
    """Adds the path, also under the prefixes that clients of other servers put before it."""
    limits = serving.limits

    async def rerank(request: Request) -> Response:
        """Returns the texts in the order in which they fit the query, best first.

        Each one has its number of tokens together with the query, special tokens included, and whether these were
        truncated. The paths /v1/rerank and /v2/rerank are the same.
        """
        body = read_rerank(await read_object(request, limits), limits)
        with Client.of(request) as client:
            name = await asyncio.to_thread(serving.find_ranking, body.model)
            served = await open_model(client, serving, "predict", name)
            first, second = (field.name for field in served.fields[:2])
            inputs = [PredictionInput({first: body.query, second: text}) for text in body.texts]
            answers = await compute(client, served, inputs, body.name, limits)
            task = (await asyncio.to_thread(serving.registry.task_model, name)).task
        scores = [task.relevance(answer, raw=body.raw) for answer in answers]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[: body.top]
        lengths = [{name: answer[name] for name in ("num_tokens", "truncated")} for answer in answers]
        return JsonResponse(_content(body, served.name, [(i, scores[i], lengths[i]) for i in order]))

    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        api.post(path)(rerank)


def _content(body: RerankRequest, model: str, ranked: list[tuple[int, float, dict[str, Any]]]) -> Any:
    """The answer in the format that belongs to the name of the texts."""
    if body.name == TEXTS:
        return [
            {"index": i, "score": score, **length, **({"text": body.texts[i]} if body.with_texts else {})}
            for i, score, length in ranked
        ]
    results = [
        {
            "index": i,
            "relevance_score": score,
            **length,
            **({"document": {"text": body.texts[i]}} if body.with_texts else {}),
        }
        for i, score, length in ranked
    ]
    return {"model": model, "results": results}
