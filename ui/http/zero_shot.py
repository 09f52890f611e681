"""The path /zero-shot-classification: labels of the request, by a classifier of pairs that knows entailment."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from ...core.errors import HeadwayError
from .answers import compute, open_model
from .bodies import json_type, read_object
from .errors import ApiError, JsonResponse
from .limits import Limits
from .middleware import Client
from .model_steps import PredictionInput
from .request_bodies import (
    INPUT_NAMES,
    check_fields,
    read_flag,
    read_list,
    read_model,
    read_text,
    read_texts,
    read_threshold,
)
from .serving import ModelServer

PATH = "/zero-shot-classification"
TEXTS = ("hypothesis", "entailment", "contradiction")  # fields that are texts
FIELDS = ("model", *INPUT_NAMES, "labels", "multi_label", "threshold", *TEXTS)
FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


@dataclass(frozen=True)
class ZeroShotRequest:
    """The body of /zero-shot-classification."""

    model: str | None
    name: str  # of the texts in the body
    texts: list[str]
    options: dict[str, Any]  # of ZeroShotClassification


def read_zero_shot(body: Mapping[str, Any], limits: Limits) -> ZeroShotRequest:
    """Reads the body of /zero-shot-classification.

    Raises:
        ApiError: the body is not valid.
    """
    from ...tasks.data.labels import MULTI_LABEL, SINGLE_LABEL

    check_fields(body, PATH, FIELDS)
    name, given = read_list(body, limits)
    texts = [read_text(text, f"{name}[{i}]", limits) for i, text in enumerate(given)]
    kind = MULTI_LABEL if read_flag(body, "multi_label") else SINGLE_LABEL
    options = {**_read_labels(body, limits), "problem_type": kind}
    options |= {one: read_text(body[one], one, limits) for one in TEXTS if body.get(one) is not None}
    threshold = read_threshold(body)
    return ZeroShotRequest(
        read_model(body), name, texts, options if threshold is None else {**options, "threshold": threshold}
    )


def _read_labels(body: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The labels: a list of names, or an object with the words that the hypothesis has for each of them."""
    example = '{"labels": ["sport", "politics"]}'
    if "labels" not in body:
        raise ApiError(422, f"labels is missing. Send it as in {example}.", "labels")
    given = body["labels"]
    if not isinstance(given, list | dict):
        raise ApiError(422, f"labels is {json_type(given)}; it must be a list or an object: {example}.", "labels")
    if not given:
        raise ApiError(422, "labels is empty. Send the labels to choose from.", "labels")
    if len(given) > limits.max_texts:
        raise ApiError(422, f"labels has {len(given):,} labels; the limit is {limits.max_texts:,}.", "labels")
    labels = read_texts(list(given), "labels", limits)
    if isinstance(given, list):
        return {"labels": tuple(labels)}
    words = read_texts(list(given.values()), "labels", limits)
    return {"labels": tuple(labels), "verbalize": dict(zip(labels, words, strict=True))}


def add_zero_shot(api: FastAPI, serving: ModelServer) -> None:
    """Adds the path."""
    limits = serving.limits

    @api.post(PATH)
    async def zero_shot_classification(request: Request) -> Response:
        """Returns which of the labels in the request fit each text, by a model that knows entailment.

        The model reads each text once for each label, with a hypothesis that names the label. Each prediction has the
        number of tokens of all these pairs, special tokens included, and whether the text was truncated.
        """
        body = read_zero_shot(await read_object(request, limits), limits)
        with Client.of(request) as client:
            name = await asyncio.to_thread(serving.find_zero_shot, body.model)
            served = await open_model(client, serving, "zero-shot", name)
            task = (await asyncio.to_thread(serving.registry.zero_shot, name)).task
            try:
                task.with_options(body.options)
            except HeadwayError as error:
                raise ApiError(422, _as_fields(str(error))) from error
            inputs = [PredictionInput({served.fields[0].name: text}, body.options) for text in body.texts]
            answers = await compute(client, served, inputs, body.name, limits)
        return JsonResponse({"model": served.name, "task": task.name, "predictions": answers})


def _as_fields(message: str) -> str:
    """A message about options of the command line, as one about fields of the body."""
    return FLAG.sub(lambda match: match[1].replace("-", "_"), message)
