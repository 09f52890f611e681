"""Multiple choice: which of several texts fits a context best (an ending, an answer).

Each choice is read together with the context and gets one number; a softmax over the choices of an example makes them
probabilities (Devlin et al. 2019, section 4.4; Radford et al. 2018, figure 1). The number of choices may differ from
example to example.

Shapes: B sequences in a packed batch, K choices of E examples.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.models.bert import BertConfig
from ...core.models.heads import ChoiceHead
from ...core.options import option
from ..base.baseline import Baseline, agreement, indicators
from ..base.card_text import CardText
from ..base.predictions import Misprediction
from ..base.report_calibration import CalibrationCollector
from ..base.report_parts import ReportCollector
from ..base.task import Task
from ..data.column_names import LABEL_COLUMNS, normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import Field
from ..data.features import Features, group_windows
from ..data.labels import is_missing, map_valid
from ..data.rows import RowStream, Table
from ..data.windows import Windowing
from ..tallies import Tally, tally_means
from .card import multiple_choice_card
from .choices import (
    FEWEST,
    NAME,
    READINGS,
    TEXT,
    Choices,
    choice_reader,
    find_series,
    infer_reading,
    read_answer,
    series,
)
from .encoding import choice_targets, encode_choices, log_probabilities
from .predictions import ChoiceExample, ChoicePrediction

if TYPE_CHECKING:
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets

QUESTION = Field("question", "Question", aliases=("question", "query", "sent2"), required=False)


@dataclass(frozen=True)
class MultipleChoice(Task[ChoiceExample, ChoicePrediction]):
    """Chooses one of several texts for a context.

    Args:
        asks: whether there is a question between the context and the choices; None until it is inferred from the
            columns of the training data.
        reading: how the labels of the training data name the right choice: a key of READINGS.
    """

    answer_as: str | None = option(
        None,
        "How the label names the right choice: by its text, its number from 0 or from 1, or its letter. Default: "
        "inferred from the data.",
        choices=tuple(name for name in READINGS if name != NAME),
        when="always",
    )
    asks: bool | None = None
    reading: str = TEXT

    name: ClassVar[str] = "multiple-choice"
    title: ClassVar[str] = "Multiple choice"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field(
            "context",
            "Context",
            aliases=("sent1", "ctx", "article", "passage", "premise", "goal", "question", "question_stem", "sentence"),
        ),
        Field("choices", "Choices", aliases=("options", "endings"), lists=True, hint="One choice per line"),
        QUESTION,
    )
    label_columns: ClassVar[tuple[str, ...]] = (
        *("label", "answer", "answerKey", "correct", "correct_option", "cop", "gold"),
        *(name for name in LABEL_COLUMNS if name != "label"),
    )
    architecture: ClassVar[str] = "ForMultipleChoice"
    models: ClassVar[tuple[str, ...]] = ("bert",)

    # -- rows -> examples

    @property
    def fields(self) -> tuple[Field, ...]:
        """The context, the choices, and the question: optional until the training data shows whether there is one."""
        if self.asks is None:
            return self.inputs
        return (*self.inputs[:2], replace(QUESTION, required=True)) if self.asks else self.inputs[:2]

    @property
    def sample(self) -> str:
        """Everyday situations with three continuations each."""
        return "endings.csv"

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Infers the columns, by their names; of choices in several columns the first one is named."""
        chosen = dict(chosen)
        listed = _first_named(table.columns, self.inputs[1])
        first = str(chosen.get("choices") or listed or find_series(table.columns) or "")
        several = series(table.columns, first)
        if first and not chosen.get("choices"):
            chosen["choices"] = first
        visible = [column for column in table.columns if column not in several[1:]]
        if self.asks is None and not chosen.get("question"):
            context = chosen.get("context") or _first_named(visible, self.inputs[0])
            if _first_named([column for column in visible if column != context], QUESTION) is None:
                chosen["question"] = ""  # its content alone does not show it
        found = super().columns(replace(table, columns=tuple(visible)), chosen, need_label=need_label)
        if isinstance(found.label, tuple):
            raise HeadwayError(f"--label {','.join(found.label)}: name one column, that of the right choice.")
        if len(several) < FEWEST:
            return found
        note = f"choices: {len(several)} columns, {several[0]} to {several[-1]} (--choices names the first one)"
        return replace(found, notes=(note, *found.notes), more={"choices": several[1:]})

    @classmethod
    def recognizes(cls, table: Table) -> bool:
        """Whether there are columns of choices."""
        return _first_named(table.columns, cls.inputs[1]) is not None or find_series(table.columns) is not None

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers whether there is a question, and how the labels name the right choice."""
        rows = _labelled_choices(table, columns)
        if not rows:
            raise HeadwayError(
                f'{table.source}: no row has choices and a label (column "{columns.label}"), so there is nothing to '
                "learn. Name other columns with --choices and --label."
            )
        reading, others = infer_reading(rows)
        if self.answer_as:
            reading, others = self.answer_as, []
        task = replace(self, asks="question" in columns.texts, reading=reading)
        if not list(map_valid(lambda row: read_answer(row[0], row[1], reading), rows)):
            try:
                read_answer(*rows[0], reading)
            except HeadwayError as error:
                raise HeadwayError(f"{table.source}: {error}") from error
        sizes = Counter(len(choices.texts) for _, choices in rows)
        size = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"
        why = "as requested" if self.answer_as else "--answer-as names another way"
        also = "".join(f"; {READINGS[other][0]} is possible as well (--answer-as {other})" for other in others)
        return task, [f"each row has {size} choices; the label is {READINGS[reading][0]} ({why}{also})"]

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], ChoiceExample]:
        """Reads the context, the choices, the question and the right choice of a row."""
        context, question = columns.texts["context"], columns.texts.get("question", "")
        read_choices = choice_reader(series(table.columns, columns.texts["choices"]), labelled=labelled)
        reading = self.answer_as
        if labelled and reading is None:
            reading, _ = infer_reading(_labelled_choices(table, columns), self.reading)
        label = str(columns.label)

        def read(row: int) -> ChoiceExample:
            cells = table.rows[row]
            first = parse_text(cells.get(context), context, "context", labelled=labelled)
            # A published model may read a question or none: a row without one has none.
            alone = not question or (self.asks is None and cells.get(question) is None)
            asked = None if alone else parse_text(cells.get(question), question, "question", labelled=labelled)
            choices = read_choices(cells)
            answer = read_answer(cells.get(label), choices, reading) if labelled and reading else None
            return ChoiceExample(row, table.where(row), first, choices.texts, asked, answer)

        return read

    # -- examples -> model

    def encode(self, examples: Sequence[ChoiceExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence for each choice, or one for each of its windows if it is too long."""
        return encode_choices(examples, tokenizer, Windowing(limit, self.overlap, self.long_texts))

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on the summary of a sequence."""
        assert isinstance(backbone.config, BertConfig)
        return ChoiceHead(backbone.config)

    def targets(self, features: Sequence[Features]) -> "Targets":
        """The choice of each window, the example of each choice, and the right choice of each example."""
        return choice_targets(features)

    def loss(self, outputs: Tensor, targets: "Targets") -> tuple[Tensor, int]:
        """The sum of the cross-entropies over the choices of each example, from outputs (B, 1)."""
        gold = targets["gold"]
        return -log_probabilities(outputs.float(), targets)[gold].sum(), len(gold)

    # -- outputs -> predictions -> metrics

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[ChoicePrediction]:
        """The most probable choice of each example."""
        found = log_probabilities(torch.stack(list(outputs)).double(), choice_targets(features)).exp().tolist()
        predictions, start = [], 0
        for windows in group_windows(features):
            choices = windows[0].metadata
            scores = tuple(found[start : start + len(choices)])
            start += len(choices)
            index = max(range(len(scores)), key=lambda i: scores[i])
            predictions.append(ChoicePrediction(choices[index], index, scores[index], scores))
        return predictions

    def score(self, predictions: Sequence[ChoicePrediction], examples: Sequence[ChoiceExample]) -> dict[str, float]:
        """Accuracy."""
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[ChoicePrediction], examples: Sequence[ChoiceExample]) -> Tally:
        """Whether each is right."""
        right = [one.index == example.answer for one, example in zip(predictions, examples, strict=True)]
        return tally_means({"accuracy": right}, of_01=["accuracy"])

    def baseline(self, predictions: Sequence[ChoicePrediction], examples: Sequence[ChoiceExample]) -> Baseline | None:
        """Beside the position that is most often right."""
        gold = [example.answer for example in examples]
        (position, count), *others = Counter(gold).most_common()
        if not others or position is None:
            return None
        positions = sorted({*gold, *(one.index for one in predictions)}, key=str)
        deviations = agreement(
            indicators(((one.index,) for one in predictions), positions),
            indicators(((right,) for right in gold), positions),
        )
        score = self.score(predictions, examples)["accuracy"]
        constant = f"always choosing number {position + 1}"
        return Baseline(constant, "accuracy", score, count / len(gold), deviations, len(gold))

    def misprediction(self, prediction: ChoicePrediction, example: ChoiceExample) -> Misprediction | None:
        """The less probable the right choice, the worse."""
        if example.answer is None or prediction.index == example.answer:
            return None
        gold, error = example.choices[example.answer], 1 - prediction.scores[example.answer]
        return Misprediction(example.where, tuple(example.shown_texts.values()), gold, prediction.brief, error)

    def report_collector(self) -> ReportCollector:
        """Calibration."""
        return CalibrationCollector(_judge, "Of the probability of the predicted choice.")

    # -- model folders

    def reuse_head(self, before: Task) -> Self | None:
        """Any head for multiple choice is trained further: it knows no labels."""
        return self if isinstance(before, MultipleChoice) else None

    def card(self, network: "Network", name: str) -> CardText:
        """Usage and limitations."""
        return multiple_choice_card(self, network, name)


def _first_named(columns: Sequence[str], field: Field) -> str | None:
    """The column with the first of a field's usual names."""
    by_name = {normalize_name(column): column for column in columns}
    names = map(normalize_name, (field.name, *field.aliases))
    return next((by_name[name] for name in names if name in by_name), None)


def _labelled_choices(table: Table, columns: ColumnMapping) -> list[tuple[Any, Choices]]:
    """The label and the choices of every row that has both."""
    read = choice_reader(series(table.columns, columns.texts["choices"]), labelled=True)
    label = str(columns.label)
    rows = (cells for cells in table.rows if not is_missing(cells.get(label)))
    return list(map_valid(lambda cells: (cells.get(label), read(cells)), rows))


def _judge(
    predictions: Sequence[ChoicePrediction], examples: Sequence[ChoiceExample]
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each prediction, and whether it is right."""
    right = [one.index == example.answer for one, example in zip(predictions, examples, strict=True)]
    return np.array([one.score for one in predictions]), np.array(right)
