"""A look over labelled data before training: what would stop it, what would spoil it, and what one should know.

`check_examples` looks at examples that could be read, as training does; `check_data` reads a person's files for that
and lists the rows that cannot be used, all of them, instead of stopping at the first.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import HeadwayError
from .base import Example, Features, Task, group_windows, whole_length
from .corpus import Corpus, open_documents
from .findings import (
    Finding,
    about_labels,
    about_remarks,
    collect_remarks,
    duplicates,
    leaks,
    long_texts,
    short_texts,
    similar_labels,
    unknown_share,
    unknown_tokens,
)
from .training_data import same_columns

if TYPE_CHECKING:
    from ..core.tokenizer import Tokenizer

FIRST_SHOWN = 3  # examples


@dataclass(frozen=True)
class Lengths:
    """How long the texts of an example are together."""

    unit: str  # "tokens", special ones included, or "characters"
    shortest: int
    median: int
    p90: int  # nine of ten are no longer
    p99: int
    longest: int


@dataclass(frozen=True)
class Report:
    """What a look over the data has found, the worst first."""

    examples: int
    eval_examples: int
    label_counts: dict[str, int]  # in the training data, the commonest first; empty where there are no labels
    lengths: Lengths | None  # None where no row can be used
    findings: tuple[Finding, ...]
    first: tuple[Example, ...] = ()  # a few examples, for a person to see whether they were read as meant
    notes: tuple[str, ...] = ()  # what was guessed about the files, a sentence each

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What stops training."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        found = asdict(self)
        findings = [{**finding, "places": list(finding["places"])} for finding in found["findings"]]
        return {**found, "findings": findings, "first": list(found["first"]), "notes": list(self.notes)}


def check_examples(
    train: Sequence[Example],
    held_out: Sequence[Example],
    groups: Sequence[list[Features]],
    limit: int | None,
    unknown: int | None = None,
    more: Sequence[Finding] = (),
) -> Report:
    """Looks over examples that could be read.

    Args:
        train: what is trained on.
        held_out: what is evaluated on.
        groups: the features of each training example; empty where there is no tokenizer.
        limit: the longest sequence in tokens.
        unknown: the token for what the vocabulary does not have.
        more: what the task has found.
    """
    counts = Counter(label for example in train for label in example.labels)
    findings = [
        *duplicates(train),
        *leaks(train, held_out),
        *about_labels(train, held_out, counts),
        *similar_labels(counts),
        *short_texts(train),
        *more,
    ]
    if groups and limit is not None:
        findings += [*long_texts(train, groups, limit), *unknown_tokens(groups, unknown)]
    lengths = [whole_length(windows) for windows in groups] or [sum(map(len, example.texts)) for example in train]
    return Report(
        examples=len(train),
        eval_examples=len(held_out),
        label_counts=dict(counts.most_common()),
        lengths=_measure(lengths, "tokens" if groups else "characters") if lengths else None,
        findings=_by_level(findings),
        first=tuple(train[:FIRST_SHOWN]),
    )


def check_corpus(train: Corpus, held_out: Corpus | None) -> Report:
    """Looks over texts without labels: how much there is, how it is cut, and whether the vocabulary fits it."""
    findings = unknown_share(train.num_unknown, train.num_tokens)
    return Report(
        examples=train.num_documents,
        eval_examples=held_out.num_documents if held_out else 0,
        label_counts={},
        lengths=_measure(train.lengths, "tokens"),
        findings=tuple(findings),
    )


def check_data(
    task: Task,
    data: Any,
    eval_data: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    header: bool | None = None,
    model: str | Path | None = None,
) -> Report:
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
    from .data import read_table

    if task.of_texts:
        return _check_texts(task, data, eval_data, columns or {}, header, model)
    table = read_table(data, header=header)
    settled = task.columns(table, columns or {}, need_label=True)
    notes = [f"{table.source}: {len(table)} rows, {table.kind}", *settled.notes]
    findings: list[Finding] = []
    learnt, can_learn = task, True
    try:
        learnt, decided = task.learn(table, settled)
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
    groups, limit, unknown = _encode(learnt, examples, model) if model and can_learn else ([], None, None)
    remarks = collect_remarks(learnt, examples, groups), collect_remarks(learnt, held_out, [])
    more = [*about_remarks(remarks[0], len(examples)), *about_remarks(remarks[1], len(held_out))]
    report = check_examples(examples, held_out, groups, limit, unknown, more)
    return replace(report, findings=_by_level([*findings, *report.findings]), notes=tuple(notes))


def _check_texts(
    task: Any, data: Any, eval_data: Any, columns: Mapping[str, Any], header: bool | None, model: str | Path | None
) -> Report:
    """Texts without labels: how many there are and how long, in a model's tokens if one is named."""
    sides = [open_documents(one, columns, task, header=header) for one in (data, eval_data) if one is not None]
    lengths: list[list[int]] = []
    for side in sides:
        found: list[int] = []
        for piece in side.read():
            if piece.begins:
                found.append(0)
            found[-1] += len(piece.text)
        if not found:
            raise HeadwayError(f"{side.source}: there is no text in it. Give one with words.")
        lengths.append(found)
    notes = tuple(note for side in sides for note in side.notes)
    report = Report(len(lengths[0]), sum(map(len, lengths[1:])), {}, _measure(lengths[0], "characters"), (), (), notes)
    if model is None:
        return report
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        tokenizer, limit = _tokenizer_of(task, model)
        cut = partial(task.cut, limit=limit, held_out=False)
        corpus = Corpus.write(Path(folder) / "tokens", sides[0].read(), task, tokenizer, cut)
        measured = check_corpus(corpus, None)
    return replace(report, lengths=measured.lengths, findings=measured.findings)


def _tokenizer_of(task: Task, model: str | Path) -> "tuple[Tokenizer, int]":
    """A model's tokenizer and how many tokens the task may give it; no weights are read."""
    from ..core.config_file import read_config
    from ..core.sources import find_folder
    from ..core.tokenizer import Tokenizer

    folder = find_folder(model)
    return Tokenizer.load(folder), task.limit(read_config(folder)[1].max_positions, str(model))


def _encode(
    task: Task, examples: Sequence[Any], model: str | Path
) -> tuple[list[list[Features]], int | None, int | None]:
    """The examples as a model's tokenizer makes them, the model's limit and its unknown token; no weights are read."""
    tokenizer, limit = _tokenizer_of(task, model)
    return group_windows(task.encode(examples, tokenizer, limit)), limit, tokenizer.unk_id


def _by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.level)))


def _measure(lengths: Sequence[int], unit: str) -> Lengths:
    ranked = sorted(lengths)
    median, p90, p99 = (ranked[-(-len(ranked) * part // 100) - 1] for part in (50, 90, 99))
    return Lengths(unit, ranked[0], median, p90, p99, ranked[-1])
