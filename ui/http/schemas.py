"""What may be asked of the HTTP API: bodies as they come, checked and as plain values; and their description.

The body of /predict is made from the fields of the tasks, so that a new task needs nothing here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from ...core.generation.generation_config import GenerationConfig
from ...core.options import Option, options_of
from .middleware import ApiError, Limits, kind_of

if TYPE_CHECKING:
    from ...tasks.data.examples import Field

FORMATS = ("float", "base64")


def refuse_unknown(body: Mapping[str, Any], path: str, known: Sequence[str]) -> None:
    """Refuses what would be ignored.

    Raises:
        ApiError: the body has a name that means nothing.
    """
    for name in body:
        if name not in known:
            raise ApiError(422, f"{path} does not know {name!r}. It reads: {', '.join(known)}. Leave it out.", name)


def read_model(body: Mapping[str, Any]) -> str | None:
    """The model's name; None where any will do.

    Raises:
        ApiError: it is no text.
    """
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise ApiError(422, f"model is {kind_of(name)}, where a name belongs. GET /info lists the models.", "model")
    return name


def read_flag(body: Mapping[str, Any], name: str) -> bool:
    """A switch; off where it is left out.

    Raises:
        ApiError: it is something else.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ApiError(422, f"{name} is {kind_of(value)}. Say true or false.", name)
    return value


def read_list(body: Mapping[str, Any], name: str, limits: Limits, example: str) -> list[Any]:
    """A list of texts, or of what stands for them.

    Raises:
        ApiError: there is none, it is something else, it is empty or too long.
    """
    if name not in body:
        raise ApiError(422, f'{name} is missing. Send it as in {{"{name}": {example}}}.', name)
    given = body[name]
    if not isinstance(given, list):
        raise ApiError(422, f'{name} is {kind_of(given)}, where a list belongs: {{"{name}": {example}}}.', name)
    if not given:
        raise ApiError(422, f"{name} is empty. Put at least one text into it.", name)
    if len(given) > limits.max_texts:
        raise ApiError(
            413,
            f"{name} has {len(given):,} texts, and one request may have {limits.max_texts:,}. Send several requests.",
            name,
        )
    return given


def read_text(given: Any, where: str, limits: Limits) -> str:
    """A text.

    Raises:
        ApiError: it is something else, or too long.
    """
    if not isinstance(given, str):
        raise ApiError(422, f"{where} is {kind_of(given)}, where a text (a string) belongs. Correct it.", where)
    if len(given) > limits.max_characters:
        raise ApiError(
            413,
            f"{where} has {len(given):,} characters, and a text may have {limits.max_characters:,}. Send it in parts.",
            where,
        )
    return given


def read_words(given: Sequence[Any], where: str, limits: Limits) -> list[str]:
    """A text as its words.

    Raises:
        ApiError: one is something else, or they are too long together.
    """
    words = [read_text(word, f"{where}[{i}]", limits) for i, word in enumerate(given)]
    read_text(" ".join(words), where, limits)
    return words


def read_input(given: Any, where: str, fields: "Sequence[Field]", limits: Limits) -> dict[str, Any]:
    """What a model reads at once: a text under the name of each field, or its words where that is possible.

    Raises:
        ApiError: it is something else.
    """
    wanted = _wanted(fields)
    first = fields[0]
    if isinstance(given, list) and first.words:
        given = {first.name: given}
    if isinstance(given, str):
        given = {first.name: given}
    if not isinstance(given, dict):
        raise ApiError(422, f"{where} is {kind_of(given)}; the model reads {wanted}. Correct it.", where)
    known = {field.name: field for field in fields}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise ApiError(422, f"{where} has {unknown!r}; the model reads {wanted}. Leave it out.", where)
    texts = {name: text for name, text in given.items() if text is not None or known[name].required}
    missing = [field.name for field in fields if field.required and field.name not in texts]
    if missing:
        raise ApiError(422, f"{where} has no {' and no '.join(missing)}; the model reads {wanted}. Add it.", where)
    return {
        name: read_words(text, f"{where}.{name}", limits)
        if known[name].words and isinstance(text, list)
        else read_text(text, f"{where}.{name}", limits)
        for name, text in texts.items()
    }


def _wanted(fields: "Sequence[Field]") -> str:
    """How an input is to be given."""
    whole = ", ".join(f'"{field.name}": "..."' for field in fields)
    required = [field for field in fields if field.required]
    alone = "a text, or " if len(required) == 1 and required[0] is fields[0] else ""
    return f"{alone}an object {{{whole}}}"


@dataclass(frozen=True)
class EmbeddingsAsked:
    """What OpenAI's /v1/embeddings was asked for."""

    model: str | None
    texts: list[str]
    base64: bool
    dimensions: int | None


def read_embeddings(body: Mapping[str, Any], limits: Limits) -> EmbeddingsAsked:
    """The body of /v1/embeddings, as https://platform.openai.com/docs/api-reference/embeddings describes it.

    Raises:
        ApiError: it is not what can be answered.
    """
    refuse_unknown(body, "/v1/embeddings", ("input", "model", "encoding_format", "dimensions", "user"))
    given = body.get("input")
    if isinstance(given, str):
        given = [given]
    texts = read_list({**body, "input": given} if "input" in body else body, "input", limits, '["a text"]')
    if any(isinstance(one, int | list) and not isinstance(one, bool) for one in texts):
        raise ApiError(
            422, "input has numbers of tokens, which belong to another model's vocabulary. Send the texts.", "input"
        )
    form = body.get("encoding_format", "float")
    if form not in FORMATS:
        raise ApiError(422, f"encoding_format is {form!r}. Say {' or '.join(FORMATS)}.", "encoding_format")
    dimensions = body.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
        raise ApiError(422, f"dimensions is {kind_of(dimensions)}. Leave it out.", "dimensions")
    texts = [read_text(text, f"input[{i}]", limits) for i, text in enumerate(texts)]
    return EmbeddingsAsked(read_model(body), texts, form == "base64", dimensions)


@dataclass(frozen=True)
class TextAsked:
    """What /generate was asked for."""

    model: str | None
    prompt: str
    config: GenerationConfig
    stream: bool


def read_generation(body: Mapping[str, Any], limits: Limits) -> TextAsked:
    """The body of /generate: a prompt, and any of the options of generation.

    Raises:
        HeadwayError: it is not what can be answered.
    """
    options = options_of(GenerationConfig)
    names = {name: option.name for option in options for name in (option.name, option.alias) if name is not None}
    refuse_unknown(body, "/generate", ("model", "prompt", "stream", *names))
    prompt = read_text(body.get("prompt", ""), "prompt", limits)
    stream = read_flag(body, "stream")
    given = {field: body[name] for name, field in names.items() if name in body}
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    if isinstance(given.get("stop"), list):
        given["stop"] = tuple(given["stop"])
    most_of = _generation_limits(limits)
    for name, field in names.items():
        value, most = body.get(name), most_of.get(field)
        if most is not None and isinstance(value, int) and value > most:
            raise ApiError(422, f"{name} is {value:,}, and this server allows {most:,}. Ask for less.", name)
    config = GenerationConfig(**given)
    if stream and config.num_beams > 1:
        raise ApiError(422, "A beam search has no text before its end. Leave out stream or beams.", "stream")
    return TextAsked(read_model(body), prompt, config, stream)


def _generation_limits(limits: Limits) -> dict[str, int]:
    """The largest value of each option that the server limits."""
    most = limits.max_samples
    return {"max_new_tokens": limits.max_new_tokens, "num_return_sequences": most, "num_beams": most}


# -- the same, described for OpenAPI


TEXT = {"type": "string"}
MODEL = {"type": "string", "description": "A model's name, as GET /info lists them; the first that fits if left out."}


def body_of(properties: Mapping[str, Any], required: Sequence[str], example: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a body, as a route takes it."""
    schema = {
        "type": "object",
        "properties": {"model": MODEL, **properties},
        "required": list(required),
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def predict_body(limits: Limits) -> dict[str, Any]:
    """The body of /predict, which is that of any task."""
    from ...tasks import TASKS

    forms: list[dict[str, Any]] = [{**TEXT, "description": "Where the model reads one text."}]
    for task in TASKS.values():
        form = _form(task.title, task.inputs)
        if form["properties"] not in [known.get("properties") for known in forms]:
            forms.append(form)
    inputs = {"type": "array", "items": {"anyOf": forms}, "minItems": 1, "maxItems": limits.max_texts}
    return body_of({"inputs": inputs}, ["inputs"], {"inputs": ["a lovely film", "two hours I will not get back"]})


def _form(title: str, fields: "Sequence[Field]") -> dict[str, Any]:
    words = {"type": "array", "items": TEXT}
    properties = {
        field.name: {"anyOf": [TEXT, words], "title": field.label} if field.words else {**TEXT, "title": field.label}
        for field in fields
    }
    required = [field.name for field in fields if field.required]
    return {"type": "object", "title": title, "properties": properties, "required": required}


def texts_body(limits: Limits) -> dict[str, Any]:
    """The body of /embed."""
    texts = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": limits.max_texts}
    return body_of({"texts": texts}, ["texts"], {"texts": ["a lovely film", "where is my parcel?"]})


def embeddings_body(limits: Limits) -> dict[str, Any]:
    """The body of /v1/embeddings."""
    many = {"type": "array", "items": TEXT, "minItems": 1, "maxItems": limits.max_texts}
    properties = {
        "input": {"anyOf": [TEXT, many]},
        "encoding_format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
        "dimensions": {"type": "integer", "description": "The model's own, or left out."},
        "user": {**TEXT, "description": "Ignored."},
    }
    return body_of(properties, ["input"], {"input": "where is my parcel?"})


def generation_body(limits: Limits) -> dict[str, Any]:
    """The body of /generate, made from the options of generation."""
    most = _generation_limits(limits)
    properties: dict[str, Any] = {
        "prompt": {**TEXT, "description": "The text to go on with; from nothing if left out."},
        "stream": {"type": "boolean", "default": False, "description": "As server-sent events."},
    }
    for option in options_of(GenerationConfig):
        described = _described(option) | ({"maximum": most[option.name]} if option.name in most else {})
        if option.alias is not None:
            properties[option.alias] = described | {"description": f"{option.help} Also: {option.name}."}
        properties[option.name] = described
    return body_of(properties, [], {"prompt": "Once upon a time", "max_new_tokens": 40, "stream": False})


def _described(option: Option) -> dict[str, Any]:
    kinds = {int: "integer", float: "number", str: "string", bool: "boolean"}
    found = next((name for kind, name in kinds.items() if option.type in (kind, kind | None)), None)
    described: dict[str, Any] = {"description": option.help}
    described |= {"type": found} if found else {"type": "array", "items": TEXT}
    if option.choices:
        described["enum"] = list(option.choices)
    if option.default not in (None, ()):
        described["default"] = option.default
    return described


def refuse_dimensions(asked: int | None, size: int) -> None:
    """Vectors have the size that they have.

    Raises:
        HeadwayError: another one is asked for.
    """
    if asked is not None and asked != size:
        raise HeadwayError(f"dimensions is {asked}, and the model's vectors have {size}. Leave it out.")
