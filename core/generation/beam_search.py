"""Beam search: the likeliest text, looked for by following several at once.

As transformers does it (https://huggingface.co/docs/transformers/main_classes/text_generation), so that the same
model gives the same texts: of twice as many candidates as beams, those among the first half that end are finished, the
best others go on, and a finished text's score is its log-probability divided by a power of its length.

Shapes: R rows (the beams of all prompts), V vocabulary.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.heads import Network
from ..tokenizers.text_stream import TextStream
from ..tokenizers.tokenizer import Tokenizer
from .decoding import (
    FinishReason,
    Generation,
    finish_reason,
    language_model,
    next_logits,
    read_prompts,
    room_after,
    seen_tokens,
)
from .generation_config import GenerationConfig
from .sampling import penalize


@dataclass(frozen=True)
class Beam:
    """A text on its way."""

    token_ids: tuple[int, ...]
    score: float  # its log-probability
    text: TextStream | None


class BeamHypotheses:
    """The beams of one prompt.

    Args:
        room: new tokens until the context is full.
        config: the search's options.
        end_of_text_id: the token that ends a text.
        tokenizer: for stop strings and text; none: no text.
    """

    def __init__(
        self, room: int, config: GenerationConfig, end_of_text_id: int | None, tokenizer: Tokenizer | None
    ) -> None:
        self.room = room
        self.config = config
        self.end_of_text_id = end_of_text_id
        text = None if tokenizer is None else TextStream(tokenizer, config.stop)
        self.running = [Beam((), 0.0, text)]
        self.finished: list[Generation] = []  # the best first
        self.open = True

    def advance(self, candidates: Sequence[tuple[float, int, int]]) -> list[int]:
        """Takes (log-probability, number of the beam, its next token), the best first; gives each new beam's parent.

        A new beam takes its parent's place if that is free, so that little of the cache has to move.
        """
        config = self.config
        going_on: list[tuple[int, Beam]] = []
        full = len(self.finished) == config.num_beams and config.early_stopping == "yes"
        for rank, (score, parent, token) in enumerate(candidates):
            beam = _extend(self.running[parent], token, score)
            count = len(beam.token_ids)
            reason = finish_reason(token, count, beam.text, self.room, config, self.end_of_text_id)
            if reason is None:
                going_on.append((parent, beam))
            elif rank < config.num_beams and not full:
                self.finished.append(self._finish(beam, reason))
        self.finished = sorted(self.finished, key=lambda one: one.score, reverse=True)[: config.num_beams]
        self.open = self._may_improve([beam for _, beam in going_on[: config.num_beams]])
        placed = _place(going_on[: config.num_beams], len(self.running))
        self.running = [beam for _, beam in placed]
        return [parent for parent, _ in placed]

    def _finish(self, beam: Beam, reason: FinishReason) -> Generation:
        score = beam.score / len(beam.token_ids) ** self.config.length_penalty
        return Generation("" if beam.text is None else beam.text.text, beam.token_ids, score, reason)

    def _may_improve(self, running: list[Beam]) -> bool:
        """Whether a running beam may become better than the worst finished text, as far as the options say."""
        if not running or len(self.finished) < self.config.num_beams:
            return bool(running)
        if self.config.early_stopping == "yes":
            return False
        length, penalty = len(running[0].token_ids), self.config.length_penalty
        if self.config.early_stopping == "never" and penalty > 0:
            length = min(self.config.max_new_tokens, self.room)  # where a log-probability is divided by the most
        return running[0].score / length**penalty > self.finished[-1].score


def _extend(beam: Beam, token: int, score: float) -> Beam:
    text = beam.text
    if text is not None:
        text = text.fork()
        text.push(token)
    return Beam((*beam.token_ids, token), score, text)


def _place(beams: list[tuple[int, Beam]], places: int) -> list[tuple[int, Beam]]:
    """The same beams, each at its parent's place where it is the first child."""
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
    network: Network,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    *,
    end_of_text_id: int | None,
    tokenizer: Tokenizer | None,
) -> Generator[None, None, list[list[Generation]]]:
    """Looks a token further at each step; returns for each prompt the best
    `config.num_return_sequences` texts, best first.

    Raises:
        HeadwayError: the network cannot generate.
    """
    model = language_model(network)
    searches = [BeamHypotheses(room_after(prompt, model), config, end_of_text_id, tokenizer) for prompt in prompts]
    cache, logits = read_prompts(network, prompts, room=0)
    seen = seen_tokens(prompts, logits) if config.repetition_penalty != 1 else None
    running, forked = searches, False
    while True:
        log_probabilities = logits.log_softmax(dim=-1)
        if seen is not None:
            log_probabilities = penalize(log_probabilities, seen, config.repetition_penalty)
        rows = _advance(running, log_probabilities)
        still_open = [search.open for search in running]
        running = [search for search in running if search.open]
        if not running:
            return [search.finished[: config.num_return_sequences] for search in searches]
        if forked:
            cache.reorder(rows)
        else:  # with room for as many beams as there may be, though fewer go on where stop strings end some at once
            room = max(1, min(config.max_new_tokens, max(search.room for search in searches)) - 1)
            cache = cache.fork([config.num_beams * one for one in still_open], capacity=room)
            starts = range(0, len(cache), config.num_beams)
            cache.reorder([start + i for start, s in zip(starts, running, strict=True) for i in range(len(s.running))])
            forked = True
        newest = [beam.token_ids[-1] for search in running for beam in search.running]
        if seen is not None:
            seen = seen[rows]
            seen[range(len(rows)), newest] = True
        yield
        logits = next_logits(network, cache, [[token] for token in newest])


def _advance(searches: Sequence[BeamHypotheses], log_probabilities: Tensor) -> list[int]:
    """Takes every search a token further, by (R, V); gives the row that each beam of those still open goes on from."""
    scores = torch.tensor([beam.score for search in searches for beam in search.running])
    totals = log_probabilities + scores.to(log_probabilities)[:, None]
    rows, first = [], 0
    for search, total in zip(searches, totals.split([len(search.running) for search in searches]), strict=True):
        best, places = total.flatten().topk(min(2 * search.config.num_beams, total.numel()))
        beams, tokens = places // total.shape[1], places % total.shape[1]
        parents = search.advance(list(zip(best.tolist(), beams.tolist(), tokens.tolist(), strict=True)))
        rows += [first + parent for parent in parents] if search.open else []
        first += len(total)
    return rows
