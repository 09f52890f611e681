"""Computes the log-likelihood of labels as continuations of texts with GPT-2, many texts and labels at once.

Brown et al. 2020, "Language Models are Few-Shot Learners" (https://arxiv.org/abs/2005.14165, section 2.4): the answer
is the label with the highest likelihood. The log-likelihood of a label is the sum over its tokens, each given the
ones before it.

Nothing is computed twice: forward_passes.py computes contexts and queries; labels are computed on top of their query,
without their last token and without prefixes that another label has computed. So a label of a single token costs no
extra pass.

Memory: that of forward_passes.py, and keys and values of up to `batch_tokens` tokens of labels. A longer label is
computed alone.

Shapes: N tokens or queries, C hidden size.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ...core.models.cache import KVCache
from ...core.models.heads import Network
from .forward_passes import SCORING_BATCH_TOKENS, Context, ForwardPasses, Label, QueryBatch


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
    scorer = _Scorer(ForwardPasses(network, batch_tokens))
    scores: dict[tuple[int, int], list[float]] = {}
    for batch in scorer.passes.queries(contexts):
        scores.update(zip(batch.keys, scorer.score(batch), strict=True))
    return [[scores[i, j] for j in range(len(context.queries))] for i, context in enumerate(contexts)]


class _Scorer:
    """Scores the labels of queries that have been computed."""

    def __init__(self, passes: ForwardPasses) -> None:
        self.passes = passes

    def score(self, batch: QueryBatch) -> list[list[float]]:
        """The log-likelihoods of the labels of some queries."""
        trees = [_label_tree(query.labels) for query in batch.queries]
        log_probs: _LogProbs = [{} for _ in trees]
        targets = [_Target(i, (), token) for i, tree in enumerate(trees) for token in tree.next_tokens[()]]
        self._add_log_probs(log_probs, batch.hidden, [target.query for target in targets], targets)
        # Prefixes of one length at a time: one attention call then serves many queries.
        for length in sorted({len(path) for tree in trees for path in tree.paths}):
            paths = [(i, path) for i, tree in enumerate(trees) for path in tree.paths if len(path) == length]
            step = max(1, self.passes.batch_tokens // length)
            for start in range(0, len(paths), step):
                self._score_paths(log_probs, batch.cache, trees, paths[start : start + step])
        return [
            [sum(found[label[:i], label[i]] for i in range(len(label))) for label in query.labels]
            for query, found in zip(batch.queries, log_probs, strict=True)
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
        hidden = self.passes.forward(fork, [path for _, path in paths])
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
        found = self.passes.log_probs(hidden, rows, [target.token for target in targets])
        for target, value in zip(targets, found, strict=True):
            log_probs[target.query][target.prefix, target.token] = value


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
