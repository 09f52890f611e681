"""Evaluation of a trained model on labelled rows or on unlabelled text."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from ...core.errors import HeadwayError
from ..data.columns import ColumnMapping
from ..data.corpus import CorpusTask, open_documents
from ..data.features import num_truncated_tokens
from ..data.read_options import ReadOptions
from ..data.rows import Table
from .evaluation_results import SAMPLE, EvaluatedPart, Results
from .example_warnings import CountedWarnings
from .inference import Encoder, evaluate_examples, in_parts, mean_loss, predict_examples
from .left_out import usable_rows
from .metric_intervals import FEWEST_DOCUMENTS
from .progress import count
from .results import Evaluation
from .task import Task
from .training_data import write_corpus
from .unknown_labels import describe_unknown, divide

WRONG, SKIP, ERROR = UNKNOWN_LABELS = ("wrong", "skip", "error")
SEQUENCES_AT_ONCE = 512  # of a corpus; each may be as long as the model reads
DONE = {WRONG: "counted as wrong (--unknown-labels skip leaves the rows out)", SKIP: "left out"}


Observer = Callable[[EvaluatedPart], None]


def evaluate_rows(
    task: Task[Any, Any],
    network: nn.Module,
    encoder: Encoder,
    table: Table,
    columns: ColumnMapping,
    *,
    unknown_labels: str = WRONG,
    label_inferred: bool = False,
    observe: Observer | None = None,
    folder: Path | None = None,
    progress: bool | None = None,
) -> Evaluation:
    """The metrics of a network on labelled rows.

    Args:
        task: of the network's head.
        network: prepared for inference.
        encoder: of the model.
        table: the rows.
        columns: those of the texts and the label.
        unknown_labels: what happens to rows with labels that the model does not know: one of UNKNOWN_LABELS.
        label_inferred: whether the label column is neither that of the training data nor a chosen one.
        observe: called with the examples and their predictions, part by part.
        folder: for the examples, if there are many: then only a random sample of the predictions is kept, or those
            that the task finishes. None: everything stays in memory.
        progress: whether to show a progress bar; None: in terminals and notebooks.

    Raises:
        HeadwayError: the rows cannot be used, or have a label that the model does not know and may not.
    """
    table = usable_rows(task, table, columns)
    scoring, known, unknown, notes = _read_examples(
        task, table, columns, unknown_labels, folder and folder / "examples", label_inferred=label_inferred
    )
    kept = scoring.to_finish(known) if task.finishes_predictions and not isinstance(known, list) else None
    results = Results(scoring, None if folder is None else SAMPLE, kept)
    truncated = num_losses = 0
    loss = 0.0
    warnings = CountedWarnings()
    with count(len(known) + len(unknown), " rows", progress) as advance:
        for examples in chain(in_parts(known), in_parts(unknown)):
            if results.number < len(known):  # the targets of the loss are those of the outputs
                windows_by_example = encoder.encode(task, examples)
                found, total, terms = evaluate_examples(task, network, windows_by_example, advance)
            else:  # a loss is not defined for a label without an output
                windows_by_example = encoder.encode(scoring, examples)
                found, total, terms = predict_examples(task, network, windows_by_example, advance), 0.0, 0
            part = EvaluatedPart(scoring, examples, found, windows_by_example, table, columns)
            results.add(part)
            if observe is not None:
                observe(part)
            loss, num_losses = loss + total, num_losses + terms
            truncated += sum(num_truncated_tokens(windows) > 0 for windows in windows_by_example)
            warnings.add(task, examples, windows_by_example)
    if truncated:
        notes.append(f"{truncated} of {results.number} texts are cut at {encoder.limit(task)} tokens")
    notes += warnings.sentences(results.number)
    found = replace(results.evaluation(mean_loss(loss, num_losses), tuple(notes)), left_out=table.left_out)
    return scoring.finish_evaluation(found, network, encoder, (), examples=None if kept is None else known)


def _read_examples(
    task: Task[Any, Any],
    table: Table,
    columns: ColumnMapping,
    unknown_labels: str,
    file: Path | None,
    *,
    label_inferred: bool,
) -> tuple[Task[Any, Any], Sequence[Any], Sequence[Any], list[str]]:
    """The task that scores, the examples with known and with unknown labels that are scored, and notes about them."""
    if unknown_labels not in UNKNOWN_LABELS:
        raise HeadwayError(f"--unknown-labels {unknown_labels}: one of {', '.join(UNKNOWN_LABELS)}.")
    scoring = task if unknown_labels == ERROR else task.with_labels_of(table, columns)
    examples = scoring.examples(table, columns, file=file)
    others = set(scoring.label_names).difference(task.label_names)
    known, unknown = divide(examples, others)
    notes = [*table.notes, *columns.notes]
    if unknown:
        what = describe_unknown(unknown, others, len(examples), "the model does not know")
        notes.append(f"{what}: {DONE[unknown_labels]}")
    if label_inferred and not known:
        raise HeadwayError(
            f'{table.source}: {notes[-1].partition(":")[0]}, so the column "{columns.label}" may have no labels. Name '
            "the column of the labels (--label), or measure drift from the training data without labels (--reference)."
        )
    if unknown_labels == SKIP:
        scoring, unknown = task, []
        if not known:
            raise HeadwayError(f"{table.source}: {notes[-1]}, and no row is left. Evaluate a model for these labels.")
    return scoring, known, unknown, notes


def evaluate_text(
    task: Task[Any, Any],
    network: nn.Module,
    encoder: Encoder,
    data: Any,
    *,
    chosen: Mapping[str, Any],
    options: ReadOptions,
    observe: Observer | None = None,
    keep_predictions: bool = True,
    progress: bool | None = None,
) -> Evaluation:
    """The metrics of a network on unlabelled text (`open_documents`).

    The predictions are those of sequences; without `keep_predictions`, a random sample of them.

    Raises:
        HeadwayError: the data cannot be read, or there is no text.
    """
    assert isinstance(task, CorpusTask)
    texts = open_documents(data, chosen, task, options)
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        written = write_corpus(Path(folder) / "tokens", task, encoder, texts, texts.read(), held_out=True)
        corpus = written.windows_by_example
        if not len(corpus):
            raise HeadwayError(f"{texts.source}: there is no text to evaluate. Give a file with text.")
        by_document = FEWEST_DOCUMENTS <= corpus.num_documents < len(corpus)
        results = Results(task, None if keep_predictions else SAMPLE, independent=not by_document)
        with count(len(corpus), " sequences", progress) as advance:
            for start in range(0, len(corpus), SEQUENCES_AT_ONCE):
                numbers = range(start, min(start + SEQUENCES_AT_ONCE, len(corpus)))
                windows = [corpus[i] for i in numbers]
                documents = [corpus.document_of(i) for i in numbers]
                part = EvaluatedPart(task, documents, predict_examples(task, network, windows, advance), windows)
                results.add(part)
                if observe is not None:
                    observe(part)
    counts = f"{texts.source}: {corpus.num_documents:,} documents, {corpus.num_tokens:,} tokens"
    found = results.evaluation({}, (*texts.notes, counts))
    return replace(found, examples=written.examples, number=None)
