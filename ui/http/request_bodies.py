"""Request bodies of the HTTP API, validated into plain values. openapi.py describes them.

The texts of a request are called `inputs` on every path; the names that other APIs have for them are aliases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.generation.generation_config import GenerationConfig
from ...core.options import Option, options_of
from .bodies import json_type
from .errors import ApiError
from .limits import Limits

if TYPE_CHECKING:
    from ...tasks.data.examples import Field

FORMATS = ("float", "base64")
INPUT_NAMES = ("inputs", "input", "texts")  # of the texts of a request; the first one is the documented one
PROMPT_NAMES = ("prompt", *INPUT_NAMES)


def check_fields(body: Mapping[str, Any], path: str, known: Sequence[str]) -> None:
    """Refuses fields that would be ignored.

    Raises:
        ApiError: the body has an unknown field.
    """
    for name in body:
        if name not in known:
            raise ApiError(
                422, f"{path} has no field {name!r}. Its fields are: {', '.join(known)}. Remove {name!r}.", name
            )


def read_model(body: Mapping[str, Any]) -> str | None:
    """Reads the name of the model; None for the default model.

    Raises:
        ApiError: the name is not a string.
    """
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise ApiError(422, f"model is {json_type(name)}; it must be a name. GET /info lists the models.", "model")
    return name


def read_flag(body: Mapping[str, Any], name: str) -> bool:
    """Reads a boolean; False if it is missing.

    Raises:
        ApiError: the value is not a boolean.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ApiError(422, f"{name} is {json_type(value)}; it must be true or false.", name)
    return value


def read_threshold(body: Mapping[str, Any]) -> float | dict[str, float] | None:
    """Reads the threshold of several labels: one number, or numbers by label; None by default.

    Raises:
        ApiError: it is something else.
    """
    given = body.get("threshold")
    numbers = given.values() if isinstance(given, dict) else () if given is None else (given,)
    if given == {} or any(not isinstance(one, int | float) or isinstance(one, bool) for one in numbers):
        raise ApiError(422, 'threshold must be a number, or numbers by label: {"billing": 0.3}.', "threshold")
    return given


def only_name(body: Mapping[str, Any], names: Sequence[str]) -> str:
    """Which of the names of a field a body uses; the first one if it uses none.

    Raises:
        ApiError: it uses several.
    """
    used = [name for name in names if name in body]
    if len(used) > 1:
        raise ApiError(422, f"{' and '.join(used)} are two names of the same field. Remove {used[1]}.", used[1])
    return used[0] if used else names[0]


def whole_number(value: Any) -> Any:
    """A value of JSON, in which 2.0 is the integer 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_list(body: Mapping[str, Any], limits: Limits, names: Sequence[str] = INPUT_NAMES) -> tuple[str, list[Any]]:
    """Reads the name of the inputs in a body, one of some names, and the inputs; a string stands for a list of it.

    Raises:
        ApiError: the list is missing, empty, too long or not a list.
    """
    name, example = only_name(body, names), '["a text"]'
    if name not in body:
        raise ApiError(422, f'{name} is missing. Send it as in {{"{name}": {example}}}.', name)
    given = [body[name]] if isinstance(body[name], str) else body[name]
    if not isinstance(given, list):
        raise ApiError(422, f'{name} is {json_type(given)}; it must be a list: {{"{name}": {example}}}.', name)
    if not given:
        raise ApiError(422, f"{name} is empty. Send at least one text.", name)
    if len(given) > limits.max_texts:
        raise ApiError(
            422,
            f"{name} has {len(given):,} texts; the limit is {limits.max_texts:,} per request. Send several requests.",
            name,
        )
    return name, given


def read_text(given: Any, where: str, limits: Limits) -> str:
    """Reads a text.

    Raises:
        ApiError: the value is not a string, or it is too long.
    """
    if not isinstance(given, str):
        raise ApiError(422, f"{where} is {json_type(given)}; it must be a string.", where)
    if len(given) > limits.max_characters:
        raise ApiError(
            422,
            f"{where} has {len(given):,} characters; the limit is {limits.max_characters:,}. Split the text.",
            where,
        )
    return given


def read_texts(given: Sequence[Any], where: str, limits: Limits) -> list[str]:
    """Reads a list of words or of choices.

    Raises:
        ApiError: one is not a string, or all of them together are too long.
    """
    texts = [read_text(text, f"{where}[{i}]", limits) for i, text in enumerate(given)]
    read_text(" ".join(texts), where, limits)
    return texts


def read_input(given: Any, where: str, fields: "Sequence[Field]", limits: Limits) -> dict[str, Any]:
    """Reads one input of a model: the text of each field, or a list where the field allows one.

    A string or a list stands for an object with the first field.

    Raises:
        ApiError: the value does not fit the fields.
    """
    expected = _describe_input(fields)
    first = fields[0]
    if isinstance(given, str) or (isinstance(given, list) and first.lists):
        given = {first.name: given}
    if not isinstance(given, dict):
        raise ApiError(422, f"{where} is {json_type(given)}; the model reads {expected}.", where)
    known = {field.name: field for field in fields}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise ApiError(422, f"{where} has {unknown!r}; the model reads {expected}. Remove {unknown!r}.", where)
    texts = {name: text for name, text in given.items() if text is not None or known[name].required}
    missing = [field.name for field in fields if field.required and field.name not in texts]
    if missing:
        raise ApiError(422, f"{where} has no {' and no '.join(missing)}; the model reads {expected}.", where)
    return {
        name: read_texts(text, f"{where}.{name}", limits)
        if known[name].lists and isinstance(text, list)
        else read_text(text, f"{where}.{name}", limits)
        for name, text in texts.items()
    }


def _describe_input(fields: "Sequence[Field]") -> str:
    """The form of an input, for messages."""
    names = ", ".join(f'"{field.name}": "..."' for field in fields)
    required = [field for field in fields if field.required]
    string = "a string, or " if len(required) == 1 and required[0] is fields[0] else ""
    return f"{string}an object {{{names}}}"


@dataclass(frozen=True)
class EmbeddingsRequest:
    """The body of /embed or /v1/embeddings."""

    model: str | None
    name: str  # of the texts in the body
    texts: list[str]
    base64: bool = False
    dimensions: int | None = None  # of the vectors; None: all that the model has


def read_embed(body: Mapping[str, Any], limits: Limits) -> EmbeddingsRequest:
    """Reads the body of /embed.

    Raises:
        ApiError: the body is not valid.
    """
    check_fields(body, "/embed", ("model", *INPUT_NAMES))
    name, given = read_list(body, limits)
    texts = [read_text(text, f"{name}[{i}]", limits) for i, text in enumerate(given)]
    return EmbeddingsRequest(read_model(body), name, texts)


def read_embeddings(body: Mapping[str, Any], limits: Limits) -> EmbeddingsRequest:
    """Reads the body of /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings).

    Raises:
        ApiError: the body is not valid.
    """
    check_fields(body, "/v1/embeddings", ("model", *INPUT_NAMES, "encoding_format", "dimensions", "user"))
    name, given = read_list(body, limits)
    if any(isinstance(one, int | list) and not isinstance(one, bool) for one in given):
        raise ApiError(
            422, f"{name} contains token ids, which belong to the vocabulary of another model. Send texts.", name
        )
    form = body.get("encoding_format", "float")
    if form not in FORMATS:
        raise ApiError(422, f"encoding_format is {form!r}; it must be {' or '.join(FORMATS)}.", "encoding_format")
    dimensions = whole_number(body.get("dimensions"))
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise ApiError(422, f"dimensions is {json_type(dimensions)}; it must be an integer.", "dimensions")
    user = body.get("user")
    if user is not None and not isinstance(user, str):
        raise ApiError(422, f"user is {json_type(user)}; it must be a string.", "user")
    texts = [read_text(text, f"{name}[{i}]", limits) for i, text in enumerate(given)]
    return EmbeddingsRequest(read_model(body), name, texts, form == "base64", dimensions)


def cut_vector(vector: "np.ndarray", dimensions: int | None) -> "np.ndarray":
    """The first `dimensions` numbers of a vector (D,), scaled to length 1; with None, the vector itself.

    Models trained for it (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147) lose little by this, others more.

    Raises:
        ApiError: the vector has fewer numbers.
    """
    if dimensions is None or dimensions == len(vector):
        return vector
    if not 1 <= dimensions <= len(vector):
        raise ApiError(
            422,
            f"dimensions is {dimensions}; the model's vectors have {len(vector)}. Use 1 to that many.",
            "dimensions",
        )
    part = vector[:dimensions]
    return part / max(float(np.linalg.norm(part)), np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class GenerateRequest:
    """The body of /generate."""

    model: str | None
    prompt: str
    options: dict[str, Any]  # fields of GenerationConfig
    stream: bool
    plain: bool  # continue the prompt itself, without the template of a text-to-text model


def read_generate(body: Mapping[str, Any], limits: Limits) -> GenerateRequest:
    """Reads the body of /generate: a prompt and any of the generation options.

    Raises:
        HeadwayError: the body is not valid.
    """
    options = options_of(GenerationConfig)
    check_fields(body, "/generate", ("model", *PROMPT_NAMES, "stream", "plain", *names_of(options)))
    name = only_name(body, PROMPT_NAMES)
    prompt = read_text(body.get(name, ""), name, limits)
    stream = read_flag(body, "stream")
    given = read_generation(body, options, limits)
    if stream and given.get("num_beams", 1) > 1:
        raise ApiError(422, "A beam search cannot be streamed. Remove stream or beams.", "stream")
    return GenerateRequest(read_model(body), prompt, given, stream, read_flag(body, "plain"))


def request_options() -> list[Option]:
    """The options of tasks that a request for predictions may set."""
    from ...tasks import TASKS

    found = {
        one.name: one
        for task in TASKS.values()
        for one in options_of(task, "after")
        if one.name in task.request_options
    }
    return list(found.values())


def names_of(options: Sequence[Option]) -> dict[str, str]:
    """The name of each option by this name and by its alias."""
    return {name: option.name for option in options for name in (option.name, option.alias) if name is not None}


def read_generation(body: Mapping[str, Any], options: Sequence[Option], limits: Limits) -> dict[str, Any]:
    """Reads those options of GenerationConfig that a body has.

    Raises:
        HeadwayError: one is not valid, contradicts another one, or exceeds the limit of the server.
    """
    fields = names_of(options)
    for one in options:
        only_name(body, [name for name in (one.alias, one.name) if name is not None])
    given = {field: body[name] for name, field in fields.items() if name in body}
    for one in options:
        if one.name in given and one.type in (int, int | None):
            given[one.name] = whole_number(given[one.name])
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    if isinstance(given.get("stop"), list):
        given["stop"] = tuple(given["stop"])
    maxima = generation_limits(limits)
    for name, field in fields.items():
        value, maximum = given.get(field), maxima.get(field)
        if name in body and maximum is not None and isinstance(value, int) and value > maximum:
            raise ApiError(422, f"{name} is {value:,}; the server's limit is {maximum:,}.", name)
    GenerationConfig(**given)
    return given


def generation_limits(limits: Limits) -> dict[str, int]:
    """The maximum of each generation option that the server limits."""
    samples = limits.max_samples
    return {"max_new_tokens": limits.max_new_tokens, "num_return_sequences": samples, "num_beams": samples}
