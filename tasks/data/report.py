"""The data report: counts, text lengths and findings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .corpus import Corpus
from .examples import Example
from .findings import (
    LEVELS,
    Finding,
    leaked_texts,
    long_texts,
    repeated_texts,
    short_texts,
    unknown_share,
)
from .html_entities import html_entities
from .label_findings import label_findings
from .token_counts import TokenCounts

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
    def of(cls, lengths: Sequence[int] | np.ndarray, unit: str) -> "Lengths":
        """The distribution of some lengths, at least one."""
        ranked = np.sort(lengths)
        positions = (-(-len(ranked) * percent // 100) - 1 for percent in (50, 90, 99))
        shortest, median, p90, p99, longest = (int(ranked[i]) for i in (0, *positions, -1))
        return cls(unit, shortest, median, p90, p99, longest)


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
        test_examples: Number of test examples.
    """

    examples: int
    eval_examples: int
    label_counts: dict[str, int]
    lengths: Lengths | None
    findings: tuple[Finding, ...]
    first: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    test_examples: int = 0

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that prevent training."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        plain = asdict(self)
        findings = [{**finding, "places": list(finding["places"])} for finding in plain["findings"]]
        return {**plain, "findings": findings, "first": list(plain["first"]), "notes": list(self.notes)}


def check_examples(
    train: Sequence[Example],
    evaluation: Sequence[Example],
    tokens: TokenCounts | None = None,
    others: Iterable[Finding] = (),
    *,
    is_split: bool = False,
) -> DataReport:
    """Checks examples.

    Args:
        train: The training examples.
        evaluation: The evaluation examples.
        tokens: Those of the training examples for the model. Default: lengths are measured in characters.
        others: Other findings, such as those of the task.
        is_split: Whether the evaluation examples were split off, so that they have no texts of the training examples.
    """
    findings = [
        *repeated_texts(train),
        *leaked_texts(train, [] if is_split else evaluation),
        *label_findings(train, evaluation),
        *short_texts(train),
        *html_entities(train),
        *others,
    ]
    if tokens and train:
        findings += [*long_texts(train, tokens), *unknown_share(tokens.num_unknown, tokens.num_tokens)]
        lengths = Lengths.of(tokens.lengths, "tokens")
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
