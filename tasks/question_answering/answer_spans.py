"""Finds the most probable answer spans of a context from the start and end logits of its windows.

Within a window, the score of a span is that of Devlin et al. 2019 (section 4.3): the start logit plus the end logit,
compared with the score of "no answer". A softmax ignores a constant added to all logits of its window, so the logits
of two windows cannot be compared, but the difference to "no answer" of the same window can. Assuming that the answer
is in at most one window, the probability of a span is exp(span - none) / (1 + the sum of exp(span - none) over all
spans of all windows), and that of no answer is 1 / the same sum. With a single window this is the plain softmax.

Each span is scored in one window only: the one in which its ends are farthest from a cut edge. The start and the end
of the context are not cut edges.

Shapes: n tokens of a sequence, m of them context tokens of a window, L maximum length of an answer.
"""

import math
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn import functional as F

# Spans of tokens that cover the same characters: a byte-level token may be a quarter of a character, at both ends.
MAX_EQUAL_SPANS = 16


@dataclass(frozen=True)
class AnswerSpan:
    """A span of a context and the probability that it is the answer."""

    text: str
    start: int  # text == context[start:end], in code points
    end: int
    score: float  # the probability, among all spans and no answer


@dataclass(frozen=True, eq=False)
class Passage:
    """A context as tokens, and the windows it is read in."""

    text: str
    starts: Sequence[int]  # of each token: text[start:end]
    ends: Sequence[int]
    windows: Sequence[range]  # the tokens of each window
    unread_tokens: int = 0  # tokens of question and context that are in no window
    question_truncated: bool = False
    missed: str | None = None  # why no gold answer can be predicted, if so

    def tokens_of(self, start: int, end: int) -> range:
        """The tokens that cover text[start:end]."""
        return range(bisect_right(self.ends, start), bisect_left(self.starts, end))

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """The text that two tokens and those between them cover: text[start:end].

        Combining marks after it that the tokenizer dropped belong to the last character.
        """
        start, end = self.starts[first], self.ends[last]
        stop = self.starts[last + 1] if last + 1 < len(self.starts) else len(self.text)
        while end < stop and unicodedata.category(self.text[end]) == "Mn":
            end += 1
        return start, end

    def blank(self, window: range) -> Tensor:
        """Which tokens of a window cover only spaces, (m,)."""
        return torch.tensor([not self.text[self.starts[i] : self.ends[i]].strip() for i in window])

    def scored_in(self, index: int, max_length: int) -> Tensor | None:
        """Which spans are scored in a window, (m, max_length) by first token and length; None: all."""
        window = self.windows[index]
        first = torch.arange(window.start, window.stop)[:, None]
        last = first + torch.arange(max_length)
        here = self._context(window, first, last)
        scored = None
        for i in self._overlapping(index):
            there = self._context(self.windows[i], first, last)
            wins = here > there if i < index else here >= there
            scored = wins if scored is None else scored & wins
        return scored

    def _overlapping(self, index: int) -> Iterator[int]:
        """The other windows that share tokens with a window."""
        window = self.windows[index]
        yield from takewhile(lambda i: self.windows[i].stop > window.start, range(index - 1, -1, -1))
        yield from takewhile(lambda i: self.windows[i].start < window.stop, range(index + 1, len(self.windows)))

    def _context(self, window: range, first: Tensor, last: Tensor) -> Tensor:
        """The distance of the nearer end of each span from a cut edge; negative outside of the window."""
        size = len(self.starts)
        left = torch.full_like(last, size) if window.start == 0 else (first - window.start).expand_as(last)
        right = torch.full_like(last, size) if window.stop == self.windows[-1].stop else window.stop - 1 - last
        return torch.minimum(left, right)


@dataclass(frozen=True, eq=False)
class ContextWindow:
    """A window of a passage in its sequence."""

    passage: Passage
    index: int  # among the windows of the passage
    first: int  # position of its first token in the sequence
    no_answer: int  # position of the token for "no answer"

    @property
    def tokens(self) -> range:
        """The passage's tokens in the window."""
        return self.passage.windows[self.index]

    def position(self, token: int) -> int:
        """The position of a token of the passage in the sequence."""
        return self.first + token - self.tokens.start


def best_spans(
    windows: Sequence[ContextWindow], logits: Sequence[Tensor], *, count: int, max_length: int, knows_none: bool
) -> tuple[list[AnswerSpan], float]:
    """The most probable spans in descending order, and the probability of no answer.

    Args:
        windows: all windows of a passage.
        logits: start and end logits of each window's sequence, (n, 2).
        count: the maximum number of spans.
        max_length: the maximum length of a span in tokens (L).
        knows_none: whether the model was trained with "no answer"; if not, logits are compared directly.
    """
    passage = windows[0].passage
    found: dict[tuple[int, int], float] = {}  # by characters
    totals = [torch.zeros((), dtype=torch.double)] if knows_none else []
    for window, output in zip(windows, logits, strict=True):
        if not window.tokens:
            continue
        scores = _span_scores(window, output, min(max_length, len(window.tokens)), knows_none)
        totals.append(scores.flatten().logsumexp(0))
        best, indices = scores.flatten().topk(min(count * MAX_EQUAL_SPANS, scores.numel()))
        for score, index in zip(best.tolist(), indices.tolist(), strict=True):
            if score == -math.inf:
                break  # there are fewer spans
            first, more = divmod(int(index), scores.shape[1])
            first += window.tokens.start
            characters = passage.characters(first, first + more)
            if score > found.get(characters, -math.inf):
                found[characters] = score
    if not found:
        return [], 1.0
    total = torch.stack(totals).logsumexp(0).item()
    ranked = sorted(found, key=lambda characters: (-found[characters], characters))[:count]
    spans = [
        AnswerSpan(passage.text[start:end], start, end, math.exp(found[start, end] - total)) for start, end in ranked
    ]
    return spans, math.exp(-total) if knows_none else 0.0


def _span_scores(window: ContextWindow, output: Tensor, max_length: int, knows_none: bool) -> Tensor:
    """The log-odds of each span against "no answer", (m, max_length) by first token and length; -inf: no span."""
    passage, tokens = window.passage, window.tokens
    output = output.double()
    logits = output[window.first : window.first + len(tokens)].masked_fill(passage.blank(tokens)[:, None], -torch.inf)
    starts, ends = logits.unbind(-1)  # (m,) each
    ends = F.pad(ends, (0, max_length - 1), value=-torch.inf).unfold(0, max_length, 1)  # (m, max_length)
    scores = starts[:, None] + ends
    if knows_none:
        scores = scores - output[window.no_answer].sum()
    scored = passage.scored_in(window.index, max_length)
    return scores if scored is None else scores.masked_fill(~scored, -torch.inf)
