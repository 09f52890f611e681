"""How likely GPT-2 thinks each of some labels is as the continuation of a text, many texts and labels at once.

Brown et al. 2020, "Language Models are Few-Shot Learners" (https://arxiv.org/abs/2005.14165, section 2.4): of several
answers the one that the model finds likeliest is chosen. A label is as likely as its tokens are together, each after
those before it.

What texts have in common (a description, worked examples) is their context: it goes through the model once. Every text
goes through it once on top of its context, every label once on top of its text: without its last token, which nothing
follows, and without what another label begins with as well. So a label of one token costs nothing beyond its text.

Memory: keys and values of up to three times `tokens_at_once` tokens (contexts, texts, labels), what a forward pass
over so many tokens takes, and LOGITS_AT_ONCE numbers. A context, text or label longer than that is read alone.

Shapes: N tokens or texts, C hidden size, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...core.generation.decoding import language_model
from ...core.models.cache import KVCache
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Network

TOKENS_AT_ONCE = 2048
LOGITS_AT_ONCE = 2**24

Label = tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """A text, and the labels that may continue it."""

    input_ids: tuple[int, ...]  # at least one token, without the context
    labels: tuple[Label, ...]  # the tokens of each label, at least one

    @property
    def length(self) -> int:
        """Tokens that are read at most, the context not counted."""
        return len(self.input_ids) + max(map(len, self.labels)) - 1


@dataclass(frozen=True)
class Context:
    """What some texts have before them."""

    input_ids: tuple[int, ...]  # none is possible
    choices: tuple[Choice, ...]


@torch.inference_mode()
def label_log_likelihoods(
    network: Network, contexts: Sequence[Context], *, tokens_at_once: int = TOKENS_AT_ONCE
) -> list[list[list[float]]]:
    """The log-likelihood of every label: for each context, for each of its choices, for each label.

    Args:
        network: GPT-2 with its language-model head, in eval mode.
        contexts: with their texts; the model's positions suffice for each context with text and label.
        tokens_at_once: in one forward pass.

    Raises:
        HeadwayError: the network is no language model.
    """
    model = language_model(network)
    found: dict[tuple[int, int], list[float]] = {}
    for members in _context_batches(contexts, tokens_at_once):
        cache = None
        if contexts[members[0]].input_ids:
            sequences = [contexts[i].input_ids for i in members]
            cache = KVCache.of(model, rows=len(members), room=max(map(len, sequences)))
            _read(model, cache, sequences)
        places = [(i, j) for i in members for j in range(len(contexts[i].choices))]
        choices = [contexts[i].choices[j] for i, j in places]
        row_of = {i: row for row, i in enumerate(members)}
        for batch in _batches([len(choice.input_ids) for choice in choices], tokens_at_once):
            batch.sort(key=lambda n: row_of[places[n][0]])  # rows stand in the order of what they stand on
            rows = [row_of[places[n][0]] for n in batch]
            scores = _score(network, model, cache, rows, [choices[n] for n in batch], tokens_at_once)
            found.update(zip([places[n] for n in batch], scores, strict=True))
    return [[found[i, j] for j in range(len(context.choices))] for i, context in enumerate(contexts)]


def _context_batches(contexts: Sequence[Context], budget: int) -> Iterator[list[int]]:
    """Contexts that are read together; those without a token apart, since there is nothing to read."""
    for empty in (True, False):
        chosen = [i for i, context in enumerate(contexts) if context.choices and (not context.input_ids) == empty]
        for batch in _batches([len(contexts[i].input_ids) for i in chosen], budget):
            yield [chosen[n] for n in batch]


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions, the longest first, so many at a time that all of them at the longest one's length are within it."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _read(model: GPT2, cache: KVCache, sequences: Sequence[Sequence[int]]) -> Tensor:
    """The hidden states of new tokens, (N, C)."""
    return model(cache.extend(sequences), cache=cache)


def _score(
    network: Network,
    model: GPT2,
    context: KVCache | None,
    rows: Sequence[int],
    choices: Sequence[Choice],
    budget: int,
) -> list[list[float]]:
    """The labels' log-likelihoods on some texts, each of which stands on a row of the context."""
    texts = [choice.input_ids for choice in choices]
    room = max(map(len, texts))
    if context is None:
        cache = KVCache.of(model, rows=len(texts), room=room)
    else:
        counts = Counter(rows)
        cache = context.fork([counts[row] for row in range(len(context))], room=room)
    hidden = _read(model, cache, texts)
    last = torch.tensor([len(text) for text in texts], device=hidden.device).cumsum(0) - 1
    trees = [_tree(choice.labels) for choice in choices]
    values: list[dict[tuple[Label, int], float]] = [{} for _ in choices]
    asked = [(i, (), token) for i, tree in enumerate(trees) for token in tree.asked[()]]
    _note(network, hidden[last], [i for i, *_ in asked], asked, values)

    # Labels' beginnings of one length at a time: attention then takes those of many texts in one call.
    for length in sorted({len(row) for tree in trees for row in tree.rows}):
        beginnings = [(i, row) for i, tree in enumerate(trees) for row in tree.rows if len(row) == length]
        at_once = max(1, budget // length)
        for start in range(0, len(beginnings), at_once):
            part = beginnings[start : start + at_once]
            counts = Counter(i for i, _ in part)
            fork = cache.fork([counts[i] for i in range(len(choices))], room=length)
            hidden = _read(model, fork, [row for _, row in part])
            asked, places = [], []
            for n, (i, row) in enumerate(part):
                for end in range(1, length + 1):
                    for token in trees[i].asked[row[:end]] if trees[i].holder[row[:end]] == row else ():
                        asked.append((i, row[:end], token))
                        places.append(n * length + end - 1)
            wanted = sorted(set(places))
            position = {place: at for at, place in enumerate(wanted)}
            _note(network, hidden[wanted], [position[place] for place in places], asked, values)
    return [
        [sum(of_text[label[:i], label[i]] for i in range(len(label))) for label in choice.labels]
        for choice, of_text in zip(choices, values, strict=True)
    ]


def _note(
    network: Network,
    hidden: Tensor,
    places: Sequence[int],
    asked: Sequence[tuple[int, Label, int]],
    values: list[dict[tuple[Label, int], float]],
) -> None:
    """Computes the log-probabilities that are asked for and keeps them.

    Args:
        network: with the head.
        hidden: the vectors that tokens are asked of, (N, C).
        places: which of them, rising; one for each that is asked for.
        asked: (text, beginning of the label, next token).
        values: text -> (beginning of the label, next token) -> log-probability.
    """
    assert network.head is not None
    start = 0
    at_once = max(1, LOGITS_AT_ONCE // network.config.vocab_size)
    for first in range(0, len(hidden), at_once):
        logits = network.head(hidden[first : first + at_once]).float()
        end = start
        while end < len(places) and places[end] < first + at_once:
            end += 1
        rows = torch.tensor(places[start:end], device=logits.device) - first
        tokens = torch.tensor([token for *_, token in asked[start:end]], device=logits.device)
        found = (logits[rows, tokens] - logits.logsumexp(dim=-1)[rows]).tolist()
        for (text, before, token), value in zip(asked[start:end], found, strict=True):
            values[text][before, token] = value
        start = end


@dataclass(frozen=True)
class _Tree:
    """What has to be read for some labels, and which tokens are asked for after which beginning."""

    rows: tuple[Label, ...]  # beginnings that are read; all others are the beginning of one of them
    holder: dict[Label, Label]  # in which row a beginning is
    asked: dict[Label, tuple[int, ...]]


@lru_cache(maxsize=4096)
def _tree(labels: tuple[Label, ...]) -> _Tree:
    following: dict[Label, dict[int, None]] = {}
    for label in labels:
        for i, token in enumerate(label):
            following.setdefault(label[:i], {})[token] = None
    inner = following.keys() - {()}
    rows = tuple(sorted(inner - {beginning[:-1] for beginning in inner}))
    holder = {row[:end]: row for row in rows for end in range(1, len(row) + 1)}
    return _Tree(rows, holder, {beginning: tuple(tokens) for beginning, tokens in following.items()})
