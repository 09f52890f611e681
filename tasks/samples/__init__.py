"""Sample data written for this project."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..base.task import Task

FOLDER = Path(__file__).parent


def sample_texts(task: "Task", count: int = 4) -> list[dict[str, str]]:
    """A few texts to ask a model about, by the names of the fields of its task; none where there is no sample."""
    from ..data.read import stream_rows

    if task.sample is None:
        return []
    stream = stream_rows(FOLDER / task.sample)
    texts = task.columns(stream, {}, need_label=False).texts
    found: list[dict[str, str]] = []
    for _, row in stream:
        given = {name: _joined(row[column]) for name, column in texts.items()}
        # Neighbours in a file are often about the same passage.
        if all(given.values()) and all(one[name] != text for one in found for name, text in given.items()):
            found.append(given)
        if len(found) == count:
            break
    return found


def sample_prompt(template: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Worked examples for a built-in template of prompts, and a text to ask about: text, pair and label each."""
    from ..data.read import stream_rows

    rows = [row for _, row in stream_rows(FOLDER / "prompts.csv") if row["template"] == template]
    known = [{name: str(row[name] or "") for name in ("text", "pair", "label")} for row in rows]
    return [one for one in known if one["label"]], next((one for one in known if not one["label"]), {})


def _joined(cell: object) -> str:
    """A text as it is; words as one text, without the spaces that signs do not have before them."""
    if not isinstance(cell, list):
        return str(cell or "")
    text = " ".join(map(str, cell))
    for sign in ".,;:!?":
        text = text.replace(f" {sign}", sign)
    return text
