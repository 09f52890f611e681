"""Forward passes of a language model over contexts, and over queries on top of them, many at once.

A context that several queries share (description and demonstrations) is one row of a cache; each query is computed
once on top of its context. label_scores.py and text_scores.py compute continuations on top of the queries;
neighbours.py reads the distribution of the next token.

Memory: keys and values of up to two times `batch_tokens` tokens (contexts, queries), the activations of a forward pass
over `batch_tokens` tokens, and MAX_LOGITS numbers. A longer context or query is computed alone.

Shapes: N tokens or queries, C hidden size, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.generation.decoding import language_model
from ...core.models.cache import KVCache
from ...core.models.heads import Network

SCORING_BATCH_TOKENS = 2048  # tokens per forward pass
MAX_LOGITS = 2**24  # numbers in a matrix of logits

Label = tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """The tokens of a text, and the labels that may follow it."""

    input_ids: tuple[int, ...]  # at least one token, without the context
    labels: tuple[Label, ...]  # at least one token each
    cut: bool = False  # whether the end of the text did not fit

    @property
    def length(self) -> int:
        """Largest number of tokens that the model reads, without the context."""
        return len(self.input_ids) + max(map(len, self.labels)) - 1


@dataclass(frozen=True)
class Context:
    """The tokens that several queries have before them."""

    input_ids: tuple[int, ...]  # may be empty
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class QueryBatch:
    """Queries that have been computed together, a row of the cache each."""

    keys: list[tuple[int, int]]  # context and query
    queries: list[Query]
    cache: KVCache
    hidden: Tensor  # (N, C), at the last token of each query


class ForwardPasses:
    """Computes tokens on top of each other.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        batch_tokens: tokens per forward pass.

    Raises:
        HeadwayError: the network is not a language model.
    """

    def __init__(self, network: Network, batch_tokens: int = SCORING_BATCH_TOKENS) -> None:
        self.network, self.model, self.batch_tokens = network, language_model(network), batch_tokens

    def forward(self, cache: KVCache, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Appends tokens to the rows of a cache and returns their hidden states, (N, C)."""
        return self.model(cache.extend(sequences), cache)

    def queries(self, contexts: Sequence[Context]) -> Iterator[QueryBatch]:
        """Computes all contexts and their queries.

        Args:
            contexts: each with its queries; together they fit into the model's positions.
        """
        for members in _context_batches(contexts, self.batch_tokens):
            cache = self._read_contexts([contexts[i].input_ids for i in members])
            keys = [(i, j) for i in members for j in range(len(contexts[i].queries))]
            queries = [contexts[i].queries[j] for i, j in keys]
            row_of = {i: row for row, i in enumerate(members)}
            for batch in batches([len(query.input_ids) for query in queries], self.batch_tokens):
                batch.sort(key=lambda n: row_of[keys[n][0]])  # a fork keeps the order of the rows that it extends
                rows = [row_of[keys[n][0]] for n in batch]
                chosen = [queries[n] for n in batch]
                yield QueryBatch([keys[n] for n in batch], chosen, *self._read_queries(cache, rows, chosen))

    def log_probs(self, hidden: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """The log-probabilities of some next tokens.

        Args:
            hidden: (N, C).
            rows: the row of `hidden` for each token, in ascending order.
            tokens: the next tokens.
        """
        found: list[float] = []
        start = 0
        for first, logits in self.logits(hidden):
            end = start
            while end < len(rows) and rows[end] < first + len(logits):
                end += 1
            index = torch.tensor(rows[start:end], device=logits.device) - first
            targets = torch.tensor(tokens[start:end], device=logits.device)
            found += (logits[index, targets] - logits.logsumexp(dim=-1)[index]).tolist()
            start = end
        return found

    def logits(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The logits (n, V) of a few hidden states at a time, each time with the index of the first one."""
        assert self.network.head is not None
        step = max(1, MAX_LOGITS // self.network.config.vocab_size)
        for first in range(0, len(hidden), step):
            yield first, self.network.head(hidden[first : first + step]).float()

    def _read_contexts(self, sequences: Sequence[Label]) -> KVCache | None:
        """The cache of some contexts, a row each; None for empty ones."""
        if not sequences[0]:
            return None
        cache = self.model.new_cache(len(sequences), max(map(len, sequences)))
        self.forward(cache, sequences)
        return cache

    def _read_queries(
        self, context: KVCache | None, rows: Sequence[int], queries: Sequence[Query]
    ) -> tuple[KVCache, Tensor]:
        """The cache of some queries and the hidden states of their last tokens, (N, C).

        Args:
            context: the cache of the contexts, if any.
            rows: the row of each query's context, in ascending order.
            queries: of one batch.
        """
        sequences = [query.input_ids for query in queries]
        capacity = max(map(len, sequences))
        if context is None:
            cache = self.model.new_cache(len(sequences), capacity)
        else:
            counts = Counter(rows)
            cache = context.fork([counts[row] for row in range(len(context))], capacity=capacity)
        hidden = self.forward(cache, sequences)
        last = torch.tensor([len(sequence) for sequence in sequences], device=hidden.device).cumsum(0) - 1
        return cache, hidden[last]


def _context_batches(contexts: Sequence[Context], budget: int) -> Iterator[list[int]]:
    """Indices of contexts that are computed together. Empty ones form separate batches: they need no forward pass."""
    for empty in (True, False):
        chosen = [i for i, context in enumerate(contexts) if context.queries and (not context.input_ids) == empty]
        for batch in batches([len(contexts[i].input_ids) for i in chosen], budget):
            yield [chosen[n] for n in batch]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices, longest first, in batches whose size times their longest length is at most `budget`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
