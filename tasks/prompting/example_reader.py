"""Reads the texts and the labelled examples of a prompt from tables and Python objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import HeadwayError
from ..base.left_out import usable_rows
from ..classification.classification import TextClassification
from ..classification.predictions import TextExample
from ..data.column_inference import infer_columns
from ..data.column_names import LABEL_COLUMNS
from ..data.columns import ColumnMapping
from ..data.examples import Field
from ..data.labels import MULTI_LABEL, REGRESSION, SINGLE_LABEL, infer_problem_type, map_valid, raw_label
from ..data.rows import RowStream, Table, table_of_texts
from ..text_to_text.pair_columns import OUTPUT_NAMES, infer_pair, named_pair, with_notes

ANSWER_NAMES = (*dict.fromkeys((*OUTPUT_NAMES, "translation", *LABEL_COLUMNS)),)


@dataclass(frozen=True)
class ExampleReader:
    """Reads rows as a text classifier does; generated answers may be any text.

    Args:
        labels: empty until they are inferred, or if answers are generated.
        problem_type: SINGLE_LABEL or MULTI_LABEL; None until it is inferred.
        numbered: whether the data may give a label by its position, from 0: if the user names the labels.
        writes: whether answers are generated.
        paired: whether a row has two texts; None if the columns decide.
    """

    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    numbered: bool = False
    writes: bool = False
    paired: bool | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts of a row."""
        return self.task.fields

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Which column holds what.

        Args:
            table: the rows.
            chosen: the columns that the user names; the label column is ignored unless a label is needed.
            need_label: whether there must be a label column.

        Raises:
            HeadwayError: a column does not exist or cannot be inferred.
        """
        if not need_label:
            chosen = {name: column for name, column in chosen.items() if name != "label"}
        if not self.writes:
            return self.task.columns(table, chosen, need_label=need_label)
        pair = {} if self.paired else _named_pair(table, chosen, need_label)
        texts = {name: None if column is None else str(column) for name, column in chosen.items() if name != "label"}
        found = infer_columns(
            table,
            self.fields,
            chosen={**texts, **{name: column for name, column in pair.items() if name != "label"}},
            label=chosen.get("label") or pair.get("label"),
            label_aliases=ANSWER_NAMES,
            need_label=need_label,
        )
        return with_notes(found, chosen) if pair else found

    def infer_labels(self, table: Table | None, columns: ColumnMapping | None) -> "ExampleReader":
        """A copy that knows the labels and the problem type.

        Args:
            table: labelled rows, if there are any.
            columns: of the table.

        Raises:
            HeadwayError: there are no labels, or they are numbers.
        """
        if self.writes:
            return replace(self, problem_type=SINGLE_LABEL)
        if self.labels:
            return replace(self, problem_type=self.problem_type or _problem_type(table, columns))
        if table is None or columns is None:
            raise HeadwayError(
                "--labels are missing. Name them (--labels good,bad), give --examples that have labels, or let the "
                "model generate the answer (--write)."
            )
        task, _ = TextClassification(problem_type=self.problem_type, paired=self.paired).infer_labels(table, columns)
        if task.problem_type == REGRESSION:
            raise HeadwayError(
                f"{table.source}: the labels are numbers, and a prompt chooses among labels. Name another column with "
                "--label, or name the labels with --labels."
            )
        return replace(self, labels=task.labels, problem_type=task.problem_type or SINGLE_LABEL)

    def examples(self, table: Table, columns: ColumnMapping, *, labelled: bool) -> Sequence[TextExample]:
        """The rows of a table, with or without their labels.

        Raises:
            HeadwayError: a row cannot be used.
        """
        return self.task.examples(table, columns, labelled=labelled)

    def usable(self, table: Table, columns: ColumnMapping) -> Table:
        """The rows of a table of examples that have a text and a label; as `usable_rows`."""
        return usable_rows(self.task, table, columns)

    def texts(self, inputs: Sequence[Any]) -> Sequence[TextExample]:
        """Texts, pairs of texts, or dicts of them, as examples without labels.

        Raises:
            HeadwayError: an input is not a text, or not a pair if the prompt needs pairs.
        """
        names = ("text", "pair") if self.paired else ("text",)
        rows = []
        for number, one in enumerate(inputs, start=1):
            row = {"text": one} if isinstance(one, str) else one
            if isinstance(row, tuple | list) and len(row) == len(names):
                row = dict(zip(names, row, strict=True))
            if not _is_row(row, names):
                expected = "pairs: tuples of two texts" if self.paired else "single texts"
                raise HeadwayError(f"input {number}: the prompt reads {expected}. Correct the input.")
            rows.append(dict(row))
        table = table_of_texts(names, rows)
        return self.examples(table, ColumnMapping({name: name for name in names}, None, ()), labelled=False)

    @property
    def task(self) -> TextClassification:
        """The classifier that reads rows in the same way."""
        return TextClassification(
            labels=self.labels,
            problem_type=self.problem_type or SINGLE_LABEL,
            numbered=self.numbered,
            paired=self.paired,
        )


def _named_pair(table: Table | RowStream, chosen: Mapping[str, Any], need_label: bool) -> dict[str, str]:
    """The columns of the text and its answer, by names that go together or as the only texts of a file without names.

    Empty if the user names one of them, or nothing shows them.
    """
    if chosen.get("text") or chosen.get("label") or (table.header and named_pair(table.columns) is None):
        return {}
    found = infer_pair(table, {}, need_label)
    return {name: found[key] for name, key in (("text", "input"), ("label", "label")) if key in found}


def _problem_type(table: Table | None, columns: ColumnMapping | None) -> str:
    """Whether the rows have one label or several."""
    if table is None or columns is None:
        return SINGLE_LABEL
    values = list(map_valid(lambda row: raw_label(row, columns.label), table.rows))
    return MULTI_LABEL if infer_problem_type(values)[0] == MULTI_LABEL else SINGLE_LABEL


def _is_row(row: Any, names: Sequence[str]) -> bool:
    return isinstance(row, Mapping) and set(row) == set(names) and all(isinstance(text, str) for text in row.values())


def are_pairs(inputs: Sequence[Any]) -> bool:
    """Whether any of the inputs of `ExampleReader.texts` is a pair."""
    return any(isinstance(one, tuple | list) or (isinstance(one, Mapping) and "pair" in one) for one in inputs)


def as_rows(examples: Any) -> Any:
    """Turns tuples (text, label) or (text, pair, label) into the rows of a table; other data is returned unchanged.

    Raises:
        HeadwayError: a tuple has another length than the first one.
    """
    if not isinstance(examples, list | tuple) or not isinstance(examples[0], tuple | list):
        return examples
    names = {2: ("text", "label"), 3: ("text", "pair", "label")}.get(len(examples[0]))
    for number, one in enumerate(examples, start=1):
        if names is None or not isinstance(one, tuple | list) or len(one) != len(names):
            raise HeadwayError(
                f"example {number} is {one!r}; an example is (text, label), or (text, pair, label) for pairs. "
                "Correct it."
            )
    return [dict(zip(names or (), one, strict=True)) for one in examples]
