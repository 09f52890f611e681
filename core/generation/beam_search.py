"""Beam search: the most likely text, found by extending several candidates in parallel.

As in transformers (https://huggingface.co/docs/transformers/main_classes/text_generation), so that the same model
gives the same texts: of twice as many candidates as beams, those in the better half that end are finished, and the
best others are extended. The score of a finished text is its log-probability divided by a power of its length.

Shapes: R rows (the beams of all prompts), V vocabulary.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

import torch
from torch import Tensor

from ..models.cache import KVCache
from ..models.gpt2 import GPT2
from ..models.transfers import is_asynchronous, send, to_device
from ..tokenizers.text_stream import TextStream
from .decoding import (
    FinishReason,
    Generation,
    TextGenerator,
    next_logits,
    prefill,
    read_tokens,
    seen_tokens,
    select_rows,
)
from .sampling import forbid_repeats, penalize


@dataclass(frozen=True)
class Beam:
    """A text that is being generated."""

    token_ids: tuple[int, ...]
    score: float  # log-probability
    stream: TextStream | None

    def extended(self, token: int, score: float) -> "Beam":
        """This beam with another token."""
        stream = self.stream
        if stream is not None:
            stream = stream.fork()
            stream.push(token)
        return Beam((*self.token_ids, token), score, stream)


class BeamHypotheses:
    """The beams of one prompt, running and finished.

    Args:
        prompt: token ids.
        generator: the model and its options.
    """

    def __init__(self, prompt: Sequence[int], generator: TextGenerator) -> None:
        self.prompt, self.generator = prompt, generator
        self.config = generator.config
        self.max_tokens = generator.max_tokens(prompt)
        self.running = [Beam((), 0.0, generator.new_stream())]
        self.finished: list[Generation] = []  # best first
        self.is_open = True

    def advance(self, candidates: Sequence[tuple[float, int, int]]) -> list[int]:
        """Extends the beams by one token.

        Args:
            candidates: log-probability, index of the beam and its next token; best first.

        Returns:
            For each new beam, the index of the beam that it extends. A new beam takes the place of that beam if it is
            free, so that few rows of the cache are copied.
        """
        num_beams = self.config.num_beams
        running: list[tuple[int, Beam]] = []
        is_full = len(self.finished) == num_beams and self.config.early_stopping == "yes"
        for rank, (score, parent, token) in enumerate(candidates):
            beam = self.running[parent].extended(token, score)
            reason = self.generator.finish_reason(token, len(beam.token_ids), beam.stream, self.max_tokens)
            if reason is None:
                running.append((parent, beam))
            elif rank < num_beams and not is_full:
                self.finished.append(self._finish(beam, reason))
        running = running[:num_beams]
        self.finished = sorted(self.finished, key=attrgetter("score"), reverse=True)[:num_beams]
        self.is_open = self._may_improve([beam for _, beam in running])
        placed = _place(running, len(self.running))
        self.running = [beam for _, beam in placed]
        return [parent for parent, _ in placed]

    def _finish(self, beam: Beam, reason: FinishReason) -> Generation:
        score = beam.score / len(beam.token_ids) ** self.config.length_penalty
        return Generation("" if beam.stream is None else beam.stream.text, beam.token_ids, score, reason)

    def _may_improve(self, running: list[Beam]) -> bool:
        """Whether `early_stopping` allows that a running beam becomes better than the worst finished text."""
        if not running or len(self.finished) < self.config.num_beams:
            return bool(running)
        if self.config.early_stopping == "yes":
            return False
        length, penalty = len(running[0].token_ids), self.config.length_penalty
        if self.config.early_stopping == "never" and penalty > 0:
            length = min(self.config.max_new_tokens, self.max_tokens)  # the length with the best possible score
        return running[0].score / length**penalty > self.finished[-1].score


def _place(beams: list[tuple[int, Beam]], places: int) -> list[tuple[int, Beam]]:
    """Orders (parent, beam) so that the first child of each parent is at the index of the parent."""
    placed: list[tuple[int, Beam] | None] = [None] * places
    others = []
    for parent, beam in beams:
        if placed[parent] is None:
            placed[parent] = (parent, beam)
        else:
            others.append((parent, beam))
    filled = [(others.pop(0) if others else None) if one is None else one for one in placed]
    return [one for one in filled if one is not None] + others


@torch.inference_mode()
def beam_search(
    generator: TextGenerator, prompts: Sequence[Sequence[int]]
) -> Generator[None, None, list[list[Generation]]]:
    """Searches for the most likely continuations of prompts, one token per step.

    Args:
        generator: the model and its options.
        prompts: token ids, checked by `TextGenerator.check`.

    Returns:
        For each prompt the best `num_return_sequences` texts, best first.

    Raises:
        HeadwayError: the network cannot generate.
    """
    config = generator.config
    searches = [BeamHypotheses(prompt, generator) for prompt in prompts]
    is_forked = not isinstance(generator.model, GPT2)  # an encoder-decoder's cache has room for all beams
    capacity = _capacity(searches) if is_forked else 0
    cache, logits = prefill(generator.network, prompts, capacity=capacity, copies=config.num_beams)
    written = [generator.written(prompt) for prompt in prompts]
    seen = seen_tokens(written, logits) if config.repetition_penalty != 1 else None
    running = searches
    while True:
        log_probabilities = logits.log_softmax(dim=-1)
        if seen is not None:
            log_probabilities = penalize(log_probabilities, seen, config.repetition_penalty)
        if config.no_repeat_ngram_size is not None:
            texts = ([*search.prompt, *beam.token_ids] for search in running for beam in search.running)
            log_probabilities = forbid_repeats(log_probabilities, texts, config.no_repeat_ngram_size)
        rows = _advance(running, log_probabilities)
        is_open = [search.is_open for search in running]
        running = [search for search in running if search.is_open]
        if not running:
            return [search.finished[: config.num_return_sequences] for search in searches]
        if is_forked:
            cache.reorder(rows)
        else:
            cache, is_forked = _fork(cache, running, is_open), True
        newest = [beam.token_ids[-1] for search in running for beam in search.running]
        if seen is not None:
            seen = select_rows(seen, rows)
            seen[send(seen.device, range(len(rows)), newest)] = True
        yield
        logits = next_logits(generator.network, cache, [[token] for token in newest])


def _fork(cache: KVCache, running: Sequence[BeamHypotheses], is_open: Sequence[bool]) -> KVCache:
    """The cache of the first beams of each open prompt, with rows for all later ones.

    There are fewer first beams than `num_beams` if some candidates end at once.
    """
    config = running[0].config
    cache = cache.fork([config.num_beams * one for one in is_open], capacity=_capacity(running))
    starts = range(0, len(cache), config.num_beams)
    cache.reorder([start + i for start, s in zip(starts, running, strict=True) for i in range(len(s.running))])
    return cache


def _capacity(searches: Sequence[BeamHypotheses]) -> int:
    """Maximum number of new tokens in the cache; the last one is never an input."""
    longest = max(search.max_tokens for search in searches)
    return max(1, min(searches[0].config.max_new_tokens, longest) - 1)


def _advance(searches: Sequence[BeamHypotheses], log_probabilities: Tensor) -> list[int]:
    """Extends all beams by one token.

    Args:
        searches: the open searches, with R running beams.
        log_probabilities: of the next token, (R, V).

    Returns:
        For each new beam of the searches that are still open, the row of the beam that it extends.
    """
    counts = [len(search.running) for search in searches]
    scores = torch.tensor([beam.score for search in searches for beam in search.running])
    totals = log_probabilities + to_device(scores, log_probabilities.device)[:, None]
    best = _best_candidates(totals, counts, 2 * searches[0].config.num_beams)
    rows, first = [], 0
    for search, count, candidates in zip(searches, counts, best, strict=True):
        parents = search.advance(candidates)
        rows += [first + parent for parent in parents] if search.is_open else []
        first += count
    return rows


def _best_candidates(totals: Tensor, counts: Sequence[int], number: int) -> list[list[tuple[float, int, int]]]:
    """The best candidates of each search: log-probability, index of the beam and its next token; best first.

    Args:
        totals: log-probability of every beam with every next token, (R, V).
        counts: the number of beams of each search.
        number: maximum number of candidates per search.
    """
    together = (
        is_asynchronous(totals.device) and len(set(counts)) == 1
    )  # the CPU takes longer for several rows at once
    parts = [totals.view(len(counts), -1)] if together else [part.view(1, -1) for part in totals.split(counts)]
    best = [part.topk(min(number, part.shape[1])) for part in parts]
    indices = torch.cat([one.indices.flatten() for one in best])
    found = zip(*read_tokens(indices, torch.cat([one.values.flatten() for one in best])), strict=True)
    vocab_size = totals.shape[1]
    return [
        [(score, *divmod(index, vocab_size)) for index, score in islice(found, min(number, count * vocab_size))]
        for count in counts
    ]
