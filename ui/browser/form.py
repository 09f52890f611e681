"""A form made from the options that tasks and the training loop declare (core/options.py), and what is filled in."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

import gradio as gr

from ...core.errors import HeadwayError
from ...core.options import Option
from .run_drawing import title

LEFT_OUT = "left out"


def draw_option(option: Option, *, visible: bool = True) -> Any:
    """The component in which a person sets an option; its help stands below the name."""
    told = re.sub(r"^File with (\w)", lambda found: found[1].upper(), option.help)
    shared: dict[str, Any] = {"label": title(option.name), "info": told, "visible": visible, "min_width": 200}
    kinds = [kind for kind in get_args(option.type) or (option.type,) if kind is not type(None)]
    if option.file:
        return gr.Textbox(lines=2, max_lines=8, **shared)
    if get_origin(option.type) is tuple:
        return gr.Textbox(", ".join(option.default or ()), **shared)
    if option.choices:
        free = [] if option.default in option.choices else [(LEFT_OUT, "")]
        return gr.Dropdown([*free, *((one, one) for one in option.choices)], value=option.default or "", **shared)
    if kinds == [bool]:
        return gr.Checkbox(bool(option.default), **shared)
    if kinds[0] in (int, float) and option.default is not None:
        return gr.Number(option.default, precision=0 if kinds[0] is int else None, **shared)
    # Gradio's field for a number shows 0 where there is none.
    return gr.Textbox("" if option.default is None else str(option.default), placeholder=LEFT_OUT, **shared)


def read_options(options: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are set to something else than they are by themselves, as plain JSON types.

    Raises:
        HeadwayError: what is filled in is no number where one is needed.
    """
    given = [option for option in options if option.name in values]
    read = {option.name: _read(option, values[option.name]) for option in given}
    return {option.name: read[option.name] for option in given if read[option.name] != _plain(option.default)}


def _read(option: Option, value: Any) -> Any:
    kinds = [kind for kind in get_args(option.type) or (option.type,) if kind is not type(None)]
    if option.file or get_origin(option.type) is tuple:
        parts = re.split(r"\n" if option.file else r"[,\n]", value or "")
        return [part.strip() for part in parts if part.strip()]
    if value is None or value == "":
        return None
    try:
        return kinds[0](value) if kinds[0] in (int, float) else value
    except ValueError as error:
        kind = "a whole number" if kinds[0] is int else "a number"
        raise HeadwayError(f"{title(option.name)}: {value} is not {kind}. Correct it, or leave it empty.") from error


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default
