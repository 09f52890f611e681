"""The data report: counts, text lengths and findings of checked examples."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .corpus import Corpus
from .examples import Example
from .features import Features, total_length
from .findings import (
    Finding,
    about_labels,
    duplicates,
    leaks,
    long_texts,
    short_texts,
    similar_labels,
    unknown_share,
    unknown_tokens,
)

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
class DataReport:
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
    windows_by_example: Sequence[list[Features]],
    limit: int | None,
    unknown: int | None = None,
    more: Sequence[Finding] = (),
) -> DataReport:
    """Looks over examples that could be read.

    Args:
        train: what is trained on.
        held_out: what is evaluated on.
        windows_by_example: the features of each training example; empty where there is no tokenizer.
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
    if windows_by_example and limit is not None:
        findings += [*long_texts(train, windows_by_example, limit), *unknown_tokens(windows_by_example, unknown)]
    lengths = [total_length(windows) for windows in windows_by_example] or [
        sum(map(len, example.texts)) for example in train
    ]
    return DataReport(
        examples=len(train),
        eval_examples=len(held_out),
        label_counts=dict(counts.most_common()),
        lengths=_measure(lengths, "tokens" if windows_by_example else "characters") if lengths else None,
        findings=_by_level(findings),
        first=tuple(train[:FIRST_SHOWN]),
    )


def check_corpus(train: Corpus, held_out: Corpus | None) -> DataReport:
    """Looks over texts without labels: how much there is, how it is cut, and whether the vocabulary fits it."""
    findings = unknown_share(train.num_unknown, train.num_tokens)
    return DataReport(
        examples=train.num_documents,
        eval_examples=held_out.num_documents if held_out else 0,
        label_counts={},
        lengths=_measure(train.lengths, "tokens"),
        findings=tuple(findings),
    )


def _by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.level)))


def _measure(lengths: Sequence[int], unit: str) -> Lengths:
    ranked = sorted(lengths)
    median, p90, p99 = (ranked[-(-len(ranked) * part // 100) - 1] for part in (50, 90, 99))
    return Lengths(unit, ranked[0], median, p90, p99, ranked[-1])
