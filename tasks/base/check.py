"""The check of data before training: errors that stop training, and findings that the user should know.

`check_data` reads files as training does, but lists all rows that cannot be used instead of stopping at the first.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import HeadwayError
from ..data.corpus import CorpusTask, Documents, open_documents
from ..data.examples import merge_similar
from ..data.features import Features
from ..data.findings import Finding, leaked_texts
from ..data.read import read_table
from ..data.read_options import ReadOptions
from ..data.report import DataReport, Lengths, by_level, check_corpus, check_examples
from ..data.token_counts import TokenCounts
from .data_source import DataSource
from .example_warnings import warning_findings
from .inference import Encoder
from .left_out import leave_out, left_out_findings, no_row_left, write_left_out
from .task import Task
from .training_data import same_columns, write_corpus
from .unknown_labels import without_unknown


def check_data(
    task: Task[Any, Any],
    data: Any,
    eval_data: Any = None,
    test_data: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    model: str | Path | None = None,
    **reading: Any,
) -> DataReport:
    """Checks files as training would read them; a row that cannot be used does not stop it.

    Args:
        task: that would be trained.
        data: anything that `train` takes.
        eval_data: the same, for evaluation.
        test_data: the same, for the test.
        columns: field name or "label" -> column, where the inferred one is wrong.
        model: a folder, a built-in name or a hub id; text lengths are measured in its tokens.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: a file cannot be read as a table, its columns cannot be inferred, or there is no such model.
    """
    source = DataSource(data, eval_data, columns or {}, reading=ReadOptions(**reading), test=test_data)
    encoder = None if model is None else Encoder.load(model)
    return _check_text(task, source, encoder) if task.self_supervised else _check_labelled(task, source, encoder)


def _check_labelled(task: Task[Any, Any], source: DataSource, encoder: Encoder | None) -> DataReport:
    table = read_table(source.train, source.readings[0])
    mapping = task.columns(table, source.columns, need_label=True)
    notes = [*table.describe(), *mapping.notes]
    table, left_out = leave_out(task, table, mapping)
    findings: list[Finding] = []
    failure = "" if len(table) else str(no_row_left(left_out))
    try:
        task, inferred = task.infer_labels(table, mapping)
        notes += inferred
    except HeadwayError as error:
        encoder = None  # without labels there are no targets to encode
        failure = failure or str(error)
    examples, problems = task.read(table, mapping)
    if failure and not any(problem.message in failure for problem in problems):
        findings.append(Finding("labels", "error", failure))
    held_out, test = [], []
    for side, data, reading in zip(
        (held_out, test), (source.evaluation, source.test), source.readings[1:], strict=True
    ):
        if data is None:
            continue
        other = read_table(data, reading)
        notes += other.describe()
        columns = task.columns(other, same_columns(mapping, other, source.columns), need_label=True)
        other, _ = leave_out(task, other, columns)
        other = without_unknown(task, other, columns)
        examples_there, more = task.read(other, columns)
        side.extend(examples_there)
        problems, left_out = [*problems, *more], [*left_out, *other.left_out]
    write_left_out(source.reading.left_out, left_out)
    findings += left_out_findings(left_out, strict=bool(source.reading.strict))
    findings += [Finding("unusable", "error", str(problem), problem.places) for problem in merge_similar(problems)]
    windows_by_example: list[list[Features]] = encoder.encode(task, examples) if encoder else []
    tokens = encoder and TokenCounts.of(
        windows_by_example, encoder.limit(task), encoder.tokenizer.unk_id, task.cut_note
    )
    others = [*held_out, *test]
    warnings = [*warning_findings(task, examples, windows_by_example), *warning_findings(task, others, [])]
    warnings += task.findings(examples)
    warnings += leaked_texts([*examples, *held_out], test, "test")
    report = check_examples(examples, held_out, tokens, warnings)
    found = by_level([*findings, *report.findings])
    return replace(report, findings=found, test_examples=len(test), notes=tuple(notes))


def _check_text(task: Task[Any, Any], source: DataSource, encoder: Encoder | None) -> DataReport:
    """Counts unlabelled documents and measures their lengths, in tokens if there is an encoder."""
    assert isinstance(task, CorpusTask)
    train = open_documents(source.train, source.columns, task, source.readings[0])
    lengths, notes, sizes = _document_lengths(train), train.notes, []
    for data, reading in zip((source.evaluation, source.test), source.readings[1:], strict=True):
        others = None if data is None else open_documents(data, source.columns, task, reading)
        sizes.append(len(_document_lengths(others)) if others else 0)
        notes += others.notes if others else ()
    report = DataReport(len(lengths), sizes[0], {}, Lengths.of(lengths, "characters"), (), (), notes, sizes[1])
    if encoder is None:
        return report
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        written = write_corpus(Path(folder) / "tokens", task, encoder, train, train.read(), held_out=False)
        measured = check_corpus(written.windows_by_example, None)
    return replace(report, lengths=measured.lengths, findings=measured.findings)


def _document_lengths(documents: Documents) -> list[int]:
    """The number of characters of each document."""
    lengths: list[int] = []
    for piece in documents.read():
        if piece.starts_document:
            lengths.append(0)
        lengths[-1] += len(piece.text)
    if not lengths:
        raise HeadwayError(f"{documents.source}: there is no text in it. Give a file with text.")
    return lengths
