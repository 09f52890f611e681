"""The next token: GPT-2's own way of learning from text, and going on with one.

As Radford et al. 2019 ("Language Models are Unsupervised Multitask Learners"): every text stands between two
end-of-text tokens, and each token is foretold from those before. It starts from scratch or goes on from a checkpoint,
and reads texts as a `Corpus`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ...core.models.heads import language_model_head
from ...core.options import option
from ..base.display import DisplayElement, Highlight, HighlightedText
from ..base.predictions import Prediction
from ..base.task import Task
from ..data.columns import ColumnMapping
from ..data.corpus import DOCUMENTS, Corpus, CorpusWindow
from ..data.examples import TEXT, Field
from ..data.features import Features, pack
from ..data.rows import Table
from .likelihood import (
    DOCUMENT,
    Asked,
    TextExample,
    asked_places,
    even_windows,
    exponential,
    likelihoods,
    parts_of,
    prompt_room,
    text_reader,
)

if TYPE_CHECKING:
    from ...core.checkpoints.checkpoint import Checkpoint
    from ...core.models.heads import Backbone, Config, Network
    from ...core.models.packing import PackedBatch
    from ...core.tokenizers.tokenizer import Tokenizer
    from ..base.card_text import CardText

LOGITS_AT_ONCE = 2**25  # 128 MB in fp32; the loss needs a few times that


@dataclass(frozen=True)
class Continuation(Prediction):
    """What a model writes after a text."""

    continuation: str
    finished: bool  # the model ended the text by itself

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The text with what follows it."""
        text = texts.get("text", "")
        return (HighlightedText(text + self.continuation, (Highlight(len(text), len(text + self.continuation)),)),)


@dataclass(frozen=True)
class TextGeneration(Task):
    """Continues texts; in training, GPT-2's own way of learning from text."""

    documents: str = option("file", DOCUMENT, DOCUMENTS, when="always")
    stride: int | None = option(
        None,
        "Tokens of held-out text that each window scores, with what came before as context; half a window if left "
        "out.",
        when="always",
    )
    max_new_tokens: int = option(40, "Tokens that predictions continue a text by, at most.", when="always")

    name: ClassVar[str] = "text-generation"
    title: ClassVar[str] = "Continued texts"
    inputs: ClassVar[tuple[Field, ...]] = (TEXT,)
    architecture: ClassVar[str] = "GPT2LMHeadModel"
    models: ClassVar[tuple[str, ...]] = ("gpt2",)
    self_supervised: ClassVar[bool] = True
    per_token: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False
    lookahead: ClassVar[int] = 1  # the last token of a window is asked for the one after it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap is not None or self.long_texts != "windows":
            raise HeadwayError(f"--overlap and --long-texts mean nothing to {self.name}. Say --stride.")
        for name, value in (("--stride", self.stride), ("--max-new-tokens", self.max_new_tokens)):
            if value is not None and value < 1:
                raise HeadwayError(f"{name} {value}: a whole number above 0.")

    def limit(self, most: int, model: str) -> int:
        """As for every task; the stride must fit into a window."""
        limit = super().limit(most, model)
        if self.stride is not None and self.stride > limit:
            raise HeadwayError(f"--stride {self.stride}: at most a window of {limit} tokens is possible.")
        return limit

    @property
    def sample(self) -> str:
        """How texts begin."""
        return "beginnings.csv"

    def reset(self) -> Self:
        """Nothing is learnt from data but the weights."""
        return self

    def row_reader(
        self,
        table: Table,
        columns: ColumnMapping,
        *,
        labelled: bool = False,  # noqa: ARG002
    ) -> Callable[[int], TextExample]:
        """A text to be continued."""
        return text_reader(table, columns)

    # -- texts -> the model

    @property
    def num_added(self) -> int:
        """Special tokens that `window` adds to a sequence."""
        return 0

    def enclosing(self, tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:
        """Every document stands between two end-of-text tokens."""
        ends = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
        return ends, ends

    def cut(self, length: int, limit: int, *, held_out: bool) -> list[CorpusWindow]:
        """The sequences of a document of so many tokens, the last of which is only foretold.

        In training they are evenly long and share nothing; a held-out text is scored with as much context as the
        stride leaves, each token once.
        """
        asked = length - 1
        if not held_out:
            return even_windows(asked, limit)
        stride = self.stride or max(1, limit // 2)
        found = [CorpusWindow(0, min(limit, asked))]
        while found[-1].stop < asked:
            stop = min(found[-1].stop + stride, asked)
            start = max(0, stop - limit)
            found.append(CorpusWindow(start, stop, found[-1].stop - start))
        return found

    def window(self, corpus: Corpus, index: int, ids: list[int], scored_from: int, num_bytes: int) -> Features:  # noqa: ARG002
        """A sequence of a corpus; `ids` holds one more token, which the last one is asked for."""
        positions = list(range(scored_from, len(ids) - 1))
        target = Asked(positions, ids[scored_from + 1 :], bytes=num_bytes)
        return Features(index, ids[:-1], [0] * (len(ids) - 1), len(ids) - 1, target=target)

    def encode(self, examples: Sequence[TextExample], tokenizer: "Tokenizer", limit: int) -> list[Features]:
        """Texts to be continued: their ends, as far as there is room for them beside what is written."""
        room = prompt_room(limit, self.max_new_tokens)
        encodings = tokenizer.encode_batch([example.text for example in examples])
        features: list[Features] = []
        for number, encoding in enumerate(encodings):
            ids, _ = tokenizer.join(encoding.ids)
            kept = ids[-room:]
            features.append(Features(number, kept, [0] * len(kept), len(ids), metadata=tokenizer))
        return features

    def head(self, backbone: "Backbone") -> nn.Module:
        """GPT-2's own head over the vocabulary, tied to the token embedding."""
        return language_model_head(backbone)

    def tokens_at_once(self, config: "Config") -> int:
        """Every token has its logits, so that a large vocabulary allows few tokens."""
        return max(config.max_positions, LOGITS_AT_ONCE // config.vocab_size)

    def loss(self, outputs: Any, features: Sequence[Features]) -> tuple[Tensor, int]:
        """Cross-entropy of the next tokens."""
        ids = torch.tensor([token for one in features for token in one.target.ids], device=outputs.device)
        return F.cross_entropy(outputs.float(), ids, reduction="sum"), len(ids)

    def pack(self, features: Sequence[Features]) -> "PackedBatch":
        """The sequences; where a part of them is context alone, with the other tokens selected."""
        batch = pack(features)
        asked = [asked_places(one) for one in features]
        return batch if sum(map(len, asked)) == batch.num_tokens else batch.select(asked)

    # -- outputs -> answers -> figures

    @torch.inference_mode()
    def predict_batch(self, network: nn.Module, features: Sequence[Features]) -> list[Any]:
        """How the texts go on; for held-out text, how likely the model finds it."""
        from ...core.generation.generation import generate_ids
        from ...core.generation.generation_config import GenerationConfig

        device = next(network.parameters()).device
        if features[0].target is not None:
            at_once = self.tokens_at_once(network.config)  # pyright: ignore[reportArgumentType] - a Network's
            return [
                found
                for part in parts_of(features, at_once)
                for found in likelihoods(network(self.pack(part).to(device)), part, [None] * len(part))
            ]
        tokenizer: Tokenizer = features[0].metadata
        config = GenerationConfig(max_new_tokens=self.max_new_tokens, context="slide")  # there may be less room
        prompts = [one.input_ids for one in features]
        written = generate_ids(network, prompts, config, end_of_text_id=tokenizer.end_of_text_id)  # pyright: ignore[reportArgumentType]
        return [
            Continuation(tokenizer.decode(best.token_ids), best.finish_reason == "end-of-text") for best, *_ in written
        ]

    def score(self, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:  # noqa: ARG002
        """Loss a token in nats, its exponential, and bits a byte of UTF-8: the last one compares vocabularies."""
        total, tokens = sum(one.loss for one in predictions), sum(one.tokens for one in predictions)
        loss = total / tokens
        size = sum(one.bytes for one in predictions)
        return {"loss": loss, "perplexity": exponential(loss), "bits_per_byte": total / math.log(2) / size}

    # -- model folders

    @classmethod
    def from_published(cls, checkpoint: "Checkpoint") -> Self:  # noqa: ARG003
        """A published language model."""
        return cls()

    @property
    def published(self) -> dict[str, Any]:
        """Its outputs are no labels."""
        return {"labels": None, "problem_type": None}

    def card(self, network: "Network", name: str) -> "CardText":  # noqa: ARG002
        """What the model card says."""
        from .card import text_generation_card

        return text_generation_card(name)
