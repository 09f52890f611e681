"""Which columns hold the inputs and the outputs of pairs, and how a row is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import Field
from ..data.labels import is_missing
from ..data.partial_mapping import PartialMapping
from . import chat
from .predictions import PairExample

if TYPE_CHECKING:
    from ..data.rows import RowStream, Table

# Names of published data sets: inputs -> the outputs that go with them, the clearest pairs first.
NAMED_PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("instruction",), ("output", "response", "completion", "answer")),
    (("input", "inputs", "input_text"), ("output", "outputs", "target", "targets", "target_text", "output_text")),
    (("source", "src", "source_text"), ("target", "tgt", "target_text", "reference", "references")),
    (("prompt",), ("completion", "response", "output", "answer", "story")),
    (("document", "article", "text", "dialogue", "report", "content", "body"), ("summary", "highlights", "abstract")),
    (("text", "article", "body"), ("headline", "title")),
    (("title", "topic"), ("story", "text", "body", "poem")),
    (("question", "query"), ("answer", "answers", "response", "references")),
)  # fmt: skip
CLEAR_PAIRS = 5  # of these, both names together occur in data for text to text only
LANGUAGES = {
    "ar": "arabic", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "fi": "finnish", "fr": "french", "he": "hebrew", "hi": "hindi", "hu": "hungarian", "it": "italian",
    "ja": "japanese", "ko": "korean", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sv": "swedish", "tr": "turkish", "uk": "ukrainian", "vi": "vietnamese",
    "zh": "chinese", "eng": "english", "fra": "french", "fre": "french", "deu": "german", "ger": "german",
    "spa": "spanish", "ita": "italian", "por": "portuguese", "nld": "dutch", "rus": "russian",
}  # fmt: skip

INPUT = Field(
    "input",
    "Input",
    aliases=tuple(dict.fromkeys(name for names, _ in NAMED_PAIRS for name in names if name != "input")),
)
CONTEXT = Field("context", "Context", aliases=("passage",), required=False, may_be_empty=True)
OUTPUT_NAMES = ("output", *dict.fromkeys(name for _, names in NAMED_PAIRS for name in names if name != "output"))


def named_pair(columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns of inputs and outputs, by names that go together; those of two languages in their order."""
    by_name = {normalize_name(column): column for column in columns}
    for inputs, outputs in NAMED_PAIRS:
        first = next((by_name[name] for name in map(normalize_name, inputs) if name in by_name), None)
        second = next((by_name[name] for name in map(normalize_name, outputs) if name in by_name), None)
        if first is not None and second is not None and first != second:
            return first, second
    languages = [column for column in columns if _language(column)]
    return (languages[0], languages[1]) if len({_language(one) for one in languages}) == len(languages) == 2 else None


def is_clear(pair: tuple[str, str]) -> bool:
    """Whether data for other tasks has no columns with both of these names."""
    first, second = map(normalize_name, pair)
    clear = (
        first in map(normalize_name, inputs) and second in map(normalize_name, outputs)
        for inputs, outputs in NAMED_PAIRS[:CLEAR_PAIRS]
    )
    return any(clear) or _language(pair[0]) is not None


def chat_column(data: "Table | RowStream", chosen: str | None) -> str | None:
    """The column with messages: the chosen one, or one with a usual name."""
    by_name = {normalize_name(column): column for column in data.columns}
    names = [chosen] if chosen else [by_name[name] for name in chat.NAMES if name in by_name]
    if not names or names[0] not in data.columns:
        return None
    _, first = next(iter(data), (0, {}))
    return names[0] if chat.is_chat(first.get(names[0])) else None


def infer_pair(data: "Table | RowStream", chosen: Mapping[str, Any], need_label: bool) -> dict[str, Any]:
    """The columns of input, context and label, as far as names or the only two columns of texts show them.

    Args:
        data: a table or a stream.
        chosen: those that the user named.
        need_label: whether a column of outputs is needed.
    """
    found = {name: column for name, column in chosen.items() if column is not None}
    if found.get("input") and (found.get("label") or not need_label):
        return found
    taken = {str(column) for column in found.values()}
    free = [column for column in data.columns if column not in taken]
    pair = named_pair(free) if data.header else None
    if not (found.get("input") or found.get("label")):
        pair = pair or _only_two(data, free)
        if pair is None:
            return found
        found |= {"input": pair[0], **({"label": pair[1]} if need_label else {})}
        rest = [column for column in free if column not in pair]
        instructed = normalize_name(pair[0]) == "instruction"
        extra = next((column for column in rest if normalize_name(column) == "input"), None)
        return {"context": extra, **found} if instructed and extra else found
    return found


def _only_two(data: "Table | RowStream", free: Sequence[str]) -> tuple[str, str] | None:
    """The only two columns that can be texts, in their order: sentence TAB sentence TAB attribution."""
    mapping = PartialMapping(data, [INPUT])
    contents = [(column, mapping.contents[column]) for column in free]
    texts = [
        column
        for column, one in contents
        if one.cells and not (one.is_numeric or one.is_boilerplate or one.is_constant)
        if all(isinstance(cell, str) for cell in one.cells)
    ]
    return (texts[0], texts[1]) if len(texts) == 2 else None


def with_notes(columns: ColumnMapping, chosen: Mapping[str, Any]) -> ColumnMapping:
    """The mapping with a note for each inferred column, and the options that overrule it."""
    label = columns.label if isinstance(columns.label, str) else None
    found = {**columns.texts, **({"output": label} if label else {})}
    options = {"output": "label"}
    notes = [
        f'{name}: column "{column}" (--{options.get(name, name)} names another one)'
        for name, column in found.items()
        if not chosen.get(options.get(name, name))
    ]
    return replace(columns, notes=tuple(notes))


def pair_reader(table: "Table", columns: ColumnMapping, *, labelled: bool) -> Callable[[int], PairExample]:
    """A function that reads a row as a pair; without its outputs if not `labelled`."""
    first, context = columns.texts["input"], columns.texts.get("context")
    outputs = (columns.label,) if isinstance(columns.label, str) else columns.label or ()

    def read(row: int) -> PairExample:
        cells = table.rows[row]
        if chat.is_chat(cells.get(first)) or outputs == (first,):
            text, answer = chat.split_chat(cells.get(first), first)
            if not labelled:
                return PairExample(row, table.where(row), text)
            if outputs == (first,):
                return PairExample(row, table.where(row), text, _read_outputs(answer, first))
        else:
            text = parse_text(cells.get(first), first, "input", labelled=labelled)
        if context is not None and not is_missing(cells.get(context)):
            text = f"{text}\n\n{parse_text(cells[context], context, 'context', labelled=False)}"
        if not labelled:
            return PairExample(row, table.where(row), text)
        found = tuple(one for column in outputs for one in _read_outputs(cells.get(column), column, len(outputs) > 1))
        if not found:
            raise HeadwayError("there is no output. Add one, or delete the row.")
        return PairExample(row, table.where(row), text, found)

    return read


def unanswered_checker(columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:
    """A function that tells whether a row has no output."""
    first = columns.texts["input"]
    outputs = (columns.label,) if isinstance(columns.label, str) else columns.label or ()
    if outputs == (first,):
        return lambda cells: chat.is_unanswered(cells.get(first))
    return lambda cells: bool(outputs) and all(_is_empty(cells.get(column)) for column in outputs)


def _is_empty(cell: Any) -> bool:
    """Whether a cell has no reference: an empty cell, or a list of those."""
    return all(map(is_missing, cell)) if isinstance(cell, list) else is_missing(cell)


def _read_outputs(cell: Any, column: str, may_be_empty: bool = False) -> tuple[str, ...]:
    """The references in a cell: one text, or a list of texts."""
    if may_be_empty and _is_empty(cell):
        return ()
    if isinstance(cell, list) and not any(isinstance(one, list | dict) for one in cell):
        given = [one for one in cell if not is_missing(one)] or [None]
        return tuple(parse_text(one, column, "output", labelled=True) for one in given)
    if isinstance(cell, list | dict):
        raise HeadwayError(
            f'column "{column}": expected a text or a list of texts. Correct it, or name another --label.'
        )
    return (parse_text(cell, column, "output", labelled=True),)


def _language(column: str) -> str | None:
    name = normalize_name(column)
    return LANGUAGES.get(name) or (name if name in LANGUAGES.values() else None)
