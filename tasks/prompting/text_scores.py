"""Computes the log-likelihood of whole texts as continuations with GPT-2, many texts at once.

Unlike labels (label_scores.py), texts rarely share prefixes and have many tokens: each is computed once on top of its
query, texts of similar length together.

Memory: that of forward_passes.py, and keys and values of up to `batch_tokens` tokens of texts. A longer text is
computed alone.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import torch

from ...core.models.heads import Network
from .forward_passes import SCORING_BATCH_TOKENS, Context, ForwardPasses, QueryBatch, batches


@torch.inference_mode()
def text_log_likelihoods(
    network: Network, contexts: Sequence[Context], *, batch_tokens: int = SCORING_BATCH_TOKENS
) -> list[list[list[float]]]:
    """The log-likelihood of every text, for each context, each of its queries and each text that may follow.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        contexts: each with its queries, whose `labels` are the texts; an empty text has the log-likelihood 0. Context,
            query and text together fit into the model's positions.
        batch_tokens: tokens per forward pass.

    Raises:
        HeadwayError: the network is not a language model.
    """
    passes = ForwardPasses(network, batch_tokens)
    scores: dict[tuple[int, int], list[float]] = {}
    for batch in passes.queries(contexts):
        scores.update(zip(batch.keys, _score(passes, batch), strict=True))
    return [[scores[i, j] for j in range(len(context.queries))] for i, context in enumerate(contexts)]


def _score(passes: ForwardPasses, batch: QueryBatch) -> list[list[float]]:
    texts = [(row, text) for row, query in enumerate(batch.queries) for text in query.labels]
    rows = [row for row, text in texts if text]
    firsts = iter(passes.log_probs(batch.hidden, rows, [text[0] for _, text in texts if text]))
    scores = [next(firsts) if text else 0.0 for _, text in texts]
    longer = [i for i, (_, text) in enumerate(texts) if len(text) > 1]
    for chosen in batches([len(texts[i][1]) - 1 for i in longer], passes.batch_tokens):
        members = sorted(longer[n] for n in chosen)  # in the order of the rows that they extend
        read = [texts[i][1][:-1] for i in members]
        counts = Counter(texts[i][0] for i in members)
        fork = batch.cache.fork([counts[row] for row in range(len(batch.queries))], capacity=max(map(len, read)))
        hidden = passes.forward(fork, read)
        targets = list(chain.from_iterable(texts[i][1][1:] for i in members))
        found = iter(passes.log_probs(hidden[: len(targets)], range(len(targets)), targets))
        for i, ids in zip(members, read, strict=True):
            scores[i] += sum(next(found) for _ in ids)
    values = iter(scores)
    return [[next(values) for _ in query.labels] for query in batch.queries]
