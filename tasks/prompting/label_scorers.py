"""Turns texts into label probabilities: by the likelihood of each label, or of the text after each label.

neighbours.py has the third way. scoring.py says when to use which.

Shapes: E texts, L labels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...core.models.heads import Network
from ..classification.predictions import TextExample
from .calibration import probabilities
from .forward_passes import Context, Label, Query
from .prompt_encoder import PromptEncoder
from .templates import Template
from .text_scores import text_log_likelihoods

Encoded = Any  # the tokens of a text: one query, or one for each label


@dataclass(frozen=True)
class Group:
    """Texts with the same demonstrations."""

    context: tuple[int, ...]  # the tokens of the description and the demonstrations
    texts: Sequence[Encoded]


class Scored(NamedTuple):
    """The label probabilities of a group."""

    probabilities: np.ndarray  # (E, L)
    prior: np.ndarray | None = None  # (L,), to calibrate by


class LabelScorer(Protocol):
    """Computes label probabilities."""

    def encode(self, texts: Sequence[TextExample], *, first: bool) -> Sequence[Encoded]:
        """The tokens of some texts; `first` if the prompt starts with them."""
        ...

    def length(self, text: Encoded) -> int:
        """Number of tokens to leave for a text and what is scored with it."""
        ...

    def score(self, groups: Sequence[Group]) -> list[Scored]:
        """The label probabilities of each group."""
        ...


@dataclass(frozen=True, eq=False)
class DirectScorer:
    """The likelihood of each label after the text, and the prior of each label if there is one.

    Args:
        queries: gives a query per text; as `LabelScorer.encode`.
        log_likelihoods: gives the log-likelihood of each label, for each context and each of its queries.
        normalize: whether a label is scored by the mean over its tokens instead of the sum.
        content_free: queries after which the labels have their prior, with the same demonstrations as a text, by
            whether the prompt starts with them; without any, there is no such prior.
        domain: the query after which the labels have their prior, without demonstrations; None if they have another.
    """

    queries: Callable[..., Sequence[Query]]
    log_likelihoods: Callable[[Sequence[Context]], list[list[list[float]]]]
    normalize: bool
    content_free: Mapping[bool, Sequence[Query]]
    domain: Query | None = None

    def encode(self, texts: Sequence[TextExample], *, first: bool) -> Sequence[Query]:
        """A query per text."""
        return self.queries(texts, first=first)

    def length(self, text: Query) -> int:
        """Tokens of the query with the longest label, at least those of the content-free queries."""
        return max(text.length, *(query.length for query in self.content_free[False]), 0)

    def score(self, groups: Sequence[Group]) -> list[Scored]:
        """The label probabilities of each group, which is one context."""
        contexts = [Context(one.context, (*one.texts, *self.content_free[not one.context])) for one in groups]
        domain = [] if self.domain is None else [Context((), (self.domain,))]
        rows = self._probabilities([*contexts, *domain])
        prior = rows.pop()[0] if domain else None
        return [
            Scored(found[: len(group.texts)], self._prior(found[len(group.texts) :], prior))
            for group, found in zip(groups, rows, strict=True)
        ]

    def _prior(self, content_free: np.ndarray, domain: np.ndarray | None) -> np.ndarray | None:
        return content_free.mean(axis=0) if len(content_free) else domain

    def _probabilities(self, contexts: Sequence[Context]) -> list[np.ndarray]:
        """(queries, L) for each context."""
        found = []
        for context, scores in zip(contexts, self.log_likelihoods(contexts), strict=True):
            lengths = [[len(label) for label in query.labels] if self.normalize else None for query in context.queries]
            rows = [probabilities(np.array(one), count) for one, count in zip(scores, lengths, strict=True)]
            found.append(np.array(rows))
        return found


@dataclass(frozen=True, eq=False)
class ChannelScorer:
    """The likelihood of the text after each label.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        encoder: of the prompt.
        template: of the queries, with the label before the text.
        words: label -> how the prompt spells it.
    """

    network: Network
    encoder: PromptEncoder
    template: Template
    words: Mapping[str, str]

    def encode(self, texts: Sequence[TextExample], *, first: bool) -> list[tuple[Query, ...]]:
        """For each text and each label, what comes before the text as a query, and the text as what follows it."""
        heads = [self.template.head(word) for word in self.words.values()]
        found = self.encoder.continuations(
            [(head, self.template.tail(text.text, text.pair)) for text in texts for head in heads], first=first
        )
        return [tuple(found[i : i + len(heads)]) for i in range(0, len(found), len(heads))]

    def length(self, text: Sequence[Query]) -> int:
        """Tokens of the text with what is before it, for the longest label."""
        return max(query.length for query in text)

    def score(self, groups: Sequence[Group]) -> list[Scored]:
        """The label probabilities of each group: a label and the demonstrations before it are computed once."""
        contexts, places = [], []
        for group in groups:
            after: dict[Label, list[tuple[int, int]]] = {}  # what comes before a text -> (text, label)
            for i, queries in enumerate(group.texts):
                for j, query in enumerate(queries):
                    after.setdefault(query.input_ids, []).append((i, j))
            queries = [
                Query(head, tuple(group.texts[i][j].labels[0] for i, j in where)) for head, where in after.items()
            ]
            contexts.append(Context(group.context, tuple(queries)))
            places.append(list(after.values()))
        found = []
        scores = text_log_likelihoods(self.network, contexts)
        for group, where, of_context in zip(groups, places, scores, strict=True):
            likelihoods = np.empty((len(group.texts), len(self.words)))
            for of_head, values in zip(where, of_context, strict=True):
                likelihoods[tuple(zip(*of_head, strict=True))] = values
            found.append(Scored(probabilities(likelihoods)))
        return found
