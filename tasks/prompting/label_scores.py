"""Computes the log-likelihood of labels as continuations of texts with GPT-2, many texts and labels at once.

Brown et al. 2020, "Language Models are Few-Shot Learners" (https://arxiv.org/abs/2005.14165, section 2.4): the answer
is the label with the highest likelihood. The log-likelihood of a label is the sum over its tokens, each given the
ones before it.

Nothing is computed twice. A context that several queries share (description and demonstrations) is one forward pass;
each query is computed once on top of its context, and the labels on top of their query, without their last token and
without prefixes that another label has computed. So a label of a single token costs no extra pass.

Memory: keys and values of up to three times `batch_tokens` tokens (contexts, queries, labels), the activations of a
forward pass over `batch_tokens` tokens, and MAX_LOGITS numbers. A longer context, query or label is computed alone.

Shapes: N tokens or queries, C hidden size, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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


class _Target(NamedTuple):
    """A next token whose log-probability is needed."""

    query: int
    prefix: Label  # tokens of the label before it
    token: int


# query -> (prefix of a label, next token) -> log-probability
_LogProbs = list[dict[tuple[Label, int], float]]


@torch.inference_mode()
def label_log_likelihoods(
    network: Network, contexts: Sequence[Context], *, batch_tokens: int = SCORING_BATCH_TOKENS
) -> list[list[list[float]]]:
    """The log-likelihood of every label, for each context, each of its queries and each label.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        contexts: each with its queries; context, query and label together fit into the model's positions.
        batch_tokens: tokens per forward pass.

    Raises:
        HeadwayError: the network is not a language model.
    """
    scorer = _Scorer(network, batch_tokens)
    scores: dict[tuple[int, int], list[float]] = {}
    for members in _context_batches(contexts, batch_tokens):
        cache = scorer.read_contexts([contexts[i].input_ids for i in members])
        keys = [(i, j) for i in members for j in range(len(contexts[i].queries))]
        queries = [contexts[i].queries[j] for i, j in keys]
        row_of = {i: row for row, i in enumerate(members)}
        for batch in _batches([len(query.input_ids) for query in queries], batch_tokens):
            batch.sort(key=lambda n: row_of[keys[n][0]])  # a fork keeps the order of the rows that it extends
            rows = [row_of[keys[n][0]] for n in batch]
            found = scorer.score(cache, rows, [queries[n] for n in batch])
            scores.update(zip([keys[n] for n in batch], found, strict=True))
    return [[scores[i, j] for j in range(len(context.queries))] for i, context in enumerate(contexts)]


def _context_batches(contexts: Sequence[Context], budget: int) -> Iterator[list[int]]:
    """Indices of contexts that are computed together. Empty ones form separate batches: they need no forward pass."""
    for empty in (True, False):
        chosen = [i for i, context in enumerate(contexts) if context.queries and (not context.input_ids) == empty]
        for batch in _batches([len(contexts[i].input_ids) for i in chosen], budget):
            yield [chosen[n] for n in batch]


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices, longest first, in batches whose size times their longest length is at most `budget`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


class _Scorer:
    """Forward passes over contexts, queries and labels."""

    def __init__(self, network: Network, batch_tokens: int) -> None:
        self.network, self.model, self.batch_tokens = network, language_model(network), batch_tokens

    def forward(self, cache: KVCache, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Appends tokens to the rows of a cache and returns their hidden states, (N, C)."""
        return self.model(cache.extend(sequences), cache)

    def read_contexts(self, sequences: Sequence[Label]) -> KVCache | None:
        """The cache of some contexts, a row each; None for empty ones."""
        if not sequences[0]:
            return None
        cache = self.model.new_cache(len(sequences), max(map(len, sequences)))
        self.forward(cache, sequences)
        return cache

    def score(self, context: KVCache | None, rows: Sequence[int], queries: Sequence[Query]) -> list[list[float]]:
        """The log-likelihoods of the labels of some queries.

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
        trees = [_label_tree(query.labels) for query in queries]
        log_probs: _LogProbs = [{} for _ in queries]
        targets = [_Target(i, (), token) for i, tree in enumerate(trees) for token in tree.next_tokens[()]]
        self._add_log_probs(log_probs, hidden[last], [target.query for target in targets], targets)
        # Prefixes of one length at a time: one attention call then serves many queries.
        for length in sorted({len(path) for tree in trees for path in tree.paths}):
            paths = [(i, path) for i, tree in enumerate(trees) for path in tree.paths if len(path) == length]
            step = max(1, self.batch_tokens // length)
            for start in range(0, len(paths), step):
                self._score_paths(log_probs, cache, trees, paths[start : start + step])
        return [
            [sum(found[label[:i], label[i]] for i in range(len(label))) for label in query.labels]
            for query, found in zip(queries, log_probs, strict=True)
        ]

    def _score_paths(
        self,
        log_probs: _LogProbs,
        cache: KVCache,
        trees: Sequence["_LabelTree"],
        paths: Sequence[tuple[int, Label]],
    ) -> None:
        """Computes label prefixes of equal length, (query, prefix) each, on top of their queries."""
        counts, length = Counter(i for i, _ in paths), len(paths[0][1])
        fork = cache.fork([counts[i] for i in range(len(trees))], capacity=length)
        hidden = self.forward(fork, [path for _, path in paths])
        targets, positions = [], []
        for n, (i, path) in enumerate(paths):
            for end in range(1, length + 1):
                prefix = path[:end]
                if trees[i].path_of[prefix] == path:
                    targets += [_Target(i, prefix, token) for token in trees[i].next_tokens[prefix]]
                    positions += [n * length + end - 1] * len(trees[i].next_tokens[prefix])
        needed = sorted(set(positions))
        row_of = {position: row for row, position in enumerate(needed)}
        self._add_log_probs(log_probs, hidden[needed], [row_of[position] for position in positions], targets)

    def _add_log_probs(
        self, log_probs: _LogProbs, hidden: Tensor, rows: Sequence[int], targets: Sequence[_Target]
    ) -> None:
        """Computes the log-probabilities of some next tokens.

        Args:
            log_probs: where they are added.
            hidden: (N, C).
            rows: the row of `hidden` for each target, in ascending order.
            targets: the next tokens.
        """
        assert self.network.head is not None
        start = 0
        step = max(1, MAX_LOGITS // self.network.config.vocab_size)
        for first in range(0, len(hidden), step):
            logits = self.network.head(hidden[first : first + step]).float()
            end = start
            while end < len(rows) and rows[end] < first + step:
                end += 1
            index = torch.tensor(rows[start:end], device=logits.device) - first
            tokens = torch.tensor([target.token for target in targets[start:end]], device=logits.device)
            found = (logits[index, tokens] - logits.logsumexp(dim=-1)[index]).tolist()
            for target, value in zip(targets[start:end], found, strict=True):
                log_probs[target.query][target.prefix, target.token] = value
            start = end


@dataclass(frozen=True)
class _LabelTree:
    """The prefixes of some labels as a tree, and the tokens that may follow each."""

    paths: tuple[Label, ...]  # the longest prefixes, which are computed; every other prefix is part of one
    path_of: dict[Label, Label]  # prefix -> the path that it is part of
    next_tokens: dict[Label, tuple[int, ...]]


@lru_cache(maxsize=64)
def _label_tree(labels: tuple[Label, ...]) -> _LabelTree:
    following: dict[Label, dict[int, None]] = {}
    for label in labels:
        for i, token in enumerate(label):
            following.setdefault(label[:i], {})[token] = None
    inner = following.keys() - {()}
    paths = tuple(sorted(inner - {prefix[:-1] for prefix in inner}))
    path_of = {path[:end]: path for path in paths for end in range(1, len(path) + 1)}
    return _LabelTree(paths, path_of, {prefix: tuple(tokens) for prefix, tokens in following.items()})
