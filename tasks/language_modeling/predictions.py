"""Predictions of language models: filled masks, continuations, and the loss of held-out text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..base.display import DisplayElement, Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction

MASK = "[MASK]"
MASKS = re.compile(r"\[MASK\]|<mask>")  # as BERT and RoBERTa spell it; either one stands for a mask of any model


@dataclass(frozen=True)
class MaskCandidate:
    """A token that may replace a mask."""

    word: str
    score: float  # its probability


@dataclass(frozen=True)
class FilledMasks(Prediction):
    """The most likely tokens for every mask of a text, most likely first."""

    text: str  # with the most likely token in place of each mask
    masks: tuple[tuple[MaskCandidate, ...], ...]

    @property
    def brief(self) -> str:
        """The most likely tokens of each mask."""
        if not self.masks:
            return f"no {MASK} in the text"
        return " | ".join(", ".join(f"{one.word} {one.score:.2f}" for one in tokens) for tokens in self.masks)

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The text with its masks filled, and the most likely tokens of each mask."""
        if not self.masks:
            return (Text(self.brief, f"Write {MASK} where a word is missing."),)
        first, *rest = MASKS.split(texts.get("text", ""))
        filled, highlights = first, []
        for candidates, following in zip(self.masks, rest, strict=False):
            word = candidates[0].word.removeprefix("##")
            highlights.append(Highlight(len(filled), len(filled) + len(word)))
            filled += word + following
        filled += "".join(MASK + following for following in rest[len(self.masks) :])
        bars = [
            ScoreBars(
                tuple(ScoreBar(one.word, one.score, chosen=not i) for i, one in enumerate(candidates)),
                f"Mask {number}" if len(self.masks) > 1 else "",
            )
            for number, candidates in enumerate(self.masks, start=1)
        ]
        return HighlightedText(filled, tuple(highlights)), *bars


@dataclass(frozen=True)
class Continuation(Prediction):
    """The text that a model generates after a prompt."""

    continuation: str
    finished: bool  # whether the model ended the text itself

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The prompt, followed by the highlighted continuation."""
        text = texts.get("text", "")
        return (HighlightedText(text + self.continuation, (Highlight(len(text), len(text + self.continuation)),)),)


@dataclass(frozen=True)
class SequenceLoss(Prediction):
    """How well a model predicts the target tokens of a held-out sequence."""

    loss: float  # the sum over the target tokens, in nats
    num_targets: int
    num_correct: int  # targets that are the most likely token
    num_bytes: int  # UTF-8 bytes of the document for its first sequence, else 0
    next_sentence_correct: bool | None = None  # None without next-sentence prediction
    # The sum of the losses and their number at the positions 0, 1, 2 to 3, 4 to 7, ...
    by_position: tuple[tuple[float, int], ...] = field(default=(), repr=False)
