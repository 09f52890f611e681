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
    if what != "class" or not dataclasses.is_dataclass(obj) or any(line.startswith("Args:") for line in lines):
        return
    described = [one for one in dataclasses.fields(obj) if one.init and "help" in one.metadata]
    if not described:
        return
    found = ["", "Args:"]
    for one in described:
        choices = ", ".join(f"``{choice}``" for choice in one.metadata["choices"])
        text = one.metadata["help"].replace("*", "\\*") + (f" Choices: {choices}." if choices else "")
        found.append(f"    {one.name}: {text}")
    position = next((i for i, line in enumerate(lines) if line.startswith("Raises:")), len(lines))
    lines[position:position] = [*found, ""]
