"""Vectors of texts, and of words in their sentences, from any BERT or GPT-2 ("feature-extraction").

A sentence-transformers folder is read with its own pooling (pooling.py); of any other model a person says how its
tokens become one vector. Batches are packed, so no arithmetic is spent on padding.

Shapes: N texts, T tokens in a packed batch, C hidden size, D size of a vector.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...core.checkpoints.checkpoint import load_checkpoint
from ...core.checkpoints.hub import find_folder
from ...core.errors import HeadwayError
from ...core.inference.inference import load_for_inference
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.options import check_choices, option
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ..base.model_folder import read_info
from ..base.precision import AUTO, CHOICES, choose_precision
from ..classification.classification import TextClassification
from ..data.columns import infer_columns
from ..data.features import INFERENCE_BATCH_TOKENS
from ..data.windows import Windowing, best_window
from ..data.words import WordSegmenter
from .pooling import COMBINED, MODES, Pooling, PublishedPooling

if TYPE_CHECKING:
    from ..data.rows import RowStream

TEXTS_AT_ONCE = 4096  # enough to be sorted by length, few enough for any memory


@dataclass(frozen=True)
class EmbeddingConfig:
    """How texts become vectors."""

    pooling: str = option(
        "mean",
        f"How a text's tokens become one vector: {', '.join(MODES)}; several, joined by commas, one after the other.",
    )
    layer: int | None = option(
        None, "Layer that is read: 0 is the embeddings, -1 the last; left out: the last, or --last-layers."
    )
    last_layers: int | None = option(None, "Read so many of the last layers instead of one.")
    combine: str = option("sum", "How several layers become one vector.", choices=COMBINED)
    normalize: bool = option(False, "Give every vector the length 1.")
    max_length: int | None = option(None, "The longest sequence in tokens, special tokens included.")
    long_texts: str = option(
        "windows",
        "Longer texts: windows averages the vectors of overlapping pieces, cut reads the beginning only.",
        choices=("windows", "cut"),
    )
    precision: str = option(
        AUTO, "Arithmetic: fp32 is exact, bf16 and int8 are faster; auto is bf16 where that moved no score.", CHOICES
    )
    overlap: int | None = None  # of windows, in tokens, as a model was trained with them; else an eighth of a window
    lower_case: bool = False  # before the tokenizer sees a text, as some published models ask for
    prompt: str = ""  # put before every text, as some published models ask for

    def __post_init__(self) -> None:
        check_choices(self)
        if self.layer is not None and self.last_layers is not None:
            raise HeadwayError("--layer reads one layer and --last-layers several: say one of them.")
        if self.last_layers is not None and self.last_layers < 1:
            raise HeadwayError(f"--last-layers {self.last_layers}: a number of layers, 1 or more.")

    def pooled(self) -> Pooling:
        """The same as the arithmetic has it."""
        layers = None if self.layer is None else (self.layer,)
        if self.last_layers is not None:
            layers = tuple(range(-self.last_layers, 0))
        modes = tuple(mode.strip() for mode in self.pooling.split(","))
        return Pooling(modes, layers, self.combine, self.normalize)


@dataclass(frozen=True)
class Word:
    """A word where it stands: text[start:end]."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class WordVectors:
    """The words of a text and the vector that each has there."""

    words: tuple[Word, ...]
    vectors: np.ndarray  # (words, D)


class Embedder:
    """Turns texts into vectors with a model folder, a built-in model or a hub id.

        Embedder("sentence-transformers/all-MiniLM-L6-v2").embed(["a text", "another"])  # (2, 384)

    Args:
        model: any BERT or GPT-2, whatever its head.
        **options: fields of EmbeddingConfig, in place of what the folder says of its own pooling.

    Raises:
        HeadwayError: there is no such model, it cannot be read, or an option is not possible.
    """

    name: ClassVar[str] = "feature-extraction"  # the Hub's pipeline tag

    def __init__(self, model: str | Path, **options: Any) -> None:
        known = {field.name for field in fields(EmbeddingConfig)}
        for given in options:
            if given not in known:
                raise HeadwayError(f"Embedder has no option {given!r}. It has: {', '.join(sorted(known))}.")
        folder = find_folder(model)
        self.model = str(model)
        self.config = EmbeddingConfig(**{**published_options(folder, options), **options})
        self.pooling = self.config.pooled()
        self.tokenizer = Tokenizer.load(folder)
        checkpoint = load_checkpoint(folder, head=None, filled=False)
        network = checkpoint.network
        most = network.config.max_positions
        self.limit = self.config.max_length or most
        if not 3 <= self.limit <= most:
            raise HeadwayError(f"--max-length {self.limit}: {model} reads 3 to {most} tokens.")
        self.tokenizer.check_fits(network.config.vocab_size, model)
        self.device = inference_device()
        precision = choose_precision(self.config.precision, read_info(folder), self.device.type)
        self.backbone = load_for_inference(checkpoint, precision, self.device).backbone
        self.num_texts = self.num_cut = 0  # seen so far, and of these how many were cut

    @property
    def size(self) -> int:
        """D, the numbers in a vector."""
        return self.pooling.size(self.backbone.config.hidden_size)

    # -- texts

    def embed(self, texts: str | Iterable[str]) -> np.ndarray:
        """The vectors of some texts, (N, D) in fp32; of one text by itself, (D,).

        Raises:
            HeadwayError: something that is given is no text.
        """
        if isinstance(texts, str):
            return self.embed([texts])[0]
        return np.concatenate([np.empty((0, self.size), dtype=np.float32), *self.embed_stream(texts)])

    def embed_stream(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """The same in constant memory: vectors in the order of the texts, some thousands at once, (n, D)."""
        rest = iter(texts)
        while part := list(islice(rest, TEXTS_AT_ONCE)):
            yield self._embed(part)

    def embed_rows(
        self, stream: "RowStream", column: str | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
        """The vectors of a column of a file as it is read: some rows, and their vectors (n, D).

        Args:
            stream: of `data.stream_rows`.
            column: of the texts; guessed if left out.

        Raises:
            HeadwayError: there is no such column, it cannot be told, or a row has something else than a text there.
        """
        name = self.text_column(stream, column)
        rows = iter(stream)
        while part := list(islice(rows, TEXTS_AT_ONCE)):
            texts = [_as_text(row.get(name), stream.where(place), name) for place, row in part]
            yield [row for _, row in part], self._embed(texts)

    @staticmethod
    def text_column(stream: "RowStream", column: str | None) -> str:
        """Which column of a file holds the texts."""
        return infer_columns(stream, TextClassification.inputs[:1], chosen={"text": column}, need_label=False).texts[
            "text"
        ]

    def similarity(self, first: str, second: str) -> float:
        """The cosine of the angle between the vectors of two texts, -1 to 1."""
        return float(cosines(self.embed([first]), self.embed([second]))[0, 0])

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D)."""
        sequences: list[tuple[list[int], list[int]]] = []
        owner: list[int] = []  # the text that a sequence is of
        for i, ids in enumerate(self._token_ids(texts)):
            parts = self.windowing.divide(len(ids))
            self.num_cut += parts[-1].stop < len(ids)
            sequences += [self.tokenizer.join(ids[part.start : part.stop]) for part in parts]
            owner += [i] * len(parts)
        self.num_texts += len(texts)
        vectors = torch.empty(len(sequences), self.size)
        for indices in BatchSampler(
            [len(ids) for ids, _ in sequences], batch_tokens=INFERENCE_BATCH_TOKENS
        ).by_length():
            batch, hidden = self._hidden([sequences[i] for i in indices])
            vectors[indices] = self.pooling.pool(hidden, batch).cpu()
        if len(sequences) > len(texts):
            counts = torch.bincount(torch.tensor(owner), minlength=len(texts))
            summed = torch.zeros(len(texts), self.size).index_add(0, torch.tensor(owner), vectors)
            vectors = summed / counts[:, None]
        return self.pooling.finish(vectors).numpy()

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        for position, text in enumerate(texts, start=1):
            if not isinstance(text, str):
                raise HeadwayError(f"text {position} is a {type(text).__name__}, not a text. Correct the input.")
        prompt = self.config.prompt
        texts = [prompt + text for text in texts] if prompt else texts
        return self.tokenizer.encode_ids([text.lower() for text in texts] if self.config.lower_case else texts)

    @property
    def windowing(self) -> Windowing:
        """How long texts are divided."""
        room = self.limit - self.tokenizer.num_special(pair=False)
        return Windowing(room, self.config.overlap, self.config.long_texts)

    def _hidden(self, sequences: Sequence[tuple[list[int], list[int]]]) -> tuple[PackedBatch, Tensor]:
        """The chosen layers of some sequences, (T, C)."""
        batch = PackedBatch.pack([ids for ids, _ in sequences], [segments for _, segments in sequences])
        batch = batch.to(self.device)
        return batch, self.pooling.hidden(self.backbone, batch)

    # -- words

    @torch.inference_mode()
    def embed_words(self, text: str) -> WordVectors:
        """Every word of a text with the vector that it has there: the mean of its tokens' in the chosen layers.

        A word that is cut off, or has no token, is left out. Of a long text that is read in windows, each word is
        taken from the window in which it stands farthest from an edge.
        """
        encoding = self.tokenizer.encode(text.lower() if self.config.lower_case else text)
        parts = self.windowing.divide(len(encoding.ids))
        sequences = [self.tokenizer.join(encoding.ids[part.start : part.stop]) for part in parts]
        hidden = []
        for start in range(0, len(sequences), max(1, INFERENCE_BATCH_TOKENS // self.limit)):
            batch, found = self._hidden(sequences[start : start + max(1, INFERENCE_BATCH_TOKENS // self.limit)])
            hidden += [one.float().cpu() for one in batch.split(found)]
        first = int(self.tokenizer.cls_id is not None)
        words: list[Word] = []
        vectors: list[Tensor] = []
        for start, end in WordSegmenter().split(text):
            inside = [i for i, (a, b) in enumerate(encoding.offsets) if a < end and b > start and i < parts[-1].stop]
            if inside:
                words.append(Word(text[start:end], start, end))
                best = [best_window(parts, i) for i in inside]
                tokens = [hidden[one][i - parts[one].start + first] for one, i in zip(best, inside, strict=True)]
                vectors.append(torch.stack(tokens).mean(0))
        size = self.pooling.size(self.backbone.config.hidden_size) // len(self.pooling.modes)
        found = torch.stack(vectors) if vectors else torch.empty(0, size)
        return WordVectors(tuple(words), self.pooling.finish(found).numpy())


def published_options(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What a sentence-transformers folder says of its own pooling; nothing of another folder.

    A --pooling that a person names stands in for the folder's modules: there may be ones that Headway does not have.
    """
    if "pooling" in options:
        return {}
    published = PublishedPooling.read(folder)
    if published is None:
        return {}
    stored = read_info(folder).get("options", {})
    return {
        "pooling": ",".join(published.pooling.modes),
        "normalize": published.pooling.normalize,
        "max_length": published.max_length,
        "long_texts": stored.get("long_texts", "cut"),  # sentence-transformers itself cuts
        "overlap": stored.get("overlap"),
        "lower_case": published.lower_case,
        "prompt": published.prompt,
    }


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of every vector (N, D) with every other (M, D), (N, M); 0 where a vector is zero."""
    return unit(first) @ unit(second).T


def unit(vectors: np.ndarray) -> np.ndarray:
    """The same vectors (N, D) with length 1; a zero vector stays as it is."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def _as_text(value: Any, where: str, column: str) -> str:
    if isinstance(value, list | dict):
        raise HeadwayError(
            f'{where}, column "{column}": a {type(value).__name__} where a text belongs. '
            "Name the column of the texts with --text."
        )
    return "" if value is None else str(value)
