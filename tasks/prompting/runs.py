"""A prompt's questions through the model: which worked examples stand before each text, whether they fit, and what
the model makes of it, once for every order of the examples.

Shapes: O orders of the worked examples, E texts, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from ...core.errors import HeadwayError
from ...core.models.heads import Backbone, Network
from ...core.tokenizers.tokenizer import Tokenizer
from ..classification.predictions import TextExample
from .calibration import CONTENT_FREE, probabilities
from .demonstrations import NEAREST, choose, mean_vectors, nearest, orders
from .label_scores import Choice, Context, label_log_likelihoods
from .templates import SEPARATOR, Encoder, Template


@dataclass(frozen=True)
class Runs:
    """What the model says about some texts under every order of the worked examples."""

    shares: np.ndarray  # (O, E, L), each label's part of what all labels have together, not calibrated
    prior: np.ndarray | None  # (O, E, L), the mean over content-free texts in their place; None if not asked for
    left_out: list[int]  # worked examples that did not fit before each text, at most
    shown: int  # worked examples that were to stand before each text


class PromptRunner:
    """A template with its worked examples, ready to ask a model about texts.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        tokenizer: of the model.
        base: the model's name, for messages.
        template: how to ask.
        description: what comes first; "" for nothing.
        words: label -> how it is said; none where answers are written.
        examples: to choose worked examples from.
        shots: worked examples before each text.
        how: they are chosen; one of demonstrations.CHOICES.
        most_orders: of the worked examples, that answers are averaged over.
        vectors: the backbone and tokenizer whose mean vectors tell what is near; the model's own if left out.
        normalize: whether a label goes by the mean of its tokens instead of their sum.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        base: str,
        *,
        template: Template,
        description: str,
        words: Mapping[str, str],
        examples: Sequence[TextExample],
        shots: int,
        how: str,
        most_orders: int = 1,
        vectors: tuple[Backbone, Tokenizer] | None = None,
        normalize: bool = False,
    ) -> None:
        self.network, self.tokenizer, self.base = network, tokenizer, base
        self.template, self.description, self.words = template, description, words
        self.examples, self.shots, self.how = list(examples), min(shots, len(examples)), how
        self.most_orders, self.normalize = most_orders, normalize
        self._vectors = vectors or (network.backbone, tokenizer)
        self._encoder = Encoder(tokenizer, words)
        self._contexts: dict[tuple[int, ...], tuple[int, ...]] = {}

    @property
    def bare(self) -> bool:
        """Whether nothing stands before a text."""
        return not self.shots and not self.description

    def score(self, texts: Sequence[TextExample], seed: int, *, content_free: bool) -> Runs:
        """What the model thinks of every label, for every text.

        Args:
            texts: to ask about.
            seed: of the choice of worked examples and of their orders.
            content_free: ask about texts without content too, in each text's place.

        Raises:
            HeadwayError: a prompt is longer than the model's context.
        """
        asked = self._encoder.choices([self._question(text) for text in texts], first=self.bare)
        empty = self._free_choices(first=self.bare) if content_free else []
        longest = max((choice.length for choice in empty), default=0)
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}  # (order, worked examples) -> texts
        left_out = [0] * len(texts)
        shown = self.chosen(texts, seed)
        all_orders = orders(self.shots, self.most_orders, seed)
        for i, rows in enumerate(shown):
            for number, order in enumerate(all_orders):
                fitting = self._fit([rows[n] for n in order], max(asked[i].length, longest), texts[i])
                left_out[i] = max(left_out[i], len(rows) - len(fitting))
                groups.setdefault((number, fitting), []).append(i)
        contexts = []
        for (_, rows), members in groups.items():
            context = self._context(rows)
            if context or self.bare:
                choices, free = [asked[i] for i in members], empty
            else:  # no worked example fits, so that these texts come first
                choices = self._encoder.choices([self._question(texts[i]) for i in members], first=True)
                free = self._free_choices(first=True) if content_free else []
            contexts.append(Context(context, (*choices, *free)))
        self._contexts.clear()
        shape = (len(all_orders), len(texts), len(self.words))
        shares, prior = np.empty(shape), np.empty(shape)
        found = label_log_likelihoods(self.network, contexts)
        for ((number, _), members), context, scores in zip(groups.items(), contexts, found, strict=True):
            said = [self._shares(choice, one) for choice, one in zip(context.choices, scores, strict=True)]
            shares[number, members] = said[: len(members)]
            if content_free:
                prior[number, members] = np.mean(said[len(members) :], axis=0)
        return Runs(shares, prior if content_free else None, left_out, self.shots)

    def prompts(self, texts: Sequence[TextExample], seed: int, room: int) -> tuple[list[str], list[int]]:
        """The whole prompts, in the first order, and how many worked examples did not fit into each.

        Args:
            texts: to ask about.
            seed: of the choice of worked examples.
            room: tokens to leave for the answer.

        Raises:
            HeadwayError: a prompt is longer than the model's context.
        """
        prompts, left_out = [], []
        for text, rows in zip(texts, self.chosen(texts, seed), strict=True):
            question = self._question(text)
            fitting = self._fit(rows, len(self._encoder.question(question, first=self.bare)) + room, text)
            prompts.append(SEPARATOR.join([*self._parts(fitting), question]).rstrip(" "))
            left_out.append(len(rows) - len(fitting))
        return prompts, left_out

    def chosen(self, texts: Sequence[TextExample], seed: int) -> list[list[int]]:
        """The worked examples before each text, in their first order."""
        if not self.shots:
            return [[] for _ in texts]
        if self.how == NEAREST:
            vectors = mean_vectors(*self._vectors, [SEPARATOR.join(text.texts) for text in texts])
            return nearest(vectors, self._example_vectors, self.shots)
        labels = [", ".join(example.labels) if self.words else None for example in self.examples]
        rows = choose(labels, self.shots, self.how, seed)
        return [rows] * len(texts)

    @cached_property
    def _example_vectors(self) -> Tensor:
        return mean_vectors(*self._vectors, [SEPARATOR.join(example.texts) for example in self.examples])

    def _question(self, example: TextExample) -> str:
        return self.template.question(example.text, example.pair)

    def _free_choices(self, *, first: bool) -> list[Choice]:
        questions = [self.template.question(text, text) for text in CONTENT_FREE]
        return self._encoder.choices(questions, first=first)

    def _shares(self, choice: Choice, log_likelihoods: Sequence[float]) -> np.ndarray:
        lengths = [len(label) for label in choice.labels] if self.normalize else None
        return probabilities(np.array(log_likelihoods), lengths)

    def _parts(self, rows: Sequence[int]) -> list[str]:
        """What stands before a question."""
        shown = []
        for row in rows:
            example = self.examples[row]
            answer = ", ".join(self.words[label] for label in example.labels) if self.words else str(example.label)
            shown.append(self.template.demonstration(example.text, example.pair, answer))
        return ([self.description] if self.description else []) + shown

    def _context(self, rows: Sequence[int]) -> tuple[int, ...]:
        key = tuple(rows)
        if key not in self._contexts:
            blocks = (self._encoder.block(part, first=not i) for i, part in enumerate(self._parts(rows)))
            self._contexts[key] = tuple(token for block in blocks for token in block)
        return self._contexts[key]

    def _fit(self, rows: Sequence[int], needed: int, text: TextExample) -> tuple[int, ...]:
        """The last of some worked examples that leave room for so many tokens."""
        window = self.network.config.max_positions
        for start in range(len(rows) + 1):
            if len(self._context(rows[start:])) + needed <= window:
                return tuple(rows[start:])
        alone = len(self._context([])) + needed
        raise HeadwayError(
            f"{text.where}: without any worked example the prompt has {alone} tokens, room for the answer included, "
            f"and {self.base} reads {window} at most. Shorten the text, the description or the template."
        )
