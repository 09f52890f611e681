"""kNN prompting: a text has the label of the examples after which the model expects the most similar next token.

Xu et al. 2023, "kNN Prompting" (https://arxiv.org/abs/2303.13824): the examples that the prompt does not show are read
as the text is, each after the same demonstrations. The distributions of the next token over the whole vocabulary are
compared by the Kullback-Leibler divergence KL(example || text), and the nearest examples vote.

Shapes: E texts, M examples, L labels, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...core.errors import HeadwayError
from ...core.models.heads import Network
from ..classification.predictions import TextExample
from .forward_passes import Context, ForwardPasses, Query
from .label_scorers import Group, Scored

NEIGHBOURS = 3  # Xu et al., section 3.1
MAX_COMPARED = 1024  # examples; 200 MB for the vocabulary of GPT-2
TIE = 1e-6  # added to the vote of the nearest example, half of it to the next one, ...: it decides between equal votes


@dataclass(frozen=True, eq=False)
class NeighbourScorer:
    """The labels of the nearest examples.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        queries: gives a query per text; as `LabelScorer.encode`.
        labels: the names of the labels.
        examples: with one label each; the prompt shows none of them.
        neighbours: how many examples vote.
        not_compared: where the places of examples are added that do not fit into a prompt.
    """

    network: Network
    queries: Callable[..., Sequence[Query]]
    labels: Sequence[str]
    examples: Sequence[TextExample]
    neighbours: int
    not_compared: set[str] = field(default_factory=set)

    def encode(self, texts: Sequence[TextExample], *, first: bool) -> Sequence[Query]:
        """A query per text."""
        return self.queries(texts, first=first)

    def length(self, text: Query) -> int:
        """Tokens of the query."""
        return len(text.input_ids)

    def score(self, groups: Sequence[Group]) -> list[Scored]:
        """The votes for each label as fractions."""
        return [Scored(self._votes(group)) for group in groups]

    @torch.inference_mode()
    def _votes(self, group: Group) -> np.ndarray:
        """(E, L)."""
        passes = ForwardPasses(self.network)
        labels, distributions = self._distributions(passes, group.context)
        negentropy = torch.special.entr(distributions).sum(dim=-1).neg()
        count = min(self.neighbours, len(labels))
        weights = 1 + TIE * 0.5 ** torch.arange(count, dtype=torch.float64)
        votes = torch.zeros(len(group.texts), len(self.labels), dtype=torch.float64)
        for batch in passes.queries([Context(group.context, tuple(group.texts))]):
            for first, logits in passes.logits(batch.hidden):
                divergences = negentropy - logits.log_softmax(dim=-1) @ distributions.T  # (texts, M)
                nearest = divergences.topk(count, dim=-1, largest=False).indices.cpu()
                for (_, i), row in zip(batch.keys[first : first + len(logits)], nearest, strict=True):
                    votes[i].index_add_(0, labels[row], weights)
        return (votes / weights.sum()).numpy()

    def _distributions(self, passes: ForwardPasses, context: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The labels (M) and the distributions of the next token (M, V) of the examples that fit after a context."""
        room = self.network.config.max_positions - len(context)
        queries = self._queries[not context]
        fitting = [i for i, query in enumerate(queries) if len(query.input_ids) <= room]
        self.not_compared.update(example.where for i, example in enumerate(self.examples) if i not in fitting)
        if not fitting:
            raise HeadwayError(
                f"None of the {len(queries)} examples to compare with fits into the {room} tokens that the "
                "demonstrations leave. Show fewer (--shots)."
            )
        shape = (len(fitting), self.network.config.vocab_size)
        found = torch.empty(shape, device=self.network.backbone.token_embedding.weight.device)
        for batch in passes.queries([Context(context, tuple(queries[i] for i in fitting))]):
            for first, logits in passes.logits(batch.hidden):
                rows = [i for _, i in batch.keys[first : first + len(logits)]]
                found[rows] = logits.softmax(dim=-1)
        return torch.tensor([self.labels.index(self.examples[i].labels[0]) for i in fitting]), found

    @cached_property
    def _queries(self) -> dict[bool, Sequence[Query]]:
        """The queries of the examples, by whether the prompt starts with them."""
        return {first: self.encode(self.examples, first=first) for first in (False, True)}
