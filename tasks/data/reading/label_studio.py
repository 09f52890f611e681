"""The JSON export of Label Studio (https://labelstud.io/guide/export#JSON): tasks with annotations."""

from collections.abc import Sequence
from typing import Any

from ....core.errors import HeadwayError
from ..places import format_place, format_places, shorten
from ..read_options import ANNOTATIONS

FIRST, _, AGREEING, EACH = ANNOTATIONS
STATUS_COLUMN = "annotation_status"
CANCELLED, DISAGREEING = "cancelled", "disagreeing"


def is_label_studio(records: list[Any]) -> bool:
    """Whether all records are tasks with data and annotations."""
    return all(
        isinstance(record, dict)
        and isinstance(record.get("data"), dict)
        and isinstance(record.get("annotations"), list)
        for record in records
    )


def label_studio_rows(
    source: str, tasks: list[dict[str, Any]], chosen: str | None
) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """The rows of tasks: their data and labels.

    Regions become `spans` in the format of Prodigy. Choices become `label`, or `labels` if a task has several. A task
    without an annotation has None there; `annotation_status` tells those whose annotations were all cancelled.

    Args:
        source: Of the tasks, for messages.
        tasks: The records.
        chosen: One of ANNOTATIONS. Default: FIRST.

    Returns:
        The rows, the number of the task of each, and notes.
    """
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    several: list[str] = []
    for place, task in enumerate(tasks, start=1):
        where = format_place(source, "record", place)
        annotations = [_results(where, one) for one in task["annotations"] if not _is_cancelled(where, one)]
        if len(annotations) > 1:
            several.append(where)
        for labels in _chosen(annotations, chosen or FIRST) or [_unlabelled(task, annotations)]:
            rows.append({**task["data"], **labels})
            places.append(place)
    notes: list[str] = []
    if several:
        others = ", ".join(f"--annotations {one}" for one in ANNOTATIONS if one != (chosen or FIRST))
        notes.append(
            f"{len(several):,} of {len(tasks):,} tasks have several annotations ({format_places(several, 3)}): "
            f"{_meaning(chosen or FIRST)} ({others})"
        )
    return _named(rows), places, notes


def _meaning(chosen: str) -> str:
    if chosen == AGREEING:
        return "tasks whose annotations differ are left out"
    return "each annotation is a row" if chosen == EACH else f"the {chosen} one of each is read"


def _is_cancelled(where: str, annotation: Any) -> bool:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
        raise HeadwayError(f'{where}: an annotation is not an object with a list "result". Export the tasks again.')
    return bool(annotation.get("was_cancelled"))


def _results(where: str, annotation: dict[str, Any]) -> dict[str, Any]:
    """The spans and the choices of an annotation."""
    spans: list[dict[str, Any]] = []
    choices: list[Any] = []
    for result in annotation.get("result", []):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue  # a relation between regions
        choices += _texts(where, value, "choices")
        if "start" in value and "end" in value:
            spans += [
                {"start": value["start"], "end": value["end"], "label": label, "text": value.get("text")}
                for label in _texts(where, value, "labels")
            ]
    return {"spans": spans, "choices": choices}


def _texts(where: str, value: dict[str, Any], name: str) -> list[str]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise HeadwayError(f'{where}: "{name}" is {shorten(found, 40)}, not a list of texts. Correct it.')
    return found


def _chosen(annotations: Sequence[dict[str, Any]], chosen: str) -> list[dict[str, Any]]:
    """The annotations of a task that become rows."""
    if chosen == EACH or len(annotations) < 2:
        return list(annotations)
    if chosen == AGREEING:
        return [annotations[0]] if all(_same(one, annotations[0]) for one in annotations) else []
    return [annotations[0] if chosen == FIRST else annotations[-1]]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return _as_set(one) == _as_set(other)


def _as_set(annotation: dict[str, Any]) -> set[str]:
    spans = [f"{span['start']!r} {span['end']!r} {span['label']}" for span in annotation["spans"]]
    return {*spans, *annotation["choices"]}


def _unlabelled(task: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cells of a task without an annotation that counts."""
    status = DISAGREEING if annotations else CANCELLED if task["annotations"] else None
    return {"spans": None, "choices": [], STATUS_COLUMN: status}


def _named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their choices as `label` or `labels`, without columns that no row needs."""
    has_choices = any(row["choices"] for row in rows)
    has_spans = any(row["spans"] for row in rows) or not has_choices
    has_status = any(row.get(STATUS_COLUMN) for row in rows)
    several = any(len(row["choices"]) > 1 for row in rows)
    named: list[dict[str, Any]] = []
    for row in rows:
        choices, status = row.pop("choices"), row.pop(STATUS_COLUMN, None)
        if not has_spans:
            del row["spans"]
        label = {"labels": choices or None} if several else {"label": choices[0] if choices else None}
        named.append({**row, **(label if has_choices else {}), **({STATUS_COLUMN: status} if has_status else {})})
    return named
