"""Causal language modeling: GPT-2's training objective, and generating continuations.

Radford et al. 2019 ("Language Models are Unsupervised Multitask Learners"): every document has an end-of-text token
before and after it, and each token is predicted from those before it. Training starts from random weights or from a
checkpoint, and reads its text as a `Corpus`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.generation.generation_config import GenerationConfig
from ...core.models.heads import language_model_head
from ...core.options import option
from ...core.tokenizers.vocabulary import Model
from ..base.card_text import CardText
from ..base.report_parts import ReportCollector
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.corpus import DOCUMENTS, Corpus, CorpusWindow
from ..data.examples import Field
from ..data.features import Features, pack
from ..data.rows import Table
from ..tallies import Tally
from .card import text_generation_card
from .predictions import Continuation, SequenceLoss
from .published import write_generation_config
from .report_losses import LossCharts
from .targets import (
    CORPUS_TEXT,
    DOCUMENTS_HELP,
    TargetTokens,
    UnlabelledText,
    even_windows,
    prompt_budget,
    select_targets,
    sequence_losses,
    tally_losses,
    text_reader,
    token_batches,
)

if TYPE_CHECKING:
    from ...core.models.heads import Backbone, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ...core.training.training_inputs import Targets


@dataclass(frozen=True)
class TextGeneration(Task[UnlabelledText, Continuation | SequenceLoss]):
    """Continues texts; its training is GPT-2's."""

    documents: str = option("file", DOCUMENTS_HELP, DOCUMENTS, when="always")
    stride: int | None = option(
        None,
        "Tokens of held-out text that each window scores; the tokens before them are context. Default: half a window.",
        when="always",
    )
    max_new_tokens: int = option(40, "Maximum number of tokens that predictions generate.", when="always")

    name: ClassVar[str] = "text-generation"
    title: ClassVar[str] = "Text generation"
    inputs: ClassVar[tuple[Field, ...]] = (CORPUS_TEXT,)
    architecture: ClassVar[str] = "GPT2LMHeadModel"
    models: ClassVar[tuple[str, ...]] = ("gpt2",)
    self_supervised: ClassVar[bool] = True
    new_model: ClassVar[Model | None] = "gpt2"
    per_token: ClassVar[bool] = True
    divides: ClassVar[bool] = False  # the end of a long prompt is read
    higher_is_better: ClassVar[bool] = False
    lookahead: ClassVar[int] = 1  # the target of a window's last token is the token after it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap is not None or self.long_texts != "windows":
            raise HeadwayError(f"--overlap and --long-texts have no effect in {self.name}. Use --stride.")
        for name, value in (("--stride", self.stride), ("--max-new-tokens", self.max_new_tokens)):
            if value is not None and value < 1:
                raise HeadwayError(f"{name} {value}: a whole number above 0.")

    def limit(self, most: int, model: str) -> int:
        """As for every task; the stride must not exceed it."""
        limit = super().limit(most, model)
        if self.stride is not None and self.stride > limit:
            raise HeadwayError(f"--stride {self.stride}: at most a window of {limit} tokens.")
        return limit

    @property
    def sample(self) -> str:
        """Beginnings of texts."""
        return "beginnings.csv"

    def infer_labels(self, table: Table, columns: ColumnMapping) -> tuple[Self, list[str]]:  # noqa: ARG002
        """The same task: there are no labels."""
        return self, []

    def row_reader(
        self,
        table: Table,
        columns: ColumnMapping,
        *,
        labelled: bool = False,  # noqa: ARG002
    ) -> Callable[[int], UnlabelledText]:
        """Reads a text to continue."""
        return text_reader(table, columns)

    # -- text -> sequences

    def num_added(self, tokenizer: "Tokenizer") -> int:  # noqa: ARG002
        """Windows get no special tokens."""
        return 0

    def enclosing(self, tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:
        """An end-of-text token before and after every document."""
        ends = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
        return ends, ends

    def cut(self, length: int, limit: int, *, held_out: bool) -> list[CorpusWindow]:
        """The windows of a document; its last token is a target only.

        Windows for training have almost equal lengths and do not overlap. Windows of held-out text score `stride`
        tokens each, and every token once.
        """
        num_inputs = length - 1
        if not held_out:
            return even_windows(num_inputs, limit)
        stride = self.stride or max(1, limit // 2)
        windows = [CorpusWindow(0, min(limit, num_inputs))]
        while windows[-1].stop < num_inputs:
            stop = min(windows[-1].stop + stride, num_inputs)
            start = max(0, stop - limit)
            windows.append(CorpusWindow(start, stop, windows[-1].stop - start))
        return windows

    def window(self, corpus: Corpus, index: int, ids: list[int], scored_from: int, num_bytes: int) -> Features:  # noqa: ARG002
        """A sequence whose targets are its ids, shifted by one; `ids` has one more token than the window."""
        positions = list(range(scored_from, len(ids) - 1))
        target = TargetTokens(positions, ids[scored_from + 1 :], num_bytes=num_bytes)
        return Features(index, ids[:-1], [0] * (len(ids) - 1), len(ids) - 1, target=target)

    def encode(self, examples: Sequence[UnlabelledText], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """The ends of texts, as long as the generated tokens leave room."""
        budget = prompt_budget(limit, self.max_new_tokens)
        encodings = tokenizer.encode_batch([example.text for example in examples])
        features: list[Features] = []
        for number, encoding in enumerate(encodings):
            ids, _ = tokenizer.join(encoding.ids)
            kept = ids[-budget:]
            features.append(Features(number, kept, [0] * len(kept), len(ids), metadata=tokenizer))
        return features

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences; the targets are selected unless every token has one."""
        return select_targets(pack(features), features)

    # -- the head and its loss

    def head(self, backbone: "Backbone") -> nn.Module:
        """GPT-2's head over the vocabulary, tied to the token embedding."""
        return language_model_head(backbone)

    def initial_embedding(self, tokenizer: "Tokenizer") -> None:
        """A new model starts with a random token embedding."""

    def targets(self, features: Sequence[Features]) -> "Targets":  # noqa: ARG002
        """Nothing: the next tokens are in the batch, because the head computes their losses."""
        return {}

    def loss(self, outputs: Any, targets: "Targets") -> tuple[Tensor, int]:  # noqa: ARG002
        """The sum of the cross-entropies of the next tokens, and their number."""
        return outputs.total, len(outputs)

    # -- outputs -> predictions -> metrics

    @torch.inference_mode()
    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The continuations of texts; the loss of held-out sequences."""
        if features[0].target is None:
            return self.predict_windows(network, features)
        device = next(network.parameters()).device
        return [
            found
            for batch in token_batches(features)
            for found in self.decode([network(self.pack(batch).to(device))], batch)
        ]

    @torch.inference_mode()
    def predict_windows(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """The continuation of each text; a text is one window, its end."""
        from ...core.generation.generation import generate_ids

        tokenizer: Tokenizer = features[0].metadata
        config = GenerationConfig(max_new_tokens=self.max_new_tokens, context="slide")  # there may be less room
        prompts = [one.input_ids for one in features]
        generated = generate_ids(network, prompts, config, end_of_text_id=tokenizer.end_of_text_id)  # pyright: ignore[reportArgumentType]
        return [
            Continuation(tokenizer.decode(best.token_ids), best.finish_reason == "end-of-text")
            for best, *_ in generated
        ]

    def join_windows(self, found: Sequence[Any], features: Sequence[Features]) -> list[Any]:  # noqa: ARG002
        """The continuations themselves."""
        return list(found)

    def decode(self, outputs: Sequence[Any], features: Sequence[Features]) -> list[Any]:
        """The loss of each held-out sequence, from the one output of their batch."""
        return sequence_losses(outputs[0], features, [None] * len(features))

    def score(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        """The mean loss in nats per token, its exponential, and bits per byte, which compare across vocabularies."""
        return self.tally(predictions, examples).metrics()

    def tally(self, predictions: Sequence[Any], examples: Sequence[Any]) -> Tally:  # noqa: ARG002
        """The losses of each sequence."""
        return tally_losses(predictions, ("perplexity", "bits_per_byte"))

    def report_collector(self) -> ReportCollector:
        """Losses by position and by document."""
        return LossCharts()

    # -- model folders

    def publish(self, folder: Path, network: "Network", tokenizer: "Tokenizer") -> None:
        """Writes how transformers generates: until the token that ends a text."""
        config = GenerationConfig(max_new_tokens=self.max_new_tokens)
        write_generation_config(folder, config, network.config, tokenizer)

    def card(self, network: "Network", name: str) -> CardText:  # noqa: ARG002
        """The text of the model card."""
        return text_generation_card(name)
