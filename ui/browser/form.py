"""Form components for the options of tasks and training (core/options.py), and reading their values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

import gradio as gr

from ...core.errors import HeadwayError
from ...core.options import Option
from .run_drawing import title

DEFAULT = "default"
ANSWERS = {"yes": True, "no": False}


def option_component(option: Option, *, visible: bool = True) -> Any:
    """The component for an option, with its help below the label."""
    info = re.sub(r"^File with (\w)", lambda match: match[1].upper(), option.help)  # the form takes the lines instead
    shared: dict[str, Any] = {"label": title(option.name), "info": info, "visible": visible, "min_width": 200}
    kinds = _types(option)
    if option.file:
        return gr.Textbox(lines=2, max_lines=8, **shared)
    if get_origin(option.type) is tuple:
        return gr.Textbox(", ".join(map(str, option.default or ())), **shared)
    if option.choices:
        default = [] if option.default in option.choices else [(DEFAULT, "")]
        return gr.Dropdown([*default, *((one, one) for one in option.choices)], value=option.default or "", **shared)
    if kinds == [bool] and option.default is None:
        return gr.Dropdown([(DEFAULT, ""), *((one, one) for one in ANSWERS)], value="", **shared)
    if kinds == [bool]:
        return gr.Checkbox(bool(option.default), **shared)
    if kinds[0] in (int, float) and option.default is not None:
        return gr.Number(option.default, precision=0 if kinds[0] is int else None, **shared)
    # A gr.Number without a value would show 0.
    return gr.Textbox("" if option.default is None else str(option.default), placeholder=DEFAULT, **shared)


def read_options(options: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults, as plain JSON types.

    Raises:
        HeadwayError: a value is not a number where one is required.
    """
    given = [option for option in options if option.name in values]
    read = {option.name: _read(option, values[option.name]) for option in given}
    return {option.name: read[option.name] for option in given if read[option.name] != _plain(option.default)}


def _types(option: Option) -> list[Any]:
    """The types of an option without None."""
    return [kind for kind in get_args(option.type) or (option.type,) if kind is not type(None)]


def _read(option: Option, value: Any) -> Any:
    if option.file or get_origin(option.type) is tuple:
        parts = re.split(r"\n" if option.file else r"[,\n]", value or "")
        return [part.strip() for part in parts if part.strip()]
    if value is None or value == "":
        return None
    kind = _types(option)[0]
    if kind is bool:
        return ANSWERS.get(value, value)
    return read_number(title(option.name), value, kind) if kind in (int, float) else value


def read_number(name: str, value: Any, kind: type[int] | type[float] = float) -> Any:
    """A number that the user typed; None if the field is empty.

    Raises:
        HeadwayError: it is not a number.
    """
    if value is None or value == "":
        return None
    try:
        return kind(value)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        raise HeadwayError(f"{name}: {value} is not {expected}. Correct it, or leave it empty.") from error


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default
