"""JSON files of every layout people have -> a stream of rows.

JSON lines are read one at a time (which is also how doccano, Prodigy and spaCy export), a JSON document as a whole: an
array of objects, {"data": [...]}, lists by column, SQuAD's nested articles (Rajpurkar et al., 2016 and 2018) and Label
Studio's export. NaN becomes None; numbers stay numbers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..rows import Rows, RowStream
from .lines import Sample, read_lines, take_sample

LINES_ENDINGS = (".jsonl", ".ndjson")


def looks_like_json(sample: Sample) -> bool:
    """Whether a text file whose name says nothing begins with a JSON object, or an array of them."""
    first = next((line.strip() for line in sample.lines if line.strip()), "")
    return first.startswith(('{"', '[{"')) or first in ("{", "[", "[{")


def open_json(path: Path, ending: str) -> RowStream:
    """Opens a JSON or JSON lines file as a stream of rows.

    Raises:
        HeadwayError: the file, or a line of it, is not JSON, or holds something else than objects.
    """
    sample = take_sample(path)
    if ending in LINES_ENDINGS or _holds_lines(sample):
        return _open_lines(path, sample)
    return _open_document(path)


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_constant)


def _holds_lines(sample: Sample) -> bool:
    """Whether the first line is a whole object and more lines follow."""
    lines = [line for line in sample.lines if line.strip()]
    try:
        return len(lines) > 1 and isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def _broken(where: str, error: ValueError | RecursionError, mend: str) -> HeadwayError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return HeadwayError(f"{where}: broken JSON ({reason}). {mend}")


# JSON lines


def _open_lines(path: Path, sample: Sample) -> RowStream:
    head = (_parse_line(path, number, line) for number, line in enumerate(sample.lines, start=1) if line.strip())
    columns = tuple(dict.fromkeys(name for row in head for name in row))

    def read() -> Rows:
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                yield number, dict.fromkeys(columns) | _parse_line(path, number, line)

    return RowStream(str(path), "JSON lines", columns, True, read)


def _parse_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = _parse(line)
    except (ValueError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        mend = f'The line begins "{shorten(line, 40)}". Mend it or take it out; each line is one whole object.'
        raise _broken(f"{path}, line {number}{column}", error, mend) from error
    return _checked(row, f"{path}, line {number}", "\\u" in line)


def _checked(row: Any, where: str, escaped: bool) -> dict[str, Any]:
    """`row`, if it is an object and, where its source has escapes like \\ud83d, text that UTF-8 can hold."""
    if not isinstance(row, dict):
        what = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(row), "a number")
        raise HeadwayError(
            f"{where}: {what} where an object is expected ({shorten(json.dumps(row, ensure_ascii=False), 40)}). "
            'Write {"text": "...", "label": "..."}; if the whole file is one JSON array, let its name end in .json.'
        )
    if escaped:
        for name, value in row.items():
            try:
                json.dumps([name, value], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise HeadwayError(
                    f"{where}: column {json.dumps(name)} holds half of a surrogate pair (an emoji that was cut in "
                    "two), which is no text. Take it out."
                ) from error
    return row


# JSON documents


def _open_document(path: Path) -> RowStream:
    text = "".join(read_lines(path))
    try:
        document = _parse(text)
    except (ValueError, RecursionError) as error:
        place = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        mend = "Mend it there; if each line is an object of its own, let the file's name end in .jsonl."
        raise _broken(f"{path}{place}", error, mend) from error
    kind, found = _rows_of(path, document)
    if not found:
        raise HeadwayError(f"{path}: the file is empty: it holds no records. Give a file with at least one.")
    escaped = "\\u" in text
    rows = [_checked(row, format_place(str(path), kind, place), escaped) for place, row in enumerate(found, start=1)]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))

    def read() -> Rows:
        return ((place, dict.fromkeys(columns) | row) for place, row in enumerate(rows, start=1))

    return RowStream(str(path), kind, columns, True, read)


def _rows_of(path: Path, document: Any) -> tuple[str, list[Any]]:
    """The kind of a document and its rows, whichever of the layouts it has."""
    if isinstance(document, dict):
        values = document.values()
        tables = [name for name, value in document.items() if _is_table(value)]
        by_column = bool(values) and all(isinstance(value, list) for value in values)
        if by_column and len(tables) < len(values):
            return "JSON", _rows_by_column(path, document)
        if "data" in tables or len(tables) == 1:
            document = document["data" if "data" in tables else tables[0]]
        elif values and not tables and not any(isinstance(value, dict) for value in values):
            document = [document]
        else:
            raise HeadwayError(
                f"{path}: a JSON object that is no table (its keys: {shorten(', '.join(document), 100)}). "
                'Write an array of objects, {"data": [...]}, or one list for each column, one table a file.'
            )
    if not isinstance(document, list):
        raise HeadwayError(f"{path}: JSON that is no table ({shorten(document, 40)}). Write an array of objects.")
    if document and all(isinstance(row, dict) and "paragraphs" in row for row in document):
        return "SQuAD JSON", list(_squad_rows(path, document))
    if document and all(_is_label_studio(row) for row in document):
        return "JSON", _label_studio_rows(document)
    return "JSON", document


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _rows_by_column(path: Path, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise HeadwayError(f"{path}: the columns are not equally long ({shorten(shown, 120)}). Fill the shorter ones.")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _squad_rows(path: Path, articles: list[Any]) -> Iterator[dict[str, Any]]:
    """One row for each question; a question without answers (version 2.0) has empty lists, an unlabelled one None."""
    for number, article in enumerate(articles, start=1):
        title = article.get("title", "")
        try:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = [] if question.get("is_impossible") else question.get("answers")
                    yield {
                        "id": question["id"],
                        "title": title,
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": None if answers is None else _squad_answers(answers),
                    }
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise HeadwayError(
                f'{path}, article {number} ("{shorten(title)}"): not as SQuAD writes it: {reason}. Each paragraph '
                "has context and qas; each of these id, question and answers with text and answer_start."
            ) from error


def _squad_answers(answers: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}


def _is_label_studio(task: Any) -> bool:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        return False
    return isinstance(task.get("annotations"), list)


def _label_studio_rows(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task: its data, and what the first annotation that was not cancelled says.

    Regions become `spans` as Prodigy writes them, choices `label` (or `labels`, where some task has several). A task
    that nobody annotated has None there.
    """
    rows, choices = [], []
    for task in tasks:
        done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        results = done[0].get("result", []) if done else []
        values = [result["value"] for result in results if isinstance(result.get("value"), dict)]
        spans = [
            {"start": value["start"], "end": value["end"], "label": label, "text": value.get("text")}
            for value in values
            if "start" in value and "end" in value
            for label in value.get("labels", ())
        ]
        choices.append([choice for value in values for choice in value.get("choices", ())])
        rows.append({**task["data"], "spans": spans if done else None})
    if not any(choices):
        return rows
    several = any(len(chosen) > 1 for chosen in choices)
    name = "labels" if several else "label"
    labels = [(chosen if several else chosen[0]) if chosen else None for chosen in choices]
    spans = any(row["spans"] for row in rows)
    return [
        {key: value for key, value in row.items() if spans or key != "spans"} | {name: label}
        for row, label in zip(rows, labels, strict=True)
    ]
