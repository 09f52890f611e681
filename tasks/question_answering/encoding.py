"""Token sequences of questions with the windows of their contexts, and the gold answers in them.

BERT reads `[CLS] question [SEP] context [SEP]`, GPT-2 `question <|endoftext|> context <|endoftext|>`. "No answer" is
trained as an answer at BERT's `[CLS]` or at GPT-2's last token, the only one that has read both texts. The target of a
window is the first gold answer if the window contains all of it, else "no answer".
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..data.features import Features
from ..data.windows import Windowing
from .answer_spans import ContextWindow, Passage
from .predictions import QuestionExample

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer

TOKENIZER_BATCH = 250  # texts per call of the tokenizer, which returns more than is kept


class TextTokens(NamedTuple):
    """The tokens of a text and their offsets; arrays, because a list of pairs takes fifteen times the memory."""

    ids: list[int]
    starts: "array[int]"
    ends: "array[int]"


class QuestionEncoder:
    """Encodes questions and contexts.

    Args:
        tokenizer: of the model.
        limit: the longest sequence in tokens, special tokens included.
        windowing: how a context is divided if this number of tokens is left beside the question.
        max_answer_length: the longest predicted answer in tokens.
    """

    def __init__(
        self, tokenizer: "Tokenizer", limit: int, windowing: Callable[[int], Windowing], max_answer_length: int
    ) -> None:
        self.tokenizer, self.windowing = tokenizer, windowing
        self.max_answer_length = max_answer_length
        self.framed = bool(tokenizer.framing.before)  # else the end of text is put after the context
        self.special = tokenizer.num_special(pair=True) + (0 if self.framed else 1)
        self.room = limit - self.special

    def encode(self, examples: Sequence[QuestionExample]) -> list[Features]:
        """One sequence for each window of a context.

        If question and context do not fit together, the question is truncated to half of the room.
        """
        questions = _tokenize(self.tokenizer, [example.question for example in examples])
        contexts = _tokenize(self.tokenizer, [example.context for example in examples])
        return [
            features
            for i, example in enumerate(examples)
            for features in self._encode(i, example, questions[example.question].ids, contexts[example.context])
        ]

    def _encode(
        self, number: int, example: QuestionExample, question: list[int], context: TextTokens
    ) -> list[Features]:
        length = len(question) + len(context.ids)
        kept = question if length <= self.room else question[: max(self.room // 2, self.room - len(context.ids))]
        windowing = self.windowing(self.room - len(kept))
        windows = windowing.divide(len(context.ids))
        passage = Passage(
            example.context,
            context.starts,
            context.ends,
            windows,
            unread_tokens=length - len(kept) - windows[-1].stop,
            question_truncated=len(kept) < len(question),
        )
        gold = _gold_tokens(example, passage)
        passage = replace(passage, missed=self._missed(passage, gold, windowing))
        features = []
        for index, tokens in enumerate(windows):
            ids, segments = self.tokenizer.join(kept, context.ids[tokens.start : tokens.stop])
            if not self.framed:
                assert self.tokenizer.end_of_text_id is not None
                ids, segments = [*ids, self.tokenizer.end_of_text_id], [*segments, 1]
            no_answer = 0 if self.framed else len(ids) - 1
            window = ContextWindow(passage, index, len(ids) - 1 - len(tokens), no_answer)
            target = _target(example, gold, window)
            features.append(
                Features(
                    number,
                    ids,
                    segments,
                    length + self.special,
                    target,
                    window,
                    num_omitted=len(question) - len(kept),
                )
            )
        return features

    def _missed(self, passage: Passage, gold: Sequence[range], windowing: Windowing) -> str | None:
        """Why no gold answer can be predicted; None if one can, or if the context has no answer."""
        whole = [tokens for tokens in gold if any(_is_inside(tokens, window) for window in passage.windows)]
        if not gold or any(len(tokens) <= self.max_answer_length for tokens in whole):
            return None
        if whole:
            return (
                f"the answer is longer than {self.max_answer_length} tokens (--max-answer-length) and counts as missed"
            )
        if windowing.long_texts == "cut":
            return "the answer is truncated and counts as missed"
        return (
            "no window contains the whole answer, so it counts as missed; increase --overlap, or --max-length if "
            "the model reads more"
        )


def _tokenize(tokenizer: "Tokenizer", texts: Sequence[str]) -> dict[str, TextTokens]:
    """The tokens of each different text; many questions share a context."""
    unique = list(dict.fromkeys(texts))
    found = {}
    for start in range(0, len(unique), TOKENIZER_BATCH):
        batch = unique[start : start + TOKENIZER_BATCH]
        for text, encoding in zip(batch, tokenizer.encode_batch(batch), strict=True):
            starts = array("l", [start for start, _ in encoding.offsets])
            ends = array("l", [end for _, end in encoding.offsets])
            found[text] = TextTokens(encoding.ids, starts, ends)
    return found


def _gold_tokens(example: QuestionExample, passage: Passage) -> list[range]:
    """The tokens of the gold answers that are found in the context."""
    found = []
    for answer in example.answers or ():
        if answer.start is not None and answer.end is not None:
            found.append(passage.tokens_of(answer.start, answer.end))
    return [tokens for tokens in found if tokens]


def _target(example: QuestionExample, gold: Sequence[range], window: ContextWindow) -> tuple[int, int] | None:
    """The positions of the start and the end of the first gold answer; None if they are unknown."""
    if example.answers is None or (example.answers and not gold):
        return None
    if not gold or not _is_inside(gold[0], window.tokens):
        return window.no_answer, window.no_answer
    return window.position(gold[0].start), window.position(gold[0].stop - 1)


def _is_inside(tokens: range, window: range) -> bool:
    return window.start <= tokens.start and tokens.stop <= window.stop
