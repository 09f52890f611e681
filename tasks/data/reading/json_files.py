"""JSON lines, read one line at a time (also the export of doccano, Prodigy and spaCy), and JSON documents.

A document is an array of objects, {"data": [...]}, one list per column, or one of the layouts in LAYOUTS. NaN becomes
None; numbers stay numbers.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..rows import Rows, RowStream
from .csv_files import TSV_SUFFIXES
from .file_format import FileFormat, SourceFile
from .label_studio import is_label_studio, label_studio_rows
from .python_objects import rows_from_columns
from .spacy_json import annotator_pairs, is_spacy_pairs, is_spacy_training, spacy_pair_rows, spacy_training_rows
from .squad import is_squad, squad_rows
from .text_files import Sample

JSON_SUFFIX = ".json"
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
MAX_DEPTH = 100  # of nested lists and objects
TYPE_NAMES = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


class Layout(NamedTuple):
    """The format of the records of a JSON document.

    Args:
        kind: Name of the format.
        matches: Whether all records have this format.
        rows: Turns (source, records) into rows.
    """

    kind: str
    matches: Callable[[list[Any]], bool]
    rows: Callable[[str, list[Any]], list[dict[str, Any]]]


# A new layout needs one file and one entry here.
LAYOUTS = (
    Layout("spaCy JSON", is_spacy_pairs, spacy_pair_rows),
    Layout("spaCy JSON", is_spacy_training, spacy_training_rows),
    Layout("SQuAD JSON", is_squad, squad_rows),
)


class _Records(NamedTuple):
    """The rows of a document: the name of its format, the rows, the record of each, and notes."""

    kind: str
    rows: list[Any]
    places: Sequence[int]
    notes: tuple[str, ...]


def _matches(file: SourceFile) -> bool:
    if file.suffix == JSON_SUFFIX or file.suffix in JSON_LINES_SUFFIXES:
        return True
    if file.suffix in TSV_SUFFIXES:
        return False
    first = next((line.strip() for line in file.sample.filled_lines), "")
    return first.startswith(('{"', '[{"')) or first in ("{", "[", "[{")


def _open(file: SourceFile) -> RowStream:
    if file.suffix in JSON_LINES_SUFFIXES or _has_objects_per_line(file.sample):
        return _open_lines(file)
    return _open_document(file)


JSON = FileFormat(
    _matches,
    _open,
    frozenset({"encoding", "decimal", "annotations"}),
    title="JSON",
    files="`.json`, `.jsonl`, `.ndjson`, or a file that begins as such: a list of objects, one object per "
    'line, `{"data": [...]}`, a list per column, SQuAD, Label Studio, and what doccano, Prodigy and '
    "spaCy write",
)


def _has_objects_per_line(sample: Sample) -> bool:
    """Whether the first line is a complete object and more lines follow."""
    lines = sample.filled_lines
    try:
        return len(lines) > 1 and isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def _parse(text: str) -> Any:
    document = json.loads(text, parse_constant=lambda name: None if name == "NaN" else float(name))
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(document, MAX_DEPTH):
        raise ValueError(f"lists and objects are nested more than {MAX_DEPTH} deep")
    return document


def _is_deeper(document: Any, depth: int) -> bool:
    """Whether lists and objects are nested more than `depth` deep; without recursion."""
    level = [document]
    for _ in range(depth):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def _invalid_json(where: str, error: ValueError | RecursionError, fix: str) -> HeadwayError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return HeadwayError(f"{where}: invalid JSON ({reason}). {fix}")


def _check_object(record: Any, where: str, has_escapes: bool) -> dict[str, Any]:
    """Checks that a record is an object and, if its source has escapes such as \\ud83d, that UTF-8 can encode it."""
    if not isinstance(record, dict):
        raise HeadwayError(
            f"{where}: {TYPE_NAMES.get(type(record), 'a number')} where an object is expected "
            f'({shorten(json.dumps(record, ensure_ascii=False), 40)}). Write {{"text": "...", "label": "..."}}; '
            "if the file is one JSON array, rename it to .json."
        )
    if has_escapes:
        for name, value in record.items():
            try:
                json.dumps([name, value], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise HeadwayError(
                    f"{where}: column {json.dumps(name)} has half of a surrogate pair (a truncated emoji), which is "
                    "not valid Unicode. Remove it."
                ) from error
    return record


# JSON lines


def _open_lines(file: SourceFile) -> RowStream:
    sample = [
        _parse_line(file, number, line) for number, line in enumerate(file.sample.lines, start=1) if line.strip()
    ]
    columns = tuple(dict.fromkeys(name for row in sample for name in row))

    def read() -> Rows:
        for number, line in enumerate(file.lines(), start=1):
            if line.strip():
                yield number, dict.fromkeys(columns) | _parse_line(file, number, line)

    return RowStream(str(file.path), "JSON lines", columns, True, read)


def _parse_line(file: SourceFile, number: int, line: str) -> dict[str, Any]:
    where = f"{file.path}, line {number}"
    try:
        row = _parse(line)
    except (ValueError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        fix = f'The line starts with "{shorten(line, 40)}". Correct or delete it; each line must be one JSON object.'
        raise _invalid_json(f"{where}{column}", error, fix) from error
    return _check_object(row, where, "\\u" in line)


# JSON documents


def _open_document(file: SourceFile) -> RowStream:
    text = "".join(file.lines())
    try:
        document = _parse(text)
    except (ValueError, RecursionError) as error:
        place = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        fix = "Correct it; if each line is an object, rename the file to .jsonl."
        raise _invalid_json(f"{file.path}{place}", error, fix) from error
    source = str(file.path)
    kind, records, places, notes = _records(source, document, file.options.annotations)
    if not records:
        raise HeadwayError(f"{source}: the file is empty: it has no records. Give a file with at least one.")
    has_escapes = "\\u" in text
    rows = [
        _check_object(record, format_place(source, "record", place), has_escapes)
        for place, record in zip(places, records, strict=True)
    ]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))

    def read() -> Rows:
        return ((place, dict.fromkeys(columns) | row) for place, row in zip(places, rows, strict=True))

    return RowStream(source, kind, columns, True, read, "record", notes)


def _records(source: str, document: Any, annotations: str | None) -> _Records:
    """The rows of a document; `annotations` says which of several annotations of a text become rows."""
    records = _table(source, annotator_pairs(document))
    if records and is_label_studio(records):
        rows, places, notes = label_studio_rows(source, records, annotations)
        return _Records("Label Studio JSON", rows, places, tuple(notes))
    if annotations is not None:
        raise HeadwayError(f"{source}: --annotations is for an export of Label Studio, which this is not. Omit it.")
    found = next((one for one in LAYOUTS if records and one.matches(records)), None)
    rows = records if found is None else found.rows(source, records)
    return _Records("JSON" if found is None else found.kind, rows, range(1, len(rows) + 1), ())


def _table(source: str, document: Any) -> list[Any]:
    """The records of a document."""
    if isinstance(document, dict):
        tables = [name for name, value in document.items() if _is_list_of_objects(value)]
        if document and all(isinstance(value, list) for value in document.values()) and len(tables) < len(document):
            return rows_from_columns(source, document)
        if "data" in tables or len(tables) == 1:
            document = document["data" if "data" in tables else tables[0]]
        elif document and not tables and not any(isinstance(value, dict) for value in document.values()):
            document = [document]
        else:
            raise HeadwayError(
                f"{source}: a JSON object that is not a table (its keys: {shorten(', '.join(document), 100)}). "
                'Write an array of objects, {"data": [...]} or one list per column, and one table per file.'
            )
    if not isinstance(document, list):
        raise HeadwayError(f"{source}: JSON that is not a table ({shorten(document, 40)}). Write an array of objects.")
    return document


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
