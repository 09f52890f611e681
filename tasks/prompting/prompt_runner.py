"""Runs a prompt: chooses the demonstrations of each query, drops those that do not fit, and scores the labels.

Shapes: O orders of the demonstrations, E texts, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import Tensor

from ...core.errors import HeadwayError
from ...core.models.heads import Backbone, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ..classification.predictions import TextExample
from .calibration import CONTENT_FREE
from .demonstrations import (
    BALANCED,
    NEAREST,
    choose_demonstrations,
    demonstration_orders,
    mean_vectors,
    nearest_examples,
)
from .forward_passes import Context, Query
from .label_scorers import ChannelScorer, DirectScorer, Group, LabelScorer
from .label_scores import label_log_likelihoods
from .neighbours import MAX_COMPARED, NEIGHBOURS, NeighbourScorer
from .prompt_encoder import PromptEncoder
from .scoring import CHANNEL, DIRECT, KNN, PMI
from .templates import SEPARATOR, Template

MIN_TEXT = 8  # tokens to which the text of a query may be shortened
CACHED_CONTEXTS = 256  # choices of demonstrations whose tokens are remembered


@dataclass(frozen=True)
class LabelProbabilities:
    """The label probabilities of some texts for every order of the demonstrations."""

    probabilities: np.ndarray  # (O, E, L), not calibrated
    prior: np.ndarray | None  # (O, E, L), to calibrate by; None for no calibration
    dropped: list[int]  # for each text, the largest number of demonstrations that did not fit
    shortened: frozenset[str] = frozenset()  # the places of texts whose end did not fit


@dataclass(frozen=True)
class OpenPrompt:
    """A prompt whose answer is generated."""

    text: str
    dropped: int  # demonstrations that did not fit
    shortened: bool = False  # whether the end of the query's text did not fit either


@dataclass(frozen=True, eq=False)
class PromptRunner:
    """A template with its demonstrations on a model.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        tokenizer: of the model.
        base: the name of the model, for messages.
        template: of the query and of the demonstrations.
        description: the first paragraph of the prompt; "" for none.
        words: label -> how the prompt spells it; empty if the answer is generated.
        examples: from which demonstrations are chosen.
        max_shots: demonstrations before each query.
        choice: how they are chosen; one of demonstrations.CHOICES.
        max_orders: orders of the demonstrations to score.
        similarity_model: the backbone and tokenizer that find the nearest examples; None for the model itself.
        normalize: whether a label is scored by the mean over its tokens instead of the sum.
        scoring: how labels are scored; one of scoring.SCORINGS.
        neighbours: how many examples vote with KNN.
        domain: the domain premise of PMI; None for the end of the template.
    """

    network: Network
    tokenizer: Tokenizer
    base: str
    template: Template
    description: str
    words: Mapping[str, str]
    examples: Sequence[TextExample]
    max_shots: int
    choice: str
    max_orders: int = 1
    similarity_model: tuple[Backbone, Tokenizer] | None = None
    normalize: bool = False
    scoring: str = DIRECT
    neighbours: int = NEIGHBOURS
    domain: str | None = None
    not_compared: set[str] = field(default_factory=set, init=False)  # examples too long for KNN, by their places
    _contexts: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    @property
    def shots(self) -> int:
        """Demonstrations before each query."""
        return min(self.max_shots, len(self.examples))

    @property
    def bare(self) -> bool:
        """Whether the prompt is the query alone."""
        return not self.shots and not self.description

    @property
    def window(self) -> int:
        """Largest number of tokens that the model reads."""
        return self.network.config.max_positions

    def score(self, texts: Sequence[TextExample], seed: int, *, content_free: bool) -> LabelProbabilities:
        """The probability of every label for every text.

        Args:
            texts: the queries.
            seed: of the choice of demonstrations and of their orders.
            content_free: whether to compute a prior: the mean over content-free texts with the same demonstrations.
                PMI has a prior anyway.

        Raises:
            HeadwayError: a prompt is longer than the model's context, or two labels have the same words.
        """
        scorer = self._scorer(seed, content_free)
        encoded = scorer.encode(texts, first=self.bare)
        groups, dropped = self._group(texts, [scorer.length(one) for one in encoded], seed)
        filled = []
        for (_, rows), members in groups.items():
            context = self._context(rows)
            if context or self.bare:
                filled.append(Group(context, [encoded[i] for i in members]))
            else:  # no demonstration fits, so the prompt starts with the query
                filled.append(Group(context, scorer.encode([texts[i] for i in members], first=True)))
        shape = (1 + max((order for order, _ in groups), default=0), len(texts), len(self.words))
        found, priors = np.empty(shape), np.empty(shape)
        calibrated = False
        for ((order, _), members), (rows, prior) in zip(groups.items(), scorer.score(filled), strict=True):
            found[order, members] = rows
            if prior is not None:
                priors[order, members], calibrated = prior, True
        cut = frozenset(
            text.where for text, one in zip(texts, encoded, strict=True) if isinstance(one, Query) and one.cut
        )
        return LabelProbabilities(found, priors if calibrated else None, dropped, cut)

    def _scorer(self, seed: int, content_free: bool) -> LabelScorer:
        if self.scoring == CHANNEL:
            return ChannelScorer(self.network, self._encoder, self.template, self.words)
        if self.scoring == KNN:
            others, labels = [self.examples[i] for i in self.others(seed)], [*self.words]
            return NeighbourScorer(self.network, self._queries, labels, others, self.neighbours, self.not_compared)
        free = {first: self._content_free_queries(first=first) if content_free else () for first in (False, True)}
        domain = self._domain_query() if self.scoring == PMI else None
        return DirectScorer(self._queries, self._log_likelihoods, self.normalize, free, domain)

    def _domain_query(self) -> Query:
        """The domain premise, with the white space that the template has before the label."""
        before = self.template.before
        domain = self.template.domain if self.domain is None else self.domain
        (query,) = self._encoder.queries([domain.rstrip() + before[len(before.rstrip()) :]], first=True)
        if query.length > self.window:
            raise HeadwayError(
                f"--domain: the text does not fit into the {self.window} tokens of the model. Shorten it."
            )
        return query

    def others(self, seed: int) -> list[int]:
        """Indices of the examples to compare with: those that the prompt does not show, up to MAX_COMPARED."""
        labels = self._example_labels
        shown = set(choose_demonstrations(labels, self.shots, self.choice, seed))
        others = [i for i in range(len(labels)) if i not in shown]
        chosen = choose_demonstrations([labels[i] for i in others], MAX_COMPARED, BALANCED, seed)
        return [others[n] for n in chosen]

    def prompts(self, texts: Sequence[TextExample], seed: int, reserved: int) -> list[OpenPrompt]:
        """The whole prompts in the first order.

        Args:
            texts: the queries. Where the answer is generated, a text that is too long for a prompt without
                demonstrations loses its end.
            seed: of the choice of demonstrations.
            reserved: tokens to leave for the answer.

        Raises:
            HeadwayError: a prompt is longer than the model's context.
        """
        prompts = []
        for text, rows in zip(texts, self.choose(texts, seed), strict=True):
            query, shortened = self._query(text, reserved)
            length = len(self._encoder.open_query(query, first=self.bare))
            fitting = self._fit(rows, length + reserved, text)
            whole = SEPARATOR.join([*self._blocks(fitting), query]).rstrip(" ")
            prompts.append(OpenPrompt(whole, len(rows) - len(fitting), shortened))
        return prompts

    def _query(self, text: TextExample, reserved: int) -> tuple[str, bool]:
        """The query of a text that fits without demonstrations, and whether the end of the text had to be cut."""
        room = self.window - len(self._context([])) - reserved

        def excess(query: str) -> int:
            return len(self._encoder.open_query(query, first=self.bare)) - room

        query = self.template.query(text.text, text.pair)
        too_long = excess(query)
        if self.words or too_long <= 0:
            return query, False
        offsets = self.tokenizer.encode(text.text).offsets
        kept = len(offsets) - too_long
        while kept >= MIN_TEXT:  # other tokens may result at the cut
            shorter = self.template.query(text.text[: offsets[kept - 1][1]], text.pair)
            if (too_long := excess(shorter)) <= 0:
                return shorter, True
            kept -= too_long
        return query, False

    def choose(self, texts: Sequence[TextExample], seed: int) -> list[list[int]]:
        """Indices of the demonstrations of each text, in their first order."""
        if not self.shots:
            return [[] for _ in texts]
        if self.choice == NEAREST:
            return nearest_examples(self._vectors(texts), self._example_vectors, self.shots)
        return [choose_demonstrations(self._example_labels, self.shots, self.choice, seed)] * len(texts)

    def _group(
        self, texts: Sequence[TextExample], needed: Sequence[int], seed: int
    ) -> tuple[dict[tuple[int, tuple[int, ...]], list[int]], list[int]]:
        """Texts that share a context: (order, demonstrations) -> texts; and the demonstrations dropped for each text.

        Args:
            texts: the queries.
            needed: tokens to leave for the query and the label of each text.
            seed: of the choice of demonstrations and of their orders.
        """
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        dropped = [0] * len(texts)
        orders = demonstration_orders(self.shots, self.max_orders, seed)
        for i, rows in enumerate(self.choose(texts, seed)):
            for number, order in enumerate(orders):
                fitting = self._fit([rows[n] for n in order], needed[i], texts[i])
                dropped[i] = max(dropped[i], len(rows) - len(fitting))
                groups.setdefault((number, fitting), []).append(i)
        return groups, dropped

    @cached_property
    def _encoder(self) -> PromptEncoder:
        return PromptEncoder(self.tokenizer, self.words)

    @property
    def _example_labels(self) -> list[str | None]:
        return [", ".join(example.labels) if self.words else None for example in self.examples]

    @cached_property
    def _example_vectors(self) -> Tensor:
        return self._vectors(self.examples)

    def _vectors(self, examples: Sequence[TextExample]) -> Tensor:
        model = self.similarity_model or (self.network.backbone, self.tokenizer)
        return mean_vectors(*model, [SEPARATOR.join(example.texts) for example in examples])

    def _queries(self, texts: Sequence[TextExample], *, first: bool) -> list[Query]:
        return self._encoder.queries([self.template.query(text.text, text.pair) for text in texts], first=first)

    def _encode_block(self, text: str, *, first: bool) -> tuple[int, ...]:
        return self._encoder.block(text, first=first)

    def _log_likelihoods(self, contexts: Sequence[Context]) -> list[list[list[float]]]:
        return label_log_likelihoods(self.network, contexts)

    def _content_free_queries(self, *, first: bool) -> list[Query]:
        return self._encoder.queries([self.template.query(text, text) for text in CONTENT_FREE], first=first)

    def _blocks(self, rows: Sequence[int]) -> list[str]:
        """The description and the demonstrations as text."""
        blocks = [self.description] if self.description else []
        for row in rows:
            example = self.examples[row]
            answer = ", ".join(self.words[label] for label in example.labels) if self.words else str(example.label)
            blocks.append(self.template.demonstration(example.text, example.pair, answer))
        return blocks

    def _context(self, rows: Sequence[int]) -> tuple[int, ...]:
        """The description and the demonstrations as tokens."""
        key = tuple(rows)
        found = self._contexts.get(key)  # one call: another thread may clear the cache at any time
        if found is None:
            if len(self._contexts) >= CACHED_CONTEXTS:
                self._contexts.clear()
            blocks = (self._encode_block(text, first=not i) for i, text in enumerate(self._blocks(rows)))
            found = self._contexts[key] = tuple(token for block in blocks for token in block)
        return found

    def _fit(self, rows: Sequence[int], needed: int, text: TextExample) -> tuple[int, ...]:
        """The longest suffix of the demonstrations that leaves `needed` tokens."""
        for start in range(len(rows) + 1):
            if len(self._context(rows[start:])) + needed <= self.window:
                return tuple(rows[start:])
        total = len(self._context([])) + needed
        raise HeadwayError(
            f"{text.where}: without any demonstration the prompt has {total} tokens, including room for the answer, "
            f"and {self.base} reads {self.window} at most. Shorten the text, the description or the template."
        )
