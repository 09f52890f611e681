"""A model that is opened to be looked into, and a text as it reads it.

Any model folder can be opened: with a head that answers something, with one over the vocabulary, or without a head.
What is looked at is one sequence: of a text that is longer than the model reads at once, the beginning.

Shapes: n tokens of the sequence, C hidden size, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.checkpoints.checkpoint import load_checkpoint, load_head
from ...core.checkpoints.config_file import published_class, read_config
from ...core.checkpoints.hub import find_folder
from ...core.checkpoints.weight_names import ARCHITECTURES, BASE_ARCHITECTURES, model_of
from ...core.errors import HeadwayError
from ...core.models.activations import Activations, record_activations
from ...core.models.bert import BertConfig, MaskedLMHead, PretrainingHead
from ...core.models.gpt2 import LanguageModelHead
from ...core.models.heads import Network, language_model_head
from ...core.models.packing import PackedBatch
from ...core.tokenizers.text_stream import token_bytes
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from .. import TASKS
from ..base.explanation import TokenizedWord
from ..base.inputs import read_inputs
from ..base.model import TaskModel
from ..base.task import Task
from ..data.examples import Field
from ..data.features import Features

PLAIN_FIELDS = (Field("text", "Text"), Field("pair", "Second text", required=False))  # if there is no task


@dataclass(frozen=True)
class Token:
    """One token of a sequence, and where in the person's texts it comes from."""

    text: str  # as the vocabulary has it: "##ing", " the"
    part: int  # 0 for the first text, 1 for the second
    start: int | None  # texts[part][start:end], in code points; None for a special token
    end: int | None
    word: int | None  # which of the sequence's words it belongs to; None for a special token


@dataclass(frozen=True, eq=False)
class Reading:
    """A text, or a pair of texts, as the sequence that a model reads."""

    texts: tuple[str, ...]
    features: Features
    tokens: tuple[Token, ...]
    words: tuple[TokenizedWord, ...]

    @property
    def input_ids(self) -> list[int]:
        """The n token ids."""
        return self.features.input_ids

    @property
    def unread(self) -> int:
        """Tokens of the texts beyond what the model reads at once; the sequence ends before them."""
        return self.features.length - len(self.input_ids)


@dataclass(frozen=True, eq=False)
class Inspected:
    """A model that is opened to be looked into."""

    name: str
    network: Network  # in eval mode
    tokenizer: Tokenizer
    model: TaskModel | None  # with its task, where its head answers something
    vocabulary_head: nn.Module | None  # what hidden states say in words; None where the folder has no such head

    @property
    def task(self) -> Task | None:
        """What the head answers, of one text at a time."""
        return None if self.model is None or self.model.task.self_supervised else self.model.task

    @property
    def causal(self) -> bool:
        """Whether every token looks back only."""
        return not isinstance(self.network.config, BertConfig)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts that it reads."""
        return PLAIN_FIELDS if self.task is None else self.task.fields

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def read(self, *texts: str, **named: str) -> Reading:
        """Texts as the sequence that the model reads.

        Args:
            *texts: in the order of `fields`.
            **named: the same under the names of the fields, after those.

        Raises:
            HeadwayError: a text is missing or there is one too many, or the vocabulary cannot stand for it.
        """
        names = [field.name for field in self.fields]
        given = {**dict(zip(names, texts, strict=False)), **named}
        missing = [field.name for field in self.fields if field.required and field.name not in given]
        if missing or len(texts) > len(names) or not given.keys() <= set(names):
            reads = " and ".join(f.name if f.required else f"perhaps {f.name}" for f in self.fields)
            raise HeadwayError(
                f"{self.name} reads {reads}; given: {', '.join(given) or 'nothing'}. Correct the texts."
            )
        ordered = tuple(given[name] for name in names if name in given)
        return self._read_plain(ordered) if self.task is None else self._read_for(self.task, given, ordered)

    def _read_for(self, task: Task, given: Mapping[str, str], texts: tuple[str, ...]) -> Reading:
        """As the task makes a sequence of it."""
        assert self.model is not None
        (example,) = read_inputs(task, [given])
        (features,) = replace(task, long_texts="cut").encode([example], self.tokenizer, self.model.limit)
        if split := task.split_words(example):
            encoding = self.tokenizer.encode_words([word for word, _ in split])
            starts = [split[word or 0][1] for word in encoding.word_ids]
            places = [(start + a, start + b) for start, (a, b) in zip(starts, encoding.offsets, strict=True)]
            parts = [(encoding.ids, places, encoding.word_ids)]
        else:
            encodings = (self.tokenizer.encode(text) for text in texts)
            parts = [(one.ids, one.offsets, one.word_ids) for one in encodings]
        return self._placed(texts, features, parts)

    def _read_plain(self, texts: tuple[str, ...]) -> Reading:
        """As in the model's own training; in BERT's texts, [MASK] is a mask."""
        tokenizer = self.tokenizer
        encodings = [tokenizer.encode(text, allow_special=tokenizer.mask_id is not None) for text in texts]
        room = self.network.config.max_positions - tokenizer.num_special(pair=len(texts) > 1)
        ids = [one.ids for one in encodings]
        length = sum(map(len, ids)) + tokenizer.num_special(pair=len(texts) > 1)
        if len(ids) > 1 and sum(map(len, ids)) > room:
            ids[1] = ids[1][: max(room // 2, room - len(ids[0]))]
            room -= len(ids[1])
        input_ids, segment_ids = tokenizer.join(ids[0][:room], *ids[1:])
        features = Features(0, input_ids, segment_ids, max(length, len(input_ids)))
        return self._placed(texts, features, [(one.ids, one.offsets, one.word_ids) for one in encodings])

    def _placed(
        self,
        texts: tuple[str, ...],
        features: Features,
        parts: Sequence[tuple[list[int], list[tuple[int, int]], list[int | None]]],
    ) -> Reading:
        """Finds the way back from the tokens of a sequence to the texts, whose beginnings it holds one by one."""
        ids, segments = features.input_ids, features.segment_ids
        if max(ids) >= self.network.config.vocab_size:
            self.tokenizer.check_fits(self.network.config.vocab_size, self.name)
        spelt = spell(self.tokenizer, ids)
        special = [Token(text, part, None, None, None) for text, part in zip(spelt, segments, strict=True)]
        tokens, words = list(special), []
        for part, (known, places, word_ids) in enumerate(parts):
            first = segments.count(0) if part else int(self.tokenizer.cls_id is not None)
            kept = 0
            while kept < min(len(known), len(ids) - first) and ids[first + kept] == known[kept]:
                kept += 1
            numbered = [(None, i) if word is None else (word, 0) for i, word in enumerate(word_ids[:kept])]
            for _, group in groupby(range(kept), key=numbered.__getitem__):
                members = list(group)
                start, end = min(places[i][0] for i in members), max(places[i][1] for i in members)
                for i in members:
                    tokens[first + i] = replace(
                        special[first + i], part=part, start=places[i][0], end=places[i][1], word=len(words)
                    )
                words.append(
                    TokenizedWord(texts[part][start:end], part, start, end, tuple(first + i for i in members))
                )
        return Reading(texts, features, tuple(tokens), tuple(words))

    def pack(self, readings: Sequence[Reading]) -> PackedBatch:
        """Sequences laid end to end, on the model's device."""
        features = [one.features for one in readings]
        packed = PackedBatch.pack([one.input_ids for one in features], [one.segment_ids for one in features])
        return packed.to(self.device)

    @torch.inference_mode()
    def activations(self, reading: Reading) -> Activations:
        """The hidden states (n, C) and attention weights (H, n, n) of every layer."""
        with record_activations(self.network.backbone) as activations:
            self.network.backbone(self.pack([reading]))
        return activations

    @torch.inference_mode()
    def words_of(self, hidden: Tensor) -> Tensor:
        """What the head over the vocabulary makes of hidden states, (N, C) -> logits (N, V) in fp32.

        Raises:
            HeadwayError: the model has no such head.
        """
        head = self.vocabulary_head
        if head is None:
            raise HeadwayError(
                f"{self.name} has no head over the vocabulary, so its layers say nothing in words. "
                "Choose a GPT-2, or a BERT with its masked-word head."
            )
        return (head.masked_lm if isinstance(head, PretrainingHead) else head)(hidden).float()

    def predict(self, reading: Reading) -> Any:
        """What the model answers; None where its head answers nothing."""
        if self.model is None or self.task is None:
            return None
        if len(self.fields) == 1 or len(reading.texts) == 1:
            return self.model.predict(reading.texts[0])
        return self.model.predict(reading.texts)


def open_model(name: str | Path) -> Inspected:
    """Opens any model: a folder, a built-in name or a hub id; on the accelerator if there is one.

    Raises:
        HeadwayError: there is no such model, or it cannot be read.
    """
    folder = find_folder(name)
    raw, config = read_config(folder)
    published = published_class(folder, raw, model_of(config))
    tokenizer = Tokenizer.load(folder)
    model = None
    bare = published in BASE_ARCHITECTURES.values()
    if not bare and any(published.endswith(task.architecture) for task in TASKS.values()):
        model = TaskModel.load(folder, TASKS)
        network = model.network
    else:
        network = load_checkpoint(folder, head="published" if published in ARCHITECTURES else None).network
    vocabulary_head = _vocabulary_head(network, folder)
    device = inference_device()
    network.to(device)
    if vocabulary_head is not None:
        vocabulary_head.to(device)
    return Inspected(str(name), network.eval(), tokenizer, model, vocabulary_head)


def _vocabulary_head(network: Network, folder: Path) -> nn.Module | None:
    """The head over the vocabulary: the network's own, or one that can be had from its folder."""
    if isinstance(network.head, LanguageModelHead | MaskedLMHead | PretrainingHead):
        return network.head
    head = language_model_head(network.backbone)
    return None if load_head(Network(network.backbone, head), folder).new else head.eval()


def spell(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Tokens for people: GPT-2's as text where they are whole characters; else as the vocabulary writes them."""
    spelt = tokenizer.tokens(ids)
    if tokenizer.kind != "byte-level-bpe":
        return spelt
    return [_as_text(tokenizer, token) or written for token, written in zip(ids, spelt, strict=True)]


def _as_text(tokenizer: Tokenizer, token: int) -> str:
    try:
        return token_bytes(tokenizer, token).decode()
    except UnicodeDecodeError:
        return ""
