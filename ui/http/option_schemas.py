"""The options of generation in the OpenAPI description: their values, and which of them go together."""

from collections.abc import Sequence
from typing import Any

from ...core.generation.generation_config import (
    MAX_LENGTH_PENALTY,
    MAX_REPETITION_PENALTY,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
)
from ...core.options import Option
from .limits import Limits
from .request_bodies import generation_limits

Schema = dict[str, Any]


def combinations(limits: Limits) -> list[Schema]:
    """The combinations of generation options that do not contradict each other (GenerationConfig)."""
    max_beams = generation_limits(limits)["num_beams"]
    no_filters: Schema = {name: {"type": "null"} for name in ("top_k", "top_p", "min_p")}
    one_beam: Schema = {"beams": {"maximum": 1}}
    sampling = {**one_beam, "temperature": {"not": {"const": 0}}}
    greedy = {**one_beam, **no_filters, "samples": {"maximum": 1}}
    search = {
        "temperature": {"enum": [0, None]},
        "context": {"const": "stop"},
        "stream": {"const": False},
        **no_filters,
    }
    forms: list[Schema] = [{"properties": sampling}, {"properties": greedy}]
    for beams in range(2, max_beams + 1):
        numbers = {"beams": {"const": beams}, "samples": {"maximum": beams}}
        forms.append({"properties": {**search, **numbers}, "required": ["beams"]})
    return forms


# Of options whose type alone does not say which values are possible.
RANGES: dict[str, Schema] = {
    "max_new_tokens": {"minimum": 1},
    "num_return_sequences": {"minimum": 1},
    "num_beams": {"minimum": 1},
    "top_k": {"minimum": 1},
    "no_repeat_ngram_size": {"minimum": 1},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "min_p": {"exclusiveMinimum": 0, "maximum": 1},
    "repetition_penalty": {"minimum": 1 / MAX_REPETITION_PENALTY, "maximum": MAX_REPETITION_PENALTY},
    "length_penalty": {"minimum": -MAX_LENGTH_PENALTY, "maximum": MAX_LENGTH_PENALTY},
    "seed": {"minimum": 0},
    "temperature": {
        "anyOf": [{"const": 0}, {"minimum": MIN_TEMPERATURE, "maximum": MAX_TEMPERATURE}, {"type": "null"}]
    },
}


def option_schemas(options: Sequence[Option], limits: Limits, default: str | None = None) -> dict[str, Schema]:
    """The options of generation as properties.

    Args:
        options: of GenerationConfig.
        limits: of the server.
        default: what is used instead, in words; None: the default of each option.
    """
    maxima, found = generation_limits(limits), {}
    for option in options:
        schema = _option_schema(option)
        if option.name in maxima:
            schema["maximum"] = maxima[option.name]
        if option.alias is not None:
            schema["description"] = f"{option.help} Another name of it is {option.name}; give one of them."
        if default is not None:
            schema.pop("default", None)
            schema["description"] = f"{schema['description']} Default: {default}."
        found[option.alias or option.name] = schema
    return found


def _option_schema(option: Option) -> Schema:
    kinds = {int: "integer", float: "number", str: "string", bool: "boolean"}
    found = next((name for kind, name in kinds.items() if option.type in (kind, kind | None)), None)
    schema: Schema = {"description": option.help}
    if found is None:
        text = {"type": "string", "minLength": 1}
        schema["anyOf"] = [text, {"type": "array", "items": text}]
    else:
        schema["type"] = [found, "null"] if option.default is None else found
    if option.choices:
        schema["enum"] = list(option.choices)
    if option.default not in (None, ()):
        schema["default"] = option.default
    return schema | RANGES.get(option.name, {})
