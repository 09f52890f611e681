"""Extractive question answering: an answer is a part of a context, or there is none.

Start and end scores over the context (Devlin et al. 2019, sections 4.2 and 4.3). BERT reads
`[CLS] question [SEP] context [SEP]`, GPT-2 `question <|endoftext|> context <|endoftext|>`. "No answer" is learnt as an
answer at one token of the frame: BERT's `[CLS]`, GPT-2's last token, the only one that has read both texts.

A long context is read in overlapping windows. In training each window is a sequence of its own, whose target is the
answer if it is in it whole, and else "no answer". How the windows' scores are joined is in answer_spans.py.

Shapes: B sequences in a packed batch, n tokens of a sequence, T tokens in all.
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ...core.errors import HeadwayError
from ...core.models.heads import SpanHead
from ...core.options import option
from ..base.card_text import CardText
from ..base.display import DisplayElement, Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from ..base.explanation import ExplainableOutput, TokenizedWord
from ..base.predictions import Misprediction, Prediction
from ..base.task import Task
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping
from ..data.examples import ExampleWarning, Field
from ..data.features import Features, group_windows
from ..data.labels import map_valid
from ..data.places import shorten
from ..data.rows import Table
from ..data.windows import Windowing
from .answer_spans import Passage, Span, Window, best_spans
from .answers import MOVED, Answer
from .card import card_text
from .question_rows import ID_NAMES, QuestionExample, answers_reader, question_reader
from .squad_scores import answer_scores, best_threshold, squad_scores

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ..data.rows import RowStream

FEWEST_TO_TUNE = 5  # held-out questions of each kind, with an answer and without, for the threshold
LEAST_SHOWN = 0.01  # the probability of a next best answer, from which it is marked in its context
TEXTS_AT_ONCE = 250  # to the tokenizer, which returns more than is kept


@dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The answer to a question: a part of the context, or none."""

    answer: str | None  # context[start:end]; None: the context has no answer
    start: int | None  # in code points
    end: int | None
    score: float  # the probability of the answer, or of there being none
    no_answer_score: float  # the probability that there is none
    alternatives: tuple[Span, ...]  # the likeliest spans, best first; the answer, if there is one, is the first
    unread_tokens: int = 0  # of question and context, because they are longer than what the model may read

    @property
    def brief(self) -> str:
        """The answer on one line, and its probability."""
        answer = "no answer" if self.answer is None else " ".join(self.answer.split())
        return f"{answer}  {self.score:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The answer, where in its context it and the next best ones stand, and how likely each is."""
        said = Text("no answer" if self.answer is None else self.answer, _unread(self.unread_tokens))
        marks = tuple(
            Highlight(one.start, one.end, "", one.score, faint=bool(place) or self.answer is None)
            for place, one in enumerate(self.alternatives)
            if one.score >= LEAST_SHOWN or (one.start, one.end) == (self.start, self.end)
        )
        bars = [
            ScoreBar(one.text, one.score, (one.start, one.end) == (self.start, self.end)) for one in self.alternatives
        ]
        bars.append(ScoreBar("no answer", self.no_answer_score, chosen=self.answer is None))
        bars.sort(key=lambda bar: -bar.value)
        return said, HighlightedText(texts.get("context", ""), marks), ScoreBars(tuple(bars))


@dataclass(frozen=True, eq=False)
class _Place(Window):
    """A window, and what does not fit into it and its neighbours."""

    unread: int  # tokens of question and context that are in no window
    question_cut: bool
    missed: str | None  # why the right answer cannot be given, if so


@dataclass(frozen=True)
class QuestionAnswering(Task[QuestionExample, AnswerPrediction]):
    """Finds the answers to questions in their contexts.

    Neighbouring windows share at least an eighth of a window, and as many tokens as the longest answer has (half a
    window at most), so that such an answer is in one of them whole; or what `overlap` says.

    Args:
        says_none: whether the model may say that there is no answer.
        knows_none: whether the head was trained with a "no answer" where this task has it.
    """

    n_best: int = option(5, "How many of the likeliest answers are given, the best among them.", when="always")
    max_answer_length: int = option(30, "The longest answer that is given, in tokens.", when="always")
    unanswerable: str | None = option(
        None,
        "Whether the model may say that there is no answer; learnt from the data if left out.",
        choices=("yes", "no"),
    )
    threshold: float = option(
        0.0,
        "How much surer (as log-odds) than of its best answer the model must be of no answer to say so; fitted to "
        "held-out data in training.",
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
    per_token: ClassVar[bool] = True
    has_document: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_best", "max_answer_length"):
            if getattr(self, name) < 1:
                raise HeadwayError(f"--{name.replace('_', '-')} {getattr(self, name)}: a whole number above 0.")
        if math.isnan(self.threshold):
            raise HeadwayError("--threshold nan: a number, in log-odds; 0 says no answer where it is likelier.")

    @property
    def sample(self) -> str:
        """Questions, some without an answer."""
        return "questions.json"

    # -- people's data -> examples

    def columns(self, table: "Table | RowStream", chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """As every task; the column of the answers is told by its name alone, as it looks like any other text."""
        settled = super().columns(table, chosen, need_label=False)
        if need_label and settled.label is None:
            raise HeadwayError(
                f"{table.source}: no column is called answers or answer. Say --label COLUMN for the column that "
                f"holds them. The columns are: {', '.join(table.columns)}."
            )
        if isinstance(settled.label, tuple):
            raise HeadwayError(
                f"--label {','.join(settled.label)}: one column holds the answers. Their places are read from "
                "a column called answer_start, or found in the context."
            )
        return settled

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Whether there are questions without an answer."""
        found = [bool(answers) for answers in map_valid(answers_reader(table, columns), table.rows)]
        without = found.count(False)
        if found and without == len(found):
            raise HeadwayError(
                f'{table.source}: no question has an answer in column "{columns.label}"; there is nothing to '
                "learn. Name another column with --label."
            )
        says_none = without > 0 if self.unanswerable is None else self.unanswerable == "yes"
        has = f"{without:,} of {len(found):,} questions have no answer" if without else "every question has an answer"
        does = "may say that there is none" if says_none else "always gives one"
        said = ", as you said" if self.unanswerable else ""
        return replace(self, says_none=says_none), [f"{has}: the model {does}{said}"]

    def reset(self) -> Self:
        """The same options, for other data."""
        return replace(self, says_none=False, threshold=0.0, knows_none=True)

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], QuestionExample]:
        """How to read a row: the question, its context, its id (else the row's number) and the answers."""
        return question_reader(table, columns, labelled=labelled)

    # -- examples -> the model

    def encode(self, examples: Sequence[QuestionExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence for each window of a context.

        A question longer than half of the room is cut to that half, if question and context do not fit together.
        """
        bert = tokenizer.kind == "wordpiece"
        special = tokenizer.num_special(pair=True) + (0 if bert else 1)
        room = limit - special
        questions = _tokens(tokenizer, [example.question for example in examples])
        contexts = _tokens(tokenizer, [example.context for example in examples])
        features = []
        for i, example in enumerate(examples):
            question, context = questions[example.question].ids, contexts[example.context]
            length = len(question) + len(context.ids) + special
            kept = question if length <= limit else question[: max(room // 2, room - len(context.ids))]
            parts = self.windowing(room - len(kept)).divide(len(context.ids))
            passage = Passage(example.context, context.starts, context.ends, parts)
            read = len(kept) + parts[-1].stop
            gold = [_tokens_of(passage, answer) for answer in example.answers or () if answer.start is not None]
            missed = self._missed(passage, [tokens for tokens in gold if tokens])
            for index, part in enumerate(parts):
                ids, segments = tokenizer.join(kept, context.ids[part.start : part.stop])
                if not bert:
                    assert tokenizer.end_of_text_id is not None
                    ids, segments = [*ids, tokenizer.end_of_text_id], [*segments, 1]
                first, none = len(ids) - 1 - len(part), 0 if bert else len(ids) - 1
                place = _Place(passage, index, first, none, length - special - read, len(kept) < len(question), missed)
                features.append(Features(i, ids, segments, length, _target(example, gold, place), place))
        return features

    def windowing(self, room: int) -> Windowing:
        """How a context is divided if `room` tokens are left beside the question."""
        overlap = max(room // 8, self.max_answer_length) if self.overlap is None else self.overlap
        return Windowing(room, overlap, self.long_texts)

    def _missed(self, passage: Passage, gold: Sequence[range]) -> str | None:
        whole = [tokens for tokens in gold if any(_inside(tokens, part) for part in passage.parts)]
        if not gold or any(len(tokens) <= self.max_answer_length for tokens in whole):
            return None
        if whole:
            return (
                f"the answer is longer than {self.max_answer_length} tokens (--max-answer-length) and counts as missed"
            )
        if self.long_texts == "cut":
            return "the answer is in what was cut off and counts as missed"
        return "the answer is in no window whole and counts as missed; a larger --overlap or --max-length may help"

    def training_windows(self, windows_by_example: Sequence[list[Features]]) -> list[list[Features]]:
        """Every window by itself, without those of questions whose answer has no place.

        Raises:
            HeadwayError: none is left.
        """
        left = [[window] for windows in windows_by_example for window in windows if window.target is not None]
        if windows_by_example and not left:
            raise HeadwayError(
                "No answer is in its context, so there is nothing to train on. An answer must be written as it stands "
                "in the context; mend the data, or name other columns with --context and --label."
            )
        return left

    def warnings(self, example: QuestionExample, windows: Sequence[Features]) -> Iterator[ExampleWarning]:
        """What is wrong with the answers, and what the model cannot read or give."""
        answers = example.answers or ()
        for trouble, answer in {answer.trouble: answer for answer in answers if answer.trouble}.items():
            yield ExampleWarning(trouble, "note" if trouble == MOVED else "warning", f'"{shorten(answer.text)}"')
        if example.repeated:
            yield ExampleWarning("the id is that of an earlier question")
        placed = any(answer.start is not None for answer in answers)
        if answers and (not placed or (windows and windows[0].target is None)):
            what = "the model's vocabulary has no token for the answer" if placed else "no answer has a place"
            yield ExampleWarning(f"{what}, so nothing is learnt from the question; it is scored by the answer's text")
        for place in (window.metadata for window in windows[:1]):
            if place.question_cut:
                yield ExampleWarning(
                    "the question is longer than half of what the model reads, and its end is cut off"
                )
            if place.missed:
                yield ExampleWarning(place.missed)

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on every token."""
        return SpanHead(backbone.config)

    def loss(self, outputs: Tensor, features: Sequence[Features]) -> tuple[Tensor, int]:
        """The mean of the cross-entropies of start and end over a window's tokens, summed over the windows.

        Args:
            outputs: (T, 2).
            features: the B windows.
        """
        lengths = [len(one.input_ids) for one in features]
        logits = pad_sequence(list(outputs.float().split(lengths)), batch_first=True, padding_value=-torch.inf)
        targets = torch.tensor([one.target for one in features], device=outputs.device)  # (B, 2)
        return F.cross_entropy(logits, targets, reduction="sum") / 2, len(features)

    # -- outputs -> answers -> figures

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[AnswerPrediction]:
        """The likeliest spans of each context, and the answer among them or none."""
        found, position = [], 0
        for group in group_windows(features):
            places = [window.metadata for window in group]
            logits = outputs[position : position + len(group)]
            position += len(group)
            spans, none = best_spans(
                places, logits, count=self.n_best, longest=self.max_answer_length, knows_none=self.knows_none
            )
            found.append(self._decide(tuple(spans), none, places[0].unread))
        return found

    def _decide(self, spans: tuple[Span, ...], none: float, unread: int) -> AnswerPrediction:
        if not spans or (self.says_none and _difference(spans, none) > self.threshold):
            return AnswerPrediction(None, None, None, none, none, spans, unread)
        best = spans[0]
        return AnswerPrediction(best.text, best.start, best.end, best.score, none, spans, unread)

    def score(self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]) -> dict[str, float]:
        """SQuAD's figures as fractions: f1 and exact_match, over all questions and apart."""
        return squad_scores([one.answer for one in predictions], [example.gold or () for example in examples])

    def misprediction(self, prediction: AnswerPrediction, example: QuestionExample) -> Misprediction | None:
        """By how few words it has in common with a right answer, and how probable it was held."""
        gold = example.gold or ()
        exact, f1 = answer_scores(prediction.answer, gold)
        right = " / ".join(dict.fromkeys(gold)) or "no answer"
        size = 1 - f1 + prediction.score
        return None if exact else Misprediction(example.where, example.texts, right, prediction.brief, size)

    def document(self, found: Iterable[tuple[Mapping[str, Any], AnswerPrediction]]) -> dict[str, str]:
        """SQuAD's file of predictions."""
        rows, predictions = tee(found)
        return squad_predictions((prediction for _, prediction in predictions), (row for row, _ in rows))

    def calibrate(
        self, predictions: Sequence[AnswerPrediction], examples: Sequence[QuestionExample]
    ) -> tuple[Self, list[AnswerPrediction]]:
        """The threshold of "no answer" that gives the best F1, where the data has enough questions of both kinds."""
        pairs = zip(predictions, examples, strict=True)
        cases = [(one, example.gold or ()) for one, example in pairs if one.alternatives]
        kinds = Counter(bool(gold) for _, gold in cases)
        if not self.says_none or min(kinds[True], kinds[False]) < FEWEST_TO_TUNE:
            return self, list(predictions)
        threshold = best_threshold(
            [_difference(one.alternatives, one.no_answer_score) for one, _ in cases],
            [answer_scores(one.alternatives[0].text, gold)[1] for one, gold in cases],
            [answer_scores(None, gold)[1] for _, gold in cases],
        )
        tuned = replace(self, threshold=threshold)
        return tuned, [tuned._decide(one.alternatives, one.no_answer_score, one.unread_tokens) for one in predictions]

    # -- inspection

    def explainable_outputs(
        self,
        outputs: Tensor,
        features: Features,
        words: Sequence[TokenizedWord],  # noqa: ARG002
    ) -> list[ExplainableOutput]:
        """The answer, its alternatives and "no answer": the probability that it starts and ends at these tokens."""
        window: Window = features.metadata
        (prediction,) = self.decode([outputs], [features])

        def between(first: int, last: int) -> Callable[[Tensor, Sequence[int]], Tensor]:
            def measure(outputs: Tensor, kept: Sequence[int]) -> Tensor:
                starts, ends = outputs.softmax(0).unbind(-1)
                return starts[kept.index(first)] * ends[kept.index(last)]

            return measure

        found = []
        for span in prediction.alternatives:
            tokens = window.passage.tokens_of(span.start, span.end)
            places = tuple(window.first + token - window.part.start for token in tokens)
            if places:
                found.append(ExplainableOutput(span.text, "probability", places, between(places[0], places[-1])))
        if self.knows_none:
            none = ExplainableOutput("no answer", "probability", (window.none,), between(window.none, window.none))
            found.insert(0 if prediction.answer is None else len(found), none)
        return found

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """What a published head was trained on is not said in its folder.

        A BERT has learnt "no answer" at `[CLS]`, where questions had none or from windows without the answer, and may
        say so. For GPT-2 there is no such convention: such a model always answers.
        """
        bert = checkpoint.architecture.startswith("Bert")
        return cls(says_none=bert, knows_none=bert)

    def card(self, network: "Network", name: str) -> CardText:
        """How to ask, with Headway and without."""
        return card_text(self, network, name)


def squad_predictions(
    predictions: Iterable[AnswerPrediction], asked: Iterable["QuestionExample | Mapping[str, Any]"]
) -> dict[str, str]:
    """What SQuAD's official script reads: the answer to each question by its id, "" for no answer.

    Args:
        predictions: one for each question.
        asked: the examples, or the rows of a file with an id column.

    Raises:
        HeadwayError: a question has no id, or two have the same.
    """
    answers: dict[str, str] = {}
    for prediction, one in zip(predictions, asked, strict=True):
        name = one.id if isinstance(one, QuestionExample) else _id_of(one)
        if name in answers:
            raise HeadwayError(
                f"Two questions have the id {name!r}, which SQuAD's file of predictions cannot hold. Give each its "
                "own, or let the name of the output end in .jsonl."
            )
        answers[name] = prediction.answer or ""
    return answers


def _id_of(row: Mapping[str, Any]) -> str:
    names = {normalize_name(name): value for name, value in row.items()}
    found = next(
        (names[normalize_name(name)] for name in ID_NAMES if names.get(normalize_name(name)) not in (None, "")), None
    )
    if found is None:
        raise HeadwayError(
            "SQuAD's file of predictions needs the id of every question, and a row has none. Add a column called id, "
            "or let the name of the output end in .jsonl."
        )
    return str(found)


def _unread(tokens: int) -> str:
    return f"{tokens:,} tokens are beyond what the model may read" if tokens else ""


def _difference(spans: Sequence[Span], none: float) -> float:
    """How much surer than of its best answer the model is of no answer, as log-odds."""
    smallest = 5e-324  # a probability too small for a number is still above none
    return math.log(max(none, smallest)) - math.log(max(spans[0].score, smallest))


class _Tokens(NamedTuple):
    """A text's tokens and their places in it; arrays, because a list of pairs takes fifteen times as much memory."""

    ids: list[int]
    starts: "array[int]"
    ends: "array[int]"


def _tokens(tokenizer: "Tokenizer", texts: Sequence[str]) -> dict[str, _Tokens]:
    """Each text once: many questions are asked about the same context."""
    unique = list(dict.fromkeys(texts))
    found = {}
    for start in range(0, len(unique), TEXTS_AT_ONCE):
        part = unique[start : start + TEXTS_AT_ONCE]
        for text, encoding in zip(part, tokenizer.encode_batch(part), strict=True):
            starts = array("l", [place for place, _ in encoding.offsets])
            found[text] = _Tokens(encoding.ids, starts, array("l", [place for _, place in encoding.offsets]))
    return found


def _tokens_of(passage: Passage, answer: Answer) -> range:
    assert answer.start is not None
    assert answer.end is not None
    return passage.tokens_of(answer.start, answer.end)


def _inside(tokens: range, part: range) -> bool:
    return part.start <= tokens.start and tokens.stop <= part.stop


def _target(example: QuestionExample, gold: Sequence[range], place: Window) -> tuple[int, int] | None:
    """Where in a window's sequence the first answer that has a place starts and ends; None where that is not known."""
    tokens = next((tokens for tokens in gold if tokens), None)
    if example.answers is None or (example.answers and tokens is None):
        return None
    if tokens is None or not _inside(tokens, place.part):
        return place.none, place.none
    shift = place.first - place.part.start
    return tokens.start + shift, tokens.stop - 1 + shift
