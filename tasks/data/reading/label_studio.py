"""The JSON export of Label Studio (https://labelstud.io/guide/export#JSON)."""

from typing import Any


def is_label_studio(records: list[Any]) -> bool:
    """Whether all records are tasks with data and annotations."""
    return all(
        isinstance(record, dict)
        and isinstance(record.get("data"), dict)
        and isinstance(record.get("annotations"), list)
        for record in records
    )


def label_studio_rows(source: str, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:  # noqa: ARG001
    """One row per task: its data, and the labels of its first annotation that was not cancelled.

    Regions become `spans` in the format of Prodigy. Choices become `label`, or `labels` if a task has several. A task
    without an annotation has None there.
    """
    rows: list[dict[str, Any]] = []
    choices: list[list[str]] = []
    for task in tasks:
        annotation = next((one for one in task["annotations"] if not one.get("was_cancelled")), None)
        results = annotation.get("result", []) if annotation else []
        values = [result["value"] for result in results if isinstance(result.get("value"), dict)]
        choices.append([choice for value in values for choice in value.get("choices", ())])
        rows.append({**task["data"], "spans": None if annotation is None else _spans(values)})
    if not any(choices):
        return rows
    if not any(row["spans"] for row in rows):
        for row in rows:
            del row["spans"]
    if any(len(chosen) > 1 for chosen in choices):
        return [{**row, "labels": chosen or None} for row, chosen in zip(rows, choices, strict=True)]
    return [{**row, "label": chosen[0] if chosen else None} for row, chosen in zip(rows, choices, strict=True)]


def _spans(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"start": value["start"], "end": value["end"], "label": label, "text": value.get("text")}
        for value in values
        if "start" in value and "end" in value
        for label in value.get("labels", ())
    ]
