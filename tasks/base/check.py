"""A look over labelled data before training: what would stop it, what would spoil it, and what one should know.

`check_examples` looks at examples that could be read, as training does; `check_data` reads a person's files for that
and lists the rows that cannot be used, all of them, instead of stopping at the first.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import HeadwayError
from ..data.corpus import Corpus, open_documents
from ..data.examples import Example, ExampleWarning
from ..data.features import Features, group_windows
from ..data.findings import Finding, about_warnings
from ..data.report import DataReport, _by_level, _measure, check_corpus, check_examples
from .task import Task
from .training_data import same_columns

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer


def check_data(
    task: Task,
    data: Any,
    eval_data: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    header: bool | None = None,
    model: str | Path | None = None,
) -> DataReport:
    """Looks over a person's files as training would read them, without stopping at a row that cannot be used.

    Args:
        task: what is to be trained.
        data: anything that `data.read_table` takes.
        eval_data: the same, held out.
        columns: which column holds what, where the guess is to be overruled.
        header: whether a table's first row names its columns; told from the rows if left out.
        model: a folder, a built-in name or a hub id, by whose tokens and limit the lengths are measured.

    Raises:
        HeadwayError: a file cannot be read as a table, its columns cannot be told, or there is no such model.
    """
    from ..data.read import read_table

    if task.self_supervised:
        return _check_texts(task, data, eval_data, columns or {}, header, model)
    table = read_table(data, header=header)
    settled = task.columns(table, columns or {}, need_label=True)
    notes = [f"{table.source}: {len(table)} rows, {table.kind}", *settled.notes]
    findings: list[Finding] = []
    learnt, can_learn = task, True
    try:
        learnt, decided = task.infer_labels(table, settled)
        notes += decided
    except HeadwayError as error:
        can_learn = False
        findings.append(Finding("labels", "error", str(error)))
    examples, problems = learnt.read(table, settled)
    held_out: list[Any] = []
    if eval_data is not None:
        eval_table = read_table(eval_data, header=header)
        notes.append(f"{eval_table.source}: {len(eval_table)} rows, {eval_table.kind}")
        said = same_columns(settled, eval_table, columns or {})
        held_out, more = learnt.read(eval_table, learnt.columns(eval_table, said, need_label=True))
        problems += more
    findings += [Finding("unusable", "error", str(problem), problem.places) for problem in problems]
    windows_by_example, limit, unknown = _encode(learnt, examples, model) if model and can_learn else ([], None, None)
    remarks = collect_warnings(learnt, examples, windows_by_example), collect_warnings(learnt, held_out, [])
    more = [*about_warnings(remarks[0], len(examples)), *about_warnings(remarks[1], len(held_out))]
    report = check_examples(examples, held_out, windows_by_example, limit, unknown, more)
    return replace(report, findings=_by_level([*findings, *report.findings]), notes=tuple(notes))


def _check_texts(
    task: Any, data: Any, eval_data: Any, columns: Mapping[str, Any], header: bool | None, model: str | Path | None
) -> DataReport:
    """Texts without labels: how many there are and how long, in a model's tokens if one is named."""
    sides = [open_documents(one, columns, task, header=header) for one in (data, eval_data) if one is not None]
    lengths: list[list[int]] = []
    for side in sides:
        found: list[int] = []
        for piece in side.read():
            if piece.starts_document:
                found.append(0)
            found[-1] += len(piece.text)
        if not found:
            raise HeadwayError(f"{side.source}: there is no text in it. Give one with words.")
        lengths.append(found)
    notes = tuple(note for side in sides for note in side.notes)
    report = DataReport(
        len(lengths[0]), sum(map(len, lengths[1:])), {}, _measure(lengths[0], "characters"), (), (), notes
    )
    if model is None:
        return report
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        tokenizer, limit = _tokenizer_of(task, model)
        path = Path(folder) / "tokens"
        corpus = Corpus.write(path, sides[0].read(), task, tokenizer, limit=limit, held_out=False)
        measured = check_corpus(corpus, None)
    return replace(report, lengths=measured.lengths, findings=measured.findings)


def _tokenizer_of(task: Task, model: str | Path) -> "tuple[Tokenizer, int]":
    """A model's tokenizer and how many tokens the task may give it; no weights are read."""
    from ...core.checkpoints.config_file import read_config
    from ...core.checkpoints.hub import find_folder
    from ...core.tokenizers.tokenizer import Tokenizer

    folder = find_folder(model)
    return Tokenizer.load(folder), task.limit(read_config(folder)[1].max_positions, str(model))


def _encode(
    task: Task, examples: Sequence[Any], model: str | Path
) -> tuple[list[list[Features]], int | None, int | None]:
    """The examples as a model's tokenizer makes them, the model's limit and its unknown token; no weights are read."""
    tokenizer, limit = _tokenizer_of(task, model)
    return group_windows(task.encode(examples, tokenizer, limit)), limit, tokenizer.unk_id


def collect_warnings(
    task: Task, examples: Sequence[Example], windows_by_example: Sequence[list[Features]]
) -> dict[ExampleWarning, list[str]]:
    """What the task has to say about single examples, each with the places that it is true of."""
    places: dict[ExampleWarning, list[str]] = {}
    for example, windows in zip(examples, windows_by_example or [[]] * len(examples), strict=True):
        for remark in task.warnings(example, windows):
            places.setdefault(remark, []).append(example.where)
    return places
