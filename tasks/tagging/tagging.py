"""Named entities: a tag for every word, and the entities that the tags say.

A linear layer on each token, read at the first piece of each word (Devlin et al. 2019, section 5.3). GPT-2 reads from
left to right, so at a word's first piece it has not seen the rest of the word: expect less of it than of a BERT.

Words come as people give them (CoNLL, `tokens` and `ner_tags`), or are cut out of raw text the way the training
data's words were made (words.py). Where words are given, offsets count in these words joined by spaces, without a
space between Chinese characters or where every word is a character. For GPT-2 each word but the first has a space
before it, in training and in prediction alike.

A long text is read in overlapping windows; each word is learnt and tagged once, in the window that shows most of what
is around it.

Shapes: B sequences in a packed batch, T tokens in all, W words of an example, L labels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.heads import TokenHead
from ...core.options import option
from ..base.explanation import ExplainableOutput, ProbeTargets, TokenizedWord
from ..base.predictions import Misprediction
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.examples import ExampleWarning, Field
from ..data.features import IGNORE_INDEX, Features, group_windows, num_truncated_tokens
from ..data.labels import map_valid
from ..data.places import format_places
from ..data.rows import RowStream, Table
from ..data.windows import Windowing, best_window
from ..data.words import WORD_UNITS, WordSegmenter, ends_in_digits, infer_segmenter
from .entity_scores import entity_figures, entity_figures_by_label
from .predictions import EntitiesPrediction, Entity
from .tag_schemes import (
    OUTSIDE,
    Chunk,
    counted_tags_to_spans,
    detect_scheme,
    plain_labels,
    positions_of_tags,
    scheme_of,
    spans_to_tags,
    tags_for,
    tags_to_spans,
    types_of,
    viterbi_decode,
)
from .tagged_rows import (
    TAG_COLUMNS,
    WORD_COLUMNS,
    TaggedExample,
    column_named,
    counted_tags,
    has_tags_beside,
    holds_tags,
    refuse_no_tags,
    tagged_reader,
)

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Network
    from ...core.tokenizers.tokenizer import Tokenizer
    from ..base.card_text import CardText

CUT_AT = {"words": "at spaces and signs", "spaces": "at spaces", "characters": "into single characters"}
MISFITS = 0.2  # of the character spans: if more of them cut a word, a text is better cut into characters
MOST_NAMED = 8  # types in one sentence

NO_ENTITY = "no entity"
WIDENED = "a character span cuts a word and is widened to the whole of it"
DROPPED = "a character span is left out, because a word has one tag only"
WITHOUT_TAG = f"the tag of a word is {IGNORE_INDEX}: it is not learnt, and no figure counts it"
WITHOUT_TOKENS = "a word has no token in this vocabulary and is always O"
BEYOND_CUT = "an entity is in what was cut off and counts as missed"


@dataclass(frozen=True)
class _Window:
    """The words that a window has the say about, and where in it their first pieces are."""

    example: TaggedExample
    words: list[int]
    positions: list[int]


@dataclass(frozen=True)
class TokenClassification(Task[TaggedExample, EntitiesPrediction]):
    """Finds named entities, or whatever else words are tagged with.

    Args:
        labels: the tags, in the order of the outputs; learnt from the training data if left empty.
        scheme: that the labels are written in (`entities.LETTERS`).
        numbered: whether people's files may give a tag by its position in `labels`, as a person said the names.
        units, joined_left, joined_right: how raw text is cut into words (`words.Splitter`).
    """

    labels: tuple[str, ...] = option(
        (),
        "File with the names of the labels, one a line; the data may then give a label's line, from 0.",
        file="label_names",
    )
    viterbi: bool = option(False, "Let no tag follow one that it may not follow (constrained Viterbi).", when="always")
    strip_digits: bool = option(
        False,
        "Take the digit off the end of each word that is given, as the Weibo files have it (口0).",
        when="always",
    )
    units: str | None = option(
        None, "What raw text is cut into; told from the training data if left out.", choices=WORD_UNITS
    )
    joined_left: str = ""
    joined_right: str = ""
    scheme: str = "IOB2"
    numbered: bool = False

    name: ClassVar[str] = "token-classification"
    title: ClassVar[str] = "Named entities"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field("text", "Text", aliases=(*WORD_COLUMNS, "sentence", "content", "document", "body"), words=True),
    )
    architecture: ClassVar[str] = "ForTokenClassification"
    per_token: ClassVar[bool] = True

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities that the labels tell apart."""
        return types_of(self.labels, self.scheme)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The types."""
        return self.types

    @property
    def sample(self) -> str:
        """Sentences with names in them."""
        return "entities.conll"

    @property
    def splitter(self) -> WordSegmenter:
        """How raw text is cut into words."""
        return WordSegmenter(self.units or "words", self.joined_left, self.joined_right)

    # -- people's data -> examples

    def columns(self, table: Table | RowStream, chosen: Mapping[str, Any], *, need_label: bool) -> ColumnMapping:
        """Settles the columns: tags go with a column of words, character spans with one of text."""
        said, notes = dict(chosen), []
        if not said.get("label") and (found := column_named(table, TAG_COLUMNS, said.get("text"))):
            said["label"] = found
            notes.append(f'label: column "{found}" (by name)')
        columns = super().columns(table, said, need_label=need_label)
        if isinstance(columns.label, tuple):
            raise HeadwayError(
                f"{table.source}: tags stand in one column, not in {len(columns.label)} "
                f"({', '.join(columns.label)}). Name it with --label."
            )
        words = column_named(table, WORD_COLUMNS)
        if words and not said.get("text") and has_tags_beside(table, words, columns.label):
            notes.append(f'text: column "{words}" (by name)')
            told = [note for note in columns.notes if not note.startswith("text:")]
            return replace(columns, texts={**columns.texts, "text": words}, notes=(*told, *notes))
        return replace(columns, notes=(*columns.notes, *notes))

    @classmethod
    def recognizes(cls, table: Table) -> bool:
        """A column of words."""
        return column_named(table, WORD_COLUMNS) is not None

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:
        """The labels with their scheme, and how raw text is to be cut into words."""
        said = replace(self, numbered=bool(self.labels), scheme=scheme_of(self.labels) if self.labels else "IOB2")
        text, label = columns.texts["text"], str(columns.label)
        examples = list(map_valid(said.row_reader(table, columns), range(len(table))))
        counts = Counter(kind for example in examples for kind in example.labels)
        if not counts:
            said.examples(table, columns)  # says what is wrong with the rows, if anything is
            raise HeadwayError(
                f'{table.source}: there is no entity in it: column "{label}" says O of every word. '
                "Name the column of the tags with --label, or give data with entities."
            )
        tagged = [one for one in examples if holds_tags(table.rows[one.row].get(text), table.rows[one.row].get(label))]
        tags = [counted_tags(table.rows[one.row].get(label), said._names) for one in tagged]
        scheme, broken = detect_scheme(tags) if tags else ("IOB2", [])
        learnt = said if said.labels else replace(said, scheme=scheme, labels=_in_order(counts, scheme, tags))
        if learnt.scheme != "IO" and OUTSIDE not in learnt.labels:
            raise HeadwayError("--label-names: there is no O among the names. Add it, for words outside of entities.")
        refuse_no_tags(table.source, label, tags, counts, learnt.scheme)
        words = [word for one in tagged for word in one.words]
        learnt = learnt._learn_units(words) if words else learnt._learn_units_from_spans(table, columns, examples)
        notes = _describe(scheme if tags else None, counts, [tagged[i].where for i in broken])
        if words and not self.strip_digits and ends_in_digits(words):
            notes.append(f'the words end in digits ("{words[0]}", ...); --strip-digits takes them off')
        return learnt, [*notes, f"raw text is cut {CUT_AT[learnt.splitter.units]}"]

    @property
    def _names(self) -> tuple[str, ...]:
        """What numbers in the place of tags stand for."""
        return self.labels if self.numbered else ()

    def _learn_units(self, words: Sequence[str]) -> Self:
        """How to cut raw text, from the words that were given."""
        if ends_in_digits(words):
            words = [word[:-1] or word for word in words]
        found = infer_segmenter(words)
        units = self.units or found.units
        return replace(self, units=units, joined_left=found.joined_left, joined_right=found.joined_right)

    def _learn_units_from_spans(self, table: Table, columns: ColumnMapping, examples: Sequence[TaggedExample]) -> Self:
        """Into words if these fit the spans of raw text, else into characters (Japanese and Thai have no spaces)."""
        if self.units:
            return self
        spans = sum(len(one.labels) + len(one.dropped) for one in examples)
        misfits = sum(len(one.widened) + len(one.dropped) for one in examples)
        if misfits > MISFITS * spans:
            by_character = replace(self, units="characters")
            others = map_valid(by_character.row_reader(table, columns), range(len(table)))
            if 2 * sum(len(one.widened) + len(one.dropped) for one in others) < misfits:
                return by_character
        return replace(self, units="words")

    def reset(self) -> Self:
        """The same options, for other data: the labels, and how text is cut, are learnt anew."""
        return type(self)(
            self.max_length, self.long_texts, self.overlap, viterbi=self.viterbi, strip_digits=self.strip_digits
        )

    def row_reader(
        self, table: Table, columns: ColumnMapping, *, labelled: bool = True
    ) -> Callable[[int], TaggedExample]:
        """How to read a row: its words, and the entities among them."""
        return tagged_reader(
            table,
            columns,
            labelled=labelled,
            splitter=self.splitter,
            strip_digits=self.strip_digits,
            names=self._names,
            types=self.types,
        )

    def warnings(self, example: TaggedExample, windows: Sequence[Features]) -> Iterator[ExampleWarning]:
        """Spans that do not fit the words, words without a tag or without tokens, and entities beyond a cut."""
        for what, spans in ((WIDENED, example.widened), (DROPPED, example.dropped)):
            yield from (ExampleWarning(what, detail=span) for span in spans)
        yield from (
            ExampleWarning(WITHOUT_TAG, "note", detail=ascii(example.words[word])) for word in example.uncounted
        )
        read = {word for one in windows for word in one.metadata.words}
        last = max(read, default=-1) if windows and num_truncated_tokens(windows) > 0 else len(example.words)
        for chunk in example.chunks or ():
            if chunk.stop - 1 > last:
                yield ExampleWarning(
                    BEYOND_CUT, detail=f'"{example.text[slice(*example.place(chunk))]}" ({chunk.label})'
                )
        for word in range(last if windows else 0):
            if word not in read:
                yield ExampleWarning(WITHOUT_TOKENS, "note", detail=ascii(example.words[word]))

    # -- examples -> the model

    def encode(self, examples: Sequence[TaggedExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """One sequence an example, or one for each window of a long text."""
        special = tokenizer.num_special(pair=False)
        windowing = Windowing(limit - special, self.overlap, self.long_texts)
        index = positions_of_tags(self.labels, self.scheme)
        features = []
        for i, example in enumerate(examples):
            encoding = tokenizer.encode_words(example.words)
            first: dict[int, int] = {}  # word -> its first piece
            for position, word in enumerate(encoding.word_ids):
                if word is not None:
                    first.setdefault(word, position)
            targets = None
            if example.chunks is not None:
                tags = spans_to_tags(example.chunks, len(example.words), self.scheme)
                targets = [index.get(tag, IGNORE_INDEX) for tag in tags]
                for word in example.uncounted:
                    targets[word] = IGNORE_INDEX
            parts = windowing.divide(len(encoding.ids))
            words: list[list[int]] = [[] for _ in parts]
            for word, position in first.items():
                if position < parts[-1].stop:
                    words[best_window(parts, position) if len(parts) > 1 else 0].append(word)
            for part, here in zip(parts, words, strict=True):
                positions = [first[word] - part.start + special // 2 for word in here]
                features.append(
                    Features(
                        i,
                        *tokenizer.join(encoding.ids[part.start : part.stop]),
                        len(encoding.ids) + special,
                        target=None if targets is None else [targets[word] for word in here],
                        metadata=_Window(example, here, positions),
                    )
                )
        return features

    def head(self, backbone: "Backbone") -> nn.Module:
        """A linear layer on every token."""
        return TokenHead(backbone.config, len(self.labels))

    def loss(self, outputs: Tensor, features: Sequence[Features]) -> tuple[Tensor, int]:
        """Cross-entropy at the first piece of every word, once a word.

        Args:
            outputs: (T, L).
            features: the B sequences.
        """
        rows: list[int] = []
        start = 0
        for one in features:
            rows += [start + position for position in one.metadata.positions]
            start += len(one.input_ids)
        targets = [target for one in features for target in one.target]
        logits = outputs[torch.tensor(rows, dtype=torch.long, device=outputs.device)].float()  # (words, L)
        loss = F.cross_entropy(logits, torch.tensor(targets, dtype=torch.long, device=outputs.device), reduction="sum")
        return loss, sum(target != IGNORE_INDEX for target in targets)

    # -- outputs -> answers -> figures

    def decode(self, outputs: Sequence[Tensor], features: Sequence[Features]) -> list[EntitiesPrediction]:
        """A tag for each word, and the entities."""
        rest = iter(outputs)
        return [self._decode([next(rest) for _ in group], group) for group in group_windows(features)]

    def _decode(self, outputs: Sequence[Tensor], group: Sequence[Features]) -> EntitiesPrediction:
        """The prediction for one example.

        Args:
            outputs: (n, L) for each of its windows.
            group: the windows.
        """
        example: TaggedExample = group[0].metadata.example
        words = [word for one in group for word in one.metadata.words]
        logits = torch.cat([output[one.metadata.positions] for output, one in zip(outputs, group, strict=True)])
        log_probabilities = logits.new_zeros(len(example.words), len(self.labels))  # (W, L)
        log_probabilities[words] = logits.log_softmax(-1)
        seen = torch.zeros(len(example.words), dtype=torch.bool)
        seen[words] = True
        chosen = self._choose(log_probabilities, seen)
        likely = log_probabilities.gather(1, chosen[:, None])[:, 0].exp().masked_fill(~seen, 0.0).tolist()
        names = plain_labels(self.labels, self.scheme)
        pairs = zip(chosen.tolist(), seen.tolist(), strict=True)
        tags = tuple(names[label] if there else OUTSIDE for label, there in pairs)
        entities = tuple(_entity(example, chunk, likely[chunk.start : chunk.stop]) for chunk in self._chunks(tags))
        return EntitiesPrediction(entities, example.words, tags, tuple(likely))

    def _choose(self, log_probabilities: Tensor, seen: Tensor) -> Tensor:
        """The label of each word, (W,): the best one, or the best that makes a legal sequence.

        Args:
            log_probabilities: (W, L); changed where a word was not seen.
            seen: (W,), false where there is nothing to choose by.
        """
        if not self.viterbi or self.scheme == "IO" or OUTSIDE not in self.labels:
            return log_probabilities.argmax(-1)
        log_probabilities[~seen] = -torch.inf
        log_probabilities[~seen, self.labels.index(OUTSIDE)] = 0.0
        path = viterbi_decode(log_probabilities, self.labels, self.scheme)
        return torch.tensor(path, dtype=torch.long)

    def _chunks(self, tags: Sequence[str]) -> list[Chunk]:
        return tags_to_spans(tags, prefixed=self.scheme != "IO")

    def score(self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]) -> dict[str, float]:
        """F1, precision and recall of entities, strictly and by overlap; and how many words have the right tag."""
        found, gold = self._sides(predictions, examples)
        names, index = plain_labels(self.labels, self.scheme), positions_of_tags(self.labels, self.scheme)
        right = words = 0
        for prediction, example, chunks in zip(predictions, examples, gold, strict=True):
            wanted = spans_to_tags(chunks, len(prediction.tags), self.scheme)
            tags = [names[index[tag]] if tag in index else tag for tag in wanted]
            counted = set(range(len(tags))).difference(example.uncounted)
            right += sum(prediction.tags[word] == tags[word] for word in counted)
            words += len(counted)
        return {**entity_figures(found, gold), "accuracy": right / words if words else 0.0}

    def per_label(
        self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]
    ) -> list[dict[str, Any]]:
        """Precision, recall, F1 and number of entities of each type."""
        return entity_figures_by_label(*self._sides(predictions, examples), self.types)

    def confused(
        self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]
    ) -> list[tuple[str, str]]:
        """The type of each word's entity and the predicted one, of words that are in one on either side."""
        pairs = []
        for prediction, found, gold in zip(predictions, *self._sides(predictions, examples), strict=True):
            sides = []
            for chunks in (gold, found):
                types = [NO_ENTITY] * len(prediction.words)
                for chunk in chunks:
                    types[chunk.start : chunk.stop] = [chunk.label] * (chunk.stop - chunk.start)
                sides.append(types)
            pairs += [pair for pair in zip(*sides, strict=True) if pair != (NO_ENTITY, NO_ENTITY)]
        return pairs

    def misprediction(self, prediction: EntitiesPrediction, example: TaggedExample) -> Misprediction | None:
        """By how many entities are missed or made up."""
        (found,), (gold,) = self._sides([prediction], [example])
        wrong = {*found} ^ {*gold}
        answer = replace(example, chunks=tuple(found)).gold or ()
        told = "; ".join(example.gold or ()) or NO_ENTITY, "; ".join(answer) or NO_ENTITY
        return Misprediction(example.where, example.texts, *told, float(len(wrong))) if wrong else None

    def _sides(
        self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]
    ) -> tuple[list[list[Chunk]], list[list[Chunk]]]:
        """The entities that were found and those that are there, example by example, by the words that count."""
        found = [
            counted_tags_to_spans(prediction.tags, example.uncounted, self.scheme != "IO")
            for prediction, example in zip(predictions, examples, strict=True)
        ]
        return found, [list(one.chunks or ()) for one in examples]

    def reuse_head(self, before: Task) -> Self | None:
        """Goes on with a head for the same types of entities, or for more than the new data has."""
        if not isinstance(before, TokenClassification):
            return None
        if self.numbered:  # the person said which labels there are, and in which order
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
        window: _Window = features.metadata
        example = window.example
        (prediction,) = self.decode([outputs], [features])
        names = plain_labels(self.labels, self.scheme)
        position = dict(zip(window.words, window.positions, strict=True))

        def mean(chances: Sequence[tuple[int, list[int]]]) -> Callable[[Tensor, Sequence[int]], Tensor]:
            def measure(outputs: Tensor, kept: Sequence[int]) -> Tensor:
                found = [outputs[kept.index(token)].softmax(-1)[columns].sum() for token, columns in chances]
                return torch.stack(found).mean()

            return measure

        def output(name: str, numbers: Sequence[int]) -> ExplainableOutput:
            chances = [
                (position[word], [i for i, tag in enumerate(names) if tag == prediction.tags[word]])
                for word in numbers
            ]
            spans = [(example.starts[word], example.starts[word] + len(example.words[word])) for word in numbers]
            inside = [one for one in words if any(start <= one.start < end for start, end in spans)]
            tokens = tuple(token for one in inside for token in one.tokens)
            return ExplainableOutput(name, "probability", tokens, mean(chances))

        found = []
        for entity in prediction.entities:
            inside = [word for word in position if entity.start <= example.starts[word] < entity.end]
            if inside:
                found.append(output(f"{entity.label}: {entity.text}", inside))
        return found + [output(f"{prediction.tags[word]}: {example.words[word]}", [word]) for word in position]

    def probe_targets(self, features: Features) -> ProbeTargets:
        """The tag of every word."""
        return ProbeTargets(len(self.labels), features.target, features.metadata.positions)

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:
        """Its labels, and the scheme that their names tell; labels without prefixes make one entity of each run."""
        labels = checkpoint.labels or ()
        return cls(labels=labels, scheme=scheme_of(labels))

    @property
    def published(self) -> dict[str, Any]:
        """The labels."""
        return {"labels": self.labels, "problem_type": None}

    def card(self, network: "Network", name: str) -> "CardText":
        """What the model's card says."""
        from .card import card_text

        return card_text(self, network, name)


def _entity(example: TaggedExample, chunk: Chunk, probabilities: Sequence[float]) -> Entity:
    start, end = example.place(chunk)
    return Entity(example.text[start:end], chunk.label, start, end, sum(probabilities) / len(probabilities))


def _describe(scheme: str | None, counts: Counter[str], broken: Sequence[str]) -> list[str]:
    """What annotations were found, in a sentence each; `broken` are the places of tags that break the scheme."""
    shown = ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common(MOST_NAMED))
    more = f" and {len(counts) - MOST_NAMED} more" if len(counts) > MOST_NAMED else ""
    kind = f"{scheme} tags" if scheme else "character spans"
    notes = [f"{kind}, {counts.total():,} entities: {shown}{more}"]
    if broken:
        rows = "1 row breaks" if len(broken) == 1 else f"{len(broken):,} rows break"
        read = "such tags are read as conlleval reads them"
        notes.append(f"{rows} the rules of {scheme}; {read}: {format_places(broken)}")
    return notes


def _in_order(types: Mapping[str, int], scheme: str, tags: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Every label that a scheme has for these types: O first, where there is any."""
    outside = scheme != "IO" or any(OUTSIDE in row for row in tags)
    return (*([OUTSIDE] if outside else []), *tags_for(sorted(types), scheme))
