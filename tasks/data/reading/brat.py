"""Folders of brat (https://brat.nlplab.org/standoff.html): for each text.txt, its entities in text.ann.

A line of an .ann file is "T1<TAB>PERSON 0 10<TAB>Mara Olsen"; offsets count characters of the text. An entity in
fragments ("0 4;9 14") is read from its first to its last character. Relations, events and notes are not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....core.errors import HeadwayError
from ..findings import count
from ..places import format_place, shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile

ENTITY = re.compile(r"T\S*\t(\S+) (\d{1,9} \d{1,9}(?:;\d{1,9} \d{1,9})*)(?:\t(.*))?")
FORM = 'A line of an entity is "T1", a TAB, "TYPE START END", a TAB and the text of the entity'


def _matches(folder: SourceFile) -> bool:
    return folder.path.is_dir() and next(folder.path.rglob("*.ann"), None) is not None


def _open(folder: SourceFile) -> RowStream:
    texts = sorted(path for path in folder.path.rglob("*.txt") if path.is_file())
    alone = [path for path in sorted(folder.path.rglob("*.ann")) if not path.with_suffix(".txt").is_file()]
    if alone:
        raise HeadwayError(f"{alone[0]}: there is no text for it. Put {alone[0].stem}.txt beside it, or delete it.")
    notes = []
    if bare := [path for path in texts if not path.with_suffix(".ann").exists()]:
        notes.append(f"without .ann file, so not annotated: {count(len(bare), 'text')} (first: {bare[0]})")
    fragments = sum(";" in entity[1] for path in texts for entity in _entities(path.with_suffix(".ann"), folder))
    if fragments:
        notes.append(f"read from the first to the last character: {count(fragments, 'span')} in fragments")

    def read() -> Rows:
        for place, path in enumerate(texts, start=1):
            annotated = path.with_suffix(".ann")
            found = list(_entities(annotated, folder)) if annotated.exists() else None
            text = _content(path, folder)
            if found and "\r\n" in text and not _fits(text, found):
                text = text.replace("\r\n", "\n")  # the offsets count a line break as one character
            yield (
                place,
                {
                    "file": str(path.relative_to(folder.path)),
                    "text": text,
                    "spans": found and [_span(*entity) for entity in found],
                },
            )

    return RowStream(str(folder.path), "brat", ("file", "text", "spans"), True, read, "document", tuple(notes))


def _content(path: Path, folder: SourceFile) -> str:
    return "".join(SourceFile(path, folder.options).lines()) if path.stat().st_size else ""


def _entities(path: Path, folder: SourceFile) -> Iterator[tuple[str, str, str | None]]:
    """The type, the offsets and the text of each entity of an .ann file."""
    if not path.exists():
        return
    for number, line in enumerate(_content(path, folder).splitlines(), start=1):
        if not line.startswith("T"):
            continue
        match = ENTITY.fullmatch(line)
        if match is None:
            where = format_place(str(path), "line", number)
            raise HeadwayError(f'{where}: not an entity: "{shorten(line)}". {FORM}. Correct or delete it.')
        yield match[1], match[2], match[3]


def _span(kind: str, offsets: str, covered: str | None) -> dict[str, Any]:
    numbers = [int(number) for number in re.split("[ ;]", offsets)]
    span: dict[str, Any] = {"start": numbers[0], "end": numbers[-1], "label": kind}
    return span if ";" in offsets or covered is None else {**span, "text": covered}


def _fits(text: str, entities: list[tuple[str, str, str | None]]) -> bool:
    """Whether the text at the offsets of every entity is that of the entity."""
    spans = [_span(*entity) for entity in entities]
    return all(text[span["start"] : span["end"]].split() == span["text"].split() for span in spans if "text" in span)


BRAT = FileFormat(
    _matches,
    _open,
    frozenset({"encoding"}),
    title="brat",
    files="A folder with `.txt` and `.ann` files; a row is a document",
)
