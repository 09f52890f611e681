"""Documents the fields of option dataclasses in the API reference by their help texts."""

import dataclasses
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the extension."""
    app.connect("autodoc-process-docstring", add_options, priority=100)  # before napoleon
    return {"parallel_read_safe": True}


def add_options(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Adds an "Args" section for the fields that users can set."""
    if what != "class" or not dataclasses.is_dataclass(obj):
        return
    described = [one for one in dataclasses.fields(obj) if one.init and "help" in one.metadata]
    found = [one for field in described if not _is_documented(field.name, lines) for one in _entry(field)]
    if not found:
        return
    if "Args:" in lines:
        position = lines.index("Args:") + 1
    else:
        position = next((i for i, line in enumerate(lines) if line.startswith("Raises:")), len(lines))
        found = ["", "Args:", *found, ""]
    lines[position:position] = found


def _is_documented(name: str, lines: list[str]) -> bool:
    return any(line.startswith(f"    {name}:") for line in lines)


def _entry(field: dataclasses.Field[Any]) -> list[str]:
    choices = ", ".join(f"``{choice}``" for choice in field.metadata["choices"])
    text = field.metadata["help"].replace("*", "\\*") + (f" Choices: {choices}." if choices else "")
    return [f"    {field.name}: {text}"]
