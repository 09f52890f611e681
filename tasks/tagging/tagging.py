"""Named entity recognition: a tag for each word, and the entities that the tags mark.

A linear layer on each token, read at the first token of each word (Devlin et al. 2019, section 5.3). GPT-2 reads from
left to right: at the first token of a word it has not read the rest, so it is less accurate than BERT.

Words are given (CoNLL, `tokens` and `ner_tags`), or raw text is divided in the same way as the words of the training
data (words.py). Offsets of given words count in the text that joins them with spaces, without spaces between Chinese
characters or where every word is a character. For GPT-2, each word but the first has a space before it, in training
and in prediction.

Shapes: B sequences in a packed batch, T tokens in all, L labels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.heads import TokenHead
from ...core.options import option
from ..base.baseline import Baseline
from ..base.explanation import ExplainableOutput, ProbeTargets, TokenizedWord
from ..base.predictions import Misprediction
from ..base.report_parts import ReportCollector
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.examples import ExampleWarning, Field
from ..data.features import IGNORE_INDEX, Features, group_windows, num_truncated_tokens
from ..data.labels import map_valid
from ..data.rows import RowStream, Table
from ..data.windows import Windowing
from ..data.words import WORD_UNITS, WordSegmenter, ends_in_digits
from ..tallies import Tally
from .baseline import entity_baseline
from .card import tagging_card
from .encoding import WordTagger, word_positions
from .entity_scores import NO_ENTITY, confused_types, tally_entities
from .explanation import explainable_tags
from .label_checks import WordLabelChecks
from .label_inference import (
    DIVISION,
    check_tags,
    describe_annotation,
    infer_tag_labels,
    infer_word_segmenter,
    is_misaligned,
    num_misaligned,
)
from .predictions import EntitiesPrediction, TaggedExample
from .report_entities import EntityErrors, SpanPairs, entity_spans
from .tag_columns import WORD_COLUMNS, find_column, infer_tag_columns
from .tag_schemes import (
    OUTSIDE,
    all_tags,
    detect_scheme,
    entity_types,
    labels_as_tags,
    scheme_of_labels,
)
from .tag_scores import count_right, tag_pairs, tally_tags
from .tagged_rows import TaggedRowReader, WordOptions, types_in_table
from .words_and_tags import is_tagged, parse_counted_tags

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets
    from ..base.card_text import CardText

WIDENED = "a character span ends inside a word and is widened to the whole word"
INCLUSIVE = "the end of a span is its last character, as its text shows, not the character after it"
DROPPED = "a character span is dropped, because a word has only one tag"
IGNORED = f"a word has no tag (_ or {IGNORE_INDEX}): training and metrics skip it"
WITHOUT_TOKENS = "a word has no token in this vocabulary and is always predicted as O"
TRUNCATED = "an entity is truncated and counts as missed"


@dataclass(frozen=True)
class TokenClassification(WordLabelChecks, Task[TaggedExample, EntitiesPrediction]):
    """Finds named entities, or other spans that tags of words mark.

    Args:
        labels: the tags in the order of the outputs; empty until they are inferred from the training data.
        scheme: of the labels (`tag_schemes.PREFIXES`).
        numbered: whether data may give a tag by its index in `labels`, because the user gives the names.
        units, joined_left, joined_right: how raw text is divided into words (`words.WordSegmenter`).
    """

    labels: tuple[str, ...] = option(
        (),
        "File with the label names, one per line. The data may then give a label by its line number, from 0.",
        file="label_names",
    )
    viterbi: bool = option(
        False, "Predict only tag sequences that follow the tagging scheme (Viterbi decoding).", when="always"
    )
    strip_digits: bool = option(
        False, "Remove the digit at the end of each given word, as in the Weibo files (口0).", when="always"
    )
    outside_tag: str | None = option(
        None,
        "Tag of the words outside of entities in the data. Default: O, and _, -, 0 or B-O beside other tags.",
        when="always",
    )
    units: str | None = option(
        None, "Units that raw text is divided into. Default: inferred from the training data.", choices=WORD_UNITS
    )
    joined_left: str = ""
    joined_right: str = ""
    scheme: str = "IOB2"
    numbered: bool = False

    name: ClassVar[str] = "token-classification"
    title: ClassVar[str] = "Named entities"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field("text", "Text", aliases=(*WORD_COLUMNS, "sentence", "content", "document", "body"), lists=True),
    )
    architecture: ClassVar[str] = "ForTokenClassification"
    per_token: ClassVar[bool] = True

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types among the labels."""
        return entity_types(self.labels, self.scheme)

    @property
    def tags_every_word(self) -> bool:
        """Whether the tags are not spans of some words but classes of all: parts of speech."""
        return self._tagger.every_word

    @property
    def label_names(self) -> tuple[str, ...]:
        """The entity types."""
        return self.types

    @property
    def sample(self) -> str:
        """Sentences with entities."""
        return "entities.conll"

    @property
    def segmenter(self) -> WordSegmenter:
        """Divides raw text into words."""
        return WordSegmenter(self.units or "words", self.joined_left, self.joined_right)

    @property
    def _tagger(self) -> WordTagger:
        return WordTagger(self.labels, self.scheme, self.viterbi)

    @property
    def _numbered_tags(self) -> tuple[str, ...]:
        """The names of tags that may be given as numbers."""
        return self.labels if self.numbered else ()

    # -- table rows -> examples

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Infers the columns: tags belong to a column of words, character spans to a column of texts."""
        return infer_tag_columns(table, chosen, partial(super().columns, table, need_label=need_label), need_label)

    @classmethod
    def recognizes(cls, table: Table) -> bool:
        """Whether there is a column of words."""
        return find_column(table, WORD_COLUMNS) is not None

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """Infers the labels, their scheme, and how raw text is divided into words."""
        scheme = scheme_of_labels(self.labels) if self.labels else "IOB2"
        task = replace(self, numbered=bool(self.labels), scheme=scheme)
        text, label = columns.texts["text"], str(columns.label)
        read_row = task.row_reader(table, columns)
        examples = list(map_valid(read_row, range(len(table))))
        counts = Counter(kind for example in examples for kind in example.labels)
        if not counts:
            task.examples(table, columns)  # raises if a row is invalid
            raise HeadwayError(
                f'{table.source}: column "{label}" has no entity and no class of a word. Name the column of the tags '
                "with --label, or add annotated data."
            )
        cells = [table.rows[example.row] for example in examples]
        tagged = [
            (example, parse_counted_tags(row.get(label), read_row.reading))
            for example, row in zip(examples, cells, strict=True)
            if is_tagged(row.get(text), row.get(label))
        ]
        tags = [of_row for _, of_row in tagged]
        scheme, invalid = detect_scheme(tags, read_row.reading.prefixed) if tags else ("IOB2", [])
        if not task.labels:
            task = replace(task, scheme=scheme, labels=infer_tag_labels(counts, scheme, tags))
        if task.scheme != "IO" and OUTSIDE not in task.labels:
            raise HeadwayError("--label-names: the names do not include O. Add it for words outside of entities.")
        check_tags(table.source, label, tags, counts, task.scheme)
        words = [word for example, _ in tagged for word in example.words]
        task = task._with_segmenter(words) if words else task._with_units(table, columns, examples)
        notes = describe_annotation(scheme if tags else None, counts, tags, [tagged[i][0].where for i in invalid])
        notes += read_row.notes()
        if words and not self.strip_digits and ends_in_digits(words):
            notes.append(f'the words end in digits ("{words[0]}", ...); --strip-digits removes them')
        return task, [*notes, f"raw text is divided {DIVISION[task.segmenter.units]}"]

    def _with_segmenter(self, words: Sequence[str]) -> Self:
        found = infer_word_segmenter(words)
        units = self.units or found.units
        return replace(self, units=units, joined_left=found.joined_left, joined_right=found.joined_right)

    def _with_units(self, table: Table, columns: ColumnMapping, examples: Sequence[TaggedExample]) -> Self:
        """With words as units if these fit the character spans better, else with characters."""
        if self.units:
            return self
        if is_misaligned(examples):
            by_character = replace(self, units="characters")
            others = list(map_valid(by_character.row_reader(table, columns), range(len(table))))
            if 2 * num_misaligned(others) < num_misaligned(examples):
                return by_character
        return replace(self, units="words")

    def reset(self) -> Self:
        """The same options without anything inferred from data."""
        return type(self)(
            self.max_length,
            self.long_texts,
            self.overlap,
            viterbi=self.viterbi,
            strip_digits=self.strip_digits,
            outside_tag=self.outside_tag,
        )

    def row_reader(self, table: Table, columns: ColumnMapping, *, labelled: bool = True) -> TaggedRowReader:
        """Reads the words and the entities of a row."""
        return TaggedRowReader(table, columns, self._word_options, labelled=labelled)

    @property
    def _word_options(self) -> WordOptions:
        return WordOptions(self.segmenter, self.strip_digits, self._numbered_tags, self.types, self.outside_tag)

    def with_labels_of(self, table: Table, columns: ColumnMapping) -> Self:
        """The labels of the model, then those of the other entity types."""
        others = [one for one in types_in_table(table, columns, self._word_options) if one not in self.types]
        return replace(self, labels=(*self.labels, *all_tags(others, self.scheme)))

    def warnings(self, example: TaggedExample, windows: Sequence[Features]) -> Iterator[ExampleWarning]:
        """Spans that do not fit the words, words without a tag or without tokens, and truncated entities."""
        for what, spans in ((WIDENED, example.widened), (DROPPED, example.dropped)):
            yield from (ExampleWarning(what, detail=span) for span in spans)
        yield from (ExampleWarning(INCLUSIVE, "note", detail=span) for span in example.inclusive)
        yield from (ExampleWarning(IGNORED, "note", detail=ascii(example.words[word])) for word in example.ignored)
        read = {word for one in windows for word in one.metadata.words}
        last = max(read, default=-1) if windows and num_truncated_tokens(windows) > 0 else len(example.words)
        for span in example.spans or ():
            if span.stop - 1 > last:
                yield ExampleWarning(TRUNCATED, detail=f'"{example.covered_text(span)}" ({span.label})')
        for word in range(last if windows else 0):
            if word not in read:
                yield ExampleWarning(WITHOUT_TOKENS, "note", detail=ascii(example.words[word]))

    # -- examples -> model

    def encode(self, examples: Sequence[TaggedExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence per example, or one per window of a long text."""
        windowing = Windowing(limit - tokenizer.num_special(pair=False), self.overlap, self.long_texts)
        return self._tagger.encode(examples, tokenizer, windowing)

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on every token."""
        return TokenHead(backbone.config, len(self.labels))

    def targets(self, features: Sequence[Features]) -> "Targets":
        """The label of each word that has one, and the row of its first token in the packed batch."""
        gold = torch.tensor([target for one in features for target in one.target], dtype=torch.long)
        labelled = gold != IGNORE_INDEX
        return {"gold": gold[labelled], "rows": torch.tensor(word_positions(features), dtype=torch.long)[labelled]}

    def loss(self, outputs: Tensor, targets: "Targets") -> tuple[Tensor, int]:
        """The summed cross-entropy at the first token of each word, (T, L) -> (), and the number of words."""
        gold = targets["gold"]
        return F.cross_entropy(outputs[targets["rows"]].float(), gold, reduction="sum"), len(gold)

    # -- outputs -> predictions -> metrics

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[EntitiesPrediction]:
        """The tags of the words, and the entities."""
        rest, grouped = iter(outputs), group_windows(features)
        return [self._tagger.decode([next(rest) for _ in windows], windows) for windows in grouped]

    def score(self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]) -> dict[str, float]:
        """Where every word has a tag, accuracy first; else F1 of entities, exact and by overlap, and accuracy."""
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]) -> Tally:
        """The tags, or the entities and the words, of each example."""
        pairs = tag_pairs(predictions, examples, self.labels, self.scheme)
        if self.tags_every_word:
            return tally_tags(pairs, self.labels)
        return tally_entities(*self._spans(predictions, examples), count_right(pairs), self.types)

    def baseline(
        self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]
    ) -> Baseline | None:
        """Beside no entity at all, or the most frequent tag where every word has one."""
        predicted, gold = self._spans(predictions, examples)
        words = [
            [word for word in range(len(one.words)) if word not in example.ignored]
            for one, example in zip(predictions, examples, strict=True)
        ]
        return entity_baseline(predicted, gold, words, outside=OUTSIDE in self.labels)

    def confused(
        self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]
    ) -> list[tuple[str, str]]:
        """The gold and the predicted entity type of each word, if at least one is an entity."""
        return confused_types(*self._spans(predictions, examples), [len(one.words) for one in predictions])

    def misprediction(self, prediction: EntitiesPrediction, example: TaggedExample) -> Misprediction | None:
        """The number of entities that are missed or wrongly predicted."""
        (predicted,), (gold,) = self._spans([prediction], [example])
        wrong, found = {*predicted} ^ {*gold}, replace(example, spans=tuple(predicted)).gold or ()
        shown = "; ".join(example.gold or ()) or NO_ENTITY, "; ".join(found) or NO_ENTITY
        return Misprediction(example.where, example.texts, *shown, float(len(wrong))) if wrong else None

    def report_collector(self) -> ReportCollector | None:
        """Errors of boundaries apart from errors of types; none where every word has a tag."""
        return None if self.tags_every_word else EntityErrors(self._spans)

    def _spans(self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]) -> SpanPairs:
        """The predicted and the gold entities of each example, without ignored words."""
        return entity_spans(predictions, examples, self.scheme, every_word=self.tags_every_word)

    def reuse_head(self, before: Task) -> Self | None:
        """Reuses a head with the same entity types, or with these types and others."""
        if not isinstance(before, TokenClassification):
            return None
        if self.numbered:  # the user gave all labels, in their order
            return self if self.labels == before.labels else None
        fits = set(self.types) <= set(before.types)
        return replace(self, labels=before.labels, scheme=before.scheme) if fits else None

    # -- inspection

    def split_words(self, example: TaggedExample) -> list[tuple[str, int]]:
        """The words of the example and their offsets."""
        return list(zip(example.words, example.starts, strict=True))

    def explainable_outputs(
        self, outputs: Tensor, features: Features, words: Sequence[TokenizedWord]
    ) -> list[ExplainableOutput]:
        """The probability of every predicted entity, then of the tag of every word."""
        (prediction,) = self.decode([outputs], [features])
        return explainable_tags(prediction, features.metadata, labels_as_tags(self.labels, self.scheme), words)

    def probe_targets(self, features: Features) -> ProbeTargets:
        """The tag of every word."""
        return ProbeTargets(len(self.labels), features.target, features.metadata.positions)

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """Takes over the labels and infers their scheme; each run of equal labels without prefix is an entity."""
        return cls(labels=checkpoint.labels or (), scheme=scheme_of_labels(checkpoint.labels or ()))

    @property
    def published(self) -> dict[str, Any]:
        """The labels."""
        return {"labels": self.labels, "problem_type": None}

    def card(self, network: "Network", name: str) -> "CardText":
        """Entity types, usage and limitations."""
        return tagging_card(self, network, name)
