"""A model that is opened for inspection, and a text as its sequence of tokens.

Any model folder can be opened: with a task's head, with a head over the vocabulary, or without a head. One sequence is
inspected: of a text that is longer than the model's context, the beginning.

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
from ...core.checkpoints.families.registry import ARCHITECTURES, family_of, refuse_encoder_decoder
from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.models.activations import Activations, record_activations
from ...core.models.bert import BertConfig, MaskedLMHead, PretrainingHead
from ...core.models.gpt2 import LanguageModelHead
from ...core.models.heads import Network, language_model_head
from ...core.models.packing import PackedBatch
from ...core.tokenizers.text_stream import token_bytes
from ...core.tokenizers.tokenizer import SPACE, Tokenizer
from ...core.training.distributed import inference_device
from .. import TASKS
from ..base.explanation import TokenizedWord
from ..base.inputs import read_inputs
from ..base.model import TaskModel
from ..base.precision import AUTO
from ..base.task import Task
from ..data.examples import Field
from ..data.features import Features, pack

PLAIN_FIELDS = (Field("text", "Text"), Field("pair", "Second text", required=False))  # of a model without a task


@dataclass(frozen=True)
class Token:
    """One token of a sequence, and its place in the texts."""

    text: str  # as the vocabulary writes it: "##ing", " the"
    part: int  # 0 for the first text, 1 for the second
    start: int | None  # texts[part][start:end], in code points; None for a special token
    end: int | None
    word: int | None  # index in `EncodedText.words`; None for a special token


@dataclass(frozen=True)
class _TokenizedPart:
    """The tokens of one text, before special tokens are added and before it is cut."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # in the text
    word_ids: list[int | None]


@dataclass(frozen=True, eq=False)
class EncodedText:
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
    def num_truncated(self) -> int:
        """Number of tokens of the texts beyond the model's context."""
        return self.features.length - len(self.input_ids)


@dataclass(frozen=True, eq=False)
class InspectedModel:
    """A model that is opened for inspection."""

    name: str
    network: Network  # in eval mode
    tokenizer: Tokenizer
    model: TaskModel | None  # if it has a task's head
    vocabulary_head: nn.Module | None  # hidden states -> logits over the vocabulary; None if the folder has none

    @property
    def task(self) -> Task[Any, Any] | None:
        """The task of the head, if it predicts something about a text."""
        task = self.model and self.model.task
        return None if task is None or task.self_supervised or task.scores_loss or not task.explains else task

    @property
    def causal(self) -> bool:
        """Whether tokens attend to earlier tokens only."""
        return not isinstance(self.network.config, BertConfig)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The texts that the model reads."""
        return PLAIN_FIELDS if self.task is None else self.task.fields

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def encode(self, *texts: str, **named: str) -> EncodedText:
        """The texts as the sequence that the model reads.

        Args:
            *texts: in the order of `fields`.
            **named: further texts, by the names of the fields.

        Raises:
            HeadwayError: a text is missing or there is one too many, or the tokenizer does not fit the model.
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
        task = self.task
        features, parts = self._encode_plain(ordered) if task is None else self._encode_for(task, given, ordered)
        if max(features.input_ids) >= self.network.config.vocab_size:
            self.tokenizer.check_fits(self.network.config.vocab_size, self.name)
        tokens, words = self._align(ordered, features, parts)
        return EncodedText(ordered, features, tuple(tokens), tuple(words))

    def _encode_for(
        self, task: Task[Any, Any], given: Mapping[str, str], texts: tuple[str, ...]
    ) -> tuple[Features, list[_TokenizedPart]]:
        """The sequence that a task makes of the texts."""
        assert self.model is not None
        (example,) = read_inputs(task, [given])
        (features,) = replace(task, long_texts="cut").encode([example], self.tokenizer, self.model.limit)
        if split := task.split_words(example):
            encoding = self.tokenizer.encode_words([word for word, _ in split])
            starts = [split[word or 0][1] for word in encoding.word_ids]
            offsets = [(start + a, start + b) for start, (a, b) in zip(starts, encoding.offsets, strict=True)]
            return features, [_TokenizedPart(encoding.ids, offsets, encoding.word_ids)]
        encodings = (self.tokenizer.encode(text) for text in texts)
        return features, [_TokenizedPart(one.ids, one.offsets, one.word_ids) for one in encodings]

    def _encode_plain(self, texts: tuple[str, ...]) -> tuple[Features, list[_TokenizedPart]]:
        """The sequence of the model's own pretraining; for BERT, [MASK] in a text is a mask."""
        tokenizer = self.tokenizer
        encodings = [tokenizer.encode(text, allow_special=tokenizer.mask_id is not None) for text in texts]
        special = tokenizer.num_special(pair=len(texts) > 1)
        room = self.network.config.max_positions - special
        ids = [one.ids for one in encodings]
        length = sum(map(len, ids)) + special
        if len(ids) > 1 and sum(map(len, ids)) > room:
            ids[1] = ids[1][: max(room // 2, room - len(ids[0]))]
            room -= len(ids[1])
        input_ids, segment_ids = tokenizer.join(ids[0][:room], *ids[1:])
        features = Features(0, input_ids, segment_ids, max(length, len(input_ids)))
        return features, [_TokenizedPart(one.ids, one.offsets, one.word_ids) for one in encodings]

    def _align(
        self, texts: tuple[str, ...], features: Features, parts: Sequence[_TokenizedPart]
    ) -> tuple[list[Token], list[TokenizedWord]]:
        """The tokens and words of a sequence, which contains the beginning of each part, with their places."""
        ids, segments = features.input_ids, features.segment_ids
        special = zip(token_texts(self.tokenizer, ids), segments, strict=True)
        tokens = [Token(text, part, None, None, None) for text, part in special]
        words: list[TokenizedWord] = []
        for part, tokenized in enumerate(parts):
            first = self.tokenizer.start_of_second(ids, segments) if part else len(self.tokenizer.framing.before)
            kept = 0
            while kept < min(len(tokenized.ids), len(ids) - first) and ids[first + kept] == tokenized.ids[kept]:
                kept += 1
            # A token without a word is a word.
            keys = [(None, i) if word is None else (word, 0) for i, word in enumerate(tokenized.word_ids[:kept])]
            for _, group in groupby(range(kept), key=keys.__getitem__):
                members = list(group)
                offsets = [tokenized.offsets[i] for i in members]
                for i, (start, end) in zip(members, offsets, strict=True):
                    token = tokens[first + i]
                    tokens[first + i] = replace(token, part=part, start=start, end=end, word=len(words))
                start, end = min(start for start, _ in offsets), max(end for _, end in offsets)
                positions = tuple(first + i for i in members)
                words.append(TokenizedWord(texts[part][start:end], part, start, end, positions))
        return tokens, words

    def pack(self, encoded: Sequence[EncodedText]) -> PackedBatch:
        """Sequences as one packed batch on the model's device."""
        return pack([one.features for one in encoded]).to(self.device)

    @torch.inference_mode()
    def activations(self, encoded: EncodedText) -> Activations:
        """The hidden states (n, C) and attention weights (H, n, n) of every layer."""
        with record_activations(self.network.backbone) as activations:
            self.network.backbone(self.pack([encoded]))
        return activations

    @torch.inference_mode()
    def vocabulary_logits(self, hidden: Tensor) -> Tensor:
        """The logits of hidden states over the vocabulary, (N, C) -> (N, V), in fp32.

        Raises:
            HeadwayError: the model has no head over the vocabulary.
        """
        head = self.vocabulary_head
        if head is None:
            raise HeadwayError(
                f"{self.name} has no head over the vocabulary, so its layers predict no tokens. "
                "Choose a GPT-2, or an encoder with its masked-word head."
            )
        return (head.masked_lm if isinstance(head, PretrainingHead) else head)(hidden).float()

    def predict(self, encoded: EncodedText) -> Any:
        """The prediction of the model's task; None if it has none."""
        if self.model is None or self.task is None:
            return None
        single = len(self.fields) == 1 or len(encoded.texts) == 1
        return self.model.predict(encoded.texts[0] if single else encoded.texts)


def open_model(name: str | Path, device: str = AUTO, *, reads_text: bool = True) -> InspectedModel:
    """Opens any model.

    Args:
        name: a folder, a built-in name or a hub id.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.
        reads_text: whether it is to read a text, which an encoder-decoder does not.

    Raises:
        HeadwayError: there is no such model or device, or the model cannot be read.
    """
    chosen = inference_device(device)
    folder = find_folder(name)
    raw, config = read_config(folder)
    if reads_text:
        refuse_encoder_decoder(config, name)
    family = family_of(config)
    published = published_class(folder, raw, family)
    tokenizer = Tokenizer.load(folder)
    model = None
    bare = published == family.base_class
    if not bare and any(published.endswith(task.architecture) for task in TASKS.values()):
        model = TaskModel.load(folder, TASKS, device)
        network = model.network
    else:
        network = load_checkpoint(folder, head="published" if published in ARCHITECTURES else None).network
    vocabulary_head = _vocabulary_head(network, folder)
    network.to(chosen)
    if vocabulary_head is not None:
        vocabulary_head.to(chosen)
    return InspectedModel(str(name), network.eval(), tokenizer, model, vocabulary_head)


def _vocabulary_head(network: Network, folder: Path) -> nn.Module | None:
    """The head over the vocabulary: that of the network, or one whose weights the folder has."""
    if isinstance(network.head, LanguageModelHead | MaskedLMHead | PretrainingHead):
        return network.head
    head = language_model_head(network.backbone)
    return None if load_head(Network(network.backbone, head), folder).new else head.eval()


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Readable tokens: of byte-level BPE, decoded if they are whole characters; of Unigram, with plain spaces."""
    tokens = tokenizer.tokens(ids)
    if tokenizer.kind == "unigram":
        return [token.replace(SPACE, " ") for token in tokens]
    if tokenizer.kind != "byte-level-bpe":
        return tokens
    return [_decoded(tokenizer, token) or written for token, written in zip(ids, tokens, strict=True)]


def _decoded(tokenizer: Tokenizer, token: int) -> str:
    try:
        return token_bytes(tokenizer, token).decode()
    except UnicodeDecodeError:
        return ""
