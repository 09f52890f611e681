"""Vectors of texts, and of words in context, from any model ("feature-extraction").

A sentence-transformers folder is used with its own pooling (published_pooling.py); for any other model the caller
chooses one (pooling.py). Batches are packed: nothing is computed for padding.

Shapes: N texts, W words, T tokens in a packed batch, C hidden size, D size of a vector.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...core.checkpoints.checkpoint import load_checkpoint
from ...core.checkpoints.config_file import read_config
from ...core.checkpoints.families.registry import refuse_encoder_decoder
from ...core.checkpoints.hub import absolute_name, find_folder
from ...core.errors import HeadwayError
from ...core.inference.inference import load_for_inference
from ...core.inference.pausing import pausing
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.options import check_choices, option
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ...core.training.turns import in_turns
from ..base.model_folder import read_info
from ..base.precision import AUTO, PRECISION_CHOICES, choose_precision
from ..data.column_inference import infer_columns
from ..data.examples import TEXT
from ..data.features import INFERENCE_BATCH_TOKENS, Features, TextLength, pack, text_length
from ..data.rows import CHUNK_ROWS
from ..data.windows import Windowing, best_window
from ..data.words import WordSegmenter, tokens_of_spans
from .pooling import COMBINED, MODES, Pooling, parse_modes
from .published_pooling import PublishedPooling

if TYPE_CHECKING:
    from ..data.rows import RowStream


@dataclass(frozen=True)
class EmbeddingConfig:
    """How texts become vectors."""

    pooling: str = option(
        "mean", f"How token vectors become one text vector: {', '.join(MODES)}; join several with commas."
    )
    layer: int | None = option(
        None, "Layer to read: 0 is the embeddings, -1 the last layer. Default: the last layer, or --last-layers."
    )
    last_layers: int | None = option(None, "Number of last layers to read instead of a single one.")
    combine: str = option("sum", "How several layers become one vector.", choices=COMBINED)
    normalize: bool = option(False, "Scale every vector to length 1.")
    max_length: int | None = option(None, "Maximum sequence length in tokens, including special tokens.")
    long_texts: str = option(
        "windows",
        "How to embed longer texts. windows: average over overlapping windows; cut: only their beginning, as "
        "sentence-transformers does. Default: as a model trained here was trained, else windows.",
        choices=("windows", "cut"),
    )
    precision: str = option(
        AUTO,
        "Arithmetic: fp32 is exact, bf16 and int8 are faster; auto is bf16 if that did not change the model's score.",
        PRECISION_CHOICES,
    )
    device: str = option(AUTO, "Device: auto (an accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.")
    overlap: int | None = None  # tokens that windows share, as in training; None: an eighth of a window
    lower_case: bool = False  # lower-case texts before tokenization; set by some published models
    prompt: str = ""  # prepended to every text; set by some published models

    def __post_init__(self) -> None:
        check_choices(self)
        if self.layer is not None and self.last_layers is not None:
            raise HeadwayError("--layer reads one layer and --last-layers several. Choose one of them.")
        if self.last_layers is not None and self.last_layers < 1:
            raise HeadwayError(f"--last-layers {self.last_layers}: a number of layers, 1 or more.")

    def to_pooling(self) -> Pooling:
        """The pooling that the options describe."""
        layers = None if self.layer is None else (self.layer,)
        if self.last_layers is not None:
            layers = tuple(range(-self.last_layers, 0))
        return Pooling(parse_modes(self.pooling), layers, self.combine, self.normalize)


@dataclass(frozen=True)
class WordSpan:
    """A word of a text: text[start:end]."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class WordVectors:
    """The words of a text with their vectors."""

    words: tuple[WordSpan, ...]
    vectors: np.ndarray  # (W, D)


class Embedder:
    """Computes vectors of texts with a model folder, a built-in model or a Hub id.

        Embedder("sentence-transformers/all-MiniLM-L6-v2").embed(["a text", "another"])  # (2, 384)

    Args:
        model: a model of any family with any head.
        **options: fields of EmbeddingConfig; they override the folder's own pooling settings.

    Raises:
        HeadwayError: the model does not exist or cannot be read, or an option is invalid.
    """

    name: ClassVar[str] = "feature-extraction"  # the Hub's pipeline tag

    def __init__(self, model: str | Path, **options: Any) -> None:
        known = {field.name for field in fields(EmbeddingConfig)}
        for name in options:
            if name not in known:
                raise HeadwayError(f"Embedder has no option {name!r}. It has: {', '.join(sorted(known))}.")
        folder = find_folder(model)
        self.model = str(model)
        self._options = options
        self.config = EmbeddingConfig(**{**published_options(folder, options), **options})
        self.pooling = self.config.to_pooling()
        refuse_encoder_decoder(read_config(folder)[1], model)
        self.tokenizer = Tokenizer.load(folder)
        checkpoint = load_checkpoint(folder, head=None, filled=False)
        model_config = checkpoint.network.config
        self.limit = self.config.max_length or model_config.max_positions
        if not 3 <= self.limit <= model_config.max_positions:
            most = model_config.max_positions
            raise HeadwayError(f"--max-length {self.limit}: {model} reads 3 to {most} tokens. Choose one of these.")
        self.tokenizer.check_fits(model_config.vocab_size, model)
        self.device = inference_device(self.config.device)
        precision = choose_precision(self.config.precision, read_info(folder), self.device)
        self.backbone = load_for_inference(checkpoint, precision, self.device).backbone
        self._counting = Lock()
        self.num_texts = self.num_cut = 0  # texts embedded so far, and how many of them were cut

    def __repr__(self) -> str:
        return f"<Embedder: {self.model}; {self.config.pooling}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and deepcopy: the copy opens the model again, because prepared weights cannot be copied."""
        return _reopen, (absolute_name(self.model), self._options)

    @property
    def size(self) -> int:
        """The size of a vector, D."""
        return self.pooling.size(self.backbone.config.hidden_size)

    @property
    def windowing(self) -> Windowing:
        """How long texts are divided."""
        limit = self.limit - self.tokenizer.num_special(pair=False)
        return Windowing(limit, self.config.overlap, self.config.long_texts)

    # -- texts

    def embed(self, texts: str | Iterable[str]) -> np.ndarray:
        """Computes fp32 vectors: (N, D) for several texts, (D,) for a single string.

        Raises:
            HeadwayError: an item is not a string.
        """
        if isinstance(texts, str):
            return self.embed([texts])[0]
        return np.concatenate([np.empty((0, self.size), dtype=np.float32), *self.embed_stream(texts)])

    def embed_stream(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Computes vectors in constant memory and yields them in order, in chunks of at most CHUNK_ROWS texts."""
        rest = iter(texts)
        while chunk := list(islice(rest, CHUNK_ROWS)):
            yield self._count(*self._embed(chunk))[0]

    def measure(self, texts: Sequence[str]) -> list[TextLength]:
        """The number of tokens of each text with special tokens, and how many of them `embed` does not read.

        [one.truncated for one in embedder.measure(texts)]

        Raises:
            HeadwayError: an item is not a string.
        """
        return [text_length(windows) for windows in self.windows(texts)]

    def embed_rows(
        self, stream: "RowStream", column: str | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], np.ndarray, list[TextLength]]]:
        """Computes the vectors of a column in constant memory.

        Yields chunks of rows with their vectors, (n, D), and the lengths of their texts.

        Under a launcher every process makes the same call and reads to the end: the main process gets all rows, the
        others none.

        Args:
            stream: the rows, from `stream_rows`.
            column: of the texts. Default: inferred.

        Raises:
            HeadwayError: the column does not exist or cannot be inferred, or a cell is a list or a dict.
        """
        name = self.text_column(stream, column)
        rows = iter(stream)

        def embed(chunk: list[tuple[int, dict[str, Any]]]) -> tuple[np.ndarray, list[TextLength]]:
            return self._embed([_to_text(row.get(name), stream.where(place), name) for place, row in chunk])

        for chunk, found in in_turns(iter(lambda: list(islice(rows, CHUNK_ROWS)), []), embed):
            yield [row for _, row in chunk], *self._count(*found)

    @staticmethod
    def text_column(stream: "RowStream", column: str | None) -> str:
        """The name of the text column; None infers it."""
        return infer_columns(stream, [TEXT], chosen={"text": column}, need_label=False).texts["text"]

    def similarity(self, first: str, second: str) -> float:
        """The cosine of the vectors of two texts, -1 to 1."""
        return float(cosines(self.embed([first]), self.embed([second]))[0, 0])

    def _embed(self, texts: Sequence[str]) -> tuple[np.ndarray, list[TextLength]]:
        """(n, D), and the length of each text."""
        windows_by_text = self.windows(texts)
        vectors = self.embed_windows([one for windows in windows_by_text for one in windows])
        return self.join_windows(windows_by_text, vectors), list(map(text_length, windows_by_text))

    def _count(self, vectors: np.ndarray, lengths: list[TextLength]) -> tuple[np.ndarray, list[TextLength]]:
        """Counts texts that have been embedded."""
        with self._counting:
            self.num_texts += len(lengths)
            self.num_cut += sum(one.truncated for one in lengths)
        return vectors, lengths

    # -- the steps of `embed`, for a server that computes long texts window by window

    def windows(self, texts: Sequence[str]) -> list[list[Features]]:
        """The windows of each text.

        Raises:
            HeadwayError: an item is not a string.
        """
        num_special = self.tokenizer.num_special(pair=False)
        windows_by_text = []
        for i, ids in enumerate(self._token_ids(texts)):
            parts = [self.tokenizer.join(ids[one.start : one.stop]) for one in self.windowing.divide(len(ids))]
            windows_by_text.append([Features(i, *part, len(ids) + num_special) for part in parts])
        return windows_by_text

    @torch.inference_mode()
    def embed_windows(self, windows: Sequence[Features], pause: Callable[[], None] | None = None) -> Tensor:
        """The vector of each window before `join_windows`, (n, D).

        Args:
            windows: of one text or of several.
            pause: called before every layer; it may embed other windows.
        """
        vectors = torch.empty(len(windows), self.size)
        lengths = [len(one.input_ids) for one in windows]
        with nullcontext() if pause is None else pausing(self.backbone, pause):
            for indices in BatchSampler(lengths, batch_tokens=INFERENCE_BATCH_TOKENS).by_length():
                batch, hidden = self._hidden([windows[i] for i in indices])
                vectors[indices] = self.pooling.pool(hidden, batch).cpu()
        return vectors

    @torch.inference_mode()
    def join_windows(self, windows_by_text: Sequence[list[Features]], vectors: Tensor) -> np.ndarray:
        """The vector of each text, (N, D), from those of its windows, (n, D)."""
        if len(vectors) > len(windows_by_text):
            index = torch.tensor([i for i, windows in enumerate(windows_by_text) for _ in windows])
            counts = torch.bincount(index, minlength=len(windows_by_text))
            vectors = torch.zeros(len(counts), self.size).index_add(0, index, vectors) / counts[:, None]
        return self.pooling.finish(vectors).numpy()

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str):
                raise HeadwayError(f"text {number} is a {type(text).__name__}, not a text. Correct the input.")
        prompt = self.config.prompt
        texts = [prompt + text for text in texts] if prompt else texts
        return self.tokenizer.encode_ids([text.lower() for text in texts] if self.config.lower_case else texts)

    def _hidden(self, windows: Sequence[Features]) -> tuple[PackedBatch, Tensor]:
        """A batch of sequences, and the hidden states of the chosen layers, (T, C)."""
        batch = pack(windows).to(self.device)
        return batch, self.pooling.hidden(self.backbone, batch)

    # -- words

    @torch.inference_mode()
    def embed_words(self, text: str) -> WordVectors:
        """Computes a vector for every word of a text: the mean over its tokens in the chosen layers.

        Words that are cut off or have no token are omitted. In a text of several windows, a token is read from the
        window that shows the most context around it.
        """
        encoding = self.tokenizer.encode(text.lower() if self.config.lower_case else text)
        windows = self.windowing.divide(len(encoding.ids))
        states = self._window_states(encoding.ids, windows)
        words: list[WordSpan] = []
        vectors: list[Tensor] = []
        spans = WordSegmenter().split(text)
        for (start, end), tokens in zip(
            spans, tokens_of_spans(spans, encoding.offsets[: windows[-1].stop]), strict=True
        ):
            if tokens:
                words.append(WordSpan(text[start:end], start, end))
                best = [best_window(windows, i) for i in tokens]
                found = [states[w][i - windows[w].start] for w, i in zip(best, tokens, strict=True)]
                vectors.append(torch.stack(found).mean(0))
        size = self.size // len(self.pooling.modes)
        stacked = torch.stack(vectors) if vectors else torch.empty(0, size)
        return WordVectors(tuple(words), self.pooling.finish(stacked).numpy())

    def _window_states(self, ids: Sequence[int], windows: Sequence[range]) -> list[Tensor]:
        """The hidden states of the tokens of each window, (n, C), from the first token that is not a special one."""
        first = len(self.tokenizer.framing.before)
        sequences = [
            Features(0, *self.tokenizer.join(list(ids[window.start : window.stop])), len(ids)) for window in windows
        ]
        step = max(1, INFERENCE_BATCH_TOKENS // self.limit)
        states: list[Tensor] = []
        for start in range(0, len(sequences), step):
            batch, hidden = self._hidden(sequences[start : start + step])
            states += [one.float().cpu()[first:] for one in batch.split(hidden)]
        return states


def _reopen(model: str, options: dict[str, Any]) -> Embedder:
    return Embedder(model, **options)


def published_options(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a sentence-transformers folder sets; none for another folder.

    If the caller chooses a pooling, the modules of the folder are ignored: Headway may not support them.
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
        # The limit of a published folder says how long a sequence is, not that the rest of a text means nothing.
        "long_texts": stored.get("long_texts", "windows"),
        "overlap": stored.get("overlap"),
        "lower_case": published.lower_case,
        "prompt": published.prompt,
    }


def length_limits(folder: Path) -> dict[str, Any]:
    """The tokens of a sequence and how longer texts are read, "windows" or "cut", from the small files of a folder."""
    stored = read_info(folder).get("options", {}) | published_options(folder, {})
    limit = stored.get("max_length") or read_config(folder)[1].max_positions
    return {"max_tokens": limit, "long_texts": stored.get("long_texts", "windows")}


def vector_size(folder: Path) -> int:
    """The size of the vectors of a model folder with its own settings, from its small files."""
    pooling = EmbeddingConfig(**published_options(folder, {})).to_pooling()
    return pooling.size(read_config(folder)[1].hidden_size)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of every vector (N, D) with every other (M, D), (N, M); 0 for a zero vector."""
    return unit(first) @ unit(second).T


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D) scaled to length 1; zero vectors are unchanged."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def _to_text(value: Any, where: str, column: str) -> str:
    if isinstance(value, list | dict):
        raise HeadwayError(
            f'{where}, column "{column}": expected a text, found a {type(value).__name__}. '
            "Name the text column with --text."
        )
    return "" if value is None else str(value)
