"""The data report: counts, text lengths and findings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .corpus import Corpus
from .examples import Example
from .features import Features, total_length
from .findings import (
    LEVELS,
    Finding,
    leaked_texts,
    long_texts,
    repeated_texts,
    short_texts,
    unknown_share,
    unknown_tokens,
)
from .html_entities import html_entities
from .label_findings import label_findings

NUM_FIRST = 3  # examples shown in a report


@dataclass(frozen=True)
class Lengths:
    """Distribution of the text lengths. All texts of an example count together.

    Args:
        unit: "tokens", special tokens included, or "characters".
        shortest, median, p90, p99, longest: Minimum, percentiles and maximum.
    """

    unit: str
    shortest: int
    median: int
    p90: int
    p99: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], unit: str) -> "Lengths":
        """The distribution of some lengths, at least one."""
        ranked = sorted(lengths)
        median, p90, p99 = (ranked[-(-len(ranked) * percent // 100) - 1] for percent in (50, 90, 99))
        return cls(unit, ranked[0], median, p90, p99, ranked[-1])


@dataclass(frozen=True)
class DataReport:
    """The result of a data check.

    Args:
        examples: Number of training examples.
        eval_examples: Number of evaluation examples.
        label_counts: Examples of each label in the training data, most frequent first; empty without labels.
        lengths: Text lengths; None if no row can be used.
        findings: Errors, then warnings, then notes.
        first: The first training examples.
        notes: What was inferred about the files, one sentence each.
    """

    examples: int
    eval_examples: int
    label_counts: dict[str, int]
    lengths: Lengths | None
    findings: tuple[Finding, ...]
    first: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        plain = asdict(self)
        findings = [{**finding, "places": list(finding["places"])} for finding in plain["findings"]]
        return {**plain, "findings": findings, "first": list(plain["first"]), "notes": list(self.notes)}


@dataclass(frozen=True)
class EncodedExamples:
    """The training examples as the model reads them.

    Args:
        windows_by_example: Features of each example.
        limit: Maximum number of tokens per sequence.
        unknown_id: Id of the unknown token; None if the vocabulary has none.
    """

    windows_by_example: Sequence[list[Features]]
    limit: int
    unknown_id: int | None


def check_examples(
    train: Sequence[Example],
    evaluation: Sequence[Example],
    encoded: EncodedExamples | None = None,
    others: Iterable[Finding] = (),
) -> DataReport:
    """Checks examples.

    Args:
        train: The training examples.
        evaluation: The evaluation examples.
        encoded: The training examples encoded by the model. Default: lengths are measured in characters.
        others: Other findings, such as those of the task.
    """
    findings = [
        *repeated_texts(train),
        *leaked_texts(train, evaluation),
        *label_findings(train, evaluation),
        *short_texts(train),
        *html_entities(train),
        *others,
    ]
    if encoded and train:
        findings += long_texts(train, encoded.windows_by_example, encoded.limit)
        findings += unknown_tokens(encoded.windows_by_example, encoded.unknown_id)
        lengths = Lengths.of([total_length(windows) for windows in encoded.windows_by_example], "tokens")
    elif train:
        lengths = Lengths.of([sum(map(len, example.texts)) for example in train], "characters")
    else:
        lengths = None
    counts = Counter(label for example in train for label in example.labels)
    return DataReport(
        examples=len(train),
        eval_examples=len(evaluation),
        label_counts=dict(counts.most_common()),
        lengths=lengths,
        findings=by_level(findings),
        first=tuple(train[:NUM_FIRST]),
    )


def check_corpus(train: Corpus, evaluation: Corpus | None) -> DataReport:
    """Checks unlabelled text: its size, the lengths of its sequences, and whether the vocabulary fits."""
    return DataReport(
        examples=train.num_documents,
        eval_examples=evaluation.num_documents if evaluation else 0,
        label_counts={},
        lengths=Lengths.of(train.lengths, "tokens"),
        findings=tuple(unknown_share(train.num_unknown, train.num_tokens)),
    )


def by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))
