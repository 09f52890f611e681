"""WebAnno TSV 3, the export of WebAnno and INCEpTION: a token on each line, its annotations in columns.

https://inception-project.github.io/releases/36.6/docs/user-guide.html#sect_formats_webannotsv3. A layer of spans has
one column per feature. In a column, "_" is no annotation, "*" is one without a value, "[2]" joins the tokens of an
annotation, and "|" separates annotations of the same token.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile

FORMAT_LINE = "#FORMAT=WebAnno TSV 3"
TEXT_LINE = "#Text="
SPAN_LAYER, CHAIN_LAYER, RELATION_LAYER = "#T_SP=", "#T_CH=", "#T_RL="
NONE, NO_VALUE = "_", "*"
ESCAPED = re.compile(r"\\(.)")
CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
STACKED = re.compile(r"(?<!\\)\|")
VALUE = re.compile(r"(.*?)(?:\[(\d+)\])?", re.DOTALL)
FIRST_COLUMNS = 3  # id, offsets, token
PREFERRED = ("value", "label", "category", "entity")  # features that usually hold the type of an entity


def _matches(file: SourceFile) -> bool:
    return next(iter(file.sample.lines), "").startswith(FORMAT_LINE)


class _Feature(NamedTuple):
    """A feature of a layer of spans, and its column."""

    layer: str
    name: str
    column: int

    @property
    def title(self) -> str:
        return f"{self.layer}.{self.name}" if self.name else self.layer


@dataclass
class _Sentence:
    """The lines of a sentence."""

    place: int
    text: str | None = None
    tokens: list[tuple[int, list[str]]] = field(default_factory=list)  # line number, columns


def _open(file: SourceFile) -> RowStream:
    features = _features(file)
    with_value: set[_Feature] = set()
    without_value: set[_Feature] = set()
    for sentence in _sentences(file):
        for number, columns in sentence.tokens:
            _check_width(f"{file.path}, line {number}", columns, features)
            for one in features:
                for value, _ in _values(columns[one.column]):
                    (with_value if value else without_value).add(one)
    used = list(with_value or without_value)
    used.sort(key=lambda one: (one.layer != "NamedEntity", one.name not in PREFERRED, one.column))
    names = ["spans", *(one.title for one in used[1:])]
    notes: list[str] = []
    if len(used) > 1:
        others = ", ".join(one.title for one in used[1:])
        notes.append(f"the spans are those of {used[0].title}; there are also {others} (--label {used[1].title})")

    def read() -> Rows:
        for sentence in _sentences(file):
            if sentence.tokens:
                text, starts = _text_and_starts(str(file.path), sentence)
                yield (
                    sentence.place,
                    {
                        "text": text,
                        **{
                            name: _spans(sentence, one, text, starts)
                            for name, one in zip(names, used or [None], strict=True)
                        },
                    },
                )

    return RowStream(str(file.path), "WebAnno TSV", ("text", *names), True, read, "line", tuple(notes))


def _features(file: SourceFile) -> list[_Feature]:
    """The features of all layers of spans; a layer without features has one without a name."""
    features: list[_Feature] = []
    column = FIRST_COLUMNS
    for line in file.sample.lines:
        kind, equals, rest = line.strip().partition("=")
        layer, *names = rest.split("|")
        if kind + equals == SPAN_LAYER:
            short = layer.rpartition(".")[2]
            features += [_Feature(short, name, column + i) for i, name in enumerate(names or [""])]
            column += max(len(names), 1)
        elif kind + equals == CHAIN_LAYER:
            column += 2
        elif kind + equals == RELATION_LAYER:
            column += len(names)  # the last name is that of the related layer, whose ids have a column
        elif line.strip() and not line.startswith("#"):
            break
    return features


def _sentences(file: SourceFile) -> Iterator[_Sentence]:
    sentence = _Sentence(1)
    for number, line in enumerate(file.lines(), start=1):
        content = line.rstrip("\r\n")
        if not content.strip():
            if sentence.tokens:
                yield sentence
            sentence = _Sentence(number + 1)
        elif content.startswith(TEXT_LINE):
            if sentence.tokens:
                yield sentence
                sentence = _Sentence(number)
            sentence.place = number
            further = content.removeprefix(TEXT_LINE)
            sentence.text = further if sentence.text is None else f"{sentence.text}\n{further}"
        elif not content.startswith("#") or "\t" in content:
            sentence.tokens.append((number, content.split("\t")))
    if sentence.tokens:
        yield sentence


def _check_width(where: str, columns: list[str], features: list[_Feature]) -> None:
    width = max([FIRST_COLUMNS, *(one.column + 1 for one in features)])
    if len(columns) < width:
        shown = shorten(" ".join(columns), 40)
        raise HeadwayError(
            f'{where}: {len(columns)} columns where the layers need {width} ("{shown}"). Export the document again.'
        )


def _text_and_starts(source: str, sentence: _Sentence) -> tuple[str, list[int]]:
    """The text of a sentence, and the offset of each token in it.

    The offsets in the file count UTF-16 units of the document, so the tokens are looked up in the text instead.
    """
    tokens = [_unescape(columns[2]) for _, columns in sentence.tokens]
    text = " ".join(tokens) if sentence.text is None else _unescape(sentence.text)
    starts: list[int] = []
    whole, end = 0, 0  # the start and the end of the token before; a part of it is looked up inside it
    for (number, columns), token in zip(sentence.tokens, tokens, strict=True):
        is_part = "." in columns[0]
        start = text.find(token, whole if is_part else end)
        if start < 0:
            where = format_place(source, "line", number)
            raise HeadwayError(
                f'{where}: the token "{shorten(token, 40)}" is not in the text of its sentence. Export the file again.'
            )
        starts.append(start)
        if not is_part:
            whole, end = start, start + len(token)
    return text, starts


def _spans(sentence: _Sentence, feature: _Feature | None, text: str, starts: list[int]) -> list[dict[str, Any]]:
    """The annotations of a sentence by one feature."""
    if feature is None:
        return []
    spans: list[dict[str, Any]] = []
    by_number: dict[tuple[str, str], dict[str, Any]] = {}
    for (_, columns), start in zip(sentence.tokens, starts, strict=True):
        end = start + len(_unescape(columns[2]))
        for label, number in _values(columns[feature.column]):
            label = label or feature.layer
            known = by_number.get((label, number)) if number else None
            if known is None:
                span = {"start": start, "end": end, "label": label}
                spans.append(span)
                if number:
                    by_number[label, number] = span
            else:
                known["start"], known["end"] = min(known["start"], start), max(known["end"], end)
    return [{**span, "text": text[span["start"] : span["end"]]} for span in spans]


def _values(cell: str) -> Iterable[tuple[str, str | None]]:
    """The value and the number of each annotation in a cell; the value "" for one without a value."""
    if cell in (NONE, ""):
        return
    for part in STACKED.split(cell):
        match = VALUE.fullmatch(part)
        value, number = (match[1], match[2]) if match else (part, None)
        yield ("" if value == NO_VALUE else _unescape(value)), number


def _unescape(text: str) -> str:
    return ESCAPED.sub(lambda match: CONTROL.get(match[1], match[1]), text)


WEBANNO = FileFormat(
    _matches,
    _open,
    frozenset({"encoding"}),
    title="WebAnno TSV 3",
    files="A file that begins with `#FORMAT=WebAnno TSV 3` (WebAnno, INCEpTION); a row is a sentence",
)
