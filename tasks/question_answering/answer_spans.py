"""The best spans of a text that was read in windows, from how well an answer would start and end at each token.

Within a window the scores are those of Devlin et al. 2019 (section 4.3): the start's logit plus the end's, against
the "no answer" of the token that stands for it. A softmax does not see what is added to all logits of its window, so
logits of two windows cannot be compared; how much surer than its own window's "no answer" a span is, can. Taking the
answer to be in one window at most, the probability of a span is exp(span - none) over one plus the sum of these over
all spans of all windows, and that of no answer is one over the same. With a single window that is the plain softmax.

Every span has its say in one window only: the one in which its nearer end stands farthest from a cut edge (the very
beginning and end of the text are no cut edges).

Shapes: n tokens of a sequence, m of them in a window of the text, L the longest answer in tokens.
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

# Spans of tokens that stand for the same characters: a byte-level token may be a quarter of one, at either end.
MOST_ALIKE = 16


@dataclass(frozen=True)
class Span:
    """A part of a text, and how likely it is the answer."""

    text: str
    start: int  # text == context[start:end], in code points
    end: int
    score: float  # its probability, among all spans and no answer


@dataclass(frozen=True, eq=False)
class Passage:
    """A text as tokens, and the windows it is read in."""

    text: str
    starts: Sequence[int]  # of each token: text[start:end] is its part
    ends: Sequence[int]
    parts: Sequence[range]  # the tokens of each window

    def tokens_of(self, start: int, end: int) -> range:
        """The tokens that stand for text[start:end], or for more where it begins or ends inside one."""
        return range(bisect_right(self.ends, start), bisect_left(self.starts, end))

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """What the tokens from `first` to `last` stand for: text[start:end].

        The accents after it that the tokenizer leaves out belong to the last character.
        """
        start, end = self.starts[first], self.ends[last]
        stop = self.starts[last + 1] if last + 1 < len(self.starts) else len(self.text)
        while end < stop and unicodedata.category(self.text[end]) == "Mn":
            end += 1
        return start, end

    def blank(self, part: range) -> Tensor:
        """Which of a window's tokens stand for spaces alone, (m,)."""
        return torch.tensor([not self.text[self.starts[i] : self.ends[i]].strip() for i in part])

    def own(self, index: int, reach: int) -> Tensor | None:
        """Which spans have their say in a window, (m, reach) by first token and length; None where all have."""
        part = self.parts[index]
        first = torch.arange(part.start, part.stop)[:, None]
        last = first + torch.arange(reach)
        here = self._context(part, first, last)
        own = None
        for i in self._neighbours(index):
            there = self._context(self.parts[i], first, last)
            wins = here > there if i < index else here >= there
            own = wins if own is None else own & wins
        return own

    def _neighbours(self, index: int) -> Iterator[int]:
        """The windows that share tokens with a window."""
        part = self.parts[index]
        yield from takewhile(lambda i: self.parts[i].stop > part.start, range(index - 1, -1, -1))
        yield from takewhile(lambda i: self.parts[i].start < part.stop, range(index + 1, len(self.parts)))

    def _context(self, part: range, first: Tensor, last: Tensor) -> Tensor:
        """How far the nearer end of each span is from a cut edge of a window; below 0 where it is not inside."""
        size = len(self.starts)
        left = torch.full_like(last, size) if part.start == 0 else (first - part.start).expand_as(last)
        right = torch.full_like(last, size) if part.stop == self.parts[-1].stop else part.stop - 1 - last
        return torch.minimum(left, right)


@dataclass(frozen=True, eq=False)
class Window:
    """Where a window of a passage stands in its sequence."""

    passage: Passage
    index: int  # of the passage's parts
    first: int  # the position in the sequence of its first token
    none: int  # the position of the token that stands for "no answer"

    @property
    def part(self) -> range:
        """The passage's tokens that are in it."""
        return self.passage.parts[self.index]


def best_spans(
    windows: Sequence[Window], logits: Sequence[Tensor], *, count: int, longest: int, knows_none: bool
) -> tuple[list[Span], float]:
    """The likeliest spans, best first, and the probability that there is none.

    Args:
        windows: all windows of a passage.
        logits: of each window's sequence, start and end, (n, 2).
        count: how many spans at most.
        longest: the longest span in tokens (L).
        knows_none: whether the model has learnt a "no answer"; if not, logits are compared as they are.
    """
    passage = windows[0].passage
    found: dict[tuple[int, int], float] = {}  # by characters
    totals = [torch.zeros((), dtype=torch.double)] if knows_none else []
    for window, output in zip(windows, logits, strict=True):
        part = window.part
        if not part:
            continue
        scores = _span_scores(window, output, min(longest, len(part)), knows_none)
        totals.append(scores.flatten().logsumexp(0))
        best, places = scores.flatten().topk(min(count * MOST_ALIKE, scores.numel()))
        for score, place in zip(best.tolist(), places.tolist(), strict=True):
            if score == -math.inf:
                break  # there are fewer spans than were asked for
            first, more = divmod(int(place), scores.shape[1])
            first += part.start
            characters = passage.characters(first, first + more)
            if score > found.get(characters, -math.inf):
                found[characters] = score
    if not found:
        return [], 1.0
    total = torch.stack(totals).logsumexp(0).item()
    ranked = sorted(found, key=lambda characters: (-found[characters], characters))[:count]
    spans = [Span(passage.text[start:end], start, end, math.exp(found[start, end] - total)) for start, end in ranked]
    return spans, math.exp(-total) if knows_none else 0.0


def _span_scores(window: Window, output: Tensor, reach: int, knows_none: bool) -> Tensor:
    """The log-odds of each span against "no answer", (m, reach) by first token and length; -inf: not possible."""
    passage, part = window.passage, window.part
    output = output.double()
    logits = output[window.first : window.first + len(part)].masked_fill(passage.blank(part)[:, None], -torch.inf)
    starts, ends = logits.unbind(-1)  # (m,) each
    ahead = F.pad(ends, (0, reach - 1), value=-torch.inf).unfold(0, reach, 1)  # (m, reach)
    scores = starts[:, None] + ahead
    if knows_none:
        scores = scores - output[window.none].sum()
    own = passage.own(window.index, reach)
    return scores if own is None else scores.masked_fill(~own, -torch.inf)
