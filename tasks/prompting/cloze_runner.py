"""Runs a prompt on a masked language model: the labels are scored at the masks of the template.

../classification/cloze.py has the template and the scores. Demonstrations come before the text, with their labels in
the template, and each ends with the model's separator token, as in LM-BFF (Gao et al. 2021,
https://arxiv.org/abs/2012.15723, section 6). Such a model reads both sides of a mask, so that nothing is computed once
for several texts: each text is one sequence with its demonstrations, and batches are packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ...core.models.packing import BatchSampler, PackedBatch
from ..classification.cloze import ClozeEncoder, ClozeTemplate, ClozeText, label_log_likelihoods
from ..classification.predictions import TextExample
from ..data.features import INFERENCE_BATCH_TOKENS
from ..data.windows import Windowing
from .calibration import CONTENT_FREE
from .forward_passes import MAX_LOGITS, Context, Query
from .prompt_runner import OpenPrompt, PromptRunner


@dataclass(frozen=True)
class MaskedQuery(Query):
    """A text in the template with its masks."""

    masks: tuple[int, ...] = ()  # their positions

    @property
    def length(self) -> int:
        """Number of tokens that the model reads, without the context."""
        return len(self.input_ids)


@dataclass(frozen=True, eq=False)
class ClozeRunner(PromptRunner):
    """A template with its demonstrations on a masked language model."""

    @property
    def window(self) -> int:
        """Largest number of tokens that the model reads, without special tokens."""
        return self.network.config.max_positions - self.tokenizer.num_special(pair=False)

    @cached_property
    def _cloze(self) -> ClozeEncoder:
        return ClozeEncoder(self.tokenizer, ClozeTemplate.parse(self.template.text), self.words)

    def _queries(self, texts: Sequence[TextExample], *, first: bool) -> list[Query]:  # noqa: ARG002 - as for GPT-2
        labels = self._cloze.label_ids
        return [MaskedQuery(tuple(one.input_ids), labels, one.cut, tuple(one.masks)) for one in self._encode(texts)]

    def _content_free_queries(self, *, first: bool) -> list[Query]:
        return self._queries([TextExample(0, "", text, text) for text in CONTENT_FREE], first=first)

    def _encode(self, texts: Sequence[TextExample]) -> list[ClozeText]:
        """The texts in the template, cut to what fits after the description."""
        windowing = Windowing(self.window - len(self._context([])), long_texts="cut")
        return [one for (one,) in self._cloze.encode(texts, windowing)]

    def _encode_block(self, text: str, *, first: bool) -> tuple[int, ...]:  # noqa: ARG002 - as for GPT-2
        return (*self.tokenizer.encode(text).ids, *self.tokenizer.framing.after)

    @torch.inference_mode()
    def _log_likelihoods(self, contexts: Sequence[Context]) -> list[list[list[float]]]:
        sequences, masks = [], []
        for context in contexts:
            for query in context.queries:
                assert isinstance(query, MaskedQuery)
                sequences.append(self.tokenizer.join([*context.input_ids, *query.input_ids])[0])
                start = len(self.tokenizer.framing.before) + len(context.input_ids)
                masks.append([start + position for position in query.masks])
        found = torch.empty(len(sequences), len(self.words))
        most = max(1, MAX_LOGITS // (self.network.config.vocab_size * self._cloze.num_masks))
        lengths = [len(ids) for ids in sequences]
        sampler = BatchSampler(lengths, batch_tokens=INFERENCE_BATCH_TOKENS, max_examples=most)
        device = self.network.backbone.token_embedding.weight.device
        for indices in sampler.by_length():
            batch = PackedBatch.pack([sequences[i] for i in indices]).select([masks[i] for i in indices])
            logits = self.network(batch.to(device))
            assert isinstance(logits, torch.Tensor)
            found[indices] = label_log_likelihoods(logits, self._cloze.label_ids).cpu()
        rows = iter(found.tolist())
        return [[next(rows) for _ in context.queries] for context in contexts]

    def prompts(self, texts: Sequence[TextExample], seed: int, reserved: int) -> list[OpenPrompt]:  # noqa: ARG002
        """The whole prompts in the first order, with their masks and separators."""
        mask, *after = self.tokenizer.tokens([self._cloze.mask_id, *self.tokenizer.framing.after])
        space = " " if self.tokenizer.kind == "wordpiece" else ""
        masks = space.join([mask] * self._cloze.num_masks)
        prompts = []
        for text, encoded, rows in zip(texts, self._encode(texts), self.choose(texts, seed), strict=True):
            fitting = self._fit(rows, len(encoded.input_ids), text)
            query = self.template.demonstration(text.text, text.pair, masks)
            if encoded.cut:
                query = " ".join(self.tokenizer.tokens(encoded.input_ids))
            blocks = [f"{block} {''.join(after)}" for block in self._blocks(fitting)]
            prompts.append(OpenPrompt("\n".join([*blocks, query]), len(rows) - len(fitting), encoded.cut))
        return prompts
