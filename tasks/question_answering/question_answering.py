"""Extractive question answering: the answer is a span of the context, or there is no answer.

Start and end scores over the context (Devlin et al. 2019, sections 4.2 and 4.3). A long context is read in overlapping
windows; in training, each window is a sequence by itself (encoding.py). answer_spans.py combines the scores of the
windows.

Shapes: B sequences in a packed batch, n tokens of a sequence, T tokens in all.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ...core.checkpoints.families.registry import model_of
from ...core.errors import HeadwayError
from ...core.models.heads import SpanHead
from ...core.options import option
from ..base.card_text import CardText
from ..base.explanation import ExplainableOutput, TokenizedWord
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.examples import ExampleWarning, Field
from ..data.features import Features, group_windows
from ..data.findings import count
from ..data.labels import map_valid
from ..data.places import format_places, shorten
from ..data.rows import Table
from ..data.windows import Windowing
from .answer_spans import AnswerSpan, best_spans
from .answers import CORRECTED
from .card import question_answering_card
from .encoding import QuestionEncoder
from .evaluation import AnswerEvaluation
from .explanation import explainable_answers
from .predictions import AnswerPrediction, QuestionExample
from .question_rows import answers_reader, question_reader, unanswered_checker
from .squad_file import squad_predictions
from .squad_scores import answer_scores, best_no_answer_threshold

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets
    from ..data.rows import RowStream

MIN_QUESTIONS = 5  # held-out questions with an answer, and without, to fit the threshold
SMALLEST_FLOAT = 5e-324


@dataclass(frozen=True)
class QuestionAnswering(AnswerEvaluation, Task[QuestionExample, AnswerPrediction]):
    """Finds answers to questions in their contexts.

    Unless `overlap` is given, neighbouring windows share at least an eighth of a window and the longest answer (but
    half a window at most), so that one of them contains the whole answer.

    Args:
        says_none: whether the model may predict "no answer".
        knows_none: whether the model was trained with "no answer", as all models trained here are.
    """

    n_best: int = option(5, "Number of predicted answers, in order of probability.", when="always")
    max_answer_length: int = option(30, "Maximum length of a predicted answer in tokens.", when="always")
    unanswerable: str | None = option(
        None, 'Whether the model may predict "no answer". Default: inferred from the data.', choices=("yes", "no")
    )
    threshold: float = option(
        0.0,
        'Log-odds of "no answer" against the best answer above which "no answer" is predicted; training fits it to '
        "held-out data.",
        when="after",
    )
    says_none: bool = False
    knows_none: bool = True

    name: ClassVar[str] = "question-answering"
    title: ClassVar[str] = "Question answering"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field("question", "Question", aliases=("query", "question_text")),
        Field("context", "Context", aliases=("passage", "paragraph", "document", "article", "text", "body")),
    )
    label_columns: ClassVar[tuple[str, ...]] = ("answers", "answer", "answer_text", "answer_texts", "label")
    architecture: ClassVar[str] = "ForQuestionAnswering"
    fitted_fields: ClassVar[tuple[str, ...]] = ("threshold",)
    per_token: ClassVar[bool] = True
    has_document: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_best", "max_answer_length"):
            if getattr(self, name) < 1:
                raise HeadwayError(
                    f"--{name.replace('_', '-')} {getattr(self, name)} is invalid; it must be an integer above 0."
                )
        if math.isnan(self.threshold):
            raise HeadwayError("--threshold nan is invalid; it must be a number (log-odds).")

    @property
    def truncates(self) -> bool:
        """A question that leaves no room for the context is truncated in any case."""
        return True

    @property
    def sample(self) -> str:
        """Questions with and without an answer."""
        return "questions.json"

    # -- table rows -> examples

    def columns(self, table: "Table | RowStream", chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Infers the columns; the column of the answers by its name only, because answers look like any text."""
        columns = super().columns(table, chosen, need_label=False)
        if need_label and columns.label is None:
            raise HeadwayError(
                f"{table.source}: no column is called answers or answer. Name the column of the answers with --label. "
                f"The columns are: {', '.join(table.columns)}."
            )
        if isinstance(columns.label, tuple):
            raise HeadwayError(
                f"--label {','.join(columns.label)}: the answers are in one column. Their offsets are read from a "
                "column called answer_start, or found in the context."
            )
        return columns

    def unlabelled(self, table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:
        """Where the cell of the answers is null; an empty text or list says that there is no answer."""
        return unanswered_checker(table, columns)

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers whether the model may predict "no answer"."""
        answered = [bool(answers) for answers in map_valid(answers_reader(table, columns), table.rows)]
        without = answered.count(False)
        if answered and without == len(answered):
            raise HeadwayError(
                f'{table.source}: no question has an answer in column "{columns.label}", so there is nothing to '
                "learn. Name another column with --label."
            )
        self._refuse_unlocated(table, columns)
        says_none = without > 0 if self.unanswerable is None else self.unanswerable == "yes"
        has = (
            f"{without:,} of {len(answered):,} questions have no answer" if without else "every question has an answer"
        )
        does = 'may predict "no answer"' if says_none else "always predicts an answer"
        why = ", as requested" if self.unanswerable else ""
        return replace(self, says_none=says_none), [f"{has}: the model {does}{why}"]

    def _refuse_unlocated(self, table: Table, columns: ColumnMapping) -> None:
        """Raises HeadwayError if no answer is found in its context."""
        unlocated: list[str] = []
        for example in map_valid(self.row_reader(table, columns), range(len(table))):
            if any(answer.start is not None for answer in example.answers or ()):
                return
            unlocated += [example.where] if example.answers else []
        raise HeadwayError(
            f"{table.source}: none of the answers of {count(len(unlocated), 'question')} is in its context, so there "
            f"is nothing to train on: {format_places(unlocated)}. An answer must be spelled as in the context; "
            "correct the data, or name other columns with --context and --label."
        )

    def reset(self) -> Self:
        """The same options without anything inferred from data."""
        return replace(self, says_none=False, threshold=0.0, knows_none=True)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], QuestionExample]:
        """Reads the question, the context, the id (or the row's number) and the answers of a row."""
        return question_reader(table, columns, labelled=labelled)

    def warnings(self, example: QuestionExample, windows: Sequence[Features]) -> Iterator[ExampleWarning]:
        """Problems with the answers, and what the model cannot read or predict."""
        answers = example.answers or ()
        for problem, answer in {answer.problem: answer for answer in answers if answer.problem}.items():
            yield ExampleWarning(problem, "note" if problem == CORRECTED else "warning", f'"{shorten(answer.text)}"')
        if example.repeated:
            yield ExampleWarning("an earlier question has the same id")
        located = any(answer.start is not None for answer in answers)
        if answers and (not located or (windows and windows[0].target is None)):
            why = "the model's vocabulary has no token for the answer" if located else "no answer is located"
            yield ExampleWarning(f"{why}, so training skips the question; it is scored by the answer's text")
        for passage in (window.metadata.passage for window in windows[:1]):
            if passage.question_truncated:
                yield ExampleWarning(
                    "the question is longer than half of the maximum length and is truncated; only contexts are read "
                    "in windows, so shorten it, or increase --max-length if the model reads more"
                )
            if passage.missed:
                yield ExampleWarning(passage.missed)

    # -- examples -> model

    def windowing(self, room: int) -> Windowing:
        """How a context is divided if `room` tokens are left beside the question."""
        overlap = max(room // 8, self.max_answer_length) if self.overlap is None else self.overlap
        return Windowing(room, overlap, self.long_texts)

    def encode(self, examples: Sequence[QuestionExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence for each window of a context."""
        return QuestionEncoder(tokenizer, limit, self.windowing, self.max_answer_length).encode(examples)

    def training_windows(self, windows_by_example: Sequence[list[Features]]) -> list[list[Features]]:
        """Every window by itself, without those of questions whose answer is not located.

        Raises:
            HeadwayError: no window is left.
        """
        left = [[window] for windows in windows_by_example for window in windows if window.target is not None]
        if windows_by_example and not left:
            raise HeadwayError(
                "No answer is in its context, so there is nothing to train on. An answer must be spelled as in the "
                "context; correct the data, or name other columns with --context and --label."
            )
        return left

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on every token."""
        return SpanHead(backbone.config)

    def targets(self, features: Sequence[Features]) -> "Targets":
        """The first and last token of each answer, (B, 2), and the rows of each window's tokens, padded with T."""
        rows = torch.arange(sum(len(one.input_ids) for one in features))
        by_window = rows.split([len(one.input_ids) for one in features])
        padded = pad_sequence(list(by_window), batch_first=True, padding_value=len(rows))  # (B, n)
        return {"gold": torch.tensor([one.target for one in features]), "rows": padded}

    def loss(self, outputs: Tensor, targets: "Targets") -> tuple[Tensor, int]:
        """The mean cross-entropy of start and end over a window's tokens, summed over the windows.

        Args:
            outputs: (T, 2).
            targets: of the B windows.
        """
        gold = targets["gold"]
        logits = F.pad(outputs.float(), (0, 0, 0, 1), value=-torch.inf)[targets["rows"]]  # (B, n, 2)
        return F.cross_entropy(logits, gold, reduction="sum") / 2, len(gold)

    def measure_loss(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> tuple[float, int]:
        """That of the windows whose target is known."""
        pairs = [pair for pair in zip(outputs, features, strict=True) if pair[1].target is not None]
        return super().measure_loss(*zip(*pairs, strict=True)) if pairs else (0.0, 0)

    # -- outputs -> predictions -> metrics

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[AnswerPrediction]:
        """The most probable spans of each context, and the answer."""
        rest = iter(outputs)
        predictions = []
        for windows in group_windows(features):
            spans, no_answer_score = best_spans(
                [window.metadata for window in windows],
                [next(rest) for _ in windows],
                count=self.n_best,
                max_length=self.max_answer_length,
                knows_none=self.knows_none,
            )
            unread_tokens = windows[0].metadata.passage.unread_tokens
            predictions.append(self._decide(tuple(spans), no_answer_score, unread_tokens))
        return predictions

    def _decide(self, spans: tuple[AnswerSpan, ...], no_answer_score: float, unread_tokens: int) -> AnswerPrediction:
        if not spans or (self.says_none and _log_odds(no_answer_score, spans) > self.threshold):
            return AnswerPrediction(None, None, None, no_answer_score, no_answer_score, spans, unread_tokens)
        best = spans[0]
        return AnswerPrediction(best.text, best.start, best.end, best.score, no_answer_score, spans, unread_tokens)

    def score(self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]) -> dict[str, float]:
        """F1 and exact match as in SQuAD, over all questions, and over those with and without an answer."""
        return self.tally(predictions, examples).metrics()

    def document(self, found: Iterable[tuple[Mapping[str, Any], AnswerPrediction]]) -> dict[str, str]:
        """Predictions in the format of SQuAD's evaluation script."""
        rows, predictions = tee(found)
        return squad_predictions((prediction for _, prediction in predictions), (row for row, _ in rows))

    def calibrate(self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]) -> Self:
        """Fits the threshold of "no answer" for the best F1, if there are enough questions with and without answer."""
        pairs = zip(predictions, examples, strict=True)
        cases = [(one, example.gold or ()) for one, example in pairs if one.alternatives]
        counts = Counter(bool(gold) for _, gold in cases)
        if not self.says_none or min(counts[True], counts[False]) < MIN_QUESTIONS:
            return self
        threshold = best_no_answer_threshold(
            [_log_odds(one.no_answer_score, one.alternatives) for one, _ in cases],
            [answer_scores(one.alternatives[0].text, gold)[1] for one, gold in cases],
            [answer_scores(None, gold)[1] for _, gold in cases],
        )
        return replace(self, threshold=threshold)

    def recalibrate(self, predictions: Sequence[AnswerPrediction], calibrated: Any) -> list[AnswerPrediction]:
        """By the threshold of the copy."""
        if calibrated.threshold == self.threshold:
            return list(predictions)
        return [calibrated._decide(one.alternatives, one.no_answer_score, one.unread_tokens) for one in predictions]

    @property
    def calibrated(self) -> str:
        """The threshold of "no answer"."""
        return 'the threshold of "no answer"' if self.threshold else ""

    # -- inspection

    def explainable_outputs(
        self,
        outputs: Tensor,
        features: Features,
        words: Sequence[TokenizedWord],  # noqa: ARG002
    ) -> list[ExplainableOutput]:
        """The answer, its alternatives and "no answer": the probability that it starts and ends at its tokens."""
        (prediction,) = self.decode([outputs], [features])
        return explainable_answers(prediction, features.metadata, knows_none=self.knows_none)

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """A published folder does not say whether its head was trained with "no answer".

        A BERT was, at `[CLS]`, by questions without an answer or by windows without it. There is no such convention
        for GPT-2: it always predicts an answer.
        """
        encoder = model_of(checkpoint.network.config) == "bert"
        return cls(says_none=encoder, knows_none=encoder)

    def card(self, network: "Network", name: str) -> CardText:
        """Usage and limitations."""
        return question_answering_card(self, network, name)


def _log_odds(no_answer_score: float, spans: Sequence[AnswerSpan]) -> float:
    """The log-odds of no answer against the best answer; a probability of 0 counts as the smallest float."""
    return math.log(max(no_answer_score, SMALLEST_FLOAT)) - math.log(max(spans[0].score, SMALLEST_FLOAT))
