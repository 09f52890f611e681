"""Which task a data file is for, inferred from its columns; the user can choose another one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.errors import HeadwayError
from .base.task import Task
from .classification.classification import TextClassification
from .data.column_names import normalize_name
from .data.columns import ColumnMapping
from .data.rows import Table
from .embedding.similarity import SentenceSimilarity
from .language_modeling.fill_mask import FillMask
from .multiple_choice.multiple_choice import MultipleChoice
from .question_answering.question_answering import QuestionAnswering
from .tagging.tagging import TokenClassification
from .text_to_text.text_to_text import TextToText

MIN_DISTINCT = 0.5  # share of different outputs from which they are texts even if each is one word


@dataclass(frozen=True)
class InferredTask:
    """A task, and the reason."""

    kind: type[Task[Any, Any]]
    why: str  # a clause

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.kind.name


def infer_task(table: Table) -> InferredTask:
    """The task that a table is probably for: the first of RULES that applies."""
    for kind, why, applies in RULES:
        task = kind()
        try:
            columns = task.columns(table, {}, need_label=not task.self_supervised)
            if applies(task, table, columns):
                return InferredTask(kind, why)
        except HeadwayError:
            continue  # the table does not have the columns of this task
    return InferredTask(TextClassification, "most tables are for it")


def _has_choices(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:
    """Whether columns have the names of choices, and most labels name one of their row."""
    if not task.recognizes(table):
        return False
    labelled, _ = task.infer_labels(table, columns)
    return 2 * len(labelled.read(table, columns)[0]) > len(table)


def _has_questions(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:  # noqa: ARG001
    """Whether the columns have the names of questions and contexts; their content alone does not show it."""
    names = {normalize_name(column) for column in columns.texts.values()}
    known = [{normalize_name(one) for one in (field.name, *field.aliases)} for field in task.inputs]
    return all(names & aliases for aliases in known)


def _has_outputs(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:
    """Whether columns have the names of inputs and outputs, and the outputs are texts, not few labels."""
    if not task.recognizes(table):
        return False
    outputs = [text for one in task.read(table, columns)[0] for text in one.gold]
    return len(set(outputs)) > len(outputs) * MIN_DISTINCT or any(" " in text.strip() for text in outputs)


def _has_tags(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:
    labelled, _ = task.infer_labels(table, columns)
    examples, _ = labelled.read(table, columns)
    # The label of a text of one word looks like a tag.
    tagged = any(example.labels and " " in example.texts[0].strip() for example in examples)
    return tagged and 2 * len(examples) > len(table)


def _has_rated_pairs(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:
    if "pair" not in columns.texts:
        return False
    classification = TextClassification()
    try:
        labelled, _ = classification.infer_labels(table, classification.columns(table, {}, need_label=True))
    except HeadwayError:  # pairs without labels
        return bool(task.infer_labels(table, columns))
    return not labelled.labels  # numbers


def _has_labels(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:
    """Whether there is a column of labels; by its name even if nothing can be learned from it: the check says so."""
    named = task.columns(table, {}, need_label=False).label is not None
    return named or bool(task.infer_labels(table, columns))


def _has_text(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> bool:  # noqa: ARG001
    return True


# The most specific task first.
RULES: tuple[tuple[type[Task[Any, Any]], str, Callable[[Task[Any, Any], Table, ColumnMapping], bool]], ...] = (
    (MultipleChoice, "it has choices, and labels that name one of them", _has_choices),
    (QuestionAnswering, "it has questions and the contexts of their answers", _has_questions),
    (TextToText, "it has inputs and the texts that are to be written for them", _has_outputs),
    (TokenClassification, "words or spans of its texts are labelled", _has_tags),
    (SentenceSimilarity, "it has pairs of texts, without labels or with a number for their similarity",
     _has_rated_pairs),
    (TextClassification, "it has texts, and a column with few different values or with numbers", _has_labels),
    (FillMask, "it has texts only", _has_text),
)  # fmt: skip
