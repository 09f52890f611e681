"""Request bodies of the HTTP API: validation into plain values, and their OpenAPI description.

The body of /predict follows from the input fields of the tasks, so a new task needs no change here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from ...core.generation.generation_config import GenerationConfig
from ...core.options import Option, options_of
from .middleware import ApiError, Limits, json_type

if TYPE_CHECKING:
    from ...tasks.data.examples import Field

FORMATS = ("float", "base64")


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
    """Reads the threshold of several labels: one number, or numbers by label; None if there is none.

    Raises:
        ApiError: it is something else.
    """
    given = body.get("threshold")
    numbers = given.values() if isinstance(given, dict) else () if given is None else (given,)
    if given == {} or any(not isinstance(one, int | float) or isinstance(one, bool) for one in numbers):
        raise ApiError(422, 'threshold must be a number, or numbers by label: {"billing": 0.3}.', "threshold")
    return given


def read_list(body: Mapping[str, Any], name: str, limits: Limits, example: str) -> list[Any]:
    """Reads a list of inputs.

    Raises:
        ApiError: the list is missing, empty, too long or not a list.
    """
    if name not in body:
        raise ApiError(422, f'{name} is missing. Send it as in {{"{name}": {example}}}.', name)
    given = body[name]
    if not isinstance(given, list):
        raise ApiError(422, f'{name} is {json_type(given)}; it must be a list: {{"{name}": {example}}}.', name)
    if not given:
        raise ApiError(422, f"{name} is empty. Send at least one text.", name)
    if len(given) > limits.max_texts:
        raise ApiError(
            413,
            f"{name} has {len(given):,} texts; the limit is {limits.max_texts:,} per request. Send several requests.",
            name,
        )
    return given


def read_text(given: Any, where: str, limits: Limits) -> str:
    """Reads a text.

    Raises:
        ApiError: the value is not a string, or it is too long.
    """
    if not isinstance(given, str):
        raise ApiError(422, f"{where} is {json_type(given)}; it must be a string.", where)
    if len(given) > limits.max_characters:
        raise ApiError(
            413,
            f"{where} has {len(given):,} characters; the limit is {limits.max_characters:,}. Split the text.",
            where,
        )
    return given


def read_words(given: Sequence[Any], where: str, limits: Limits) -> list[str]:
    """Reads a text given as a list of words.

    Raises:
        ApiError: a word is not a string, or the text is too long.
    """
    words = [read_text(word, f"{where}[{i}]", limits) for i, word in enumerate(given)]
    read_text(" ".join(words), where, limits)
    return words


def read_input(given: Any, where: str, fields: "Sequence[Field]", limits: Limits) -> dict[str, Any]:
    """Reads one input of a model: the text of each field, or its words where the field allows a list of words.

    A string or a list stands for an object with the first field.

    Raises:
        ApiError: the value does not fit the fields.
    """
    expected = _describe_input(fields)
    first = fields[0]
    if isinstance(given, str) or (isinstance(given, list) and first.words):
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
        name: read_words(text, f"{where}.{name}", limits)
        if known[name].words and isinstance(text, list)
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
    """The body of /v1/embeddings."""

    model: str | None
    texts: list[str]
    base64: bool
    dimensions: int | None


def read_embeddings(body: Mapping[str, Any], limits: Limits) -> EmbeddingsRequest:
    """Reads the body of /v1/embeddings (https://platform.openai.com/docs/api-reference/embeddings).

    Raises:
        ApiError: the body is not valid.
    """
    check_fields(body, "/v1/embeddings", ("input", "model", "encoding_format", "dimensions", "user"))
    given = body.get("input")
    if isinstance(given, str):
        given = [given]
    texts = read_list({**body, "input": given} if "input" in body else body, "input", limits, '["a text"]')
    if any(isinstance(one, int | list) and not isinstance(one, bool) for one in texts):
        raise ApiError(
            422, "input contains token ids, which belong to the vocabulary of another model. Send texts.", "input"
        )
    form = body.get("encoding_format", "float")
    if form not in FORMATS:
        raise ApiError(422, f"encoding_format is {form!r}; it must be {' or '.join(FORMATS)}.", "encoding_format")
    dimensions = body.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise ApiError(422, f"dimensions is {json_type(dimensions)}; it must be an integer.", "dimensions")
    texts = [read_text(text, f"input[{i}]", limits) for i, text in enumerate(texts)]
    return EmbeddingsRequest(read_model(body), texts, form == "base64", dimensions)


def check_dimensions(requested: int | None, size: int) -> None:
    """Refuses `dimensions` other than the model's, which cannot be changed.

    Raises:
        HeadwayError: another number is requested.
    """
    if requested is not None and requested != size:
        raise HeadwayError(f"dimensions is {requested}; the model's vectors have {size}. Remove dimensions.")


@dataclass(frozen=True)
class GenerateRequest:
    """The body of /generate."""

    model: str | None
    prompt: str
    config: GenerationConfig
    stream: bool


def read_generate(body: Mapping[str, Any], limits: Limits) -> GenerateRequest:
    """Reads the body of /generate: a prompt and any of the generation options.

    Raises:
        HeadwayError: the body is not valid.
    """
    options = options_of(GenerationConfig)
    fields = {name: option.name for option in options for name in (option.name, option.alias) if name is not None}
    check_fields(body, "/generate", ("model", "prompt", "stream", *fields))
    prompt = read_text(body.get("prompt", ""), "prompt", limits)
    stream = read_flag(body, "stream")
    given = {field: body[name] for name, field in fields.items() if name in body}
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    if isinstance(given.get("stop"), list):
        given["stop"] = tuple(given["stop"])
    maxima = _generation_limits(limits)
    for name, field in fields.items():
        value, maximum = body.get(name), maxima.get(field)
        if maximum is not None and isinstance(value, int) and value > maximum:
            raise ApiError(422, f"{name} is {value:,}; the server's limit is {maximum:,}.", name)
    config = GenerationConfig(**given)
    if stream and config.num_beams > 1:
        raise ApiError(422, "A beam search cannot be streamed. Remove stream or beams.", "stream")
    return GenerateRequest(read_model(body), prompt, config, stream)


def _generation_limits(limits: Limits) -> dict[str, int]:
    """The maximum of each generation option that the server limits."""
    samples = limits.max_samples
    return {"max_new_tokens": limits.max_new_tokens, "num_return_sequences": samples, "num_beams": samples}


# The same bodies for OpenAPI.


TEXT = {"type": "string"}
MODEL = {
    "type": "string",
    "description": "Name of a model listed by GET /info. Default: the first model that supports the request.",
}


def request_body(properties: Mapping[str, Any], required: Sequence[str], example: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a body, for a route's `openapi_extra`."""
    schema = {
        "type": "object",
        "properties": {"model": MODEL, **properties},
        "required": list(required),
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def predict_body(limits: Limits) -> dict[str, Any]:
    """The description of the body of /predict: the input fields of any task."""
    from ...tasks import TASKS

    forms: list[dict[str, Any]] = [{**TEXT, "description": "For a model that reads one text."}]
    for task in TASKS.values():
        form = _input_schema(task.title, task.inputs)
        if form["properties"] not in [known.get("properties") for known in forms]:
            forms.append(form)
    inputs = {"type": "array", "items": {"anyOf": forms}, "minItems": 1, "maxItems": limits.max_texts}
    example = {"inputs": ["a lovely film", "two hours I will not get back"]}
    number = {"type": "number", "minimum": 0, "maximum": 1}
    threshold = {
        "anyOf": [number, {"type": "object", "additionalProperties": number, "minProperties": 1}, {"type": "null"}],
        "description": "For a model that predicts several labels: the probability from which a label is predicted, "
        "for all labels or for each of some. Default: the thresholds of the model.",
    }
    return request_body({"inputs": inputs, "threshold": threshold}, ["inputs"], example)


def _input_schema(title: str, fields: "Sequence[Field]") -> dict[str, Any]:
    words = {"type": "array", "items": TEXT}
    properties = {
        field.name: {"anyOf": [TEXT, words], "title": field.label} if field.words else {**TEXT, "title": field.label}
        for field in fields
    }
    required = [field.name for field in fields if field.required]
    return {"type": "object", "title": title, "properties": properties, "required": required}


def _texts_schema(limits: Limits) -> dict[str, Any]:
    return {"type": "array", "items": TEXT, "minItems": 1, "maxItems": limits.max_texts}


def embed_body(limits: Limits) -> dict[str, Any]:
    """The description of the body of /embed."""
    example = {"texts": ["a lovely film", "where is my parcel?"]}
    return request_body({"texts": _texts_schema(limits)}, ["texts"], example)


def embeddings_body(limits: Limits) -> dict[str, Any]:
    """The description of the body of /v1/embeddings."""
    properties = {
        "input": {"anyOf": [TEXT, _texts_schema(limits)]},
        "encoding_format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
        "dimensions": {
            "type": "integer",
            "description": "Size of the vectors; only the model's own size works.",
        },
        "user": {**TEXT, "description": "Ignored."},
    }
    return request_body(properties, ["input"], {"input": "where is my parcel?"})


def generate_body(limits: Limits) -> dict[str, Any]:
    """The description of the body of /generate, from the generation options."""
    maxima = _generation_limits(limits)
    properties: dict[str, Any] = {
        "prompt": {**TEXT, "description": "Text to continue. Default: empty."},
        "stream": {"type": "boolean", "default": False, "description": "Stream the text as server-sent events."},
    }
    for option in options_of(GenerationConfig):
        schema = _option_schema(option)
        if option.name in maxima:
            schema["maximum"] = maxima[option.name]
        if option.alias is not None:
            properties[option.alias] = schema | {"description": f"{option.help} Also: {option.name}."}
        properties[option.name] = schema
    return request_body(properties, [], {"prompt": "Once upon a time", "max_new_tokens": 40, "stream": False})


def _option_schema(option: Option) -> dict[str, Any]:
    kinds = {int: "integer", float: "number", str: "string", bool: "boolean"}
    found = next((name for kind, name in kinds.items() if option.type in (kind, kind | None)), None)
    schema: dict[str, Any] = {"description": option.help}
    schema |= {"type": found} if found else {"type": "array", "items": TEXT}
    if option.choices:
        schema["enum"] = list(option.choices)
    if option.default not in (None, ()):
        schema["default"] = option.default
    return schema
