"""Which task a person's file is for, told from its columns: a guess that is said, and that the person corrects."""

from collections.abc import Callable
from dataclasses import dataclass

from ..core.errors import HeadwayError
from . import TASKS
from .base.task import Task
from .data.column_names import normalize_name
from .data.columns import ColumnMapping
from .data.labels import REGRESSION
from .data.rows import Table


@dataclass(frozen=True)
class Guess:
    """A task, and why it is taken to be the one."""

    task: str
    why: str  # a clause


def infer_task(table: Table) -> Guess:
    """The task that a table is probably for, from the most particular shape to the plainest."""
    for name, why, fits in SHAPES:
        task = TASKS[name]()
        try:
            columns = task.columns(table, {}, need_label=not task.self_supervised)
            if fits(task, table, columns):
                return Guess(name, why)
        except HeadwayError:
            continue  # it has not the columns of this task
    return Guess("text-classification", "what most tables are for")


def _asks(task: Task, table: Table, columns: ColumnMapping) -> bool:  # noqa: ARG001
    """Questions and contexts under their names; what merely looks like them is something else."""
    names = {normalize_name(column) for column in columns.texts.values()}
    known = [{normalize_name(one) for one in (field.name, *field.aliases)} for field in task.inputs]
    return all(names & aliases for aliases in known)


def _tags(task: Task, table: Table, columns: ColumnMapping) -> bool:
    learnt, _ = task.infer_labels(table, columns)
    examples, _ = learnt.read(table, columns)
    # A label beside a text of one word reads like a tag.
    tagged = any(example.labels and " " in example.texts[0].strip() for example in examples)
    return tagged and 2 * len(examples) > len(table)


def _rates_pairs(task: Task, table: Table, columns: ColumnMapping) -> bool:
    if "pair" not in columns.texts:
        return False
    labelled = TASKS["text-classification"]()
    try:
        learnt, _ = labelled.infer_labels(table, labelled.columns(table, {}, need_label=True))
    except HeadwayError:  # pairs without labels
        return bool(task.infer_labels(table, columns))
    return learnt.published["problem_type"] == REGRESSION


def _is_labelled(task: Task, table: Table, columns: ColumnMapping) -> bool:
    """A column called a label is one, even where nothing can be learnt from it: that is for the check to say."""
    named = task.columns(table, {}, need_label=False).label is not None
    return named or bool(task.infer_labels(table, columns))


def _is_text(task: Task, table: Table, columns: ColumnMapping) -> bool:  # noqa: ARG001
    return True


SHAPES: tuple[tuple[str, str, Callable[[Task, Table, ColumnMapping], bool]], ...] = (
    ("question-answering", "it has questions, and texts that they are about", _asks),
    ("token-classification", "words or parts of its texts are marked", _tags),
    ("sentence-similarity", "it has pairs of texts, without labels or with a number for how alike they are",
     _rates_pairs),
    ("text-classification", "it has texts and a column with few different values or numbers", _is_labelled),
    ("fill-mask", "it has texts and nothing else", _is_text),
)  # fmt: skip
