r"""Cloze prompts: a text in a template with masks, at which a masked language model scores the words of the labels.

Schick and Schütze 2021, "Exploiting Cloze Questions for Few-Shot Text Classification" (PET,
https://arxiv.org/abs/2001.07676, section 3.1); Gao et al. 2021 (LM-BFF, https://arxiv.org/abs/2012.15723, section 4).

    {text} It was {label}.   ->   [CLS] a fine film It was [MASK]. [SEP]

Labels of several tokens are scored as PET is trained with them (Schick and Schütze 2021b,
https://arxiv.org/abs/2009.07118, section 3.1): there are as many masks as the longest label has tokens, all are
predicted at once, and the log-likelihood of a label is the sum over its tokens at the first of these masks. So one
pass scores all labels, in prompting and in training.

Shapes: B sequences, K masks in each, L labels, V vocabulary.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from ...core.errors import HeadwayError
from ...core.models.transfers import to_device
from ..data.features import IGNORE_INDEX
from ..data.windows import Windowing
from .encoding import divide_texts
from .predictions import TextExample

if TYPE_CHECKING:
    from ...core.tokenizers.tokenizer import Tokenizer

PLACEHOLDER = re.compile(r"\{(text|pair|label)\}")
MIN_TEXT = 8  # tokens of the text that the template must leave room for

LabelIds = tuple[tuple[int, ...], ...]  # the tokens of each label
Parts = list[tuple[str | None, list[int]]]  # tokens with the placeholder that they fill; None: of the template


@dataclass(frozen=True)
class ClozeTemplate:
    """A template around the masks."""

    before: str
    after: str

    @classmethod
    def parse(cls, template: str) -> Self:
        """Reads a template that a user wrote.

        Raises:
            HeadwayError: {text} or {label} is missing, a placeholder is repeated, or there is an unknown one.
        """
        names = PLACEHOLDER.findall(template)
        for name in ("text", "label"):
            if name not in names:
                raise HeadwayError(
                    f'The template {template!r} has no {{{name}}}. Add it, as in "{{text}} It was {{label}}."'
                )
        for name in names:
            if names.count(name) > 1:
                raise HeadwayError(f"The template {template!r} has {{{name}}} more than once. Keep one.")
        if unknown := re.search(r"\{\w+\}", PLACEHOLDER.sub("", template)):
            raise HeadwayError(
                f"The template {template!r} has an unknown placeholder {unknown[0]}. Use {{text}}, {{pair}} (the "
                "second text of a pair) and {label}."
            )
        before, _, after = template.partition("{label}")
        return cls(before, after)

    @property
    def paired(self) -> bool:
        """Whether it has two texts."""
        return "{pair}" in self.before + self.after


@dataclass(frozen=True)
class ClozeText:
    """A text in its template, or a window of a long one, without special tokens around it."""

    input_ids: list[int]
    masks: list[int]  # their positions
    length: int  # tokens of the whole text in its template

    @property
    def cut(self) -> bool:
        """Whether a part of the text is missing."""
        return len(self.input_ids) < self.length


class ClozeEncoder:
    """Encodes texts in a template.

    Args:
        tokenizer: of a masked language model.
        template: with {text}, optionally {pair}, and the place of the masks.
        words: label -> how the template spells it.

    Raises:
        HeadwayError: the vocabulary has no mask token, or a label has no tokens, those of another label or unknown
            ones.
    """

    def __init__(self, tokenizer: "Tokenizer", template: ClozeTemplate, words: Mapping[str, str]) -> None:
        self.tokenizer, self.template, self.mask_id = tokenizer, template, tokenizer.require_mask_id()
        self.label_ids = self._encode_labels(words)
        self.num_masks = max(map(len, self.label_ids))

    def _encode_labels(self, words: Mapping[str, str]) -> LabelIds:
        # Where tokens contain the space before a word, that of a label and its mask do so as well.
        encode_word, spaced = self.tokenizer.encode_word, self.template.before[-1:].isspace()
        found: dict[tuple[int, ...], str] = {}
        for label, word in words.items():
            ids = tuple(encode_word(word) if spaced else self.tokenizer.encode(word).ids)
            change = f"Give it {'another word' if ids else 'a word'} (--verbalize {label}=WORD)."
            if not ids:
                raise HeadwayError(f"The label {label!r} is spelled {word!r}, which has no tokens. {change}")
            if self.tokenizer.unk_id in ids:
                raise HeadwayError(
                    f"The label {label!r} is spelled {word!r}, which the model's vocabulary does not have. {change}"
                )
            if ids in found:
                raise HeadwayError(
                    f"The labels {found[ids]!r} and {label!r} are both spelled {word!r} for the model. {change}"
                )
            found[ids] = label
        return tuple(found)

    def encode(self, examples: Sequence[TextExample], windowing: Windowing) -> Iterator[list[ClozeText]]:
        """Each text in the template: whole, or as its windows. A window has the template with its masks, too.

        Args:
            examples: texts or pairs.
            windowing: its limit is that of the text in the template, without special tokens.

        Raises:
            HeadwayError: the template alone does not fit.
        """
        parts = self._fill(self.template.before.rstrip(), examples), self._fill(self.template.after, examples)
        masks: Parts = [("label", [self.mask_id] * self.num_masks)]
        for before, after in zip(*parts, strict=True):
            yield list(self._windows([*before, *masks, *after], windowing))

    def _windows(self, parts: Parts, windowing: Windowing) -> Iterator[ClozeText]:
        texts = {name: ids for name, ids in parts if name in ("text", "pair")}
        first, second = texts.get("text", []), texts.get("pair")
        length = sum(len(ids) for _, ids in parts)
        room = windowing.limit - length + len(first) + len(second or [])
        pieces = [(first, second)]
        if length > windowing.limit:
            if room < MIN_TEXT:
                raise HeadwayError(
                    f"The template with its masks has {windowing.limit - room} tokens, and {windowing.limit} are read "
                    "at most, so there is no room for a text. Shorten the template or the description."
                )
            pieces = divide_texts(first, second, windowing, room)
        for a, b in pieces:
            chosen: dict[str | None, list[int]] = {"text": a, "pair": b or []}
            input_ids: list[int] = []
            masks: list[int] = []
            for name, ids in parts:
                if name == "label":
                    masks = list(range(len(input_ids), len(input_ids) + len(ids)))
                input_ids += chosen.get(name, ids)
            yield ClozeText(input_ids, masks, length)

    def _fill(self, part: str, examples: Sequence[TextExample]) -> list[Parts]:
        """The tokens of a part of the template around each text, and which of them are those of a text."""
        filled, spans = [], []
        for example in examples:
            text, inside = "", {}
            for number, piece in enumerate(PLACEHOLDER.split(part)):  # every second one is a placeholder
                if number % 2:
                    value = example.text if piece == "text" else example.pair or ""
                    inside[piece] = range(len(text), len(text) + len(value))
                    text += value
                else:
                    text += piece
            filled.append(text)
            spans.append(inside)
        encodings = self.tokenizer.encode_batch(filled)
        return [
            _parts(one.ids, [start for start, _ in one.offsets], inside)
            for one, inside in zip(encodings, spans, strict=True)
        ]


def _parts(ids: Sequence[int], starts: Sequence[int], inside: Mapping[str, range]) -> Parts:
    parts: Parts = []
    for token, start in zip(ids, starts, strict=True):
        name = next((name for name, span in inside.items() if start in span), None)
        if not parts or parts[-1][0] != name:
            parts.append((name, []))
        parts[-1][1].append(token)
    return parts


def label_log_likelihoods(logits: Tensor, label_ids: LabelIds) -> Tensor:
    """The log-likelihood of each label at the masks of each sequence, (B, L).

    Args:
        logits: at all masks, sequence by sequence, (B * K, V).
        label_ids: the tokens of the L labels, the longest of which has K.
    """
    num_masks = max(map(len, label_ids))
    log_probs = logits.float().log_softmax(dim=-1).unflatten(0, (-1, num_masks))  # (B, K, V)
    padded = [[*ids, *[IGNORE_INDEX] * (num_masks - len(ids))] for ids in label_ids]
    tokens = to_device(torch.tensor(padded).T, logits.device)  # (K, L)
    masks = torch.arange(num_masks, device=logits.device)[:, None]
    found = log_probs[:, masks, tokens.clamp_min(0)]  # (B, K, L)
    return found.where(tokens != IGNORE_INDEX, 0.0).sum(dim=1)
