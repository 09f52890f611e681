"""Examples -> features -> predictions: encoding for one model, and batches shared among the processes of a launch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from ...core.checkpoints.config_file import read_config
from ...core.checkpoints.joining import find_model
from ...core.errors import HeadwayError
from ...core.models.encoder_decoder import EncoderDecoderConfig
from ...core.models.gpt2 import GPT2Config
from ...core.models.heads import Config
from ...core.models.packing import BatchSampler
from ...core.tokenizers.tokenizer import DECODER_TOKENIZER, Tokenizer
from ...core.training.distributed import gather_in_order, processes, shard
from ..data.corpus import Corpus
from ..data.examples import Example
from ..data.features import INFERENCE_BATCH_TOKENS, Features, group_windows, num_input_tokens
from ..data.stored_windows import StoredWindows
from .task import Task, outputs_of

PADDED_VOCABULARY = 128  # rows: embeddings of one vocabulary may be padded to a multiple of it
Advance = Callable[[int], object]
EXAMPLES_AT_ONCE = 4096  # encoded together: enough to sort by length, few enough for any memory


def load_tokenizer(folder: Path, config: Config, name: str | Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
        HeadwayError: it cannot be read, or the decoder of an encoder-decoder needs another one, which is missing.
    """
    tokenizer = Tokenizer.load(folder)
    if isinstance(config, EncoderDecoderConfig) and tokenizer.decoder is None:
        sizes = config.encoder.vocab_size, config.decoder.vocab_size
        differ = None
        if abs(sizes[0] - sizes[1]) >= PADDED_VOCABULARY:
            differ = f"the encoder has {sizes[0]:,} tokens and the decoder {sizes[1]:,}"
        elif isinstance(config.decoder, GPT2Config) and not tokenizer.can_end(config.end_id):
            differ = f"the decoder ends texts with the token {config.end_id}, the tokenizer does not"
        if differ:
            raise HeadwayError(
                f"{name}: its parts have different vocabularies ({differ}), but the folder has one tokenizer. Save "
                f"that of the decoder in the folder {DECODER_TOKENIZER} inside it (tokenizer.json and "
                "tokenizer_config.json), or join the two models again by A+B."
            )
        tokenizer.check_fits(min(sizes), name)
    return tokenizer


@dataclass(frozen=True)
class Encoder:
    """Encodes the examples of a task for one model."""

    model: str  # its name, for messages
    tokenizer: Tokenizer
    config: Config

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """The encoder of a model folder, a built-in model or a hub id; weights are not read.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """
        folder = find_model(name)
        config = read_config(folder)[1]
        return cls(str(name), load_tokenizer(folder, config, name), config)

    def limit(self, task: Task[Any, Any]) -> int:
        """The longest sequence of a task in tokens, special tokens included."""
        return task.limit(self.config.max_positions, self.model)

    def encode(self, task: Task[Any, Any], examples: Sequence[Example]) -> list[list[Features]]:
        """The windows of each example.

        Raises:
            HeadwayError: the tokenizer produces a token that the model does not have.
        """
        features = task.for_model(self.config).encode(examples, self.tokenizer, self.limit(task))
        if max((max(one.input_ids) for one in features), default=0) >= self.config.vocab_size:
            self.tokenizer.check_fits(self.config.vocab_size, self.model)
        return group_windows(features)


def predict_examples(
    task: Task[Any, Any],
    network: nn.Module,
    windows_by_example: Sequence[list[Features]],
    advance: Advance | None = None,
) -> list[Any]:
    """One prediction per example, in order. Each process computes its share, and every process returns all.

    Args:
        task: that the head of the network is for.
        network: in eval mode.
        windows_by_example: the features of each example.
        advance: called with numbers of examples that all processes together have computed.
    """
    batches = _counted(shard(_batches(windows_by_example)), advance)
    return gather_in_order(_predict_batches(task, network, windows_by_example, batches))


def predict_here(task: Task[Any, Any], network: nn.Module, windows_by_example: Sequence[list[Features]]) -> list[Any]:
    """As `predict_examples`, by this process alone."""
    found = _predict_batches(task, network, windows_by_example, _batches(windows_by_example))
    return [found[i] for i in range(len(windows_by_example))]


def _batches(windows_by_example: Sequence[list[Features]]) -> Sequence[list[int]]:
    lengths = sequence_lengths(windows_by_example)
    return BatchSampler(lengths, batch_tokens=INFERENCE_BATCH_TOKENS).by_length() if len(lengths) else []


def _counted(batches: Iterable[list[int]], advance: Advance | None) -> Iterator[list[int]]:
    """The batches of this process; after each one, `advance` is called for those of all processes."""
    for indices in batches:
        yield indices
        if advance is not None:
            advance(len(indices) * processes().world_size)


def _predict_batches(
    task: Task[Any, Any],
    network: nn.Module,
    windows_by_example: Sequence[list[Features]],
    batches: Iterable[list[int]],
) -> dict[int, Any]:
    """Predictions by the index of their example."""
    found: dict[int, Any] = {}
    for indices in batches:
        features = [one for i in indices for one in windows_by_example[i]]
        found.update(zip(indices, task.predict_batch(network, features), strict=True))
    return found


def evaluate_examples(
    task: Task[Any, Any],
    network: nn.Module,
    windows_by_example: Sequence[list[Features]],
    advance: Advance | None = None,
) -> tuple[list[Any], float, int]:
    """As `predict_examples`, for labelled examples; also the sum of their losses and the number of its terms."""
    found: dict[int, tuple[Any, float, int]] = {}
    for indices in _counted(shard(_batches(windows_by_example)), advance):
        features = [one for i in indices for one in windows_by_example[i]]
        predictions, total, count = _evaluate_batch(task, network, features)
        for i, prediction in zip(indices, predictions, strict=True):
            found[i] = prediction, total, count
            total, count = 0.0, 0  # those of a batch are kept once, with its first example
    in_order = gather_in_order(found)
    return [one for one, _, _ in in_order], sum(loss for _, loss, _ in in_order), sum(n for _, _, n in in_order)


def _evaluate_batch(
    task: Task[Any, Any], network: nn.Module, features: Sequence[Features]
) -> tuple[list[Any], float, int]:
    if task.self_supervised or task.scores_loss:
        return task.predict_batch(network, features), 0.0, 0  # `score` knows the loss
    outputs = outputs_of(network, features, task)
    return task.decode(outputs, features), *task.measure_loss(outputs, features)


def mean_loss(total: float, count: int) -> dict[str, float]:
    """The loss as a metric; none if it has no terms."""
    return {"loss": total / count} if count else {}


def sequence_lengths(windows_by_example: Sequence[list[Features]]) -> np.ndarray:
    """The number of input tokens of each example, (N,) int32. Those in a file are known without reading it."""
    if isinstance(windows_by_example, Corpus | StoredWindows):
        return windows_by_example.lengths
    return np.fromiter(map(num_input_tokens, windows_by_example), dtype=np.int32)


def in_parts(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    """Examples in parts of EXAMPLES_AT_ONCE."""
    return (examples[start : start + EXAMPLES_AT_ONCE] for start in range(0, len(examples), EXAMPLES_AT_ONCE))
